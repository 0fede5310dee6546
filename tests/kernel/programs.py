"""Programs of vendors that are hard to name, and the appliance that records who opened each of their connections."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab

PORT = 7
PYTHON = "/usr/bin/python3"
SOURCE = Path(__file__).parent / "storm.c"
LISTED = "10000"  # sessions asked for: all
PATIENCE_S = 30.0
CONNECT = "import socket, sys; socket.create_connection((sys.argv[-2], int(sys.argv[-1])))"


@contextlib.contextmanager
def compiled() -> Iterator[Path]:
    """Yield storm.c as a program in a folder of its own that every user may read. pytest's are only root's."""
    with tempfile.TemporaryDirectory(prefix="vg-storm-") as home:
        program = Path(home) / "storm"
        program.parent.chmod(0o755)
        subprocess.run(["gcc", "-O1", "-Wall", "-pthread", str(SOURCE), "-o", str(program)], check=True, timeout=60)
        yield program


def copied(program: Path, name: str) -> Path:
    """Return another program of the same bytes."""
    return Path(shutil.copy(program, program.with_name(name)))


class Seen:
    """The sessions that an appliance recorded, from the ones that were there when this was made."""

    def __init__(self, appliance: Appliance) -> None:
        self._appliance = appliance
        self._before = {session["id"] for session in self._all()}

    def sessions(self, number: int = 1) -> list[dict[str, Any]]:
        """Return the new sessions, the oldest first, once there are so many."""
        until = time.monotonic() + PATIENCE_S
        while True:
            found = [session for session in self._all() if session["id"] not in self._before]
            if len(found) >= number or time.monotonic() > until:
                return sorted(found, key=lambda session: session["id"])
            time.sleep(0.2)

    def one(self) -> dict[str, Any]:
        """Return the one new session."""
        [session] = self.sessions()
        return session

    def _all(self) -> list[dict[str, Any]]:
        return list(self._appliance.json("sessions", "--limit", LISTED))


def wait_for(true: Callable[[], object]) -> None:
    """Return when something holds."""
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


def connect(lab: Lab, *words: str, cgroup: str = "acme.service", user: str | None = "nobody", **options: Any) -> str:
    """Run a program that connects, with the target behind its words; return what it printed."""
    argv = [*words, lab.target_ip, str(PORT)]
    done = lab.run(argv, cgroup=cgroup, user=user, capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
