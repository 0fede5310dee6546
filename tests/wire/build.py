"""Messages of PostgreSQL for tests. Source: PostgreSQL 17 manual, "Message Formats"."""

import struct
from collections.abc import Sequence

from appliance.model import Message, Side
from appliance.wire.postgres import Postgres

C, S = Side.CLIENT, Side.SERVER


def msg(tag: str, body: bytes = b"") -> bytes:
    return tag.encode() + struct.pack(">I", len(body) + 4) + body


def z(*texts: str | bytes) -> bytes:
    return b"".join((t if isinstance(t, bytes) else t.encode()) + b"\0" for t in texts)


def cell(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack(">II", len(body) + 8, code) + body


def startup(minor: int = 0, **values: str) -> bytes:
    body = b"".join(z(k, v) for k, v in (values or {"user": "acme", "database": "shop"}).items())
    return packet(3 << 16 | minor, body + b"\0")


SSL, GSS = packet(80877103), packet(80877104)
KEY = struct.pack(">II", 77, 4711)
CANCEL = packet(80877102, KEY)


def query(text: str | bytes) -> bytes:
    return msg("Q", z(text))


def parse(text: str, name: str = "", types: Sequence[int] = ()) -> bytes:
    return msg("P", z(name, text) + struct.pack(f">H{len(types)}I", len(types), *types))


def bind(*values: bytes | None, portal: str = "", name: str = "", formats: Sequence[int] = (),
         results: Sequence[int] = ()) -> bytes:  # fmt: skip
    body = z(portal, name) + struct.pack(f">H{len(formats)}H", len(formats), *formats)
    body += struct.pack(">H", len(values)) + b"".join(cell(v) for v in values)
    return msg("B", body + struct.pack(f">H{len(results)}H", len(results), *results))


def describe(what: str = "P", name: str = "") -> bytes:
    return msg("D", what.encode() + z(name))


def close(what: str = "P", name: str = "") -> bytes:
    return msg("C", what.encode() + z(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    return msg("E", z(portal) + struct.pack(">i", limit))


def function(oid: int, *values: bytes | None) -> bytes:
    body = struct.pack(">IHH", oid, 0, len(values)) + b"".join(cell(v) for v in values)
    return msg("F", body + struct.pack(">H", 0))


SYNC, FLUSH, TERMINATE = msg("S"), msg("H"), msg("X")
COPY_DONE = msg("c")


def copy_data(data: bytes) -> bytes:
    return msg("d", data)


def copy_fail(text: str) -> bytes:
    return msg("f", z(text))


def auth(code: int, body: bytes = b"") -> bytes:
    return msg("R", struct.pack(">I", code) + body)


def parameter(name: str, value: str) -> bytes:
    return msg("S", z(name, value))


def ready(status: str = "I") -> bytes:
    return msg("Z", status.encode())


def described(*columns: str | tuple[str, int] | tuple[str, int, int], table: int = 16384) -> bytes:
    """A RowDescription; a column is a name, or name and type, or name, type and format."""
    body = struct.pack(">H", len(columns))
    for number, column in enumerate(columns, 1):
        name, kind, form = (column, 25, 0) if isinstance(column, str) else (*column, 0)[:3]  # type: ignore[misc]
        body += z(name) + struct.pack(">IHIhih", table, number, kind, -1, -1, form)
    return msg("T", body)


def row(*cells: bytes | str | None) -> bytes:
    parts = [cell(c.encode() if isinstance(c, str) else c) for c in cells]
    return msg("D", struct.pack(">H", len(parts)) + b"".join(parts))


def complete(tag: str) -> bytes:
    return msg("C", z(tag))


def error(code: str = "42601", text: str = "syntax error", severity: str = "ERROR", **more: str) -> bytes:
    fields = [("S", severity), ("V", severity), ("C", code), ("M", text), *more.items()]
    return msg("E", b"".join(k.encode() + z(v) for k, v in fields) + b"\0")


def notice(text: str, **more: str) -> bytes:
    return msg("N", error("00000", text, "NOTICE", **more)[5:])


def notification(channel: str, text: str) -> bytes:
    return msg("A", struct.pack(">I", 99) + z(channel, text))


def copies(tag: str, form: int, count: int) -> bytes:
    return msg(tag, struct.pack(f">bH{count}H", form, count, *[form] * count))


P1, B1, C1 = msg("1"), msg("2"), msg("3")
NO_DATA, EMPTY, SUSPENDED = msg("n"), msg("I"), msg("s")
PARAMETERS = msg("t", struct.pack(">HI", 1, 25))
WELCOME = auth(0) + parameter("client_encoding", "UTF8") + msg("K", KEY) + ready()

REFUSED = query("vendorgate refused")


def refused_parse(name: str = "vendorgate injected") -> bytes:
    return parse("vendorgate refused", name)


DENIED = error("42501", "no")


def logged_in(wire: Postgres | None = None) -> Postgres:
    """Return a wire that is through its login."""
    wire = wire or Postgres()
    up(wire, startup())
    down(wire, WELCOME)
    return wire


def up(wire: Postgres, data: bytes) -> bytes:
    """Feed and allow; return what goes to the server."""
    return b"".join(send.data for message in wire.feed(C, data) for send in wire.allow(message))


def down(wire: Postgres, data: bytes) -> bytes:
    """Feed the server's answer; return what goes to the client."""
    return b"".join(message.raw for message in wire.feed(S, data))


def one(wire: Postgres, data: bytes) -> Message:
    """Feed one message of the client and return it."""
    (message,) = wire.feed(C, data)
    return message
