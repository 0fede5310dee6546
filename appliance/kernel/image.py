"""The file that a process executes, and its digest.

Never the file that is at a path now: what is opened is compared with what the kernel copied at exec (file system,
inode, size, time of change). A kernel refuses to write to a file that is executed, and any change to it later changes
its time; so a digest is kept by those four, once they are older than the clock of file systems is coarse.

The device of stat(2) is not always that of the kernel: btrfs and overlayfs make up their own. Then the mount says it.
"""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator

import msgspec

from appliance.kernel.layout import Executed

PIECE = 1 << 20  # bytes read at once
MAX_FILE = 4 << 30  # bytes hashed; ten times the largest executables there are
SETTLED_NS = 1_000_000_000  # a hundred ticks of the coarsest clock that stamps files
MAX_KEPT = 4096  # digests; an inode of a package that was replaced is never asked for again
OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
UNTRUSTED = ("userns:", "detached:")  # whoever mounted these may make opening them wait for ever


class Stamp(msgspec.Struct, frozen=True):
    """What tells one state of a file from all others."""

    device: int
    inode: int
    size: int
    changed: int


def of(who: Executed) -> Stamp:
    """Return the stamp that the kernel copied."""
    return Stamp(who.device, who.inode, who.size, who.changed)


class Digests:
    """SHA-256 of executables, each computed once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: dict[Stamp, str] = {}

    def known(self, who: Executed) -> str:
        """Return the digest, if it was computed before."""
        return self._kept.get(of(who), "")

    def find(self, who: Executed) -> str:
        """Return the digest of what `who` executes, "" if it cannot be had any more."""
        digest = self.known(who)
        if digest:
            return digest
        with opened(who) as fd:
            if fd is None:
                return ""
            began = time.time_ns()
            digest = hashed(fd)
            if not is_it(fd, who):  # it changed while it was read
                return ""
        if began - who.changed > SETTLED_NS:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[of(who)] = digest
        return digest


def places(who: Executed) -> Iterator[str]:
    """Yield where the file may be: by the process while it lives, then by its path as we see it."""
    if not who.exe.startswith(UNTRUSTED):
        yield f"/proc/{who.pid}/exe"
    if who.exe.startswith("/"):
        yield who.exe


@contextlib.contextmanager
def opened(who: Executed, flags: int = OPEN) -> Iterator[int | None]:
    """Open what `who` executes, and nothing else: None if it is not to be found."""
    for place in places(who):
        try:
            fd = os.open(place, flags)
        except OSError:
            continue
        try:
            if is_it(fd, who):
                yield fd
                return
        finally:
            os.close(fd)
    yield None


def is_here(who: Executed) -> bool:
    """Return whether the file is at its path in our own view of the file system."""
    if not who.exe.startswith("/"):
        return False
    try:
        fd = os.open(who.exe, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return is_it(fd, who)
    finally:
        os.close(fd)


def is_it(fd: int, who: Executed) -> bool:
    """Return whether `fd` is the file the kernel saw, unchanged."""
    at = os.fstat(fd)
    if not stat.S_ISREG(at.st_mode) or (at.st_size, at.st_ctime_ns) != (who.size, who.changed):
        return False
    info = _info(fd)
    if int(info.get("ino", at.st_ino)) != who.inode:
        return False
    return device(os.major(at.st_dev), os.minor(at.st_dev)) == who.device or _by_mount(info, who)


def device(major: int, minor: int) -> int:
    """Return a device as the kernel numbers it (MKDEV in linux/kdev_t.h)."""
    return major << 20 | minor


def _info(fd: int) -> dict[str, str]:
    """Return what the kernel says of a descriptor; `ino` is there from linux 5.14 on."""
    with open(f"/proc/self/fdinfo/{fd}") as lines:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _by_mount(info: dict[str, str], who: Executed) -> bool:
    """Compare devices by the mount that the file was opened on; it may be in the process's own namespace."""
    for place in ("/proc/self/mountinfo", f"/proc/{who.pid}/mountinfo"):
        with contextlib.suppress(OSError), open(place, errors="replace") as mounts:
            for line in mounts:
                number, _, dev, *_ = line.split(" ", 3)
                if number == info.get("mnt_id"):
                    major, _, minor = dev.partition(":")
                    return device(int(major), int(minor)) == who.device
    return False


def hashed(fd: int, most: int = MAX_FILE) -> str:
    """Return the SHA-256 of an open file from its start, "" if it is over the limit."""
    digest, at = hashlib.sha256(), 0
    while piece := os.pread(fd, PIECE, at):
        digest.update(piece)
        at += len(piece)
        if at > most:
            return ""
    return digest.hexdigest()
