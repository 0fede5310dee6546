"""Stopping all processes of a cgroup at once, letting them go on, ending them.

Source: Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze (linux 5.2), cgroup.kill (linux 5.14), cgroup.events.
What is frozen stays so until somebody thaws it, whatever becomes of us: the state is the kernel's. Frozen processes
keep their sockets; what others send them waits. A frozen process can be killed.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from appliance.kernel import cgroups
from appliance.model import HostError

Deed = Literal["freeze", "thaw", "kill"]
PATIENCE_S = 5.0  # for the kernel to stop or end all; a process in the middle of a write to a slow disk takes a while
LOOK_S = 0.01
ROUNDS = 100  # of killing one by one, on a kernel without cgroup.kill: what forks meanwhile is in the next


def do(deed: Deed, top: Path, cgroup: str) -> bool:
    """Do it to the cgroup `cgroup` below `top` and all in it; False if it is not done yet when patience ends.

    Raises:
        HostError: the kernel refuses.
    """
    path = top / cgroup if cgroup else top
    try:
        if deed == "kill":
            _kill(path)
            return _waited(lambda: not cgroups.processes(path))
        (path / "cgroup.freeze").write_text("1" if deed == "freeze" else "0")
        return _waited(lambda: is_frozen(path) == (deed == "freeze"))
    except OSError as error:
        raise HostError(f"{deed} {path}: {error.strerror}", "is it a cgroup of version 2, and are you root?") from error


def is_frozen(path: Path) -> bool:
    """Return whether everything in a cgroup stands still, for its own sake or that of one above it."""
    return "frozen 1" in (path / "cgroup.events").read_text().splitlines()


def frozen(top: Path) -> list[str]:
    """Return the paths below `top` ("" for itself) that were told to stand still."""
    found = []
    for path in sorted(cgroups.governed(top).values()):
        try:
            if (top / path / "cgroup.freeze").read_text().strip() == "1":
                found.append(path)
        except OSError:  # removed while we looked
            continue
    return found


def _kill(path: Path) -> None:
    if (path / "cgroup.kill").exists():
        (path / "cgroup.kill").write_text("1")
        return
    for _ in range(ROUNDS):
        pids = cgroups.processes(path)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _waited(done: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True
