"""Ids of flows: sortable by time, unique on this host, short enough to be typed."""

import secrets
import time
from collections.abc import Callable

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i l o u, in the order of ASCII
TIME = 11  # letters; 55 bits of microseconds reach the year 3111
WORKER = 2  # letters; up to 1,024 workers
CHANCE = 2  # letters; tell flows apart if the clock of the host was set back over a restart


class Ids:
    """The ids one worker gives: no two alike, each after the one before."""

    def __init__(self, worker: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._worker, self._clock_ns = _letters(worker, WORKER), clock_ns
        self._last = 0

    def next(self) -> str:
        """Return the id of a flow opened now."""
        self._last = max(self._clock_ns() // 1000, self._last + 1)
        chance = secrets.randbelow(32**CHANCE)
        return _letters(self._last, TIME) + self._worker + _letters(chance, CHANCE)


def _letters(number: int, width: int) -> str:
    out = ""
    for _ in range(width):
        number, rest = divmod(number, 32)
        out = ALPHABET[rest] + out
    return out
