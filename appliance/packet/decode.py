"""Bytes of an IP packet <-> Packet.

Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 5095 (no routing header 0), RFC 7112 (the first fragment has all
headers), RFC 9293 (TCP), RFC 7323 (window scale and timestamps), RFC 768 (UDP), RFC 792 and 4443 (ICMP),
RFC 1071 (checksum), RFC 2675 (jumbograms, here only as Linux's BIG TCP: a length of 0 means all there is).
Not handled: what ESP and other transports carry; IP in IP is another transport. Source routing is refused: the
packet would go elsewhere than its header says.
"""


import msgspec

from appliance.model import Address

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The header of TCP."""

    seq: int
    ack: int
    flags: int
    window: int  # as in the header, not scaled
    urgent: int  # the urgent pointer
    scale: int = -1  # window scale option; -1: none
    stamp: int = -1  # TSval of the timestamps option; -1: none


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


def decode(data: bytes, snapped: bool = False) -> Packet:
    """Read an IP packet. `snapped`: its end may be missing.

    Raises:
        ProtocolError: it cannot be one, is shorter than it says, or is routed by its source.
    """
    raise NotImplementedError


def rebuild(packet: Packet, payload: bytes) -> bytes:
    """Return the packet with another payload, lengths and checksums made anew.

    Raises:
        ValueError: TCP with a payload of another length (the peers count its bytes), too long for IP, or a fragment.
    """
    raise NotImplementedError


def checksum(packet: Packet) -> str:
    """Return "good", "bad", or "partial": the hardware was to complete it, as on a packet made on this host."""
    raise NotImplementedError


def quoted(packet: Packet) -> Quoted | None:
    """Return what an error of ICMP tells of; None if the packet is no such error, or quotes too little."""
    raise NotImplementedError
