"""What takes files to know of an image: digest, package, script. For threads: it reads files of the host.

A script is what its path names when we look, some milliseconds after the exec; the kernel does not keep which file an
interpreter opens. A file that was changed since the exec, or a link on the way to it, is not certain, and its text
begins with `?`. Who can write to a script can still be quicker than we: rules that trust a script need one that the
vendor cannot write.
"""

import ctypes
import hashlib
import os
import stat
import time
from contextlib import suppress
from pathlib import PurePosixPath

from appliance.kernel import image, script
from appliance.kernel.image import OPEN, Digests, Stamp
from appliance.kernel.layout import ARGV_UNKNOWN, SEEDED, Executed, Image
from appliance.kernel.package import UNKNOWN, Packages

KEPT_S = 60.0  # seconds a whole answer is given again: a package may have been installed meanwhile
MAX_WHOLE = 4096  # of them
MAX_SCRIPT = 64 << 20  # bytes; programs bundled into one file have a few
OPENAT2 = 437  # the same number on every machine
RESOLVE_IN_ROOT = 0x10  # linux/openat2.h
TICK_NS = 10_000_000  # of the coarsest clock that stamps files (HZ=100): what changed since may have the time of before
MAX_STEPS = 4096  # names looked at in one path and its links; as many bytes has a path (linux/limits.h)
OTHERS_WRITE = 0o022
FIRST = 1  # pid of the host's init: whose mounts are the host's

_libc = ctypes.CDLL(None, use_errno=True)


class Finder:
    """Finds; remembers digests, packages, and whole answers for a while. Safe to use from several threads."""

    def __init__(self, packages: Packages | None = None) -> None:
        self._digests = Digests()
        self._packages = packages or Packages()
        self._whole: dict[tuple[Stamp, str], Image] = {}
        self._since = 0.0

    def at_once(self, who: Executed) -> Image | None:
        """Return what was found before, without a look at any file; None if there is something to look at."""
        if time.monotonic() - self._since > KEPT_S or len(self._whole) >= MAX_WHOLE:
            self._whole, self._since = {}, time.monotonic()
        return self._whole.get((image.of(who), who.exe))

    def find(self, who: Executed) -> Image:
        """Return all that can be found out."""
        digest = self._digests.find(who)
        text, script_digest = self._script(who)
        found = Image(digest, script_digest, self._package(who), text)
        if self._digests.known(who) and not text and found.package != UNKNOWN:
            self._whole[image.of(who), who.exe] = found
        return found

    def _package(self, who: Executed) -> str:
        if image.is_here(who):
            return self._packages.owner(who.exe)
        if who.exe.startswith("memfd:") or is_apart(who.pid):
            return ""  # a container's file is none of the host's packages, whatever its path
        return UNKNOWN  # replaced, or seen from elsewhere, and its process is gone

    def _script(self, who: Executed) -> tuple[str, str]:
        """Return the script and its digest."""
        found = script.script(who.exe, who.argv, not who.flags & ARGV_UNKNOWN)
        if found is None:
            return "", ""
        if found.code:
            return found.text, hashlib.sha256(os.fsencode(found.code)).hexdigest()
        sure, path = ("", found.text) if not found.text.startswith("?") else ("?", found.text[1:])
        if ":" in path.partition("/")[0] or not path:
            return found.text, ""
        if not path.startswith("/"):
            if not who.cwd.startswith("/"):
                return f"?{path}", ""
            path = str(PurePosixPath(who.cwd) / path)
        certain, real, digest = self._file(who, path)
        return (sure if certain else "?") + real, digest

    def _file(self, who: Executed, path: str) -> tuple[bool, str, str]:
        """Return whether the file is certain, its path without links, and its digest."""
        try:
            fd = open_as(who, path)
        except OSError:
            return False, path, ""
        try:
            at = os.fstat(fd)
            real = _real(fd, path)
            if stat.S_ISDIR(at.st_mode):  # Python runs a directory with a __main__.py
                return not who.flags & SEEDED, real, ""
            if not stat.S_ISREG(at.st_mode):
                return False, real, ""
            digest = image.hashed(fd, MAX_SCRIPT)
            same = os.fstat(fd).st_ctime_ns == at.st_ctime_ns
            before = at.st_ctime_ns <= executed_at(who) and _way_before(who, path)
            return bool(digest) and same and before and not who.flags & SEEDED, real, digest
        finally:
            os.close(fd)


def executed_at(who: Executed) -> int:
    """Return the time of day of the exec, in ns since 1970, as far as the clock was not set since."""
    return time.time_ns() - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - who.executed)


def is_apart(pid: int) -> bool:
    """Return whether a living process has another view of files than the host's init, or than we have."""
    try:
        its = os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return False
    with suppress(OSError):
        return its != os.stat(f"/proc/{FIRST}/ns/mnt").st_ino
    return its != os.stat("/proc/self/ns/mnt").st_ino


def open_as(who: Executed, path: str) -> int:
    """Open a path as the process sees it, links in it included; as we see it, when the process is gone.

    Raises:
        OSError: there is none, or the process is gone and was apart.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        root = os.open(f"/proc/{who.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return openat2(root, path)
        finally:
            os.close(root)
    if not image.is_here(who):
        raise FileNotFoundError(path)
    return os.open(path, OPEN)


def openat2(root: int, path: str) -> int:
    """Open `path` with `root` in place of /, which no link leads out of."""
    how = (ctypes.c_uint64 * 3)(OPEN, 0, RESOLVE_IN_ROOT)
    fd = _libc.syscall(OPENAT2, root, os.fsencode(path), how, ctypes.sizeof(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(fd)


def _real(fd: int, path: str) -> str:
    """Return the path that leads to an open file without links, if we can see it; else as it was written."""
    with suppress(OSError):
        real = os.readlink(f"/proc/self/fd/{fd}")
        if os.path.samestat(os.stat(real), os.fstat(fd)):
            return real
    return os.path.normpath(path)


def _way_before(who: Executed, path: str) -> bool:
    """Return False if the path may have led elsewhere at the exec: by a link, or by a directory in which one is.

    The time of a directory changes with what is made in it too, so one that only root can have put there is believed,
    and so is one in which no link follows: what it holds is then what its owner may write.
    """
    latest, root = executed_at(who) - TICK_NS, f"/proc/{who.pid}/root"
    if not os.path.isdir(root):
        root = ""
    names, here, moved = path.split("/")[::-1], "", False
    for _ in range(MAX_STEPS):
        if not names:
            return True
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = here.rpartition("/")[0]
            continue
        try:
            above, at = os.stat(f"{root}{here}/"), os.lstat(f"{root}{here}/{name}")
            to = os.readlink(f"{root}{here}/{name}") if stat.S_ISLNK(at.st_mode) else ""
        except OSError:  # somebody is at it now
            return False
        late = at.st_ctime_ns > latest
        if not to:
            here = f"{here}/{name}"
            moved = moved or (late and (above.st_uid != 0 or above.st_mode & OTHERS_WRITE != 0))
        elif late or moved:
            return False
        else:
            names += to.split("/")[::-1]
            here = "" if to.startswith("/") else here
    return False
