"""Who it was: exact for every process, however short its life."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance.kernel.layout import ARGV, ARGV_UNKNOWN, EXE, Executed
from appliance.kernel.libbpf import Map
from appliance.lab.hosts import TARGET_IP
from appliance.model import Process
from tests.kernel.stage import PORT, PYTHON, Stage, vendor

pytestmark = pytest.mark.kernel
REAL = os.path.realpath(PYTHON)
DEPTH = 48  # VG_DEPTH
CONNECT = f"import socket; socket.create_connection(('{TARGET_IP}', {PORT}))"

# Starts N processes that connect, say nothing and are gone, and prints the pids.
SPAWN = f"""
import os, sys
for i in range(int(sys.argv[1])):
    pid = os.posix_spawn({PYTHON!r}, ["agent", "-SEc", {CONNECT!r}, f"number {{i}}"], {{}}, setpgroup=0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
"""


def only(stage: Stage) -> Process:
    [accepted] = stage.arrived()
    assert accepted.found and accepted.found.process
    return accepted.found.process


def seen(stage: Stage, *argv: str, **options: object) -> Process:
    """Run what connects once, and return who the relay saw."""
    stage.accepted.clear()
    done = stage.lab.run(argv, cgroup="acme.service", capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, done.stderr
    return only(stage)


def test_two_hundred_short_lived_processes_are_exact(stage: Stage) -> None:
    number = 200
    words = [PYTHON, "-SEc", SPAWN, str(number)]
    done = stage.lab.run(words, cgroup="acme.service", user="nobody", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    who = [a.found.process for a in stage.arrived(number) if a.found]
    assert len(who) == number
    for i, (pid, process) in enumerate(zip(pids, who, strict=True)):
        assert process
        assert (process.pid, process.uid, process.cgroup) == (pid, 65534, "acme.service")
        assert process.exe == REAL
        assert process.argv == ("agent", "-SEc", CONNECT, f"number {i}")
        assert process.parents[0] == REAL
    assert len({p.started_ns for p in who if p}) == number


def test_start_time_is_that_of_proc(stage: Stage) -> None:
    flow = stage.start("slow", TARGET_IP)
    assert flow.stdout and flow.stdout.readline() == "relay\n"
    ticks = int(Path(f"/proc/{flow.pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert only(stage).started_ns * os.sysconf("SC_CLK_TCK") // 10**9 == ticks
    flow.communicate("\n")


def test_a_fork_without_exec_is_its_own_process_of_the_same_image(stage: Stage) -> None:
    stage.vendor("fork_connect", TARGET_IP)
    who = only(stage)
    assert who.exe == REAL and who.parents[0] == REAL
    assert who.argv[:3] == (PYTHON, "-SE", str(vendor()))


def test_the_shell_that_connects_by_itself(stage: Stage) -> None:
    who = seen(stage, "/bin/bash", "-c", f"exec 3<>/dev/tcp/{TARGET_IP}/{PORT}")
    assert who.exe == os.path.realpath("/bin/bash")


def test_a_script_is_its_interpreter_with_the_script_in_argv(stage: Stage, tmp_path: Path) -> None:
    script = tmp_path / "agent"
    script.write_text(f"#!{PYTHON} -SE\n{CONNECT}\n")
    script.chmod(0o755)
    who = seen(stage, str(script), "word")
    assert who.exe == REAL and who.argv == (PYTHON, "-SE", str(script), "word")


def test_a_symlink_is_what_it_points_to(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "psql").symlink_to(PYTHON)
    who = seen(stage, "./psql", "-SEc", CONNECT, cwd=tmp_path)
    assert who.exe == REAL and who.argv[0] == "./psql"


def test_a_copy_is_named_by_its_whole_path(stage: Stage, tmp_path: Path) -> None:
    shutil.copy(REAL, tmp_path / "agent")
    assert seen(stage, "./agent", "-SEc", CONNECT, cwd=tmp_path).exe == str(tmp_path / "agent")


def test_a_path_too_long_to_keep_is_unknown(stage: Stage, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 200) / ("e" * 100)
    deep.mkdir(parents=True)
    shutil.copy(REAL, deep / "psql")
    assert len(str(deep)) > EXE
    assert seen(stage, str(deep / "psql"), "-SEc", CONNECT).exe == ""


def test_a_path_too_deep_to_walk_is_unknown(stage: Stage, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * DEPTH)
    deep.mkdir(parents=True)
    shutil.copy(REAL, deep / "psql")
    assert len(str(deep / "psql")) < EXE
    assert seen(stage, str(deep / "psql"), "-SEc", CONNECT).exe == ""


def test_a_deleted_file_is_a_class_of_its_own(stage: Stage, tmp_path: Path) -> None:
    shutil.copy(REAL, tmp_path / "agent")
    code = f"import os; fd = os.open('agent', os.O_RDONLY); os.unlink('agent'); os.execve(fd, ['a', '-SEc', {CONNECT!r}], {{}})"
    assert seen(stage, PYTHON, "-SEc", code, cwd=tmp_path).exe == f"deleted:{tmp_path}/agent"


def test_a_memory_file_is_a_class_of_its_own(stage: Stage) -> None:
    code = f"""
import os
fd = os.memfd_create("/usr/bin/psql", 0)
os.write(fd, open({REAL!r}, "rb").read())
os.execve(fd, ["psql", "-SEc", {CONNECT!r}], {{}})
"""
    assert seen(stage, PYTHON, "-SEc", code).exe.startswith("memfd:/usr/bin/psql")


def test_a_path_on_a_mount_of_the_process_own_making_is_not_believed(stage: Stage, tmp_path: Path) -> None:
    victim = tmp_path / "psql"
    victim.write_text("")
    code = f"mount --bind {REAL} {victim} && exec {victim} -SEc \"{CONNECT}\""
    assert seen(stage, "unshare", "-Urm", "sh", "-c", code).exe == f"userns:{victim}"
    # Trusted when root made the mount.
    assert seen(stage, "unshare", "-m", "sh", "-c", code).exe == str(victim)


def test_a_long_command_line_is_cut_and_says_so(stage: Stage) -> None:
    who = seen(stage, PYTHON, "-SEc", CONNECT, "word", "x" * ARGV)
    assert who.argv == (PYTHON, "-SEc", CONNECT, "word", "…")


def test_parents_are_as_they_were_when_they_are_gone(stage: Stage) -> None:
    """A double fork: the parent that started it has exited, and init is the parent now."""
    code = f"(({PYTHON} -SEc \"import time; time.sleep(.2); {CONNECT}\") &); sleep .5"
    shell = os.path.realpath("/bin/bash")
    who = seen(stage, "/bin/bash", "-c", code)
    assert who.exe == REAL and who.parents[:2] == (shell, shell)


def test_a_deep_line_of_descent_is_never_cut_within_a_name(stage: Stage, tmp_path: Path) -> None:
    shell = tmp_path / ("s" * 90)
    shutil.copy(os.path.realpath("/bin/bash"), shell)
    script = tmp_path / "down"
    script.write_text(f'if [ $1 = 0 ]; then {PYTHON} -SEc "{CONNECT}"; else {shell} {script} $(($1 - 1)); fi; :')
    who = seen(stage, str(shell), str(script), "14")
    assert set(who.parents) == {str(shell), ""} and who.parents[-1] == "" and len(who.parents) > 5


def test_processes_from_before_the_fence_are_known(stage: Stage) -> None:
    me = entry(stage, os.getpid())
    assert me and me.exe == os.path.realpath(sys.executable)
    # The kernel may not get at the arguments of a process that others share pages with; then it says so.
    said = "" if me.flags & ARGV_UNKNOWN else Path("/proc/self/cmdline").read_text().split("\0")[0]
    assert "".join(me.argv[:1]) == said


def test_an_entry_ends_with_its_process(stage: Stage) -> None:
    flow = stage.start("slow", TARGET_IP)
    assert flow.stdout and flow.stdout.readline() == "relay\n"
    assert entry(stage, flow.pid)
    flow.communicate("\n")
    assert entry(stage, flow.pid) is None


def entry(stage: Stage, pid: int) -> Executed | None:
    data = Map(stage.fence.lineage).lookup(pid.to_bytes(4, sys.byteorder))
    return Executed.unpack(data) if data else None


def test_a_line_of_descent_reaches_its_end(stage: Stage) -> None:
    """Those that ran before the fence are in, and their ancestors outside our pid namespace; nothing is cut off."""
    me = entry(stage, os.getpid())
    assert me and me.parents and "" not in me.parents
    first = entry(stage, 1)
    if first is not None:  # the host's init itself: nothing is above it but the kernel
        assert set(first.parents) <= {"kernel:", *me.parents}
    who = seen(stage, PYTHON, "-SEc", CONNECT)
    assert "" not in who.parents and who.parents[-len(me.parents) :] == me.parents


def test_what_the_kernel_starts_descends_from_the_kernel(stage: Stage, tmp_path: Path) -> None:
    """The handler of core dumps is started by a thread of the kernel."""
    setting = Path("/proc/sys/kernel/core_pattern")
    before, report = setting.read_text(), tmp_path / "report"
    handler = tmp_path / "handler"
    handler.write_text(f"#!/bin/sh\nfor i in $(seq 300); do [ -e {report}.read ] && exit; echo $$ >{report}; sleep .1; done\n")
    handler.chmod(0o755)
    setting.write_text(f"|{handler}")
    try:
        code = "import os, resource as r; r.setrlimit(r.RLIMIT_CORE, (1 << 20,) * 2); os.abort()"
        crashes = subprocess.Popen([PYTHON, "-SEc", code], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not (said := report.exists() and report.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        who = entry(stage, int(said))
        assert who and who.parents == ("kernel:",)
    finally:
        setting.write_text(before)
        Path(f"{report}.read").write_text("")
        crashes.wait(30)


def test_the_working_directory_at_exec_is_kept(stage: Stage, tmp_path: Path) -> None:
    agent = stage.lab.popen([PYTHON, "-SEc", "input()"], cgroup="acme.service", stdin=subprocess.PIPE, cwd=tmp_path)
    until = time.monotonic() + 20
    while (who := entry(stage, agent.pid)) is None or who.exe != REAL or "input()" not in who.argv:
        assert time.monotonic() < until
        time.sleep(0.02)  # what starts it is a python too
    assert who.cwd == str(tmp_path)
    at = os.stat(REAL)
    assert (who.inode, who.size, who.changed) == (at.st_ino, at.st_size, at.st_ctime_ns)
    agent.communicate(b"\n")


def test_a_fork_has_the_image_of_its_parent(stage: Stage) -> None:
    code = "import os, sys; pid = os.fork(); pid and print(pid, flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    agent = stage.lab.popen([PYTHON, "-SEc", code], cgroup="acme.service", stdin=pipe, stdout=pipe)
    assert agent.stdout
    child = int(agent.stdout.readline())
    mine, its = entry(stage, agent.pid), entry(stage, child)
    assert mine and its and (mine.image, mine.execer) == (its.image, agent.pid) and its.pid == child
    agent.communicate()
