"""What left each governed cgroup, by which way, as the kernel counted it. The other half of the coverage ledger.

What can be held against it:

    relay.flows   the flows put where the relay's accept() finds them, so also `sequence`: the next flow's number is
                  one more. A flow counts when its handshake is completed; a refused or reset one may never be accepted.
    relay.bytes   bytes of the TCP streams towards the relay, each once, however often it was sent again. That is what
                  tcpi_bytes_received says of the accepted socket, less one when the client has ended its side: the
                  kernel counts a FIN as a byte there. What a relay never read is in both.
    others' bytes those of packets, with their IP headers; a packet of segmentation offload has one header.

Counters only grow within an epoch; a new epoch begins when the fence is put up anew, or with another layout. They are
kept over restarts of the service and over upgrades that keep the layout.
"""

import struct
import sys

import msgspec

from appliance.kernel import cgroups
from appliance.kernel.fence import Fence, settle
from appliance.kernel.layout import LEDGER, Reason, Settings, Way
from appliance.kernel.libbpf import Map
from appliance.kernel.load import ZERO

KEY = struct.Struct("=Q")
ROOM = LEDGER // 2  # accounts of cgroups that are gone are kept until there are so many


class Traffic(msgspec.Struct, frozen=True, gc=False):
    """What went one way."""

    flows: int = 0
    packets: int = 0
    bytes: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.flows + other.flows, self.packets + other.packets, self.bytes + other.bytes)


class Coverage(msgspec.Struct, frozen=True):
    """The account of one cgroup. `dropped.flows` are connections refused before there was a packet."""

    id: int  # of the cgroup; model.Flow.scope
    cgroup: str | None  # path below the slice, "" for the slice itself; None: gone, or never below it
    epoch: int  # ns since boot when counting began; model.Flow.epoch
    sequence: int  # the highest model.Flow.sequence given so far
    direct: Traffic = Traffic()
    relay: Traffic = Traffic()
    engine: Traffic = Traffic()  # the packet engine
    inside: Traffic = Traffic()  # answers within one vendor, over lo; what they answer is direct
    kept: Traffic = Traffic()  # of connections from before the fence
    dropped: Traffic = Traffic()
    reasons: dict[str, int] = {}  # why something was refused, dropped or killed, by layout.Reason; only those that were

    @property
    def sent(self) -> Traffic:
        """Return what passed, by whichever way."""
        return self.direct + self.relay + self.engine + self.inside + self.kept


def read(fence: Fence) -> tuple[Coverage, ...]:
    """Return the accounts of all cgroups that have one, by id."""
    settle(fence.place)
    settings = Settings.unpack(Map(fence.settings).lookup(ZERO) or b"")
    coverage, sequences = Map(fence.coverage), Map(fence.sequences)
    paths = cgroups.governed(fence.place.cgroup)
    found = []
    for key in sorted({*coverage}, key=KEY.unpack):
        columns = coverage.lookup_columns(key)
        number = sequences.lookup(key)
        if columns:
            (identifier,) = KEY.unpack(key)
            sequence = int.from_bytes(number or b"", sys.byteorder)
            found.append(_account(identifier, paths.get(identifier), settings.epoch, sequence, columns))
    return tuple(found)


def retire(fence: Fence) -> tuple[Coverage, ...]:
    """Take the accounts of cgroups that are gone out of the map when it is half full, and return them.

    Their last word: whoever calls this keeps them. Without it, the map fills up and new cgroups get no network.
    """
    accounts = read(fence)
    if len(accounts) <= ROOM:
        return ()
    gone = tuple(account for account in accounts if account.cgroup is None)
    for account in gone:
        key = KEY.pack(account.id)
        Map(fence.coverage).delete(key)
        Map(fence.sequences).delete(key)
    return gone


def _account(id: int, path: str | None, epoch: int, sequence: int, columns: tuple[int, ...]) -> Coverage:
    ways = len(Way)
    traffic = {
        way.name.lower(): Traffic(columns[way], columns[ways + way], columns[2 * ways + way]) for way in Way
    }
    counted = columns[3 * ways :]
    reasons = {reason.name.lower(): counted[reason] for reason in Reason if counted[reason]}
    return Coverage(id, path, epoch, sequence, **traffic, reasons=reasons)
