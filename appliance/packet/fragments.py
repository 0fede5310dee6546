"""Fragments -> whole packets.

Sources: RFC 791 3.2, RFC 8200 4.5, RFC 5722 (overlapping fragments: the datagram is dropped), RFC 6946 (a fragment
that is the whole datagram stands alone), RFC 7112 (the first one has all headers), and what Linux does in both versions
of IP since 5.0 (inet_frag_queue_insert): a fragment inside of what is there is a duplicate and is left out, one that
overlaps otherwise drops the datagram.

Inline, a duplicate with other bytes drops the datagram as well: the receiver may have lost the one we saw first.
"""

import struct
from bisect import bisect_right

import msgspec

from appliance.model import Address, ProtocolError
from appliance.packet.build import MAX_PACKET, seal
from appliance.packet.decode import DESTINATION, FRAGMENT, ICMP, ICMPV6, TCP, UDP, Fragment, Packet, decode

WAIT_4_S, WAIT_6_S = 30.0, 60.0  # for the rest of a datagram; ipfrag_time and ip6frag_time of Linux
MAX_BYTES = 4_194_304  # of all datagrams that are not whole; ipfrag_high_thresh of Linux
COST = 512  # bytes a fragment is counted for beside what it brings: an skb and its place, so that tiny ones count
_HEADERS = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}  # bytes; ipv6frag_thdr_truncated of Linux

Key = tuple[int, Address, Address, int, int]


class Whole(msgspec.Struct, frozen=True, gc=False):
    """A datagram that is whole, and the numbers of the packets that brought it, in the order they came."""

    packet: Packet
    packets: tuple[int, ...]


class _Datagram:
    """One that is not whole. Pieces do not overlap, in order of their offsets."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.starts: list[int] = []
        self.pieces: list[bytes] = []
        self.packets: list[int] = []
        self.first = b""
        self.size = -1  # of all; -1: not known
        self.here = 0  # bytes that came of it
        self.cost = 0


class Fragments:
    """Datagrams that are not whole. `dropped` counts by reason those that never will be."""

    def __init__(self, inline: bool = False) -> None:
        self.dropped: dict[str, int] = {}
        self._inline = inline
        self._waiting: dict[Key, _Datagram] = {}  # in the order of their first fragments
        self._cost = 0

    @property
    def memory(self) -> int:
        """Bytes kept, and what keeping them costs."""
        return self._cost

    def take(self, packet: Packet, now: float, number: int) -> Whole | None:
        """Return the datagram that this fragment completes, or None: others are missing.

        Raises:
            ProtocolError: it is no fragment; or it and all others of its datagram are dropped, `dropped` counts why; or
                what it completes is no packet.
        """
        fragment = packet.fragment
        assert fragment is not None
        if fragment.offset == 0 and not fragment.more:
            return Whole(_joined(fragment.first, packet.payload), (number,))
        data = _checked(packet, fragment)
        key = _key(packet, fragment)
        datagram = self._waiting.get(key)
        if datagram is None:
            datagram = self._waiting[key] = _Datagram(now + (WAIT_4_S if key[0] == 4 else WAIT_6_S))
        elif datagram.until <= now:
            self._drop(key, "late")
            return self.take(packet, now, number)
        try:
            self._add(datagram, fragment, data, number)
        except ProtocolError as error:
            self._drop(key, str(error))
            raise
        while self._cost > MAX_BYTES:  # the oldest go, as in Linux new ones would
            oldest = next(iter(self._waiting))
            self._drop(oldest, "limit")
            if oldest == key:
                raise ProtocolError("limit")
        if datagram.size != datagram.here:
            return None
        self._forget(key)
        return Whole(_joined(datagram.first, b"".join(datagram.pieces)), tuple(datagram.packets))

    def expire(self, now: float) -> list[int]:
        """Drop what waits for too long; return the numbers of the packets that had brought it."""
        late = [key for key, datagram in self._waiting.items() if datagram.until <= now]
        numbers = [number for key in late for number in self._waiting[key].packets]
        for key in late:
            self._drop(key, "late")
        return numbers

    def _add(self, datagram: _Datagram, fragment: Fragment, data: bytes, number: int) -> None:
        """Put a fragment to the others, or raise why the datagram is to be dropped."""
        begin, end = fragment.offset, fragment.offset + len(data)
        known = datagram.starts[-1] + len(datagram.pieces[-1]) if datagram.starts else 0
        if not fragment.more:
            if end < known or datagram.size not in (-1, end):
                raise ProtocolError("two ends")
            datagram.size = end
        elif datagram.size != -1 and end > datagram.size:
            raise ProtocolError("two ends")
        if not data:
            raise ProtocolError("an empty fragment")
        datagram.packets.append(number)
        self._count(datagram, COST)
        if not _insert(datagram, begin, data, self._inline):
            return
        self._count(datagram, len(data))
        datagram.here += len(data)
        if begin == 0:
            datagram.first = fragment.first

    def _count(self, datagram: _Datagram, cost: int) -> None:
        datagram.cost += cost
        self._cost += cost

    def _drop(self, key: Key, why: str) -> None:
        self.dropped[why] = self.dropped.get(why, 0) + 1
        self._forget(key)

    def _forget(self, key: Key) -> None:
        self._cost -= self._waiting.pop(key).cost


def _key(packet: Packet, fragment: Fragment) -> Key:
    """Return what fragments of one datagram have in common; in IPv6 only the first one knows the protocol."""
    version = packet.data[0] >> 4
    return version, packet.source, packet.target, fragment.id, packet.protocol if version == 4 else 0


def _checked(packet: Packet, fragment: Fragment) -> bytes:
    """Return what a fragment brings, or raise why it is none."""
    data, six = packet.payload, packet.data[0] >> 4 == 6
    if packet.missing:
        raise ProtocolError("a fragment that was not captured whole")
    if fragment.more and len(data) % 8:
        if six:
            raise ProtocolError("a fragment of odd length")
        data = data[: len(data) & ~7]  # as Linux does
    if fragment.offset + len(data) + (packet.header - 48 if six else packet.header) > MAX_PACKET:
        raise ProtocolError("a datagram too long for IP")
    if six and fragment.offset == 0 and not _has_headers(packet.protocol, data):
        raise ProtocolError("headers beyond the first fragment")
    return data


def _has_headers(protocol: int, data: bytes) -> bool:
    at = 0
    while protocol in (DESTINATION, FRAGMENT):
        if protocol == FRAGMENT or len(data) < at + 8:
            return False  # a fragment in a fragment is none of ours
        protocol, at = data[at], at + (data[at + 1] + 1) * 8
    return len(data) >= at + _HEADERS.get(protocol, 1)


def _insert(datagram: _Datagram, begin: int, data: bytes, inline: bool) -> bool:
    """Put bytes in their place; False for a duplicate. Raises where they overlap otherwise."""
    starts, pieces = datagram.starts, datagram.pieces
    at = bisect_right(starts, begin)
    end = begin + len(data)
    if at and starts[at - 1] + len(pieces[at - 1]) > begin:
        left = at - 1
        run = _run(starts, pieces, left, end)
        if starts[left] + len(run) < end:
            raise ProtocolError("overlapping fragments")
        if inline and run[begin - starts[left] : end - starts[left]] != data:
            raise ProtocolError("conflicting fragments")
        return False
    if at < len(starts) and starts[at] < end:
        raise ProtocolError("overlapping fragments")
    starts.insert(at, begin)
    pieces.insert(at, data)
    return True


def _run(starts: list[int], pieces: list[bytes], at: int, end: int) -> bytes:
    """Return the bytes from piece `at` on that stand without a gap, until `end`."""
    found, stop = [pieces[at]], starts[at] + len(pieces[at])
    while stop < end and at + 1 < len(starts) and starts[at + 1] == stop:
        at += 1
        found.append(pieces[at])
        stop += len(pieces[at])
    return b"".join(found)


def _joined(first: bytes, body: bytes) -> Packet:
    """Return the packet that was cut up."""
    data = bytearray(first)
    if len(data) - (0 if data[0] >> 4 == 4 else 40) + len(body) > MAX_PACKET:  # the headers of the first may be longer
        raise ProtocolError("a datagram too long for IP")
    if data[0] >> 4 == 4:
        data[2:4] = (len(data) + len(body)).to_bytes(2)
        data[6:8] = bytes((data[6] & 0x40, 0))
        seal(data)
    else:
        struct.pack_into(">H", data, 4, len(data) - 40 + len(body))
    packet = decode(bytes(data) + body)
    if packet.fragment is not None:
        raise ProtocolError("a fragment in a fragment")
    return packet
