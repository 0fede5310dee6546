"""The first message of TLS: what a client says before anything is hidden.

Source: RFC 8446 section 4.1.2 (ClientHello), RFC 6066 section 3 (server name), RFC 7301 (ALPN), RFC 9849 (ECH).
Not handled: anything after it; that is for the ends of the flow, which open it, or for handshake.py, which looks on.
"""

from collections.abc import Iterator
from struct import unpack_from

import msgspec

from appliance.model import Message, ProtocolError, Side
from appliance.wire import Opening
from appliance.wire.datagrams import Datagrams

MAX_HELLO = 64 * 1024  # bytes; hellos with post-quantum keys have about 2,000
MAX_RECORDS = 64  # a hello may be in; ours: honest ones are in one, those cut to hide a name in some ten
MAX_ALPN = 64  # protocols a client may offer; IANA's list has some 40, honest hellos up to five
HANDSHAKE, CLIENT_HELLO = 22, 1
SERVER_NAME, GROUPS, FORMATS, SIGNATURES, ALPN, VERSIONS, ECH = 0, 10, 11, 13, 16, 43, 0xFE0D
SHORT = "a TLS hello that is cut short"


class Hello(msgspec.Struct, frozen=True):
    """What a ClientHello asks for."""

    name: str  # of the server, in small letters; "" if it names none
    alpn: tuple[str, ...]
    versions: tuple[int, ...]  # 0x0304 is TLS 1.3; as offered, first choice first
    ech: bool  # another hello may be hidden in this one
    legacy: int = 0  # the version its head says
    # For fingerprints, all in the order they stand in it:
    ciphers: tuple[int, ...] = ()
    extensions: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    formats: tuple[int, ...] = ()
    signatures: tuple[int, ...] = ()


class Unread(Datagrams):
    """The wire of a target whose `protocol` is tls: sessions look at its hello and pass the rest; else is refused."""

    name = "tls"

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if data:
            raise ProtocolError("no TLS, where the rules say that nothing else is spoken")
        yield from ()


def begins(data: bytes) -> bool:
    """Return True if the first bytes of a client are TLS: a handshake record of a version that is spoken."""
    return len(data) >= 3 and data[0] == HANDSHAKE and data[1] == 3 and 1 <= data[2] <= 4


def hello(data: bytes) -> Hello | None:
    """Read the hello at the start of the client's bytes; None while it is not whole.

    Raises:
        ProtocolError: it is none.
    """
    body = _handshake(data)
    return body_of(body) if body is not None else None


def _handshake(data: bytes) -> bytes | None:
    """Join the records the hello is in; return its body."""
    joined, at, records = b"", 0, 0
    while len(joined) < 4 or len(joined) - 4 < int.from_bytes(joined[1:4], "big"):
        if len(joined) > MAX_HELLO:
            raise ProtocolError(f"a TLS hello over {MAX_HELLO} bytes")
        head = data[at : at + 5]
        if len(head) < 5:
            return None
        size = int.from_bytes(head[3:5], "big")
        if not begins(head) or not 0 < size <= 1 << 14:
            raise ProtocolError("a TLS record that is no handshake")
        record = data[at + 5 : at + 5 + size]
        joined, at, records = joined + record, at + 5 + size, records + 1
        if records > MAX_RECORDS:
            raise ProtocolError(f"a TLS hello in more than {MAX_RECORDS} records")
        if joined and joined[0] != CLIENT_HELLO:
            raise ProtocolError("TLS that does not begin with a client's hello")
        if len(record) < size:
            return None
    return joined[4 : 4 + int.from_bytes(joined[1:4], "big")]


class Fields:
    """Fields of a message, one after the other. Raises ProtocolError where it is too short for one."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise ProtocolError(SHORT)
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> "Fields":
        """Take a vector whose length has `size` bytes."""
        return Fields(self.take(self.number(size)))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)


def body_of(body: bytes) -> Hello:
    """Read a hello without the head of its message.

    Raises:
        ProtocolError: it is none.
    """
    fields = Fields(body)
    legacy = fields.number(2)
    fields.take(32)  # random
    fields.vector(1)  # session id
    ciphers = _numbers(fields.vector(2).rest())
    fields.vector(1)  # compression methods
    name, ech = "", False
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = (legacy,)
    seen: dict[int, None] = {}
    lists: dict[int, tuple[int, ...]] = {}
    extensions, at = fields.vector(2).rest() if fields else b"", 0
    while at < len(extensions):
        kind, end = int.from_bytes(extensions[at : at + 2]), at + 4 + int.from_bytes(extensions[at + 2 : at + 4])
        if at + 4 > len(extensions) or end > len(extensions):
            raise ProtocolError(SHORT)
        value, at = Fields(extensions[at + 4 : end]), end
        if kind in seen:
            raise ProtocolError("a TLS hello with one extension twice")
        seen[kind] = None
        if kind == SERVER_NAME:
            name = _name(value.vector(2))
        elif kind == ALPN:
            alpn = _alpn(value.vector(2))
        elif kind == VERSIONS:
            versions = _numbers(value.vector(1).rest())
        elif kind in (GROUPS, SIGNATURES):
            lists[kind] = _numbers(value.rest()[2:])
        elif kind == FORMATS:
            lists[kind] = tuple(value.rest()[1:])
        ech = ech or kind == ECH
    groups, formats, signatures = (lists.get(kind, ()) for kind in (GROUPS, FORMATS, SIGNATURES))
    return Hello(name, alpn, versions, ech, legacy, ciphers, tuple(seen), groups, formats, signatures)


def _numbers(data: bytes) -> tuple[int, ...]:
    pairs = len(data) // 2
    return (*unpack_from(f">{pairs}H", data), *data[2 * pairs :])  # half a number at the end is one


def _alpn(fields: Fields) -> tuple[str, ...]:
    found = list[str]()
    while fields:
        found.append(fields.vector(1).rest().decode("latin-1"))
        if len(found) > MAX_ALPN:
            raise ProtocolError(f"a TLS hello that offers more than {MAX_ALPN} protocols")
    return tuple(found)


def _name(fields: Fields) -> str:
    names = []
    while fields:
        kind, value = fields.number(1), fields.vector(2).rest()
        if kind == 0:
            names.append(value)
    plain = len(names) == 1 and all(0x20 < byte < 0x7F for byte in names[0])
    if not plain or not 0 < len(names[0]) <= 255:
        raise ProtocolError("a TLS hello that does not name one server")
    return names[0].decode().lower().rstrip(".")


OPENING = Opening(Unread, lambda client, server: False)
