"""Bytes of an IP packet <-> Packet.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 5095 (no routing header 0), RFC 7112 (the first fragment has all
headers), RFC 9293 (TCP), RFC 7323 (window scale and timestamps), RFC 768 (UDP), RFC 792 and 4443 (ICMP),
RFC 1071 (checksum), RFC 2675 (jumbograms, here only as Linux's BIG TCP: a length of 0 means all there is).
Not handled: what ESP and other transports carry; IP in IP is another transport. Source routing is refused: the
packet would go elsewhere than its header says.
"""

import struct
from functools import lru_cache
from ipaddress import ip_address

import msgspec

from appliance.model import Address, ProtocolError

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58  # protocol numbers of IANA
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60  # extension headers of IPv6
MAX_EXTENSIONS = 8  # extension headers of a packet; RFC 8200, 4.1 knows seven places for those that can be read here
MAX_SCALE = 14  # RFC 7323, 2.3: a greater window scale is taken for 14
SOURCE_ROUTES = (131, 137)  # options of IPv4: LSRR and SSRR
SIGNATURES = (19, 29)  # options of TCP: RFC 2385 (MD5) and RFC 5925 (TCP-AO)
JUMBO = 0xC2  # option of IPv6: RFC 2675
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_TCP = struct.Struct(">HHIIBBHHH")
_STAMPED = b"\1\1\x08\x0a"  # how options begin on nearly every segment: two to pad, then timestamps
_NAMES = {(4, TCP): "tcp", (4, UDP): "udp", (4, ICMP): "icmp", (6, TCP): "tcp", (6, UDP): "udp", (6, ICMPV6): "icmp"}
_SMALLEST = {"tcp": 20, "udp": 8, "icmp": 8}  # bytes of the headers


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The header of TCP."""

    seq: int
    ack: int
    flags: int
    window: int  # as in the header, not scaled
    urgent: int  # the urgent pointer
    scale: int = -1  # window scale option; -1: none
    stamp: int = -1  # TSval of the timestamps option; -1: none
    signed: bool = False  # has an option that authenticates it


class Fragment(msgspec.Struct, frozen=True, gc=False):
    """One fragment of a datagram. The packet's payload is what it brings, whatever the transport."""

    id: int
    offset: int  # bytes
    more: bool
    first: bytes  # headers in front of the datagram, where `offset` is 0: its IP header, without a fragment header


class Packet(msgspec.Struct, frozen=True, gc=False):
    """An IP packet. Ports are 0 in what has none and in fragments."""

    source: Address
    target: Address
    transport: str  # tcp | udp | icmp; "" for any other, and for a fragment
    protocol: int  # of IP: what follows its headers
    payload: bytes  # of TCP or UDP; of ICMP and others all behind the IP headers
    data: bytes  # the whole IP packet, without what stands behind it
    header: int  # where in `data` the header of the transport begins
    body: int  # where in `data` the payload begins
    missing: int = 0  # bytes of the payload that were not captured
    tcp: Segment | None = None
    fragment: Fragment | None = None


class Quoted(msgspec.Struct, frozen=True, gc=False):
    """What an error of ICMP tells of: the packet that went wrong, and the error."""

    type: int
    code: int
    source: Address  # who had sent the packet that went wrong
    target: Address
    transport: str
    start: bytes  # the first 8 bytes of its header of the transport


class _Outer(msgspec.Struct, frozen=True, gc=False):
    """What the IP headers say."""

    version: int
    source: bytes
    target: bytes
    protocol: int
    header: int  # where they end
    end: int  # where the packet ends, by its length
    fragment: Fragment | None = None


def decode(data: bytes, snapped: bool = False) -> Packet:
    """Read an IP packet. `snapped`: its end may be missing.

    Raises:
        ProtocolError: it cannot be one, is shorter than it says, or is routed by its source.
    """
    version = data[0] >> 4 if data else 0
    if version not in (4, 6):
        raise ProtocolError("no IP packet")
    outer = _four(data) if version == 4 else _six(data)
    missing = outer.end - len(data)
    if missing > 0 and not snapped:
        raise ProtocolError(f"{missing} bytes of an IP packet are missing")
    data = data[: outer.end] if missing < 0 else data
    missing = max(missing, 0)
    source, target, at = _host(outer.source), _host(outer.target), outer.header
    transport = _NAMES.get((version, outer.protocol), "") if outer.fragment is None else ""
    if transport == "tcp":
        return _tcp(data, outer, source, target, missing)
    if transport == "udp":
        return _udp(data, outer, source, target, missing)
    if transport == "icmp" and len(data) - at < _SMALLEST["icmp"]:
        raise ProtocolError("ICMP of less than 8 bytes")
    ends = Address(source, 0), Address(target, 0)
    return Packet(*ends, transport, outer.protocol, data[at:], data, at, at, missing, fragment=outer.fragment)


def _four(data: bytes) -> _Outer:
    if len(data) < 20:
        raise ProtocolError("a header of IPv4 of less than 20 bytes")
    first, _, size, id, place, _, protocol, _, source, target = _IPV4.unpack_from(data)
    header = (first & 15) * 4
    if header < 20 or header > len(data):
        raise ProtocolError(f"a header of IPv4 of {header} bytes")
    size = size or len(data)
    if size < header:
        raise ProtocolError("an IP packet shorter than its header")
    if header > 20:
        _options(data[20:header])
    if not place & 0x3FFF:
        return _Outer(4, source, target, protocol, header, size)
    offset, more = (place & 0x1FFF) * 8, bool(place & 0x2000)
    fragment = Fragment(id, offset, more, data[:header] if offset == 0 else b"")
    return _Outer(4, source, target, protocol, header, size, fragment)


def _options(options: bytes) -> None:
    """Check options of IPv4 as far as Linux does that drops what is malformed."""
    at = 0
    while at < len(options) and options[at] != 0:
        kind = options[at]
        if kind == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            raise ProtocolError("malformed options of IPv4")
        if kind in SOURCE_ROUTES:
            raise ProtocolError("a packet routed by its source")
        at += size


def _six(data: bytes) -> _Outer:
    if len(data) < 40:
        raise ProtocolError("a header of IPv6 of less than 40 bytes")
    _, size, protocol, _, source, target = _IPV6.unpack_from(data)
    end = 40 + size if size else len(data)
    header, names = 40, 6  # `names`: where the number of what follows stands
    for _ in range(MAX_EXTENSIONS):
        if protocol in (HOP_BY_HOP, DESTINATION, ROUTING, AUTHENTICATION):
            protocol, behind = _extension(data, protocol, header, end)
            header, names = behind, header
        elif protocol == FRAGMENT:
            return _fragment(data, header, names, _Outer(6, source, target, protocol, header, end))
        else:
            return _Outer(6, source, target, protocol, header, end)
    raise ProtocolError(f"more than {MAX_EXTENSIONS} extension headers")


def _extension(data: bytes, kind: int, at: int, end: int) -> tuple[int, int]:
    """Return what follows an extension header, and where."""
    if at + 8 > min(end, len(data)):
        raise ProtocolError("an extension header that is cut off")
    size = (data[at + 1] + 2) * 4 if kind == AUTHENTICATION else (data[at + 1] + 1) * 8
    if at + size > min(end, len(data)):
        raise ProtocolError("an extension header longer than its packet")
    if kind == HOP_BY_HOP and at != 40:
        raise ProtocolError("options for every hop that are not first")
    if kind == ROUTING and data[at + 3]:
        raise ProtocolError("a packet routed by its source")
    if kind in (HOP_BY_HOP, DESTINATION):
        _tlvs(data[at + 2 : at + size])
    return data[at], at + size


def _tlvs(options: bytes) -> None:
    """Check options of IPv6: a receiver discards the packet of one it does not know, if its number says so."""
    at = 0
    while at < len(options):
        if options[at] == 0:
            at += 1
            continue
        if at + 2 > len(options) or at + 2 + options[at + 1] > len(options):
            raise ProtocolError("malformed options of IPv6")
        if options[at] & 0xC0 and options[at] != JUMBO:
            raise ProtocolError(f"an option of IPv6 to be refused: {options[at]}")
        at += 2 + options[at + 1]


def _fragment(data: bytes, at: int, names: int, outer: _Outer) -> _Outer:
    if at + 8 > min(outer.end, len(data)):
        raise ProtocolError("a fragment header that is cut off")
    protocol, _, place, id = struct.unpack_from(">BBHI", data, at)
    first = b""
    if place & 0xFFF8 == 0:
        first = data[:names] + bytes((protocol,)) + data[names + 1 : at]
    fragment = Fragment(id, place & 0xFFF8, bool(place & 1), first)
    return msgspec.structs.replace(outer, protocol=protocol, header=at + 8, fragment=fragment)


def _tcp(data: bytes, outer: _Outer, source: str, target: str, missing: int) -> Packet:
    at = outer.header
    if len(data) - at < 20:
        raise ProtocolError("a header of TCP of less than 20 bytes")
    sport, dport, seq, ack, offset, flags, window, _, urgent = _TCP.unpack_from(data, at)
    body = at + (offset >> 4) * 4
    if body < at + 20 or body > len(data):
        raise ProtocolError(f"a header of TCP of {body - at} bytes")
    scale, stamp, signed = -1, -1, False
    if body - at == 32 and data[at + 20 : at + 24] == _STAMPED:
        stamp = int.from_bytes(data[at + 24 : at + 28])
    elif body > at + 20:
        scale, stamp, signed = _tcp_options(data[at + 20 : body])
    segment = Segment(seq, ack, flags, window, urgent, scale, stamp, signed)
    ends = Address(source, sport), Address(target, dport)
    return Packet(*ends, "tcp", TCP, data[body:], data, at, body, missing, segment)


def _tcp_options(options: bytes) -> tuple[int, int, bool]:
    """Return window scale, TSval (-1 for none), and whether it is signed. What is malformed ends them, as in Linux."""
    scale, stamp, signed = -1, -1, False
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            break
        if (options[at], size) == (3, 3):
            scale = min(options[at + 2], MAX_SCALE)
        elif (options[at], size) == (8, 10):
            stamp = int.from_bytes(options[at + 2 : at + 6])
        signed = signed or options[at] in SIGNATURES
        at += size
    return scale, stamp, signed


def _udp(data: bytes, outer: _Outer, source: str, target: str, missing: int) -> Packet:
    at = outer.header
    if len(data) - at < 8:
        raise ProtocolError("a header of UDP of less than 8 bytes")
    sport, dport, size = struct.unpack_from(">HHH", data, at)
    room = outer.end - at
    if (size < 8 and not (size == 0 and outer.version == 6)) or size > room:
        raise ProtocolError(f"UDP of {size} bytes in {room}")
    ends = Address(source, sport), Address(target, dport)
    stop = at + (size or room)
    lost = max(stop - len(data), 0)
    return Packet(*ends, "udp", UDP, data[at + 8 : stop], data[:stop], at, at + 8, lost)


@lru_cache(maxsize=65_536)  # as many flows as a tracker keeps
def _host(packed: bytes) -> str:
    return Address.of(str(ip_address(packed)), 0).host


def quoted(packet: Packet) -> Quoted | None:
    """Return what an error of ICMP tells of; None if the packet is no such error, or quotes too little."""
    message = packet.payload
    errors = (3, 11, 12) if packet.protocol == ICMP else (1, 2, 3, 4)
    if packet.transport != "icmp" or message[0] not in errors:
        return None
    inner = message[8:]
    try:
        outer = _four(inner) if inner[:1] and inner[0] >> 4 == 4 else _six(inner)
    except ProtocolError:
        return None
    transport = _NAMES.get((outer.version, outer.protocol), "")
    if outer.fragment is not None and outer.fragment.offset:
        return None
    at = outer.header
    if not transport or len(inner) < at + 8:
        return None
    ports = (0, 0) if transport == "icmp" else struct.unpack_from(">HH", inner, at)
    ends = Address(_host(outer.source), ports[0]), Address(_host(outer.target), ports[1])
    return Quoted(message[0], message[1], *ends, transport, inner[at : at + 8])
