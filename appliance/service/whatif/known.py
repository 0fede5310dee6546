"""What the record tells of a request, and whether that is enough to judge it by."""

from collections.abc import Collection, Mapping

import msgspec

from appliance.facts import Facts
from appliance.facts.words import PROTOCOLS
from appliance.facts.words.udp import MOVED
from appliance.model import Address, Note
from appliance.policy import Policy, explain

KEPT = ("name", "word")  # kinds of keys whose values are in the record (session/told.py)
NOWHERE = "the record does not tell"


def of_record(note: Note, protocol: str, texts: Collection[str] = ()) -> tuple[Facts, frozenset[str]]:
    """Return the facts that the record has of a request, and the keys it says nothing of.

    What is known of its text may be only a part of it, so a text that is not found in it is not known.
    """
    values, unknown = _told(note)
    missing = frozenset(key for key, word in PROTOCOLS.get(protocol, {}).items() if word.kind not in KEPT) | {"text"}
    if texts:
        values = {**values, "text": frozenset(texts)}
    return Facts(protocol, values, unknown | missing, NOWHERE, subject=note.text), missing


def together(note: Note, read: Facts) -> tuple[Facts, frozenset[str]]:
    """Return facts read anew, with the names as they were known then: by the server's own catalogue, where asked;
    and the keys that one session does not tell: what a process moved in all of them together."""
    missing = frozenset(read.values.keys() & MOVED.keys())
    if missing:
        values = {key: found for key, found in read.values.items() if key not in missing}
        read = msgspec.structs.replace(read, values=values, unknown=read.unknown | missing, why=NOWHERE)
    return (_named(note, read) if note.facts else read), missing


def _named(note: Note, read: Facts) -> Facts:
    values, unknown = _told(note)
    keys = PROTOCOLS.get(read.protocol, {})
    told = frozenset(key for key, word in keys.items() if word.kind in KEPT)
    others = {key: found for key, found in read.values.items() if key not in told}
    return msgspec.structs.replace(read, values={**others, **values}, unknown=unknown | (read.unknown - told))


def protocol_of(note: Note) -> str:
    """Return the only protocol that has all these keys; "" if several do."""
    told = {key for key, _ in note.facts} - {"unknown"}
    found = [name for name, keys in PROTOCOLS.items() if told and told <= keys.keys()]
    return found[0] if len(found) == 1 else ""


def doubt(policy: Policy, who: tuple[str, ...], server: Address, facts: Facts, missing: Collection[str]) -> str:
    """Return why the decision on these facts is none on the request: a rule asks for what the record lacks. "" if
    it is one."""
    if not missing:
        return ""
    rules = {rule.id: rule for rule in policy.rules}
    for step in explain(policy, who, server, facts):
        rule = rules.get(step.rule)
        if rule is not None and step.outcome == "unknown" and (step.decides or rule.do != "mask"):
            lacks = {key for key in rule.when if key in missing} | ({"text"} if rule.detect else set())
            if lacks & set(missing):
                return f"rule {step.rule} asks for {', '.join(sorted(lacks))}"
        if step.decides:
            break
    return ""


def _told(note: Note) -> tuple[Mapping[str, frozenset[str]], frozenset[str]]:
    told = dict(note.facts)
    unknown = frozenset(told.pop("unknown", ()))
    return {key: frozenset(found) for key, found in told.items()}, unknown
