"""Frames of a capture -> flows -> what the rules would have done, as notes of the record.

Theory of operation. A frame is taken off its link (packet/link), decoded and given to the tracker, which puts
connections together as their receivers did. Each flow that says something gets a session that looks on
(session/onlooker): the same reading and judging as in the relay, but nothing is refused. Time is that of the frames; it
does not go back, nor beyond the present, whatever a file says.

What is missing in a capture cannot be read over: from a gap on a flow is only counted, as is what is inside TLS.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from appliance.facts.readers import Shared
from appliance.model import Address, Effect, Ended, Flow, Note, Place, ProtocolError, Received, Side
from appliance.packet import link
from appliance.packet.decode import SYN, Packet, decode
from appliance.packet.events import Began, Choices, Datagram, Finished, Gap, Happening, Odd, Over, Run, Told
from appliance.packet.tracker import Tracker
from appliance.policy import Policy
from appliance.service.foreign.capture import Caught
from appliance.session.onlooker import Onlooker

log = logging.getLogger("vendorgate.pcap")

MAX_FLOWS = 16_384  # at once; a session has some 15 KB besides what it reads: 250 MB at most
MAX_HELD = 64 << 20  # bytes of requests of a flow that wait for answers; the longest message a wire takes
MAX_PAIRS = 65_536  # pairs of addresses of which it is remembered who is the server
EXPIRE = 10_000  # packets after which flows are looked for that have gone quiet
EXPIRE_S = 30.0  # ... or seconds of the capture
MAX_ODD = 10  # oddities of a flow that are noted; all are counted
CHOICES = Choices(midstream=True, max_flows=MAX_FLOWS)
ENDINGS = {"finished": "ended", "idle": "nothing more came", "reused": "its ports were used anew",
           "evicted": f"over {MAX_FLOWS} flows at once", "end": "the capture ends"}  # fmt: skip


class Sink(Protocol):
    """Takes the notes of flows."""

    def append(self, flow: Flow, notes: Sequence[Note], now: float, packet: int) -> None:
        """Take notes of one flow, made by the packet of this number at `now` (unix seconds)."""


class _Talk:
    """One flow."""

    def __init__(self, flow: Flow, midstream: bool) -> None:
        self.flow, self.midstream = flow, midstream
        self.session: Onlooker | None = None
        self.unread: Counter[Side] = Counter()  # bytes that nobody read
        self.closed: Note | None = None  # said when the flow is over: until then more may come
        self.odd = 0


class Flows:
    """Of one capture. `give` it the frames, then `end`."""

    def __init__(self, policy: Policy, source: str, next_id: Callable[[], str], sink: Sink) -> None:
        self._policy, self._source, self._next_id, self._sink = policy, source, next_id, sink
        self._tracker = Tracker(CHOICES)
        self._shared = Shared()
        self._talks: dict[int, _Talk] = {}
        self._servers: dict[tuple[str, Address, Address], Side | None] = {}
        self._latest = time.time()
        self._now = self._expired = 0.0
        self._packet = 0
        self.skipped: Counter[str] = Counter()  # frames that no flow has, by why

    @property
    def counters(self) -> dict[str, int]:
        """What was left out and what ended, by why."""
        return {**self._tracker.counters, **self.skipped}

    def give(self, caught: Caught) -> None:
        """Take the next frame."""
        self._now = min(max(self._now, caught.time), self._latest)
        self._packet = caught.number
        packet = self._decoded(caught)
        if packet is not None:
            taken = self._tracker.take(packet, self._now, caught.number, self._sender(packet))
            self._happened(taken.events)
        if caught.number % EXPIRE == 0 or self._now - self._expired >= EXPIRE_S:
            self._expired = self._now
            self._happened(self._tracker.expire(self._now))

    def end(self) -> None:
        """No more frames come."""
        self._happened(self._tracker.end(self._now))

    # -- frames --------------------------------------------------------------------------------------------------

    def _decoded(self, caught: Caught) -> Packet | None:
        try:
            data = link.network(caught.linktype, caught.data)
        except ValueError as error:
            self.skipped[str(error)] += 1
            return None
        if data is None:
            self.skipped["not IP"] += 1
            return None
        try:
            return decode(data, snapped=caught.size > len(caught.data))
        except ProtocolError as error:
            self.skipped[f"malformed: {error}"] += 1
            return None

    def _sender(self, packet: Packet) -> Side | None:
        """Return who sent a packet, where the rules tell and it does not itself."""
        if packet.tcp is not None and packet.tcp.flags & SYN:
            return None
        key = packet.transport, packet.source, packet.target
        if key not in self._servers:
            if len(self._servers) >= MAX_PAIRS:
                self._servers.clear()
            serves = [self._serves(packet.transport, one) for one in (packet.source, packet.target)]
            known = serves[0] != serves[1]
            self._servers[key] = (Side.SERVER if serves[0] else Side.CLIENT) if known else None
        return self._servers[key]

    def _serves(self, transport: str, address: Address) -> bool:
        return self._policy.target(Place(address.host, address.port, transport)) is not None

    # -- what happens --------------------------------------------------------------------------------------------

    def _happened(self, events: Iterable[Happening]) -> None:
        for event in events:
            if isinstance(event, Began):
                flow = Flow(self._next_id(), event.time, event.client, event.server, None,
                            transport=event.transport, source=self._source)  # fmt: skip
                self._talks[event.flow] = _Talk(flow, event.midstream)
                continue
            talk = self._talks.get(event.flow)
            if talk is None:
                continue
            match event:
                case Run() | Datagram():
                    self._said(talk, event.side, event.data)
                case Finished():
                    self._tell(talk, Ended(event.side))
                case Gap():
                    self._missing(talk, event)
                case Told():
                    what = f"ICMP {event.type}/{event.code}"
                    self._odd(talk, f"{event.side.value} is told that a packet went wrong: {what}")
                case Odd():
                    self._odd(talk, f"{event.side.value}: {event.kind} at packet {event.packet}")
                case Over():
                    self._over(talk, event)

    def _missing(self, talk: _Talk, gap: Gap) -> None:
        """Read no further. What came meanwhile of the other side may have been taken for a fault: say why as well."""
        what = f"{gap.size} bytes of the {gap.side.value} at {gap.offset} are not in the capture"
        if talk.closed is None:
            self._give(talk, self._session(talk).leave(f"{what}: what follows is not read"))
        else:
            self._odd(talk, what)

    def _said(self, talk: _Talk, side: Side, data: bytes) -> None:
        session = self._session(talk)
        if talk.midstream and side is Side.SERVER:
            talk.unread[side] += len(data)  # answers a request that is not here
            return
        talk.midstream = False
        if session.unread:
            talk.unread[side] += len(data)
            if talk.closed is not None:
                return
        self._tell(talk, Received(side, data))
        if session.held > MAX_HELD:
            self._give(talk, session.leave(f"over {MAX_HELD} bytes of requests wait for answers that are not there"))

    def _tell(self, talk: _Talk, event: Received | Ended) -> None:
        """Tell a session what happened. A fault of ours ends the reading of its flow, and no other's."""
        session = self._session(talk)
        try:
            effects = session.receive(event, self._now)
        except Exception as error:
            log.exception("flow %s of %s, packet %d", talk.flow.id, self._source, self._packet)
            effects = session.leave(f"cannot be read: {type(error).__name__}, a fault of vendorgate")
        self._give(talk, effects)

    def _session(self, talk: _Talk) -> Onlooker:
        if talk.session is None:
            talk.session = Onlooker(talk.flow, self._policy, self._shared)
            self._give(talk, talk.session.start(self._now, self._now))
            if talk.midstream:
                self._give(talk, talk.session.note("its beginning is not in the capture"))
        return talk.session

    def _odd(self, talk: _Talk, text: str) -> None:
        talk.odd += 1
        if talk.odd <= MAX_ODD:
            self._give(talk, self._session(talk).note(text))

    def _over(self, talk: _Talk, event: Over) -> None:
        session = self._session(talk)
        if event.why == "reset":
            self._tell(talk, Ended(event.side or Side.SERVER, lost=True))
        notes = [
            Note("message", f"{size} bytes not read", side, "unread", size=size)
            for side, size in sorted(talk.unread.items(), key=lambda one: one[0].value)
            if size
        ]
        abort = "abort" if event.why == "reset" else ""
        why = talk.closed.text if talk.closed else ENDINGS.get(event.why, event.why)
        last = Note("closed", why, event.side, message=abort, protocol=session.protocol)
        self._sink.append(talk.flow, [*notes, last], self._now, self._packet)
        del self._talks[event.flow]

    def _give(self, talk: _Talk, effects: Sequence[Effect]) -> None:
        """Hand on the notes among what a session does; its sends are for nobody."""
        notes = list[Note]()
        for effect in effects:
            if isinstance(effect, Note) and effect.kind == "closed":
                talk.closed = effect
            elif isinstance(effect, Note):
                notes.append(effect)
        if notes:
            self._sink.append(talk.flow, notes, self._now, self._packet)
