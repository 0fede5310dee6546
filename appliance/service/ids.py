"""Ids of flows: sortable by time, unique on this host, short enough to be typed."""

import secrets
import time
from collections.abc import Callable

from appliance.record.whose import CHANCE, TIME, WORKER, letters


class Ids:
    """The ids one worker gives: no two alike, each after the one before."""

    def __init__(self, worker: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._worker, self._clock_ns = letters(worker, WORKER), clock_ns
        self._last = 0

    def next(self) -> str:
        """Return the id of a flow opened now."""
        self._last = max(self._clock_ns() // 1000, self._last + 1)
        chance = secrets.randbelow(32**CHANCE)
        return letters(self._last, TIME) + self._worker + letters(chance, CHANCE)
