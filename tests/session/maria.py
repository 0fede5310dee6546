"""A small MariaDB, as far as scripts of sessions need one, and a flow of a client of it.

Source: MySQL 8.4 source documentation, "Client/Server Protocol"; the packets are those of tests/wire/mysql/build.py.
"""

import struct
from collections.abc import Mapping, Sequence

from appliance import config
from appliance.facts.mysql.catalog import CATALOGUE, STATE
from appliance.facts.readers import Shared
from appliance.model import Address, Answered, Ask, Effect, Flow, Process, Received, Send, Side
from appliance.policy import Policy
from appliance.session import Session
from appliance.wire.mysql.packets import lenenc, string
from tests.facts.mysql.talk import SHOP, state
from tests.wire.mysql import build
from tests.wire.mysql.build import MODERN, ok, p, ps

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(7, 1, "/usr/bin/agent", ("agent",), "acme.service", 1000)
FLOW = Flow("f1", 1_700_000_000.0, Address("10.0.0.2", 40000), Address("10.0.0.9", 3306), AGENT)
HEAD = """
identities: {acme: {cgroup: acme.service}}
targets: {db: {protocol: mysql, address: ["10.0.0.9:3306"]}}
rules:
"""
# What the server says of the result of a statement: name, table and column.
Columns = Mapping[str, Sequence[tuple[str, str, str]]]
VALUE = "of dana@example.org"


def rules(text: str) -> Policy:
    return config.rules([("rules.d/test.yaml", HEAD + text)], lambda name: [name])


class Server:
    """Answers what goes up; of a text that is not among `columns` it says that it is wrong."""

    def __init__(self, columns: Columns, rows: int = 2) -> None:
        self._columns, self._count = columns, rows
        self._prepared: dict[int, str] = {}
        self._made = 0
        self.asked: list[str] = []  # statements of our own

    def says(self, data: bytes) -> bytes:
        out = b""
        while data:
            size = int.from_bytes(data[:3], "little")
            out += self._answer(data[4], data[5 : 4 + size])
            data = data[4 + size :]
        return out

    def _answer(self, code: int, body: bytes) -> bytes:
        match code:
            case 3:
                return self._query(body.decode())
            case 22:
                return self._prepare(body.decode())
            case 23:
                number = int.from_bytes(body[:4], "little")
                known = self._prepared.get(number)
                return self._result(known, binary=True) if known is not None else p(build.error(1243, "HY000", "unknown"), 1)
            case 25:
                self._prepared.pop(int.from_bytes(body[:4], "little"), None)
                return b""
        return p(ok(), 1)

    def _query(self, text: str) -> bytes:
        if text in (STATE, CATALOGUE):
            self.asked.append(text)
            rows = [state()] if text == STATE else [state(), *SHOP]
            names = [build.column(name) for name in ("what", "value", "character_set_client")]
            return build.result(names, [build.row(*(value.data for value in row)) for row in rows])
        return self._result(text) if text in self._columns else p(build.error(text=f"You have an error near {text!r}"), 1)

    def _prepare(self, text: str) -> bytes:
        if text not in self._columns:
            return p(build.error(), 1)
        self._made += 1
        self._prepared[self._made] = text
        columns, marks = self._described(text), text.count("?")
        return ps(build.prepared(self._made, len(columns), marks), *[build.column("?")] * marks, *columns)

    def _described(self, text: str) -> list[bytes]:
        return [build.column(name, table=table, origin=field) for name, table, field in self._columns[text]]

    def _result(self, text: str, binary: bool = False) -> bytes:
        columns = self._described(text)
        if not columns:
            return p(ok(1), 1)
        cells = [f"{name} {VALUE}".encode() for name, _, _ in self._columns[text]]
        row = build.binary_row(*map(string, cells)) if binary else build.row(*cells)
        return build.result(columns, [row] * self._count)


class Talk:
    """One flow past its login: what is asked, what goes up and is answered, all that had to be done."""

    def __init__(self, server: Server, text: str, *, greets: bool = True) -> None:
        self.policy = rules(text)
        self.server, self.now, self.asked = server, 0.0, 0
        self.session = Session(FLOW, lambda: self.policy, Shared())
        self.effects: list[Effect] = list(self.session.start(0.0, 1_700_000_000.0))
        self.receive(S, build.greeting())
        self.receive(C, build.startup())
        self.receive(S, build.welcome(MODERN))

    def receive(self, side: Side, data: bytes) -> list[Effect]:
        self.now += 1.0
        return self.done(self.session.receive(Received(side, data), self.now))

    def done(self, effects: list[Effect]) -> list[Effect]:
        self.effects += effects
        return effects

    def ask(self, data: bytes) -> None:
        """Say something, and have what goes up answered."""
        self._perform(self.receive(C, data))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Ask):
                self.asked += 1
                answer = Answered(effect.question.id, approved=self.asked % 2 == 0, by="dana")
                self._perform(self.done(self.session.receive(answer, self.now)))
        down = self.server.says(b"".join(e.data for e in effects if isinstance(e, Send) and e.to is S))
        if down:
            self._perform(self.receive(S, down))


def execute(number: int, *values: str) -> bytes:
    """Run a prepared statement with texts as its parameters."""
    if not values:
        return build.execute(number)
    types = struct.pack("<H", build.VAR_STRING) * len(values)
    return build.execute(number, bytes((len(values) + 7) // 8), types, b"".join(string(v.encode()) for v in values))


__all__ = ["FLOW", "Columns", "Server", "Talk", "execute", "lenenc", "rules"]
