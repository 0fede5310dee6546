"""One segment, checked item by item against its chain, its seal, and the checkpoints that saw it grow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from appliance.record.audit.ledger import HEAD, Ledger, Sealed
from appliance.record.audit.primitives import Tools, Tree, leaf
from appliance.record.audit.stream import BAD_VALUES, NAME, Bad, Item, field, items

FORMATS = (1, 2)


class Follows(NamedTuple):
    """Where a chain has come to."""

    name: str  # of its last segment
    segment: int
    head: bytes
    sequence: int  # of the next frame


class Frame(NamedTuple):
    """What is checked of a frame."""

    sequence: int
    time: float
    id: str
    previous: bytes
    number: int
    kind: str
    flow: tuple[int, int, int]  # epoch, scope, sequence


class Walk:
    """Checks one segment; `run` raises Bad at the first bad place."""

    def __init__(
        self, path: Path, ledger: Ledger, tools: Tools, before: dict[str, Follows], each: Callable[[Frame], object]
    ) -> None:
        self._path, self._ledger, self._tools, self._each = path, ledger, tools, each
        self._before = before  # chain -> where it has come to
        self.seal: Sealed | None = ledger.seals.get(path.name)
        self._heads = bytes(ledger.heads.get(path.name, b""))
        self._tree = Tree()
        self._head = b""  # hash of the last item
        self._sequence = 0  # of the next frame
        self._offset = 0  # of the last item
        self._size = 0
        self._format = 0
        self._chain, self._segment = "", 0
        self._gaps = hashlib.sha256()
        self._doubt: Bad | None = None
        self._left = 0
        self.frames = self.gone = 0
        self.covered = False  # by a seal or by at least one checkpoint
        self.begun = 0.0

    @property
    def follows(self) -> Follows:
        return Follows(self._path.name, self._segment, self._head, self._sequence)

    @property
    def items(self) -> int:
        """How many there are, the header among them."""
        return self._tree.size

    @property
    def chain(self) -> str:
        return self._chain

    def run(self) -> None:
        """Check all of it.

        Raises:
            Bad: at this place, and what is after it cannot be trusted.
        """
        for item in items(self._path, self._tools, self._torn):
            if self._doubt and (item.gap or self._vouches(item)):
                raise self._doubt
            if self._doubt:
                raise Bad(self._offset, f"frame {self._sequence - 1} was changed", self._sequence - 1)
            if self.seal and self._tree.size == self.seal.items:
                raise Bad(item.offset, "something was appended after the seal", self._sequence)
            self._take(item)
        self._end()

    def _torn(self, offset: int, left: int) -> None:
        self._left = left
        if left and self._expected() > self._tree.size:
            raise Bad(offset, f"frame {self._sequence} is cut off after {left} bytes", self._sequence)

    def _expected(self) -> int:
        """Items that the checkpoints say were here."""
        heads = int.from_bytes(self._heads[-HEAD : 8 - HEAD], "big") if self._heads else 0
        return max(self.seal.items if self.seal else 0, heads)

    def _vouches(self, item: Item) -> bool:
        """Tell whether the item after a doubtful one says that that one is as it was, so the one before it is not."""
        try:
            return bool(field(self._tools.unpack(item.data[5:]), "previous", bytes) == self._head)
        except BAD_VALUES:
            return False

    def _take(self, item: Item) -> None:
        if item.gap:
            self._gap(item)
            return
        hash = leaf(item.data)
        if self._tree.size == 0:
            self._header(item)
        else:
            self._frame(item, hash)
        self._head, self._offset = hash, item.offset
        self._size += item.size
        self._tree.add(hash)
        self._check_heads(item.offset)

    def _header(self, item: Item) -> None:
        try:
            said = self._tools.unpack(item.data[5:])
            format, worker = field(said, "format", int), field(said, "worker", str)
            self._sequence, self.begun = field(said, "sequence", int), field(said, "begun", float)
            self._chain, self._segment = field(said, "chain", str, ""), field(said, "segment", int, 0)
            number, previous = field(said, "number", int, 0), field(said, "previous", bytes, b"")
        except BAD_VALUES as error:
            raise Bad(item.offset, f"not a header: {error!r}") from None
        if format not in FORMATS:
            raise Bad(item.offset, f"format {format} is not known here")
        self._format = format
        named = NAME.fullmatch(self._path.name)
        if format > 1 and (not named or (named[1], int(named[2])) != (worker, number)):
            raise Bad(item.offset, f"this is the segment {worker}.{number:013d}.record under another name")
        if format > 1:
            self._joins(item, previous)

    def _joins(self, item: Item, previous: bytes) -> None:
        """Check that the segment is the next of its chain."""
        before = self._before.get(self._chain)
        if before is None:
            if (self._segment or previous) and not self._ledger.excerpt:
                raise Bad(item.offset, f"segment {self._segment} of its chain, and those before it are missing")
        elif self._ledger.excerpt and self._segment > before.segment + 1:
            pass  # those between have nothing of what was exported
        elif self._segment != before.segment + 1:
            what = f"segment {self._segment} of its chain, after segment {before.segment}, which is {before.name}"
            raise Bad(item.offset, what)
        elif previous != before.head or self._sequence != before.sequence:
            raise Bad(item.offset, f"it does not follow {before.name}: this header or the end of that was changed")

    def _frame(self, item: Item, hash: bytes) -> None:
        frame = self._decoded(item)
        if frame.sequence != self._sequence:
            what = f"frame {frame.sequence} where {self._sequence} was due"
            raise Bad(item.offset, what, self._sequence)
        self._sequence += 1
        self.frames += 1
        if self._format > 1 and frame.previous != self._head:
            what = f"frame {frame.sequence} or the one before it was changed"
            self._doubt = Bad(self._offset, what, frame.sequence - 1)
            said = self._said_of(self._tree.size + 1)
            if hash in said:
                raise Bad(self._offset, f"frame {frame.sequence - 1} was changed", frame.sequence - 1)
            if said:
                raise Bad(item.offset, f"frame {frame.sequence} was changed", frame.sequence)
        else:
            self._each(frame)

    def _said_of(self, items: int) -> list[bytes]:
        """Return the hashes that the seal or a checkpoint has for the last of so many items."""
        said = [self.seal.head] if self.seal and self.seal.items == items else []
        if int.from_bytes(self._heads[:8], "big") == items:
            said.append(self._heads[8:40])
        return said

    def _decoded(self, item: Item) -> Frame:
        try:
            said: Any = self._tools.unpack(item.data[5:])
            flow = field(said, "flow", dict, {}) if isinstance(said, dict) and said.get("flow") is not None else {}
            place = (field(flow, "epoch", int, 0), field(flow, "scope", int, 0), field(flow, "sequence", int, 0))
            sequence, time, id = field(said, "sequence", int), field(said, "time", float), field(said, "id", str)
            previous, number = field(said, "previous", bytes, b""), field(said, "number", int, 0)
            kind = field(field(said, "note", dict), "kind", str)
            return Frame(sequence, time, id, previous, number, kind, place)
        except BAD_VALUES as error:
            raise Bad(item.offset, f"not a frame: {error!r}", self._sequence) from None

    def _gap(self, item: Item) -> None:
        """Take in the hashes that stand for frames; whether they may is checked at the end."""
        count = len(item.data) // 32
        if self._tree.size == 0:
            raise Bad(item.offset, "the header is missing")
        self._gaps.update(self._tree.size.to_bytes(8, "big") + count.to_bytes(8, "big"))
        for at in range(0, len(item.data), 32):
            self._head = item.data[at : at + 32]
            self._tree.add(self._head)
            self._check_heads(item.offset)
        self._sequence += count
        self.gone += count
        self._size += item.size
        self._offset = item.offset

    def _check_heads(self, offset: int) -> None:
        while self._heads and int.from_bytes(self._heads[:8], "big") <= self._tree.size:
            hash, root = self._heads[8:40], self._heads[40:72]
            if int.from_bytes(self._heads[:8], "big") == self._tree.size:
                if hash != self._head or root != self._tree.root():
                    last = self._sequence - 1
                    what = f"up to frame {last} it is not what a checkpoint says: changed here or before"
                    raise Bad(offset, what, last)
                self.covered = True
            self._heads = self._heads[HEAD:]

    def _end(self) -> None:
        if self._doubt:
            raise self._doubt
        missing = self._expected() - self._tree.size
        if missing > 0:
            raise Bad(self._size, f"the last {missing} frames are missing", self._sequence)
        if self.gone and not self._ledger.excerpt:
            self._check_gaps()
        seal = self.seal
        if seal is None:
            return
        self.covered = True
        if (seal.head, seal.root) != (self._head, self._tree.root()) or seal.size != self._size:
            what = "it is not what its seal says: changed here or before"
            raise Bad(self._offset, what, self._sequence - 1)
        if self._left not in (0, seal.torn):
            raise Bad(self._size, f"{self._left} bytes were appended after the seal")

    def _check_gaps(self) -> None:
        """Frames may be missing only where a tombstone says so."""
        if self._gaps.digest() not in self._ledger.gaps.get(self._path.name, ()):
            raise Bad(0, f"{self.gone} frames were taken out and no checkpoint says so")
