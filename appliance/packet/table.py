"""The flows there are, found by their ends, forgotten in the order they fell silent."""

from collections import OrderedDict
from collections.abc import Iterator

from appliance.model import Address, Side
from appliance.packet.stream import Connection

# Seconds without a packet until a flow is forgotten, by what it is: the defaults of nf_conntrack (nf_conntrack_tcp_
# timeout_syn_sent, _established, _time_wait; nf_conntrack_udp_timeout, _udp_timeout_stream; nf_conntrack_icmp_timeout),
# so that both agree which packet belongs to which flow. Inline also those of connections of which one side has ended
# (_fin_wait), or is not heard while the other says the same again (_unacknowledged): their ends may never be said.
PATIENCE_S = {
    "opening": 120.0, "open": 432_000.0, "over": 120.0, "udp": 30.0, "talk": 120.0, "icmp": 30.0,
    "closing": 120.0, "unacked": 300.0,
}  # fmt: skip

Key = tuple[str, Address, Address, int]


class Flow:
    """One flow. `kind` is a key of PATIENCE_S."""

    def __init__(self, number: int, keys: tuple[Key, Key], client: Address, server: Address) -> None:
        self.number, self.keys, self.client, self.server = number, keys, client, server
        self.transport = keys[0][0]
        self.kind = {"tcp": "opening", "udp": "udp"}.get(self.transport, "icmp")
        self.heard = 0.0
        self.refused = False
        self.connection: Connection | None = None
        self.pending: tuple[Connection, float, int] | None = None  # of a SYN that may begin another: when, which packet

    @property
    def memory(self) -> int:
        """Bytes kept for it."""
        pending = self.pending[0].memory if self.pending else 0
        return pending + (self.connection.memory if self.connection else 0)


class Table:
    """Flows by number, by their ends, and by kind in the order they were last heard of."""

    def __init__(self) -> None:
        self.flows: dict[int, Flow] = {}
        self._keys: dict[Key, tuple[Flow, Side]] = {}
        self._kinds: dict[str, OrderedDict[int, Flow]] = {kind: OrderedDict() for kind in PATIENCE_S}
        self._reset: dict[int, Flow] = {}
        self._next = 1

    def find(self, key: Key) -> tuple[Flow, Side] | None:
        """Return the flow a packet belongs to, and who sent it."""
        return self._keys.get(key)

    def add(self, keys: tuple[Key, Key], client: Address, server: Address) -> Flow:
        """Make a flow. `keys` are those of the client's packets and of the server's."""
        flow = Flow(self._next, keys, client, server)
        self._next += 1
        self.flows[flow.number] = flow
        self._keys[keys[0]], self._keys[keys[1]] = (flow, Side.CLIENT), (flow, Side.SERVER)
        self._kinds[flow.kind][flow.number] = flow
        return flow

    def touch(self, flow: Flow, kind: str, now: float) -> None:
        """Something was heard of a flow, and `kind` is what it is from here on."""
        if flow.kind != kind:
            del self._kinds[flow.kind][flow.number]
            flow.kind = kind
            self._kinds[kind][flow.number] = flow
        else:
            self._kinds[kind].move_to_end(flow.number)
        flow.heard = now

    def remove(self, flow: Flow) -> None:
        del self.flows[flow.number]
        for key in flow.keys:
            self._keys.pop(key, None)
        del self._kinds[flow.kind][flow.number]
        self._reset.pop(flow.number, None)

    def silent(self, flow: Flow, now: float) -> bool:
        """Return whether nothing was heard of a flow for too long."""
        return flow.heard + PATIENCE_S[flow.kind] <= now

    def stale(self, now: float) -> Iterator[Flow]:
        """Yield what was silent for too long. The caller removes each before it asks for the next."""
        for flows in self._kinds.values():
            while flows and self.silent(flow := next(iter(flows.values())), now):
                yield flow

    def oldest(self) -> Flow:
        """Return the flow that nothing was heard of for longest: one that is over, if any is."""
        over = next(iter(self._kinds["over"].values()), None)
        return over or min((next(iter(kind.values())) for kind in self._kinds.values() if kind), key=lambda f: f.heard)

    def note(self, flow: Flow, reset: bool) -> None:
        """Note whether a reset of a flow was seen that may count."""
        if reset:
            self._reset[flow.number] = flow
        elif self._reset:
            self._reset.pop(flow.number, None)

    def reset(self) -> list[Flow]:
        """Return the connections of which one was."""
        return list(self._reset.values())
