"""What dies, hangs or finds no room, each during live traffic: nothing leaks, it comes back, the neighbour sees nothing.

systemd is played by the test: it starts a hub that is gone (Restart=always in systemd/vendorgate.service).
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.storm import Storm
from tests.evasion.host import Scene, alive, ask, until, workers

pytestmark = pytest.mark.kernel
UNIT = (Path(__file__).parents[2] / "systemd/vendorgate.service").read_text()


@pytest.mark.parametrize("victim", ["a worker", "every worker", "the hub", "hub and workers"])
def test_killed(scene: Scene, live: Storm, victim: str) -> None:
    hub, crew = live.appliance.hub(), workers(live.appliance)
    doomed = {"a worker": crew[:1], "every worker": crew, "the hub": [hub], "hub and workers": [hub, *crew]}[victim]
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    if hub in doomed:
        assert "Restart=always" in UNIT
        assert live.appliance.process
        live.appliance.process.wait()
        until(lambda: not any(map(alive, crew)))
        assert scene.hello() != "hello", "with no hub there is no relay"
        live.appliance.start()
    live.served()


def test_killed_again_and_again(scene: Scene, live: Storm) -> None:
    """Whatever moment of a start or a flow it is."""
    for pause in (0.0, 0.03, 0.1, 0.2, 0.3):
        for pid in live.appliance.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(pause)
    live.served()


def test_stopped(scene: Scene, live: Storm) -> None:
    """A hub that is stopped for a while goes on; workers that are stopped are ended, and others take their place."""
    os.kill(live.appliance.hub(), signal.SIGSTOP)
    time.sleep(1)
    os.kill(live.appliance.hub(), signal.SIGCONT)
    live.served()
    crew = workers(live.appliance)
    for pid in crew:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: not any(map(alive, crew)), 60)
    live.served()


POUR = """
import socket, sys, time
print(flush=True)
end = time.monotonic() + 20
socks = []
while time.monotonic() < end:
    while len(socks) < 40:
        sock = socket.socket()
        sock.settimeout(1)
        try:
            sock.connect((sys.argv[1], 7))
        except OSError:
            break
        sock.setblocking(False)
        socks.append(sock)
    for sock in list(socks):
        try:
            sock.send(b"x" * 262144)
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            socks.remove(sock)
    time.sleep(0.01)
"""
LITTLE = 4 * 1024 * 1024  # bytes more than it has


@contextmanager
def squeezed(scene: Scene, pid: int) -> Iterator[str]:
    """Leave a process so little memory that the kernel ends it; say how. Without a controller: no address space."""
    new, old = scene.lab.cgroup_root, Path("/sys/fs/cgroup/memory")
    if "memory" in (new / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            (new / "cgroup.subtree_control").write_text("+memory")
    for root, limit in ((new, "memory.max"), (old, "memory.limit_in_bytes")):
        group = root / f"{scene.lab.name}-little"
        try:
            group.mkdir()
            (group / limit).write_text(f"{LITTLE}")
            (group / "cgroup.procs").write_text(f"{pid}")
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        try:
            yield limit
        finally:
            until(lambda group=group: not (group / "cgroup.procs").read_text())  # type: ignore[misc]
            group.rmdir()
        return
    import resource

    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(pid, resource.RLIMIT_AS, (size + LITTLE, size + LITTLE))
    yield "RLIMIT_AS"


def test_out_of_memory(scene: Scene, live: Storm) -> None:
    pid = workers(live.appliance)[0]
    starts = ask(live.appliance, "/status")["workers"]["worker0.starts"]
    with squeezed(scene, pid) as how:
        pour = scene.start(POUR, scene.lab.target_ip, cgroup="other.service")
        until(lambda: live.look() or not alive(pid) or how == "RLIMIT_AS", 30)
        pour.kill()
        pour.communicate()
    if how != "RLIMIT_AS":
        until(lambda: ask(live.appliance, "/status")["workers"]["worker0.starts"] > starts)
    live.served()
