"""Packet -> bytes, with another payload; and checksums.

Sources: RFC 1071 (checksum), RFC 791, 9293, 768, 8200 8.1 (what they cover), RFC 768 (0 is sent as 65535).
"""

from appliance.packet.decode import UDP, Packet

MAX_PACKET = 65_535  # bytes; the length in a header of IPv4 has 16 bits, and so has what follows one of IPv6


def rebuild(packet: Packet, payload: bytes) -> bytes:
    """Return the packet with another payload, lengths and checksums made anew.

    Raises:
        ValueError: TCP with a payload of another length (the peers count its bytes), too long for IP, or a fragment.
    """
    if packet.fragment is not None or not packet.transport:
        raise ValueError("only whole packets of TCP, UDP and ICMP are made anew")
    if packet.transport == "tcp" and len(payload) != len(packet.payload):
        raise ValueError("the payload of TCP keeps its length: its peers count the bytes")
    data = bytearray(packet.data[: packet.body]) + payload
    if packet.transport != "tcp":
        _lengths(data, packet)
    at = packet.header + {"tcp": 16, "udp": 6, "icmp": 2}[packet.transport]
    data[at : at + 2] = b"\0\0"
    sum = 0xFFFF - _sum(_covered(packet, data))
    data[at : at + 2] = (sum or 0xFFFF if packet.transport == "udp" else sum).to_bytes(2)
    return bytes(data)


def _lengths(data: bytearray, packet: Packet) -> None:
    four = data[0] >> 4 == 4
    if len(data) - (0 if four else 40) > MAX_PACKET:
        raise ValueError(f"a packet of {len(data)} bytes is too long for IP")
    if four:
        data[2:4] = len(data).to_bytes(2)
        seal(data)
    else:
        data[4:6] = (len(data) - 40).to_bytes(2)
    if packet.transport == "udp":
        data[packet.header + 4 : packet.header + 6] = (len(data) - packet.header).to_bytes(2)


def seal(data: bytearray) -> None:
    """Write the checksum of a header of IPv4."""
    size = (data[0] & 15) * 4
    data[10:12] = b"\0\0"
    data[10:12] = (0xFFFF - _sum(bytes(data[:size]))).to_bytes(2)


def checksum(packet: Packet) -> str:
    """Return "good", "bad", or "partial": the hardware was to complete it, as on a packet made on this host.

    Of what is not whole, and of transports not known, only the header of IP is looked at.
    """
    data = packet.data
    if data[0] >> 4 == 4 and _sum(data[: (data[0] & 15) * 4]) != 0xFFFF:
        return "bad"
    if not packet.transport or packet.missing:
        return "good"
    at = packet.header + {"tcp": 16, "udp": 6, "icmp": 2}[packet.transport]
    written = int.from_bytes(data[at : at + 2])
    if packet.protocol == UDP and not written:
        return "good" if data[0] >> 4 == 4 else "bad"  # RFC 8200, 8.1: not to be left out
    covered = _covered(packet, data)
    if _sum(covered) == 0xFFFF:
        return "good"
    return "partial" if written == _sum(covered[: len(covered) - (len(data) - packet.header)]) else "bad"


def _covered(packet: Packet, data: bytes | bytearray) -> bytes:
    """Return what the checksum of the transport is made of: the pseudo header and all behind the headers of IP."""
    four, rest = data[0] >> 4 == 4, bytes(data[packet.header :])
    if four and packet.transport == "icmp":
        return rest
    ends = data[12:20] if four else data[8:40]
    return bytes(ends) + len(rest).to_bytes(4) + packet.protocol.to_bytes(4) + rest


def _sum(data: bytes) -> int:
    """Return the sum of RFC 1071: 65536 is 1 modulo 65535, so it is the number the words make, modulo that."""
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data)
    return number % 0xFFFF or (0xFFFF if number else 0)
