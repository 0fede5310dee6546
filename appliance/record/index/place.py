"""Frames of sessions, by time, in little memory: what is open is one place a session that is going on."""

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from appliance.record.frame import Frame
from appliance.record.index.schema import MICROS
from appliance.record.read import at

OPEN_FILES = 32  # logs open at once while sessions are read

Parts = Sequence[tuple[int, str]]  # rows of `parts` of one session, and the log each tells of
Offsets = Callable[[int], bytes]  # of one row


class Files:
    """Logs opened for reading, the last used OPEN_FILES of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: OrderedDict[str, BinaryIO] = OrderedDict()

    def frame(self, name: str, offset: int) -> Frame | None:
        """Return a frame, or None if retention took it.

        Raises:
            BadFrame: there is none where one was.
        """
        file = self._get(name)
        return at(self._directory / name, file, offset) if file is not None else None

    def _get(self, name: str) -> BinaryIO | None:
        file = self._open.pop(name, None)
        if file is None:
            try:
                file = (self._directory / name).open("rb")
            except FileNotFoundError:
                return None
        self._open[name] = file
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return file

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def session(parts: Parts, offsets: Offsets, files: Files) -> Iterator[Frame]:
    """Yield the frames of one session, in order."""
    for row, name in parts:
        for offset in array("Q", offsets(row)):
            frame = files.frame(name, offset)
            if frame is not None:
                yield frame


def merged(numbers: Iterable[int], open: Callable[[int], Iterator[Frame]]) -> Iterator[Frame]:
    """Yield the frames of many sessions by time; `numbers` are theirs, in order.

    A session is opened only when the time comes at which it began.
    """
    waiting = iter(numbers)
    following = next(waiting, None)
    running: list[tuple[float, int, Frame, Iterator[Frame]]] = []
    while running or following is not None:
        while following is not None and (not running or following <= running[0][0] * MICROS):
            frames = open(following)
            first = next(frames, None)
            if first is not None:
                heapq.heappush(running, (first.time, following, first, frames))
            following = next(waiting, None)
        if not running:
            continue
        _, number, frame, frames = running[0]
        yield frame
        after = next(frames, None)
        if after is None:
            heapq.heappop(running)
        else:
            heapq.heapreplace(running, (after.time, number, after, frames))
