"""What is kept for speed changes nothing: the same script with and without it comes to the same effects.

A flow keeps what it found out about statements, messages and results that repeat (facts/shapes.py, session/ground.py,
session/plans.py, wire/postgres). Here scripts of requests run twice before a small server, once with room for all of that
and once with none. Verdicts, bytes to either side and notes of the record must be equal.
"""

import struct
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.facts import shapes
from appliance.facts.readers import Shared
from appliance.facts.sql import alike
from appliance.model import Answered, Ask, Effect, Note, Received, Send
from appliance.policy import Policy
from appliance.record.frame import Frame, pack
from appliance.session import Session, ground, plans, told
from appliance.wire.postgres import client, columns
from tests.facts.small import RELATIONS, VIEWS
from tests.session import pg
from tests.session.test_session import FLOW, C, S, rules

SETS = [
    """
  - {id: ask-delete, when: {statement: [DELETE]}, do: approve, approvers: {group: dba, within: 60s, reuse: session}}
  - {id: no-drop, when: {effect: [drop]}, do: block}
  - {id: hide, to: db, when: {column: [public.users.ssn]}, do: mask, with: keep-last-4}
  - {id: rest, when: {effect: [read, write, schema, session]}, do: allow}
""",
    """
  - {id: cards, when: {detect: [credit_card]}, do: block}
  - {id: emails, when: {detect: [email]}, do: mask, with: redact}
  - {id: seen, when: {table: [public.users]}, do: block, shadow: true}
  - {id: quiet, when: {table: [public.orders]}, do: allow, record: metadata}
  - {id: rest, do: allow}
""",
    """
  - {id: hide, to: db, when: {column: [public.users.ssn, public.v.number]}, do: mask, with: redact, record: requests}
  - {id: reads, when: {effect: [read]}, do: allow}
""",
]
COLUMNS = {  # what the server says of the result of a statement: name, table, attribute
    "select id, ssn from users where id = $1": [("id", 1, 1), ("ssn", 1, 3)],
    "select name from users where id = $1": [("name", 1, 2)],
    "select upper(ssn) from users": [("upper", 0, 0)],
    "select number from v": [("number", 3, 2)],
    "select note from orders where id = $1 and note = $2": [("note", 2, 3)],
    "select id from users order by ssn": [("id", 1, 1)],
    "update users set name = $1 where id = 7": [],
    "delete from orders where id = $1": [],
    "drop table orders": [],
    "create table made (a int)": [],
    "set search_path = evil": [],
    "begin": [],
    "commit": [],
    "prepare q as select ssn from users": [],
    "prepare q as delete from orders": [],
    "deallocate q": [],
    "execute q": [("ssn", 1, 3)],
    "select nothing the server knows": [],
    **{f"select name from users where id = {n}": [("name", 1, 2)] for n in (5, 6, "'x'", 99999999999)},
    **{f"select id, ssn from users order by {n}": [("id", 1, 1), ("ssn", 1, 3)] for n in (1, 2, -1)},
    **{f"delete from orders where id = {n}": [] for n in (5, 6, 7)},
    **{f"select id from orders where note = 'a{n}'; select 5": [("id", 2, 1)] for n in (1, 2, "''b")},
    "select id from orders where note = 'a'; drop table users": [("id", 2, 1)],
}
VALUES = ["1", "2", "4111 1111 1111 1111", "dana@example.org"]
TEXTS, NAMES = st.sampled_from(sorted(COLUMNS)), st.sampled_from(["", "a", "b"])
STEPS = st.one_of(
    st.tuples(st.just("query"), TEXTS),
    st.tuples(st.just("prepare"), NAMES, TEXTS),
    st.tuples(st.just("run"), NAMES, st.lists(st.sampled_from(VALUES), max_size=2), st.integers(1, 3)),
    st.tuples(st.just("close"), NAMES),
    st.tuples(st.just("rules"), st.integers(0, len(SETS) - 1)),
    st.tuples(st.just("encoding"), st.sampled_from(["UTF8", "LATIN1", "SJIS"])),
)
POLICIES: list[Policy] = [rules(text) for text in SETS]


def frames(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data:
        size = struct.unpack("!I", data[1:5])[0]
        yield chr(data[0]), data[5 : 1 + size]
        data = data[1 + size :]


class Server:
    """Answers what goes up, as far as the scripts need."""

    def __init__(self) -> None:
        self._texts: dict[bytes, str] = {}
        self._bound: dict[bytes, str] = {}
        self._skips = False

    def says(self, data: bytes) -> bytes:
        return b"".join(self._answer(kind, body) for kind, body in frames(data))

    def _answer(self, kind: str, body: bytes) -> bytes:
        if self._skips and kind not in "SQ":
            return b""
        names = body.split(b"\0")
        match kind:
            case "Q":
                return self._whole(names[0].decode("latin-1")) + pg.ready()
            case "S":
                self._skips = False
                return pg.ready()
            case "P":
                self._texts[names[0]] = text = names[1].decode("latin-1")
                return self._fails() if self._unknown(text) else pg.message("1", b"")
            case "B":
                if names[1] not in self._texts:
                    return self._fails()
                self._bound[names[0]] = self._texts[names[1]]
                return pg.message("2", b"")
            case "D":
                return self._described(self._bound[names[0][1:]]) if names[0][1:] in self._bound else self._fails()
            case "E":
                return self._rows(self._bound.pop(names[0])) if names[0] in self._bound else self._fails()
            case "C":
                return pg.message("3", b"")
            case "H":
                return b""
        raise AssertionError(kind)

    def _unknown(self, text: str) -> bool:
        return "refused" in text or "nothing" in text

    def _fails(self) -> bytes:
        self._skips = True
        return pg.error("42601", "syntax error")

    def _whole(self, text: str) -> bytes:
        if self._unknown(text):
            return pg.error("42601", "syntax error")
        return (self._described(text) if COLUMNS[text] else b"") + self._rows(text)

    def _described(self, text: str) -> bytes:
        if text not in COLUMNS:
            return pg.described("what", "value")
        told = COLUMNS[text]
        if not told:
            return pg.message("n", b"")
        fields = b"".join(pg.text(n) + struct.pack("!IHIhih", table, place, 25, -1, -1, 0) for n, table, place in told)
        return pg.message("T", struct.pack("!H", len(told)) + fields)

    def _rows(self, text: str) -> bytes:
        if text not in COLUMNS:
            return self._catalogue()
        row = pg.row(*(f"{name} of dana@example.org" for name, _, _ in COLUMNS[text]))
        return (row * 2 if COLUMNS[text] else b"") + pg.complete("SELECT 2")

    def _catalogue(self) -> bytes:
        rows = [pg.row("state", '["\\"$user\\", public", "acme", ""]')]
        rows += [pg.row("relation", msgspec.json.encode(one).decode()) for one in RELATIONS]
        rows += [pg.row("view", msgspec.json.encode(one).decode()) for one in VIEWS]
        return b"".join([*rows, pg.row("schema", "public"), pg.row("schema", "pg_catalog"), pg.complete("SELECT 9")])


class Run:
    """One script in one session."""

    def __init__(self) -> None:
        self._policy = POLICIES[0]
        self._session = Session(FLOW, lambda: self._policy, Shared())
        self._server, self._now, self._asked = Server(), 0.0, 0
        self.effects: list[Effect] = list(self._session.start(0.0, 1_700_000_000.0))
        self.effects += self._session.receive(Received(C, pg.startup()), 0.0)
        self._perform(self._session.receive(Received(S, pg.WELCOME), 0.0))

    def step(self, step: tuple[object, ...]) -> None:
        match step:
            case ("rules", int(number)):
                self._policy = POLICIES[number]
            case ("encoding", str(name)):
                parameter = pg.message("S", pg.text("client_encoding") + pg.text(name))
                self._perform(self._session.receive(Received(S, parameter), self._now))
            case _:
                self._perform(self._session.receive(Received(C, self._bytes(step)), self._now))

    def _bytes(self, step: tuple[object, ...]) -> bytes:
        match step:
            case ("query", str(text)):
                return pg.query(text)
            case ("prepare", str(name), str(text)):
                return pg.parse(text, name) + pg.SYNC
            case ("close", str(name)):
                return pg.message("C", b"S" + pg.text(name)) + pg.SYNC
            case ("run", str(name), list(values), int(times)):
                describe = pg.message("D", b"P" + pg.text(""))
                return (pg.bind(*values, name=name) + describe + pg.execute()) * times + pg.SYNC
        raise AssertionError(step)

    def _perform(self, effects: list[Effect]) -> None:
        self._now += 1.0
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Ask):
                self._asked += 1
                answer = Answered(effect.question.id, approved=self._asked % 2 == 0, by="dana")
                self._perform(self._session.receive(answer, self._now))
        up = b"".join(effect.data for effect in effects if isinstance(effect, Send) and effect.to is S)
        down = self._server.says(up)
        if down:
            self._perform(self._session.receive(Received(S, down), self._now))


def play(script: list[tuple[object, ...]]) -> list[Effect]:
    run = Run()
    for step in script:
        run.step(step)
    return run.effects


def notes(effects: list[Effect]) -> list[Note]:
    return [effect for effect in effects if isinstance(effect, Note)]


def recorded(effects: list[Effect]) -> list[bytes]:
    return [pack(Frame(1, 0.0, "f", note)) for note in notes(effects)]


def same(script: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a script with all that is kept and with nothing kept."""
    fast = play(script)
    with monkeypatch.context() as patch:
        for module, limit in ((shapes, "MAX_SHAPES"), (client, "MAX_KEPT"), (columns, "MAX_TOLD"), (alike, "MAX_TEXT")):
            patch.setattr(module, limit, 0)
        plain = play(script)
    assert fast == plain
    assert recorded(fast) == recorded(plain)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(script=st.lists(STEPS, min_size=2, max_size=12))
def test_what_is_kept_changes_nothing(script: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    same([*script, *script], monkeypatch)  # what is kept is used when it comes again


def test_a_statement_that_stands_for_another_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first, then = ("query", "prepare q as select ssn from users"), ("query", "prepare q as delete from orders")
    runs = [("run", "a", [], 1)] * 2
    script = [first, ("prepare", "a", "execute q"), *runs, ("query", "deallocate q"), then, *runs]
    same(script, monkeypatch)


REPEATED = [("prepare", "a", "select id, ssn from users where id = $1"), *[("run", "a", [str(n)], 2) for n in range(9)]]


def test_a_repeated_statement_is_judged_once_and_its_values_are_still_told(judged: list[str]) -> None:
    decided = [note.text for note in notes(play(REPEATED)) if note.kind == "decision"]
    assert [text for text in decided if "$1 = '8'" in text], "each request is recorded with its own values"
    assert len(decided) >= 2 * 2 * 9
    assert 1 <= len([text for text in judged if "$1 =" in text]) <= 2, "its first Bind and its first Execute"


def test_a_rule_that_looks_at_texts_is_asked_each_time() -> None:
    card = [("run", "a", ["1"], 1), ("run", "a", ["4111 1111 1111 1111"], 1), ("run", "a", ["2"], 1)]
    script = [("rules", 1), ("prepare", "a", "select name from users where id = $1"), *card, *card]
    blocked = [n.text for n in notes(play(script)) if n.decision and n.decision.verdict == "block"]
    assert len(blocked) == 2 and all("4111" in text for text in blocked)


@pytest.mark.parametrize("module,limit", [(shapes, "MAX_SHAPES"), (client, "MAX_KEPT"), (columns, "MAX_TOLD"), (alike, "MAX_FORMS"), (alike, "MAX_KEPT")])
def test_full_stores_begin_anew(module: object, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = [step for text in sorted(COLUMNS) for step in (("prepare", "a", text), ("run", "a", ["1"], 2), ("run", "a", ["2"], 1))]
    whole = play(script)
    monkeypatch.setattr(module, limit, 1)
    assert play(script) == whole


@pytest.mark.parametrize("module,limit", [(ground, "MAX_DECIDED"), (plans, "MAX_PLANS"), (told, "MAX_KEPT")])
def test_full_memories_of_verdicts_begin_anew(module: object, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = [step for text in sorted(COLUMNS) for step in (("prepare", "a", text), ("run", "a", ["1"], 2))]
    whole = play(script)
    monkeypatch.setattr(module, limit, 1)
    assert play(script) == whole


def test_texts_and_messages_that_are_long_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = play(REPEATED)
    for module, limit in ((client, "MAX_KEPT_SIZE"), (columns, "MAX_TOLD_SIZE"), (alike, "MAX_FORM")):
        monkeypatch.setattr(module, limit, 0)
    assert play(REPEATED) == whole
