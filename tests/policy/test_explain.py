"""Why a decision is what it is."""

from appliance.policy import Step, explain

from .given import ACME, DB, ELSEWHERE, facts, policy

TEXT = """
rules:
  - {id: psql, who: acme-psql, do: block}
  - {id: drop, to: db, when: {effect: drop}, do: block}
  - {id: hide, when: {column: u.ssn}, do: mask}
  - {id: reads, when: {effect: read}, do: allow}
  - {id: last, when: {effect: write}, do: allow}
"""


def steps(*unknown: str, server: object = DB, **values: str) -> dict[str, Step]:
    found = explain(policy(TEXT), ACME, server, facts(*unknown, **values))  # type: ignore[arg-type]
    assert [s.rule for s in found] == ["psql", "drop", "hide", "reads", "last", "default"]
    assert sum(s.decides for s in found) == 1
    return {s.rule: s for s in found}


def test_each_rule_says_why() -> None:
    said = steps(effect="read", table="public.t")
    assert {r: s.outcome for r, s in said.items()} == {
        "psql": "no match",
        "drop": "no match",
        "hide": "no match",
        "reads": "match",
        "last": "not reached",
        "default": "not reached",
    }
    assert said["reads"].decides
    assert said["psql"].why == "who: acme-psql, not acme"
    assert said["drop"].why == "effect does not hold: read against drop"
    assert said["hide"].why == "the statement touches no relation it protects"
    assert said["drop"].where == "10.yaml:10"


def test_unknown_is_named() -> None:
    said = steps("effect", effect="read")
    assert said["drop"].outcome == "unknown"
    assert said["drop"].decides
    assert "unknown: read and more (it cannot be told) against drop" in said["drop"].why
    assert said["drop"].why.endswith("unknown matches for block")
    assert steps("effect", server=ELSEWHERE, effect="read")["reads"].why.endswith("unknown does not match for allow")


def test_a_mask_that_blocks_decides() -> None:
    said = steps(effect="read", table="public.u", compared="public.u.ssn")
    assert said["hide"].decides
    assert "compared" in said["hide"].why
    assert (said["reads"].outcome, said["reads"].decides) == ("match", False)


def test_the_default_decides() -> None:
    said = steps(effect="truncate", server=ELSEWHERE)
    assert said["default"].decides
    assert said["drop"].why == "to: db is not 203.0.113.9:443"
