"""What holds for every set of facts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts import Facts
from appliance.facts.words.postgres import EFFECTS
from appliance.facts.words.postgres import KEYS as POSTGRES

from .given import DB, policy

RULES = policy(
    """
rules:
  - {id: m, when: {column: [public.u.ssn]}, do: mask}
  - {id: s, when: {function: "pg_*"}, do: block, shadow: true}
  - {id: b, when: {effect: [drop, truncate], table: public.*}, do: block}
  - {id: q, who: acme, when: {effect: schema}, do: approve, approvers: {group: g}}
  - {id: n, when: {count: {gt: 3}}, do: block}
  - {id: d, when: {detect: email}, do: block}
  - {id: a1, when: {effect: [read, session], table: [public.*, app.*]}, do: allow}
  - {id: a2, who: acme, when: {effect: [read, write], user: "app*"}, do: allow}
"""
)

NAMES = st.sampled_from(
    ["public.u", "app.t", "?.u", "public.u.ssn", "public.u.*", "x", "a.b.c.d", "*", "?", "", '"', "a@b.co", "pg_sleep", "5"]
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        key: st.frozensets(st.sampled_from(EFFECTS) if key == "effect" else NAMES | st.text(max_size=8), max_size=3)
        for key in (*POSTGRES, "text", "odd")
    },
)
UNKNOWN = st.frozensets(st.sampled_from((*POSTGRES, "text", "odd")), max_size=3)
WHO = st.sampled_from([(), ("acme",), ("?",), ("?acme",), ("acme-psql", "acme")])
PROTOCOL = st.sampled_from(["postgres", "", "redis"])
ORDER = {"block": 0, "approve": 1, "allow": 2}


@settings(max_examples=400, deadline=None)
@given(WHO, PROTOCOL, VALUES, UNKNOWN, st.text(max_size=20))
def test_decide_never_raises(
    who: tuple[str, ...], protocol: str, values: dict[str, frozenset[str]], unknown: frozenset[str], subject: str
) -> None:
    decision = RULES.decide(who, DB, Facts(protocol, values, unknown, subject=subject))
    assert decision.verdict in ORDER
    assert decision.rule == "default" or decision.rule in {r.id for r in RULES.rules}


@settings(max_examples=400, deadline=None)
@given(WHO, PROTOCOL, VALUES, UNKNOWN, st.sampled_from((*POSTGRES, "text")))
def test_knowing_less_never_allows(
    who: tuple[str, ...], protocol: str, values: dict[str, frozenset[str]], unknown: frozenset[str], key: str
) -> None:
    sure = RULES.decide(who, DB, Facts(protocol, values, unknown))
    less = RULES.decide(who, DB, Facts(protocol, values, unknown | {key}))
    assert not (less.verdict == "allow" and sure.verdict != "allow")


@settings(max_examples=200, deadline=None)
@given(PROTOCOL, VALUES, UNKNOWN)
def test_a_process_in_doubt_is_never_allowed_more(
    protocol: str, values: dict[str, frozenset[str]], unknown: frozenset[str]
) -> None:
    facts = Facts(protocol, values, unknown)
    doubt = RULES.decide(("?",), DB, facts)
    for who in ((), ("acme",)):
        assert ORDER[doubt.verdict] <= max(ORDER[RULES.decide(w, DB, facts).verdict] for w in (who, ("acme",)))


@settings(max_examples=200, deadline=None)
@given(WHO, VALUES, UNKNOWN)
def test_masks_touch_when_in_doubt(
    who: tuple[str, ...], values: dict[str, frozenset[str]], unknown: frozenset[str]
) -> None:
    masks = RULES.masks(who, DB)
    facts = Facts("postgres", values, unknown)
    if masks.touches(facts):
        assert masks.redacts(facts)
    assert masks.touches(Facts("postgres", values, unknown | {"table"}))
