"""The record of one worker, written before what it tells of is forwarded. The layout is in frame.py.

What is promised: when `append` has returned, the notes are in the page cache, and no kill of this or any
other process loses them. When it raises, none of them can be read back, save when the file cannot even be
shortened. A power cut is another matter: `append` does not wait for the disk. `Log.sync` does, for all that was
appended before it (group commit): where the setting `record.sync` is `always`, nothing is forwarded before it
has returned. Else the hub calls `sync` every SYNC_EVERY_S, and that much is what a power cut can take.

The open segment is locked (flock), so another process can tell it from one whose worker is gone.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

import msgspec

from appliance.model import Flow, Note, Side
from appliance.record.chain import leaf
from appliance.record.disk import sync_names
from appliance.record.frame import FORMAT, NAME, Frame, Header, Segment, pack, segments

Level = Literal["full", "requests", "metadata"]

SEGMENT_BYTES = 64 << 20  # retention works in these steps; small against the 20 GiB of a default store
SEGMENT_AGE_S = 86_400.0  # and by day, so that a quiet worker's past can be dropped on time
SYNC_EVERY_S = 5.0  # what Linux itself waits before it writes back, dirty_writeback_centisecs
MAX_TRIES = 1_000  # names taken by segments begun in the same millisecond
SALT_BYTES = 8  # of each frame; 2^64 tries for each guess
SALTS = 512  # frames whose salts are asked of the kernel at once
CHAIN_BYTES = 16  # of a chain's name; random, so that no two are the same


Entry = tuple[Flow, Sequence[Note]]


class _Batch:
    """What one write is to bring: frames, and what is true of the log when they are in it."""

    def __init__(self, header: bytes, head: bytes) -> None:
        self.items = [header] if header else []
        self.head = leaf(header) if header else head  # the hash of the last item
        self.data = b""
        self.frames = 0
        self.counts: dict[str, int] = {}  # frames of each flow in it; 0: it was closed


class Log:
    """Appends the notes of one worker's flows to segments in `directory`. One thread; `sync` from another."""

    def __init__(
        self,
        directory: Path,
        worker: str,
        level: Level = "full",
        segment_bytes: int = SEGMENT_BYTES,
        segment_age_s: float = SEGMENT_AGE_S,
        *,
        synced: bool = False,
        clock: Callable[[], float] | None = None,
        begun: Callable[[int], object] = lambda descriptor: None,
    ) -> None:
        """`synced`: somebody calls `sync`, so ended segments are kept open until it has seen them.

        `clock` tells when a segment is begun, where that is another time than its notes'; `begun` is called with the
        descriptor of each.
        """
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
        self._header = b""  # of the open segment, until it is written
        self._known: set[str] = set()  # open flows whose addresses the open segment has
        self._counts: dict[str, int] = {}  # frames of each open flow
        self._salts, self._salted = b"", 0  # drawn, and how much of it was used: none is used twice
        self._synced, self._clock, self._on_begun = synced, clock, begun
        self._ended: list[int] = []  # segments that `sync` has still to see
        self._fresh = False  # the name of the open segment may not be on the disk
        self._lock = threading.Lock()  # of what `sync` looks at
        self._new_chain()

    @property
    def position(self) -> int:
        """Frames appended so far."""
        return self._sequence - 1

    def append(self, flow: Flow, notes: Sequence[Note], now: float) -> None:
        """Write the notes, all of them or none; `now` in unix seconds.

        Raises:
            OSError: they are not in the record.
        """
        self.append_all([(flow, notes)], now)

    def append_all(self, entries: Sequence[Entry], now: float) -> None:
        """Write the notes of several flows by one write, in that order, all of them or none.

        Raises:
            OSError: none of them is in the record.
        """
        stays = [(flow, [self._kept(note) for note in notes]) for flow, notes in entries if notes]
        if not stays:
            return
        if self._fd >= 0 and now - self._begun >= self._segment_age_s:
            self.seal()
        if self._fd < 0:
            self._begin(now)
        batch = self._batch(stays, now)
        if self._size and self._size + len(batch.data) > self._segment_bytes:
            self.seal()
            self._begin(now)
            batch = self._batch(stays, now)
        self._write(batch.data, batch.frames)
        self._head = batch.head
        self._sequence += batch.frames
        for flow_id, count in batch.counts.items():
            if count:
                self._known.add(flow_id)
                self._counts[flow_id] = count
            else:
                self._known.discard(flow_id)
                self._counts.pop(flow_id, None)

    def seal(self) -> None:
        """End the open segment; it can be sealed and dropped from then on. The next append begins another."""
        with self._lock:
            if self._fd >= 0 and self._synced:
                self._ended.append(self._fd)
            elif self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
        self._known.clear()

    def sync(self) -> int:
        """Wait until the disk has all that was appended before the call; return the `position` that it has.

        From any one thread. Raises:
            OSError: the disk does not say that it has it.
        """
        with self._lock:
            position, ended, self._ended = self.position, self._ended, []
            fd = os.dup(self._fd) if self._fd >= 0 else -1  # the log may end the segment meanwhile
            fresh, self._fresh = self._fresh, False
        try:
            if fresh:
                _sync_names(self._directory)
            for one in filter(lambda one: one >= 0, (*ended, fd)):
                os.fdatasync(one)
        except OSError:
            self._fresh = True  # all is tried again; a segment that was ended is lost to us, and so is its position
            raise
        finally:
            for one in filter(lambda one: one >= 0, (*ended, fd)):
                os.close(one)
        return position

    def _new_chain(self) -> None:
        self._chain, self._segment, self._head = secrets.token_hex(CHAIN_BYTES), 0, b""

    def _kept(self, note: Note) -> tuple[Note, int]:
        if self._level == "full" and not note.level and note.message != "auth":
            return note, 0  # most there are
        return kept(note, self._level)

    def _batch(self, entries: Sequence[tuple[Flow, Sequence[tuple[Note, int]]]], now: float) -> "_Batch":
        """Return the frames, after the header if none was written."""
        first = self._size == 0
        batch = _Batch(self._header if first else b"", self._head)
        try:
            for flow, notes in entries:
                self._add(batch, flow, notes, now)
        except ValueError as error:
            if first:
                self._undo(0)
            raise OSError(errno.EFBIG, str(error)) from None
        batch.data = b"".join(batch.items)
        return batch

    def _add(self, batch: "_Batch", flow: Flow, notes: Sequence[tuple[Note, int]], now: float) -> None:
        """Put one flow's frames at the end of a batch. After a note that closes, the flow is as one never seen."""
        flow_id = flow.id
        count = batch.counts.get(flow_id, -1)
        known = count > 0
        if count < 0:
            count, known = self._counts.get(flow_id, 0), flow_id in self._known
        whose = None if known else flow
        closed = False
        for note, dropped in notes:
            count += 1
            batch.frames += 1
            sequence = self._sequence + batch.frames - 1
            item = pack(Frame(sequence, now, flow_id, note, dropped, whose, count, batch.head, self._salt()))
            batch.items.append(item)
            batch.head = leaf(item)
            whose = None
            closed = closed or note.kind == "closed"
        batch.counts[flow_id] = 0 if closed else count

    def _salt(self) -> bytes:
        at = self._salted
        if at >= len(self._salts):
            self._salts, at = os.urandom(SALT_BYTES * SALTS), 0
        self._salted = at + SALT_BYTES
        return self._salts[at : at + SALT_BYTES]

    def _begin(self, now: float) -> None:
        if self._clock is not None:
            now = self._clock()
        self._number = max(int(now * 1000), self._number + 1)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        for _ in range(MAX_TRIES):
            path = self._directory / Segment(self._worker, self._number, "").name
            try:
                fd = os.open(path, flags, 0o600)
            except FileExistsError:
                self._number += 1
                continue
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink == 0:  # taken for what a killed worker left, before it was locked
                os.close(fd)
                self._number += 1
                continue
            self._path, self._size, self._begun = path, 0, now
            self._header = pack(
                Header(FORMAT, self._worker, now, self._sequence, self._number, self._chain, self._segment, self._head)
            )
            with self._lock:
                self._fd, self._fresh = fd, True
            self._on_begun(fd)
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
        if self._size == 0:
            self._segment += 1
        self._size += len(batch)

    def _undo(self, frames: int) -> None:
        """Take back what a failed write left, and end the segment, so that nothing is ever written over it.

        A reader may have seen whole frames of the batch; it can tell by the file that became shorter.
        """
        try:
            if os.fstat(self._fd).st_size > self._size:
                os.ftruncate(self._fd, self._size)
            if self._size == 0:
                with contextlib.suppress(FileNotFoundError):  # the hub has moved it, and removes it when it is old
                    self._path.unlink()
        except OSError:
            self._sequence += frames  # they may be read back, so their numbers are used
            self._new_chain()  # and what comes next cannot know what it follows
        self.seal()


def kept(note: Note, level: Level) -> tuple[Note, int]:
    """Return what of a note the level keeps, and how many bytes of the message it drops.

    `full` keeps all, `requests` the bytes and text of the client's messages only, `metadata` those of neither
    side and no statement. What the rules decided, and what went wrong, is kept at every level. A level that the
    note itself names, by the word of a rule, goes before the one given.
    """
    level = cast(Level, note.level or level)
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
    if done:
        _sync_names(directory)
    return done


def _sync_names(directory: Path) -> None:
    """Bring the names of new segments to the disk; where the directory cannot be opened, others must."""
    with contextlib.suppress(PermissionError):
        sync_names(directory)
