"""The tables of the index.

A session is numbered by the microsecond in which it began (the next free one if two did), so its number sorts
by time and every list of numbers can be walked from the newest. What it is found by are names of some kind
(`who`, `exe`, `table`, ...), each kept once, and texts, each kept once and taken apart into words by FTS5;
`has` and `said` tell which session has which.
"""

import os
import sqlite3
from pathlib import Path

FORMAT = 2  # in PRAGMA user_version
WAIT_S = 10.0  # for the lock of another process that writes the index
MICROS = 1_000_000  # a session's number is its begin in these

SCHEMA = """
CREATE TABLE files (number INTEGER PRIMARY KEY, name TEXT UNIQUE, begun REAL, offset INTEGER, sequence INTEGER,
    inode INTEGER);
CREATE TABLE sessions (number INTEGER PRIMARY KEY, id TEXT UNIQUE, last REAL, tally TEXT);
CREATE INDEX by_last ON sessions (last);
CREATE TABLE names (number INTEGER PRIMARY KEY, kind TEXT, value TEXT, UNIQUE (kind, value));
CREATE TABLE has (name INTEGER, session INTEGER, PRIMARY KEY (name, session)) WITHOUT ROWID;
CREATE INDEX by_owner ON has (session);
CREATE TABLE texts (number INTEGER PRIMARY KEY, digest BLOB UNIQUE, statement INTEGER, value TEXT);
CREATE TABLE said (text INTEGER, session INTEGER, file INTEGER, PRIMARY KEY (text, session, file)) WITHOUT ROWID;
CREATE INDEX by_speaker ON said (session, file);
CREATE VIRTUAL TABLE words USING fts5(value, content = 'texts', content_rowid = 'number', columnsize = 0,
    tokenize = "unicode61 remove_diacritics 0 tokenchars '_'");
CREATE TABLE parts (session INTEGER, file INTEGER, offsets BLOB);
CREATE INDEX by_session ON parts (session);
CREATE INDEX by_file ON parts (file)
"""


class Stale(Exception):
    """The index is of another format, or a log is not what it was: nothing in it can be relied on."""


class Transaction:
    """All of what is done inside, or none of it. No other process writes meanwhile."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._db.in_transaction:  # SQLite itself rolls back on some errors, a full disk among them
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def connect(path: Path) -> sqlite3.Connection:
    """Open the index, made if there is none.

    Raises:
        Stale: it is of another format.
        sqlite3.DatabaseError: it is none.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        with Transaction(db):
            format = db.execute("PRAGMA user_version").fetchone()[0]
            if format == 0:
                for statement in SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {FORMAT}")
            elif format != FORMAT:
                raise Stale(f"an index of format {format}")
    except BaseException:
        db.close()
        raise
    return db


def remove(path: Path) -> None:
    """Throw the index away."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
