"""What is counted: of one worker, of one flow whose session notes no messages, and of each cgroup, for the ledger."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from appliance.model import Flow, Note, Side


class Counts:
    """What one worker did since it started."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0  # no flow could be made of it: unknown process, or aimed at the relay itself
        self.full = 0  # over a limit of connections
        self.unreached = 0  # upstream refused or silent
        self.failed = 0  # exceptions of sessions
        self.unrecorded = 0  # flows ended because the record could not be written
        self.messages = 0
        self.bytes = 0  # sent, both ways
        self.unattributed = 0  # flows whose executable nobody found out in time


class Tally:
    """Counts what is sent to each side of a flow.

    The rules may pass a flow unread: then the notes that end it are completed with the sums.
    """

    def __init__(self) -> None:
        self.sent = {Side.CLIENT: 0, Side.SERVER: 0}
        self._noted = False  # the session notes messages, or the sums are noted

    def completed(self, notes: Sequence[Note]) -> Sequence[Note]:
        """Return the notes, with the sums before the last of a flow that had no others of its bytes."""
        if self._noted:
            return notes
        self._noted = any(note.kind == "message" for note in notes)
        if self._noted or not any(note.kind == "closed" for note in notes):
            return notes
        self._noted = True
        sums = [
            Note("message", f"{size} bytes passed unread", to.other, "unread", size=size)
            for to, size in self.sent.items()
            if size
        ]
        return [*sums, *notes]


class Account(msgspec.Struct, frozen=True, gc=False):
    """What one worker took of one cgroup's flows, since it started."""

    scope: int
    epoch: int
    flows: int
    bytes: int  # of the clients, as their kernel counted them on their way to us


class Accounts:
    """What is taken, by cgroup, for the hub to hold against what the fence let go."""

    def __init__(self) -> None:
        self._flows: Counter[tuple[int, int]] = Counter()
        self._ended: Counter[tuple[int, int]] = Counter()  # bytes of flows that are no more
        self._told: dict[tuple[int, int], Account] = {}

    def begun(self, flow: Flow) -> None:
        """Count a flow of the fence's."""
        self._flows[flow.scope, flow.epoch] += bool(flow.sequence)

    def ended(self, flow: Flow, size: int) -> None:
        """Count the bytes of a flow that is no more."""
        self._ended[flow.scope, flow.epoch] += size

    def news(self, live: Iterable[tuple[Flow, int]]) -> tuple[Account, ...]:
        """Return the accounts that have changed, given the flows there are and their bytes."""
        sizes = self._ended.copy()
        for flow, size in live:
            sizes[flow.scope, flow.epoch] += size
        found = {key: Account(*key, self._flows[key], sizes[key]) for key in sizes.keys() | self._flows.keys()}
        news = tuple(account for key, account in found.items() if self._told.get(key) != account)
        self._told = found
        return news
