"""Dropping what is past its time, or too much: session by session, from sealed segments, each time with a tombstone.

    by age     what a session left in a segment is dropped when its last frame there is older than the session is
               kept: `record.retention`, or the longest `keep` of the rules that decided or masked in it
    by bytes   over `record.max_bytes`, the identity with most in the store loses what would have gone first, until
               another has more: one vendor cannot push out what is known of the others
    held       what is under legal hold stays, whatever its age and size
    unshipped  where segments are shipped, what was not acknowledged stays

A segment nothing is left of is removed; of one that keeps something, the frames are replaced by their hashes
(chain.gap), so that chain, tree and seal still hold. Either way a signed checkpoint says first how much goes,
of whom, why, and which numbers of flows are now gone for good; `verify` takes nothing as deleted that it does not say.

What is due is found by the catalog, which nobody signs, and looked up in the sealed segment before it is dropped
(proven.py).

A segment is written anew only for WORTH of its bytes, or when something in it is LATE_S past its time.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import msgspec

from appliance.record import packed, read
from appliance.record.catalog import brief
from appliance.record.chain import HASH, MAX_GAP, Item, leaf
from appliance.record.checkpoint import Deleted, Lost, Said
from appliance.record.frame import BadFrame
from appliance.record.keeper import Keeper
from appliance.record.packed import Packed
from appliance.record.parts import Part
from appliance.record.proven import Proven, proven

WORTH = 1 / 8  # of a segment's bytes; a smaller part is not worth writing the rest anew
LATE_S = 86_400.0  # nothing is kept longer past its time than a day, the age of a segment
LOW = 0.95  # of max_bytes; what is dropped at once, so that not every round drops a little
RULES = 4096  # combinations of rules of which the time is remembered
BY = "retention"


class Keep(msgspec.Struct, frozen=True):
    """How long, and how much."""

    seconds: float  # what no rule speaks of
    max_bytes: int
    rules: Mapping[str, float] = {}  # rule -> seconds
    shipped: bool = False  # only what was shipped may go


class Fed(Protocol):
    """A hash that is being made."""

    def update(self, data: bytes, /) -> object:
        """Take in more."""


class Pruned(msgspec.Struct, frozen=True, gc=False):
    """What was dropped, and what is left."""

    segments: int = 0  # removed
    thinned: int = 0  # that keep something
    frames: int = 0
    left: int = 0  # bytes, open segments included
    over: str = ""  # why it is still more than it may be
    bad: str = ""  # a segment, or the catalog, is not what it was


def prune(keeper: Keeper, keep: Keep, now: float | None = None) -> Pruned:
    """Drop what is due.

    Raises:
        OSError: a tombstone or a segment cannot be written; what was not told is not dropped.
    """
    return _Prune(keeper, keep, time.time() if now is None else now).run()


class _Prune:
    def __init__(self, keeper: Keeper, keep: Keep, now: float) -> None:
        self._keeper, self._catalog, self._keep, self._now = keeper, keeper.catalog, keep, now
        self._ids, self._identities = keeper.checkpoints.held
        self._done = Pruned()
        self._bad = ""

    def run(self) -> Pruned:
        with self._keeper.lock:
            self._keeper.checkpoints.refresh()
            self._ids, self._identities = self._keeper.checkpoints.held
            self._prepare()
            for name, why in self._aged():
                self._drop(name, why)
            for name, why in self._surplus():
                self._drop(name, why)
            left = self._size()
            over = self._over() if left > self._keep.max_bytes else ""
            return msgspec.structs.replace(self._done, left=left, over=over, bad=self._bad)

    # -- what is due ---------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Fill `doomed` with what is past its time, and `free` with what may be dropped at all."""
        self._catalog.define("kept_for", lru_cache(RULES)(self._kept_for))
        least = min([self._keep.seconds, *self._keep.rules.values()])
        with self._catalog as db:
            for table in ("held", "free", "doomed"):
                db.execute(f"DROP TABLE IF EXISTS temp.{table}")
            db.execute("CREATE TEMP TABLE held (kind TEXT, word TEXT)")
            db.executemany("INSERT INTO held VALUES ('id', ?)", [(one,) for one in self._ids])
            db.executemany("INSERT INTO held VALUES ('identity', ?)", [(one,) for one in self._identities])
            db.execute("CREATE TEMP TABLE doomed (segment TEXT, session TEXT, bytes INTEGER, until REAL, "
                       "PRIMARY KEY (segment, session)) WITHOUT ROWID")  # fmt: skip
            db.execute(
                "INSERT INTO doomed SELECT p.segment, p.session, p.bytes, p.last + kept_for(s.rules) AS until "
                f"{_FREE} AND p.last < ? AND until < ?",
                (int(self._keep.shipped), self._now - least, self._now),
            )

    def _kept_for(self, rules: str) -> float:
        said = [self._keep.rules.get(rule, self._keep.seconds) for rule in rules.split()]
        return max(said, default=self._keep.seconds)

    def _aged(self) -> list[tuple[str, str]]:
        """Return segments of which enough is past its time."""
        rows = self._catalog.rows(
            "SELECT d.segment, sum(d.bytes), min(d.until), g.live FROM temp.doomed d "
            "JOIN segments g ON g.name = d.segment GROUP BY d.segment"
        )
        return [
            (name, "past its time")
            for name, gone, first, all_ in rows
            if gone >= all_ * WORTH or first < self._now - LATE_S
        ]

    def _surplus(self) -> Iterator[tuple[str, str]]:
        """Doom what must go for its size, and yield the segments it is in."""
        excess = self._size() - self._keep.max_bytes
        if excess <= 0:
            return
        with self._catalog as db:
            db.execute("DELETE FROM temp.doomed")
        excess = self._size() - int(self._keep.max_bytes * LOW)
        for identity, most in self._shares(excess):
            self._doom(identity, most)
        for (name,) in self._catalog.rows("SELECT DISTINCT segment FROM temp.doomed ORDER BY segment"):
            yield str(name), "over record.max_bytes, of those who have the most"

    def _shares(self, excess: int) -> Iterator[tuple[str, float]]:
        """Yield each identity that has more than its share, and how many bytes it must give."""
        rows = self._catalog.rows(f"SELECT s.identity, sum({_DISK}) {_ALL} GROUP BY s.identity ORDER BY 2 DESC")
        used = [(str(name), float(size)) for name, size in rows]
        level, left = 0.0, float(excess)
        for number, (_, size) in enumerate(used, 1):
            following = used[number][1] if number < len(used) else 0.0
            if (size - following) * number >= left:
                level = size - left / number
                break
            left -= (size - following) * number
        for name, size in used:
            if size > level:
                yield name, size - level

    def _doom(self, identity: str, most: float) -> None:
        query = (
            f"SELECT p.segment, p.session, p.bytes, {_DISK}, p.last + kept_for(s.rules) AS until {_FREE} "
            "AND s.identity = ? ORDER BY until"
        )
        with self._catalog as db:
            doomed = []
            for segment, session, size, disk, until in db.execute(query, (int(self._keep.shipped), identity)):
                if most <= 0:
                    break
                most -= disk
                doomed.append((segment, session, size, until))
            db.executemany("INSERT OR IGNORE INTO temp.doomed VALUES (?, ?, ?, ?)", doomed)

    def _size(self) -> int:
        return sum(path.lstat().st_size for path in self._keeper.records.glob("*.record"))

    def _over(self) -> str:
        waits = ", or was not shipped" if self._keep.shipped else ""
        return f"the record is over record.max_bytes by what is open or under legal hold{waits}"

    # -- dropping ------------------------------------------------------------------------------------------------

    def _drop(self, name: str, why: str) -> None:
        """Take the doomed sessions from one segment."""
        path = self._keeper.records / name
        if not path.exists() or not self._keeper.is_packed(name):
            return
        self._keeper.checkpoints.refresh()
        if self._keeper.checkpoints.held != (self._ids, self._identities):
            return  # somebody holds or releases at this moment: the next round knows
        found = self._found(path)
        if found is None or not found.parts:
            return
        ids, stay = frozenset(found.parts), found.others
        stone = self._stone(name, why)
        if stay:
            self._thin(path, ids, stone)
        else:
            self._keeper.checkpoints.append(Said(deleted=(stone,)))
            path.unlink()
            self._catalog.dropped(name)
        done = self._done
        self._done = Pruned(done.segments + (not stay), done.thinned + bool(stay), done.frames + stone.frames)

    def _found(self, path: Path) -> Proven | None:
        """Return what of a segment may go, by its own frames; None where the catalog does not say the same of them.

        Then the catalog is made anew, and the next round decides by that.
        """
        name, rows = path.name, self._catalog.rows
        wanted = {str(row[0]): row[1:] for row in rows(_WANTED, name)}
        try:
            found = proven(path, self._keeper.signer.public, wanted.keys())
        except BadFrame as error:
            self._bad = str(error)
            return None
        sizes = [(path.stat().st_size, rows(_LIVE, name)[0][0])]
        fits = wanted.keys() == found.parts.keys() and rows(_OTHERS, name, name) == [(found.others,)]
        if not fits or rows(_SIZES, name) != sizes or not all(_fits(found.parts[id], wanted[id]) for id in wanted):
            self._bad = f"{path}: the catalog said other than the segment does, so nothing was dropped; it is made anew"
            self._catalog.put(name, path.stat().st_size, read.items(path))
            return None
        return self._named(name, found)

    def _named(self, name: str, found: Proven) -> Proven:
        """Leave out whoever does not say here whose it is, while an identity is held: it could be that."""
        spared = [id for id, part in found.parts.items() if self._identities and not part.identity]
        with self._catalog as db:
            db.executemany(
                "DELETE FROM temp.doomed WHERE segment = ? AND session = ?", [(name, id) for id in spared]
            )
        left = {id: part for id, part in found.parts.items() if id not in spared}
        return Proven(left, found.others + len(spared))

    def _thin(self, path: Path, ids: frozenset[str], stone: Deleted) -> None:
        old = Packed(path)
        gaps = sha256()

        def tell() -> None:
            self._keeper.checkpoints.append(Said(deleted=(msgspec.structs.replace(stone, gaps=gaps.digest()),)))

        try:
            packed.write(path, without(old.items(), ids, gaps), old.footer.seal, tell)
        finally:
            old.close()
        self._catalog.taken(path.name, ids)
        self._catalog.sized(path.name, path.stat().st_size)

    def _stone(self, name: str, why: str) -> Deleted:
        rows = self._catalog.rows(
            "SELECT s.identity, count(*), sum(p.frames), min(p.first), max(p.last) FROM parts p "
            "JOIN temp.doomed d USING (segment, session) JOIN sessions s ON s.id = p.session "
            "WHERE p.segment = ? GROUP BY s.identity", name,
        )  # fmt: skip
        return Deleted(
            name=name,
            gaps=b"",
            frames=sum(row[2] for row in rows),
            sessions=sum(row[1] for row in rows),
            identities={str(row[0]): row[1] for row in rows},
            first=min(row[3] for row in rows),
            last=max(row[4] for row in rows),
            by=BY,
            why=why,
            lost=tuple(self._lost(name)),
        )

    def _lost(self, name: str) -> Iterator[Lost]:
        """Yield the numbers of the flows of which this segment has the last."""
        rows = self._catalog.rows(
            "SELECT s.epoch, s.scope, s.sequence FROM temp.doomed d JOIN sessions s ON s.id = d.session "
            "WHERE d.segment = ? AND s.sequence > 0 AND NOT EXISTS "
            "(SELECT 1 FROM parts p WHERE p.session = d.session AND p.segment != d.segment) ORDER BY 1, 2, 3", name,
        )  # fmt: skip
        found: dict[tuple[int, int], list[int]] = {}
        for epoch, scope, sequence in rows:
            found.setdefault((epoch, scope), []).append(sequence)
        for (epoch, scope), sequences in found.items():
            yield Lost(epoch, scope, runs(sequences))


_ALL = "FROM parts p JOIN sessions s ON s.id = p.session JOIN segments g ON g.name = p.segment"
_FREE = (
    f"{_ALL} WHERE (? = 0 OR g.shipped) AND p.session NOT IN (SELECT word FROM temp.held WHERE kind = 'id') "
    "AND s.identity NOT IN (SELECT word FROM temp.held WHERE kind = 'identity')"
)
_WANTED = (
    "SELECT d.session, p.frames, p.bytes, p.first, p.last, s.identity, s.rules, s.epoch, s.scope, s.sequence "
    "FROM temp.doomed d LEFT JOIN parts p USING (segment, session) LEFT JOIN sessions s ON s.id = d.session "
    "WHERE d.segment = ?"
)
_OTHERS = (
    "SELECT count(*) FROM parts WHERE segment = ? AND session NOT IN "
    "(SELECT session FROM temp.doomed WHERE segment = ?)"
)
_LIVE = "SELECT coalesce(sum(bytes), 0) FROM parts WHERE segment = ?"
_SIZES = "SELECT bytes, live FROM segments WHERE name = ?"
_DISK = "p.bytes * 1.0 * g.bytes / max(g.live, 1)"


def _fits(part: Part, said: tuple[Any, ...]) -> bool:
    """Tell whether what the catalog says of a session has all that a segment says."""
    *sums, identity, rules, epoch, scope, sequence = said
    return (
        sums == [part.frames, part.bytes, part.first, part.last]
        and part.identity in ("", identity)
        and set(" ".join(part.rules).split()) <= set((rules or "").split())
        and (not part.sequence or (part.epoch, part.scope, part.sequence) == (epoch, scope, sequence))
    )


def runs(numbers: Iterable[int]) -> tuple[int, ...]:
    """Return rising numbers as `Lost.runs`: how many are not meant, how many are, and so on, from 1."""
    found: list[int] = []
    due = 1
    for number in numbers:
        if found and number == due:
            found[-1] += 1
        else:
            found += [number - due, 1]
        due = number + 1
    return tuple(found)


def without(items: Iterable[Item], ids: frozenset[str], gaps: Fed) -> Iterator[Item]:
    """Yield the items with gaps for the frames of the sessions named; `gaps` is fed what tells where they are."""
    hashes = bytearray()
    start = end = first = 0
    number = 0

    def flush() -> Iterator[Item]:
        for at in range(0, len(hashes), MAX_GAP * HASH):
            part = bytes(hashes[at : at + MAX_GAP * HASH])
            count = len(part) // HASH
            gaps.update((first + at // HASH).to_bytes(8, "big") + count.to_bytes(8, "big"))
            yield Item(end if at else start, end, part, count, gap=True)  # the first stands for all the bytes
        hashes.clear()

    for item in items:
        said = brief(item) if number and not item.gap else None
        if item.gap or (said and said.id in ids):
            if not hashes:
                first, start = number, item.start
            hashes += item.data if item.gap else leaf(item.data)
            end = item.end
        else:
            yield from flush()
            yield item
        number += item.count
    yield from flush()
