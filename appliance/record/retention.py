"""Dropping what is past its time: whole segments that nobody writes to any more."""

import fcntl
import os
from pathlib import Path

import msgspec

from appliance.record.frame import segments

YOUNG_S = 60.0  # what was written this lately is left: its worker may be about to take the lock


class Pruned(msgspec.Struct, frozen=True, gc=False):
    """What was dropped, and what is left."""

    segments: int
    bytes: int
    left: int  # bytes, open segments included


def prune(directory: Path, older_than: float, max_bytes: int, now: float) -> Pruned:
    """Drop segments last written more than `older_than` seconds ago, then the oldest while over `max_bytes`.

    A segment whose worker lives and has it open is left; if those alone are over `max_bytes`, so be it.
    """
    found = []
    for segment in segments(directory):
        try:
            status = os.stat(segment.path)
        except FileNotFoundError:
            continue
        found.append((status.st_mtime, status.st_size, Path(segment.path)))
    left = sum(size for _, size, _ in found)
    dropped = gone = 0
    for written, size, path in sorted(found):
        if written > now - YOUNG_S or (written >= now - older_than and left <= max_bytes):
            continue
        if _drop(path):
            dropped, gone, left = dropped + 1, gone + size, left - size
    return Pruned(dropped, gone, left)


def _drop(path: Path) -> bool:
    """Remove a segment, unless it is open: its worker holds the lock until it seals it or dies."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        path.unlink()
        return True
    finally:
        os.close(fd)
