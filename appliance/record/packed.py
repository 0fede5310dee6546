"""A sealed segment as it is kept: the same stream of items, compressed in blocks.

    block...    each a zstd frame (RFC 8878) of whole items, some BLOCK bytes of them
    footer      a skippable frame of zstd: a `Footer`, its SHA-256, its length (4 bytes, big-endian), TRAILER

so `zstd -dc FILE` gives the stream, and one item is found by reading one block. The footer has the hash of each
block as it is in the file, so that any changed byte is named even where it changes nothing of the stream.

Frames are not compressed one by one as they are written: so short, they would hardly shrink, and a frame
that is acknowledged must be on disk whole, not in a compressor.
"""

import os
import secrets
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from appliance.record.chain import HASH, Item, gap, parse
from appliance.record.disk import sync_names
from appliance.record.frame import FORMAT, MAX_FRAME, UNREADABLE, BadFrame

MAGIC = b"\x28\xb5\x2f\xfd"  # of a zstd frame; no item begins with it
SKIPPABLE = b"\x5e\x2a\x4d\x18"
ZSTD_HEAD = 18  # bytes at most before the first block of a zstd frame (RFC 8878, 3.1.1.1)
TRAILER = b"VGR2"
TAIL = HASH + 4 + len(TRAILER)  # bytes after the footer's map
BLOCK = 1 << 17  # bytes; a larger one gains less than 5 % and makes reading one frame dearer
MAX_BLOCK = BLOCK + MAX_FRAME + 64  # bytes of the stream; the last item of a block may be the longest there is
LEVEL = 3  # zstd's usual; 300 MB/s
MAX_FOOTER = 1 << 26  # bytes; blocks of the largest segment take a hundredth


class Signed(msgspec.Struct, frozen=True, gc=False):
    """Bytes and who vouches for them."""

    body: bytes
    signature: bytes


class Block(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One block."""

    length: int  # bytes in the file
    size: int  # bytes of the stream it stands for
    hash: bytes  # SHA-256 of it as it is in the file


class Footer(msgspec.Struct, frozen=True, gc=False):
    """What is needed to find things."""

    format: int
    seal: Signed
    blocks: tuple[Block, ...]


class Packed:
    """A packed segment, open for reading."""

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        """Open it; `file` if it is open already, and ours from now on.

        Raises:
            BadFrame: it is none.
        """
        self.path = path
        self._file = file or path.open("rb")
        try:
            self.footer = _footer(path, self._file)
        except BaseException:
            self._file.close()
            raise
        self._zstd = zstandard.ZstdDecompressor()
        self._places = [0]  # of blocks in the file
        self._starts = [0]  # and in the stream
        for block in self.footer.blocks:
            self._places.append(self._places[-1] + block.length)
            self._starts.append(self._starts[-1] + block.size)
        self._kept: tuple[int, list[Item]] = (-1, [])  # the block read last

    @property
    def size(self) -> int:
        """Bytes of the stream, frames that were taken away included."""
        return self._starts[-1]

    def close(self) -> None:
        self._file.close()

    def items(self, start: int = 0) -> Iterator[Item]:
        """Yield the items from `start` of the stream on.

        Raises:
            BadFrame: a block is not what was written.
        """
        for number in range(max(bisect_right(self._starts, start) - 1, 0), len(self.footer.blocks)):
            yield from (item for item in self._block(number) if item.start >= start)

    def gaps(self) -> Iterator[Item]:
        """Yield what stands for frames that were taken away, without a look into blocks that have all of theirs."""
        for number, block in enumerate(self.footer.blocks):
            self._file.seek(self._places[number])
            if zstandard.frame_content_size(self._file.read(min(block.length, ZSTD_HEAD))) != block.size:
                yield from (item for item in self._block(number) if item.gap)

    def at(self, start: int) -> Item | None:
        """Return the item that begins, or began, at `start`."""
        number = bisect_right(self._starts, start) - 1
        if not 0 <= number < len(self.footer.blocks):
            return None
        items = self._block(number)
        place = bisect_right(items, start, key=lambda item: item.start) - 1
        found = items[place]
        return found if found.gap or found.start == start else None

    def _block(self, number: int) -> list[Item]:
        if self._kept[0] == number:
            return self._kept[1]
        block, place = self.footer.blocks[number], self._places[number]
        self._file.seek(place)
        data = self._file.read(block.length)
        if sha256(data).digest() != block.hash:
            raise BadFrame(self.path, place, "the block that begins here was changed")
        try:
            stream = inflated(data, self._zstd)
        except zstandard.ZstdError as error:
            raise BadFrame(self.path, place, f"the block that begins here cannot be unpacked: {error}") from None
        items, at, start = [], 0, self._starts[number]
        while at < len(stream):
            item = parse(self.path, stream, at, start)
            if item is None:
                raise BadFrame(self.path, place, "a block ends in the middle of an item")
            items.append(item)
            at += len(written(item))
            start = item.end
        self._kept = (number, items)
        return items


def inflated(data: bytes, zstd: zstandard.ZstdDecompressor) -> bytes:
    """Return what a block holds. zstandard makes room for as much as a frame says of itself, whatever its limit.

    Raises:
        ZstdError: it is no zstd, longer than MAX_BLOCK, or more than one frame: zstd(1) would unpack them all.
    """
    size = zstandard.frame_content_size(data)
    if size > MAX_BLOCK:
        raise zstandard.ZstdError(f"{size} bytes are over {MAX_BLOCK}")
    return zstd.decompress(data, max_output_size=MAX_BLOCK, allow_extra_data=False)


def written(item: Item) -> bytes:
    """Return the bytes that stand for an item."""
    return gap(item.end - item.start, item.data) if item.gap else item.data


def is_packed(file: BinaryIO) -> bool:
    """Tell by its first bytes; the position is left at the start."""
    file.seek(0)
    head = file.read(len(MAGIC))
    file.seek(0)
    return head in (MAGIC, SKIPPABLE)


def write(path: Path, items: Iterable[Item], seal: Signed, before: Callable[[], object] = lambda: None) -> None:
    """Write a packed segment, and bring it to the disk.

    What is at `path` is replaced when it is whole, and `before` has returned.

    Raises:
        OSError: it is not there.
    """
    # Workers may write beside it: a name nobody can guess, and no link of theirs.
    new = path.with_name(f"{path.stem}.{secrets.token_hex(8)}.new")
    blocks: list[Block] = []
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(fd, "wb") as file:
            for data, size in _joined(items):
                file.write(data)
                blocks.append(Block(len(data), size, sha256(data).digest()))
            body = msgspec.msgpack.encode(Footer(FORMAT, seal, tuple(blocks)))
            tail = sha256(body).digest() + len(body).to_bytes(4, "big") + TRAILER
            file.write(SKIPPABLE + (len(body) + TAIL).to_bytes(4, "little") + body + tail)
            file.flush()
            os.fsync(fd)
        before()
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_names(path.parent)


def _joined(items: Iterable[Item]) -> Iterator[tuple[bytes, int]]:
    """Yield blocks, packed, and how many bytes of the stream each stands for."""
    zstd = zstandard.ZstdCompressor(level=LEVEL)
    parts: list[bytes] = []
    length = size = 0
    for item in items:
        parts.append(written(item))
        length += len(parts[-1])
        size += item.end - item.start
        if length >= BLOCK:
            yield zstd.compress(b"".join(parts)), size
            parts, length, size = [], 0, 0
    if parts:
        yield zstd.compress(b"".join(parts)), size


_footers = msgspec.msgpack.Decoder(Footer)


def _footer(path: Path, file: BinaryIO) -> Footer:
    end = file.seek(0, os.SEEK_END)
    least = len(SKIPPABLE) + 4 + TAIL
    file.seek(max(end - TAIL, 0))
    tail = file.read(TAIL)
    length = int.from_bytes(tail[HASH : HASH + 4], "big")
    if end < least or tail[HASH + 4 :] != TRAILER or length > min(MAX_FOOTER, end - least):
        raise BadFrame(path, max(end - TAIL, 0), "a packed segment without its end")
    place = end - TAIL - length
    file.seek(place - len(SKIPPABLE) - 4)
    head, body = file.read(len(SKIPPABLE) + 4), file.read(length)
    if head != SKIPPABLE + (length + TAIL).to_bytes(4, "little") or sha256(body).digest() != tail[:HASH]:
        raise BadFrame(path, place, "the footer of a packed segment was changed")
    try:
        found = _footers.decode(body)
    except UNREADABLE as error:
        raise BadFrame(path, place, f"not a footer: {error}") from None
    if found.format != FORMAT or sum(block.length for block in found.blocks) != place - len(SKIPPABLE) - 4:
        raise BadFrame(path, place, "a footer of another file or format")
    return found
