"""Reading the record: one segment, or all of a directory in the order of time.

A segment may end in the middle of a frame: its worker was killed in a write, or is in one. That end is
reported, and is no error. Where retention took frames away the rest is read as if they had not been. Anything
else that is not in frame.py is a `BadFrame`. Whether hashes and seals are right is verify's to say (audit.py).

Offsets are those in the stream as the worker wrote it, so that they stay when a segment is packed, and when
frames are taken from it.
"""

import heapq
import operator
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import msgspec

from appliance.record import migrate
from appliance.record.chain import Item, parse, plain
from appliance.record.frame import FORMAT, HEAD, MAX_FRAME, OLDEST, UNREADABLE, BadFrame, Frame, Header, segments
from appliance.record.packed import Packed, is_packed

OPEN_PACKED = 32  # packed segments kept open by `at`, each with one block of some 100 KiB


class Torn(msgspec.Struct, frozen=True, gc=False):
    """A segment that ends in the middle of a frame."""

    file: Path
    offset: int  # where the frame begins
    size: int  # bytes of it that are there


class Placed(msgspec.Struct, frozen=True, gc=False):
    """A frame and where it is."""

    offset: int
    end: int
    frame: Frame


OnTorn = Callable[[Torn], object]

_headers = msgspec.msgpack.Decoder(Header)
_frames = msgspec.msgpack.Decoder(Frame)


def ignore(torn: Torn) -> None:
    """Say nothing of a torn end."""


def read(directory: Path, flow_id: str | None = None, on_torn: OnTorn = ignore) -> Iterator[Frame]:
    """Yield every frame of a directory, of all workers, by time; only those of one flow if it is named.

    Raises:
        BadFrame: a segment holds what no worker wrote. Frames before it were yielded.
    """
    workers = groupby(segments(directory), key=operator.attrgetter("worker"))
    streams = [_stream([Path(s.path) for s in group], on_torn) for _, group in workers]
    for frame in heapq.merge(*streams, key=operator.attrgetter("time")):
        if flow_id is None or frame.id == flow_id:
            yield frame


def header(path: Path) -> Header | None:
    """Return the header of a segment; None if it is not whole yet.

    Raises:
        BadFrame: it is none, or of a format this version does not know.
    """
    return opening(path)[0]


def opening(path: Path, on_torn: OnTorn = ignore) -> tuple[Header | None, int]:
    """Return the header of a segment, and where its frames begin; None if it is not whole yet."""
    with path.open("rb") as file:
        if is_packed(file):
            first = next(Packed(path, file).items(), None)
        else:
            head = file.read(HEAD)
            data = head + file.read(min(int.from_bytes(head[1:], "big"), MAX_FRAME))
            first = parse(path, data, 0, 0)
            if first is None and data:
                on_torn(Torn(path, 0, len(data)))
        return (decode_header(path, first), first.end) if first else (None, 0)


def segment(
    path: Path, on_torn: OnTorn = ignore, start: int = 0, before: int | None = None
) -> Iterator[Placed]:
    """Yield the frames of a segment from byte `start`, the end of a frame read earlier; 0 for all.

    `before` is the sequence of the frame that ends at `start`.
    """
    with path.open("rb") as file:
        first = next(_items(path, file, 0, on_torn), None)
        if first is None:
            return
        top = decode_header(path, first)
        expected = top.sequence if before is None else before + 1
        for item in _items(path, file, max(start, first.end), on_torn):
            if not item.gap:
                frame = decode_frame(path, item, top.format)
                if frame.sequence != expected:
                    raise BadFrame(path, item.start, f"frame {frame.sequence} where {expected} was due")
                yield Placed(item.start, item.end, frame)
            expected += item.count


def at(path: Path, file: BinaryIO, offset: int) -> Frame | None:
    """Return the frame at an offset known from an earlier reading; None if retention took it away.

    Raises:
        BadFrame: there is something else.
    """
    if is_packed(file):
        item = _kept(path, file).at(offset)
    else:
        file.seek(offset)
        head = file.read(HEAD)
        item = parse(path, head + file.read(int.from_bytes(head[1:], "big")), 0, offset)
    if item is None:
        raise BadFrame(path, offset, "the frame that was here is gone")
    return None if item.gap else decode_frame(path, item, FORMAT)


def extent(path: Path) -> int:
    """Return the bytes of a segment's stream: of its file before it is packed, and the same after."""
    with path.open("rb") as file:
        return Packed(path, file).size if is_packed(file) else os.fstat(file.fileno()).st_size


def items(path: Path, start: int = 0, on_torn: OnTorn = ignore) -> Iterator[Item]:
    """Yield the items of a segment, packed or not, from byte `start` of its stream."""
    with path.open("rb") as file:
        yield from _items(path, file, start, on_torn)


def gaps(path: Path) -> list[tuple[int, int]]:
    """Return where in the stream frames were taken away: the begin and the end of each gap."""
    with path.open("rb") as file:
        found = Packed(path, file).gaps() if is_packed(file) else _items(path, file, 0, ignore)
        return [(item.start, item.end) for item in found if item.gap]


def torn(path: Path, on_torn: OnTorn) -> Callable[[int, int], None]:
    """Return what tells of the end of a segment."""

    def end(offset: int, left: int) -> None:
        if left:
            on_torn(Torn(path, offset, left))

    return end


def decode_header(path: Path, item: Item) -> Header:
    """Return the header that an item is."""
    if item.gap:
        raise BadFrame(path, item.start, "a segment without its header")
    try:
        found = _headers.decode(item.body)
    except UNREADABLE as error:
        raise BadFrame(path, item.start, f"not a header: {error}") from None
    if not OLDEST <= found.format <= FORMAT:
        what = f"format {found.format}, and this version reads formats {OLDEST} to {FORMAT}"
        raise BadFrame(path, item.start, what)
    return found


def decode_frame(path: Path, item: Item, format: int) -> Frame:
    """Return the frame that an item of a segment of `format` is, in the shape of today."""
    try:
        return migrate.frame(_frames.decode(item.body), format)
    except UNREADABLE as error:
        raise BadFrame(path, item.start, f"not a frame: {error}") from None


def _stream(paths: list[Path], on_torn: OnTorn) -> Iterator[Frame]:
    for path in paths:
        try:
            for placed in segment(path, on_torn):
                yield placed.frame
        except FileNotFoundError:
            continue  # dropped by retention since the directory was listed


def _items(path: Path, file: BinaryIO, start: int, on_torn: OnTorn) -> Iterator[Item]:
    if is_packed(file):
        yield from Packed(path, file).items(start)
        return

    yield from plain(path, file, start, torn(path, on_torn))


class _Kept(threading.local):
    """Packed segments that a thread reads from, the one used last at the end."""

    def __init__(self) -> None:
        self.open: OrderedDict[tuple[int, int], Packed] = OrderedDict()


_kept_here = _Kept()


def _kept(path: Path, file: BinaryIO) -> Packed:
    """Return the packed segment that `file` is, opened once and kept for the next frame."""
    status = os.fstat(file.fileno())
    key, kept = (status.st_dev, status.st_ino), _kept_here.open
    packed = kept.pop(key, None) or Packed(path)
    kept[key] = packed
    if len(kept) > OPEN_PACKED:
        kept.popitem(last=False)[1].close()
    return packed
