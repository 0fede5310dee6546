"""Files of items, as a verifier reads them: plain or packed. The layout is in FORMAT.md."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from appliance.record.audit.primitives import Tools

NAME = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{13,20})\.record")
MAX_ITEM = 72 << 20  # bytes; the longest a worker writes


class Bad(Exception):
    """At this byte of a file: what is wrong, and with which frame or checkpoint."""

    def __init__(self, offset: int, what: str, number: int | None = None, file: str = "") -> None:
        super().__init__(what)
        self.offset, self.what, self.number, self.file = offset, what, number, file


BAD_VALUES = (ValueError, KeyError, TypeError, OverflowError)  # what a map that is not ours leads to


def regular(path: Path) -> bool:
    """Tell whether a path is that of a file: a pipe would never end, a link leads elsewhere."""
    return stat.S_ISREG(path.lstat().st_mode)


def field(said: Any, name: str, kind: type, *default: Any) -> Any:
    """Return a field of a map of type `kind`; what was written by no one of ours may have any.

    Raises:
        KeyError, TypeError: there is none, or it is another type.
    """
    if not isinstance(said, dict):
        raise TypeError("not a map")
    value = said.get(name, default[0]) if default else said[name]
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise TypeError(f"{name} is not of type {kind.__name__}")
    return value


class Item(NamedTuple):
    """A header, frame, entry (`data`: all its bytes) or gap (`data`: hashes of the frames that were there)."""

    offset: int  # to name in a fault
    data: bytes
    size: int  # bytes of the stream it stands for
    gap: bool


def items(path: Path, tools: Tools, torn: Callable[[int, int], object], start: int = 0) -> Iterator[Item]:
    """Yield the items of a file, packed or not; `torn` is told where the last ends and how many bytes are left.

    `start` is the end of an item, and only for a file that is not packed.
    """
    if not regular(path):
        raise Bad(0, "it is no file")
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic in (b"\x28\xb5\x2f\xfd", b"\x5e\x2a\x4d\x18"):
            yield from _packed(file, tools)
        else:
            yield from _plain(file, torn, start)


def _plain(file: BinaryIO, torn: Callable[[int, int], object], offset: int) -> Iterator[Item]:
    file.seek(offset)
    while True:
        head = file.read(5)
        length = int.from_bytes(head[1:], "big") + (head[:1] == b"\xc9")
        _mark(offset, head, length)
        body = file.read(length) if len(head) == 5 else b""
        if len(head) < 5 or len(body) < length:
            torn(offset, len(head) + len(body))
            return
        yield _item(offset, head + body)
        offset += 5 + length


def _packed(file: BinaryIO, tools: Tools) -> Iterator[Item]:
    place = 0
    for length, size, hash in _blocks(file, tools):
        file.seek(place)
        data = file.read(length)
        if hashlib.sha256(data).digest() != hash:
            raise Bad(place, f"the block of {length} bytes that begins here was changed")
        try:
            stream = tools.inflate(data)
        except ValueError as error:
            raise Bad(place, f"the block that begins here: {error}") from None
        at, left = 0, size
        while at < len(stream):
            end = at + 5 + int.from_bytes(stream[at + 1 : at + 5], "big") + (stream[at] == 0xC9)
            _mark(place, stream[at : at + 5], end - at)
            if end > len(stream):
                raise Bad(place, "a block ends in the middle of an item")
            item = _item(place, stream[at:end])
            at, left = end, left - item.size
            yield item
        if left:
            raise Bad(place, "a block is not as long as its footer says")
        place += length


def _blocks(file: BinaryIO, tools: Tools) -> list[tuple[int, int, bytes]]:
    """Return (bytes in the file, bytes of the stream, hash) of each block, from the footer."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 40, 0))
    tail = file.read(40)
    length = int.from_bytes(tail[32:36], "big")
    start = end - 40 - length
    if tail[36:] != b"VGR2" or start < 8:
        raise Bad(max(end - 40, 0), "a packed segment without its end")
    file.seek(start - 8)
    head, body = file.read(8), file.read(length)
    if head != b"\x5e\x2a\x4d\x18" + (length + 40).to_bytes(4, "little") or hashlib.sha256(body).digest() != tail[:32]:
        raise Bad(start - 8, "the footer of a packed segment was changed")
    try:
        found = [(int(a), int(b), bytes(c)) for a, b, c in tools.unpack(body)["blocks"]]
    except (ValueError, KeyError, TypeError):
        raise Bad(start, "not a footer") from None
    if sum(block[0] for block in found) != start - 8:
        raise Bad(start, "the footer is of another file")
    return found


def _mark(offset: int, head: bytes, length: int) -> None:
    if head and head[0] not in (0xC6, 0xC9):
        raise Bad(offset, f"byte {head[0]:#04x} where a frame should begin")
    if len(head) == 5 and length > MAX_ITEM:
        raise Bad(offset, f"a frame of {length} bytes is over {MAX_ITEM}")


def _item(offset: int, data: bytes) -> Item:
    if data[0] == 0xC6:
        return Item(offset, data, len(data), False)
    if data[5] != 1 or len(data) < 46 or (len(data) - 14) % 32:
        raise Bad(offset, "not a gap")
    return Item(offset, data[14:], int.from_bytes(data[6:14], "big"), True)
