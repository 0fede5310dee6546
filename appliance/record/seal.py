"""The seal of a segment: what is in it, by one hash, signed. Made by the hub when the worker is done with it.

What is in it is summed up by a walk over it (walk.py) that checks what the worker wrote: a segment that is not
chained as it should is sealed as far as it is, and the rest is an incident.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec


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
