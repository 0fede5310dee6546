"""Which sessions there are, and where their frames are: an SQLite file made from the logs.

It holds nothing that the logs do not, so it is thrown away and made again when it is lost, damaged, of
another format, or when a log became shorter than it was. `catch_up` reads only what was appended since.
"""

import heapq
import operator
import os
import sqlite3
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from appliance.model import HostError
from appliance.record.frame import BadFrame, Frame, segments
from appliance.record.read import Placed, Torn, at, extent, header, segment
from appliance.record.session import Filter, Session, Tally

FORMAT = 1  # in PRAGMA user_version
STEP = 20_000  # frames in one transaction; some ten MB of memory, and what a killed rebuild has to do again
OPEN_FILES = 32  # segments open at once while sessions are read
WAIT_S = 10.0  # for the lock of another process that writes the index

SCHEMA = """
CREATE TABLE files (name TEXT PRIMARY KEY, begun REAL, offset INTEGER, sequence INTEGER);
CREATE TABLE sessions (id TEXT PRIMARY KEY, started REAL, last REAL, identity TEXT, cgroup TEXT, exe TEXT,
    program TEXT, target TEXT, server TEXT, host TEXT, verdicts TEXT, tally TEXT) WITHOUT ROWID;
CREATE INDEX by_start ON sessions (started);
CREATE TABLE parts (session TEXT, file TEXT, offsets BLOB);
CREATE INDEX by_session ON parts (session);
CREATE INDEX by_file ON parts (file);
"""
CONDITIONS = (  # field of Filter -> condition
    ("id", "id >= :id AND id < :id || char(1114111)"),
    ("who", "(identity GLOB :who OR cgroup GLOB :who)"),
    ("exe", "(exe GLOB :exe OR program GLOB :exe)"),
    ("to", "(target GLOB :to OR server GLOB :to OR host GLOB :to)"),
    ("verdict", "instr(verdicts, ' ' || :verdict || ' ')"),
    ("since", "last >= :since"),
    ("until", "started <= :until"),
)


_KNOWN = "SELECT begun, offset, sequence FROM files WHERE name = ?"
_PUT = f"INSERT OR REPLACE INTO sessions VALUES ({', '.join('?' * 12)})"
_TALLY = msgspec.json.Decoder(Tally)


class Caught(msgspec.Struct, frozen=True, gc=False):
    """What one catching up found."""

    frames: int  # new ones
    torn: int  # segments that end in the middle of a frame
    bad: tuple[str, ...] = ()  # what was said of segments that could not be read to their end
    rebuilt: bool = False


class _Stale(Exception):
    """The index is of another format, or a log is not what it was: nothing in it can be relied on."""


class Index:
    """The index at `path` over the logs in `directory`. Any thread; calls wait for one another."""

    def __init__(self, path: Path, directory: Path) -> None:
        self._path, self._directory = path, directory
        self._lock = threading.Lock()
        self._db = self._open()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def catch_up(self) -> Caught:
        """Take in what was appended to the logs, and forget logs that are gone.

        Raises:
            HostError: the index cannot be written.
        """
        with self._lock:
            try:
                return self._catch_up()
            except sqlite3.OperationalError as error:
                raise HostError(f"{self._path}: {error}", "the logs are whole without it") from error
            except (_Stale, sqlite3.DatabaseError):
                self._db.close()
                _remove(self._path)
                self._db = self._open()
                return msgspec.structs.replace(self._catch_up(), rebuilt=True)

    def sessions(self, wanted: Filter) -> list[Session]:
        """Return the sessions that match, the newest first, as of the last catching up."""
        given = [(name, sql) for name, sql in CONDITIONS if getattr(wanted, name) not in ("", None)]
        where = " AND ".join(sql for _, sql in given) or "1"
        values = {name: getattr(wanted, name) for name, _ in given} | {"most": wanted.limit or -1}
        query = f"SELECT tally FROM sessions WHERE {where} ORDER BY started DESC, id DESC LIMIT :most"
        with self._lock:
            rows = self._db.execute(query, values).fetchall()
        return [_TALLY.decode(row[0]).session() for row in rows]

    def frames(self, ids: Sequence[str]) -> Iterator[Frame]:
        """Yield the frames of the sessions named, by time; what retention dropped is left out.

        Raises:
            BadFrame: a log holds what no worker wrote.
        """
        files = _Files(self._directory)
        try:
            streams = [self._frames(id, files) for id in dict.fromkeys(ids)]
            yield from heapq.merge(*streams, key=operator.attrgetter("time"))
        finally:
            files.close()

    def _frames(self, id: str, files: "_Files") -> Iterator[Frame]:
        with self._lock:
            query = "SELECT file, offsets FROM parts WHERE session = ? ORDER BY rowid"
            rows = self._db.execute(query, (id,)).fetchall()
        for name, offsets in rows:
            for offset in array("Q", offsets):
                file = files.get(name)
                frame = at(self._directory / name, file, offset) if file is not None else None
                if frame is not None:  # else retention took it
                    yield frame

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except sqlite3.OperationalError as error:
            raise HostError(f"{self._path}: {error}") from error
        except (_Stale, sqlite3.DatabaseError):
            _remove(self._path)
            return _connect(self._path)

    def _catch_up(self) -> Caught:
        frames = 0
        torn: set[Path] = set()
        bad: list[str] = []
        present = [Path(one.path) for one in segments(self._directory)]
        self._forget({path.name for path in present})
        for path in present:
            try:
                while got := self._step(path, lambda end: torn.add(end.file)):
                    frames += got
            except FileNotFoundError:
                continue  # dropped by retention; forgotten the next time
            except BadFrame as error:
                bad.append(str(error))
        return Caught(frames, len(torn), tuple(bad))

    def _forget(self, present: set[str]) -> None:
        """Drop what is known from logs that are gone, and the sessions nothing is left of."""
        gone = [(name,) for (name,) in self._db.execute("SELECT name FROM files") if name not in present]
        if not gone:
            return
        with _Transaction(self._db):
            self._db.executemany("DELETE FROM parts WHERE file = ?", gone)
            self._db.executemany("DELETE FROM files WHERE name = ?", gone)
            self._db.execute("DELETE FROM sessions WHERE id NOT IN (SELECT session FROM parts)")

    def _step(self, path: Path, on_torn: Callable[[Torn], object]) -> int:
        """Take in the next frames of one log; return how many, 0 at its end."""
        with _Transaction(self._db):
            known = self._db.execute(_KNOWN, (path.name,)).fetchone()
            begun, offset, before = known or (0.0, 0, None)
            size = extent(path)
            if size == offset:
                return 0
            top = header(path)
            if known and (size < offset or top is None or top.begun != begun):
                raise _Stale(f"{path} is not what it was")
            batch = _Batch(self._db, path.name)
            try:
                for placed in islice(segment(path, on_torn, offset, before), STEP):
                    batch.add(placed)
            except BadFrame:
                if not batch.count:
                    raise  # else the next step meets it again, with what came before it taken in
            if top is not None and batch.count:
                batch.save(top.begun)
        return batch.count


class _Batch:
    """New frames of one log, summed up by session."""

    def __init__(self, db: sqlite3.Connection, file: str) -> None:
        self._db, self._file = db, file
        self._tallies: dict[str, Tally] = {}
        self._offsets: dict[str, array[int]] = {}
        self._last: Placed | None = None
        self.count = 0

    def add(self, placed: Placed) -> None:
        frame = placed.frame
        tally = self._tallies.get(frame.id)
        if tally is None:
            row = self._db.execute("SELECT tally FROM sessions WHERE id = ?", (frame.id,)).fetchone()
            tally = _TALLY.decode(row[0]) if row else Tally(frame.id, frame.time, frame.time)
            self._tallies[frame.id] = tally
            self._offsets[frame.id] = array("Q")
        tally.add(frame)
        self._offsets[frame.id].append(placed.offset)
        self._last = placed
        self.count += 1

    def save(self, begun: float) -> None:
        last = self._last
        if last is None:
            return
        self._db.executemany(_PUT, [_row(tally) for tally in self._tallies.values()])
        parts = [(id, self._file, found.tobytes()) for id, found in self._offsets.items()]
        self._db.executemany("INSERT INTO parts VALUES (?, ?, ?)", parts)
        values = (self._file, begun, last.end, last.frame.sequence)
        self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", values)


class _Transaction:
    """All of what is done inside, or none of it. No other process writes meanwhile."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._db.in_transaction:  # SQLite itself rolls back on some errors, a full disk among them
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")


class _Files:
    """Logs opened for reading, the last used OPEN_FILES of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: OrderedDict[str, BinaryIO] = OrderedDict()

    def get(self, name: str) -> BinaryIO | None:
        """Return the log, or None if it is gone."""
        file = self._open.pop(name, None)
        if file is None:
            try:
                file = (self._directory / name).open("rb")
            except FileNotFoundError:
                return None
        self._open[name] = file
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        with _Transaction(db):
            format = db.execute("PRAGMA user_version").fetchone()[0]
            if format == 0:
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {FORMAT}")
            elif format != FORMAT:
                raise _Stale(f"an index of format {format}")
    except BaseException:
        db.close()
        raise
    return db


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _row(tally: Tally) -> tuple[str | float, ...]:
    verdicts = " ".join(["", *tally.verdicts, ""])
    host = tally.server.rpartition(":")[0].strip("[]")
    return (
        tally.id,
        tally.started,
        tally.last,
        tally.identity,
        tally.cgroup,
        tally.exe,
        tally.program,
        tally.target,
        tally.server,
        host,
        verdicts,
        msgspec.json.encode(tally).decode(),
    )
