"""A connection of TCP that is not terminated: its packets wait in the kernel until the session lets their bytes go on.

Which packet may go is worked out in packet/inline.py. What is denied ends the connection by resets to both ends.
"""

from collections.abc import Sequence

from appliance.model import Ended, Flow, Note, ProtocolError, Received, Side
from appliance.packet.decode import ACK, SYN
from appliance.packet.events import Finished, Over, Run
from appliance.packet.inline import Go, Inline, Word
from appliance.relay.session_type import Session
from appliance.service.lane import Lane, Outside
from appliance.service.outlet import Held

C, S = Side.CLIENT, Side.SERVER
AHEAD = 8192  # bytes of an answer that wait for its end; a server may send 10 segments unacknowledged (RFC 6928)
STALLED = "a message does not become whole: it may be longer than what its sender has on the way"
SILENT = "no complete message"


class Stream(Lane):
    """Drives one connection."""

    def __init__(self, number: int, flow: Flow, session: Session, outside: Outside) -> None:
        super().__init__(number, flow, session, outside)
        self._inline = Inline()
        self._packets: dict[int, Held] = {}  # those that wait
        self._ebbing = False  # both sides have ended: what is left are packets without news
        self._begun = self._moved = self._loop.time()
        self._spoken = False  # a message has come
        self._next: dict[Side, int] = {}  # sequence number of the byte of a side that its receiver waits for
        self._origin: dict[Side, int] = {}  # sequence number of the first byte of a side

    def take(self, held: Held) -> None:
        number, taken = held.queued.id, held.taken
        if held.packet.tcp is None:  # an error by ICMP, about a packet of this connection
            self._outside.outlet.go(held)
            return
        self._note(held)
        if not self._packets:
            self._moved = self._loop.time()
        self._packets[number] = held
        try:
            self._carry_out(self._inline.take(taken, number, held.packet.payload))
        except ProtocolError as error:
            self.broken(str(error))
            return
        for event in taken.events:
            match event:
                case Run(_, side, _, data):
                    self._inline.came(side, data)
                    self._give(Received(side, data))
                    self._spoken = self._spoken or not self._inline.held
                case Finished(_, side):
                    self._give(Ended(side))
                case Over(_, "reset", _, side):
                    self._ebbing = True
                    self._give(Ended(side or C, lost=True))
        if self.over:
            return
        if self._inline.pending(C) > AHEAD and getattr(self._session, "unmasked", False):
            self._ahead()
        if not self._weigh():
            self.broken("too much of this vendor waits")

    def _ahead(self) -> None:
        """Let an answer that no mask touches go on before it is whole: its server may wait for that. Put on record."""
        note = Note("message", f"{self._inline.pending(C)} bytes of an answer went on before it was whole", S, "part")
        self._step(lambda: (note,))
        if not self.over:
            self._progress(self._inline.ahead(C))

    def look(self, now: float) -> None:
        self._expire(now)
        limits = self._outside.limits
        if self._questions or self.over:
            self._moved = now
        elif self._inline.packets and now - self._moved > limits.stall_s:
            self.broken(STALLED)
        elif not self._spoken and now - self._begun > limits.silent_s:
            self.broken(f"{SILENT} within {limits.silent_s:g} s")

    def _note(self, held: Held) -> None:
        """Remember where both ends stand, to be able to reset them."""
        side, tcp = held.taken.side, held.packet.tcp
        if tcp is None:
            return
        if held.taken.fin or held.taken.begin < held.taken.end:
            self._origin[side] = tcp.seq + bool(tcp.flags & SYN) - held.taken.begin
        if tcp.flags & ACK:
            self._next[side.other] = tcp.ack

    def _carry_out(self, words: Sequence[Word]) -> None:
        for word in words:
            held = self._packets.pop(word.number)
            if isinstance(word, Go):
                self._outside.outlet.go(held, word.payload)
            else:
                self._outside.outlet.drop(word.number)

    def _progress(self, words: Sequence[Word]) -> None:
        if words:
            self._moved = self._loop.time()
        self._carry_out(words)

    def _send(self, to: Side, data: bytes) -> None:
        self._progress(self._inline.allow(to, data))

    def _shut(self, to: Side) -> None:
        self._progress(self._inline.end(to))

    def _finish(self) -> bool:
        try:
            for side in Side:
                self._shut(side)
        except ProtocolError:
            return False
        self._ebbing = True
        return True

    def _waiting(self) -> Sequence[Held]:
        return list(self._packets.values())

    def _abort(self, left: Sequence[Held]) -> None:
        self._packets.clear()
        told = False
        for held in left:
            if held.taken.side is C and not told:
                told = True
                self._outside.outlet.refuse(held)
            else:
                self._outside.outlet.drop(held.queued.id)
        if not self._ebbing:
            for side in Side:
                self._reset(side)

    def _reset(self, to: Side) -> None:
        """Reset one side, if it is known where it stands: where it said, or where it does not say yet, if all that went
        on has arrived (RFC 5961, 3.2: a reset counts only at the very next number)."""
        acked, ack = self._next.get(to.other), self._next.get(to)
        if acked is None:
            return
        origin = self._origin.get(to.other, acked - self._inline.allowed(to.other))
        for seq in {acked, (origin + self._inline.allowed(to.other)) % 2**32}:
            self._outside.outlet.reset(self.flow, to, seq, ack)
