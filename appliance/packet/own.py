"""Packets of our own making: an answer in a server's name, the reset of a connection, an error about a datagram.

Sources: RFC 791, RFC 8200, RFC 768; RFC 9293 section 3.5.2 (resets); RFC 792, RFC 1812 section 4.3.2.3 and RFC 4443
section 3.1 (unreachable). Headers without options, hop limit of Linux.
"""

import struct
from ipaddress import ip_address

from appliance.model import Address
from appliance.packet.build import rebuild
from appliance.packet.decode import ACK, FIN, ICMP, ICMPV6, RST, SYN, TCP, UDP, Packet, decode

HOPS = 64  # net.ipv4.ip_default_ttl
DO_NOT_FRAGMENT = 0x4000
MAX_ANSWER = 65_507  # bytes; what fits IPv4 behind its header and that of UDP
_TCP = struct.Struct(">HHIIBBHHH")


def datagram(source: Address, target: Address, payload: bytes) -> bytes:
    """Return a datagram of UDP. ValueError: it is too long."""
    if len(payload) > MAX_ANSWER:
        raise ValueError(f"a datagram of {len(payload)} bytes is too long for IP")
    head = struct.pack(">HHHH", source.port, target.port, 8 + len(payload), 0)
    return _sealed(source, target, UDP, head, payload)


def reset(source: Address, target: Address, seq: int, ack: int | None = None) -> bytes:
    """Return a reset of the connection between two ends, in the name of `source`."""
    flags = RST | (ACK if ack is not None else 0)
    head = _TCP.pack(source.port, target.port, seq % 2**32, (ack or 0) % 2**32, 5 << 4, flags, 0, 0, 0)
    return _sealed(source, target, TCP, head, b"")


def refusal(packet: Packet) -> bytes:
    """Return what tells the sender of a packet that it was refused, in the name of who it was for."""
    tcp = packet.tcp
    if tcp is None:
        return unreachable(packet)
    if tcp.flags & ACK:
        return reset(packet.target, packet.source, tcp.ack)
    length = len(packet.payload) + bool(tcp.flags & SYN) + bool(tcp.flags & FIN)
    return reset(packet.target, packet.source, 0, tcp.seq + length)


def unreachable(packet: Packet) -> bytes:
    """Return the error by ICMP about a packet: nobody listens there, or if it has no port, it is not allowed."""
    ported = packet.transport == "udp"
    if packet.data[0] >> 4 == 4:
        protocol, head, room = ICMP, bytes((3, 3 if ported else 13)), 576 - 28
    else:
        protocol, head, room = ICMPV6, bytes((1, 4 if ported else 1)), 1280 - 48
    return _sealed(packet.target, packet.source, protocol, b"", head + bytes(6) + packet.data[:room])


def _sealed(source: Address, target: Address, protocol: int, head: bytes, payload: bytes) -> bytes:
    one, other = ip_address(source.host), ip_address(target.host)
    size = len(head) + len(payload)
    if one.version == 4:
        first = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, DO_NOT_FRAGMENT, HOPS, protocol, 0)
    else:
        first = struct.pack(">IHBB", 6 << 28, size, protocol, HOPS)
    return rebuild(decode(first + one.packed + other.packed + head + payload), payload)
