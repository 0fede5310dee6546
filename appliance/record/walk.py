"""Going over the items of one segment as it grows, to check how they are tied and to sum up what is in it.

Each byte is read once while the segment is open. When it is done it is read once more, to be packed, and that has to
find the same bytes: worker and hub are not one, and what was read an hour ago may not be what is there now. That is
told by a sum (Poly1305, RFC 8439, 2.5) whose key nobody but this process ever has, so nobody can make other bytes with
the same one; a second look at each frame would cost thirty times as much.
"""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.poly1305 import Poly1305
from msgspec.structs import astuple

from appliance.record.brief import Boths, Link, boths, links
from appliance.record.chain import Item, runs
from appliance.record.frame import HEAD, UNREADABLE, BadFrame, Header, is_time
from appliance.record.packed import BLOCK
from appliance.record.parts import Parts
from appliance.record.read import decode_header
from appliance.record.seal import Head, Seal
from appliance.record.tree import Tree
from appliance.record.whose import is_foreign, own

SESSIONS = 5_000  # of one segment that are summed up while it is open: some MB. With more, it is read again
KEY_BYTES = 32

_leaf = sha256(b"\0")


class Walk:
    """Goes over the items of one segment, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.size = 0
        self.torn = 0
        self.head = b""
        self.sequence = 0  # of the last frame
        self.first = self.last = 0.0
        self.parts = Parts(SESSIONS)
        self._own = ""  # letters in the ids of its sessions
        self._cuts: list[int] = []  # where blocks end
        self._cut = 0  # the last of them
        self._tree = Tree()
        self._key = os.urandom(KEY_BYTES)
        self._sum = Poly1305(self._key)
        self._tag = b""  # the sum over all of it, once that was asked for

    @property
    def items(self) -> int:
        return self._tree.size

    def advance(self) -> None:
        """Take in what was appended to the file since.

        Raises:
            BadFrame: a frame is not tied to the one before; all before it is taken in.
        """
        with self.path.open("rb") as file:
            for run in runs(self.path, file, self.size, self._end):
                if run.gap is not None:
                    raise BadFrame(self.path, run.start, "a gap in what was never sealed")
                self._take(run.start, run.data, run.ends)

    def seal(self) -> Seal | None:
        """Return what is to be signed; None if there is not even a header."""
        top = self.header
        if top is None:
            return None
        return Seal(
            name=self.path.name,
            format=top.format,
            chain=top.chain,
            segment=top.segment,
            sequence=top.sequence,
            items=self.items,
            size=self.size,
            torn=self.torn,
            head=self.head,
            root=self._tree.root(),
            first=self.first,
            last=self.last,
        )

    def so_far(self) -> Head | None:
        """Return what a checkpoint says of an open segment."""
        top = self.header
        if top is None:
            return None
        root = self._tree.root()
        return Head(
            self.path.name, top.chain, top.segment, self.items, self.sequence, self.size, self.head, root
        )

    def blocks(self) -> Iterator[Item]:
        """Yield all that was taken in, as it is in the file now: some BLOCK bytes of whole items in one.

        Raises:
            BadFrame: it is not what was taken in; told at the end.
        """
        again, start = Poly1305(self._key), 0
        with self.path.open("rb") as file:
            for end in (*self._cuts, self.size) if self.size > self._cut else self._cuts:
                data = file.read(end - start)
                again.update(data)
                yield Item(start, start + len(data), data)
                start = end
        if again.finalize() != self._whole_sum():
            raise BadFrame(self.path, self.size, "it was changed while it was open: it is not what was sealed")

    def _whole_sum(self) -> bytes:
        if not self._tag:
            self._tag = self._sum.finalize()
        return self._tag

    def _take(self, start: int, data: bytes, ends: list[int]) -> None:
        """Take in items that follow one another in `data`, which begins at `start`."""
        if self._tag:
            raise BadFrame(self.path, start, "it has grown since it was sealed")
        at, cut, tree, parts = 0, self._cut, self._tree, self.parts
        try:
            for end in ends:
                item = data[at:end]
                top = self.header
                if top is None:
                    self._top(decode_header(self.path, Item(start + at, start + end, item)))
                else:
                    self._frame(start + at, item, top, parts)
                hash = _leaf.copy()
                hash.update(item)
                self.head = hash.digest()
                tree.add(self.head)
                at = end
                if start + at - cut >= BLOCK:
                    cut = start + at
                    self._cuts.append(cut)
        finally:
            self.size, self._cut = start + at, cut
            self._sum.update(memoryview(data)[:at])

    def _top(self, top: Header) -> None:
        self.header, self.sequence, self._own = top, top.sequence - 1, own(self.path.name.partition(".")[0])
        self.first = self.last = top.begun

    def _frame(self, start: int, item: bytes, top: Header, parts: Parts) -> None:
        body = item[HEAD:]
        said: Boths | None = None
        try:
            said = cast(Boths, astuple(boths.decode(body)))
            sequence, when, id, previous = said[0], said[1], said[2], said[5]
            if is_foreign(id, self._own):
                raise BadFrame(self.path, start, f"frame {sequence} is of session {id}, which is another worker's")
        except UNREADABLE:
            link = self._link(start, body)
            sequence, when, previous = link.sequence, link.time, link.previous
        if sequence != self.sequence + 1:
            raise BadFrame(self.path, start, f"frame {sequence} where {self.sequence + 1} was due")
        if not is_time(when):
            raise BadFrame(self.path, start, f"frame {sequence} is of no time there is: {when:g}")
        if top.format > 1 and previous != self.head:
            raise BadFrame(self.path, start, f"frame {sequence} does not follow what is before it")
        self.sequence = sequence
        if self._tree.size == 1 or when < self.first:
            self.first = when
        self.last = max(self.last, when)
        if said is not None and parts.whole:
            parts.add(said[2], when, said[3], said[4], len(item))

    def _link(self, start: int, body: bytes) -> Link:
        """Return of a frame that only a worker that was taken over would write what ties it."""
        try:
            return links.decode(body)
        except UNREADABLE as error:
            raise BadFrame(self.path, start, f"not a frame: {error}") from None

    def _end(self, start: int, left: int) -> None:
        self.torn = left
