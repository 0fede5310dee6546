"""Why a message is judged as it is: each rule in order, and what of it did or did not hold."""

from typing import Literal

import msgspec

from appliance.facts import Facts
from appliance.facts.words import CELLS
from appliance.model import Address
from appliance.policy.policy import Policy, about
from appliance.policy.rule import Rule

Outcome = Literal["match", "no match", "unknown", "not reached"]


class Step(msgspec.Struct, frozen=True):
    """One rule. `decides` marks the one whose verdict it is."""

    rule: str
    do: str
    where: str
    outcome: Outcome
    why: str
    shadow: bool = False
    decides: bool = False


def explain(policy: Policy, who: tuple[str, ...], server: Address, facts: Facts) -> list[Step]:
    """Return every rule as a step, then the default; exactly one step decides."""
    decision = policy.decide(who, server, facts)
    steps: list[Step] = []
    reached = True
    for rule in policy.rules:
        outcome, why = _outcome(policy, rule, who, server, facts)
        decides = decision.rule == rule.id
        if rule.do != "mask" and not reached:
            outcome, why = "not reached", "a rule before it decided"
        if decides and rule.do == "mask":
            why = decision.reason
        if decides and rule.do != "mask":
            reached = False
        steps.append(Step(rule.id, rule.do, rule.where, outcome, why, rule.shadow, decides))
    last = decision.rule == "default"
    why = decision.reason if last else "a rule before it decided"
    where = decision.file if last else ""
    steps.append(Step("default", policy.default, where, "match" if last else "not reached", why, False, last))
    return steps


def _outcome(
    policy: Policy, rule: Rule, who: tuple[str, ...], server: Address, facts: Facts
) -> tuple[Outcome, str]:
    known = policy.who(rule, who)
    if known is False:
        return "no match", f"who: {' '.join(rule.who)}, not {' '.join(who) or 'any known identity'}"
    if not about(rule, server):
        return "no match", f"to: {' '.join(t.name for t in rule.to)} is not {server}"
    answer = policy.matches(rule, facts)
    if rule.do == "mask" and answer is not False and not policy.touched(rule, facts):
        return "no match", "the statement touches no relation it protects"
    reasons = [_condition(policy, rule, key, facts) for key in rule.when]
    if rule.detect:
        reasons.append(f"detect: {' '.join(rule.detect)}")
    if known is None:
        reasons.insert(0, "who: not certain")
    why = "; ".join(reasons) or "no conditions"
    if answer is False:
        return "no match", why
    if answer is None or known is None:
        treated = "does not match for allow" if rule.do == "allow" else f"matches for {rule.do}"
        return "unknown", f"{why}; unknown {treated}"
    return "match", why


def _condition(policy: Policy, rule: Rule, key: str, facts: Facts) -> str:
    if rule.do == "mask" and key in CELLS:
        return f"the statement touches, or may touch, what {' '.join(rule.when[key].texts)} is in"
    answer = policy.holds(rule, key, facts)
    said = "holds" if answer else "does not hold" if answer is False else "unknown"
    values = " ".join(sorted(facts.values.get(key, ()))) or "nothing"
    if key in facts.unknown:
        values += f" and more ({facts.why})" if facts.why else " and more"
    return f"{key} {said}: {values} against {' '.join(rule.when[key].texts)}"
