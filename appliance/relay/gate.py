"""What may leave only when the disk has its record (`record.sync: always`).

The record is appended before anything is forwarded; here bytes wait until it is synced too. Appending goes on
meanwhile, and one sync serves all that was appended before it (group commit). Without a gate, nothing waits.
"""

from collections import deque
from collections.abc import Callable


class Gate:
    """Between what was recorded and what is on the disk, counted in frames. On the loop's thread."""

    def __init__(self, sync: Callable[[], object]) -> None:
        """`sync` asks for the disk to catch up; `opened` or `failed` is called later."""
        self._sync = sync
        self._recorded = self._durable = 0
        self._waiting: deque[tuple[int, Callable[[], None], Callable[[], None]]] = deque()

    @property
    def shut(self) -> bool:
        """True while something recorded is not on the disk."""
        return self._recorded > self._durable

    def recorded(self, position: int) -> None:
        """So many frames are recorded."""
        if position > self._recorded:
            self._recorded = position
            self._sync()

    def wait(self, then: Callable[[], None], lost: Callable[[], None]) -> None:
        """Call `then` when all that is recorded now is on the disk; `lost` when the disk says that it has failed."""
        self._waiting.append((self._recorded, then, lost))

    def opened(self, position: int) -> None:
        """The disk has so many frames."""
        self._durable = max(self._durable, position)
        while self._waiting and self._waiting[0][0] <= self._durable:
            self._waiting.popleft()[1]()

    def failed(self) -> None:
        """The disk does not take it: who waits is told so. What is recorded later is tried for itself."""
        waiting, self._waiting = self._waiting, deque()
        self._durable = self._recorded
        for _, _, lost in waiting:
            lost()
