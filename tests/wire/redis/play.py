"""What the tests of the wire without a server share: plans, and allowing or denying what is fed."""

from collections.abc import Sequence

from appliance.model import Column, Message
from appliance.wire import Cell, Plan
from appliance.wire.redis import Redis
from tests.wire.redis.dialogues import C, S


def hide(text: str) -> str | None:
    return "#" * len(text)


def plan(cell: Cell = hide, places: Sequence[int] = (0,), meta: Cell | None = None) -> Plan:
    """Mask the columns at `places` by `cell`, what is of no key by `meta`."""

    def find(columns: tuple[Column, ...]) -> list[Cell | None]:
        return [meta if column.place < 0 else cell if column.place in places else None for column in columns]

    return find


def sent(wire: Redis, data: bytes, plan: Plan | None = None, redact: bool = False) -> bytes:
    """Allow what the client says; return what goes up."""
    sends = [send for message in wire.feed(C, data) for send in wire.allow(message, plan, redact)]
    assert all(send.to is S for send in sends)
    return b"".join(send.data for send in sends)


def denied(wire: Redis, data: bytes, code: str = "denied", text: str = "no") -> bytes:
    """Deny what the client says; return what goes up in its place."""
    return b"".join(send.data for message in wire.feed(C, data) for send in wire.deny(message, code, text))


def heard(wire: Redis, *pieces: bytes) -> bytes:
    """Return what goes down of what the server says."""
    return b"".join(message.raw for piece in pieces for message in wire.feed(S, piece))


def messages(wire: Redis, data: bytes) -> list[Message]:
    return list(wire.feed(S, data))


