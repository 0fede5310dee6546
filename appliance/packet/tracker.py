"""Packets of many flows -> what happens in each.

A flow is what runs between two ends: for TCP a connection, for UDP all datagrams between two addresses and ports, for
ICMP an exchange of echoes of one identifier (all else between two hosts is one flow).

Of a connection that is open, a SYN with another number may be a blind attacker's, or its client began anew: it begins
another flow when it is answered.

Counters tell what was left out and why: nothing is dropped silently.
"""

from collections.abc import Iterator

import msgspec

from appliance.model import Address, ProtocolError, Side
from appliance.packet.build import checksum
from appliance.packet.decode import ACK, RST, SYN, Packet, Quoted, quoted
from appliance.packet.events import Began, Choices, Datagram, Ending, Happening, Odd, Over, Taken, Told
from appliance.packet.fragments import Fragments, Whole
from appliance.packet.stream import Connection
from appliance.packet.table import Flow, Key, Table

RESET_S = 10.0  # that a reset must stand before it counts, in a capture; nf_conntrack_tcp_timeout_close
ECHOES = (0, 8, 128, 129)  # types of ICMP that carry an identifier: replies and requests, of both versions


class Tracker:
    """Flows by their ends. Give packets in the order they came, with times that do not go back.

    The counters tell of all flows since the beginning: "invalid: WHY", "odd: KIND", "over: WHY", "fragments: WHY".
    """

    def __init__(self, choices: Choices = Choices()) -> None:  # noqa: B008 - frozen
        self.choices = choices
        self._counters: dict[str, int] = {}
        self._fragments = Fragments(choices.inline)
        self._table = Table()
        self._memory = 0  # of connections

    @property
    def memory(self) -> int:
        """Bytes kept for all flows."""
        return self._memory + self._fragments.memory

    @property
    def counters(self) -> dict[str, int]:
        """How often what was left out or ended, since the beginning."""
        return self._counters | {f"fragments: {why}": count for why, count in self._fragments.dropped.items()}

    def take(self, packet: Packet, now: float, number: int, sender: Side | None = None, partial: bool = False) -> Taken:
        """Take the next packet, and say what became of it.

        `now` is any clock in seconds, `number` names the packet in what comes out. `sender` is who sent it, where the
        caller knows; else the client is who began. `partial`: its checksum was left to the hardware.
        """
        try:
            whole = self._whole(packet, now, number, partial)
        except ProtocolError as error:
            taken = Taken(0, sender or Side.CLIENT, "invalid", why=str(error))
        else:
            if whole is None:
                return Taken(0, sender or Side.CLIENT, "part")
            taken = self._take(whole, now, sender)
        if taken.place == "invalid":
            self._count(f"invalid: {taken.why}")
        for event in taken.events:
            if isinstance(event, Odd):
                self._count(f"odd: {event.kind}")
        return taken

    def expire(self, now: float) -> list[Happening]:
        """Forget flows and fragments that nothing was heard of for long."""
        self._fragments.expire(now)
        events: list[Happening] = []
        for flow in self._table.stale(now):
            events += self._close(flow, "idle", now)
        for flow in self._table.reset():
            reset = flow.connection.reset if flow.connection else None
            if reset and reset[1] + RESET_S <= now:
                events += self._close(flow, "reset", now)
        return events

    def end(self, now: float) -> list[Happening]:
        """No more packets come: give what waits (captures only) and end every flow."""
        return [event for flow in list(self._table.flows.values()) for event in self._close(flow, "end", now)]

    def refuse(self, flow: int, now: float) -> list[Happening]:
        """Refuse all further packets of a flow, until it would be forgotten or begins anew by a SYN."""
        found = self._table.flows.get(flow)
        if found is None or found.refused:
            return []
        found.refused = True
        was_over = False
        if found.connection is not None:
            was_over = found.connection.over
            self._memory -= found.connection.memory
            found.connection.refuse()
        return [] if was_over else self._over(Over(flow, "refused", now))

    def forget(self, flow: int) -> None:
        """Let go of a flow: the next packet of its ends begins another."""
        found = self._table.flows.get(flow)
        if found is not None:
            self._memory -= found.memory
            self._table.remove(found)

    def kept(self, flow: int) -> int:
        """Return the bytes kept for a flow."""
        found = self._table.flows.get(flow)
        return found.memory if found is not None else 0

    def keep(self, flow: int, now: float) -> None:
        """Take a flow as heard of: a packet of it waits."""
        found = self._table.flows.get(flow)
        if found is not None:
            self._table.touch(found, found.kind, now)

    def find(self, transport: str, client: Address, server: Address) -> int:
        """Return the number of the flow between these ends; 0 if there is none. Not for echoes of ICMP."""
        found = self._table.find((transport, client, server, 0))
        return found[0].number if found else 0

    def flows(self) -> Iterator[tuple[int, str, Address, Address]]:
        """Yield number, transport, client and server of every flow."""
        for flow in self._table.flows.values():
            yield flow.number, flow.transport, flow.client, flow.server

    def _whole(self, packet: Packet, now: float, number: int, partial: bool) -> Whole | None:
        """Return the packet, or the one it completes as a fragment; None if others are missing. Raises why neither."""
        self._check(packet, partial)
        if packet.fragment is None:
            return Whole(packet, (number,))
        whole = self._fragments.take(packet, now, number)
        if whole is not None:
            self._check(whole.packet, partial)
        return whole

    def _check(self, packet: Packet, partial: bool) -> None:
        if self.choices.verify:
            found = checksum(packet)
            if found == "bad" or (found == "partial" and not (partial or self.choices.partial)):
                raise ProtocolError("a wrong checksum")

    def _take(self, whole: Whole, now: float, sender: Side | None) -> Taken:
        packet = whole.packet
        why = "" if packet.transport else f"protocol {packet.protocol}"
        if packet.source == packet.target and packet.transport != "icmp":
            why = "sent to where it comes from"
        if why:
            return Taken(0, sender or Side.CLIENT, "invalid", why=why)
        error = quoted(packet)
        if error is not None:
            return self._told(error, sender, now)
        events: list[Happening] = []
        found = self._table.find(_key(packet))
        if found is not None and self._table.silent(found[0], now):
            events += self._close(found[0], "idle", now)
            found = None
        if packet.tcp is not None:
            taken = self._segment(whole, found, now, sender, events)
        else:
            taken = self._datagram(whole, found, now, sender, events)
        return msgspec.structs.replace(taken, events=(*events, *taken.events)) if events else taken

    def _datagram(
        self, whole: Whole, found: tuple[Flow, Side] | None, now: float, sender: Side | None, events: list[Happening]
    ) -> Taken:  # fmt: skip
        packet = whole.packet
        flow, side = found or self._begin(packet, now, whole.packets[-1], sender, events)
        if flow is None or flow.refused:
            if flow is not None:
                self._table.touch(flow, flow.kind, now)
            return Taken(flow.number if flow else 0, side, "refused", why="the flow was refused")
        talks = flow.kind == "udp" and side is Side.SERVER
        self._table.touch(flow, "talk" if talks else flow.kind, now)
        data = Datagram(flow.number, side, packet.payload, now, whole.packets)
        return Taken(flow.number, side, "next", (data,), 0, len(packet.payload))

    def _segment(
        self, whole: Whole, found: tuple[Flow, Side] | None, now: float, sender: Side | None, events: list[Happening]
    ) -> Taken:  # fmt: skip
        packet, number, segment = whole.packet, whole.packets[-1], whole.packet.tcp
        assert segment is not None
        if found is not None and (connection := found[0].connection) is not None:
            flow, side = found
            if connection.begins(side, segment):
                if connection.over or connection.reset:
                    events += self._close(flow, "reset" if connection.reset else "reused", now)
                    found = None
                elif connection.established and side is Side.CLIENT:
                    return self._again(flow, packet, now, number)
            elif flow.pending and flow.pending[0].answers(side, segment):
                found = self._renew(flow, flow.pending, events, now)
        if found is None:
            if segment.flags & SYN == 0 and (not self.choices.midstream or segment.flags & RST):
                return Taken(0, sender or Side.CLIENT, "invalid", why="no handshake")
            if segment.flags & ACK and self.choices.inline and not self.choices.midstream:
                return Taken(0, sender or Side.CLIENT, "invalid", why="a SYN-ACK without a SYN")
        begun = found or self._begin(packet, now, number, sender, events)
        if begun[0] is None:
            return Taken(0, begun[1], "refused", why="too many flows")
        return self._connected(begun[0], begun[1], packet, now, number)

    def _connected(self, flow: Flow, side: Side, packet: Packet, now: float, number: int) -> Taken:
        """Take a segment of a connection."""
        connection = flow.connection
        assert connection is not None
        before = connection.memory
        taken = connection.take(side, packet, now, number)
        self._memory += connection.memory - before
        more: list[Happening] = []
        if self.memory > self.choices.max_memory and connection.memory:
            more = self._shed(flow, connection, side, now, number)
            if connection.refused:
                taken = msgspec.structs.replace(taken, place="refused", why="memory-limit")
        flow.refused = connection.refused
        for event in taken.events:
            if isinstance(event, Over):
                self._over(event)
        self._table.touch(flow, self._kind(connection), now)
        self._table.note(flow, connection.reset is not None)
        return msgspec.structs.replace(taken, events=(*taken.events, *more)) if more else taken

    def _kind(self, connection: Connection) -> str:
        """Return how long it may be silent: a key of PATIENCE_S."""
        if connection.over and not connection.refused:  # what is refused stays so as long as it might live
            return "over"
        if not connection.established:
            return "opening"
        if self.choices.inline and not connection.refused:
            return "closing" if connection.closing else "unacked" if connection.unacked else "open"
        return "open"

    def _shed(self, flow: Flow, connection: Connection, side: Side, now: float, number: int) -> list[Happening]:
        """All flows together keep too much: this one gives up what it keeps; inline it is refused."""
        events: list[Happening] = [Odd(flow.number, side, "memory-limit", now, number)]
        before = connection.memory
        if self.choices.inline:
            connection.refuse()
            events += self._over(Over(flow.number, "refused", now, side))
        else:
            events += connection.shed(now)
        self._memory += connection.memory - before
        return events

    def _again(self, flow: Flow, packet: Packet, now: float, number: int) -> Taken:
        """A client says SYN in an open connection: another begins if it is answered."""
        if packet.payload and self.choices.inline:
            return Taken(flow.number, Side.CLIENT, "invalid", why="bytes of a SYN in an open connection")
        before = flow.memory
        pending = Connection(0, self.choices)
        pending.take(Side.CLIENT, packet, now, number)
        flow.pending = (pending, now, number)
        self._memory += flow.memory - before
        return Taken(flow.number, Side.CLIENT, "bare")

    def _renew(
        self, flow: Flow, pending: tuple[Connection, float, int], events: list[Happening], now: float
    ) -> tuple[Flow, Side]:  # fmt: skip
        """The SYN that waited was answered: it began another connection."""
        connection, began, number = pending
        events += self._close(flow, "reused", now)
        new = self._table.add(flow.keys, flow.client, flow.server)
        new.connection, connection.flow = connection, new.number
        self._memory += connection.memory
        events.append(Began(new.number, "tcp", new.client, new.server, began, number))
        return new, Side.SERVER

    def _begin(
        self, packet: Packet, now: float, number: int, sender: Side | None, events: list[Happening]
    ) -> tuple[Flow | None, Side]:  # fmt: skip
        """Make a flow of its first packet, if there is room."""
        side = sender or _guess(packet)
        if len(self._table.flows) >= self.choices.max_flows:
            oldest = self._table.oldest()
            gone = self.choices.inline and oldest.kind == "over"  # only what comes twice can be of it
            if not gone:
                events.append(Odd(0, side, "flow-limit", now, number))
                if self.choices.inline:
                    return None, side
            events += self._close(oldest, "evicted", now)
        key, back = _key(packet), _key(packet, back=True)
        ends = (packet.source, packet.target) if side is Side.CLIENT else (packet.target, packet.source)
        flow = self._table.add((key, back) if side is Side.CLIENT else (back, key), *ends)
        midstream = False
        if packet.tcp is not None:
            flow.connection = Connection(flow.number, self.choices)
            midstream = not packet.tcp.flags & SYN
        self._table.touch(flow, flow.kind, now)
        events.append(Began(flow.number, packet.transport, *ends, now, number, midstream))
        return flow, side

    def _told(self, error: Quoted, sender: Side | None, now: float) -> Taken:
        """An error of ICMP belongs to the flow of the packet it quotes, and goes to who sent that."""
        echo = int.from_bytes(error.start[4:6]) if error.transport == "icmp" and error.start[0] in ECHOES else 0
        found = self._table.find((error.transport, error.source, error.target, echo))
        if found is None:
            return Taken(0, sender or Side.SERVER, "invalid", why="an error of ICMP about no flow")
        flow, side = found
        if flow.refused:
            return Taken(flow.number, side.other, "refused", why="the flow was refused")
        return Taken(flow.number, side.other, "bare", (Told(flow.number, side, error.type, error.code, now),))

    def _close(self, flow: Flow, why: Ending, now: float) -> list[Happening]:
        """Give what waits of a flow, and let go of it."""
        events: list[Happening] = []
        side = None
        if flow.connection is not None:
            before = flow.connection.memory
            events += flow.connection.end(now)
            self._memory += flow.connection.memory - before
            side = flow.connection.reset[0] if flow.connection.reset else None
            why = "reset" if side else why
        told = flow.refused or (flow.connection is not None and flow.connection.over)
        self.forget(flow.number)
        return events if told else [*events, *self._over(Over(flow.number, why, now, side))]

    def _over(self, event: Over) -> list[Happening]:
        self._count(f"over: {event.why}")
        return [event]

    def _count(self, what: str) -> None:
        self._counters[what] = self._counters.get(what, 0) + 1


def _key(packet: Packet, back: bool = False) -> Key:
    """Return what packets of one flow and direction have in common; `back`: of those that answer."""
    echo = 0
    if packet.transport == "icmp" and packet.payload[0] in ECHOES:
        echo = int.from_bytes(packet.payload[4:6])
    if back:
        return packet.transport, packet.target, packet.source, echo
    return packet.transport, packet.source, packet.target, echo


def _guess(packet: Packet) -> Side:
    """Return who sent the first packet that was seen of a flow: who answers is the server, or who has the low port."""
    segment = packet.tcp
    if segment is not None and segment.flags & SYN:
        return Side.SERVER if segment.flags & ACK else Side.CLIENT
    if segment is not None and packet.source.port < packet.target.port:
        return Side.SERVER
    return Side.CLIENT
