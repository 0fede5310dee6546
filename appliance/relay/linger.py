"""How long an end may still take what was written to it, when its flow is over."""

import asyncio
from collections.abc import Callable, Mapping

from appliance.model import Side
from appliance.relay.end import End
from appliance.relay.limits import Limits


class Linger:
    """Looks now and then, from `begin` on; `settle` is called after each look."""

    def __init__(self, ends: Mapping[Side, End], limits: Limits, settle: Callable[[], None]) -> None:
        self._ends, self._limits, self._settle = ends, limits, settle
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._left = dict.fromkeys(Side, -1)  # bytes unread at the last look

    def begin(self) -> None:
        """The flow is over."""
        self._until = self._loop.time() + self._limits.linger_max_s

    def look(self) -> None:
        """Look again in a while."""
        self._timer = self._timer or self._loop.call_later(self._limits.linger_s, self._looks)

    def stop(self) -> None:
        """Look no more."""
        if self._timer:
            self._timer.cancel()

    def _looks(self) -> None:
        """End what made no progress since the last time.

        An end with nothing left to write is closed, not reset: what the kernel still has gets its time.
        """
        self._timer = None
        late = self._loop.time() >= self._until
        for side, end in self._ends.items():
            left = end.unread
            if left == 0 or late or left == self._left[side]:
                if end.buffered:
                    end.reset()
                else:
                    end.close()
            self._left[side] = left
        self._settle()
