"""Datagrams as IP packets, as captured beside the client.

Sources: RFC 768 (UDP), RFC 792 and RFC 4443 (ICMP), RFC 791 (IPv4), RFC 8200 (IPv6).
Made up: identifications and time to live. A datagram that was sent in fragments is one packet here.
"""

from collections.abc import Iterator

from appliance.model import Address, Side
from appliance.record.tcp import IPV4, Connection, Packet, checksum

UDP, ICMP, ICMPV6 = 17, 1, 58  # protocol numbers of IANA
HEAD = 8  # bytes of the header of UDP
MOST = 65_535 - IPV4 - HEAD  # bytes in one datagram; IPv4's total length has 16 bits


class Datagrams(Connection):
    """What two ends said to each other in UDP or ICMP. Give times in order."""

    def __init__(self, client: Address, server: Address, name: str, transport: str) -> None:
        super().__init__(client, server, name)
        self._udp = transport == "udp"
        self._protocol = UDP if self._udp else ICMPV6 if self._v6 else ICMP

    def say(self, side: Side, time: float, data: bytes, missing: int = 0) -> Iterator[Packet]:
        """Send `data` as one datagram, its last `missing` bytes not known."""
        size = len(data) + missing
        for start in range(0, size or 1, MOST):
            length = min(MOST, size - start)
            yield self._datagram(side, time, data[start : start + length], length)

    def _datagram(self, side: Side, time: float, data: bytes, size: int) -> Packet:
        body = data
        if self._udp:
            length = (size + HEAD).to_bytes(2, "big")
            ports = self._port[side].to_bytes(2, "big") + self._port[side.other].to_bytes(2, "big")
            ends = self._host[side] + self._host[side.other]
            pseudo = ends + b"\0" + bytes((UDP,)) + length
            sum = checksum(pseudo + ports + length + b"\0\0" + data) or 0xFFFF
            body = ports + length + sum.to_bytes(2, "big") + data
            size += HEAD
        outer = self._outer(side, size)
        return Packet(time, outer + body, len(outer) + size, [])
