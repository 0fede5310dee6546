"""Two hosts on one machine: network namespaces joined by a wire, and cgroups below a slice of their own.

    host    10.77.0.1, fd77::1   where the appliance runs, and the governed processes
    target  10.77.0.2, fd77::2   where servers run

Several labs may live at once: each has namespaces of its own, so addresses never meet. Names carry the pid
and start time of their owner; what an owner left when it was killed is removed when the next lab starts.
/sys stays as it is, unlike under `ip netns exec`, so that cgroups and bpf stay visible.
"""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from appliance.kernel import cgroups, fence, pins
from appliance.kernel.fence import Place
from appliance.model import HostError

NAMESPACES = Path("/run/netns")
HOST_IP, TARGET_IP = "10.77.0.1", "10.77.0.2"
HOST_IP6, TARGET_IP6 = "fd77::1", "fd77::2"
STOP_LIMIT = 5.0  # seconds for killed processes to leave a cgroup
TOOL_LIMIT = 30.0  # seconds for one ip command

_numbers = count(1)


def find_cgroup_root() -> Path:
    """Return where cgroup2 is mounted, also beside version 1 (hybrid).

    Raises:
        HostError: nowhere.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    raise HostError("cgroup2 is not mounted", "mount -t cgroup2 none /sys/fs/cgroup")


class Lab:
    """Context manager. `host` and `target` are names of namespaces, `slice` is the governed cgroup."""

    def __init__(self, cgroup_root: Path | None = None) -> None:
        self.cgroup_root = cgroup_root or find_cgroup_root()
        self.name = f"vg-{os.getpid()}-{_started(os.getpid())}-{next(_numbers)}"
        self.host, self.target = f"{self.name}-host", f"{self.name}-target"
        self.slice = f"{self.name}.slice"
        self.host_ip, self.target_ip = HOST_IP, TARGET_IP
        self.host_ip6, self.target_ip6 = HOST_IP6, TARGET_IP6
        self._processes: list[subprocess.Popen[Any]] = []

    @property
    def slice_path(self) -> Path:
        return self.cgroup_root / self.slice

    def place(self, port: int = fence.DEFAULT_PORT) -> Place:
        """Return what the kernel package calls this lab's slice."""
        return Place(self.cgroup_root, self.slice, port)

    def __enter__(self) -> "Lab":
        sweep(self.cgroup_root)
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cgroup(self, name: str) -> Path:
        """Return the directory of a cgroup below the slice ("" for the slice), made if need be."""
        path = self.slice_path / name if name else self.slice_path
        cgroups.create(path)
        return path

    def words(
        self, argv: Sequence[str], where: str = "host", cgroup: str | None = None, user: str | None = None
    ) -> list[str]:
        """Return the words that run `argv` there. Each step becomes the next by exec, so the pid stays."""
        words = ["nsenter", f"--net={NAMESPACES / {'host': self.host, 'target': self.target}[where]}"]
        if user:
            entry = pwd.getpwnam(user)
            words += ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        if cgroup is not None:
            enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
            words = ["sh", "-c", enter, str(self.cgroup(cgroup)), *words]
        return [*words, *argv]

    def popen(
        self, argv: Sequence[str], where: str = "host", cgroup: str | None = None, user: str | None = None,
        **options: Any,
    ) -> "subprocess.Popen[Any]":  # fmt: skip
        """Start `argv`; it is killed with the lab."""
        process = subprocess.Popen(self.words(argv, where, cgroup, user), **options)
        self._processes = [p for p in self._processes if p.returncode is None]
        self._processes.append(process)
        return process

    def run(
        self, argv: Sequence[str], where: str = "host", cgroup: str | None = None, user: str | None = None,
        **options: Any,
    ) -> "subprocess.CompletedProcess[Any]":  # fmt: skip
        """Run `argv` to its end."""
        return subprocess.run(self.words(argv, where, cgroup, user), check=False, **options)

    def close(self) -> None:
        """Kill what runs here and remove all of it."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe:
                    pipe.close()
        self._processes.clear()
        remove(self.cgroup_root, self.name)

    def _build(self) -> None:
        for name in (self.host, self.target):
            _ip("netns", "add", name)
        peer = ("type", "veth", "peer", "name", "up0", "netns", self.target)
        _ip("link", "add", "up0", "netns", self.host, *peer)
        for name, ip, ip6 in ((self.host, HOST_IP, HOST_IP6), (self.target, TARGET_IP, TARGET_IP6)):
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "addr", "add", f"{ip}/24", "dev", "up0")
            _ip("-n", name, "addr", "add", f"{ip6}/64", "dev", "up0", "nodad")
            _ip("-n", name, "link", "set", "up0", "up")
        cgroups.create(self.slice_path)


def sweep(cgroup_root: Path) -> list[str]:
    """Remove what labs of dead owners left; return their names. One at a time: others may start now too."""
    NAMESPACES.mkdir(exist_ok=True)
    lock = os.open(NAMESPACES, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _sweep(cgroup_root)
    finally:
        os.close(lock)


def _sweep(cgroup_root: Path) -> list[str]:
    names = {path.name.rpartition("-")[0] for path in NAMESPACES.glob("vg-*-*-*-*")}
    names |= {path.name.removesuffix(".slice") for path in cgroup_root.glob("vg-*-*-*.slice")}
    dead = sorted(name for name in names if not _alive(name))
    for name in dead:
        remove(cgroup_root, name)
    return dead


def remove(cgroup_root: Path, name: str) -> None:
    """Remove the namespaces, the cgroups and the fence of the lab `name`, and kill what runs in them."""
    place = Place(cgroup_root, f"{name}.slice")
    namespaces = [f"{name}-host", f"{name}-target"]
    until = time.monotonic() + STOP_LIMIT
    while pids := _inside(place.cgroup, namespaces):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    if pins.directory(place.instance):
        fence.down(place)
    for namespace in namespaces:
        if (NAMESPACES / namespace).exists():
            _ip("netns", "delete", namespace)
    for path in sorted(place.cgroup.rglob("*/"), reverse=True) if place.cgroup.exists() else []:
        path.rmdir()
    with suppress(FileNotFoundError):
        place.cgroup.rmdir()


def _inside(slice_path: Path, namespaces: Sequence[str]) -> set[int]:
    """Return the pids in the cgroups and namespaces of a lab, never our own."""
    pids = set(cgroups.processes(slice_path)) if slice_path.exists() else set()
    for namespace in namespaces:
        if (NAMESPACES / namespace).exists():
            pids |= {int(pid) for pid in _ip("netns", "pids", namespace).split()}
    return pids - {os.getpid()}


def _alive(name: str) -> bool:
    """Return whether the process that made the lab still runs; the start time tells it from a later one."""
    _vg, pid, started, *_number = name.split("-")
    return pid.isdigit() and _started(int(pid)) == started


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot; "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _ip(*words: str) -> str:
    ip = shutil.which("ip")
    if ip is None:
        raise HostError("ip is not installed", "apt-get install iproute2")
    result = subprocess.run([ip, *words], capture_output=True, text=True, timeout=TOOL_LIMIT, check=False)
    if result.returncode:
        raise HostError(f"ip {' '.join(words)}: {result.stderr.strip()}", "labs need root")
    return result.stdout
