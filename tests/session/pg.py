"""PostgreSQL messages for session tests, as few as they need. Source: manual, "Message Formats"."""

import json
import struct


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def startup(user: str = "acme", database: str = "shop") -> bytes:
    body = struct.pack("!I", 196608) + text("user") + text(user) + text("database") + text(database) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(statement: str) -> bytes:
    return message("Q", text(statement))


def parse(statement: str, name: str = "") -> bytes:
    return message("P", text(name) + text(statement) + struct.pack("!H", 0))


def bind(*values: str, portal: str = "", name: str = "") -> bytes:
    cells = b"".join(struct.pack("!I", len(v)) + v.encode() for v in values)
    return message("B", text(portal) + text(name) + struct.pack("!HH", 0, len(values)) + cells + struct.pack("!H", 0))


def execute(portal: str = "") -> bytes:
    return message("E", text(portal) + struct.pack("!I", 0))


def error(code: str, words: str) -> bytes:
    return message("E", b"S" + text("ERROR") + b"V" + text("ERROR") + b"C" + text(code) + b"M" + text(words) + b"\0")


def complete(tag: str) -> bytes:
    return message("C", text(tag))


def ready(state: str = "I") -> bytes:
    return message("Z", state.encode())


def row(*cells: str) -> bytes:
    body = b"".join(struct.pack("!I", len(c)) + c.encode() for c in cells)
    return message("D", struct.pack("!H", len(cells)) + body)


def described(*names: str, table: int = 0, type_id: int = 25) -> bytes:
    columns = b"".join(text(n) + struct.pack("!IHIhih", table, 0, type_id, -1, -1, 0) for n in names)
    return message("T", struct.pack("!H", len(names)) + columns)


SYNC = message("S", b"")
TERMINATE = message("X", b"")
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)
CANCEL_KEY = struct.pack("!II", 77, 4711)
CANCEL_REQUEST = struct.pack("!II", 16, 80877102) + CANCEL_KEY
WELCOME = (
    message("R", struct.pack("!I", 0))
    + message("S", text("client_encoding") + text("UTF8"))
    + message("S", text("standard_conforming_strings") + text("on"))
    + message("K", CANCEL_KEY)
    + ready()
)
SELECTED = described("n") + row("1") + complete("SELECT 1") + ready()


def state_answer(path: str = '"$user", public', user: str = "acme") -> bytes:
    """Return what a server answers to the reader's own question after search_path and role."""
    cell = json.dumps([path, user, ""])
    closed, one = message("3", b""), row("state", cell)
    return (
        closed * 2
        + message("1", b"")
        + message("2", b"")
        + described("what", "value")
        + one
        + complete("SELECT 1")
        + closed * 2
        + ready()
    )
