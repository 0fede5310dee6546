"""`reply` of a rule that blocks, and conditions that only an answer can meet."""

import ipaddress

from appliance.config import document
from appliance.config.document import Node
from appliance.facts.words import PROTOCOLS, protocols_of
from appliance.policy.rule import Rule

REPLIES = {"dns": ("refused", "nxdomain")}
"""Protocols with more than one refusal, and what they are called: codes for `deny` of their wire."""
WORDS = tuple(word for words in REPLIES.values() for word in words)
LATE = frozenset(name for keys in PROTOCOLS.values() for name, key in keys.items() if key.late)


def reply(fields: dict[str, Node], called: str) -> str:
    """Return which refusal a rule asks for."""
    if "reply" not in fields:
        return ""
    return document.choice(fields["reply"], f"{called}: reply", WORDS)


def check(fields: dict[str, Node], rule: Rule, called: str) -> None:
    """Refuse a rule whose reply no protocol has, or that needs an answer before there is one."""
    if rule.reply:
        spoken = [target.protocol for target in rule.to]
        said = protocols_of(frozenset(rule.when)) if rule.when else frozenset(spoken)
        if not (said and said <= REPLIES.keys()) and not (spoken and set(spoken) <= REPLIES.keys()):
            what = f"{called}: `reply` is for {', '.join(REPLIES)}, and this rule may be about others"
            fields["reply"].fail(what, "name a target with that protocol, or a condition only it has")
        if not rule.when:
            what = f"{called}: can never take effect: what is blocked as a whole is refused before it asks"
            fields["reply"].fail(what, 'write when: {qname: "*"}')
    answers = rule.when.get("answer")
    for text in answers.texts if answers is not None else ():
        if "/" in text and _network(text):
            what = f"{called}: can never take effect: `{text}` is compared as text"
            fields["when"].fail(what, "write 10.*, or internal for every address that is not public")
    late = sorted(LATE & rule.when.keys())
    if late and rule.do != "block":
        what = f"{called}: can never take effect: `{late[0]}` is known when the question has gone up"
        fields["when"].fail(what, "block by it, and decide of the question by another rule")


def _network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
