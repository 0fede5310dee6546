"""Debian machines, booted by systemd-nspawn from the copy of a base that tests/install/base made.

A machine has its own processes, mounts, users, cgroups and bpf file system, all capabilities, and the network namespace
it is given; the kernel is this host's. Source: systemd-nspawn(1); systemd's docs/CONTAINER_INTERFACE.md; the variable that
makes it mount cgroup2 on a hybrid host is in docs/ENVIRONMENT.md.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
BASE = ROOT / "build/install/base"
DEBS = ROOT / "build/deb/latest"
BOOT_S = 90.0  # seconds; five on a quiet machine
RUN_S = 180.0  # for one command; an installation takes fifteen
END_S = 20.0


def wait(what: str, until: Callable[[], object], limit: float = 30.0) -> None:
    """Return when the condition holds; fail when it does not within `limit` seconds."""
    end = time.monotonic() + limit
    while not until():
        assert time.monotonic() < end, f"not within {limit:g} s: {what}"
        time.sleep(0.1)


class Machine:
    """One machine. Use as a context manager: booted on entry, gone with its disk on exit."""

    def __init__(self, name: str, netns: str) -> None:
        self.name = f"vg-install-{os.getpid()}-{name}"
        self.root = ROOT / "build/install" / self.name
        self.log = ROOT / "build/install" / f"{name}.log"  # what the console said; kept
        self._netns = netns
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Machine":
        sweep()
        subprocess.run(["cp", "-a", "--reflink=auto", str(BASE), str(self.root)], check=True)
        (self.root / "etc/hostname").write_text(self.name.rpartition("-")[2] + "\n")
        self.log.write_bytes(b"")
        try:
            self.boot()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        shutil.rmtree(self.root, ignore_errors=True)

    def boot(self) -> None:
        """Switch on, and return when all units are started."""
        words = ["systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit", "--console=pipe"]
        words += [f"--machine={self.name}", f"--directory={self.root}", f"--network-namespace-path=/run/netns/{self._netns}"]
        words += ["--capability=all", "--system-call-filter=bpf perf_event_open", "--resolv-conf=off", "--timezone=off"]
        enter = "for place; do [ \"$place\" != -- ] || break; echo $$ >\"$place/cgroup.procs\"; shift; done; shift; exec \"$@\""
        places = [str(path) for path in self._cgroups()]
        for place in places:
            Path(place).mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", enter, "sh", *places, "--", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )  # fmt: skip
        wait(f"{self.name} boots: {self.log}", self._started, BOOT_S)

    def reboot(self) -> None:
        """Restart the machine as its operator would."""
        assert self._process
        self._inside("systemctl", "reboot", check=False)
        self._process.wait(BOOT_S)
        self._end()
        self.boot()

    def run(self, *words: str, check: bool = True, text: str = "", limit: float = RUN_S) -> "subprocess.CompletedProcess[str]":
        """Run a command as a service of the machine, as root; with `check`, fail unless it exits 0."""
        escaped = [word.replace("$", "$$") for word in words]  # variables are the command's own
        done = self._inside("systemd-run", "--pipe", "--wait", "--quiet", "--collect", "--", *escaped, text=text, limit=limit)
        if check and done.returncode:
            journal = self.says("journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic")
            what = f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-2000:]}\n{journal}"
            raise AssertionError(what)
        return done

    def shell(self, script: str, check: bool = True, limit: float = RUN_S) -> "subprocess.CompletedProcess[str]":
        """Run a script the same way."""
        return self.run("sh", "-c", script, check=check, limit=limit)

    def says(self, *words: str) -> str:
        """Return what systemctl and the like say, at once: not as a service, for conditions that are waited for."""
        return self._inside(*words, check=False).stdout.strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file onto its disk, whole or not at all."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.name}.new")
        new.write_text(text)
        new.chmod(mode)
        new.rename(file)

    def read(self, path: str) -> str:
        """Return a file of its disk; "" if there is none."""
        file = self.root / path.lstrip("/")
        return file.read_text() if file.exists() else ""

    def copy(self, source: Path, into: str) -> None:
        """Copy a file or a directory onto its disk, below `into`."""
        place = self.root / into.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-rL", str(source), str(place)], check=True)

    def leader(self) -> int:
        """Return the pid of the machine's first process, as this host counts; 0 if there is none."""
        if self._process is None or self._process.poll() is not None:
            return 0
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def _inside(self, *words: str, check: bool = False, text: str = "", limit: float = RUN_S) -> "subprocess.CompletedProcess[str]":
        leader = self.leader()
        assert leader, f"{self.name} is off: {self.log}"
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        return subprocess.run(
            ["nsenter", f"--target={leader}", "--all", *words],
            input=text, capture_output=True, text=True, timeout=limit, check=check, env=environment,
        )  # fmt: skip

    def _started(self) -> bool:
        assert self._process
        assert self._process.poll() is None, f"{self.name} does not boot: {self.log.read_text()[-2000:]}"
        return bool(self.leader()) and self.says("systemctl", "is-system-running") in ("running", "degraded")

    def _cgroups(self) -> list[Path]:
        """Return a cgroup of its own in each hierarchy that systemd uses: version 2, and 1 by name on a hybrid host."""
        return [mount / self.name for mount in _hierarchies()]

    def _end(self) -> None:
        if self._process is not None:
            if leader := self.leader():
                os.kill(leader, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None
        for path in self._cgroups():
            _remove(path)


def _hierarchies() -> list[Path]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
            found.append(Path(left.split()[4]))
    return found


def _remove(cgroup: Path) -> None:
    """End what is in a tree of cgroups, and remove it."""
    end = time.monotonic() + END_S
    while cgroup.exists() and time.monotonic() < end:
        for path in [*sorted(cgroup.rglob("*/"), reverse=True), cgroup]:
            try:
                for pid in (path / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                path.rmdir()
            except OSError:
                time.sleep(0.02)


def sweep() -> None:
    """Remove what tests that were killed left: machines carry the pid of their test."""
    names = {path.name for mount in _hierarchies() for path in mount.glob("vg-install-*-*")}
    names |= {path.name for path in (ROOT / "build/install").glob("vg-install-*-*")}
    for name in names:
        if not Path(f"/proc/{name.split('-')[2]}").exists():
            for mount in _hierarchies():
                _remove(mount / name)
            shutil.rmtree(ROOT / "build/install" / name, ignore_errors=True)


def package(name: str = "vendorgate", where: Sequence[Path] = ()) -> Path:
    """Return a built package."""
    found = sorted((where[0] if where else DEBS).glob(f"{name}_*.deb"))
    assert found, "no package was built: make deb"
    return found[-1].resolve()
