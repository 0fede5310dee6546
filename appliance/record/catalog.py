"""What is in each sealed segment, session by session: for retention, and what was shipped. An SQLite file.

It holds nothing that the segments do not, but what was shipped: made anew when it is lost, and then what was
shipped is asked for again.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from appliance.record.brief import Brief, briefs
from appliance.record.chain import Item
from appliance.record.frame import NAME, UNREADABLE
from appliance.record.parts import Parts

FORMAT = 1  # in PRAGMA user_version
FLUSH = 5_000  # sessions summed up before they are written; some MB
WAIT_S = 10.0  # for the lock of another process
IMPORT = "import-"  # how the names of segments begin that have what happened elsewhere, and long ago

SCHEMA = """
CREATE TABLE segments (name TEXT PRIMARY KEY, bytes INTEGER, live INTEGER, last REAL, shipped INTEGER)
    WITHOUT ROWID;
CREATE TABLE sessions (id TEXT PRIMARY KEY, identity TEXT, rules TEXT, epoch INTEGER, scope INTEGER,
    sequence INTEGER) WITHOUT ROWID;
CREATE TABLE parts (segment TEXT, session TEXT, frames INTEGER, bytes INTEGER, first REAL, last REAL,
    PRIMARY KEY (segment, session)) WITHOUT ROWID;
CREATE INDEX by_session ON parts (session);
CREATE INDEX by_last ON parts (last);
"""
_PART = """INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET frames = frames + excluded.frames,
    bytes = bytes + excluded.bytes, first = min(first, excluded.first), last = max(last, excluded.last)"""


def brief(item: Item) -> Brief | None:
    """Return it of a frame; None for what only a worker that was taken over would write."""
    try:
        return briefs.decode(item.body)
    except UNREADABLE:
        return None


class Catalog:
    """The file at `path`. Any thread; calls wait for one another."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            self.db = _connect(path)
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            self.db = _connect(path)

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> sqlite3.Connection:
        """Begin a change, all or nothing."""
        self._lock.acquire()
        try:
            self.db.execute("BEGIN IMMEDIATE")
        except BaseException:
            self._lock.release()
            raise
        return self.db

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self.db.in_transaction:
                self.db.execute("COMMIT" if kind is None else "ROLLBACK")
        finally:
            self._lock.release()

    def names(self) -> set[str]:
        """Return the segments it knows."""
        return {name for (name,) in self.rows("SELECT name FROM segments")}

    def rows(self, query: str, *values: str | float) -> list[tuple[Any, ...]]:
        with self._lock:
            return self.db.execute(query, values).fetchall()

    def put(self, name: str, size: int, items: Iterable[Item]) -> None:
        """Take in a segment whose file has `size` bytes."""
        with self as db:
            _begin(db, name)
            parts = Parts(FLUSH + 1)
            for number, item in enumerate(items):
                said = brief(item) if number and not item.gap else None
                if said:
                    parts.add(said.id, said.time, said.note, said.flow, item.end - item.start)
                    if len(parts.of) >= FLUSH:
                        _flush(db, name, parts)
            _flush(db, name, parts)
            _end(db, name)
        self.sized(name, size)

    def take(self, name: str, size: int, parts: Parts) -> None:
        """Take in a segment whose file has `size` bytes, by what it has of each session."""
        with self as db:
            _begin(db, name)
            _flush(db, name, parts)
            _end(db, name)
        self.sized(name, size)

    def sized(self, name: str, size: int) -> None:
        """Note how many bytes the file of a segment has, for what is left in it."""
        with self as db:
            live = db.execute("SELECT coalesce(sum(bytes), 0) FROM parts WHERE segment = ?", (name,)).fetchone()[0]
            db.execute("UPDATE segments SET bytes = ?, live = ? WHERE name = ?", (size, live, name))

    def taken(self, name: str, sessions: Iterable[str]) -> None:
        """Forget what a segment had of these sessions, and sessions nothing is left of."""
        with self as db:
            _take(db, name, sessions)

    def dropped(self, name: str) -> None:
        """Forget a segment."""
        with self as db:
            ids = [id for (id,) in db.execute("SELECT session FROM parts WHERE segment = ?", (name,))]
            _take(db, name, ids)
            db.execute("DELETE FROM segments WHERE name = ?", (name,))

    def define(self, name: str, function: Callable[..., float]) -> None:
        """Have a function of ours in queries."""
        with self._lock:
            self.db.create_function(name, 1, function)


def imported(name: str) -> float:
    """Return when a segment was imported, by its name (unix seconds): how long it is kept counts from then."""
    found = NAME.fullmatch(name) if name.startswith(IMPORT) else None
    return int(found[2]) / 1000 if found else 0.0


def _take(db: sqlite3.Connection, name: str, sessions: Iterable[str]) -> None:
    for id in sessions:
        db.execute("DELETE FROM parts WHERE segment = ? AND session = ?", (name, id))
        if not db.execute("SELECT 1 FROM parts WHERE session = ? LIMIT 1", (id,)).fetchone():
            db.execute("DELETE FROM sessions WHERE id = ?", (id,))


def _begin(db: sqlite3.Connection, name: str) -> None:
    db.execute("DELETE FROM parts WHERE segment = ?", (name,))


def _end(db: sqlite3.Connection, name: str) -> None:
    last = db.execute("SELECT max(last) FROM parts WHERE segment = ?", (name,)).fetchone()[0]
    db.execute("INSERT INTO segments VALUES (?, 0, 0, ?, 0) ON CONFLICT DO UPDATE SET last = excluded.last",
               (name, last or 0.0))  # fmt: skip


def _flush(db: sqlite3.Connection, name: str, parts: Parts) -> None:
    since = imported(name)
    for id, part in parts.of.items():
        row = db.execute("SELECT identity, rules, epoch, scope, sequence FROM sessions WHERE id = ?", (id,)).fetchone()
        identity, rules, *flow = row or ("", "", 0, 0, 0)
        if part.sequence:
            flow = [part.epoch, part.scope, part.sequence]
        words = " ".join(sorted({*rules.split(), *part.rules}))
        db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
                   (id, part.identity or identity, words, *flow))  # fmt: skip
        db.execute(_PART, (name, id, part.frames, part.bytes, part.first, max(part.last, since)))
    parts.of.clear()


def _connect(path: Path) -> sqlite3.Connection:
    path.touch(mode=0o600)
    db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        format = db.execute("PRAGMA user_version").fetchone()[0]
        if format == 0:
            db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif format != FORMAT:
            raise sqlite3.DatabaseError(f"a catalog of format {format}")
    except BaseException:
        db.close()
        raise
    return db
