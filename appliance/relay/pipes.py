"""Pipes of the kernel, for bulk that is moved through them (splice.py)."""

import fcntl
import os

PIPE = 1024 * 1024  # bytes one holds, and so one move; what a process without rights may have: fs.pipe-max-size

Ends = tuple[int, int]  # of a pipe: where it is read, and written


class Pipes:
    """The pipes of one worker. They are empty but while a target takes no more, so few serve many flows."""

    def __init__(self, most: int, splices: int, size: int = PIPE) -> None:
        """`most` pipes that hold `size` bytes, for as many `splices` at a time."""
        self._most, self._splices, self._size = most, splices, size
        self._free: list[Ends] = []
        self._made = 0
        self.splices = 0  # there are

    @property
    def full(self) -> bool:
        """True while there may be no further splice."""
        return self.splices >= self._splices

    def take(self) -> Ends | None:
        """Return an empty pipe; None when there are no more, or the kernel gives none of that size."""
        if self._free:
            return self._free.pop()
        if self._made >= self._most:
            return None
        try:
            ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        self._made += 1
        try:
            if fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, self._size) >= self._size:
                return ends
        except OSError:
            pass  # over fs.pipe-user-pages-soft, which counts those of all processes of this user
        self.close(ends)
        return None

    def give(self, ends: Ends) -> None:
        """Take back an empty pipe."""
        self._free.append(ends)

    def close(self, ends: Ends) -> None:
        """Take back a pipe that is not empty."""
        self._made -= 1
        for end in ends:
            os.close(end)
