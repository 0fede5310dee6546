"""Reading the record: one segment, or all of a directory in the order of time.

A segment may end in the middle of a frame: its worker was killed in a write, or is in one. That end is
reported, and is no error. Anything else that is not in frame.py is a `BadFrame`.
"""

import heapq
import operator
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import msgspec

from appliance.record.frame import FORMAT, HEAD, MARK, MAX_FRAME, BadFrame, Frame, Header, segments


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
    with path.open("rb") as file:
        found = _header(path, file, ignore)
    return found[0] if found else None


def segment(
    path: Path, on_torn: OnTorn = ignore, start: int = 0, before: int | None = None
) -> Iterator[Placed]:
    """Yield the frames of a segment from byte `start`, the end of a frame read earlier; 0 for all.

    `before` is the sequence of the frame that ends at `start`.
    """
    with path.open("rb") as file:
        found = _header(path, file, on_torn)
        if found is None:
            return
        top, offset = found
        expected = top.sequence if before is None else before + 1
        if start > offset:
            offset = file.seek(start)
        while (body := _body(path, file, offset, on_torn)) is not None:
            frame = _decode(path, offset, body)
            if frame.sequence != expected:
                raise BadFrame(path, offset, f"frame {frame.sequence} where {expected} was due")
            end = offset + HEAD + len(body)
            yield Placed(offset, end, frame)
            offset, expected = end, expected + 1


def at(path: Path, file: BinaryIO, offset: int) -> Frame:
    """Return the frame at an offset known from an earlier reading."""
    file.seek(offset)
    body = _body(path, file, offset, ignore)
    if body is None:
        raise BadFrame(path, offset, "the frame that was here is gone")
    return _decode(path, offset, body)


def _stream(paths: list[Path], on_torn: OnTorn) -> Iterator[Frame]:
    for path in paths:
        try:
            for placed in segment(path, on_torn):
                yield placed.frame
        except FileNotFoundError:
            continue  # dropped by retention since the directory was listed


def _header(path: Path, file: BinaryIO, on_torn: OnTorn) -> tuple[Header, int] | None:
    body = _body(path, file, 0, on_torn)
    if body is None:
        return None
    try:
        found = _headers.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(path, 0, f"not a header: {error}") from None
    if found.format != FORMAT:
        raise BadFrame(path, 0, f"format {found.format}, and this version reads format {FORMAT}")
    return found, HEAD + len(body)


def _body(path: Path, file: BinaryIO, offset: int, on_torn: OnTorn) -> bytes | None:
    """Return the map at the position of `file`; None if the file ends before it does."""
    head = file.read(HEAD)
    if head and head[0] != MARK:
        raise BadFrame(path, offset, f"byte {head[0]:#04x} where a frame should begin")
    if len(head) < HEAD:
        if head:
            on_torn(Torn(path, offset, len(head)))
        return None
    length = int.from_bytes(head[1:], "big")
    if length > MAX_FRAME:
        raise BadFrame(path, offset, f"a frame of {length} bytes is over {MAX_FRAME}")
    body = file.read(length)
    if len(body) < length:
        on_torn(Torn(path, offset, HEAD + len(body)))
        return None
    return body


def _decode(path: Path, offset: int, body: bytes) -> Frame:
    try:
        return _frames.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFrame(path, offset, f"not a frame: {error}") from None
