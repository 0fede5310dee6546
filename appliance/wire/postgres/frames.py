"""Frames of PostgreSQL protocol 3: limits, taking bytes apart, writing frames.

Source: PostgreSQL 17 manual, "Message Formats"; limits from the server's own sources where it has one.

A frame is a tag byte and a length that counts itself and the body. The startup packets have no tag.
"""

import struct
from collections.abc import Sequence
from typing import Final

from appliance.model import ProtocolError
from appliance.wire.inbox import MAX_IDLE
from appliance.wire.postgres.encodings import Encoding

MIB = 1 << 20

MAX_STARTUP = 10_000  # bytes; MAX_STARTUP_PACKET_LENGTH of the server
# bytes; PQ_SMALL_MESSAGE_LIMIT of the server: all client messages that carry no data or text
MAX_SMALL = 10_000
MAX_AUTH = 65_535  # bytes; PG_MAX_AUTH_TOKEN_LENGTH of the server
MAX_CANCEL_KEY = 256  # bytes; protocol 3.2, "BackendKeyData"
MAX_MESSAGE = 64 * MIB  # bytes; ours: what one message may cost in memory
MAX_MASKED = 64 * MIB  # bytes; ours: a row must be whole before it can be masked
MAX_INJECTED = 64 * MIB  # bytes; ours: the answer to a statement of our own is kept whole
MAX_STATEMENT = 256 * 1024  # bytes; ours: a hostile text of this size takes the parser under a second and 100 MB
MAX_SERVER = (1 << 30) + 5  # bytes; MaxAllocSize of the server: it cannot build a longer message
MAX_PIPELINE = 131_072  # requests sent and not answered; ours: eight bytes each when nothing is to be masked
# prepared statements whose parameter types are kept; ours: beyond it types are not known
MAX_STATEMENTS = 10_000
MAX_TYPES = 100_000  # types of their parameters in all; ours: 4 MB. A Parse may name 65,535
STREAM_OVER = 64 * 1024  # bytes; ours: a longer row that nobody masks goes down in pieces

INT16 = struct.Struct(">H")
INT32 = struct.Struct(">i")
LENGTH = struct.Struct(">I")
NULL: Final = 0xFFFFFFFF  # the size of a value that is none


def frame(tag: bytes, body: bytes) -> bytes:
    return tag + LENGTH.pack(len(body) + 4) + body


def field(data: bytes | None) -> bytes:
    """Write one cell of a row: length and bytes, or the length -1 of NULL."""
    return b"\xff\xff\xff\xff" if data is None else LENGTH.pack(len(data)) + data


def parse(name: bytes, statement: bytes) -> bytes:
    return frame(b"P", name + b"\0" + statement + b"\0\0\0")


def query(statement: bytes) -> bytes:
    return frame(b"Q", statement + b"\0")


def describe_portal(portal: bytes) -> bytes:
    return frame(b"D", b"P" + portal + b"\0")


FLUSH = frame(b"H", b"")


def run(name: bytes, statement: bytes) -> bytes:
    """Write what runs one statement by the extended protocol and leaves nothing behind.

    Not a Query: that would drop the client's unnamed statement and portal. Both names are closed first,
    because a run that failed earlier did not come to its own Close messages.
    """
    closes = [frame(b"C", kind + name + b"\0") for kind in (b"P", b"S")]
    bind = frame(b"B", name + b"\0" + name + b"\0" + bytes(6))
    execute = frame(b"E", name + b"\0" + bytes(4))
    parts = [*closes, parse(name, statement), bind, describe_portal(name), execute, *closes, frame(b"S", b"")]
    return b"".join(parts)


HEADER: Final = 5  # bytes: the tag and the length


def length(data: bytes, at: int) -> int:
    """Return the length that a frame at `at` says it has, itself and its body."""
    found = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
    if found < 4:
        raise ProtocolError(f"a message of length {found}")
    return found


class Inbox:
    """What has come of one direction and is not used up, read as frames. `data[at:]` is what is left.

    What arrives is read where it lies. Only of a frame that is not whole the pieces are gathered, and put together
    once, when there is all that its reader has said it `lacks`: gluing them one by one would be quadratic.
    """

    __slots__ = ("_lacks", "_late", "at", "data")

    def __init__(self) -> None:
        self.data = b""
        self.at = 0
        self._late = bytearray()  # came after `data`
        self._lacks = 0

    def add(self, data: bytes) -> None:
        left = len(self.data) - self.at
        if not left:
            self.data, self.at = data, 0
            return
        self._late += data
        if left + len(self._late) >= self._lacks:
            self.data, self.at, self._late = b"".join((self.data[self.at :], self._late)), 0, bytearray()
            self._lacks = 0

    def rest(self) -> None:
        """For now no more comes: what is used up is given back, if it is much."""
        if self.at > MAX_IDLE and self.at == len(self.data):
            self.data, self.at = b"", 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        at = self.at
        self.at = at + size
        return self.data[at : at + size]

    def lacks(self, size: int) -> None:
        """Note that nothing more is read before so many bytes are here, of what is left."""
        self._lacks = size

    def size(self) -> int:
        """Return the size of the next frame, header included, or 0 if its header is not whole."""
        data, at = self.data, self.at
        if len(data) - at < HEADER:
            self._lacks = HEADER
            return 0
        return length(data, at) + 1

    def run(self, tag: int, least: int) -> tuple[int, int]:
        """Return end and number of the whole frames of `tag` that come next; `least` is a frame's size."""
        data, end, count, top = self.data, self.at, 0, len(self.data)
        while end + HEADER <= top and data[end] == tag:
            size = (data[end + 1] << 24 | data[end + 2] << 16 | data[end + 3] << 8 | data[end + 4]) + 1
            if size < least:
                raise ProtocolError(f"a message {chr(tag)!r} of {size} bytes")
            if end + size > top:
                break
            end += size
            count += 1
        return end, count


class Fields:
    """The fields of one body, read from front to back; what does not fit is a ProtocolError."""

    __slots__ = ("_at", "_data", "_encoding")

    def __init__(self, body: bytes, encoding: Encoding, at: int = 0) -> None:
        self._data, self._at, self._encoding = body, at, encoding

    def take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise ProtocolError("a field runs over the end of its message")
        self._at += size
        return data

    def int16(self) -> int:
        data, at = self._data, self._at
        if at + 2 > len(data):
            raise ProtocolError("a field runs over the end of its message")
        self._at = at + 2
        return data[at] << 8 | data[at + 1]

    def int32(self) -> int:
        return int.from_bytes(self.take(4))

    def octets(self) -> bytes:
        """Read a C string."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise ProtocolError("a string without its end")
        data = self._data[self._at : end]
        self._at = end + 1
        return data

    def string(self) -> str:
        data, at = self._data, self._at
        end = data.find(b"\0", at)
        if end < 0:
            raise ProtocolError("a string without its end")
        self._at = end + 1
        return "" if end == at else data[at:end].decode(self._encoding.codec or "ascii", "surrogateescape")

    def value(self) -> bytes | None:
        size = self.int32()
        return None if size == NULL else self.take(size)

    def cells(self, count: int) -> list[bytes | None]:
        """Read so many values, each with its size before it."""
        data, at, found = self._data, self._at, list[bytes | None]()
        end = len(data)
        for _ in range(count):
            if at + 4 > end:
                raise ProtocolError("a field runs over the end of its message")
            size = data[at] << 24 | data[at + 1] << 16 | data[at + 2] << 8 | data[at + 3]
            at += 4
            if size == NULL:
                found.append(None)
                continue
            if size > end - at:
                raise ProtocolError("a field runs over the end of its message")
            found.append(data[at : at + size])
            at += size
        self._at = at
        return found

    def numbers(self, size: int) -> Sequence[int]:
        """Read a list of integers of `size` bytes with its count before it."""
        count = self.int16()
        if not count:
            return ()
        data = self.take(count * size)
        return [int.from_bytes(data[i : i + size]) for i in range(0, len(data), size)]

    def end(self) -> None:
        if self._at < len(self._data):
            raise ProtocolError("bytes after the last field of a message")
