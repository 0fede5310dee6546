"""A TCP connection made up from what was said over it: IP packets as captured beside the client.

Sources: RFC 9293 (TCP), RFC 791 (IPv4), RFC 8200 (IPv6), RFC 1071 (checksum).
Made up: the sequence numbers, the cut into packets, the acknowledgements. Nothing is ever lost or sent twice.
"""

import zlib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

from appliance.model import Address, Side

MTU = 1500  # bytes; Ethernet, so that a viewer finds nothing odd
IPV4, IPV6, TCP = 20, 40, 20  # bytes of the headers, without options
WINDOW = 64_240  # bytes; what Linux offers on Ethernet
UNANSWERED = 2  # full packets until the other side acknowledges (RFC 9293, 3.8.6.3)
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

C, S = Side.CLIENT, Side.SERVER


class Packet(msgspec.Struct):
    """An IP packet. `data` is shorter than `size` where the bytes were not recorded."""

    time: float  # unix seconds
    data: bytes
    size: int
    comments: list[str]
    source: str = ""  # who is behind it
    names: tuple[tuple[bytes, str], ...] = ()  # addresses of the packet that are known by a name


class Connection:
    """One connection. Every method returns the packets it takes; give times in order."""

    _protocol = 6  # in the header of IP: TCP, by IANA

    def __init__(self, client: Address, server: Address, name: str) -> None:
        hosts = [ip_address(client.host), ip_address(server.host)]
        if hosts[0].version != hosts[1].version:
            hosts = [_mapped(host) for host in hosts]
        self._host = dict(zip((C, S), (host.packed for host in hosts), strict=True))
        self._port = {C: client.port, S: server.port}
        self._v6 = hosts[0].version == 6
        self._segment = MTU - TCP - (IPV6 if self._v6 else IPV4)
        start = zlib.crc32(name.encode())  # the same export twice is the same file
        self._next = {C: start, S: zlib.crc32(name.encode(), 1)}
        self._unseen = {C: 0, S: 0}  # bytes sent that the other side has not acknowledged
        self._idents = {C: 0, S: 0}

    @property
    def server(self) -> bytes:
        """Its address, as it stands in packets."""
        return self._host[S]

    def open(self, time: float) -> list[Packet]:
        """Shake hands."""
        return [self._packet(C, SYN, time), self._packet(S, SYN | ACK, time), self._packet(C, ACK, time)]

    def say(self, side: Side, time: float, data: bytes, missing: int = 0) -> Iterator[Packet]:
        """Send `data`, and after it `missing` bytes that are not known."""
        size = len(data) + missing
        for start in range(0, size, self._segment):
            if self._unseen[side] >= UNANSWERED * self._segment:
                yield self._packet(side.other, ACK, time)
            length = min(self._segment, size - start)
            push = PSH if start + length == size else 0
            yield self._packet(side, ACK | push, time, data[start : start + length], length)

    def nod(self, time: float) -> Packet | None:
        """Acknowledge something; None when there is nothing to acknowledge."""
        for side in (S, C):
            if self._unseen[side.other]:
                return self._packet(side, ACK, time)
        return None

    def idle(self, time: float) -> Packet:
        """Acknowledge once more what was acknowledged before."""
        return self._packet(C, ACK, time)

    def finish(self, side: Side, time: float) -> list[Packet]:
        """Close in order, `side` first."""
        flags = ((side, FIN | ACK), (side.other, FIN | ACK), (side, ACK))
        return [self._packet(who, flag, time) for who, flag in flags]

    def reset(self, side: Side, time: float) -> list[Packet]:
        """Abort; the reset comes from `side`."""
        return [self._packet(side, RST | ACK, time)]

    def _packet(self, side: Side, flags: int, time: float, data: bytes = b"", size: int = 0) -> Packet:
        options = b"\x02\x04" + self._segment.to_bytes(2, "big") if flags & SYN else b""
        length = TCP + len(options)
        acknowledged = self._next[side.other] if flags & ACK else 0
        header = b"".join(
            (
                self._port[side].to_bytes(2, "big"),
                self._port[side.other].to_bytes(2, "big"),
                self._next[side].to_bytes(4, "big"),
                acknowledged.to_bytes(4, "big"),
                bytes((length << 2, flags)),
                WINDOW.to_bytes(2, "big"),
            )
        )
        ends = self._host[side] + self._host[side.other]
        pseudo = ends + (length + size).to_bytes(4, "big") + b"\0\0\0\x06"
        sum = checksum(pseudo + header + b"\0\0\0\0" + options + data)
        body = header + sum.to_bytes(2, "big") + b"\0\0" + options + data
        taken = size + (1 if flags & (SYN | FIN) else 0)
        self._next[side] = (self._next[side] + taken) & 0xFFFFFFFF
        self._unseen[side] += size
        if flags & ACK:
            self._unseen[side.other] = 0
        outer = self._outer(side, length + size)
        return Packet(time, outer + body, len(outer) + length + size, [])

    def _outer(self, side: Side, length: int) -> bytes:
        """Return the IP header over `length` bytes."""
        ends = self._host[side] + self._host[side.other]
        if self._v6:
            return b"\x60\0\0\0" + length.to_bytes(2, "big") + bytes((self._protocol, 64)) + ends
        ident = self._idents[side] = (self._idents[side] + 1) & 0xFFFF
        head = b"\x45\0" + (IPV4 + length).to_bytes(2, "big") + ident.to_bytes(2, "big") + b"\x40\0\x40"
        head += bytes((self._protocol,))
        return head + checksum(head + ends).to_bytes(2, "big") + ends


def checksum(data: bytes) -> int:
    """Return the Internet checksum.

    65536 is 1 modulo 65535, so the sum of the words is the number they make, modulo that.
    """
    if len(data) % 2:
        data += b"\0"
    return 0xFFFF - (int.from_bytes(data, "big") % 0xFFFF or 0xFFFF)


def _mapped(host: IPv4Address | IPv6Address) -> IPv6Address:
    return IPv6Address(f"::ffff:{host}") if isinstance(host, IPv4Address) else host
