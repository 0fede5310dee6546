"""The engine's words on packets, and what it says by itself."""

import msgspec

from appliance.kernel.queue import Queue, Queued
from appliance.kernel.queues import Queues
from appliance.model import Flow, Side
from appliance.packet import own
from appliance.packet.build import rebuild
from appliance.packet.decode import RST, Packet
from appliance.packet.events import Began, Taken
from appliance.service.voice import Voice


class Held(msgspec.Struct, frozen=True, gc=False):
    """A packet that waits in the kernel."""

    queued: Queued
    packet: Packet
    taken: Taken

    @property
    def begins(self) -> bool:
        """True for the first packet of a connection, or of a socket to where it sends datagrams."""
        if self.packet.tcp is None:
            return self.taken.side is Side.CLIENT and self.taken.place != "bare"  # an error by ICMP, about another
        return any(isinstance(event, Began) for event in self.taken.events)

    @property
    def midstream(self) -> bool:
        """True for a packet of a connection whose beginning was not seen: its sender is told that it is over."""
        tcp = self.packet.tcp
        return not self.taken.flow and tcp is not None and not tcp.flags & RST


class Outlet:
    """Words are carried out at `flush`."""

    def __init__(self, queue: Queues | Queue, voice: Voice, passing: int) -> None:
        """`passing` is the mark that the fence lets by."""
        self.queue, self._voice, self._passing = queue, voice, passing

    def passing(self, mark: int) -> None:
        """Another mark is let by from now on."""
        self._passing = mark
        self._voice.mark(mark)

    @property
    def lost(self) -> int:
        """Packets that were dropped without a word of ours, and those of ours that could not be said."""
        return self.queue.losses.total + self._voice.unsaid

    def go(self, held: Held, payload: bytes | None = None) -> None:
        """A packet goes on, perhaps with another payload.

        What a client says goes on as the bytes that were judged, never as those in the kernel: sendfile(2), splice(2)
        and MSG_ZEROCOPY put pages into packets that the client may change meanwhile, and where the kernel joins packets
        (to send them again, to probe for the largest) it forgets which those are, so the fence could not tell.
        """
        packet = held.packet
        if held.taken.side is Side.CLIENT:
            said = packet.payload if payload is None else payload
            data = rebuild(packet, said) if said or packet.payload else None
            self.queue.verdict(held.queued.id, True, self._passing, data)
            return
        data = None if payload is None or payload == packet.payload else rebuild(packet, payload)
        self.queue.verdict(held.queued.id, True, None, data)

    def drop(self, number: int) -> None:
        """A packet goes nowhere."""
        self.queue.verdict(number, False)

    def refuse(self, held: Held) -> None:
        """A packet goes nowhere, and its sender is told."""
        self.drop(held.queued.id)
        self._voice.say(held.packet.source, own.refusal(held.packet))

    def answer(self, flow: Flow, payload: bytes) -> None:
        """Send the client a datagram in the server's name."""
        self._voice.say(flow.client, own.datagram(flow.server, flow.client, payload))

    def reset(self, flow: Flow, to: Side, seq: int, ack: int | None) -> None:
        """Send one side of a connection a reset in the other's name."""
        ends = (flow.client, flow.server) if to is Side.SERVER else (flow.server, flow.client)
        self._voice.say(ends[1], own.reset(*ends, seq, ack))

    def flush(self) -> None:
        """Have the kernel carry out what was said."""
        self.queue.flush()
