"""How much a process, and its unit, sent and got of late: what rules on rates and volumes compare.

Counted in slots of a minute, so "the last hour" is the sixty slots that end with this one: at least 59 minutes. Each
worker counts what goes through it. A process is its pid and start time; a program that starts a new process for each
datagram is seen by what its unit moved.
"""

from collections import OrderedDict

import msgspec

from appliance.model import Process

SLOT_S = 60.0
SLOTS = 60  # an hour
MAX_COUNTED = 10_000  # processes, of each protocol; ours: about 3 kB each at most. The one longest still goes
MAX_UNITS = 4096  # the same of units, apart: no unit is forgotten for the processes of another; cgroups of the fence
HOUR, MINUTE = SLOTS, 1
Key = tuple[str, int, int]


class Sums(msgspec.Struct, frozen=True, gc=False):
    """`rate` messages in this minute and the one before, `bytes` in the last hour."""

    rate: int
    bytes: int


class _Count:
    """Of one process or unit."""

    __slots__ = ("_messages", "_slots", "_total")

    def __init__(self) -> None:
        self._slots: OrderedDict[int, int] = OrderedDict()  # minute -> bytes
        self._messages: OrderedDict[int, float] = OrderedDict()  # minute -> messages; only the last two
        self._total = 0

    def add(self, slot: int, messages: int, size: int) -> None:
        self._drop(slot)
        self._slots[slot] = self._slots.get(slot, 0) + size
        self._total += size
        if messages:
            self._messages[slot] = self._messages.get(slot, 0) + messages

    def sums(self, slot: int, share: float) -> Sums:
        self._drop(slot)
        rate = self._messages.get(slot, 0) + self._messages.get(slot - 1, 0) * (1 - share)
        return Sums(int(rate), self._total)

    def _drop(self, slot: int) -> None:
        while self._slots and next(iter(self._slots)) <= slot - SLOTS:
            self._total -= self._slots.popitem(last=False)[1]
        while self._messages and next(iter(self._messages)) < slot - 1:
            self._messages.popitem(last=False)


class Moved:
    """Of all flows of one protocol in one worker. Mutable. `now` is a clock that does not jump, in seconds."""

    def __init__(self) -> None:
        self._processes: OrderedDict[Key, _Count] = OrderedDict()
        self._units: OrderedDict[Key, _Count] = OrderedDict()

    def add(self, process: Process | None, now: float, messages: int, size: int) -> None:
        """Note that `messages` were sent, and `size` bytes moved in either direction."""
        slot = int(now // SLOT_S)
        key, unit = _keys(process)
        for counts, one, most in ((self._processes, key, MAX_COUNTED), (self._units, unit, MAX_UNITS)):
            count = counts.get(one)
            if count is None:
                count = counts[one] = _Count()
                if len(counts) > most:
                    counts.popitem(last=False)
            counts.move_to_end(one)
            count.add(slot, messages, size)

    def values(self, process: Process | None, now: float, size: int) -> dict[str, frozenset[str]]:
        """Return the facts for a message of `size` bytes that is about to be sent."""
        slot, share = int(now // SLOT_S), now % SLOT_S / SLOT_S
        found: dict[str, frozenset[str]] = {}
        key, unit = _keys(process)
        for prefix, count in (("", self._processes.get(key)), ("unit_", self._units.get(unit))):
            sums = count.sums(slot, share) if count is not None else Sums(0, 0)
            found[prefix + "rate"] = frozenset((str(sums.rate + 1),))
            found[prefix + "bytes"] = frozenset((str(sums.bytes + size),))
        return found


def _keys(process: Process | None) -> tuple[Key, Key]:
    """Return what a process and its unit are counted by. A process nobody knows shares the count of all such."""
    if process is None:
        return ("", 0, 0), ("?", 0, 0)
    unit = process.unit or process.vendor or "/"
    return ("", process.pid, process.started_ns), (unit, 0, 0)
