"""Where programs, links and maps are pinned, so that they outlive every process of ours.

`<bpf file system>/vendorgate/<instance>/<number>/`: each load of the fence has a number of its own and is
attached beside the one before it, which is then removed. There is no moment without one.
"""

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from appliance.model import HostError

PLACES = (Path("/sys/fs/bpf"), Path("/run/vendorgate-bpf"))  # the second where /sys is read-only or replaced
LAST = "map_settings"  # pinned last: a load that has it is whole


def mounted(path: Path) -> bool:
    """Return whether the topmost mount at `path` is a bpf file system."""
    kind = ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        if left.split()[4] == str(path):
            kind = right.split()[0]
    return kind == "bpf"


def file_system(mount: bool = True) -> Path | None:
    """Return the bpf file system to use. If there is none, mount it, or return None when `mount` is false.

    Raises:
        HostError: it cannot be mounted.
    """
    for path in PLACES:
        if mounted(path) and os.access(path, os.W_OK):
            return path
    if not mount:
        return None
    said = ""
    for path in PLACES:
        with suppress(OSError):
            path.mkdir(mode=0o700, exist_ok=True)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"bpf", os.fsencode(path), b"bpf", ctypes.c_ulong(0), b"mode=0700") == 0:
            return path
        said = os.strerror(ctypes.get_errno())
    hint = "mount -t bpf bpf /sys/fs/bpf (as root)"
    raise HostError(f"mount a bpf file system at {PLACES[0]}: {said}", hint)


def directory(instance: str) -> Path | None:
    """Return where this instance is pinned, if it is."""
    top = file_system(mount=False)
    path = top / "vendorgate" / instance if top else None
    return path if path and path.is_dir() else None


@contextmanager
def locked(instance: str) -> Iterator[Path]:
    """Make the instance's directory, and hold off every other `up` and `down` of it."""
    top = file_system() or PLACES[0]
    while True:
        path = top / "vendorgate" / instance
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.is_dir() and path.stat().st_ino == os.fstat(fd).st_ino:
                yield path
                return
        finally:
            os.close(fd)


def current(instance: Path) -> Path | None:
    """Return the newest whole load."""
    whole = [path for path in loads(instance) if (path / LAST).exists()]
    return whole[-1] if whole else None


def loads(instance: Path) -> list[Path]:
    """Return all loads, whole or not, in order."""
    return sorted((p for p in instance.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def following(instance: Path) -> Path:
    """Make and return the directory for the next load."""
    path = instance / str(max((int(p.name) for p in loads(instance)), default=0) + 1)
    path.mkdir(mode=0o700)
    return path


def remove(path: Path) -> None:
    """Unpin everything below `path`, links first: what they attach is detached with the last reference."""
    for pin in sorted(path.iterdir(), key=lambda p: not p.name.startswith("link_")):
        if pin.is_dir():
            remove(pin)
        else:
            pin.unlink(missing_ok=True)
    path.rmdir()
