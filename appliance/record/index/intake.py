"""Frames into the index: summed up by session, with the names and texts a session is found by."""

import sqlite3
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import cast

import msgspec
from msgspec.structs import astuple

from appliance.model import Flow, Side, Spent
from appliance.record.chain import Item, runs
from appliance.record.frame import FORMAT, HEAD, MAX_FRAME, UNREADABLE, BadFrame, is_length, is_time
from appliance.record.index.kept import Kept
from appliance.record.index.schema import MICROS
from appliance.record.index.seen import Frames, Notes, Ruled, Seen, seen
from appliance.record.index.words import MAX_TEXT, fit, of_process, of_tally, pieces, squeezed
from appliance.record.packed import Packed, is_packed
from appliance.record.read import OnTorn, decode_frame, torn
from appliance.record.session import MASK, MAX_NAMES, Tally
from appliance.record.whose import is_foreign, own

STEP = 20_000  # frames in one transaction; some ten MB of memory, and what a killed rebuild has to do again
TEXTS = 2_000  # put in at a time; some milliseconds in which compiled code lets no other thread run
DIGEST = 16  # bytes; nobody makes two texts with the same one, so as to hide one behind the other

_TALLY = msgspec.json.Decoder(Tally)
_KNOWN = "SELECT number, tally FROM sessions WHERE id = ?"
_PUT = "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)"
_TEXT = "INSERT OR IGNORE INTO texts (digest, statement, value) VALUES (?, ?, ?)"
_NUMBER = "SELECT number FROM texts WHERE digest = ?"
_TOLD, _ASKED = (blake2b(digest_size=DIGEST, salt=b"%d" % statement) for statement in (False, True))


class One:
    """What a batch has of one session. Sums are kept here, and put into the tally at the end."""

    def __init__(self, number: int, tally: Tally) -> None:
        self.number, self.tally, self.verdicts = number, tally, tally.verdicts
        self.last = tally.last
        self.messages, self.bytes, self.rows, self.masked = tally.messages, tally.bytes, tally.rows, tally.masked
        spent = tally.spent
        self.parse, self.policy, self.hold, self.upstream = spent.parse, spent.policy, spent.hold, spent.upstream
        self.timed = False
        self.offsets: array[int] = array("Q")
        self.names: set[tuple[str, str]] = set()
        self.facts: set[bytes] = set()  # whose names are among them
        self.asked: set[str] = set()  # as the client said it
        self.told: set[str] = set()  # what else was said
        self.texts: set[tuple[bool, str]] = set()  # of long ones, the pieces

    def add(self, start: int, fields: Frames, kept: Kept) -> None:
        """Take in the next frame, which is at `start`.

        Raises:
            msgspec.DecodeError: it is none; nothing of it is taken in.
        """
        _, when, _, said, dropped, flow, _, _, _ = fields
        note = cast(Notes, astuple(said))
        kind, text, side, _, raw, decided, _, identity, target, protocol = note[:10]
        size, found, columns, spent = note[14], note[15], note[16], note[18]
        ruled = kept.ruled(decided) if decided else None
        facts = bytes(found) if found else b""
        names = kept.names(facts) if facts and facts not in self.facts else ()
        if columns:
            kept.check(columns)
        if spent is not None and not is_length(spent.parse + spent.policy + spent.hold + spent.upstream):
            raise msgspec.DecodeError("times that nobody spends")
        self.last = max(self.last, when)
        if flow is not None:
            self._meet(flow)
        if identity or target or protocol:
            self._called(identity, target, protocol)
        self.bytes += len(raw) + size + dropped
        if spent is not None:
            self._spend(spent)
        if kind == "message":
            self._message(note)
        elif ruled is not None and kind in ("decision", "asked"):
            self._decided(ruled)
        elif kind == "answered":
            self._answered(said.by)
        elif kind == "closed":
            self.tally.ended = when
        if names:
            self.facts.add(facts)
            self.names.update(names)
        if text and kind != "opened":  # that is addresses, found otherwise
            self._say(text, side is Side.CLIENT if kind == "message" else kind in ("decision", "asked"))
        self.offsets.append(start)

    def summed(self) -> Tally:
        """Return the tally with all that was taken in."""
        tally = self.tally
        tally.last, tally.messages, tally.bytes = self.last, self.messages, self.bytes
        tally.rows, tally.masked = self.rows, self.masked
        if self.timed:  # else it stays the very object it was: what is left out of JSON goes by that
            tally.spent = Spent(self.parse, self.policy, self.hold, self.upstream)
        return tally

    def said(self) -> Iterator[tuple[bool, str]]:
        """Yield all texts, and whether each is a statement (as far as that is kept together)."""
        yield from self.texts
        for texts, asked in ((self.asked, True), (self.told, False)):
            for text in texts:
                short = fit(squeezed(text))
                if short:
                    yield asked, short

    def _meet(self, flow: Flow) -> None:
        self.tally.meet(flow)
        if flow.source:
            self.names.add(("sha256", flow.source.rpartition(":")[2]))
        if flow.process:
            self.names.update(of_process(flow.process))

    def _called(self, identity: str, target: str, protocol: str) -> None:
        tally = self.tally
        if identity:
            tally.identity = identity
            self.names.add(("who", identity))
        if target:
            tally.target = target
            self.names.add(("to", target))
        tally.protocol = protocol or tally.protocol

    def _spend(self, spent: Spent) -> None:
        parse, policy, hold, upstream = cast(tuple[float, float, float, float], astuple(spent))
        self.timed = True
        self.parse += parse
        self.policy += policy
        self.hold += hold
        self.upstream += upstream

    def _message(self, note: Notes) -> None:
        side, count, masked = note[2], note[10], note[11]
        self.messages += count if count > 1 else 1
        if count and side is Side.SERVER:
            self.rows += count
        if masked:
            self.masked += masked
            for rule in note[12]:
                if rule not in self.tally.masking:
                    self._count(MASK, rule)
                    self.tally.masking.add(rule)

    def _decided(self, ruled: Ruled) -> None:
        tally = self.tally
        self._count(ruled.verdict, ruled.rule)
        revision, revisions = ruled.revision, tally.revisions
        if revision and revision not in revisions and len(revisions) < MAX_NAMES:
            revisions.append(revision)
        if tally.masking:
            tally.masking = set()

    def _answered(self, by: str) -> None:
        known = self.tally.answered_by
        if by:
            self.names.add(("by", by))
            if by not in known and len(known) < MAX_NAMES:
                known.append(by)

    def _count(self, verdict: str, rule: str) -> None:
        rules = self.verdicts.get(verdict)
        if rules is None:
            rules = self.verdicts[verdict] = {}
        rules[rule] = rules.get(rule, 0) + 1

    def _say(self, text: str, asked: bool) -> None:
        if len(text) <= MAX_TEXT:
            (self.asked if asked else self.told).add(text)
            return
        for number, piece in enumerate(pieces(text)):
            if piece:
                self.texts.add((asked and not number, piece))


class Batch:
    """New frames of one log. `take` them, then `save`, inside one transaction."""

    def __init__(self, db: sqlite3.Connection, path: Path, format: int, sequence: int, kept: Kept) -> None:
        """`sequence` is due next."""
        self._db, self._path, self._format, self._due, self._kept = db, path, format, sequence, kept
        self._own = own(path.name.partition(".")[0])
        self._sessions: dict[str, One] = {}
        self._taken: set[int] = set()  # numbers given to sessions that are not saved yet
        self._end = self._last = 0  # of the last frame: where it ends, its number
        self.count = 0

    def run(self, start: int, data: bytes, ends: list[int], most: int) -> None:
        """Take in frames that follow one another in `data`, which begins at `start`, as far as `most` go into it.

        Raises:
            BadFrame: one is none; those before it are in.
        """
        at = 0
        for end in ends:
            if self.count >= most:
                return
            self.take(start + at, start + end, data[at + HEAD : end])
            at = end

    def item(self, item: Item) -> None:
        """Take in an item."""
        if item.gap:
            self._due += item.count
        else:
            self.take(item.start, item.end, item.body)

    def take(self, start: int, end: int, body: bytes) -> None:
        """Take in a frame."""
        try:
            frame = seen.decode(body if self._format == FORMAT else self._migrated(start, end, body))
            fields = cast(Frames, astuple(frame))
            if fields[0] != self._due:
                raise BadFrame(self._path, start, f"frame {fields[0]} where {self._due} was due")
            if not is_time(fields[1]) or (fields[5] is not None and not is_time(fields[5].opened)):
                raise BadFrame(self._path, start, f"frame {fields[0]} is of no time there is")
            if not 0 <= fields[4] <= MAX_FRAME:
                raise BadFrame(self._path, start, f"frame {fields[0]} says that {fields[4]} bytes were not kept of it")
            one = self._sessions.get(fields[2])
            if one is None:
                if is_foreign(frame.id, self._own):
                    raise BadFrame(self._path, start, f"frame of session {frame.id}, which is another worker's")
                one = self._meet(frame)
            one.add(start, fields, self._kept)
        except UNREADABLE as error:
            raise BadFrame(self._path, start, f"not a frame: {error}") from None
        self._sessions[frame.id] = one
        self._last = self._due
        self._due += 1
        self._end = end
        self.count += 1

    def save(self, begun: float, inode: int) -> None:
        """Write it all; `begun` is when the log was begun."""
        if not self.count:
            return
        db, found = self._db, self._sessions.values()
        file = self._number(begun, inode)
        tallies = [(one.number, one.summed()) for one in found]
        rows = [(number, tally.id, tally.last, msgspec.json.encode(tally).decode()) for number, tally in tallies]
        db.executemany(_PUT, rows)
        parts = [(one.number, file, one.offsets.tobytes()) for one in found]
        db.executemany("INSERT INTO parts VALUES (?, ?, ?)", parts)
        self._save_names()
        self._save_texts(file)

    def _migrated(self, start: int, end: int, body: bytes) -> bytes:
        """Return a frame of an older format as one of today's."""
        item = Item(start, end, bytes(HEAD) + body)
        return msgspec.msgpack.encode(decode_frame(self._path, item, self._format))

    def _meet(self, frame: Seen) -> One:
        row = self._db.execute(_KNOWN, (frame.id,)).fetchone()
        if row:
            return One(row[0], _TALLY.decode(row[1]))
        number = int((frame.flow.opened if frame.flow else frame.time) * MICROS)
        query = "SELECT 1 FROM sessions WHERE number = ?"
        while number in self._taken or self._db.execute(query, (number,)).fetchone():
            number += 1
        self._taken.add(number)
        return One(number, Tally(frame.id, frame.time, frame.time))

    def _number(self, begun: float, inode: int) -> int:
        """Note how far the log is read; return its number."""
        name = self._path.name
        row = self._db.execute("SELECT number FROM files WHERE name = ?", (name,)).fetchone()
        values = (row[0] if row else None, name, begun, self._end, self._last, inode)
        done = self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", values)
        return row[0] if row else done.lastrowid or 0

    def _save_names(self) -> None:
        numbers: dict[tuple[str, str], int] = {}
        rows = []
        for one in self._sessions.values():
            for name in (*one.names, *of_tally(one.tally)):
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
        """Put in the texts, and who said which; so many at a time that other threads have their turn."""
        digests: dict[tuple[bool, str], bytes] = {}
        said: list[tuple[bytes, int]] = []
        for one in self._sessions.values():
            for text in one.said():
                digest = digests.get(text)
                if digest is None:
                    digest = digests[text] = _digest(*text)
                said.append((digest, one.number))
                if len(said) >= TEXTS:
                    self._save_said(digests, said, file)
                    digests, said = {}, []
        self._save_said(digests, said, file)

    def _save_said(self, digests: dict[tuple[bool, str], bytes], said: list[tuple[bytes, int]], file: int) -> None:
        numbers = self._numbers(sorted((digest, *text) for text, digest in digests.items()))
        rows = [(numbers[digest], session, file) for digest, session in said]
        self._db.executemany("INSERT OR IGNORE INTO said VALUES (?, ?, ?)", sorted(rows))

    def _numbers(self, rows: list[tuple[bytes, bool, str]]) -> dict[bytes, int]:
        """Put in texts, those that are new, and return the numbers of all by digest."""
        db = self._db
        before = db.execute("SELECT coalesce(max(number), 0) FROM texts").fetchone()[0]
        changes = db.total_changes
        db.executemany(_TEXT, rows)
        new = db.total_changes - changes
        db.execute("INSERT INTO words (rowid, value) SELECT number, value FROM texts WHERE number > ?", (before,))
        if new == len(rows):  # numbers are given in the order of the rows
            return {row[0]: before + 1 + place for place, row in enumerate(rows)}
        numbers: dict[bytes, int] = {}
        for row in rows:
            numbers[row[0]] = db.execute(_NUMBER, row[:1]).fetchone()[0]
        return numbers


def _digest(statement: bool, text: str) -> bytes:
    taken = (_ASKED if statement else _TOLD).copy()
    taken.update(text.encode("utf-8", "surrogatepass"))
    return taken.digest()


def fill(batch: Batch, path: Path, start: int, most: int, on_torn: OnTorn) -> None:
    """Take in what is in a log from `start` on, as far as `most` frames go.

    Raises:
        BadFrame: it holds what no worker wrote; what came before that is in.
    """
    with path.open("rb") as file:
        if is_packed(file):
            for item in Packed(path, file).items(start):
                batch.item(item)
                if batch.count >= most:
                    return
            return
        for run in runs(path, file, start, torn(path, on_torn)):
            if run.gap is not None:
                batch.item(run.gap)
            batch.run(run.start, run.data, run.ends, most)
            if batch.count >= most:
                return
