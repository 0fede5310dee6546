"""What a client says first in each connection of QUIC over one pair of addresses.

A hello may be in several datagrams. Until it is whole none of them goes up, and nobody is told: the client sends each
again (RFC 9002 section 6.2), and then it is known whom they are for. A connection has the keys of the id its client
chose first; packets that go by none of the ids known begin another one (RFC 9000 section 7.2), as after a Retry.
"""

from collections import OrderedDict
from collections.abc import Iterator

from appliance.model import Message, ProtocolError, Send, Side, Value
from appliance.wire import Plan
from appliance.wire.datagrams import Datagrams
from appliance.wire.quic.keys import INITIAL, Keys, keys, opened
from appliance.wire.quic.packets import LEAST, Long, crypto, packets
from appliance.wire.tls import Hello, hello
from appliance.wire.udp import MAX_DATAGRAM

MAX_OPEN = 16  # connections of one flow whose keys are kept; ours: a client has one, or a few behind one socket
MAX_INITIALS = 16  # packets of one datagram that begin connections; ours: clients send one, or two. 800 took 0.1 s
MAX_CRYPTO = 16 * 1024  # bytes of a hello; ours: with post-quantum keys and many extensions it has some 2,000
RECORD = 1 << 14  # bytes of one TLS record; RFC 8446 section 5.1


class _Connection:
    """What is known of one."""

    def __init__(self, target: bytes) -> None:
        self.target = target
        self.keys: dict[int, Keys] = {}  # by version: a server may change it (RFC 9368)
        self.hello: Hello | None = None
        self.whole = False  # all that came so far is known
        self.next = 0  # the number that would follow those seen
        self._data = bytearray()  # of the hello, as far as it came
        self._came = bytearray()  # one for each byte that did

    def open(self, packet: Long) -> bytes | None:
        """Return the frames of a packet; None if it is of another connection."""
        if packet.version not in self.keys:
            self.keys[packet.version] = keys(packet.version, self.target)
        found = opened(self.keys[packet.version], packet.data, packet.number_at, self.next)
        if found is None:
            return None
        self.next = max(self.next, found[0] + 1)
        return found[1]

    def add(self, frames: bytes) -> None:
        """Take the pieces of the hello in a packet.

        Raises:
            ProtocolError: they say two things of one place, or go on for too long.
        """
        for place, data in crypto(frames):
            end = place + len(data)
            if end > MAX_CRYPTO:
                raise ProtocolError(f"a hello in QUIC over {MAX_CRYPTO} bytes")
            more = bytes(max(0, end - len(self._data)))
            self._data += more
            self._came += more
            for at, known in enumerate(self._came[place:end]):
                if known and self._data[place + at] != data[at]:
                    raise ProtocolError("a hello in QUIC that says two things in one place")
            self._data[place:end] = data
            self._came[place:end] = b"\1" * len(data)
        missing = self._came.find(0)
        self._read(bytes(self._data if missing < 0 else self._data[:missing]))

    def _read(self, data: bytes) -> None:
        """Read the hello, and the one that repeats it where the server asked for that (RFC 8446 section 4.1.2).

        Raises:
            ProtocolError: the second is for another than the first, or more follows.
        """
        first = hello(_records(data))
        self.hello, self.whole = self.hello or first, first is not None
        again = data[_size(data) :]
        if first is None or not again:
            return
        second = hello(_records(again))
        self.whole = second is not None
        if second is not None and (second.name, second.alpn, second.ech) != (first.name, first.alpn, first.ech):
            raise ProtocolError("a hello in QUIC that is repeated for another server")
        if second is not None and len(again) > _size(again):
            raise ProtocolError("a client that goes on behind its hello in QUIC")


def _size(handshake: bytes) -> int:
    """Return how long the first message of a handshake is."""
    return 4 + int.from_bytes(handshake[1:4], "big")


def _records(data: bytes) -> bytes:
    """Return a handshake as it would be in records of TLS: so one reader serves both."""
    pieces = (data[at : at + RECORD] for at in range(0, len(data), RECORD))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


class QUIC(Datagrams):
    """As `wire.Wire` says."""

    name = "quic"

    def __init__(self) -> None:
        self._connections: OrderedDict[bytes, _Connection] = OrderedDict()

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if len(data) > MAX_DATAGRAM:
            raise ProtocolError(f"a datagram over {MAX_DATAGRAM} bytes")
        yield self._said(data) if side is Side.CLIENT else Message(side, "datagram", data, text=f"{len(data)} bytes")

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        if message.kind == "partial":
            return [Send(Side.CLIENT, b"")]  # it is not refused either: nothing goes to anybody
        return super().allow(message, plan, redact)

    def _said(self, data: bytes) -> Message:
        strange, target = False, None
        found: list[_Connection] = []
        for packet in packets(data):
            strange = strange or packet.version not in INITIAL
            if target not in (None, packet.target):
                raise ProtocolError("packets of two connections in one datagram of QUIC")  # RFC 9000 section 12.2
            target = packet.target
            if packet.initial:
                if len(found) == MAX_INITIALS:
                    raise ProtocolError(f"more than {MAX_INITIALS} Initial packets in one datagram of QUIC")
                if len(data) < LEAST:
                    raise ProtocolError("an Initial packet of QUIC in a datagram that servers discard")
                found.append(self._belongs(packet))
        if strange:
            return Message(Side.CLIENT, "strange", data, text=f"{len(data)} bytes of a version of QUIC not read here")
        if not all(one.whole for one in found):
            return Message(Side.CLIENT, "partial", data, text=f"{len(data)} bytes, part of a hello")
        hellos = [one.hello for one in found if one.hello is not None]
        if not hellos:
            return Message(Side.CLIENT, "datagram", data, text=f"{len(data)} bytes")
        if any(one != hellos[0] for one in hellos):
            raise ProtocolError("two hellos in one datagram of QUIC")
        said = hellos[0]
        return Message(
            Side.CLIENT,
            "hello",
            data,
            text=f"QUIC hello for {said.name or 'no name'}{', with an encrypted hello' if said.ech else ''}",
            name=said.name,
            status="encrypted" if said.ech else "plain",
            values=tuple(Value(one.encode()) for one in said.alpn),
        )

    def _belongs(self, packet: Long) -> _Connection:
        """Return the connection an Initial packet is of, its frames read.

        Raises:
            ProtocolError: it is of none, and begins none.
        """
        for one in (*self._connections.values(), _Connection(packet.target)):
            frames = one.open(packet)
            if frames is not None:
                one.add(frames)
                self._connections[one.target] = one
                if len(self._connections) > MAX_OPEN:
                    self._connections.popitem(last=False)
                return one
        raise ProtocolError("an Initial packet of QUIC that cannot be read")
