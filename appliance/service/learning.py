"""Least-privilege rules out of what was recorded. They are proposed, with tests, and put in force by nobody here.

Each request that was allowed, released, or refused only because no rule spoke of it, is taken as wanted; what a rule
refused is not. Requests are put together by who (cgroup and program), where to, and what they do (effect, method,
host); a rule then lists what they do it to (tables, keys, paths), with numbers and ids in names made `*`. Each test of
the proposal is put before the real engine and must hold.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import msgspec
import yaml

from appliance import config
from appliance.facts import Facts, Reader
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.facts.words import PROTOCOLS
from appliance.model import Address, Flow, Message, Note, Process, ProtocolError, Side
from appliance.policy import Policy
from appliance.record.frame import Frame
from appliance.service.identities import nowhere
from appliance.service.rulebook import TESTS
from appliance.wire import Wire
from appliance.wire.detect import open as open_wire

SELECT = ("effect", "method", "host", "type")  # what is done: requests that differ in it are of different rules
OBJECT = ("table", "key", "channel", "path", "name")  # what it is done to: listed in one rule
MAX_LISTED = 40  # of one key in one rule; more are put together by how they begin
MAX_SHAPES = 20_000  # distinct requests kept; an agent has some hundred
MAX_EXAMPLES = 2  # requests of a rule that become tests
NEVER = "vendorgate-never-seen"  # a name nobody has, for the test that all else is refused
ID = re.compile(r"(?i)(?<![a-z0-9])(?:[0-9a-f]{8}-[0-9a-f-]{27}|(?=[0-9a-f]*\d)[0-9a-f]{12,}|\d+)(?![a-z0-9])")
TLS = "tls"
OPEN = "learn again with --open"
Values = tuple[tuple[str, tuple[str, ...]], ...]


class Who(msgspec.Struct, frozen=True):
    """A program of a vendor."""

    cgroup: str
    exe: str
    script: str = ""


class Shape(msgspec.Struct, frozen=True):
    """What requests have in common."""

    who: Who
    server: Address
    protocol: str
    values: Values
    transport: str = "tcp"


class Proposal(msgspec.Struct, frozen=True):
    """What comes of it."""

    rules: str  # YAML
    tests: str
    sessions: int
    requests: int
    proposed: int  # rules
    refused: int  # requests that a rule refuses: not proposed
    untold: tuple[str, ...]  # what was seen and cannot be put into a narrow rule


class Learner:
    """Give it the frames of sessions, each session's in order; then ask for the `proposal`."""

    def __init__(self) -> None:
        self.shapes: Counter[Shape] = Counter()
        self.untold: Counter[str] = Counter()
        self.sessions = self.requests = self.refused = 0
        self._flow: Flow | None = None
        self._protocol = ""
        self._request: Note | None = None
        self._wire: Wire | None = None  # that finds out what is spoken, where no target says it

    def session(self, frames: Iterable[Frame]) -> None:
        """Take one session."""
        self._flow, self._protocol, self._request, self._wire = None, "", None, None
        self.sessions += 1
        for frame in frames:
            note = frame.note
            self._flow = frame.flow or self._flow
            self._protocol = note.protocol or self._protocol or self._heard(note)
            if note.kind == "message" and note.side is Side.CLIENT:
                self._request = note
            elif note.decision and note.kind in ("decision", "asked"):
                self._decided(note)

    def _heard(self, note: Note) -> str:
        """Return the protocol, once the first bytes tell it."""
        if note.kind != "message" or note.side is None or self._flow is None:
            return ""
        self._wire = self._wire or open_wire("", self._flow.transport, self._flow.server.port)
        try:
            for _ in self._wire.feed(note.side, note.raw):
                pass
        except (ProtocolError, ValueError):
            self._wire = None
            return ""
        name = self._wire.name
        if name == TLS:  # what is spoken inside comes next
            self._wire = None
        return "" if name == TLS else name

    def _decided(self, note: Note) -> None:
        decision, request = note.decision, self._request
        if decision is None or self._flow is None or self._flow.process is None:
            return
        self.requests += 1
        if decision.verdict == "block" and decision.rule != "default":
            self.refused += 1
            return
        values = () if request is None else _values(self._protocol, request)
        if decision.verdict == "block" and not values:
            self.untold[f"{self._flow.server} was refused before anything was said: {OPEN}"] += 1
            return
        if not values and self._protocol:
            where = f"{self._protocol} at {self._flow.server}"
            self.untold[f"{where}: what `{(note.text or 'a request')[:60]}` does is not in the record"] += 1
            return
        shape = Shape(_who(self._flow.process), self._flow.server, self._protocol, values, self._flow.transport)
        if len(self.shapes) < MAX_SHAPES or shape in self.shapes:
            self.shapes[shape] += 1
        else:
            self.untold["more kinds of requests than are kept"] += 1

    def proposal(self, force: Policy, files: Sequence[tuple[str, str]]) -> Proposal:
        """Return rules for what was seen. `force` are the rules in force, of these files: their targets are used.

        Raises:
            ConfigError: the proposal does not hold; that is a fault of ours.
        """
        drafts = list(_drafts(self.shapes, _Names(force)))
        rules, tests = _rules_text(drafts), _tests_text(drafts)
        _prove(rules, tests, files)
        untold = tuple(f"{text} ({count} times)" for text, count in self.untold.most_common(MAX_LISTED))
        proposed = sum(len(draft.rules) for draft in drafts)
        return Proposal(rules, tests, self.sessions, self.requests, proposed, self.refused, untold)


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


class _Names:
    """Names that are free, and those of targets in force."""

    def __init__(self, force: Policy) -> None:
        self._force = force
        self._taken = {rule.id for rule in force.rules}
        self._taken |= {one.name for one in force.identities} | {one.name for one in force.targets}
        self._given: dict[object, str] = {}

    def of(self, thing: object, wanted: str) -> str:
        """Return the name of a thing, always the same."""
        if thing not in self._given:
            plain = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-.")[:56] or "one"
            name, number = plain, 1
            while name in self._taken:
                number += 1
                name = f"{plain}-{number}"
            self._taken.add(name)
            self._given[thing] = name
        return self._given[thing]

    def target(self, shape: Shape) -> str:
        """Return the target in force that is this server with this protocol, "" if there is none."""
        fit = [one for one in self._force.targets if one.protocol == shape.protocol and one.holds(shape.server)]
        return fit[0].name if fit else ""


def _who(process: Process) -> Who:
    cgroup = process.cgroup.partition("/")[0] or process.cgroup
    script = process.script if process.script.startswith("/") else ""
    return Who(re.sub(r"exec-\d+-\d+", "*", cgroup), process.exe, script)


def _values(protocol: str, note: Note) -> Values:
    """Return what a request does, as far as rules can be made of it; nothing where that is not certain."""
    keys = PROTOCOLS.get(protocol, {})
    told = dict(note.facts)
    found = {key: told[key] for key in (*SELECT, *OBJECT) if key in told}
    unknown = set(told.get("unknown", ()))
    texts = [key for key in (*SELECT, *OBJECT) if key in keys and keys[key].kind == "text"]
    if texts and note.text:
        facts = _read(protocol, note.text)
        if facts is not None:
            found |= {key: tuple(sorted(facts.values[key])) for key in texts if facts.values.get(key)}
            unknown |= facts.unknown & set(texts)
    for key in OBJECT:
        if key in found:  # without the catalogue the schema is not known; a name alone is that of any
            found[key] = tuple(sorted({value.removeprefix("?.") for value in found[key]}))
    if any("?" in value for key in OBJECT for value in found.get(key, ()) if key != "path"):
        return ()
    if unknown & set(found) or unknown & {key for key in OBJECT if key in keys}:
        return ()
    if "method" in found:
        found.pop("effect", None)  # the method says more
    return tuple(sorted(found.items()))


def _read(protocol: str, text: str) -> Facts | None:
    """Read a recorded request as a person would have typed it."""
    try:
        return _reader(protocol).ask(Message(Side.CLIENT, "query", b"", text=text))
    except (KeyError, ValueError):
        return None


def _drafts(shapes: Counter[Shape], names: _Names) -> Iterator[Draft]:
    places: dict[tuple[Who, Address, str, str], list[Shape]] = {}
    for shape in sorted(shapes, key=str):
        places.setdefault((shape.who, shape.server, shape.protocol, shape.transport), []).append(shape)
    for (who, server, protocol, _transport), found in places.items():
        program = PurePosixPath(who.script or who.exe).name or "program"
        name = names.of(who, f"{who.cgroup.partition('.')[0]}-{program}".replace("*", "x"))
        identity = {"cgroup": who.cgroup, "exe": who.exe if who.exe.startswith("/") else "", "script": who.script}
        to = names.target(found[0])
        target = None if to else _target(protocol, server, found[0].transport)
        if not to:
            to = names.of((server, protocol), f"{protocol or 'place'}-{server.host}-{server.port}".replace(":", "."))
        draft = Draft(name, {k: v for k, v in identity.items() if v}, to, target, protocol, {}, {})
        draft.count = sum(shapes[shape] for shape in found)
        _fill(draft, found, names)
        yield draft


def _target(protocol: str, server: Address, transport: str) -> dict[str, object]:
    address = server.host if transport == "icmp" else str(server)  # it has no ports
    return {"protocol": protocol, "address": [address]} if protocol else {"address": [address]}


def _fill(draft: Draft, shapes: Sequence[Shape], names: _Names) -> None:
    """Make a rule for each thing that is done."""
    groups: dict[tuple[Values, tuple[str, ...]], list[Shape]] = {}
    for shape in shapes:
        select = tuple((key, values) for key, values in shape.values if key in SELECT)
        groups.setdefault((select, tuple(key for key, _ in shape.values if key in OBJECT)), []).append(shape)
    for (select, keys), found in groups.items():
        words = "-".join(word for key, values in select if key != "host" for word in values).lower()
        id = names.of((draft.who, draft.to, select, keys), f"{draft.who}-{words or 'connects'}")
        when = {key: list(values) for key, values in select}
        for key in keys:
            when[key] = narrowed(value for shape in found for value in dict(shape.values)[key])
        draft.rules[id] = when
        draft.examples[id] = [shape.values for shape in found[:MAX_EXAMPLES]]


def narrowed(values: Iterable[str]) -> list[str]:
    """Return patterns for names: numbers and ids in them are `*`, and where there are many, all that begin alike."""
    found = sorted({ID.sub("*", value) for value in values})
    if len(found) <= MAX_LISTED:
        return found
    heads = sorted({re.sub(r"(?<=[/:.])[^/:.]*$", "*", value) for value in found})
    if len(heads) <= MAX_LISTED:
        return heads
    return sorted({f"{match[0]}*" if (match := re.match(r"/?[^/:.]*[/:.]", value)) else "*" for value in heads})


# -- the text ----------------------------------------------------------------------------------------------------------


def _rules_text(drafts: Sequence[Draft]) -> str:
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
            lines += [f"  - id: {flow(id)}", f"    who: {flow(draft.who)}", f"    to: {flow(draft.to)}"]
            lines += [f"    when: {flow(when)}"] if when else ["    inspect: false"] if not draft.protocol else []
            lines.append("    do: allow")
    return "\n".join([*lines, ""])


def _tests_text(drafts: Sequence[Draft]) -> str:
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
    """Return a value as YAML on one line. JSON is YAML; what needs no quotes is written without."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = re.fullmatch(r"[A-Za-z/](?:[A-Za-z0-9/._ -]*[A-Za-z0-9/._-])?", value) and yaml.safe_load(value) == value
    return value if plain else json.dumps(value)


def _prove(rules: str, tests: str, files: Sequence[tuple[str, str]]) -> None:
    """Have the engine judge the tests by the proposal alone, with the targets that are in force."""
    known = [(name, _defined(text)) for name, text in files]
    policy = config.rules([*known, ("learned.yaml", rules)], nowhere())
    done = config.run(policy, [(f"learned{TESTS}", tests)], _reader)
    wrong = [result for result in done if not result.ok]
    if wrong:
        raise AssertionError(f"the proposal does not hold: {wrong[0].name}: {wrong[0].why}")


def _reader(protocol: str) -> Reader:
    return open_reader(protocol, Shared(), needs_catalog=False)


def _defined(text: str) -> str:
    """Return what a file of rules defines, without its rules."""
    document = yaml.safe_load(text) or {}
    return yaml.safe_dump({key: document[key] for key in ("targets",) if document.get(key)})
