"""Items of a segment, their hashes, and how each is tied to the one before.

The hash of an item is the leaf hash of RFC 9162, 2.1.1: SHA-256 of a zero byte and the item, so the same value is
in the chain and in the tree of the seal. Where retention took frames away, a *gap* stands for a run of
them: their hashes are kept, so that chain and tree can still be checked. A gap is msgpack `ext 32`:

    byte 0      0xc9
    byte 1-4    length of what follows the type, big-endian
    byte 5      type 1
    byte 6-13   bytes of the frames that were here, big-endian
    byte 14-    their hashes, 32 bytes each
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec

from appliance.record.frame import HEAD, MARK, MAX_FRAME, BadFrame
from appliance.record.runs import ends

HASH = 32  # bytes; SHA-256
GAP_MARK = 0xC9
GAP_HEAD = 14  # bytes before the hashes of a gap: mark, length, type, size
MAX_GAP = 1 << 16  # frames in one gap: 2 MiB of hashes; longer runs are several

_leaf = sha256(b"\0")


class Item(msgspec.Struct, frozen=True, gc=False):
    """A header, a frame, or a gap; `start` and `end` are its place in the stream as it was written."""

    start: int
    end: int
    data: bytes  # all of it, or of a gap its hashes
    count: int = 1  # items it stands for
    gap: bool = False

    @property
    def body(self) -> bytes:
        return self.data[HEAD:]

    def hashes(self) -> Iterator[bytes]:
        """Yield the hash of each item it stands for."""
        if not self.gap:
            yield leaf(self.data)
        else:
            for at in range(0, len(self.data), HASH):
                yield self.data[at : at + HASH]


def leaf(item: bytes) -> bytes:
    """Return the hash of an item."""
    taken = _leaf.copy()
    taken.update(item)
    return taken.digest()


def gap(size: int, hashes: bytes) -> bytes:
    """Return the gap for frames of `size` bytes in all."""
    body = b"\x01" + size.to_bytes(8, "big") + hashes
    return b"\xc9" + (len(body) - 1).to_bytes(4, "big") + body


def parse(path: Path, data: bytes, at: int, start: int) -> Item | None:
    """Return the item at `at` in `data`, which is `start` in the stream; None if it is not all there.

    Raises:
        BadFrame: there is none.
    """
    if at + HEAD > len(data):
        if at < len(data) and data[at] not in (MARK, GAP_MARK):
            raise BadFrame(path, start, f"byte {data[at]:#04x} where a frame should begin")
        return None
    mark, length = data[at], int.from_bytes(data[at + 1 : at + HEAD], "big")
    if mark not in (MARK, GAP_MARK):
        raise BadFrame(path, start, f"byte {mark:#04x} where a frame should begin")
    if length > MAX_FRAME:
        raise BadFrame(path, start, f"a frame of {length} bytes is over {MAX_FRAME}")
    end = at + HEAD + length + (mark == GAP_MARK)
    if end > len(data):
        return None
    if mark == MARK:
        return Item(start, start + end - at, data[at:end])
    size = int.from_bytes(data[at + HEAD + 1 : at + GAP_HEAD], "big")
    count, odd = divmod(length - 8, HASH)
    if odd or count < 1 or data[at + HEAD] != 1:
        raise BadFrame(path, start, "not a gap")
    return Item(start, start + size, data[at + GAP_HEAD : end], count, gap=True)


READ = 1 << 18  # bytes asked for at a time; a frame is some hundred
OnEnd = Callable[[int, int], object]


def ignore(start: int, left: int) -> None:
    """Say nothing of an end."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Items that follow one another: `data` begins at `start` of the stream, and each ends at one of `ends` of it."""

    start: int
    data: bytes
    ends: list[int]
    gap: Item | None = None  # it is this one instead


def runs(path: Path, file: BinaryIO, start: int, on_end: OnEnd = ignore) -> Iterator[Run]:
    """Yield the items of an unpacked segment from byte `start`, the end of an item, as far as they are whole.

    `on_end` is told where the last one ends, and how many bytes come after that are no whole item.

    Raises:
        BadFrame: what is there is no item.
    """
    file.seek(start)
    data = b""
    while True:
        found = ends(data, 0)
        if found:
            yield Run(start, data, found)
            start, data = start + found[-1], data[found[-1] :]
        if data:
            item = parse(path, data, 0, start)  # what is no frame, or not all here
            if item is not None:
                yield Run(start, b"", [], item)
                start, data = item.end, data[GAP_HEAD + len(item.data) :]
                continue
        wanted = READ
        if len(data) >= HEAD:
            wanted = max(READ, int.from_bytes(data[1:HEAD], "big") + HEAD + 1)
        more = file.read(wanted)
        if not more:
            on_end(start, len(data))
            return
        data += more


def plain(path: Path, file: BinaryIO, start: int, on_end: OnEnd = ignore) -> Iterator[Item]:
    """Yield the same one by one."""
    for run in runs(path, file, start, on_end):
        if run.gap is not None:
            yield run.gap
        at = 0
        for end in run.ends:
            yield Item(run.start + at, run.start + end, run.data[at:end])
            at = end
