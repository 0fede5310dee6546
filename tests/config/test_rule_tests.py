"""Tests of rules: how they are read, run and reported."""

import pytest

from appliance.config import Result, run
from appliance.config.rule_tests import MAX_TESTS, TESTS
from appliance.facts import Facts, Reader
from appliance.model import Column, ConfigError, Message
from tests.policy.given import facts, policy

RULES = policy(
    """
rules:
  - {id: no-drop, when: {effect: drop}, do: block}
  - {id: psql, who: acme-psql, when: {effect: schema}, do: approve, approvers: {group: g}}
  - {id: hide, to: db, when: {column: public.u.ssn}, do: mask, with: keep-last-4}
  - {id: cards, when: {detect: credit_card}, do: mask}
  - {id: reads, when: {effect: read}, do: allow}
"""
)


class Words:
    """A reader that takes the first word of a text for its effect; a hand-made one, of no grammar."""

    def __init__(self) -> None:
        self._earlier = 0

    def ask(self, message: Message) -> Facts | None:
        effect, _, rest = message.text.partition(" ")
        return facts(effect=effect, table=rest, count=str(self._earlier)) if effect else None

    def sent(self, message: Message) -> None:
        self._earlier += 1

    def heard(self, message: Message) -> None: ...

    def wanted(self, facts: Facts | None) -> str:
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        return None

    def copy(self, message: Message) -> None:
        return None


def make(protocol: str) -> Reader:
    assert protocol == "postgres"
    return Words()  # type: ignore[return-value]


def results(text: str) -> tuple[Result, ...]:
    return run(RULES, [("10.test.yaml", "tests:\n" + text), ("10.yaml", "not looked at: [")], make)


GOOD = [
    "{statement: drop t, expect: block}",
    "{statement: drop t, expect: block, rule: no-drop}",
    "{statement: write t, expect: block, rule: default}",
    "{statement: read public.v, expect: allow}",
    "{statement: read public.u, target: db, expect: mask, rule: hide}",
    "{statement: read public.u, protocol: postgres, expect: allow}",
    "{statement: schema t, process: {cgroup: acme.service, exe: /usr/bin/psql}, expect: approve}",
    "{statement: schema t, identity: acme-psql, expect: approve, rule: psql}",
    "{statement: schema t, process: {cgroup: other.service, exe: /usr/bin/psql}, expect: block}",
    "{statement: schema t, process: {cgroup: acme.service}, expect: approve}",  # which executable is not known
    "{request: {effect: [read, drop]}, expect: block, rule: no-drop}",
    "{request: {effect: read, unknown: effect}, expect: block, rule: no-drop}",
    "{statement: read t, row: {a: 4111111111111111}, expect: mask, rule: cards, shows: {a: '[redacted]'}}",
    "{statement: read t, row: {a: 4111111111111112}, expect: allow, shows: {a: 4111111111111112}}",
    "{statement: read t, target: db, row: {public.u.ssn: 123456789, public.u.id: 5, n: null}, expect: mask, rule: hide,"
    " shows: {public.u.ssn: '*****6789', public.u.id: 5, n: null}}",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    (result,) = results(f"- {text}")
    assert result.ok, result.why


BAD = [
    ("{statement: drop t, expect: allow}", "expected allow, got block by no-drop: rule no-drop"),
    ("{statement: drop t, expect: block, rule: reads}", "expected rule reads, got no-drop"),
    ("{statement: read t, row: {a: x}, expect: mask}", "expected mask, got allow by reads: rule reads"),
    ("{statement: read t, row: {a: 4111111111111111}, expect: allow}", "expected allow, got mask by reads: rule reads"),
    (
        "{statement: read t, row: {a: 4111111111111111}, expect: mask, shows: {a: x}}",
        "expected a to show 'x', got '[redacted]'",
    ),
]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_bad(text: str, why: str) -> None:
    (result,) = results(f"- {text}")
    assert not result.ok
    assert result.why == why


def test_a_result_says_where_and_what() -> None:
    (one, two) = results("- {name: first, statement: drop t, expect: block}\n- {statement: drop t, expect: allow}")
    assert one == Result("first", "10.test.yaml:2", "block", "block", "no-drop", "rule no-drop")
    assert (two.name, two.where, two.expected, two.actual) == ("drop t", "10.test.yaml:3", "allow", "block")


def test_before_is_sent_first() -> None:
    policy_ = policy("rules: [{id: r, when: {count: 2}, do: block}, {id: a, do: allow}]")
    text = "tests: [{before: [read a, read b], statement: read c, expect: block, rule: r}]"
    assert run(policy_, [("a.test.yaml", text)], make)[0].ok


def test_files_of_other_names_are_left_out() -> None:
    assert run(RULES, [("a.yaml", "tests: [")], make) == ()
    assert TESTS == ".test.yaml"


REFUSED = [
    ("- {expect: block}", "test 1: has no message to judge"),
    ("- {statement: x}", "test 1: has no `expect`"),
    ("- {statement: x, expect: deny}", "test 1: expect: unknown value `deny`"),
    ("- {statement: x, request: {}, expect: block}", "test 1: both `statement` and `request`"),
    ("- {statement: x, identity: acne, expect: block}", "test 1: unknown identity `acne`"),
    ("- {statement: x, target: dbs, expect: block}", "test 1: unknown target `dbs`"),
    ("- {statement: x, rule: raeds, expect: block}", "test 1: unknown rule `raeds`"),
    ("- {name: n, statement: x, expcet: block}", "test 1: unknown field `expcet`"),
    ("- {request: {efect: x}, expect: block}", "test 1: request: unknown field `efect`"),
    ("- {statement: x, expect: block, process: {pid: 1}}", "test 1: process: unknown field `pid`"),
    ("- {statement: ' ', expect: block}", "test  : the statement asks for nothing"),
    ("- {statement: x, row: {a: [1]}, expect: block}", "test 1: row: expected one value"),
]


@pytest.mark.parametrize(("text", "what"), REFUSED)
def test_refused(text: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        results(text)
    assert caught.value.what == what
    assert caught.value.where == "10.test.yaml:2"
    assert caught.value.hint


def test_limit_max_tests() -> None:
    text = "tests:\n" + "- {statement: read t, expect: allow}\n" * (MAX_TESTS // 2 + 1)
    with pytest.raises(ConfigError, match=f"more than {MAX_TESTS} tests"):
        run(RULES, [("a.test.yaml", text), ("b.test.yaml", text)], make)
