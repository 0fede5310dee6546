"""The record of one worker, written before what it tells of is forwarded. The layout is in frame.py.

What is promised: when `append` has returned, the notes are in the page cache, and no kill of this or any
other process loses them. When it raises, none of them can be read back, save when the file cannot even be
shortened. A power cut is another matter: `append` does not wait for the disk, which would cost milliseconds a
statement. The hub calls `sync` every SYNC_EVERY_S, and that much is what a power cut can take.

The open segment is locked (flock), so another process can tell it from one whose worker is gone.
"""

import errno
import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from appliance.model import Flow, Note, Side
from appliance.record.frame import FORMAT, NAME, Frame, Header, Segment, pack, segments

Level = Literal["full", "requests", "metadata"]

SEGMENT_BYTES = 64 << 20  # retention works in these steps; small against the 20 GiB of a default store
SEGMENT_AGE_S = 86_400.0  # and by day, so that a quiet worker's past can be dropped on time
SYNC_EVERY_S = 5.0  # what Linux itself waits before it writes back, dirty_writeback_centisecs
MAX_TRIES = 1_000  # names taken by segments begun in the same millisecond


class Log:
    """Appends the notes of one worker's flows to segments in `directory`. One thread."""

    def __init__(
        self,
        directory: Path,
        worker: str,
        level: Level = "full",
        segment_bytes: int = SEGMENT_BYTES,
        segment_age_s: float = SEGMENT_AGE_S,
    ) -> None:
        if not NAME.fullmatch(f"{worker}.{0:013d}.record"):
            raise ValueError(f"not a name for a worker: {worker!r}")
        self._directory, self._worker, self._level = directory, worker, level
        self._segment_bytes, self._segment_age_s = segment_bytes, segment_age_s
        self._path = directory  # of the open segment
        self._fd = -1  # the same; -1: the next append begins one
        self._size = 0
        self._begun = 0.0
        self._number = 0  # of the last segment begun
        self._sequence = 1  # of the next frame
        self._known: set[str] = set()  # open flows whose addresses the open segment has

    def append(self, flow: Flow, notes: Sequence[Note], now: float) -> None:
        """Write the notes, all of them or none; `now` in unix seconds.

        Raises:
            OSError: they are not in the record.
        """
        if not notes:
            return
        if self._fd >= 0 and now - self._begun >= self._segment_age_s:
            self.seal()
        batch = self._batch(flow, notes, now)
        if self._fd >= 0 and self._size + len(batch) > self._segment_bytes:
            self.seal()
            batch = self._batch(flow, notes, now)
        if self._fd < 0:
            self._begin(now)
            batch = pack(Header(FORMAT, self._worker, now, self._sequence)) + batch
        self._write(batch, len(notes))
        self._sequence += len(notes)
        self._known.add(flow.id)
        if any(note.kind == "closed" for note in notes):
            self._known.discard(flow.id)

    def seal(self) -> None:
        """End the open segment; it can be dropped from then on. The next append begins another."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._known.clear()

    def _batch(self, flow: Flow, notes: Iterable[Note], now: float) -> bytes:
        head = None if flow.id in self._known else flow
        frames = []
        for number, note in enumerate(notes, self._sequence):
            stays, dropped = kept(note, self._level)
            try:
                frames.append(pack(Frame(number, now, flow.id, stays, dropped, head)))
            except ValueError as error:
                raise OSError(errno.EFBIG, str(error)) from None
            head = None
        return b"".join(frames)

    def _begin(self, now: float) -> None:
        self._number = max(int(now * 1000), self._number + 1)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        for _ in range(MAX_TRIES):
            path = self._directory / Segment(self._worker, self._number, "").name
            try:
                self._fd = os.open(path, flags, 0o600)
            except FileExistsError:
                self._number += 1
                continue
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._path, self._size, self._begun = path, 0, now
            return
        raise OSError(errno.EEXIST, "no free name for a segment", str(self._directory))

    def _write(self, batch: bytes, frames: int) -> None:
        try:
            written = os.write(self._fd, batch)
            if written != len(batch):
                raise OSError(errno.ENOSPC, f"{written} of {len(batch)} bytes written")
        except OSError:
            self._undo(frames)
            raise
        self._size += len(batch)

    def _undo(self, frames: int) -> None:
        """Take back what a failed write left, and end the segment, so that nothing is ever written over it.

        A reader may have seen whole frames of the batch; it can tell by the file that became shorter.
        """
        try:
            if os.fstat(self._fd).st_size > self._size:
                os.ftruncate(self._fd, self._size)
            if self._size == 0:
                self._path.unlink()
        except OSError:
            self._sequence += frames  # they may be read back, so their numbers are used
        self.seal()


def kept(note: Note, level: Level) -> tuple[Note, int]:
    """Return what of a note the level keeps, and how many bytes of the message it drops.

    `full` keeps all, `requests` the bytes and text of the client's messages only, `metadata` those of neither
    side and no statement. What the rules decided, and what went wrong, is kept at every level.
    """
    if note.message == "auth" and note.side is Side.CLIENT and note.raw:
        raise AssertionError("a secret came to the record")
    if level == "full" or note.kind in ("opened", "closed", "incident", "answered"):
        return note, 0
    if level == "requests" and note.side is not Side.SERVER:
        return note, 0
    return msgspec.structs.replace(note, raw=b"", text=""), len(note.raw)


def sync(directory: Path, since: float) -> int:
    """Bring to the disk what was appended after `since` (unix seconds); return how many segments it was.

    Blocks on the disk: call it in a thread, from any process that may read the segments.
    """
    done = 0
    for segment in segments(directory):
        try:
            if os.stat(segment.path).st_mtime < since:
                continue
            fd = os.open(segment.path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # dropped by retention meanwhile
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        done += 1
    return done
