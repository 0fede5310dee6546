"""The rules directory: reading it, seeing that it changed, and the addresses of the names in it.

Only reads. What the text means is the work of `config`; when it is put in force, that of the hub.
"""

import errno
import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from appliance.model import ConfigError

MAX_FILES = 1000  # files of rules; one a vendor on the largest hosts
MAX_TEXT = 8 * 1024 * 1024  # bytes of all of them; half a frame of the channel, tens of thousands of rules
MAX_REVISIONS = 1000  # kept for readers of the record; years of edits. The one in force is the newest
KEPT = "rules"  # in state_dir: the files of each revision that was in force
TESTS = ".test.yaml"  # beside the rules, and none of them
RESOLVE_S = 3.0  # for one name; the resolver's own patience (5 s a server) would delay the start
MAX_ADDRESSES = 64  # of one name; more than any round-robin


class Files(msgspec.Struct, frozen=True):
    """The rules as they were on disk at one time."""

    texts: tuple[tuple[str, str], ...]  # name, text; in the order of names
    stamp: tuple[tuple[str, int, int, int], ...]  # name, inode, size, time: differs when a file does


def read(directory: Path) -> Files:
    """Read all rules.

    Raises:
        ConfigError: the directory or a file cannot be read, or there is too much of it.
    """
    before = stamp(directory)
    texts, room = [], MAX_TEXT
    for name, *_ in before:
        where = f"{directory.name}/{name}"
        try:
            data = _content(directory / name, room + 1)
            texts.append((where, data.decode()))
        except OSError as error:
            raise ConfigError(where, f"cannot be read: {error.strerror}", "mend it, or move it away") from None
        except UnicodeDecodeError as error:
            raise ConfigError(where, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
        room -= len(data)
        if room < 0:
            raise ConfigError(str(directory), f"over {MAX_TEXT} bytes of rules")
    return Files(tuple(texts), before)


def keep(directory: Path, revision: str, files: Files) -> None:
    """Keep the rules of a revision for those who read the record later: `directory`/REVISION/NAME, written once.

    Raises:
        OSError: they are not there.
    """
    place = directory / revision
    directory.mkdir(mode=0o700, exist_ok=True)
    if place.is_dir():
        os.utime(place)  # in force again: it is not the oldest
        return
    new = directory / f".{revision}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    for name, text in files.texts:
        fd = os.open(new / name.rsplit("/", 1)[-1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
    new.rename(place)
    kept = sorted((path for path in directory.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for oldest in kept[:-MAX_REVISIONS]:
        shutil.rmtree(oldest, ignore_errors=True)


def _content(path: Path, most: int) -> bytes:
    """Return a file's first bytes; what is no file is an error, never something to wait for."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file.read(most)


def stamp(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return what differs when a rule file was saved, added, removed or renamed.

    Raises:
        ConfigError: the directory cannot be read, or has too many files.
    """
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(".yaml") and not name.endswith(TESTS) and not name.startswith("."):
                    found.append((name, *_look(entry)))
    except FileNotFoundError as error:
        hint = "`vendorgate init` writes first rules; `rules:` in the settings says where they are"
        raise ConfigError(str(directory), f"cannot be read: {error.strerror}", hint) from None
    except OSError as error:
        raise ConfigError(str(directory), f"cannot be read: {error.strerror}", "sudo vendorgate ...") from None
    if len(found) > MAX_FILES:
        raise ConfigError(str(directory), f"over {MAX_FILES} files")
    return tuple(sorted(found))


def _look(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    """Return inode, size and time; zeros for a link to nothing, which reading will name."""
    try:
        at = entry.stat()
    except OSError:
        return (0, 0, 0)
    return (at.st_ino, at.st_size, at.st_mtime_ns)


class Names:
    """Addresses of the names in rules. A name that cannot be resolved keeps the addresses it had.

    The calls may wait for the network: they are for a thread.
    """

    def __init__(self, lookup: Callable[[str], Sequence[str]] | None = None) -> None:
        self._lookup = lookup or addresses
        self._known: dict[str, tuple[str, ...]] = {}
        self.failed: dict[str, str] = {}  # name -> why; of the last try

    @property
    def known(self) -> dict[str, tuple[str, ...]]:
        """All names that were resolved, and their addresses."""
        return dict(self._known)

    def resolve(self, name: str) -> tuple[str, ...]:
        """Return the addresses of a name, looked up at the first call only.

        Raises:
            OSError: it has none that we know of.
        """
        if name not in self._known:
            self._try(name)
        if name not in self._known:
            raise OSError(self.failed[name])
        return self._known[name]

    def refresh(self) -> bool:
        """Look all names up again; True if an address changed."""
        before = self.known
        for name in before:
            self._try(name)
        return before != self._known

    def keep(self, names: Sequence[str]) -> None:
        """Forget all other names."""
        self._known = {name: self._known[name] for name in names if name in self._known}
        self.failed = {name: why for name, why in self.failed.items() if name in self._known}

    def _try(self, name: str) -> None:
        try:
            found = tuple(sorted(self._lookup(name)))[:MAX_ADDRESSES]
        except OSError as error:
            self.failed[name] = str(error)
        else:
            self._known[name] = found
            self.failed.pop(name, None)


def addresses(name: str, seconds: float = RESOLVE_S) -> Sequence[str]:
    """Return the addresses of a host name.

    Raises:
        OSError: there are none, or the resolver is silent (TimeoutError).
    """
    found: list[str] = []
    errors: list[OSError] = []

    def look() -> None:
        try:
            infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            found.extend({str(info[4][0]).split("%", 1)[0] for info in infos})
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=look, name=f"resolve {name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not found:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return found
