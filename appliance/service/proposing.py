"""A proposal as text: rules and their tests in YAML, and the proof that they hold.

What is written comes from a governed process, so all that is not plainly visible is an escape.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import yaml

from appliance import config
from appliance.facts import Reader
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.facts.words import PROTOCOLS
from appliance.model import ConfigError
from appliance.service.identities import nowhere
from appliance.service.rulebook import TESTS

NEVER = "vendorgate-never-seen"  # a name nobody has, for the test that all else is refused
OBJECT = ("table", "key", "channel", "path", "qname")  # what is done to: listed in one rule
Values = tuple[tuple[str, tuple[str, ...]], ...]


class Draft(msgspec.Struct):
    """The rules for one program at one place."""

    who: str
    identity: Mapping[str, str]
    to: str
    target: Mapping[str, object] | None  # None: in force already
    protocol: str
    rules: dict[str, dict[str, list[str]]]  # id -> when
    examples: dict[str, list[Values]]
    count: int = 0
    wide: dict[str, str] = msgspec.field(default_factory=dict)  # id -> what was put together, as too many to list


def rules_text(drafts: Sequence[Draft]) -> str:
    lines = [
        "# Proposed by `vendorgate learn` from what was seen; in force only when you put it into rules.d.",
        "# Read it line by line: what an agent did is not yet what it should do. `*` stands for numbers and ids.",
        "# To try it, add `shadow: true` to rules: they then only note. What no rule allows stays refused.",
    ]
    identities = {draft.who: draft.identity for draft in drafts}
    targets = {draft.to: draft.target for draft in drafts if draft.target}
    for head, entries in (("identities", identities), ("targets", targets)):
        if entries:
            lines += ["", f"{head}:", *(f"  {name}: {flow(entry)}" for name, entry in entries.items())]
    if drafts:
        lines += ["", "rules:"]
    for draft in drafts:
        lines.append(f"  # {draft.who} at {draft.to}: {draft.count} requests")
        for id, when in draft.rules.items():
            lines += [f"  # WIDE: {draft.wide[id]}; read what it allows"] if id in draft.wide else []
            lines += [f"  - id: {flow(id)}", f"    who: {flow(draft.who)}", f"    to: {flow(draft.to)}"]
            lines += [f"    when: {flow(when)}"] if when else ["    inspect: false"] if not draft.protocol else []
            lines.append("    do: allow")
    return "\n".join([*lines, ""])


def tests_text(drafts: Sequence[Draft]) -> str:
    lines = ["# Tests of the proposal: `vendorgate rules test` runs them.", "tests:"]
    for draft in drafts:
        head = {"identity": draft.who, "target": draft.to}
        for id, examples in draft.examples.items():
            for values in examples:
                request = {key: [_whole(draft.protocol, key, text) for text in texts] for key, texts in values}
                if request:
                    lines.append(f"  - {flow({**head, 'request': request, 'expect': 'allow', 'rule': id})}")
            for request in _others(draft, id):
                lines.append(f"  - {flow({**head, 'request': request, 'expect': 'block'})}")
    return "\n".join([*lines, ""]) if len(lines) > 2 else "tests: []\n"


def _whole(protocol: str, key: str, text: str) -> str:
    """Return a name with all its parts, as it stands in facts; where a part is that of any, with one."""
    missing = PROTOCOLS[protocol][key].parts - len(text.split("."))
    return "any." * missing + text


def _others(draft: Draft, id: str) -> Iterator[dict[str, list[str]]]:
    """Yield requests that were never seen: the same to something else, and something else to the same."""
    when = draft.rules[id]
    seen = {key: list(values) for key, values in draft.examples[id][0]}
    for key in OBJECT:
        if key in when and not any(pattern.startswith("*") for pattern in when[key]):
            yield {**seen, key: [NEVER]}
    effects = PROTOCOLS[draft.protocol]["effect"].words if "effect" in PROTOCOLS.get(draft.protocol, {}) else ()
    allowed = {effect for other in draft.rules.values() for effect in other.get("effect", ())}
    other = next((effect for effect in reversed(effects) if effect not in allowed), "")
    if "effect" in when and other:
        yield {**seen, "effect": [other]}


def flow(value: object) -> str:
    """Return a value as YAML on one line. What needs no quotes is written without; what is not visible, as escapes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = re.fullmatch(r"[A-Za-z/](?:[A-Za-z0-9/._ -]*[A-Za-z0-9/._-])?", value) and yaml.safe_load(value) == value
    return value if plain else "".join(map(_visible, json.dumps(value, ensure_ascii=False)))


def _visible(char: str) -> str:
    """Return a character as it stands in double quotes. JSON's pairs of surrogates are no YAML (YAML 1.2, 5.7)."""
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def wrong(drafts: Sequence[Draft], files: Sequence[tuple[str, str]]) -> str:
    """Have the engine judge the tests by the proposal alone, with the targets of `files`; return what does not hold."""
    rules, tests = rules_text(drafts), tests_text(drafts)
    known = [(name, defined(text)) for name, text in files]
    try:
        policy = config.rules([*known, ("learned.yaml", rules)], nowhere())
        done = config.run(policy, [(f"learned{TESTS}", tests)], reader)
    except ConfigError as error:
        return error.what
    failed = next((result for result in done if not result.ok), None)
    return f"{failed.name}: {failed.why}" if failed else ""


def reader(protocol: str) -> Reader:
    return open_reader(protocol, Shared(), needs_catalog=False)


def defined(text: str) -> str:
    """Return what a file of rules defines, without its rules."""
    document = yaml.safe_load(text) or {}
    return yaml.safe_dump({key: document[key] for key in ("targets",) if document.get(key)})
