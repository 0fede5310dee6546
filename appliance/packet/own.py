"""Packets of our own making: an answer in a server's name, and the reset of a connection.

Sources: RFC 791, RFC 8200, RFC 768; RFC 9293 section 3.5.2 (resets). Headers without options, hop limit of Linux.
"""

import struct
from ipaddress import ip_address

from appliance.model import Address
from appliance.packet.build import rebuild
from appliance.packet.decode import ACK, RST, TCP, UDP, decode

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


def _sealed(source: Address, target: Address, protocol: int, head: bytes, payload: bytes) -> bytes:
    one, other = ip_address(source.host), ip_address(target.host)
    size = len(head) + len(payload)
    if one.version == 4:
        first = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, DO_NOT_FRAGMENT, HOPS, protocol, 0)
    else:
        first = struct.pack(">IHBB", 6 << 28, size, protocol, HOPS)
    return rebuild(decode(first + one.packed + other.packed + head + payload), payload)
