"""Whose turn it is to shake hands.

A step of a TLS handshake takes 0.1 to 1 ms of the worker, as much as dozens of requests. Of a vendor that opens
connections as fast as it can hundreds are due at once, and taken as they come they would all be taken before anybody
else is heard. So the loop takes a few in each of its turns, of each vendor one after the other; between two turns all
other flows are served. While nobody waits, a step is taken at once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from appliance.relay.limits import Limits


class Shaking(Protocol):
    """What shakes hands."""

    def step(self) -> None:
        """Do what is to be done. Nothing is raised."""


class Turns:
    """Of one worker. `told` is called when too much of a vendor waits, with how much."""

    def __init__(self, limits: Limits, told: Callable[[str, int], None]) -> None:
        self._limits, self._told = limits, told
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[str, OrderedDict[Shaking, None]] = OrderedDict()  # by vendor; the first is next
        self._quiet: dict[str, float] = {}  # vendors that were told of, and until when they are not again
        self._left = limits.steps  # in this turn of the loop
        self._due = False  # there is an end of this turn to look after

    def wait(self, vendor: str, one: Shaking) -> None:
        """Have something of a vendor step when its turn comes, or now."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._next)
        if self._left > 0:
            self._left -= 1
            one.step()
            return
        waiting = self._waiting.setdefault(vendor, OrderedDict())
        waiting[one] = None
        now = self._loop.time()
        if len(waiting) > self._limits.shaking and now >= self._quiet.get(vendor, 0.0):
            self._quiet = {other: until for other, until in self._quiet.items() if until > now}
            self._quiet[vendor] = now + self._limits.quiet_s
            self._told(vendor, len(waiting))

    def leave(self, vendor: str, one: Shaking) -> None:
        """It has nothing to do any more."""
        waiting = self._waiting.get(vendor)
        if waiting is not None:
            waiting.pop(one, None)
            if not waiting:
                del self._waiting[vendor]

    def _next(self) -> None:
        """Another turn of the loop has begun."""
        self._left = self._limits.steps
        if not self._waiting:
            self._due = False
            return
        self._loop.call_soon(self._next)
        while self._left > 0 and self._waiting:
            self._left -= 1
            self._first().step()

    def _first(self) -> Shaking:
        """Return what is next; its vendor is the last then."""
        vendor, waiting = self._waiting.popitem(last=False)
        one, _ = waiting.popitem(last=False)
        if waiting:
            self._waiting[vendor] = waiting
        return one
