"""One input of the fuzzing of the MySQL wire, and the inputs it starts from.

An input is a list of steps, as for PostgreSQL: a byte that says whose bytes they are and what becomes of the client's
messages, two bytes of length, the bytes. What must hold whatever the bytes: nothing but ProtocolError is raised; what
was allowed goes up as it came, but for what is blanked out of a login; no row goes down with a cell that the plan of
its request masks.
"""

from appliance.model import Column, ProtocolError, Send
from appliance.wire import Cell
from appliance.wire.mysql import MySQL
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.compression import pack
from tests.fuzz.wire_input import steps
from tests.wire.mysql.build import C, S, binary_row, column, ps, result, row, string
from tests.wire.mysql.dialogues import DIALOGUES, dialogues

SECRET = b"s3cret"
FROM_SERVER, DENY, REDACT, NOTICE, INJECT = 1, 2, 4, 8, 16
CHANGED = frozenset({"execute", "bulk-execute", "startup", "change-user", "replication", "unknown", "fetch"})


def plan(columns: tuple[Column, ...]) -> list[Cell | None]:
    """Masks every column of every result."""
    return [lambda text: "#"] * len(columns)


def step(from_server: bool, data: bytes, flags: int = 0) -> bytes:
    return bytes([flags | from_server]) + len(data).to_bytes(2) + data


def corpus() -> list[bytes]:
    """Return every dialogue as it is, with every request refused, with secret rows, and compressed."""
    found = []
    secret = {row("1"): row(SECRET), binary_row(string(b"x")): binary_row(string(SECRET))}
    for dialogue in DIALOGUES.values():
        for flags in (0, DENY, REDACT | NOTICE, INJECT):
            parts = []
            for number, (side, data, _) in enumerate(dialogue):
                parts.append(step(side is S, replaced(data, secret), flags if number > 2 else 0))
            found.append(b"".join(parts))
    for dialogue in list(dialogues(caps.COMPRESS).values())[10:20]:
        framed = [(side, data if i < 3 else pack(data, int(side is S), "zlib")) for i, (side, data, _) in enumerate(dialogue)]
        found.append(b"".join(step(side is S, data) for side, data in framed))
    rows = result([column("n", 3), column("m", 245)], [row(SECRET, SECRET)]) + ps(b"\1", column("n"), row(SECRET))
    return [*found, *[base + step(True, rows) for base in found[:8]]]


def replaced(data: bytes, others: dict[bytes, bytes]) -> bytes:
    """Return packets with other payloads in place of some."""
    out = b""
    while len(data) >= 4:
        size = int.from_bytes(data[:3], "little")
        payload = others.get(data[4 : 4 + size], data[4 : 4 + size])
        out += len(payload).to_bytes(3, "little") + data[3:4] + payload
        data = data[4 + size :]
    return out + data


def run(data: bytes) -> None:
    """Play one input."""
    wire = MySQL()
    try:
        for flags, piece in steps(data):
            side = S if flags & FROM_SERVER else C
            for message in wire.feed(side, piece):
                assert message.side is side
                if side is S:
                    assert message.kind != "row" or SECRET not in message.raw, message
                elif flags & DENY:
                    wire.deny(message, "denied", "no")
                else:
                    sends = wire.allow(message, plan, bool(flags & REDACT))
                    if message.kind == "tls":
                        wire.encrypted()
                    elif message.kind == "long-data" and message.status:
                        assert sends == []
                    elif message.kind not in CHANGED and not message.kind.startswith("copy"):
                        assert [send.to for send in sends] == [S]
                        assert sends == [Send(S, message.raw)] or len(sends[0].data) == len(message.raw)
                    wire.again(message)
            if flags & NOTICE:
                wire.notice("wait")
                wire.settle()
            if flags & INJECT and wire.idle:
                wire.inject("select 1")
            assert not (wire.idle and wire.busy)
            assert len(wire.cancel_key) in (0, 4)
    except ProtocolError:
        pass
    wire.refuse("over")
