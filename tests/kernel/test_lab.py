"""The lab: two hosts, several at once, nothing left behind whatever happens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.kernel import cgroups, fence, pins
from appliance.lab import hosts
from appliance.lab.hosts import NAMESPACES, TARGET_IP, TARGET_IP6, Lab, find_cgroup_root, sweep
from appliance.model import HostError

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("rights")]


def left(name: str) -> list[Path]:
    return [*NAMESPACES.glob(f"{name}*"), *find_cgroup_root().glob(f"{name}*")]


def test_two_at_once_do_not_meet() -> None:
    with Lab() as one, Lab() as two:
        code = f"import socket; s = socket.create_server(('{TARGET_IP}', 9)); print(1, flush=True); s.accept(); s.accept()"
        server = one.popen([sys.executable, "-c", code], where="target", stdout=subprocess.PIPE)
        assert server.stdout and server.stdout.readline() == b"1\n"
        connect = [sys.executable, "-c", f"import socket; socket.create_connection(('{TARGET_IP}', 9), 2)"]
        assert one.run(connect).returncode == 0
        assert two.run(connect, stderr=subprocess.DEVNULL).returncode == 1
    assert left(one.name) == left(two.name) == []


def test_both_families_from_the_start() -> None:
    with Lab() as lab:
        code = f"import socket; socket.socket(socket.AF_INET6).connect(('{TARGET_IP6}', 9))"
        done = lab.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "Connection refused" in done.stderr


def test_run_keeps_the_pid_and_enters_the_cgroup_as_the_user() -> None:
    with Lab() as lab:
        code = "import os; print(os.getpid(), os.getuid(), os.getgroups(), open('/proc/self/cgroup').read())"
        process = lab.popen(
            ["/usr/bin/python3", "-c", code], cgroup="a.service/b", user="nobody", stdout=subprocess.PIPE, text=True
        )
        out, _ = process.communicate()
        assert out.startswith(f"{process.pid} 65534 [] ")
        assert f"0::/{lab.slice}/a.service/b\n" in out
        assert cgroups.governed(lab.slice_path).keys() >= {cgroups.identifier(lab.slice_path / "a.service")}


def test_an_error_inside_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), Lab() as lab:
        process = lab.popen(["sleep", "60"], cgroup="a.service")
        1 / 0
    assert process.returncode == -signal.SIGKILL
    assert left(lab.name) == []


OWNER = """
import subprocess, sys, time
from appliance.kernel import fence
from appliance.lab.hosts import Lab
lab = Lab().__enter__()
fence.up(lab.place())
quiet = {"stdout": subprocess.DEVNULL}
lab.popen(["sleep", "60"], cgroup="a.service", **quiet)
subprocess.Popen(lab.words(["sleep", "60"], where="target"), start_new_session=True, **quiet)
print(lab.name, flush=True)
time.sleep(60)
"""


def test_what_a_killed_owner_left_is_removed_by_the_next() -> None:
    root = Path(__file__).parents[2]
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=root, stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    name = owner.stdout.readline().strip()
    assert name not in sweep(find_cgroup_root())  # its owner lives
    assert len(left(name)) == 3
    owner.kill()
    owner.communicate()
    place = fence.Place(find_cgroup_root(), f"{name}.slice")
    assert pins.directory(place.instance) and fence.status(place).up
    with Lab():
        assert left(name) == [] and pins.directory(place.instance) is None


def test_a_name_is_dead_when_the_pid_is_another_process() -> None:
    pid, started = os.getpid(), hosts._started(os.getpid())
    assert hosts._alive(f"vg-{pid}-{started}-1")
    assert not hosts._alive(f"vg-{pid}-1-1")
    assert not hosts._alive("vg-999999999-1-1")


def test_a_cgroup_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is not a cgroup"):
        cgroups.create(tmp_path / "x")
    with pytest.raises(HostError, match="make cgroup"):
        cgroups.create(Path("/proc/nothing"))
    with pytest.raises(HostError, match="move process"):
        cgroups.move(1, tmp_path / "nowhere")


def test_cgroups_and_processes_below_the_slice() -> None:
    with Lab() as lab:
        lab.cgroup("a/b/c")
        assert set(cgroups.governed(lab.slice_path).values()) == {"", "a", "a/b", "a/b/c"}
        process = lab.popen(["sleep", "60"], cgroup="a/b")
        until = time.monotonic() + 20
        while process.pid not in cgroups.processes(lab.slice_path) and time.monotonic() < until:
            time.sleep(0.01)
        assert cgroups.processes(lab.slice_path) == [process.pid]
