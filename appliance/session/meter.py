"""Where the time of a message goes: into reading it, judging it, the wait for a reviewer, the server.

The clock is the shell's, any that does not jump, in seconds. Without one only the wait and the server are measured,
by the times the session is given.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from appliance.model import Spent

T = TypeVar("T")
Clock = Callable[[], float]


def sooner(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two times; None is never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class Meter:
    """One flow's. What is measured is handed over once, with the next message that is noted."""

    def __init__(self, clock: Clock | None) -> None:
        self.now = 0.0  # as the session was told
        self._clock = clock
        self._parsed = self._judging = 0.0
        self._sent: float | None = None  # when the first request went up that nothing answered yet

    def reading(self, items: Iterator[T]) -> Iterator[T]:
        """Yield what a wire reads; the time it takes counts as `parse`."""
        return items if self._clock is None else self._timed(items, self._clock)

    def _timed(self, items: Iterator[T], clock: Clock) -> Iterator[T]:
        while True:
            began = clock()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._parsed += clock() - began
            yield item

    def judging(self) -> None:
        """From here on, time is `policy`."""
        self._judging = self._time()

    def judged(self) -> Spent | None:
        """Return what the request just judged has taken of our time."""
        if self._clock is None:
            return None
        parsed, self._parsed = self._parsed, 0.0
        return Spent(parse=parsed, policy=max(0.0, self._clock() - self._judging))

    def sent(self) -> None:
        """A request goes up."""
        if self._sent is None:
            self._sent = self._time()

    def answered(self) -> Spent | None:
        """Return what the answer just read took: of the server the wait for its first byte."""
        parsed, self._parsed = self._parsed, 0.0
        upstream = 0.0 if self._sent is None else max(0.0, self._time() - self._sent)
        self._sent = None
        return Spent(parse=parsed, upstream=upstream) if parsed or upstream else None

    def _time(self) -> float:
        return self.now if self._clock is None else self._clock()
