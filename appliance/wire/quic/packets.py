"""The parts of a client's datagram of QUIC that are not hidden, and the frames of Initial packets.

Source: RFC 9000 sections 12.2 (packets in one datagram), 17.2 (long headers), 19 (frames); RFC 8999.
"""

from collections.abc import Iterator

import msgspec

from appliance.model import ProtocolError
from appliance.wire.quic.keys import INITIAL

LEAST = 1200  # bytes of a datagram with an Initial packet; RFC 9000 section 14.1: a server discards a smaller one
MAX_ID = 20  # bytes of a connection id; RFC 9000 section 17.2
LONG, FIXED = 0x80, 0x40
PADDING, PING, ACK, ACK_ECN, CRYPTO, CLOSE = 0, 1, 2, 3, 6, 0x1C


class Long(msgspec.Struct, frozen=True):
    """A packet with a long header; `number_at` is where its protected number begins, 0 in what is no Initial packet."""

    version: int
    target: bytes  # connection id
    initial: bool
    data: bytes  # the whole packet
    number_at: int = 0


def begins(data: bytes) -> bool:
    """Return True if a client's first datagram is QUIC of a version that is in use, was, or is kept for tests."""
    if len(data) < LEAST or data[0] & (LONG | FIXED) != LONG | FIXED or data[5] > MAX_ID:
        return False
    version = int.from_bytes(data[1:5], "big")
    return version in INITIAL or version & 0x0F0F0F0F == 0x0A0A0A0A or version >> 8 == 0xFF0000 or version >> 24 == 0x51


def packets(data: bytes) -> Iterator[Long]:
    """Yield the packets with long headers at the begin of a datagram, up to the first of a version not read here.

    Raises:
        ProtocolError: one is cut short.
    """
    at = 0
    while at < len(data) and data[at] & LONG:
        packet, at = _long(data, at)
        yield packet
        if packet.version not in INITIAL:
            return


def _long(data: bytes, start: int) -> tuple[Long, int]:
    fields = Fields(data, start)
    first, version = fields.number(1), fields.number(4)
    target = fields.take(fields.number(1))
    fields.take(fields.number(1))  # the source's connection id
    kind = (first >> 4) & 3
    if version not in INITIAL or kind == (INITIAL[version] + 3) % 4:  # a Retry packet; only servers send it
        return Long(version, target, initial=False, data=data[start:]), len(data)
    initial = kind == INITIAL[version]
    if initial:
        fields.take(fields.varint())  # token
    size = fields.varint()
    number_at = fields.at
    fields.take(size)
    if len(target) > MAX_ID or not first & FIXED:
        raise ProtocolError("a packet of QUIC that no server takes")
    return Long(version, target, initial, data[start : fields.at], number_at - start if initial else 0), fields.at


class Fields:
    """Fields one after the other."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data, self.at = data, at

    def __bool__(self) -> bool:
        return self.at < len(self._data)

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self._data):
            raise ProtocolError("a packet of QUIC that is cut short")
        return self._data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def varint(self) -> int:
        first = self.number(1)
        more = (1 << (first >> 6)) - 1
        return (first & 0x3F) << (8 * more) | self.number(more)


def crypto(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield place and bytes of each piece of the handshake in an Initial packet.

    Raises:
        ProtocolError: a frame is cut short, or may not be there (RFC 9000 section 12.4).
    """
    fields = Fields(frames)
    while fields:
        kind = fields.varint()
        if kind == CRYPTO:
            place = fields.varint()
            yield place, fields.take(fields.varint())
        elif kind in (ACK, ACK_ECN):
            fields.varint(), fields.varint()
            ranges = fields.varint()
            fields.varint()
            for _ in range(2 * ranges + (3 if kind == ACK_ECN else 0)):
                fields.varint()
        elif kind == CLOSE:
            fields.varint(), fields.varint()
            fields.take(fields.varint())
        elif kind not in (PADDING, PING):
            raise ProtocolError(f"a frame of type {kind} in an Initial packet of QUIC")
