"""What becomes of packets: the values that the tracker hands on.

`flow` is a number the tracker gave, from 1. Offsets count the bytes of one direction of a connection from 0, however
often its sequence numbers wrap; a FIN takes one offset, behind the last byte.
"""

from typing import Literal

import msgspec

from appliance.model import Address, Side

Place = Literal["next", "early", "old", "bare", "part", "invalid", "refused"]
"""Where a packet stands in its flow.

next     brings bytes of the stream (or a datagram) that are new: `events` have them in a Run (or Datagram)
early    its bytes wait for bytes before them: hold it, or drop it and the sender sends it again
old      all its bytes were given before and are the same
bare     brings none: handshake, acknowledgement, window, reset, an error by ICMP
part     a fragment, the others of its datagram are missing: hold it; `packets` of the datagram name it
invalid  its receiver will not take it, or must not be asked to: drop it, the flow lives on
refused  its flow is refused, from here on: drop it and all that are held
"""

Oddity = Literal["conflict", "early-limit", "unacked-limit", "memory-limit", "flow-limit", "urgent"]
"""What a flow is refused for where packets can be held back, and what is only told where they cannot."""

Ending = Literal["finished", "reset", "idle", "reused", "evicted", "refused", "end"]


class Began(msgspec.Struct, frozen=True, gc=False):
    """A flow was seen for the first time. `midstream`: without its beginning."""

    flow: int
    transport: str  # tcp | udp | icmp
    client: Address
    server: Address
    time: float
    packet: int
    midstream: bool = False


class Run(msgspec.Struct, frozen=True, gc=False):
    """The next bytes of one direction of a connection, in order, none twice.

    `packets` are the numbers of the packets that brought them, in the order of the bytes.
    """

    flow: int
    side: Side
    offset: int  # of the first byte
    data: bytes
    time: float  # of the packet that completed them
    packets: tuple[int, ...]


class Datagram(msgspec.Struct, frozen=True, gc=False):
    """A message of UDP (its payload) or of ICMP (from its type on), whole."""

    flow: int
    side: Side
    data: bytes
    time: float
    packets: tuple[int, ...]  # more than one: fragments


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Bytes that the receiver has and the capture has not. Never of a tracker that is inline."""

    flow: int
    side: Side
    offset: int
    size: int
    time: float


class Finished(msgspec.Struct, frozen=True, gc=False):
    """`side` will send no more: its FIN stands at `offset`, and all before it was given."""

    flow: int
    side: Side
    offset: int
    time: float


class Told(msgspec.Struct, frozen=True, gc=False):
    """ICMP told the sender `side` that a packet of this flow went wrong, by this type and code."""

    flow: int
    side: Side
    type: int
    code: int
    time: float


class Odd(msgspec.Struct, frozen=True, gc=False):
    """Something a well-meaning peer does not do."""

    flow: int
    side: Side
    kind: Oddity
    time: float
    packet: int


class Over(msgspec.Struct, frozen=True, gc=False):
    """The flow is over; its number is not used again. `side` reset it, if one did."""

    flow: int
    why: Ending
    time: float
    side: Side | None = None


Happening = Began | Run | Datagram | Gap | Finished | Told | Odd | Over


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What became of one packet.

    Inline, a packet that brings bytes (or `fin`) may go on when all bytes of its side before `end` are allowed, and
    with the bytes they were allowed as: those of [`begin`, `end`) are in it at Packet.payload, also in one that is
    "old". Those that may go on together go in the order they came, the ones that were early before the one that they
    waited for: a receiver compares timestamps, and leaves out what seems old (RFC 7323, PAWS).
    """

    flow: int  # 0: it belongs to none
    side: Side
    place: Place
    events: tuple[Happening, ...] = ()
    begin: int = 0
    end: int = 0
    fin: bool = False
    why: str = ""  # it is "invalid" or "refused"


class Choices(msgspec.Struct, frozen=True, gc=False):
    """How a tracker reads. `inline`: every packet waits for our word, so what is doubtful is refused."""

    inline: bool = False
    verify: bool = False  # checksums; packets where they are wrong are "invalid". Not for captures of offloading hosts
    partial: bool = False  # with `verify`: checksums that the hardware was to complete are good, on any packet
    midstream: bool = False  # take up connections whose beginning was not seen
    urgent: Literal["oob", "inline", "drop"] = "oob"  # inline, "oob" is "drop": see half.py
    max_early: int = 6_291_456  # bytes of a direction that wait for bytes before them; tcp_rmem[2] of Linux: no
    # receiver of its default size keeps more
    max_pieces: int = 8_192  # pieces these may be in; 6 MiB in segments of 1,448 bytes are 4,345
    max_unacked: int = 6_291_456  # bytes of a direction that were given and may be sent again; tcp_rmem[2] again
    max_memory: int = 67_108_864  # bytes of all flows together; stream.memcap of Suricata, 64 MiB
    max_flows: int = 65_536  # nf_conntrack_max of a host with 1 GiB
