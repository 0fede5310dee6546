"""What the tests of the wire without a server share: plans, and allowing or denying all that is fed."""

from appliance.model import Column
from appliance.wire import Cell, Plan
from appliance.wire.postgres import Postgres
from tests.wire.build import (
    C,
    S,
    complete,
    described,
    error,
    row,
)  # fmt: skip

SELECTED = described("n") + row("1") + complete("SELECT 1")
FAILED = error("42601", "syntax error at or near", P="1", F="scan.l", L="1145", R="scanner_yyerror")


def deny(wire: Postgres, data: bytes, code: str = "denied") -> bytes:
    return b"".join(send.data for message in wire.feed(C, data) for send in wire.deny(message, code, "no"))


def hide(text: str) -> str | None:
    return "#" * len(text)


def plan_for(*names: str) -> Plan:
    def plan(columns: tuple[Column, ...]) -> list[Cell | None]:
        return [hide if column.name in names else None for column in columns]

    return plan


def allow(wire: Postgres, data: bytes, plan: Plan | None = None, redact: bool = False) -> bytes:
    sends = [s for m in wire.feed(C, data) for s in wire.allow(m, plan if m.kind != "parse" else None, redact)]
    assert all(send.to is S for send in sends)
    return b"".join(send.data for send in sends)
