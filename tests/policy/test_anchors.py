"""Rules found by the names they are about: none that could match is left out, whatever the names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts import Facts
from appliance.facts.words import PROTOCOLS
from appliance.model import Decision
from appliance.policy import Policy
from appliance.policy.anchors import Anchors
from appliance.policy.patterns import Names
from appliance.policy.policy import FEW
from appliance.policy.rule import Rule

from .given import ACME, DB, facts, policy

PIECE = st.sampled_from(["public", "t", "T", "u.v", "stra\u00dfe", "STRASSE", "?", "*", "a*", 'q"r', "\u0130", "i", ""])
QUOTED = PIECE.map(lambda piece: '"' + piece.replace('"', '""') + '"')
NAME = st.lists(PIECE | QUOTED, min_size=1, max_size=4).map(".".join) | st.text(max_size=6)
KEYS = ("table", "column", "function", "effect")


def rule(number: int, do: str, when: dict[str, list[str]]) -> Rule | None:
    try:
        tests = {key: Names(texts, PROTOCOLS["postgres"][key].parts) for key, texts in when.items()}
    except ValueError:
        return None
    return Rule(f"r{number}", do, when=tests)  # type: ignore[arg-type]


WHEN = st.dictionaries(st.sampled_from(KEYS), st.lists(NAME, min_size=1, max_size=3), max_size=2)
SAID = st.dictionaries(st.sampled_from(KEYS), st.frozensets(NAME, max_size=3), max_size=4)
RULES = st.lists(st.tuples(st.sampled_from(["block", "allow", "approve"]), WHEN), max_size=8)
PROTOCOL = st.sampled_from(["postgres", "postgres", "postgres", "redis", "odd"])


@settings(max_examples=300, deadline=None)
@given(RULES, PROTOCOL, SAID, st.frozensets(st.sampled_from(KEYS), max_size=1), st.booleans())
def test_no_rule_that_could_match_is_left_out(
    written: list[tuple[str, dict[str, list[str]]]],
    protocol: str,
    values: dict[str, frozenset[str]],
    unknown: frozenset[str],
    opaque: bool,
) -> None:
    rules = [made for number, (do, when) in enumerate(written) if (made := rule(number, do, when))]
    deciders = [(made, True) for made in rules]
    asked = Facts(protocol, values, unknown, opaque=opaque)
    found = list(Anchors(deciders).of(asked))
    assert [one for one in deciders if one in found] == found, "in order, each once"
    judge = Policy(rules)
    assert [made.id for made, _ in deciders if judge.matches(made, asked) is not False] == [
        made.id for made, _ in found if judge.matches(made, asked) is not False
    ]


MANY = "rules:\n" + "".join(
    f"  - {{id: r{n}, to: db, when: {{table: [public.t{n}]}}, do: block, reason: number {n}}}\n" for n in range(1000)
) + "  - {id: work, to: db, do: allow}\n"


@pytest.fixture(scope="module")
def many() -> Policy:
    return policy(MANY)


@pytest.mark.parametrize(
    ("table", "unknown", "by"),
    [
        ("public.t999", (), "r999"),
        ("PUBLIC.T7", (), "r7"),
        ("?.t7", (), "r7"),
        ("t7", (), "r7"),
        ("public.?", (), "r0"),
        ("public.*", (), "r0"),
        ("catalog.public.t7", (), "r7"),
        ("public.other", ("table",), "r0"),
        ("public.other", (), "work"),
    ],
)
def test_the_first_of_many_decides(many: Policy, table: str, unknown: tuple[str, ...], by: str) -> None:
    assert many.decide(ACME, DB, facts(*unknown, table=table, effect="read")).rule == by


def test_from_few_on_rules_that_are_not_asked_remember_nothing() -> None:
    many = policy(MANY)
    assert len(many.rules) > FEW
    for number in range(50):
        decision: Decision = many.decide(ACME, DB, facts(table=f"public.other{number}", effect="read"))
        assert decision.rule == "work"
    tests = [test for one in many.rules for test in one.when.values()]
    assert sum(len(test._seen) for test in tests if isinstance(test, Names)) == 0


def test_what_reacts_to_incidents_is_known_without_asking_all_rules() -> None:
    lines = ["id: a, do: block, on_incident: freeze", "id: b, do: block, on_incident: freeze, shadow: true", "id: c, do: block"]
    found = policy("rules:\n" + "".join(f"  - {{{line}, to: db, when: {{table: [public.{line[4]}]}}}}\n" for line in lines))
    assert list(found.reacting) == ["a"]
