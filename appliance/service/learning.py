"""Least-privilege rules out of what was recorded. They are proposed, with tests, and put in force by nobody here.

Each request that was allowed, released, or refused only because no rule spoke of it, is taken as wanted; what a rule
refused is not. Requests are put together by who (cgroup and program), where to, and what they do (effect, method,
host); a rule then lists what they do it to (tables, keys, paths), with numbers and ids in names made `*`. Each test of
the proposal is put before the real engine and must hold.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import msgspec

from appliance.facts import Facts
from appliance.facts.words import PROTOCOLS
from appliance.model import Address, ConfigError, Flow, Message, Note, Process, ProtocolError, Side
from appliance.policy import Policy
from appliance.record.frame import Frame
from appliance.service.proposing import OBJECT, Draft, Values, reader, rules_text, tests_text, wrong
from appliance.wire import Wire
from appliance.wire.detect import open as open_wire

SELECT = ("effect", "method", "host", "type")  # what is done: requests that differ in it are of different rules
MAX_LISTED = 40  # of one key in one rule; more are put together by how they begin
MAX_SHAPES = 20_000  # distinct requests kept; an agent has some hundred
MAX_EXAMPLES = 2  # requests of a rule that become tests
MAX_RULES = 100  # of one program at one place, the most frequent; nobody reads more of them line by line
MAX_DRAFTS = 100  # programs and places, the busiest
MAX_UNTOLD = 1_000  # distinct things that cannot be proposed; they quote a governed process
ALL = ("*", "/*", "*.*")  # patterns that leave nothing out
MAX_VALUE = 500  # characters of a name in a rule
ID = re.compile(r"(?i)(?<![a-z0-9])(?:[0-9a-f]{8}-[0-9a-f-]{27}|(?=[0-9a-f]*\d)[0-9a-f]{12,}|\d+)(?![a-z0-9])")
TLS = "tls"
QNAME = "qname"
OPEN = "learn again with --open"


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
            self._cannot(f"{self._flow.server} was refused before anything was said: {OPEN}")
            return
        if not values and self._protocol:
            where = f"{self._protocol} at {self._flow.server}"
            self._cannot(f"{where}: what `{(note.text or 'a request')[:60]}` does is not in the record")
            return
        who = _who(self._flow.process)
        if odd := _odd((self._flow.process.cgroup, who.exe, who.script), values):
            self._cannot(f"{self._flow.server}: {odd}")
            return
        shape = Shape(who, self._flow.server, self._protocol, values, self._flow.transport)
        if len(self.shapes) < MAX_SHAPES or shape in self.shapes:
            self.shapes[shape] += 1
        else:
            self._cannot("more kinds of requests than are kept")

    def proposal(self, force: Policy, files: Sequence[tuple[str, str]]) -> Proposal:
        """Return rules for what was seen. `force` are the rules in force, of these files: their targets are used.

        Raises:
            ConfigError: the proposal does not hold; that is a fault of ours.
        """
        untold = self.untold.copy()
        drafts = self._drafts(_Names(force), untold)
        if wrong(drafts, files):  # by what a governed process said: that goes, and the rest stays
            drafts = [kept for draft in drafts if (kept := _holding(draft, files, untold)).rules]
        if why := wrong(drafts, files):
            raise ConfigError("the proposal", f"does not hold: {why}", "learn of less: --who, --to")
        told = [f"{text} ({count} times)" for text, count in untold.most_common(MAX_LISTED)]
        told += [f"and {len(untold) - MAX_LISTED} kinds more"] if len(untold) > MAX_LISTED else []
        proposed = sum(len(draft.rules) for draft in drafts)
        rules, tests = rules_text(drafts), tests_text(drafts)
        return Proposal(rules, tests, self.sessions, self.requests, proposed, self.refused, tuple(told))

    def _drafts(self, names: "_Names", untold: Counter[str]) -> list[Draft]:
        """Return the busiest; what is left out is counted in `untold`."""
        drafts = list(_drafts(self.shapes, names, untold))
        least = sorted(drafts, key=lambda draft: -draft.count)[MAX_DRAFTS:]
        for draft in least:
            untold[f"more than {MAX_DRAFTS} programs and places: the least busy are left out"] += draft.count
        return [draft for draft in drafts if draft not in least]

    def _cannot(self, text: str) -> None:
        """Count what cannot be proposed."""
        known = text in self.untold or len(self.untold) < MAX_UNTOLD
        self.untold[text if known else "more kinds of requests than are told"] += 1


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
    cgroup = process.vendor or process.cgroup
    script = process.script if process.script.startswith("/") else ""
    return Who(re.sub(r"exec-\d+-\d+", "*", cgroup), process.exe, script)


def _values(protocol: str, note: Note) -> Values:
    """Return what a request does, as far as rules can be made of it; nothing where that is not certain."""
    keys = PROTOCOLS.get(protocol, {})
    told = dict(note.facts)
    found = {key: told[key] for key in (*SELECT, *OBJECT) if key in told and (key in keys or not keys)}
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
        return reader(protocol).ask(Message(Side.CLIENT, "query", b"", text=text))
    except (KeyError, ValueError):
        return None


def _odd(program: Sequence[str], values: Values) -> str:
    """Return why names that a governed process chose go into no rule: `*` would widen it, the rest nobody can read."""
    names = [text for _, texts in values for text in texts]
    if not all(names):
        return "an empty name is none for a rule"
    for text in (*program, *names):
        if "*" in text:
            return f"`{text[:60]}` has a `*` in its name, which would be any text in a rule"
        if not text.isprintable() or len(text) > MAX_VALUE:
            return f"`{text[:60]}` is no name for a rule: it is too long, or not all of it is visible"
    return ""


def _drafts(shapes: Counter[Shape], names: _Names, untold: Counter[str]) -> Iterator[Draft]:
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
        _fill(draft, {shape: shapes[shape] for shape in found}, names, untold)
        if draft.rules:
            yield draft


def _target(protocol: str, server: Address, transport: str) -> dict[str, object]:
    address = server.host if transport == "icmp" else str(server)  # it has no ports
    return {"protocol": protocol, "address": [address]} if protocol else {"address": [address]}


def _fill(draft: Draft, shapes: Mapping[Shape, int], names: _Names, untold: Counter[str]) -> None:
    """Make a rule for each thing that is done."""
    groups: dict[tuple[Values, tuple[str, ...]], list[Shape]] = {}
    for shape in shapes:
        select = tuple((key, values) for key, values in shape.values if key in SELECT)
        groups.setdefault((select, tuple(key for key, _ in shape.values if key in OBJECT)), []).append(shape)
    counts = {group: sum(shapes[shape] for shape in found) for group, found in groups.items()}
    most = set(sorted(groups, key=lambda group: -counts[group])[:MAX_RULES])
    for (select, keys), found in groups.items():
        where, count = f"{draft.who} at {draft.to}", counts[select, keys]
        if (select, keys) not in most:
            untold[f"{where} does more than {MAX_RULES} things: the least frequent are left out"] += count
            continue
        when = {key: list(values) for key, values in select}
        wide = []
        for key in keys:
            seen = {value for shape in found for value in dict(shape.values)[key]}
            when[key] = narrowed(seen, key != QNAME)
            many = len(_listed(seen, key != QNAME)) > MAX_LISTED
            wide += [f"{len(seen)} of `{key}` are put together, as too many to list"] if many else []
        if any(pattern in ALL for key in keys for pattern in when[key]):
            untold[f"{where}: {', '.join(wide)}, which would be any: write that rule by hand"] += count
            continue
        words = "-".join(word for key, values in select if key != "host" for word in values).lower()
        id = names.of((draft.who, draft.to, select, keys), f"{draft.who}-{words or 'connects'}")
        draft.rules[id] = when
        draft.examples[id] = [shape.values for shape in found[:MAX_EXAMPLES]]
        wide += [] if len(draft.identity) > 1 else ["which program it was, or of which unit, is not known"]
        if wide:
            draft.wide[id] = ", ".join(wide)


def _holding(draft: Draft, files: Sequence[tuple[str, str]], untold: Counter[str]) -> Draft:
    """Return what holds of a draft that may not, rule by rule."""
    kept = msgspec.structs.replace(draft, rules={}, examples={})
    for id, when in draft.rules.items():
        alone = msgspec.structs.replace(draft, rules={id: when}, examples={id: draft.examples[id]})
        if why := wrong([alone], files):
            untold[f"{draft.who} at {draft.to}: {why[:MAX_VALUE]}"] += 1
        else:
            kept.rules[id], kept.examples[id] = when, draft.examples[id]
    return kept


def narrowed(values: Iterable[str], ids: bool = True) -> list[str]:
    """Return patterns for names: `ids` in them are `*`, and where there are many, all that begin alike.

    Names of DNS are read from their end: one that began alike could be anybody's, so there many are any.
    """
    found = _listed(values, ids)
    if len(found) <= MAX_LISTED:
        return found
    if not ids:
        return ["*"]
    heads = sorted({re.sub(r"(?<=[/:.])[^/:.]*$", "*", value) for value in found})
    if len(heads) <= MAX_LISTED:
        return heads
    heads = sorted({f"{match[0]}*" if (match := re.match(r"/?[^/:.]*[/:.]", value)) else "*" for value in heads})
    return heads if len(heads) <= MAX_LISTED else ["*"]


def _listed(values: Iterable[str], ids: bool) -> list[str]:
    """Return the names, with numbers and ids in them as `*`."""
    return sorted({ID.sub("*", value) if ids else value for value in values})
