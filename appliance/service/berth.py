"""A cgroup of the workers' own, below the hub's: limits and figures of the host see them apart from the hub.

It is made where the hub's cgroup is a service's and may be written (systemd: Delegate=yes). What a hub that was
killed left running in it, stopped or hung, is ended before new workers share the listening port with it.
"""

import os
import time
from pathlib import Path

from appliance.control.peer import is_below, slice_path
from appliance.kernel import cgroups
from appliance.model import HostError

END_S = 5.0  # for killed processes to leave


def own_cgroup(proc: Path = Path("/proc/self/cgroup")) -> str:
    """Return our cgroup as the kernel writes it; empty if there is none."""
    return next((line[3:] for line in proc.read_text().splitlines() if line.startswith("0::")), "")


class Berth:
    """Where workers are put; `problem` says why they are not."""

    def __init__(self, root: Path, name: str) -> None:
        self.problem = ""
        self._path: Path | None = None
        try:
            self._path = _made(root, name)
            _clear(self._path)
        except (HostError, OSError) as error:
            self._fail(error)

    def take(self, pid: int) -> None:
        """Move a process here, where there is a here."""
        if self._path is None:
            return
        try:
            cgroups.move(pid, self._path)
        except HostError as error:
            self._fail(error)

    def close(self) -> None:
        """Remove it; what cannot be removed now is used again by the next hub."""
        if self._path:
            try:
                self._path.rmdir()
            except OSError:
                pass

    def _fail(self, error: HostError | OSError) -> None:
        what = error.what if isinstance(error, HostError) else str(error)
        self.problem = f"workers have no cgroup of their own: {what}"


def _made(root: Path, name: str) -> Path:
    own, top = own_cgroup(), slice_path(root)
    if own in ("", top):
        raise HostError("the hub runs in the root cgroup", "start it as a service")
    if not is_below(own, top):
        raise HostError(f"the hub's cgroup {own} is not to be seen from {root}")
    path = root / Path(own).relative_to(top) / name
    cgroups.create(path)
    return path


def _clear(path: Path) -> None:
    until = time.monotonic() + END_S
    while pids := cgroups.processes(path):
        for pid in pids:
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        if time.monotonic() > until:
            raise HostError(f"what an earlier hub left in {path} does not end")
        time.sleep(0.01)
