"""One connection of TCP: which segments count, and what they bring.

Sources: RFC 9293 3.10.7 (segment arrives), RFC 5961 3-5 (resets, SYN and old acknowledgements of a blind attacker),
RFC 7323 2.3 and 5 (window scale, PAWS), RFC 7413 (data of a SYN), and where they leave a choice what Linux does.

Theory of operation. The receiver is somewhere else, and what it takes is what counts; a segment it leaves out must not
be read, or a sender could say one thing to us and another to it. So whatever a receiver checks is checked here: the
acknowledgement must be there and sane, the timestamp not old, the window not exceeded. What fails is "invalid". Inline
it is dropped, so the receiver cannot disagree. In a capture it was sent, and what the other side had said may be
missing or come late, so such bytes are *doubtful*: they are given when the receiver acknowledges them and no others
came in their place. The bytes of a SYN are so too, for a server may leave them out.

What a receiver could take this way or that is refused inline: bytes sent again that are not the same, urgent data.

A reset is in force if its number is between what is acknowledged and what was sent; inline at once. In a capture the
receiver may still have left it out, so it is in force only when the connection says nothing more.
"""

import msgspec

from appliance.model import Side
from appliance.packet.decode import ACK, FIN, RST, SYN, URG, Packet, Segment
from appliance.packet.events import (
    Choices,
    Finished,
    Gap,
    Happening,
    Odd,
    Oddity,
    Over,
    Place,
    Run,
    Taken,
)
from appliance.packet.half import Given, Half

STALE_BY = 1  # ticks a timestamp may be old; TCP_PAWS_WINDOW of Linux
SIGNED = "signed, or not, otherwise than its connection"  # for what Linux drops it
TWO_WAYS = "bytes that can be read in two ways"
MAX_SYN_ACKS = 5  # SYN-ACKs with other numbers that are remembered; stream.max-synack-queued of Suricata


class _End(Half):
    """A half, and what its sender says beside bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = -1  # of the windows it offers; -1: it did not offer to scale them
        self.stamped = False  # its SYN had a timestamp
        self.signed = False  # its SYN was signed
        self.recent: int | None = None  # the last timestamp that counts
        self.window = 0  # the greatest it offered, in bytes
        self.opened = False  # its SYN was seen
        self.spoke = False
        self.confirmed = False  # the other side has acknowledged where its bytes begin
        self.origins: list[int] = []  # its SYN-ACKs, while none is confirmed


class _Arrival(msgspec.Struct):
    """One segment, and what happens by it."""

    side: Side
    packet: Packet
    segment: Segment
    now: float
    number: int
    events: list[Happening]
    distrusted: str  # why its acknowledgement is
    stale: bool = False  # its timestamp is old


class Connection:
    """Give it the segments of both sides in the order they came."""

    def __init__(self, flow: int, choices: Choices) -> None:
        self.flow = flow
        self.over = self.refused = self.aborted = False
        self.reset: tuple[Side, float] | None = None  # a reset was seen, in a capture
        self.established = False  # both sides were heard of
        self._choices = choices
        self._ends = {side: _End() for side in Side}

    @property
    def memory(self) -> int:
        """Bytes kept, and what keeping them costs."""
        client, server = self._ends.values()
        return client.memory + server.memory

    @property
    def closing(self) -> bool:
        """True if a side has ended."""
        return any(end.ended for end in self._ends.values())

    @property
    def unacked(self) -> bool:
        """True if bytes were given that their receiver has not acknowledged."""
        return any(end.unacked for end in self._ends.values())

    @property
    def began(self) -> bool:
        """True if its beginning was seen."""
        return any(end.opened for end in self._ends.values())

    def begins(self, side: Side, segment: Segment) -> bool:
        """Return whether a SYN of `side` is not of this connection, but would begin another."""
        end = self._ends[side]
        return segment.flags & (SYN | ACK | RST | FIN) == SYN and end.origin != (segment.seq + 1) & 0xFFFFFFFF

    def answers(self, side: Side, segment: Segment) -> bool:
        """Return whether a SYN-ACK of `side` answers the SYN of this connection."""
        origin = self._ends[side.other].origin
        return segment.flags & (SYN | ACK | RST | FIN) == SYN | ACK and segment.ack == origin

    def take(self, side: Side, packet: Packet, now: float, number: int) -> Taken:
        """Take the next segment."""
        segment = packet.tcp
        assert segment is not None
        if self.refused:
            return Taken(self.flow, side, "refused", why="the flow was refused")
        end, other = self._ends[side], self._ends[side.other]
        end.spoke = True
        if self.reset and (packet.payload or side is not self.reset[0]) and not segment.flags & RST:
            self.reset = None  # it was not heeded
        why = self._strange(segment, end, other)
        if why:
            return Taken(self.flow, side, "invalid", why=why)
        if segment.flags & RST:
            return self._reset(side, segment, now)
        events: list[Happening] = []
        self._open(side, segment)
        why = self._distrusted(segment, end, other)
        if why and self._choices.inline:
            return Taken(self.flow, side, "invalid", why=why)
        arrival = _Arrival(side, packet, segment, now, number, events, why)
        arrival.stale = self._stale(arrival)
        self._acknowledge(arrival)
        taken = self._bytes(arrival)
        if not self._choices.inline:
            for one in Side:
                self._tell(one, self._ends[one].patience(), now, events)
        self.established = self.established or (end.spoke and other.spoke)
        if taken.place != "refused":
            self._finish(now, events)
        return msgspec.structs.replace(taken, events=tuple(events)) if events else taken

    def end(self, now: float) -> list[Happening]:
        """No more segments come: give what waits, with its gaps, as far as the receiver has it, or never spoke."""
        events: list[Happening] = []
        for side in Side:
            half = self._ends[side]
            if self.refused or self._choices.inline:
                continue
            if not self._ends[side.other].spoke:
                self._tell(side, half.acknowledge(half.top), now, events)
            self._tell(side, half.skip(half.acked), now, events)
        return events

    def refuse(self) -> None:
        """Take nothing more."""
        self.refused = self.over = True
        for end in self._ends.values():
            end.clear()

    def shed(self, now: float) -> list[Happening]:
        """Let go of all that is kept, at the price of gaps."""
        events: list[Happening] = []
        for side, end in self._ends.items():
            end.forget()
            if end.early:
                self._tell(side, end.skip(end.early[-1].stop), now, events)
            end.clear()
        return events

    def _strange(self, segment: Segment, end: _End, other: _End) -> str:
        """Return why no receiver takes such a segment, if so."""
        flags = segment.flags
        if flags & RST:
            return ""
        if self.aborted:
            return "after a reset"
        if flags & SYN and flags & FIN:
            return "SYN with FIN"
        if not flags & (SYN | ACK):
            return "no acknowledgement"
        if flags & SYN:
            return self._strange_syn(segment, end, other)
        if self._choices.inline and not self._choices.midstream and not (end.opened and other.opened):
            return "no handshake"
        return ""

    def _strange_syn(self, segment: Segment, end: _End, other: _End) -> str:
        origin = (segment.seq + 1) & 0xFFFFFFFF
        settled = end.confirmed or end.top or (self._choices.inline and segment.flags & ACK)
        if settled and end.origin not in (None, origin):
            return "SYN in an open connection"
        if not segment.flags & ACK or (other.origin is None and not self._choices.inline):
            return ""
        if other.origin is None or not 0 <= other.offset(segment.ack) <= other.top:
            return "SYN-ACK of another SYN"
        return ""

    def _open(self, side: Side, segment: Segment) -> None:
        """Learn where the bytes of `side` begin."""
        end, other = self._ends[side], self._ends[side.other]
        if segment.flags & SYN and not (end.opened and end.confirmed):  # sent again later it is left out
            end.opened, end.origin = True, (segment.seq + 1) & 0xFFFFFFFF
            end.scale, end.stamped, end.signed = segment.scale, segment.stamp >= 0, segment.signed
            end.recent = segment.stamp if end.stamped else None
            if segment.flags & ACK and end.origin not in end.origins:
                end.origins = [*end.origins[1 - MAX_SYN_ACKS :], end.origin]
        elif end.origin is None:
            end.origin = segment.seq
        if other.origin is None and segment.flags & ACK:
            other.origin = segment.ack
        elif segment.flags & ACK and not segment.flags & SYN and len(other.origins) > 1:
            if segment.ack in other.origins and not other.next:
                other.origin = segment.ack  # the client says which SYN-ACK was the server's
            other.origins = []

    def _distrusted(self, segment: Segment, end: _End, other: _End) -> str:
        """Return why a receiver would leave out a segment, for what it acknowledges (RFC 5961, 5.2) or a key, if so."""
        if end.opened and segment.signed != end.signed:
            return SIGNED
        if not segment.flags & ACK:
            return ""
        acked = other.offset(segment.ack)
        if acked > other.top:
            return "acknowledges what was not sent"
        if end.opened and other.opened and acked < max(other.acked - max(end.window, 1 << 16), 0):
            return "acknowledges what was long ago"
        return ""

    def _acknowledge(self, one: _Arrival) -> None:
        """Learn what a side has of the other, and what it will take."""
        side, segment = one.side, one.segment
        end, other = self._ends[side], self._ends[side.other]
        if not segment.flags & ACK or one.stale or one.distrusted == SIGNED:
            return  # if it is old, so may be what it acknowledges
        acked = other.offset(segment.ack)
        if other.edge is not None and acked > other.edge + 1:
            return  # more than could be sent
        window = segment.window
        if not segment.flags & SYN and end.scale >= 0 and other.scale >= 0:
            window <<= end.scale
        end.window = max(end.window, window)
        if end.opened and (other.opened or segment.flags & SYN):
            other.edge = max(other.edge or 0, acked + window)
        self._tell(side.other, other.acknowledge(acked), one.now, one.events)
        other.confirmed = other.confirmed or acked <= other.top

    def _stale(self, one: _Arrival) -> bool:
        """Return whether the timestamp is old (PAWS).

        One that is not is what later ones are compared with, if its segment stands where the receiver is: RFC 7323,
        4.3, and tcp_validate_incoming of Linux, which leaves out before that what was sent again in vain. The rule for
        connections that were silent for 24 days is left out: they are forgotten before.
        """
        segment, end = one.segment, self._ends[one.side]
        if not (end.stamped and self._ends[one.side.other].stamped) or segment.stamp < 0 or end.recent is None:
            return False
        ahead = (segment.stamp - end.recent) & 0xFFFFFFFF
        if ahead >= 0x8000_0000 and 0x1_0000_0000 - ahead > STALE_BY:
            return True
        begin = end.offset(segment.seq)
        here = begin <= end.acked <= begin + len(one.packet.payload) + bool(segment.flags & FIN)
        if ahead < 0x8000_0000 and here and not one.distrusted:
            end.recent = segment.stamp
        return False

    def _bytes(self, one: _Arrival) -> Taken:
        """Take the bytes and the FIN of a segment."""
        side, segment = one.side, one.segment
        end = self._ends[side]
        data, fin = one.packet.payload, bool(segment.flags & FIN)
        begin = 0 if segment.flags & SYN else end.offset(segment.seq)
        last, stop = begin + len(data), begin + len(data) + fin

        def taken(place: Place, why: str = "") -> Taken:
            return Taken(self.flow, side, place, begin=begin, end=last, fin=fin, why=why)

        if not data and not fin and not segment.flags & URG:
            return taken("bare")
        why = self._untaken(one, begin, last)
        if not data and not fin:
            return self._pointed(one, begin, why, taken("bare"))
        if why and self._choices.inline:
            return taken("invalid", why)
        if not why and end.conflicts(begin, data, fin):
            self._odd("conflict", one)
        elif not why and segment.flags & URG:
            self._urgent(begin, one)
        if self.refused:
            return taken("refused", TWO_WAYS)
        if stop <= end.next:
            return taken("old")
        if end.ended:
            return taken("invalid", "beyond the end")
        if why:
            end.doubt(begin, data, fin, one.number)
        else:
            self._tell(side, end.take(begin, data, fin, one.number), one.now, one.events)
        place: Place = "next" if end.next >= stop else "early"
        self._limit(one)
        return taken("refused", "a limit was reached") if self.refused else taken(place)

    def _untaken(self, one: _Arrival, begin: int, last: int) -> str:
        """Return why the receiver may not take the bytes, if so."""
        segment, end = one.segment, self._ends[one.side]
        if segment.flags & SYN:
            return "" if segment.flags & ACK or self._choices.inline else "bytes of a SYN"
        if one.stale:
            return "an old timestamp"
        if one.distrusted:
            return one.distrusted
        if end.edge is not None and (last > end.edge or begin > end.edge):
            return "outside of the window"
        return ""

    def _pointed(self, one: _Arrival, begin: int, why: str, taken: Taken) -> Taken:
        """Take a segment that brings nothing but an urgent pointer: it counts for bytes of others."""
        if self._choices.inline or (not why and begin >= self._ends[one.side].acked):
            self._urgent(begin, one)
        return msgspec.structs.replace(taken, place="refused", why=TWO_WAYS) if self.refused else taken

    def _urgent(self, begin: int, one: _Arrival) -> None:
        policy = "drop" if self._choices.inline and self._choices.urgent == "oob" else self._choices.urgent
        self._odd("urgent", one, policy == "drop")
        if policy == "oob":
            self._ends[one.side].mark(begin + max(one.segment.urgent - 1, 0))

    def _limit(self, one: _Arrival) -> None:
        """Keep no more than may be kept."""
        end, choices = self._ends[one.side], self._choices
        if end.early_bytes > choices.max_early or end.pieces > choices.max_pieces:
            self._odd("early-limit", one)
            end.clear_doubtful()
            if end.early:
                self._tell(one.side, end.skip(end.early[-1].stop), one.now, one.events)
        if end.unacked > choices.max_unacked:
            if choices.inline:
                self._odd("unacked-limit", one)
            else:
                end.forget()

    def _odd(self, kind: Oddity, one: _Arrival, refuse: bool | None = None) -> None:
        """Tell of it; inline, refuse the flow."""
        one.events.append(Odd(self.flow, one.side, kind, one.now, one.number))
        if self._choices.inline if refuse is None else refuse:
            self.refuse()
            one.events.append(Over(self.flow, "refused", one.now, one.side))

    def _tell(self, side: Side, given: list[Given], now: float, events: list[Happening]) -> None:
        for part in given:
            if part.missing:
                events.append(Gap(self.flow, side, part.offset - part.missing, part.missing, now))
            if part.data:
                events.append(Run(self.flow, side, part.offset, part.data, now, part.packets))
        end = self._ends[side]
        if given and end.ended:
            events.append(Finished(self.flow, side, end.next - 1, now))

    def _reset(self, side: Side, segment: Segment, now: float) -> Taken:
        end, other = self._ends[side], self._ends[side.other]
        if end.origin is not None:
            fits = end.acked <= end.offset(segment.seq) <= end.top + 1
        else:  # the answer to a SYN
            answers = bool(segment.flags & ACK) and other.origin is not None
            fits = answers and 0 <= other.offset(segment.ack) <= other.top
        if not fits:
            return Taken(self.flow, side, "invalid", why="a reset that does not fit")
        if self.over:
            return Taken(self.flow, side, "bare")
        if not self._choices.inline:
            self.reset = (side, now)
            return Taken(self.flow, side, "bare")
        self.over = self.aborted = True
        for one in self._ends.values():
            one.clear()  # nobody takes any of it again
        return Taken(self.flow, side, "bare", (Over(self.flow, "reset", now, side),))

    def _finish(self, now: float, events: list[Happening]) -> None:
        """The connection is over when both have ended and know it."""
        ends = self._ends.values()
        if not self.over and all(end.ended and end.acked >= end.next for end in ends):
            self.over = True
            events.append(Over(self.flow, "finished", now))
