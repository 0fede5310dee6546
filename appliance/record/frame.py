"""The layout of a record on disk, format 2. The whole of it, with the proof, is in FORMAT.md.

A worker writes segments: files named `WORKER.MILLISECONDS.record`, the second part being the time the segment
was begun, so that the names of one worker sort in the order of writing and no name comes twice.

A segment is a stream of msgpack objects, called items, each of type `bin 32` (msgpack specification, "bin
format family"):

    byte 0      0xc6
    byte 1-4    length of what follows, big-endian
    byte 5-     one msgpack map

so an item can be stepped over by its first five bytes, and any msgpack reader can read the file. The first
map is a `Header`, every other a `Frame`. Fields at their default are left out, and a reader skips those it
does not know. The hash of an item is SHA-256 of a zero byte and all its bytes (chain.py), and each item has the
hash of the one before it. When the segment is done, the hub seals it and packs it (packed.py); the stream
stays the same.

Text that is no UTF-8 stands with backslash escapes; the bytes themselves are in `raw`.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.model import Flow, HostError, Note

FORMAT = 2
OLDEST = 1  # format that can still be read (migrate.py)
MAX_FRAME = 72 << 20  # bytes; a message of 64 MiB, the most a wire lets through, with its text
MAX_TIME = float(1 << 33)  # unix seconds, the year 2242: in microseconds, as the index counts, well within 64 bits
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # what bytes lead to that nobody of ours wrote
MARK = 0xC6
HEAD = 5  # bytes before each map: the mark and the length
NAME = re.compile(r"([A-Za-z0-9_-]{1,64})\.(\d{13,20})\.record")


class Header(msgspec.Struct, frozen=True, gc=False):
    """The first frame of a segment."""

    format: int
    worker: str
    begun: float  # unix seconds
    sequence: int  # of the first frame
    number: int = 0  # in the name of the file; not in format 1
    chain: str = ""  # which run of segments, each of which has the hash of the one before; not in format 1
    segment: int = 0  # place in that chain, from 0
    previous: bytes = b""  # hash of the last item of the segment before; empty: it is the first


class Frame(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One line of the record, where and when it happened."""

    sequence: int  # one more than the frame before it; runs on over segments while the worker lives
    time: float  # unix seconds
    id: str  # of the flow
    note: Note
    dropped: int = 0  # bytes of `note.raw` that the level in force did not keep
    flow: Flow | None = None  # on the first frame of a flow in each segment, so that each can be read alone
    number: int = 0  # of this frame among those of its flow, from 1; after `closed`, from 1 again. Not in format 1
    previous: bytes = b""  # hash of the item before; not in format 1
    salt: bytes = b""  # random, so that from a hash that stays nobody guesses what was there; not in format 1

    @property
    def size(self) -> int:
        """Bytes of the message, kept or not, or passed unread."""
        return len(self.note.raw) + self.note.size + self.dropped


def is_time(when: float) -> bool:
    """Tell whether a frame can be of this time; a worker that was taken over may say any, and "not a number"."""
    return 0.0 <= when <= MAX_TIME


def is_length(seconds: float) -> bool:
    """Tell whether something can have taken so long; below zero where a clock was set back."""
    return -MAX_TIME <= seconds <= MAX_TIME


class BadFrame(HostError):
    """A segment holds what no worker of ours wrote: which file, at which byte, and what is wrong there."""

    def __init__(self, file: Path, offset: int, what: str) -> None:
        super().__init__(f"{file}: byte {offset}: {what}", "the frames before it can still be read")
        self.file, self.offset = file, offset


class Segment(msgspec.Struct, frozen=True, gc=False, order=True):
    """The name of a segment, taken apart. Sorts by worker, then by age."""

    worker: str
    number: int  # milliseconds since 1970
    path: str

    @property
    def name(self) -> str:
        return f"{self.worker}.{self.number:013d}.record"


def segments(directory: Path) -> list[Segment]:
    """Return the segments in a directory by worker and age.

    Files of other names are none; nor are links and pipes, which workers could put there to have root open them.
    """
    with os.scandir(directory) as entries:
        named = [(match, entry) for entry in entries if (match := NAME.fullmatch(entry.name))]
        return sorted(
            Segment(match[1], int(match[2]), entry.path)
            for match, entry in named
            if entry.is_file(follow_symlinks=False)
        )


_encoder = msgspec.msgpack.Encoder()
_S = TypeVar("_S", bound=msgspec.Struct)


def pack(value: Header | Frame) -> bytes:
    """Return the bytes of one frame.

    Raises:
        ValueError: it is longer than MAX_FRAME.
    """
    try:
        body = _encoder.encode(value)
    except UnicodeEncodeError:
        body = _encoder.encode(_plain(value))
    if len(body) > MAX_FRAME:
        raise ValueError(f"a frame of {len(body)} bytes is over {MAX_FRAME}")
    return b"\xc6" + len(body).to_bytes(4, "big") + body


def _plain(value: _S) -> _S:
    """Return the struct with every text in it fit for UTF-8; statements and argv hold any byte."""
    return msgspec.structs.replace(value, **{f: _fit(getattr(value, f)) for f in value.__struct_fields__})


def _fit(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, msgspec.Struct):
        return _plain(value)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return tuple(_fit(one) for one in value)
    return value
