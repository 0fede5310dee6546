"""What the tests with a real server share: a client through the pump, and judges."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import psycopg

from appliance.model import Column
from appliance.wire import Cell
from tests.wire.pump import ALLOW, Judge, Pump, Verdict

NO = Verdict(deny="no, says vendorgate")


def connect(pump: Pump, **options: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host="127.0.0.1",
        port=pump.port,
        user="tester",
        password="secret",
        dbname="shop",
        sslmode="prefer",
        **options,
    )


def refusing(word: str, kinds: Sequence[str] = ("query", "parse")) -> Judge:
    return lambda message: NO if message.kind in kinds and word in message.text else ALLOW


class MaskBy:
    """A plan that masks the columns named, or all for "*"."""

    def __init__(self, cell: Cell, *names: str, **copy: Any) -> None:
        self._cell, self._names = cell, names
        self.copy = SimpleNamespace(**copy)

    def __call__(self, columns: tuple[Column, ...]) -> list[Cell | None]:
        return [self._cell if "*" in self._names or c.name in self._names else None for c in columns]


def stars(text: str) -> str:
    return "*" * max(1, len(text) - 4) + text[-4:]


def masking(plan: MaskBy) -> Judge:
    return lambda message: Verdict(plan=plan) if message.kind in {"query", "execute", "function-call"} else ALLOW


def kinds(pump: Pump) -> list[str]:
    return [message.kind for message in pump.messages]
