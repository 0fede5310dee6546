"""Out of the index again: what is known from logs, or parts of logs, that are gone."""

import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Sequence

from appliance.record.index.schema import Transaction


def forget(db: sqlite3.Connection, file: str) -> None:
    """Drop what is known from a log that is gone, and the sessions nothing is left of."""
    with Transaction(db):
        row = db.execute("SELECT number FROM files WHERE name = ?", (file,)).fetchone()
        if row is None:
            return
        (number,) = row
        sessions = [one for (one,) in db.execute("SELECT DISTINCT session FROM parts WHERE file = ?", (number,))]
        db.execute("DELETE FROM parts WHERE file = ?", (number,))
        db.execute("DELETE FROM files WHERE number = ?", (number,))
        for session in sessions:
            _unsay(db, session, number)
            if not db.execute("SELECT 1 FROM parts WHERE session = ?", (session,)).fetchone():
                _drop(db, session)


def thin_out(db: sqlite3.Connection, file: str, inode: int, gaps: Sequence[tuple[int, int]]) -> None:
    """Drop what retention took out of a log, whole sessions at a time: what stood between each two offsets."""
    (number,) = db.execute("SELECT number FROM files WHERE name = ?", (file,)).fetchone()
    starts = [start for start, _ in gaps]
    rows = db.execute("SELECT rowid, session, offsets FROM parts WHERE file = ?", (number,)) if gaps else ()
    gone = [(row, session) for row, session, offsets in rows if _inside(array("Q", offsets)[0], starts, gaps)]
    db.executemany("DELETE FROM parts WHERE rowid = ?", [(row,) for row, _ in gone])
    for session in {session for _, session in gone}:
        if not db.execute("SELECT 1 FROM parts WHERE session = ? AND file = ?", (session, number)).fetchone():
            _unsay(db, session, number)
        if not db.execute("SELECT 1 FROM parts WHERE session = ?", (session,)).fetchone():
            _drop(db, session)
    db.execute("UPDATE files SET inode = ? WHERE number = ?", (inode, number))


def _inside(offset: int, starts: Sequence[int], gaps: Sequence[tuple[int, int]]) -> bool:
    place = bisect_right(starts, offset) - 1
    return place >= 0 and offset < gaps[place][1]


def _unsay(db: sqlite3.Connection, session: int, file: int) -> None:
    """Forget the texts a session said in one log; with the last that said it, the text itself."""
    here = (session, file)
    texts = db.execute("SELECT text FROM said WHERE session = ? AND file = ?", here).fetchall()
    db.execute("DELETE FROM said WHERE session = ? AND file = ?", here)
    for text in texts:
        if not db.execute("SELECT 1 FROM said WHERE text = ?", text).fetchone():
            (value,) = db.execute("SELECT value FROM texts WHERE number = ?", text).fetchone()
            db.execute("INSERT INTO words (words, rowid, value) VALUES ('delete', ?, ?)", (*text, value))
            db.execute("DELETE FROM texts WHERE number = ?", text)


def _drop(db: sqlite3.Connection, session: int) -> None:
    names = db.execute("SELECT name FROM has WHERE session = ?", (session,)).fetchall()
    db.execute("DELETE FROM sessions WHERE number = ?", (session,))
    db.execute("DELETE FROM has WHERE session = ?", (session,))
    for name in names:
        if not db.execute("SELECT 1 FROM has WHERE name = ?", name).fetchone():
            db.execute("DELETE FROM names WHERE number = ?", name)
