"""What the client says: startup packets, then frames.

Source: PostgreSQL 17 manual, "Message Formats" and "SSL Session Encryption".
Not handled: protocol 2, TLS or GSSAPI started without asking; they are a ProtocolError. Requests before the
server is ready are one too: no client library sends them, and what they mean would depend on settings not yet
known.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from appliance.model import Message, ProtocolError, Side, Value
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.flow import Link
from appliance.wire.postgres.frames import (
    HEADER,
    INT32,
    MAX_AUTH,
    MAX_CANCEL_KEY,
    MAX_MESSAGE,
    MAX_SMALL,
    MAX_STARTUP,
    MAX_STATEMENT,
    Fields,
    Inbox,
)

SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102
BINDS = b"SCRAM-SHA-256-PLUS\0"  # RFC 5802 section 6: offered by servers in TLS only
REQUESTS: Final = {SSL_REQUEST: "ssl-request", GSS_REQUEST: "gss-request", CANCEL_REQUEST: "cancel"}
MAJOR = 3
MAX_KEPT = 128  # messages kept for one connection; of a few dozen statements each has two or three
MAX_KEPT_SIZE = 100  # bytes of one that is kept; names of drivers are short
REPEATED: Final = frozenset({"execute", "describe", "close", "sync", "flush"})


def code_of(head: bytes) -> int | None:
    """Return the code of a startup packet from its first 8 bytes, None if they cannot be one."""
    size, code = int.from_bytes(head[:4]), int.from_bytes(head[4:8])
    fits = 8 <= size <= MAX_STARTUP and (code in REQUESTS or code >> 16 == MAJOR)
    return code if fits else None


class Requests:
    """The client's direction."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._inbox = Inbox()
        self._kept: dict[bytes, Message] = {}  # messages that programs repeat byte for byte
        self._kept_in: Encoding | None = None  # they were read in
        self._started = False  # the startup packet is read: frames have tags
        self._over = False  # nothing may follow

    def add(self, data: bytes) -> None:
        self._inbox.add(data)

    def read(self) -> Iterator[Message]:
        """Yield each message that is whole."""
        while self._inbox.left:
            if self._over:
                raise ProtocolError("the client sends bytes after its last message")
            if self._link.pending:
                raise ProtocolError("the client goes on before its request for encryption is answered")
            message = self._frame() if self._started else self._packet()
            if message is None:
                return
            started, left = self._started, self._inbox.left
            yield message
            if left and not started and message.kind in {"ssl-request", "gss-request"}:
                # Bytes that came with the request were sent by someone who did not wait for its answer.
                raise ProtocolError("the client goes on before its request for encryption is answered")
        self._inbox.rest()

    def again(self, message: Message) -> Message:
        """Return the message as it reads in the encoding that is in force."""
        read = READERS.get(message.raw[0])
        anew = read[2](self._link, message.raw, message.kind) if self._started and read else message
        return message if anew == message else anew

    def _packet(self) -> Message | None:
        inbox = self._inbox
        head = bytes(inbox.data[inbox.at : inbox.at + 8])
        if len(head) < 8:
            # A first byte that is not 0 is a length over 16 MiB, or TLS.
            if head[0] or (len(head) >= 4 and not 8 <= int.from_bytes(head[:4]) <= MAX_STARTUP):
                raise ProtocolError("the client does not start with a PostgreSQL startup packet")
            return None
        code = code_of(head)
        if code is None:
            raise ProtocolError("the client does not start with a PostgreSQL startup packet of protocol 3")
        size = int.from_bytes(head[:4])
        if inbox.left < size:
            return None
        raw = inbox.take(size)
        kind = REQUESTS.get(code, "startup")
        if kind == "startup":
            self._started = True
            return _startup(self._link, raw)
        if kind == "cancel":
            self._over = True
            return _cancel(raw)
        if size != 8:
            raise ProtocolError(f"a {kind} of {size} bytes")
        self._link.pending = True
        return Message(Side.CLIENT, kind, raw)

    def _frame(self) -> Message | None:
        inbox = self._inbox
        size = inbox.size()
        # A tag that no client sends needs no length to be refused.
        kind, limit, read = self._known(inbox.data[inbox.at])
        if not size:
            return None
        if size - 5 > limit:
            raise ProtocolError(f"a {kind} message of {size} bytes: the limit is {limit}")
        if kind not in {"auth", "terminate"} and not self._link.ready:
            raise ProtocolError(f"a {kind} message before the server is ready")
        if kind == "auth" and self._link.authenticated:
            raise ProtocolError("a password message after the login")
        if inbox.left < size:
            inbox.lacks(size)
            return None
        if kind == "terminate":
            self._over = True
        raw = inbox.take(size)
        return self._repeated(raw, kind, read) if kind in REPEATED else read(self._link, raw, kind)

    def _repeated(self, raw: bytes, kind: str, read: Callable[[Link, bytes, str], Message]) -> Message:
        """Read a message that says nothing but names. Each is an object of its own, as each is a message."""
        if self._link.encoding is not self._kept_in:
            self._kept.clear()
            self._kept_in = self._link.encoding
        found = self._kept.get(raw)
        if found is not None:
            return msgspec.structs.replace(found)
        found = read(self._link, raw, kind)
        if len(raw) <= MAX_KEPT_SIZE and MAX_KEPT:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[raw] = found
        return found

    def _known(self, tag: int) -> "Reader":
        found = READERS.get(tag)
        if found is None:
            raise ProtocolError(f"the client sends a message {chr(tag)!r}, which no client does")
        return found


def _startup(link: Link, raw: bytes) -> Message:
    fields = Fields(raw[8:], link.encoding)
    pairs: list[tuple[str, str]] = []
    while key := fields.string():
        pairs.append((key, fields.string()))
        if "\n" in "".join(pairs[-1]) or "=" in key:
            raise ProtocolError("a startup parameter with a line break in it, or a name with '='")
    fields.end()
    # The server takes the last one of a name, and an empty database for none.
    last = dict(pairs)
    user = last.get("user", "")
    text = "\n".join(f"{key}={value}" for key, value in pairs)
    return Message(Side.CLIENT, "startup", raw, text=text, name=user, status=last.get("database") or user)


def _cancel(raw: bytes) -> Message:
    if not 16 <= len(raw) <= 12 + MAX_CANCEL_KEY:
        raise ProtocolError(f"a cancel request of {len(raw)} bytes")
    return Message(Side.CLIENT, "cancel", raw, name=raw[8:].hex())


def _bare(link: Link, raw: bytes, kind: str) -> Message:
    Fields(raw[5:], link.encoding).end()
    return Message(Side.CLIENT, kind, raw)


def _data(link: Link, raw: bytes, kind: str) -> Message:
    return Message(Side.CLIENT, kind, raw)


def _auth(link: Link, raw: bytes, kind: str) -> Message:
    if raw[5:].startswith(BINDS):
        # The server would see another certificate than the client did, and refuse without saying why.
        what = "the login is bound to the server's certificate"
        raise ProtocolError(f"{what}: set PGCHANNELBINDING=disable for the client")
    return Message(Side.CLIENT, kind, raw, secret=True)


def _statement(link: Link, text: bytes) -> tuple[str, str]:
    """Return text and status of a statement."""
    if len(text) > MAX_STATEMENT:
        return "", "oversize"
    return text.decode(link.encoding.codec or "ascii", "surrogateescape"), ""


def _query(link: Link, raw: bytes, kind: str) -> Message:
    fields = Fields(raw, link.encoding, HEADER)
    text, status = _statement(link, fields.octets())
    fields.end()
    return Message(Side.CLIENT, kind, raw, text=text, status=status)


def _parse(link: Link, raw: bytes, kind: str) -> Message:
    fields = Fields(raw[5:], link.encoding)
    name = fields.string()
    text, status = _statement(link, fields.octets())
    types = tuple(fields.numbers(4))
    fields.end()
    link.defined(name, types)
    return Message(Side.CLIENT, kind, raw, text=text, name=name, status=status)


def _values(fields: Fields, types: tuple[int, ...]) -> tuple[Value, ...]:
    """Read formats and values of a Bind or a FunctionCall."""
    formats = fields.numbers(2)
    count = fields.int16()
    if not count and not formats:
        return ()
    if len(formats) not in {0, 1, count} or (formats and max(formats) > 1):
        raise ProtocolError(f"{len(formats)} parameter formats for {count} parameters")
    binary = [form == 1 for form in formats] * (count if len(formats) == 1 else 1) or [False] * count
    kinds = types if len(types) == count else (0,) * count
    return tuple(map(Value, fields.cells(count), kinds, binary))


def _bind(link: Link, raw: bytes, kind: str) -> Message:
    fields = Fields(raw, link.encoding, HEADER)
    cursor, name = fields.string(), fields.string()
    values = _values(fields, link.types.get(name) or ())
    fields.numbers(2)
    fields.end()
    return Message(Side.CLIENT, kind, raw, name=name, cursor=cursor, values=values)


def _function(link: Link, raw: bytes, kind: str) -> Message:
    fields = Fields(raw[5:], link.encoding)
    name = str(fields.int32())
    values = _values(fields, ())
    fields.int16()
    fields.end()
    return Message(Side.CLIENT, kind, raw, name=name, values=values)


def _execute(link: Link, raw: bytes, kind: str) -> Message:
    fields = Fields(raw[5:], link.encoding)
    cursor, (limit,) = fields.string(), INT32.unpack(fields.take(4))
    fields.end()
    return Message(Side.CLIENT, kind, raw, cursor=cursor, status=str(limit))


def _named(link: Link, raw: bytes, kind: str) -> Message:
    fields = Fields(raw[5:], link.encoding)
    what, name = fields.take(1), fields.string()
    fields.end()
    if what == b"S":
        return Message(Side.CLIENT, kind, raw, name=name, status="S")
    if what == b"P":
        return Message(Side.CLIENT, kind, raw, cursor=name, status="P")
    raise ProtocolError(f"a {kind} message for {what!r}")


def _reason(link: Link, raw: bytes, kind: str) -> Message:
    fields = Fields(raw[5:], link.encoding)
    text = fields.string()
    fields.end()
    return Message(Side.CLIENT, kind, raw, text=text)


Reader = tuple[str, int, Callable[[Link, bytes, str], Message]]

# tag -> (kind, limit of the body in bytes, how it is read)
READERS: Final[dict[int, Reader]] = {
    ord("p"): ("auth", MAX_AUTH, _auth),
    ord("Q"): ("query", MAX_MESSAGE, _query),
    ord("P"): ("parse", MAX_MESSAGE, _parse),
    ord("B"): ("bind", MAX_MESSAGE, _bind),
    ord("E"): ("execute", MAX_SMALL, _execute),
    ord("D"): ("describe", MAX_SMALL, _named),
    ord("C"): ("close", MAX_SMALL, _named),
    ord("S"): ("sync", MAX_SMALL, _bare),
    ord("H"): ("flush", MAX_SMALL, _bare),
    ord("F"): ("function-call", MAX_MESSAGE, _function),
    ord("d"): ("copy-data", MAX_MESSAGE, _data),
    ord("c"): ("copy-done", MAX_SMALL, _bare),
    ord("f"): ("copy-fail", MAX_SMALL, _reason),
    ord("X"): ("terminate", MAX_SMALL, _bare),
}
