"""What is kept for speed of a MySQL flow changes nothing: a script with and without it comes to the same effects.

As test_fast.py. Kept are: what texts mean, by themselves, their shape and their outline (facts/mysql/store.py); facts
by their shape (facts/mysql/reader.py); definitions of columns (wire/mysql/columns.py).
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.facts.mysql import reader, store
from appliance.model import Effect, Note
from appliance.record.frame import Frame, pack
from appliance.wire.mysql import columns
from tests.session.maria import Server, Talk, execute, rules
from tests.wire.mysql import build

SETS = [
    """
  - {id: ask-delete, when: {statement: [DELETE]}, do: approve, approvers: {group: dba, within: 60s, reuse: session}}
  - {id: no-drop, when: {effect: [drop]}, do: block}
  - {id: hide, to: db, when: {column: [shop.users.ssn]}, do: mask, with: keep-last-4}
  - {id: rest, when: {effect: [read, write, schema, session, procedure]}, do: allow}
""",
    """
  - {id: cards, when: {detect: [credit_card]}, do: block}
  - {id: emails, when: {detect: [email]}, do: mask, with: redact}
  - {id: seen, when: {table: [shop.users]}, do: block, shadow: true}
  - {id: quiet, when: {table: [shop.orders]}, do: allow, record: metadata}
  - {id: rest, do: allow}
""",
    """
  - {id: hide, to: db, when: {column: [shop.users.ssn]}, do: mask, with: redact, record: requests}
  - {id: reads, when: {effect: [read]}, do: allow}
""",
]
ID, NAME, SSN = ("id", "users", "id"), ("name", "users", "name"), ("ssn", "users", "ssn")
TEMPLATES = {
    "select id, ssn from users where id = {}": [ID, SSN],
    "select name from users where name = '{}' and id > {}": [NAME],
    "select ssn as id from users where id={}": [("id", "users", "ssn")],
    "select upper(ssn) from users": [("upper(ssn)", "", "")],
    "select id from users order by {}": [ID],
    "select note from orders where id in ({}, 2)": [("note", "orders", "note")],
    "update users set name = '{}' where id = 7": [],
    "delete from orders where id = {}": [],
    "drop table orders": [],
    "set @a = '{}'": [],
    "set sql_mode = 'ANSI_QUOTES'": [],
    "prepare q from 'select ssn from users'": [],
    "execute q": [("ssn", "users", "ssn")],
    "show warnings": [("Message", "", "")],
    "use other": [],
    "create temporary table orders (id int)": [],
}
MARKED = {
    "select id, ssn from users where id = ?": [ID, SSN],
    "select name from users where name = ?": [NAME],
    "update users set name = ? where id = 7": [],
    "delete from orders where id = ?": [],
}
VALUES = ["1", "2", "4111 1111 1111 1111", "dana@example.org"]
TEXTS = [text.format(*[value] * 2) for text in TEMPLATES for value in VALUES]
COLUMNS = {**{text.format(*[v] * 2): found for text, found in TEMPLATES.items() for v in VALUES}, **MARKED}
STEPS = st.one_of(
    st.tuples(st.just("query"), st.sampled_from(TEXTS)),
    st.tuples(st.just("prepare"), st.sampled_from(sorted(MARKED))),
    st.tuples(st.just("run"), st.integers(1, 3), st.sampled_from(VALUES)),
    st.tuples(st.just("close"), st.integers(1, 3)),
    st.tuples(st.just("rules"), st.integers(0, len(SETS) - 1)),
)
POLICIES = [rules(text) for text in SETS]
LIMITS = [(reader, "MAX_SHAPES"), (store, "MAX_READINGS"), (columns, "MAX_TOLD")]
Step = tuple[object, ...]


def play(script: list[Step]) -> list[Effect]:
    talk = Talk(Server(COLUMNS), SETS[0])
    for step in script:
        match step:
            case ("query", str(text)):
                talk.ask(build.query(text))
            case ("prepare", str(text)):
                talk.ask(build.prepare(text))
            case ("run", int(number), str(value)):
                talk.ask(execute(number, value))
            case ("close", int(number)):
                talk.ask(build.close(number))
            case ("rules", int(number)):
                talk.policy = POLICIES[number]
    return talk.effects


def notes(effects: list[Effect]) -> list[Note]:
    return [effect for effect in effects if isinstance(effect, Note)]


def same(script: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a script with all that is kept and with nothing kept."""
    fast = play(script)
    with monkeypatch.context() as patch:
        for module, limit in LIMITS:
            patch.setattr(module, limit, 0)
        plain = play(script)
    assert fast == plain
    assert [pack(Frame(1, 0.0, "f", n)) for n in notes(fast)] == [pack(Frame(1, 0.0, "f", n)) for n in notes(plain)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(script=st.lists(STEPS, min_size=2, max_size=12))
def test_what_is_kept_changes_nothing(script: list[Step], monkeypatch: pytest.MonkeyPatch) -> None:
    same([*script, *script], monkeypatch)  # what is kept is used when it comes again


RUNS: list[Step] = [("prepare", "select id, ssn from users where id = ?"), *[("run", 1, str(n)) for n in range(9)]]
OTHERS: list[Step] = [("query", f"select name from users where name = '{v}' and id > {v}") for v in ("1", "2")] * 4


@pytest.mark.parametrize(("script", "told"), [(RUNS, "$1 = '{}'"), (OTHERS, "name = '{}'")])
def test_statements_of_one_shape_are_judged_once_and_their_values_are_still_told(
    script: list[Step], told: str, judged: list[str]
) -> None:
    decided = [note.text for note in notes(play(script)) if note.kind == "decision"]
    number = len(script) - (script is RUNS)
    assert len(judged) <= 5 < number, "login, what is prepared; the first of a shape, and the next that has it"
    values = {"1", "2"} if script is OTHERS else {str(n) for n in range(9)}
    assert all(any(told.format(value) in text for text in decided) for value in values)


def test_a_rule_that_looks_at_texts_is_asked_each_time() -> None:
    card: list[Step] = [("run", 1, "1"), ("run", 1, "4111 1111 1111 1111"), ("run", 1, "2")]
    script: list[Step] = [("rules", 1), ("prepare", "select name from users where name = ?"), *card, *card]
    blocked = [n.text for n in notes(play(script)) if n.decision and n.decision.verdict == "block"]
    assert len(blocked) == 2 and all("4111" in text for text in blocked)


WHOLE: list[Step] = [*(("query", text) for text in TEXTS), *RUNS, *OTHERS, *(("query", text) for text in TEXTS)]


@pytest.mark.parametrize(("module", "limit"), LIMITS)
def test_full_stores_begin_anew(module: object, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = play(WHOLE)
    monkeypatch.setattr(module, limit, 1)
    assert play(WHOLE) == whole


@pytest.mark.parametrize(("module", "limit"), [(reader, "MAX_KEPT"), (store, "MAX_KEPT"), (columns, "MAX_TOLD_SIZE")])
def test_what_is_long_is_not_kept(module: object, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = play(WHOLE)
    monkeypatch.setattr(module, limit, 1)
    assert play(WHOLE) == whole
