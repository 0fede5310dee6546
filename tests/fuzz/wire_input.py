"""One input of the fuzzing of the PostgreSQL wire, and the inputs it starts from.

An input is a list of steps: a byte that says whose bytes they are and what becomes of the client's messages, two
bytes of length, the bytes. Three things must hold whatever the bytes: nothing but ProtocolError is raised; what was
allowed goes up as it came; no row goes down with a cell that the plan of its request masks.
"""

from collections.abc import Iterator

from appliance.facts import Copy
from appliance.model import Column, ProtocolError, Send, Side
from appliance.wire import Cell
from appliance.wire.postgres import Postgres
from tests.wire.build import C, S, complete, described, ready, row
from tests.wire.dialogues import DIALOGUES

SECRET = b"s3cret"
FROM_SERVER, DENY, REDACT, NOTICE, INJECT = 1, 2, 4, 8, 16


class Everything:
    """A plan that masks every column of every result, COPY included."""

    copy = Copy(())

    def __call__(self, columns: tuple[Column, ...]) -> list[Cell | None]:
        return [lambda text: "#"] * len(columns)


PLAN = Everything()
BARE = {"sync", "flush", "terminate"}  # ask for nothing


def step(side: Side, data: bytes, flags: int = 0) -> bytes:
    return bytes([flags | (side is S)]) + len(data).to_bytes(2) + data


def steps(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 3 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 3])
        yield data[at], data[at + 3 : at + 3 + size]
        at += 3 + size


def corpus() -> list[bytes]:
    """Return every dialogue as it is, with every request refused, and with secret rows."""
    found = []
    for dialogue in DIALOGUES.values():
        for flags in (0, DENY, REDACT | NOTICE, INJECT):
            raw = [(side, data.replace(row("1"), row(SECRET))) for side, data, _ in dialogue]
            found.append(
                b"".join(step(side, data, flags if i > 1 else 0) for i, (side, data) in enumerate(raw))
            )
    rows = described(("n", 25, 1), ("m", 1009, 1)) + row(SECRET, SECRET) + complete("SELECT 1") + ready()
    return [*found, *[base + step(S, rows) for base in found[:8]]]


def run(data: bytes) -> None:
    """Play one input."""
    wire = Postgres()
    try:
        for flags, piece in steps(data):
            side = S if flags & FROM_SERVER else C
            for message in wire.feed(side, piece):
                assert message.side is side
                if side is S:
                    assert message.kind not in {"row", "copy-data"} or SECRET not in message.raw, message
                elif flags & DENY and message.kind not in BARE:
                    wire.deny(message, "denied", "no")
                else:
                    sends = wire.allow(message, PLAN, bool(flags & REDACT))
                    assert message.kind == "gss-request" or sends[-1] == Send(S, message.raw)
            if flags & NOTICE:
                wire.notice("wait")
                wire.settle()
            if flags & INJECT and wire.idle:
                wire.inject("select 1")
            assert not (wire.idle and wire.busy)
    except ProtocolError:
        wire.refuse("protocol violation")
