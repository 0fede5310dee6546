"""One connection that is judged without being terminated: which of its packets may go on, and with which bytes.

Theory of operation. The tracker says where in the stream of its side a packet stands; what is new of it goes to the
session, and what the session sends is *allowed*, up to an offset. A packet goes on when the whole of it is allowed,
until then it waits in the kernel. FIN goes on when the session has ended that side. The peers count bytes, so none may
be added or left out: towards the server all are those that came; towards the client as many, and where a mask changed
some, the packet goes on with the changed ones, as often as it is sent.

A packet that says once more what waits already takes its place: queues are emptied when others change their tables,
and then only the new one is left.

Source: RFC 9293 section 3.4 and 3.8. Not handled: a request longer than what a client may have unacknowledged (some
14,000 bytes of a fresh connection, RFC 6928). It never becomes whole, and its flow ends by the limits on what waits.
"""

from bisect import bisect_right

import msgspec

from appliance.model import ProtocolError, Side
from appliance.packet.events import Taken

KEPT = 6_291_456  # bytes behind what is allowed in which they may be sent again: Choices.max_unacked
BLOCK = 64  # bytes; what a mask changed is remembered in as many blocks of these
MAX_CHANGED = 65_536  # blocks: two thirds of what is within KEPT. With more, the oldest are forgotten, and what was in
# them is refused should it be sent again


class Limits(msgspec.Struct, frozen=True, gc=False):
    """Of what waits in one flow."""

    packets: int = 512  # half a queue of the kernel's usual length (1,024)
    bytes: int = 4 << 20  # tcp_wmem[2] of Linux: no sender of its default size has more on the way


class Go(msgspec.Struct, frozen=True, gc=False):
    """A packet may go on, with `payload` in place of its own if it is not None."""

    number: int
    payload: bytes | None = None


class Drop(msgspec.Struct, frozen=True, gc=False):
    """A packet goes nowhere, and its flow lives on: its sender sends it again, if it needs to."""

    number: int


Word = Go | Drop


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    """A packet in the kernel's queue."""

    number: int
    begin: int
    end: int
    fin: bool
    payload: bytes


class _Half:
    """One direction."""

    def __init__(self) -> None:
        self.allowed = 0  # bytes the session has let go on
        self.over = False  # and it let go of the end
        self.came = bytearray()  # bytes given to the session that are not allowed yet
        self.ahead = bytearray()  # bytes that went on before the session sent them
        self.changed: list[int] = []  # offsets of blocks that a mask changed
        self.blocks: dict[int, bytes] = {}  # what stands there now
        self.forgotten = 0  # before this offset nothing is known of changes
        self.waiting: list[_Waiting] = []

    def word(self, packet: _Waiting) -> Go | None:
        """Return the word on a packet; None while it must wait."""
        if packet.end > self.allowed or (packet.fin and not self.over):
            return None
        return Go(packet.number, self._payload(packet) if self.changed or self.forgotten else None)

    def _payload(self, packet: _Waiting) -> bytes | None:
        if packet.begin < self.forgotten:
            raise ProtocolError("masked bytes are sent again long after they were acknowledged")
        out = bytearray(packet.payload)
        for offset in self.changed[bisect_right(self.changed, packet.begin - BLOCK) :]:
            if offset >= packet.end:
                break
            data = self.blocks[offset]
            low, high = max(offset, packet.begin), min(offset + len(data), packet.end)
            if low < high:
                out[low - packet.begin : high - packet.begin] = data[low - offset : high - offset]
        return bytes(out) if out != packet.payload else None

    def change(self, before: bytes, data: bytes) -> None:
        """Remember what stands in place of what came."""
        for low in range(0, len(data), BLOCK):
            block = data[low : low + BLOCK]
            if before[low : low + BLOCK] != block:
                self.changed.append(self.allowed + low)
                self.blocks[self.allowed + low] = block
        old = bisect_right(self.changed, self.allowed - KEPT)
        old = max(old, len(self.changed) - MAX_CHANGED)
        if old > 0:
            last = self.changed[old - 1]
            self.forgotten = last + len(self.blocks[last])
            for offset in self.changed[:old]:
                del self.blocks[offset]
            del self.changed[:old]


class Inline:
    """Of one connection. Give it what the tracker says of each packet, and what the session lets go on.

    Every method that can decide something returns the words on packets, each given once.
    """

    def __init__(self, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self._limits = limits
        self._halves = {side: _Half() for side in Side}

    @property
    def held(self) -> int:
        """Bytes that wait."""
        return sum(len(packet.payload) for half in self._halves.values() for packet in half.waiting)

    @property
    def packets(self) -> int:
        """Packets that wait."""
        return sum(len(half.waiting) for half in self._halves.values())

    def allowed(self, side: Side) -> int:
        """Return how many bytes of `side` went on, its FIN among them: where its receiver stands, if it took all."""
        return self._halves[side].allowed + self._halves[side].over

    def take(self, taken: Taken, number: int, payload: bytes) -> list[Word]:
        """Take a packet of the flow; `taken` is neither "invalid" nor "refused".

        Raises:
            ProtocolError: more waits than may.
        """
        half = self._halves[taken.side]
        packet = _Waiting(number, taken.begin, taken.end, taken.fin, payload)
        if taken.begin == taken.end and not taken.fin:
            return [Drop(number) if payload else Go(number)]
        word = half.word(packet)
        if word is not None:
            return [word]
        again = [other for other in half.waiting if _says(packet, other)]
        half.waiting = [other for other in half.waiting if not _says(packet, other)] + [packet]
        if self.packets > self._limits.packets:
            raise ProtocolError(f"over {self._limits.packets} packets wait in one connection")
        if self.held > self._limits.bytes:
            raise ProtocolError(f"over {self._limits.bytes} bytes wait in one connection")
        return [Drop(other.number) for other in again]

    def came(self, side: Side, data: bytes) -> None:
        """Bytes of `side`, the next in order, are given to the session."""
        self._halves[side].came += data

    def allow(self, to: Side, data: bytes) -> list[Word]:
        """The session sends `data` to a side: it stands where the next bytes of the other side stood.

        Raises:
            ProtocolError: those were fewer, or other ones and `to` is the server.
        """
        half = self._halves[to.other]
        gone = min(len(half.ahead), len(data))
        if half.ahead[:gone] != data[:gone]:
            raise ProtocolError(f"other bytes for the {to.value} than went on ahead")
        del half.ahead[:gone]
        data = data[gone:]
        before = bytes(half.came[: len(data)])
        if len(before) < len(data):
            raise ProtocolError(f"{len(data)} bytes for the {to.value} in place of {len(before)}")
        if before != data:
            if to is Side.SERVER:
                raise ProtocolError("other bytes for the server than the client said")
            half.change(before, data)
        del half.came[: len(data)]
        half.allowed += len(data)
        return self._ready(half)

    def pending(self, to: Side) -> int:
        """Return how many bytes for a side the session has, and has not sent."""
        return len(self._halves[to.other].came)

    def ahead(self, to: Side) -> list[Word]:
        """Let what the session has for a side go on before it is sent: a message may be longer than its sender sends
        unacknowledged. The session must come to send the same."""
        half = self._halves[to.other]
        half.ahead += half.came
        half.allowed += len(half.came)
        half.came.clear()
        return self._ready(half)

    def end(self, to: Side) -> list[Word]:
        """The session has nothing more for a side: the FIN of the other may go on.

        Raises:
            ProtocolError: bytes that came are neither sent nor refused.
        """
        half = self._halves[to.other]
        if half.came:
            raise ProtocolError(f"{len(half.came)} bytes for the {to.value} are left")
        half.over = True
        return self._ready(half)

    def rest(self) -> list[int]:
        """The flow is over: return the packets that wait, which are no longer ours."""
        numbers = [packet.number for half in self._halves.values() for packet in half.waiting]
        for half in self._halves.values():
            half.waiting.clear()
        return numbers

    def _ready(self, half: _Half) -> list[Word]:
        words: list[Word] = []
        left = []
        for packet in half.waiting:
            word = half.word(packet)
            if word is None:
                left.append(packet)
            else:
                words.append(word)
        half.waiting = left
        return words


def _says(one: _Waiting, other: _Waiting) -> bool:
    """Return True if `one` says all that `other` says."""
    return one.begin <= other.begin and other.end <= one.end and one.fin >= other.fin
