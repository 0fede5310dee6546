"""Whose packets found their queue full: the kernel dropped them, and operators are told who sends so many.

Each vendor has a queue of its own (kernel/queues.py), so it is the one who sends; of several that share one, all are
named. An answer that comes in for a vendor takes room in the same queue.
"""

import time
from collections.abc import Callable
from pathlib import Path

from appliance.kernel.layout import QUEUES
from appliance.kernel.queue import dropped
from appliance.kernel.queues import QUEUE
from appliance.kernel.speakers import vendors

AGAIN_S = 60.0  # between two incidents about one queue


class Overflow:
    """`look` every second, while there is an engine."""

    def __init__(self, shares: int, slice_path: Path, incident: Callable[[str], None]) -> None:
        """`shares` is that of `Fence`."""
        self._shares, self._slice, self._incident = shares, slice_path, incident
        self._before = [0] * QUEUES
        self._told = [-AGAIN_S] * QUEUES
        self.total = 0  # packets, since the hub began

    def look(self) -> None:
        """Count what was dropped since the last look, and tell whose it was."""
        before, self._before = self._before, dropped(QUEUE, QUEUES)
        for turn, (then, lost) in enumerate(zip(before, self._before, strict=True)):
            more = lost - then if lost >= then else lost  # the engine is another one: its queues begin at nothing
            self.total += more
            if more and time.monotonic() - self._told[turn] >= AGAIN_S:
                self._told[turn] = time.monotonic()
                whose = ", ".join(vendors(self._shares, self._slice).get(turn, ())) or "a vendor that is gone"
                self._incident(f"{whose}: packets are dropped, its queue is full: more come than can be judged")
