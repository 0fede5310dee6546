"""Packets: limits, taking bytes apart, writing them.

Source: MySQL 8.4 source documentation, "MySQL Packets", "Basic Data Types".

A packet is three bytes of length (little-endian, of the payload), one of sequence, the payload. A payload of 0xFFFFFF
bytes or more goes in several packets: each full one says that another follows.
"""

import struct

from appliance.model import ProtocolError
from appliance.wire import inbox

MIB = 1 << 20

FULL = 0xFFFFFF  # bytes; the payload of a packet that another one continues
MAX_LOGIN = 128 * 1024  # bytes; connection attributes may have 64 KiB (performance_schema), the rest is short
MAX_AUTH = 64 * 1024  # bytes; MAX_LONG_DATA... of no server: Kerberos tickets, the longest there are, stay below
MAX_SMALL = 64 * 1024  # bytes; ours: all commands that carry no data or text
MAX_MESSAGE = 64 * MIB  # bytes; ours: what one message may cost in memory; max_allowed_packet of MySQL 8
MAX_MASKED = 64 * MIB  # bytes; ours: a row must be whole before it can be masked
MAX_INJECTED = 64 * MIB  # bytes; ours: the answer to a statement of our own is kept whole
MAX_ANSWER = FULL - 1  # bytes; ours: an answer that is not a row comes in one packet
MAX_DESCRIBED = 16 * MIB  # bytes; ours: the definitions of a result's columns are kept until they are whole
MAX_COLUMNS = 65_535  # of a result; ours: MySQL has at most 4096; parameters of a statement are counted in 16 bits
MAX_ROW = (1 << 30) + (1 << 20)  # bytes; max_allowed_packet is at most 1 GiB
MAX_STATEMENT = 256 * 1024  # bytes; ours: a hostile text of this size takes the parser under a second
MAX_PIPELINE = 65_536  # requests sent and not answered; ours: eight bytes each when nothing is to be masked
MAX_STATEMENTS = 16_382  # prepared; max_prepared_stmt_count of the server
MAX_LONG_DATA = 256 * 1024  # bytes kept of the long data of a statement; ours: what a reviewer is shown
STREAM_OVER = 64 * 1024  # bytes; ours: a longer row that nobody masks goes down in pieces
NULL = 0xFB

INT16 = struct.Struct("<H")
INT32 = struct.Struct("<I")
INT64 = struct.Struct("<Q")


def lenenc(number: int) -> bytes:
    """Write an integer by its length."""
    if number < NULL:
        return bytes((number,))
    if number <= 0xFFFF:
        return b"\xfc" + number.to_bytes(2, "little")
    if number <= FULL:
        return b"\xfd" + number.to_bytes(3, "little")
    return b"\xfe" + INT64.pack(number)


def string(data: bytes) -> bytes:
    return lenenc(len(data)) + data


def packets(payload: bytes, sequence: int) -> bytes:
    """Write a payload as one packet, or as many as it takes."""
    if len(payload) < FULL:
        return len(payload).to_bytes(3, "little") + bytes((sequence & 0xFF,)) + payload
    out = bytearray()
    for at in range(0, len(payload) + 1, FULL):
        piece = payload[at : at + FULL]
        out += len(piece).to_bytes(3, "little") + bytes((sequence & 0xFF,)) + piece
        sequence += 1
    return bytes(out)


def count(size: int) -> int:
    """Return how many packets a payload of `size` bytes takes."""
    return size // FULL + 1


def joined(raw: bytes) -> bytes:
    """Return the payload of the whole packets in `raw`."""
    size = int.from_bytes(raw[:3], "little")
    if len(raw) == size + 4:
        return raw[4:]
    out, at = bytearray(), 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 3], "little")
        out += raw[at + 4 : at + 4 + size]
        at += 4 + size
    return bytes(out)


def moved(raw: bytes, shift: int) -> bytes:
    """Return the whole packets in `raw` with `shift` added to each sequence number."""
    if not shift & 0xFF:
        return raw
    out, at = bytearray(raw), 0
    while at < len(out):
        out[at + 3] = (out[at + 3] + shift) & 0xFF
        at += 4 + int.from_bytes(out[at : at + 3], "little")
    return bytes(out)


def moved_first(raw: bytes, shift: int) -> bytes:
    """Return `raw`, which begins with a header, with `shift` added to its sequence number."""
    return raw[:3] + bytes(((raw[3] + shift) & 0xFF,)) + raw[4:] if shift & 0xFF else raw


class Inbox(inbox.Inbox):
    """The same, read as packets."""

    __slots__ = ()

    def header(self) -> tuple[int, int] | None:
        """Return the length of the next packet's payload and its sequence number; None if they are not here."""
        if self.left < 4:
            return None
        return int.from_bytes(self.data[self.at : self.at + 3], "little"), self.data[self.at + 3]

    def first(self) -> int:
        """Return the first byte of the next packet's payload."""
        return self.data[self.at + 4]

    def whole(self, limit: int) -> int | None:
        """Return how many bytes the next payload takes with all its packets' headers, None if it is not whole.

        Raises:
            ProtocolError: it is, or will be, over `limit` bytes, or its packets are out of order.
        """
        at, total, before = self.at, 0, -1
        while True:
            if len(self.data) - at < 4:
                return None
            size, sequence = int.from_bytes(self.data[at : at + 3], "little"), self.data[at + 3]
            if before >= 0 and sequence != (before + 1) & 0xFF:
                raise ProtocolError("packets out of order")
            total += size
            if total > limit:
                raise ProtocolError(f"a message of over {total - 1} bytes: the limit is {limit}")
            at, before = at + 4 + size, sequence
            if size < FULL:
                return at - self.at if at <= len(self.data) else None

    def run(self, longest_end: int) -> tuple[int, int]:
        """Return end and number of the whole rows of one packet that come next."""
        data, end, number, top = self.data, self.at, 0, len(self.data)
        while end + 5 <= top:
            size = data[end] | data[end + 1] << 8 | data[end + 2] << 16
            first = data[end + 4]
            if not 0 < size < FULL or first == 0xFF or (first == 0xFE and size <= longest_end) or end + 4 + size > top:
                break
            end += 4 + size
            number += 1
        return end, number


class Fields:
    """The fields of one payload, read from front to back; what does not fit is a ProtocolError."""

    __slots__ = ("at", "data")

    def __init__(self, payload: bytes, at: int = 0) -> None:
        self.data, self.at = payload, at

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        data = self.data[self.at : self.at + size]
        if len(data) != size:
            raise ProtocolError("a field runs over the end of its packet")
        self.at += size
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def lenenc(self) -> int:
        first = self.number(1)
        if first < NULL:
            return first
        if first in (NULL, 0xFF):
            raise ProtocolError("a length that is none")
        return self.number({0xFC: 2, 0xFD: 3, 0xFE: 8}[first])

    def string(self) -> bytes:
        return self.take(self.lenenc())

    def until_nul(self) -> bytes:
        """Read to the next NUL, or to the end where there is none."""
        end = self.data.find(b"\0", self.at)
        end = len(self.data) if end < 0 else end
        data = self.data[self.at : end]
        self.at = min(end + 1, len(self.data))
        return data

    def rest(self) -> bytes:
        data = self.data[self.at :]
        self.at = len(self.data)
        return data

    def end(self) -> None:
        if self.at < len(self.data):
            raise ProtocolError("bytes after the last field of a packet")
