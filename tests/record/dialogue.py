"""A PostgreSQL session in bytes, as notes. Source: PostgreSQL 17 manual, "Message Formats"."""

import struct
from collections.abc import Sequence

from appliance.model import Decision, Note
from tests.record.samples import ASK_DBA, NO_DROP, READS, C, S, closed, opened


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack(">I", len(body) + 4) + body


def text(*parts: str) -> bytes:
    return b"".join(part.encode() + b"\0" for part in parts)


STARTUP = text("user", "acme", "database", "shop") + b"\0"
STARTUP = struct.pack(">II", len(STARTUP) + 8, 196608) + STARTUP
SASL = message("R", struct.pack(">I", 10) + text("SCRAM-SHA-256") + b"\0")
SASL_GOES_ON = message("R", struct.pack(">I", 11) + b"r=abc,s=def,i=4096")
SASL_ENDS = message("R", struct.pack(">I", 12) + b"v=xyz")
LOGGED_IN = message("R", struct.pack(">I", 0)) + message("S", text("server_version", "15.1"))
READY = message("Z", b"I")


def query(sql: str) -> bytes:
    return message("Q", text(sql))


def columns(*names: str) -> bytes:
    body = struct.pack(">H", len(names))
    for number, name in enumerate(names, 1):
        body += text(name) + struct.pack(">IHIhih", 16_400, number, 25, -1, -1, 0)
    return message("T", body)


def row(*cells: str | None) -> bytes:
    body = struct.pack(">H", len(cells))
    for cell in cells:
        body += struct.pack(">i", -1) if cell is None else struct.pack(">i", len(cell)) + cell.encode()
    return message("D", body)


def complete(tag: str) -> bytes:
    return message("C", text(tag))


def error(code: str, what: str) -> bytes:
    return message("E", text("SERROR", "VERROR", f"C{code}", f"M{what}") + b"\0")


def client(kind: str, raw: bytes, sql: str = "") -> Note:
    return Note("message", sql, C, kind, raw, count=1)


def server(kind: str, raw: bytes, status: str = "", count: int = 0, masked: int = 0) -> Note:
    return Note("message", status, S, kind, raw, count=count, masked=masked, masks=("hide-ssn",) if masked else ())


def decided(decision: Decision, sql: str, id: str) -> Note:
    return Note("decision", sql, decision=decision, id=id)


LOGIN = [
    client("startup", STARTUP),
    decided(READS, "user=acme", "f1-1"),
    server("auth", SASL),
    client("auth", b""),
    server("auth", SASL_GOES_ON),
    client("auth", b""),
    server("ready", SASL_ENDS + LOGGED_IN + READY),
]
READ = [
    client("query", query("select name, ssn from users"), "select name, ssn from users"),
    decided(READS, "select name, ssn from users", "f1-2"),
    server(
        "ready",
        columns("name", "ssn") + row("Ada", "*******1111") + row("Bob", None) + complete("SELECT 2") + READY,
        "SELECT 2",
        2,
        1,
    ),
]
DROP = [
    client("query", query("drop table users"), "drop table users"),
    decided(NO_DROP, "drop table users", "f1-3"),
    server("ready", error("42501", "denied by vendorgate (f1-3)") + READY, "42501"),
]
HELD = [
    client("query", query("alter table users add x int"), "alter table users add x int"),
    Note("asked", "alter table users add x int", decision=ASK_DBA, id="f1-4"),
    Note("answered", "approved: fine", decision=ASK_DBA, id="f1-4", by="eve"),
    server("ready", complete("ALTER TABLE") + READY, "ALTER TABLE"),
]
PREPARED = [
    client("parse", message("P", text("s1", "select $1::text") + struct.pack(">HI", 1, 25)), "select $1::text"),
    decided(READS, "select $1::text", "f1-5"),
    client("bind", message("B", text("", "s1") + struct.pack(">HHi", 0, 1, 3) + b"abc" + struct.pack(">H", 0))),
    decided(READS, "select 'abc'", "f1-6"),
    client("describe", message("D", b"P" + text(""))),
    client("execute", message("E", text("") + struct.pack(">i", 0))),
    decided(READS, "select 'abc'", "f1-7"),
    client("sync", message("S")),
    server(
        "ready",
        message("1") + message("2") + columns("text") + row("abc") + complete("SELECT 1") + READY,
        "SELECT 1",
        1,
    ),
]
BIG = [
    client("query", query("select '" + "x" * 9000 + "'"), "select 'xxx'"),
    decided(READS, "select 'xxx'", "f1-8"),
    server("row", columns("text") + b"".join(row("y" * 997) for _ in range(200)), count=200),
    server("ready", row("z" * 300_000) + complete("SELECT 201") + READY, "SELECT 201", 1),
]
BYE = [client("terminate", message("X")), closed()]


def whole() -> Sequence[Note]:
    """A session of everything above."""
    return [opened(), *LOGIN, *READ, *DROP, *HELD, *PREPARED, *BIG, *BYE]
