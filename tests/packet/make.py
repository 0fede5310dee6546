"""Packets by hand: quick to make, and as wrong as a test wants them."""

import struct
from ipaddress import ip_address

from appliance.packet.build import _sum, seal
from appliance.packet.decode import ACK, FIN, PSH, RST, SYN, URG

A, B = "10.66.0.2", "10.66.0.1"
A6, B6 = "fd66::2", "fd66::1"
FLAGS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "A": ACK, "U": URG}


def ip(source: str, target: str, protocol: int, body: bytes, id: int = 0, place: int = 0, options: bytes = b"") -> bytes:
    """An IP packet; `place` is the field of flags and offset, of IPv4."""
    one, two = ip_address(source).packed, ip_address(target).packed
    if len(one) == 16:
        return struct.pack(">IHBB", 6 << 28, len(body), protocol, 64) + one + two + body
    size = 20 + len(options)
    head = struct.pack(">BBHHHBBH", 0x40 | size // 4, 0, size + len(body), id, place, 64, protocol, 0)
    data = bytearray(head + one + two + options)
    seal(data)
    return bytes(data) + body


def summed(source: str, target: str, protocol: int, body: bytes, at: int) -> bytes:
    """The body with its checksum written at `at`."""
    ends = ip_address(source).packed + ip_address(target).packed
    pseudo = b"" if protocol == 1 else ends + len(body).to_bytes(4) + protocol.to_bytes(4)
    return body[:at] + (0xFFFF - _sum(pseudo + body)).to_bytes(2) + body[at + 2 :]


def tcp(
    source: str, target: str, ports: tuple[int, int], flags: str, seq: int, ack: int = 0, data: bytes = b"",
    window: int = 0xFFFF, urgent: int = 0, options: bytes = b"",
) -> bytes:  # fmt: skip
    """A segment. Flags by their letters."""
    bits = sum(FLAGS[letter] for letter in flags)
    options += b"\0" * (-len(options) % 4)
    words = (*ports, seq % 2**32, ack % 2**32, (5 + len(options) // 4) << 4, bits, window, 0, urgent)
    body = struct.pack(">HHIIBBHHH", *words) + options + data
    return ip(source, target, 6, summed(source, target, 6, body, 16))


def udp(source: str, target: str, ports: tuple[int, int], data: bytes) -> bytes:
    body = struct.pack(">HHHH", *ports, 8 + len(data), 0) + data
    return ip(source, target, 17, summed(source, target, 17, body, 6))


def stamps(value: int, echo: int = 0) -> bytes:
    """The option of timestamps."""
    return struct.pack(">BBBBII", 1, 1, 8, 10, value % 2**32, echo % 2**32)


def pieces(packet: bytes, cuts: list[tuple[int, int]], id: int = 7) -> list[bytes]:
    """Fragments of an IPv4 packet: those bytes of its body, from and to. The last to say so reaches the end."""
    body, source, target = packet[20:], str(ip_address(packet[12:16])), str(ip_address(packet[16:20]))
    return [
        ip(source, target, packet[9], body[low:high], id, low // 8 | (0x2000 if high < len(body) else 0))
        for low, high in cuts
    ]


def pieces6(packet: bytes, cuts: list[tuple[int, int]], id: int = 7) -> list[bytes]:
    """The same of IPv6."""
    body, source, target = packet[40:], str(ip_address(packet[8:24])), str(ip_address(packet[24:40]))
    return [
        ip(source, target, 44, struct.pack(">BBHI", packet[6], 0, low | (high < len(body)), id) + body[low:high])
        for low, high in cuts
    ]
