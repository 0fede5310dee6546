"""Which package of the host a file belongs to, from the databases of dpkg and rpm themselves.

Sources: dpkg(1) and deb-files: `info/PACKAGE[:ARCH].list` holds a path a line, `diversions` three lines for each file
that one package moved out of the way of another's. rpm: rpmdb.sqlite, table Basenames (key, hnum, idx) names the
headers with a file of that name, table Packages (hnum, blob) holds them; a header is "the header structure" of
"RPM Package File Format": a count of entries and of bytes, entries of four big-endian words (tag, type, offset, count),
then the data.

Nothing is run and nothing is kept of the databases but answers, forgotten when a database changes. Paths are those of
the host: a container's own database says what its owner likes.

Not handled: rpm's older databases (Berkeley DB, before rpm 4.16, and ndb). Then no package is known.
"""

import mmap
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

DPKG = Path("/var/lib/dpkg")
RPM = (Path("/usr/lib/sysimage/rpm/rpmdb.sqlite"), Path("/var/lib/rpm/rpmdb.sqlite"))
MAX_KEPT = 4096  # answers; an agent's host has a few hundred executables in use
MAX_HEADER = 256 << 20  # bytes of one rpm header; rpm's own limit
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # below / once, below /usr today
NAME, DIRINDEXES, BASENAMES, DIRNAMES = 1000, 1116, 1117, 1118  # rpmtag.h
UNKNOWN = "?"


class Database(Protocol):
    """What one package manager knows."""

    def stamp(self) -> tuple[int, ...]:
        """Return what differs when packages were installed or removed."""

    def owner(self, path: str) -> str:
        """Return the package of a path, "" if it has none."""


class Packages:
    """The packages of the host. Safe to use from several threads."""

    def __init__(self, databases: tuple[Database, ...] | None = None) -> None:
        usual: tuple[Database, ...] = (Dpkg(), *map(Rpm, RPM))
        self._databases = usual if databases is None else databases
        self._stamp: tuple[tuple[int, ...], ...] = ()
        self._kept: dict[str, str] = {}

    def owner(self, path: str) -> str:
        """Return the package that `path` belongs to, "" if to none, "?" if no database can be read."""
        stamp = tuple(database.stamp() for database in self._databases)
        if stamp != self._stamp or len(self._kept) >= MAX_KEPT:
            self._stamp, self._kept = stamp, {}
        kept = self._kept
        if path not in kept:
            kept[path] = self._look(path)
        return kept[path]

    def _look(self, path: str) -> str:
        answer = UNKNOWN
        for database, stamp in zip(self._databases, self._stamp, strict=True):
            if stamp:
                with suppress(OSError, sqlite3.Error, ValueError, struct.error):
                    answer = ""
                    name = database.owner(path)
                    if name:
                        return name
                    continue
                answer = UNKNOWN
        return answer


class Dpkg:
    """Debian's."""

    def __init__(self, directory: Path = DPKG) -> None:
        self._directory = directory

    def stamp(self) -> tuple[int, ...]:
        return _times(self._directory / "info", self._directory / "status", self._directory / "diversions")

    def owner(self, path: str) -> str:
        paths, not_by, only_by = self._moved(path)
        for name in self._names(paths):
            package = name.removesuffix(".list").partition(":")[0]
            if package != not_by and only_by in ("", package):
                return package
        return ""

    def _moved(self, path: str) -> tuple[list[str], str, str]:
        """Return the paths to look for, who does not own them, and who alone may: by the diversions."""
        try:
            lines = (self._directory / "diversions").read_text(errors="surrogateescape").splitlines()
        except FileNotFoundError:
            lines = []
        for meant, moved, by in zip(lines[0::3], lines[1::3], lines[2::3], strict=False):
            if path in spellings(moved):
                return spellings(meant), by, ""
            if path in spellings(meant) and by != ":":  # ":" is the administrator's own diversion
                return spellings(path), "", by
        return spellings(path), "", ""

    def _names(self, paths: list[str]) -> Iterator[str]:
        """Yield the lists with a line that is one of the paths."""
        wanted = [b"\n" + os.fsencode(path) + b"\n" for path in paths]
        with os.scandir(self._directory / "info") as entries:
            for entry in entries:
                if entry.name.endswith(".list") and entry.stat().st_size:
                    with open(entry.path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as text:
                        # The first line is `/.`: each path has a line end before it.
                        if any(text.find(line) >= 0 for line in wanted):
                            yield entry.name


class Rpm:
    """Red Hat's, in its SQLite form."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def stamp(self) -> tuple[int, ...]:
        return _times(self._path, self._path.with_name(self._path.name + "-wal"))

    def owner(self, path: str) -> str:
        uri = f"file:{self._path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            for spelled in spellings(path):
                directory, _, name = spelled.rpartition("/")
                query = "select p.blob, b.idx from Basenames b join Packages p on p.hnum = b.hnum where b.key = ?"
                for blob, index in database.execute(query, (name,)):
                    package = holds(blob, index, directory + "/", name)
                    if package:
                        return package
        return ""


def spellings(path: str) -> list[str]:
    """Return how a database may call a path on a host where /bin is /usr/bin."""
    top, _, rest = path.removeprefix("/usr/").partition("/")
    if path.startswith("/usr/") and top in MERGED and rest and os.path.realpath(f"/{top}") == f"/usr/{top}":
        return [path, f"/{top}/{rest}"]
    return [path]


def holds(blob: bytes, index: int, directory: str, name: str) -> str:
    """Return the name of a package if file `index` of its header is in `directory` and called `name`.

    Raises:
        ValueError, struct.error: this is no header.
    """
    entries, size = struct.unpack_from(">II", blob)
    if size > MAX_HEADER or 8 + 16 * entries + size > len(blob):
        raise ValueError("not an rpm header")
    data = 8 + 16 * entries
    at = {}
    for i in range(entries):
        tag, _kind, offset, count = struct.unpack_from(">IIII", blob, 8 + 16 * i)
        at[tag] = (data + offset, count)
    if not {NAME, DIRINDEXES, BASENAMES, DIRNAMES} <= at.keys() or index >= at[BASENAMES][1]:
        return ""
    (which,) = struct.unpack_from(">I", blob, at[DIRINDEXES][0] + 4 * index)
    found = (_string(blob, *at[DIRNAMES], which), _string(blob, *at[BASENAMES], index))
    return _string(blob, *at[NAME], 0) if found == (directory, name) else ""


def _string(blob: bytes, start: int, count: int, index: int) -> str:
    """Return one of an array of strings, each with NUL at its end."""
    if index >= count:
        raise ValueError("not an rpm header")
    for _ in range(index):
        start = blob.index(b"\0", start) + 1
    return blob[start : blob.index(b"\0", start)].decode(errors="surrogateescape")


def _times(*paths: Path) -> tuple[int, ...]:
    """Return when files were changed last; nothing when the first is not there."""
    found: list[int] = []
    for path in paths:
        try:
            at = path.stat()
        except OSError:
            if not found:
                return ()
            found.append(0)
        else:
            found += [at.st_mtime_ns, at.st_ino]
    return tuple(found)
