"""What lets packets out that the packet engine has judged: a mark that nobody can know who is not root.

A number of 32 bits is drawn, told to the fence and to the engine, and to nobody else; the engine puts it on what it
accepts. Until it is told, and after `shut`, nothing that the engine would judge may leave. Governed processes cannot
set marks by setsockopt(2); one with CAP_NET_RAW can by a control message, and may guess. What comes out with a mark
that is none of ours is dropped and counted (`forged`): whoever sees that grow draws anew, and names the unit.

A socket that was made while nothing was told has no mark yet: its first datagram without connect() is lost.
"""

import os
import sys

from appliance.kernel.fence import Fence, answers
from appliance.kernel.layout import PASSAGE, PASSAGE_PING, QUEUE_MARK, QUEUE_TAG, Reason
from appliance.kernel.libbpf import Map
from appliance.kernel.load import ZERO

LEAST = 1 << 16  # marks of other firewalls are mostly small, or few bits of the upper half
OURS = 0x56000000  # of the marks that nftables looks for
SECRET = 32  # bits


class Passage:
    """The fence's side of it. One for a fence; the hub's."""

    def __init__(self, fence: Fence) -> None:
        self._map, self._counters, self._place = Map(fence.passage), Map(fence.counters), fence.place

    def open(self, pings: bool = False) -> int:
        """Draw a mark and let by what has it, from now on; return it. With `pings`, ping sockets may be made.

        What an earlier mark let by passes no more; what is under way with it is dropped.
        """
        answers(self._place)
        mark = drawn()
        self._map.update(ZERO, PASSAGE.pack(mark, PASSAGE_PING if pings else 0))
        return mark

    def shut(self) -> None:
        """There is no engine: what it would judge is refused at once."""
        self._map.update(ZERO, PASSAGE.pack(0, 0))

    @property
    def mark(self) -> int:
        """The mark that is in force; 0: none."""
        return int(PASSAGE.unpack(self._map.lookup(ZERO) or bytes(PASSAGE.size))[0])

    @property
    def forged(self) -> int:
        """How many packets came out with a mark that is nobody's."""
        return self._counters.lookup_sum(Reason.DROP_FORGED.to_bytes(4, sys.byteorder))


def drawn() -> int:
    """Return a mark at random that is not one of those with another meaning."""
    while True:
        mark = int.from_bytes(os.urandom(SECRET // 8), "big")
        if mark >= LEAST and mark & QUEUE_TAG not in (QUEUE_MARK, OURS):
            return mark
