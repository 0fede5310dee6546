"""Messages of MySQL for tests. Source: MySQL 8.4 source documentation, "Client/Server Protocol"."""

import struct
from collections.abc import Sequence

from appliance.model import Message, Side
from appliance.wire.mysql import MySQL
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.packets import lenenc, string

C, S = Side.CLIENT, Side.SERVER
BASE = (
    caps.LONG_PASSWORD | caps.PROTOCOL_41 | caps.SECURE_CONNECTION | caps.PLUGIN_AUTH | caps.CONNECT_WITH_DB
    | caps.MULTI_STATEMENTS | caps.LOCAL_FILES | 1 << 17 | 1 << 18
)  # fmt: skip
MODERN = BASE | caps.DEPRECATE_EOF | caps.SESSION_TRACK | caps.CONNECT_ATTRS | caps.PLUGIN_AUTH_LENENC
MARIADB = (
    MODERN & ~caps.LONG_PASSWORD | caps.PROGRESS | caps.BULK | caps.EXTENDED_METADATA | caps.CACHE_METADATA
)  # fmt: skip
NONCE = b"12345678", b"123456789012\0"
AUTOCOMMIT, IN_TRANSACTION, MORE, CURSOR, LAST_ROW = 2, 1, 8, 0x40, 0x80
TINY, LONG, LONGLONG, DATETIME, VAR_STRING, BLOB, JSON = 1, 3, 8, 12, 253, 252, 245


def p(payload: bytes, sequence: int = 0) -> bytes:
    """One packet."""
    return len(payload).to_bytes(3, "little") + bytes([sequence & 255]) + payload


def ps(*payloads: bytes, first: int = 1) -> bytes:
    """Packets one after the other."""
    return b"".join(p(payload, first + i) for i, payload in enumerate(payloads))


def greeting(capabilities: int = MODERN, version: str = "8.4.0", connection: int = 77, plugin: str = "x_plugin") -> bytes:
    mariadb = not capabilities & caps.LONG_PASSWORD
    body = b"\x0a" + version.encode() + b"\0" + struct.pack("<I", connection) + NONCE[0] + b"\0"
    body += struct.pack("<H", capabilities & 0xFFFF) + b"\x2d" + struct.pack("<HH", 2, capabilities >> 16 & 0xFFFF)
    body += b"\x15" + bytes(6) + struct.pack("<I", capabilities >> 32 if mariadb else 0) + NONCE[1]
    return p(body + plugin.encode() + b"\0")


def flags(capabilities: int, charset: int = 45) -> bytes:
    extended = struct.pack("<I", capabilities >> 32 if not capabilities & caps.LONG_PASSWORD else 0)
    return struct.pack("<IIB", capabilities & 0xFFFFFFFF, 1 << 24, charset) + bytes(19) + extended


def startup(
    capabilities: int = MODERN,
    *,
    user: str = "acme",
    database: str = "shop",
    answer: bytes = b"s3cret-answer",
    plugin: str = "x_plugin",
    sequence: int = 1,
    charset: int = 45,
    **attributes: str,
) -> bytes:
    body = flags(capabilities, charset) + user.encode() + b"\0" + lenenc(len(answer)) + answer
    if capabilities & caps.CONNECT_WITH_DB:
        body += database.encode() + b"\0"
    if capabilities & caps.PLUGIN_AUTH:
        body += plugin.encode() + b"\0"
    if capabilities & caps.CONNECT_ATTRS:
        body += string(b"".join(string(k.encode()) + string(v.encode()) for k, v in attributes.items()))
    return p(body + (b"\3" if capabilities & caps.ZSTD else b""), sequence)


def tls_request(capabilities: int = MODERN) -> bytes:
    return p(flags(capabilities | caps.SSL), 1)


def ok(
    affected: int = 0,
    status: int = AUTOCOMMIT,
    *,
    info: bytes = b"",
    changes: Sequence[tuple[int, bytes]] = (),
    header: int = 0,
    capabilities: int = MODERN,
    warnings: int = 0,
) -> bytes:
    body = bytes([header]) + lenenc(affected) + b"\0" + struct.pack("<HH", status | 0x4000 * bool(changes), warnings)
    tracked = b"".join(bytes([kind]) + string(data) for kind, data in changes)
    if capabilities & caps.SESSION_TRACK:
        return body + (string(info) if info or tracked else b"") + (string(tracked) if tracked else b"")
    return body + (string(info) if info else b"")


def variable(name: str, value: str) -> tuple[int, bytes]:
    return 0, string(name.encode()) + string(value.encode())


def eof(status: int = AUTOCOMMIT, warnings: int = 0) -> bytes:
    return b"\xfe" + struct.pack("<HH", warnings, status)


def end(status: int = AUTOCOMMIT, capabilities: int = MODERN) -> bytes:
    """The end of rows."""
    deprecated = capabilities & caps.DEPRECATE_EOF
    return ok(0, status, header=0xFE, capabilities=capabilities) if deprecated else eof(status)


def error(number: int = 1064, state: str = "42000", text: str = "You have an error") -> bytes:
    return b"\xff" + struct.pack("<H", number) + b"#" + state.encode() + text.encode()


def column(
    name: str,
    kind: int = VAR_STRING,
    *,
    table: str = "t",
    schema: str = "shop",
    flags: int = 0,
    charset: int = 45,
    decimals: int = 0,
    extended: bytes | None = None,
    origin: str | None = None,
) -> bytes:
    origin = name if origin is None else origin
    parts = [b"def", schema.encode(), table.encode(), table.encode(), name.encode(), origin.encode()]
    body = b"".join(string(part) for part in parts) + (b"" if extended is None else string(extended))
    return body + b"\x0c" + struct.pack("<HIBHB", charset, 255, kind, flags, decimals) + b"\0\0"


def row(*cells: bytes | str | None) -> bytes:
    parts = [c.encode() if isinstance(c, str) else c for c in cells]
    return b"".join(b"\xfb" if c is None else string(c) for c in parts)


def binary_row(*cells: bytes | None) -> bytes:
    """A row in binary form; a cell is its bytes with their length, where it has one."""
    nulls = bytearray((len(cells) + 9) // 8)
    for i, cell in enumerate(cells):
        if cell is None:
            nulls[(i + 2) // 8] |= 1 << (i + 2) % 8
    return b"\0" + bytes(nulls) + b"".join(c for c in cells if c is not None)


def result(
    columns: Sequence[bytes], rows: Sequence[bytes], status: int = AUTOCOMMIT, capabilities: int = MODERN, first: int = 1
) -> bytes:
    """A whole result."""
    marks = [] if capabilities & caps.DEPRECATE_EOF else [eof(status & ~MORE)]
    return ps(lenenc(len(columns)), *columns, *marks, *rows, end(status, capabilities), first=first)


def command(code: int, body: bytes = b"") -> bytes:
    return p(bytes([code]) + body)


def query(text: str | bytes) -> bytes:
    return command(3, text if isinstance(text, bytes) else text.encode())


def prepare(text: str) -> bytes:
    return command(22, text.encode())


def prepared(number: int, columns: int = 0, parameters: int = 0, more: bytes = b"") -> bytes:
    return b"\0" + struct.pack("<IHHBH", number, columns, parameters, 0, 0) + more


def execute(number: int, nulls: bytes = b"", types: bytes | None = b"", values: bytes = b"", flags: int = 0) -> bytes:
    body = struct.pack("<IBI", number & 0xFFFFFFFF, flags, 1)
    if nulls or values or types:
        body += nulls + (b"\0" if types is None else b"\1" + types) + values
    return command(23, body)


def fetch(number: int, rows: int = 1) -> bytes:
    return command(28, struct.pack("<II", number, rows))


def long_data(number: int, place: int, data: bytes) -> bytes:
    return command(24, struct.pack("<IH", number & 0xFFFFFFFF, place) + data)


def numbered(code: int, number: int) -> bytes:
    return command(code, struct.pack("<I", number & 0xFFFFFFFF))


def close(number: int) -> bytes:
    return numbered(25, number)


def reset(number: int) -> bytes:
    return numbered(26, number)


def change_user(
    user: str = "bob",
    database: str = "other",
    answer: bytes = b"s3cret-too",
    capabilities: int = MODERN,
    plugin: str = "x_plugin",
) -> bytes:
    body = user.encode() + b"\0" + bytes([len(answer)]) + answer + database.encode() + b"\0" + struct.pack("<H", 45)
    body += plugin.encode() + b"\0" if capabilities & caps.PLUGIN_AUTH else b""
    return command(17, body + (b"\0" if capabilities & caps.CONNECT_ATTRS else b""))


QUIT, PING, STATISTICS, PROCESS_INFO, RESET_CONNECTION = (command(code) for code in (1, 14, 9, 10, 31))
LOGGED_IN = p(ok(), 2)


def welcome(capabilities: int) -> bytes:
    return p(ok(capabilities=capabilities), 2)


def logged_in(capabilities: int = MODERN, wire: MySQL | None = None) -> MySQL:
    """Return a wire that is through its login."""
    wire = wire or MySQL()
    down(wire, greeting(capabilities))
    up(wire, startup(capabilities))
    down(wire, welcome(capabilities))
    assert wire.idle
    return wire


def up(wire: MySQL, data: bytes) -> bytes:
    """Feed and allow; return what goes to the server."""
    return b"".join(send.data for message in wire.feed(C, data) for send in wire.allow(message) if send.to is S)


def down(wire: MySQL, data: bytes) -> bytes:
    """Feed the server's answer; return what goes to the client."""
    return b"".join(message.raw for message in wire.feed(S, data))


def one(wire: MySQL, data: bytes) -> Message:
    """Feed one message of the client and return it."""
    (message,) = wire.feed(C, data)
    return message


def blanked(raw: bytes, *answers: bytes) -> bytes:
    """Return bytes as a message shows them: without what is given of a password."""
    for answer in answers or (b"s3cret-answer", b"s3cret-too"):
        raw = raw.replace(answer, bytes(len(answer)))
    return raw
