"""The seal of a segment: what is in it, by one hash, signed. Made by the hub when the worker is done with it.

Sealing reads all of the segment and checks what the worker wrote: a segment that is not chained as it should
is sealed as far as it is, and the rest is an incident.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.record.chain import Item, leaf, plain
from appliance.record.frame import BadFrame, Header
from appliance.record.read import decode_header
from appliance.record.tree import Tree


class Seal(msgspec.Struct, frozen=True, gc=False):
    """What a segment held when it was done."""

    name: str  # of the file
    format: int
    chain: str
    segment: int  # place in the chain
    sequence: int  # of its first frame
    items: int  # its header and its frames
    size: int  # bytes of them
    torn: int  # bytes after them in the file, of a frame that was being written when the worker was killed
    head: bytes  # hash of the last item
    root: bytes  # of the tree over all items
    first: float  # time of the first frame, unix seconds
    last: float  # of the last


class Head(msgspec.Struct, frozen=True, gc=False):
    """How far an open segment has come."""

    name: str
    chain: str
    segment: int
    items: int
    sequence: int  # of the last frame
    size: int
    head: bytes
    root: bytes


class _Link(msgspec.Struct, frozen=True, gc=False):
    """What ties a frame to the one before."""

    sequence: int
    time: float
    previous: bytes = b""


_links = msgspec.msgpack.Decoder(_Link)


class Walk:
    """Goes over the items of one segment, in order, and checks how they are tied."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.size = 0
        self.torn = 0
        self.head = b""
        self.sequence = 0  # of the last frame
        self.first = self.last = 0.0
        self._tree = Tree()

    @property
    def items(self) -> int:
        return self._tree.size

    def advance(self) -> None:
        """Take in what was appended to the file since.

        Raises:
            BadFrame: a frame is not tied to the one before; all before it is taken in.
        """
        with self.path.open("rb") as file:
            for item in plain(self.path, file, self.size, self._end):
                self.take(item)

    def take(self, item: Item) -> None:
        """Take in the next item.

        Raises:
            BadFrame: it does not follow.
        """
        if item.gap:
            raise BadFrame(self.path, item.start, "a gap in what was never sealed")
        if self.header is None:
            self._top(decode_header(self.path, item))
        else:
            self._frame(item, self.header)
        self.head = leaf(item.data)
        self._tree.add(self.head)
        self.size = item.end

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

    def _top(self, top: Header) -> None:
        self.header, self.sequence = top, top.sequence - 1
        self.first = self.last = top.begun

    def _frame(self, item: Item, top: Header) -> None:
        try:
            link = _links.decode(item.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadFrame(self.path, item.start, f"not a frame: {error}") from None
        if link.sequence != self.sequence + 1:
            what = f"frame {link.sequence} where {self.sequence + 1} was due"
            raise BadFrame(self.path, item.start, what)
        if top.format > 1 and link.previous != self.head:
            raise BadFrame(self.path, item.start, f"frame {link.sequence} does not follow what is before it")
        self.sequence = link.sequence
        self.first = link.time if self.items == 1 else min(self.first, link.time)
        self.last = max(self.last, link.time)

    def _end(self, start: int, left: int) -> None:
        self.torn = left


def is_open(path: Path) -> bool:
    """Tell whether a worker has the segment open: it holds the lock until it is done with it, or dies."""
    with locked(path) as ours:
        return not ours


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock of a segment, if nobody else does; say whether."""
    fd = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
