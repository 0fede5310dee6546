"""Decisions: order, unknown, shadow, default, masks that block, and connections."""

import pytest

from appliance.facts import Facts
from appliance.model import Address, Approval, Place
from appliance.policy import Policy
from appliance.policy.policy import FEW, MAX_DECIDED, MAX_LETTERS, MAX_SCOPES, MAX_WORDS
from appliance.policy.rule import Target

from .given import ACME, DB, ELSEWHERE, facts, policy

PLAIN = """
rules:
  - {id: no-drop, who: acme, to: db, when: {effect: [drop, truncate]}, do: block, reason: not allowed}
  - {id: ask, to: db, when: {effect: schema}, do: approve, approvers: {group: dba, count: 2, within: 5m, reuse: session}}
  - {id: reads, to: db, when: {effect: [read, session]}, do: allow}
"""

CASES = [
    ("allow", "reads", facts(effect="read")),
    ("block", "no-drop", facts(effect=["read", "drop"])),
    ("block", "no-drop", facts(effect=["drop", "schema"])),  # first match
    ("approve", "ask", facts(effect=["read", "schema"])),
    ("block", "default", facts(effect=["read", "write"])),  # allow needs every value
    ("block", "default", facts()),  # and at least one
    ("block", "default", facts(table="public.t")),
    ("block", "no-drop", facts("effect", effect="read")),  # unknown matches block
    ("allow", "reads", facts("table", effect="read")),  # unknown in a key no rule asks for
]


@pytest.mark.parametrize(("verdict", "rule", "said"), CASES)
def test_verdicts(verdict: str, rule: str, said: Facts) -> None:
    decision = policy(PLAIN).decide(ACME, DB, said)
    assert (decision.verdict, decision.rule) == (verdict, rule)


def test_a_decision_says_rule_file_revision_reason() -> None:
    rules = policy(PLAIN)
    decision = rules.decide(ACME, DB, facts(effect="drop"))
    assert decision.file == "10.yaml:9"
    assert decision.revision == rules.revision != ""
    assert decision.reason == "not allowed"
    assert decision.unknown == ""
    assert decision.approval is None


def test_an_approval_carries_its_terms() -> None:
    decision = policy(PLAIN).decide(ACME, DB, facts(effect="schema"))
    assert decision.approval == Approval("dba", 2, 300.0, "session")


def test_default_is_block() -> None:
    assert Policy().decide((), DB, facts(effect="read")).verdict == "block"
    assert policy("").decide((), DB, facts(effect="read")).verdict == "block"


def test_default_allow_if_written() -> None:
    rules = policy("default: allow\n")
    decision = rules.decide((), DB, facts(effect="read"))
    assert (decision.verdict, decision.rule, decision.file) == ("allow", "default", "10.yaml:7")
    assert rules.admit((), DB).verdict == "allow"


def test_unknown_says_why() -> None:
    decision = policy(PLAIN).decide(ACME, DB, facts("effect"))
    assert (decision.rule, decision.unknown) == ("no-drop", "it cannot be told")


UNKNOWN = [("block", "block"), ("approve, approvers: {group: g}", "approve"), ("allow", "block")]


@pytest.mark.parametrize(("do", "verdict"), UNKNOWN)
def test_unknown_condition(do: str, verdict: str) -> None:
    rules = policy(f"rules: [{{id: r, when: {{table: public.t}}, do: {do}}}]")
    assert rules.decide((), DB, facts("table", table="public.t2")).verdict == verdict


@pytest.mark.parametrize(("do", "verdict"), UNKNOWN)
def test_unknown_process(do: str, verdict: str) -> None:
    rules = policy(f"rules: [{{id: r, who: acme, do: {do}}}]")
    for who in (("?",), ("?acme",)):
        assert rules.decide(who, DB, facts(effect="read")).verdict == verdict
    assert rules.decide(("acme-psql",), DB, facts(effect="read")).rule == "default"


@pytest.mark.parametrize(("do", "verdict"), UNKNOWN)
def test_unknown_protocol(do: str, verdict: str) -> None:
    rules = policy(f"rules: [{{id: r, when: {{effect: drop}}, do: {do}}}]")
    assert rules.decide((), ELSEWHERE, facts(protocol="")).verdict == verdict


def test_a_known_false_beats_an_unknown() -> None:
    rules = policy("rules: [{id: r, when: {effect: drop, table: t}, do: block}, {id: a, do: allow}]")
    assert rules.decide((), DB, facts("table", effect="read")).rule == "a"
    assert rules.decide((), DB, facts("table", effect="drop")).rule == "r"


def test_a_rule_that_allows_anything_allows_the_unknown() -> None:
    rules = policy("rules: [{id: a, do: allow}]")
    assert rules.decide((), DB, facts("effect", "table")).rule == "a"


def test_allow_needs_every_value_of_every_key() -> None:
    rules = policy("rules: [{id: a, when: {effect: read, table: public.*}, do: allow}]")
    assert rules.decide((), DB, facts(effect="read", table=["public.a", "public.b"])).rule == "a"
    assert rules.decide((), DB, facts(effect="read", table=["public.a", "secret.b"])).rule == "default"
    assert rules.decide((), DB, facts("table", effect="read", table=["public.a"])).rule == "default"


def test_shadow_only_notes() -> None:
    rules = policy(
        "rules:\n"
        "- {id: try-block, when: {effect: read}, do: block, shadow: true}\n"
        "- {id: try-allow, when: {effect: write}, do: allow, shadow: true}\n"
        "- {id: all, do: allow}\n"
    )
    decision = rules.decide((), DB, facts(effect="read"))
    assert (decision.verdict, decision.rule, decision.shadow) == ("allow", "all", ("try-block",))
    assert rules.decide((), DB, facts(effect="write")).shadow == ("try-allow",)


def test_shadow_of_a_mask_masks_nothing_and_is_noted() -> None:
    rules = policy("rules: [{id: m, when: {column: u.ssn}, do: mask, shadow: true}, {id: a, do: allow}]")
    assert not rules.masks((), DB)
    assert rules.decide((), DB, facts(effect="read", table="public.u", compared="public.u.ssn")).shadow == ("m",)
    assert rules.decide((), DB, facts(effect="read", table="public.v")).shadow == ()


MASK = "rules: [{id: m, when: {column: public.u.ssn}, do: mask%s}, {id: a, do: allow}]"

GUARDS = [
    ("", facts(table="public.u", column="public.u.ssn"), "allow"),
    ("", facts(table="public.u", compared="public.u.ssn"), "block"),
    ("", facts(table="public.u", compared="public.u.*"), "block"),
    ("", facts(table="public.u", compared="?.u.ssn"), "block"),
    ("", facts(table="public.u", compared="public.u.id"), "allow"),
    ("", facts("compared", table="public.u"), "block"),
    ("", facts("compared", table="public.v"), "allow"),
    ("", facts("compared", "table"), "block"),
    ("", facts(table="public.u", copied="public.u.ssn"), "block"),
    ("", facts("copied", table="public.u"), "block"),
    (", compare: allow", facts(table="public.u", compared="public.u.ssn"), "allow"),
    (", compare: block", facts(table="public.u", compared="public.u.ssn"), "block"),
    (", compare: allow", facts(table="public.u", copied="public.u.ssn"), "block"),
]


@pytest.mark.parametrize(("more", "said", "verdict"), GUARDS)
def test_a_mask_blocks_what_carries_its_columns_past_it(more: str, said: Facts, verdict: str) -> None:
    decision = policy(MASK % more).decide((), DB, said)
    assert decision.verdict == verdict
    assert decision.rule == ("m" if verdict == "block" else "a")
    if verdict == "block":
        assert "masked by m" in decision.reason


def test_a_mask_blocks_also_what_would_be_asked() -> None:
    rules = policy(
        "rules: [{id: m, when: {column: u.ssn}, do: mask}, {id: a, when: {effect: read}, do: approve, approvers: {group: g}}]"
    )
    assert rules.decide((), DB, facts(effect="read", table="public.u", copied="public.u.ssn")).rule == "m"


def test_a_mask_for_others_guards_nothing_here() -> None:
    rules = policy("rules: [{id: m, who: acme, when: {column: u.ssn}, do: mask}, {id: a, do: allow}]")
    said = facts(effect="read", table="public.u", compared="public.u.ssn")
    assert rules.decide(("acme-psql",), DB, said).verdict == "allow"
    assert rules.decide(("?",), DB, said).verdict == "block"


def test_detect_in_a_statement() -> None:
    rules = policy("rules: [{id: d, when: {detect: credit_card}, do: block}, {id: a, do: allow}]")
    card = "4111 1111 1111 1111"
    assert rules.decide((), DB, facts(text=["select 1", f"insert into t values ('{card}')"])).rule == "d"
    assert rules.decide((), DB, facts(subject=f"insert into t values ($1) [{card}]")).rule == "d"
    assert rules.decide((), DB, facts(text="select 1")).rule == "a"
    assert rules.decide((), DB, facts("text")).rule == "d"
    assert rules.decide((), DB, facts(protocol="", text=card)).rule == "d"


@pytest.mark.parametrize(("protocol", "text"), [
    ("postgres", r"select E'\x34\x31111111 1111 1111'"),
    ("postgres", "select '4111' || '1111' || '1111' || '1111'"),
    ("mysql", "select '4111' '1111' '1111' '1111'"),
    ("mysql", "select 0x34313131313131313131313131313131"),
])  # fmt: skip
def test_detect_what_constants_denote(protocol: str, text: str) -> None:
    rules = policy("rules: [{id: d, when: {detect: credit_card}, do: block}, {id: a, do: allow}]")
    assert rules.decide((), DB, facts(protocol=protocol, text=text)).rule == "d"
    assert rules.decide((), DB, facts(protocol=protocol, text=text.replace("1", "2"))).rule == "a"


def test_count() -> None:
    rules = policy("rules: [{id: one, when: {count: {gt: 1}}, do: block}, {id: a, do: allow}]")
    assert rules.decide((), DB, facts(count="1")).rule == "a"
    assert rules.decide((), DB, facts(count="2")).rule == "one"


ADMIT = [
    ("[{id: a, to: db, do: allow}]", "allow", "a"),
    ("[{id: a, to: db, when: {effect: read}, do: allow}]", "allow", "a"),
    ("[{id: a, to: db, do: approve, approvers: {group: g}}]", "allow", "a"),
    ("[{id: b, to: db, do: block}, {id: a, do: allow}]", "block", "b"),
    ("[{id: b, to: db, when: {effect: drop}, do: block}, {id: a, do: allow}]", "allow", "a"),
    ("[{id: b, to: db, do: block, shadow: true}, {id: a, do: allow}]", "allow", "a"),
    ("[{id: a, to: 203.0.113.0/24, do: allow}]", "block", "default"),
    ("[{id: a, do: allow, shadow: true}]", "block", "default"),
    ("[{id: m, when: {column: c}, do: mask}]", "block", "default"),
]


@pytest.mark.parametrize(("text", "verdict", "rule"), ADMIT)
def test_admit(text: str, verdict: str, rule: str) -> None:
    decision = policy(f"rules: {text}").admit((), DB)
    assert (decision.verdict, decision.rule) == (verdict, rule)


def test_admit_is_not_sure_of_a_process() -> None:
    assert policy("rules: [{id: a, who: acme, do: allow}]").admit(("?",), DB).verdict == "block"
    assert policy("rules: [{id: b, who: acme, do: block}, {id: a, do: allow}]").admit(("?",), DB).rule == "b"


RAW = "{id: raw, to: 10.0.3.2, do: allow, inspect: false}"
PASSES = [
    (f"[{RAW}]", True),
    (f"[{{id: b, when: {{effect: drop}}, do: block}}, {RAW}]", False),
    (f"[{{id: b, to: 10.9.9.9, when: {{effect: drop}}, do: block}}, {RAW}]", True),
    (f"[{{id: a, when: {{effect: read}}, do: allow}}, {RAW}]", False),
    (f"[{{id: b, who: acme, do: block}}, {RAW}]", True),
    (f"[{{id: m, to: 203.0.113.9, when: {{column: c}}, do: mask}}, {RAW}]", True),
    (f"[{{id: m, who: acme, when: {{column: c}}, do: mask}}, {RAW}]", True),
    (f"[{{id: m, to: db, when: {{column: c}}, do: mask}}, {RAW}]", False),
    ("[{id: raw, to: 10.0.3.2, do: allow, inspect: false, shadow: true}]", False),
    ("[{id: raw, to: 10.0.3.2, do: allow}]", False),
]


@pytest.mark.parametrize(("text", "raw"), PASSES)
def test_passes(text: str, raw: bool) -> None:
    decision = policy(f"rules: {text}").passes(("acme-psql",), DB)
    assert (decision is not None) is raw
    if decision:
        assert (decision.verdict, decision.rule) == ("allow", "raw")


def test_passes_only_who_it_is_sure_of() -> None:
    rules = policy("rules: [{id: raw, who: acme, to: 10.0.3.2, do: allow, inspect: false}]")
    assert rules.passes(("acme",), DB)
    assert rules.passes(("?",), DB) is None
    assert rules.passes(("?acme",), DB) is None


def test_limit_max_scopes() -> None:
    rules = policy("")
    for i in range(MAX_SCOPES + 5):
        rules.admit((str(i),), DB)
        rules.target(Address(DB.host, i))
    assert len(rules._scopes) <= MAX_SCOPES and len(rules._found) <= MAX_SCOPES


def test_places_that_the_same_rules_are_about_share_one_scope() -> None:
    """A vendor may connect to as many places as there are ports, and each worker had 0.4 MB for each of them."""
    many = "".join(f"  - {{id: r{n}, when: {{table: t{n}}}, do: block}}\n" for n in range(1000))
    rules = policy(f"rules:\n{many}  - {{id: here, to: db, do: allow}}\n")
    scopes = {id(rules._scope(ACME, Place("10.9.0.1", port))) for port in range(100)}
    assert len(scopes) == 1
    assert rules._scope(ACME, DB) is not rules._scope(ACME, ELSEWHERE) is rules._scope(("other",), ELSEWHERE)
    assert rules._scope(("?",), DB) is rules._scope(ACME, DB), "no rule asks who it is"


def test_a_target_of_many_rules_is_asked_once_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 rules took 2 ms for each new place, and a vendor may go to 1,000 a second."""
    many = "".join(f"  - {{id: r{n}, to: db, when: {{table: t{n}}}, do: block}}\n" for n in range(50))
    rules = policy(f"rules:\n{many}  - {{id: reads, to: db, when: {{effect: read}}, do: allow}}\n")
    asked: list[Address] = []
    plain = Target.holds

    def holds(self: Target, server: Address, anyhow: bool = False) -> bool:
        asked.append(server)
        return plain(self, server, anyhow)

    monkeypatch.setattr(Target, "holds", holds)
    assert len(rules._scope(ACME, DB).deciders) == 51
    assert rules._scope(ACME, ELSEWHERE).deciders == ()
    assert len(asked) == 4, "for a block in any transport, and else: twice for each place"


def test_an_identity_in_doubt_has_another_scope() -> None:
    rules = policy("rules: [{id: a, who: acme, do: allow}]")
    scopes = [rules._scope(who, DB).deciders for who in (("acme",), ("?acme",), ())]
    assert [[sure for _, sure in deciders] for deciders in scopes] == [[True], [False], []]


def test_limit_max_letters() -> None:
    rules = policy("rules:\n" + "".join(f"  - {{id: r{n}, when: {{table: t{n}}}, do: block}}\n" for n in range(FEW)))
    for letters in (MAX_LETTERS, MAX_LETTERS + 1):
        assert rules.decide(ACME, DB, facts(table="t" * letters)).verdict == "block"
    assert len(rules._decided) == 1


NAMED = [("effect: drop", False), ("table: t", True), ("function: f", True), ("user: u", False)]


@pytest.mark.parametrize(("when", "names"), NAMED)
def test_names_things_of_the_schema(when: str, names: bool) -> None:
    rules = policy(f"rules: [{{id: a, to: db, when: {{{when}}}, do: block}}, {{id: b, do: allow}}]")
    assert rules.names((), DB) is names
    assert rules.names((), ELSEWHERE) is False


def test_a_mask_names_its_columns() -> None:
    assert policy("rules: [{id: m, when: {column: c}, do: mask, shadow: true}]").names((), DB)


def many(last: str) -> Policy:
    """Enough rules that decisions are remembered."""
    rules = "".join(f"- {{id: r{i}, when: {{table: public.t{i}, effect: write}}, do: block}}\n" for i in range(FEW))
    return policy(f"rules:\n{rules}{last}")


def test_remembered_decisions_are_those_of_judging_anew() -> None:
    rules = many("- {id: m, when: {column: public.u.ssn}, do: mask}\n- {id: a, who: acme, do: allow}")
    asked = [
        facts(effect="write", table="public.t3"),
        facts("table", effect="write"),
        facts("effect", effect="write"),
        facts("effect", table="public.t3"),
        facts(effect="read", table="public.u", compared="public.u.ssn"),
        facts(effect="read", table="public.u", copied="public.u.ssn"),
        facts("compared", effect="read", table="public.u"),
        facts(effect="read", table="public.u"),
        facts(effect="read", table="public.v"),
        facts(protocol="", effect="read", table="public.v"),
    ]
    for _ in range(2):
        for who in (ACME, ("?",), ()):
            for said in asked:
                assert rules.decide(who, DB, said) == rules._judge(rules._scope(who, DB), said)
    assert len(rules._decided) == 3 * len(asked)


def test_a_detector_is_asked_each_time() -> None:
    rules = many("- {id: d, when: {detect: email}, do: block}\n- {id: a, do: allow}")
    assert rules.decide((), DB, facts(text="x")).rule == "a"
    assert rules.decide((), DB, facts(text="a@b.co")).rule == "d"


def test_limit_max_decided() -> None:
    rules = many("")
    for i in range(MAX_DECIDED + 5):
        rules.decide((), DB, facts(table=f"public.x{i}"))
    assert len(rules._decided) <= MAX_DECIDED


def test_limit_max_words() -> None:
    rules = many("")
    rules.decide((), DB, facts(table=[f"public.x{i}" for i in range(MAX_WORDS)]))
    assert len(rules._decided) == 1
    rules.decide((), DB, facts(table=[f"public.x{i}" for i in range(MAX_WORDS + 1)]))
    assert len(rules._decided) == 1
