"""Rules files: errors as an operator sees them, merging, limits, and what is accepted."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.config import rules
from appliance.config.conditions import MAX_VALUES
from appliance.config.rules import MAX_APPROVERS, MAX_PATTERNS, MAX_REASON, MAX_RULES
from appliance.facts.words import PROTOCOLS
from appliance.facts.words.postgres import EFFECTS, KEYS, TAGS
from appliance.model import Approval, ConfigError
from appliance.policy import Method
from tests.policy.given import NAMES, policy, resolve

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.yaml"))

DESIGN = """
identities:
  acme:       {cgroup: acme.service}                  # below the slice; globs allowed
  acme-psql:  {cgroup: acme.service, exe: /usr/bin/psql}
targets:
  orders-db:  {protocol: postgres, address: ["10.0.3.2:5432", "db.internal:5432"]}
rules:
  - id: no-destructive
    who: acme
    to: orders-db
    when: {effect: [drop, truncate]}
    do: block
    reason: destructive statements are not allowed
  - id: schema-needs-a-dba
    to: orders-db
    when: {effect: schema}
    do: approve
    approvers: {group: dba, count: 1, within: 10m, reuse: once}   # once | session | 30m
  - id: hide-ssn
    to: orders-db
    when: {column: [public.users.ssn, public.users.email]}
    do: mask
    with: keep-last-4          # redact | keep-last-4 | hash | null | fixed: "..."
  - id: cards-anywhere
    when: {detect: [credit_card]}
    do: mask
    with: redact
  - {id: reads, to: orders-db, when: {effect: [read, session]}, do: allow}
default: block
"""


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_errors(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        rules([("rules.d/10-db.yaml", path.read_text())], resolve)
    assert str(caught.value) + "\n" == path.with_suffix(".txt").read_text()
    assert caught.value.hint


def test_what_a_hint_shows_is_taken() -> None:
    for protocol, keys in PROTOCOLS.items():
        for name, key in keys.items():
            if key.form:
                text = f'rules: [{{id: a, when: {{{name}: "{key.example}"}}, do: block}}]'
                assert rules([("r.yaml", text)], resolve).rules[0].when[name].texts == (key.example,), protocol


def test_the_example_of_the_design() -> None:
    made = rules([("rules.d/10-db.yaml", DESIGN)], resolve)
    assert [r.id for r in made.rules] == ["no-destructive", "schema-needs-a-dba", "hide-ssn", "cards-anywhere", "reads"]
    assert made.default == "block"
    assert made.rules[1].approval == Approval("dba", 1, 600.0, "once")
    assert made.rules[2].method == Method("keep-last-4")
    assert made.rules[0].where == "rules.d/10-db.yaml:8"


def test_no_files_block_everything() -> None:
    assert rules([], resolve).default == "block"
    assert rules([("a.yaml", "")], resolve).rules == ()


def test_approval_defaults_by_name() -> None:
    made = policy("rules: [{id: a, do: approve, approvers: {group: dba}}]")
    assert made.rules[0].approval == Approval(group="dba", count=1, within_s=600.0, reuse="once")


REUSE = [("once", "once"), ("session", "session"), ("30m", "1800")]


@pytest.mark.parametrize(("said", "kept"), REUSE)
def test_reuse(said: str, kept: str) -> None:
    made = policy(f"rules: [{{id: a, do: approve, approvers: {{group: dba, reuse: {said}}}}}]")
    assert made.rules[0].approval is not None
    assert made.rules[0].approval.reuse == kept


METHODS = [
    ("", Method("redact")),
    (", with: redact", Method("redact")),
    (", with: keep-last-4", Method("keep-last-4")),
    (", with: hash", Method("hash")),
    (", with: null", Method("null")),
    (", with: 'null'", Method("null")),
    (", with: {fixed: n/a}", Method("fixed", "n/a")),
    (", with: {fixed: ''}", Method("fixed", "")),
    (", with: {fixed: 0}", Method("fixed", "0")),
]


@pytest.mark.parametrize(("said", "method"), METHODS)
def test_methods(said: str, method: Method) -> None:
    assert policy(f"rules: [{{id: a, when: {{column: c}}, do: mask{said}}}]").rules[0].method == method


def test_words_yaml_would_take_for_something_else() -> None:
    made = rules([("a.yaml", "identities: {on: {exe: /x}, 1: {uid: 1}}\nrules: [{id: no, who: [on, 1], do: block}]")], resolve)
    assert made.rules[0].id == "no"
    assert made.rules[0].who == ("on", "1")


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_the_table_can_be_written(key: str) -> None:
    word = KEYS[key].words[0] if KEYS[key].words else "1"
    made = policy(f"rules: [{{id: a, when: {{{key}: {word}}}, do: block}}]")
    assert list(made.rules[0].when) == [key]


@pytest.mark.parametrize("word", [*EFFECTS, "*", "dr*"])
def test_every_effect_can_be_written(word: str) -> None:
    assert policy(f"rules: [{{id: a, when: {{effect: '{word}'}}, do: block}}]").rules


def test_tags_are_written_as_the_server_writes_them() -> None:
    assert len(TAGS) == len(set(TAGS))
    assert {"SELECT", "CREATE TABLE", "DROP MATERIALIZED VIEW", "TRUNCATE TABLE", "ALTER SYSTEM"} <= set(TAGS)
    assert policy("rules: [{id: a, when: {statement: [SELECT, 'CREATE *']}, do: block}]").rules


def test_files_are_read_in_the_order_of_their_names() -> None:
    one = ("10-a.yaml", "rules: [{id: a, who: acme, do: block}]")
    two = ("20-b.yaml", "identities: {acme: {cgroup: acme.service}}\nrules: [{id: b, do: allow}]")
    for files in ([one, two], [two, one]):
        made = rules(files, resolve)
        assert [r.id for r in made.rules] == ["a", "b"]
        assert [r.file for r in made.rules] == ["10-a.yaml", "20-b.yaml"]
    assert rules([one, two], resolve).revision == rules([two, one], resolve).revision


TWICE = [
    ("rules: [{id: a, do: block}]", "rule `a` is defined twice", "20.yaml:1", "10.yaml:1"),
    ("identities: {a: {uid: 1}}", "identity `a` is defined twice", "20.yaml:1", "10.yaml:1"),
    ("targets: {a: {address: 10.0.0.1}}", "target `a` is defined twice", "20.yaml:1", "10.yaml:1"),
    ("patterns: {a: xyz}", "pattern `a` is defined twice", "20.yaml:1", "10.yaml:1"),
    ("default: block", "`default` is written twice", "20.yaml:1", "10.yaml:1"),
]


@pytest.mark.parametrize(("text", "what", "where", "first"), TWICE)
def test_the_same_name_in_two_files(text: str, what: str, where: str, first: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules([("10.yaml", text), ("20.yaml", text)], resolve)
    assert (caught.value.where, caught.value.what, caught.value.hint) == (where, what, f"the first is at {first}")


def test_revision_is_over_all_files_and_names() -> None:
    base = [("d/a.yaml", "default: block"), ("d/b.yaml", "")]
    seen = {
        rules(files, resolve).revision
        for files in (base, [("d/a.yaml", "default: block "), base[1]], [base[0], ("d/c.yaml", "")], base[:1])
    }
    assert len(seen) == 4
    assert rules(base, resolve).revision == rules([("e/a.yaml", "default: block"), ("e/b.yaml", "")], resolve).revision


def test_test_files_are_no_rules_files() -> None:
    assert rules([("a.test.yaml", "tests: []")], resolve).rules == ()
    assert rules([("a.test.yaml", "x")], resolve).revision == rules([], resolve).revision


RESOLVERS = [lambda host: [], lambda host: ["nonsense"], lambda host: (_ for _ in ()).throw(OSError("down"))]


@pytest.mark.parametrize("resolver", RESOLVERS)
def test_a_name_that_does_not_resolve(resolver) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"name `db.internal` does not resolve"):
        rules([("a.yaml", "targets: {a: {address: 'db.internal:1'}}")], resolver)


def test_a_name_is_resolved_once() -> None:
    asked: list[str] = []

    def once(host: str) -> list[str]:
        asked.append(host)
        return ["10.0.0.1"]

    rules([("a.yaml", "targets: {a: {address: ['h:1', 'h:2']}, b: {address: 'h:3'}}")], once)
    assert asked == ["h"]


NOT_HIDDEN = {
    "an allow with conditions hides no block": "{id: a, when: {effect: read}, do: allow}, {id: b, when: {effect: read}, do: block}",
    "narrower who": "{id: a, who: acme-psql, do: block}, {id: b, who: acme, do: block}",
    "no who behind who": "{id: a, who: acme, do: block}, {id: b, do: block}",
    "narrower to": "{id: a, to: db, do: block}, {id: b, to: 10.0.0.0/8, do: block}",
    "other port": "{id: a, to: '10.0.3.2:80', do: block}, {id: b, to: '10.0.3.2:81', do: block}",
    "fewer words": "{id: a, when: {effect: drop}, do: block}, {id: b, when: {effect: [drop, truncate]}, do: block}",
    "another key": "{id: a, when: {effect: drop}, do: block}, {id: b, when: {table: t}, do: block}",
    "more keys": "{id: a, when: {effect: drop, table: t}, do: block}, {id: b, when: {effect: drop}, do: block}",
    "shadow hides nothing": "{id: a, do: block, shadow: true}, {id: b, do: block}",
    "mask hides nothing": "{id: a, when: {column: c}, do: mask}, {id: b, when: {column: c}, do: block}",
    "a qualified name is not any schema's": "{id: a, when: {table: public.t}, do: block}, {id: b, when: {table: t}, do: block}",
    "numbers": "{id: a, when: {count: {gt: 2}}, do: block}, {id: b, when: {count: {gt: 1}}, do: block}",
    "detect": "{id: a, when: {detect: email}, do: block}, {id: b, when: {detect: [email, ssn]}, do: block}",
    "detect and more": "{id: a, when: {detect: email, effect: read}, do: block}, {id: b, when: {detect: email}, do: block}",
}
HIDDEN = {
    "all": "{id: a, do: allow}, {id: b, when: {effect: drop}, do: block}",
    "same allow": "{id: a, when: {effect: [read, session]}, do: allow}, {id: b, when: {effect: read}, do: allow}",
    "block before allow": "{id: a, when: {effect: drop}, do: block}, {id: b, when: {effect: drop}, do: allow}",
    "wider name": "{id: a, when: {table: public.*}, do: block}, {id: b, when: {table: public.t}, do: block}",
    "wider begin": "{id: a, when: {table: 'public.tmp_*'}, do: block}, {id: b, when: {table: public.tmp_a}, do: block}",
    "any schema": "{id: a, when: {table: t}, do: block}, {id: b, when: {table: public.t}, do: block}",
    "places together": "{id: a, to: [10.0.0.0/8, 'fd00::/8'], do: block}, {id: b, to: ['fd00::1:0/112', db], do: allow}",
    "network": "{id: a, to: 10.0.0.0/8, do: block}, {id: b, to: db, do: block}",
    "target by its address": "{id: a, to: '10.0.3.2:5432', do: block}, {id: b, to: db, do: allow}",
    "who of several": "{id: a, who: [acme, acme-psql], do: block}, {id: b, who: acme, do: allow}",
    "who with fewer keys": "{id: a, who: acme, do: block}, {id: b, who: acme-psql, do: allow}",
    "numbers": "{id: a, when: {count: {gt: 1}}, do: block}, {id: b, when: {count: 3}, do: block}",
    "detect": "{id: a, when: {detect: [email, ssn]}, do: block}, {id: b, when: {detect: email}, do: block}",
    "behind one that names something else": "{id: z, when: {table: q}, do: block}, {id: a, when: {effect: drop}, do: block},"
    " {id: b, when: {effect: drop}, do: block}",
    "even in shadow": "{id: a, do: allow}, {id: b, do: block, shadow: true}",
}


@pytest.mark.parametrize("name", NOT_HIDDEN)
def test_not_hidden(name: str) -> None:
    assert len(policy(f"rules: [{NOT_HIDDEN[name]}]").rules) == 2


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden(name: str) -> None:
    with pytest.raises(ConfigError, match="rule b: can never take effect: a "):
        policy(f"rules: [{HIDDEN[name]}]")


def test_a_key_of_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "other", {"user": KEYS["user"]})
    text = NAMES.replace("protocol: postgres", "protocol: other")
    with pytest.raises(ConfigError, match="`effect` is not a condition of other"):
        rules([("a.yaml", text + "rules: [{id: a, to: db, when: {effect: read}, do: block}]")], resolve)
    assert rules([("a.yaml", text + "rules: [{id: a, to: db, when: {user: x}, do: block}]")], resolve).rules


def test_a_key_that_means_different_things_needs_to_know_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "other", {"table": replace(KEYS["table"], parts=1)})
    with pytest.raises(ConfigError, match="table: means different things in different protocols"):
        policy("rules: [{id: a, when: {table: x}, do: block}]")


def many(rule: str, count: int) -> str:
    return NAMES + "rules:\n" + "".join(f"  - {{id: r{i}, who: acme, to: db, do: block, when: {{{rule % i}}}}}\n" for i in range(count))


SHAPES = ["effect: [read, write], table: public.t%d", "effect: read, table: 'public.t%d_*'", "table: '*.x%d'", "count: %d"]


def networks(count: int) -> str:
    rule = "- {{id: r{0}, to: 10.{1}.{2}.0/24, do: block}}\n"
    return "rules:\n" + "".join(rule.format(i, i // 250, i % 250) for i in range(count))


def test_the_cost_of_rules_of_networks_grows_as_they_do() -> None:
    _grows_as_they_do(networks)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_of_rules_grows_as_they_do(shape: str) -> None:
    _grows_as_they_do(lambda count: many(shape, count))


def _grows_as_they_do(text: Callable[[int], str]) -> None:
    """Comparing all pairs would cost 16 times as much for four times as many; tests/bench has the seconds."""
    few, lots = (min(_seconds(text(count)) for _ in range(3)) for count in (300, 1200))
    assert lots < 9 * few


def _seconds(text: str) -> float:
    """Return the processor's time, which others on the machine do not change."""
    began = time.process_time()
    rules([("a.yaml", text)], resolve)
    return time.process_time() - began


def test_limit_max_rules() -> None:
    rule = "- &r{0} {{id: r{0}, to: 10.{1}.{2}.1, do: block}}\n"
    text = "rules:\n" + "".join(rule.format(i, i // 250, i % 250) for i in range(MAX_RULES + 1))
    half = text.index(f"- &r{MAX_RULES // 2} ")
    files = [("a.yaml", text[:half]), ("b.yaml", "rules:\n" + text[half:])]
    with pytest.raises(ConfigError, match=f"more than {MAX_RULES} rules"):
        rules(files, resolve)


def test_limit_max_values() -> None:
    with pytest.raises(ConfigError, match=f"more than {MAX_VALUES} values"):
        policy(f"rules: [{{id: a, when: {{table: [{', '.join(f't{i}' for i in range(MAX_VALUES + 1))}]}}, do: block}}]")


def test_limit_max_patterns() -> None:
    text = "patterns:\n" + "".join(f"  p{i}: x{i}\n" for i in range(MAX_PATTERNS + 1))
    with pytest.raises(ConfigError, match=f"more than {MAX_PATTERNS} patterns"):
        rules([("a.yaml", text)], resolve)


def test_limit_max_reason() -> None:
    assert policy(f"rules: [{{id: a, do: block, reason: {'x' * MAX_REASON}}}]").rules
    with pytest.raises(ConfigError, match=f"longer than {MAX_REASON}"):
        policy(f"rules: [{{id: a, do: block, reason: {'x' * (MAX_REASON + 1)}}}]")


def test_limit_max_approvers() -> None:
    with pytest.raises(ConfigError, match="not a whole number"):
        policy(f"rules: [{{id: a, do: approve, approvers: {{group: g, count: {MAX_APPROVERS + 1}}}}}]")


def test_patterns_of_operators_are_detectors() -> None:
    made = policy("patterns: {emp-id: 'E[0-9]{6}'}\nrules: [{id: a, when: {detect: [emp-id, email]}, do: block}]")
    assert made.rules[0].detect == ("emp-id", "email")
    assert made.patterns == {"emp-id": "E[0-9]{6}"}
