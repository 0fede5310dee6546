"""Frames into the index: summed up by session, with the names and texts a session is found by."""

import sqlite3
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import PurePosixPath

import msgspec

from appliance.model import Note, Process, Side
from appliance.record.index.schema import MICROS, Transaction
from appliance.record.read import Placed
from appliance.record.session import Tally

STEP = 20_000  # frames in one transaction; some ten MB of memory, and what a killed rebuild has to do again
MAX_TEXT = 8_192  # characters of a text that are kept together; a longer one is found by its words, piece by piece
MAX_PIECES = 64  # of one text; beyond its first 500,000 characters it is in the record only
OVERLAP = 64  # characters of a piece that begin the next, so that few words are cut
DIGEST = 16  # bytes; nobody makes two texts with the same one, so as to hide one behind the other
FACTS = {"table": "table", "effect": "effect"}  # key of facts -> kind of name

_TALLY = msgspec.json.Decoder(Tally)
_KNOWN = "SELECT number, tally FROM sessions WHERE id = ?"
_PUT = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)"


class _One:
    """What a batch has of one session."""

    __slots__ = ("names", "number", "offsets", "tally", "texts")

    def __init__(self, number: int, tally: Tally) -> None:
        self.number, self.tally = number, tally
        self.offsets: array[int] = array("Q")
        self.names: set[tuple[str, str]] = set()
        self.texts: set[tuple[bool, str]] = set()


class Batch:
    """New frames of one log. `add` them, then `save`, inside one transaction."""

    def __init__(self, db: sqlite3.Connection, file: str, inode: int) -> None:
        self._db, self._file, self._inode = db, file, inode
        self._sessions: dict[str, _One] = {}
        self._taken: set[int] = set()  # numbers given to sessions that are not saved yet
        self._last: Placed | None = None
        self.count = 0

    def add(self, placed: Placed) -> None:
        frame = placed.frame
        one = self._sessions.get(frame.id)
        if one is None:
            one = self._sessions[frame.id] = self._meet(placed)
        one.tally.add(frame)
        if frame.flow and frame.flow.source:
            one.names.add(("sha256", frame.flow.source.rpartition(":")[2]))
        if frame.flow and frame.flow.process:
            one.names |= set(_of_process(frame.flow.process))
        one.names |= set(_of_note(frame.note))
        one.texts |= set(_texts(frame.note))
        one.offsets.append(placed.offset)
        self._last = placed
        self.count += 1

    def _meet(self, placed: Placed) -> _One:
        frame = placed.frame
        row = self._db.execute(_KNOWN, (frame.id,)).fetchone()
        if row:
            return _One(row[0], _TALLY.decode(row[1]))
        number = int((frame.flow.opened if frame.flow else frame.time) * MICROS)
        query = "SELECT 1 FROM sessions WHERE number = ?"
        while number in self._taken or self._db.execute(query, (number,)).fetchone():
            number += 1
        self._taken.add(number)
        return _One(number, Tally(frame.id, frame.time, frame.time))

    def save(self, begun: float) -> None:
        """Write it all; `begun` is when the log was begun."""
        if self._last is None:
            return
        db, found = self._db, self._sessions.values()
        file = self._number(begun, self._last)
        rows = [(one.number, one.tally.id, one.tally.last, msgspec.json.encode(one.tally).decode()) for one in found]
        db.executemany(_PUT, rows)
        parts = [(one.number, file, one.offsets.tobytes()) for one in found]
        db.executemany("INSERT INTO parts VALUES (?, ?, ?)", parts)
        self._save_names()
        self._save_texts(file)

    def _number(self, begun: float, last: Placed) -> int:
        """Note how far the log is read; return its number."""
        row = self._db.execute("SELECT number FROM files WHERE name = ?", (self._file,)).fetchone()
        values = (row[0] if row else None, self._file, begun, last.end, last.frame.sequence, self._inode)
        done = self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", values)
        return row[0] if row else done.lastrowid or 0

    def _save_names(self) -> None:
        numbers: dict[tuple[str, str], int] = {}
        rows = []
        for one in self._sessions.values():
            for name in (*one.names, *_of_tally(one.tally)):
                if name not in numbers:
                    numbers[name] = self._name(name)
                rows.append((numbers[name], one.number))
        self._db.executemany("INSERT OR IGNORE INTO has VALUES (?, ?)", sorted(rows))

    def _name(self, name: tuple[str, str]) -> int:
        query = "SELECT number FROM names WHERE kind = ? AND value = ?"
        row = self._db.execute(query, name).fetchone()
        if row:
            return int(row[0])
        return self._db.execute("INSERT INTO names (kind, value) VALUES (?, ?)", name).lastrowid or 0

    def _save_texts(self, file: int) -> None:
        numbers: dict[tuple[bool, str], int] = {}
        rows = []
        for one in self._sessions.values():
            for text in one.texts:
                if text not in numbers:
                    numbers[text] = self._said(*text)
                rows.append((numbers[text], one.number, file))
        self._db.executemany("INSERT OR IGNORE INTO said VALUES (?, ?, ?)", sorted(rows))

    def _said(self, statement: bool, text: str) -> int:
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST, salt=b"%d" % statement).digest()
        row = self._db.execute("SELECT number FROM texts WHERE digest = ?", (digest,)).fetchone()
        if row:
            return int(row[0])
        values = (digest, statement, text)
        done = self._db.execute("INSERT INTO texts (digest, statement, value) VALUES (?, ?, ?)", values)
        self._db.execute("INSERT INTO words (rowid, value) VALUES (?, ?)", (done.lastrowid, text))
        return done.lastrowid or 0


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


# -- what a session is found by ---------------------------------------------------------------------------------


def _of_process(process: Process) -> Iterator[tuple[str, str]]:
    for image in _images(process):
        for path in (image.exe, image.script):
            if path:
                yield ("exe", fit(path))
                yield ("exe", fit(PurePosixPath(path).name))
        for digest in (image.sha256, image.script_sha256):
            if digest:
                yield ("sha256", digest)
        if image.package:
            yield ("package", fit(image.package))
        for place in (image.cgroup, image.unit, image.container):
            if place:
                yield ("who", fit(place))


def _images(process: Process | None) -> Iterator[Process]:
    while process:
        yield process
        process = process.became


def _of_note(note: Note) -> Iterator[tuple[str, str]]:
    if note.identity:
        yield ("who", note.identity)
    if note.target:
        yield ("to", note.target)
    if note.kind == "answered" and note.by:
        yield ("by", note.by)
    for key, values in note.facts:
        if key in FACTS:
            for value in values:
                yield (FACTS[key], fit(value.lower()))


def _of_tally(tally: Tally) -> Iterator[tuple[str, str]]:
    if tally.server:
        yield ("to", tally.server)
        yield ("to", tally.server.rpartition(":")[0].strip("[]"))
    for verdict, rules in tally.verdicts.items():
        yield ("verdict", verdict)
        for rule in rules:
            yield ("rule", rule)


def _texts(note: Note) -> Iterator[tuple[bool, str]]:
    """Yield what is said, and whether it is a statement (as far as that is kept together)."""
    if note.kind == "opened":
        return  # addresses, found otherwise
    asked = note.kind in ("decision", "asked") or (note.kind == "message" and note.side is Side.CLIENT)
    for number in range(MAX_PIECES):
        start = number * (MAX_TEXT - OVERLAP)
        if start and start + OVERLAP >= len(note.text):
            return
        text = fit(squeezed(note.text[start : start + MAX_TEXT]))
        if text:
            yield (asked and not number, text)


def squeezed(text: str) -> str:
    """Return a text as statements are compared: one space wherever there is any, no semicolon at the end."""
    return " ".join(text.split()).rstrip("; ")


def fit(text: str) -> str:
    """Return a text that SQLite takes: no lone surrogates, and no NUL, at which its functions would stop."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
