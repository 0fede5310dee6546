"""Where the time of a message goes: into reading it, judging it, the wait for a reviewer, the server.

The clock is the shell's, any that does not jump, in seconds. Without one only the wait and the server are measured,
by the times the session is given.
"""

from collections.abc import Callable

from appliance.model import Spent

Clock = Callable[[], float]


def sooner(one: float | None, other: float | None) -> float | None:
    """Return the earlier of two times; None is never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class Meter:
    """One flow's. What is measured is handed over once, with the next message that is noted.

    The clock is read where one thing ends and the next begins, so that a message costs two looks at it.
    """

    def __init__(self, clock: Clock | None) -> None:
        self.now = 0.0  # as the session was told
        self._clock = clock
        self._mark = 0.0  # the clock, when it was looked at last
        self._parsed = 0.0
        self._sent: float | None = None  # when the first request went up that nothing answered yet

    def begun(self, now: float) -> float:
        """Something happened at `now`, which is returned; from here on, time is `parse`."""
        self.now = now
        self._mark = now if self._clock is None else self._clock()
        return now

    def judging(self) -> None:
        """From here on, time is `policy`."""
        if self._clock is not None:
            mark, self._mark = self._mark, self._clock()
            self._parsed += self._mark - mark

    def judged(self) -> Spent | None:
        """Return what the request just judged has taken of our time; from here on, it is `parse` again."""
        if self._clock is None:
            return None
        (parsed, self._parsed), (mark, self._mark) = (self._parsed, 0.0), (self._mark, self._clock())
        return Spent(parse=parsed, policy=max(0.0, self._mark - mark))

    def sent(self) -> None:
        """A request goes up."""
        if self._sent is None:
            self._sent = self._mark

    def answered(self) -> Spent | None:
        """Return what the answer just read took: of the server the wait for its first byte."""
        began = self._mark
        self.judging()
        parsed, self._parsed = self._parsed, 0.0
        upstream = 0.0 if self._sent is None else max(0.0, began - self._sent)
        self._sent = None
        return Spent(parse=parsed, upstream=upstream) if parsed or upstream else None
