"""What `--redact` takes out of an export, by the masks of policy over the protocol of each session.

    column:schema.table.column    values of a column: in results, and in statements that may hold them
    detector:NAME                 whatever a detector finds, anywhere, as it is or in escapes (record/escapes.py)

Theory of operation. What was recorded of a session is given to a wire again, client and server in the order of the
record, with masks for what is to be hidden: as if the vendor had had those rules. So cells go out exactly as a mask
would have had them, in each protocol that has masks, lengths put right by the wire. Which statement touches what is
taken from the facts in the record, which column a cell is of from its columns; where the record does not tell, the
mask covers it. Once a wire cannot follow (a password that was never recorded, bytes kept by no level, a beginning
that is gone), no more bytes of that session go out, only texts, with what may be values covered.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from appliance import config
from appliance.facts import Facts, Reader, readers
from appliance.facts.shared import Shared
from appliance.facts.words import PROTOCOLS
from appliance.model import Address, Column, ConfigError, Message, Note, Side
from appliance.policy import Detectors, Policy
from appliance.policy.finders import BUILT_IN
from appliance.policy.patterns import Names
from appliance.policy.rule import Rule
from appliance.record.escapes import Span, everywhere
from appliance.record.frame import Frame
from appliance.record.redact import Redact, covered, covered_raw, literals, named, withheld
from appliance.wire import Wire
from appliance.wire import detect as wires

log = logging.getLogger("vendorgate.export")

WHERE = "--redact"
MAX_WORDS = 100  # things to redact in one export
VALUES = ("compared", "copied", "written")  # facts whose columns' values may stand in the statement
NAMING = ("facts", "columns", "decision", "identity", "target", "by")  # of a note: names that vendors may choose
TLS = "tls"  # kind of a message behind which TLS begins
ROWS = frozenset(("row", "copy-data"))
TELLING = re.compile(rb"[\x21-\x7e\x80-\xff]{2}")  # more than a sign by itself: not in messages that only steer
NOWHERE = Address("0.0.0.0", 0)
Hide = Callable[[str], str]


class Redaction(msgspec.Struct, frozen=True):
    """What takes things out."""

    frames: Redact
    text: Hide  # of a text that stands alone


def redaction(words: Sequence[str], patterns: Mapping[str, str]) -> Redaction:
    """Return what takes `words` out; `patterns` are the detectors of the rules in force.

    Raises:
        ConfigError: a word is none of the above, or names what there is not.
    """
    if len(words) > MAX_WORDS:
        hint = "a pattern may stand for many: column:*.*.ssn"
        raise ConfigError(WHERE, f"more than {MAX_WORDS} things to redact", hint)
    columns, detectors = [], []
    for word in words:
        kind, _, what = word.partition(":")
        if kind == "column" and what:
            columns.append(what)
        elif kind == "detector" and (what in patterns or what in BUILT_IN):
            detectors.append(what)
        elif kind == "detector":
            known = ", ".join((*BUILT_IN, *patterns))
            raise ConfigError(WHERE, f"`{what}` is no detector", f"one of {known}")
        else:
            hint = "column:schema.table.column or detector:NAME"
            raise ConfigError(WHERE, f"`{word}` is no column and no detector", hint)
    policy = _policy(columns, detectors, patterns)
    found = Detectors(detectors, patterns)
    return Redaction(
        frames=lambda frames: _redacted(frames, policy, found),
        text=lambda text: covered(text, everywhere(text, partial(_finds, found))),
    )


def _policy(columns: list[str], detectors: list[str], patterns: Mapping[str, str]) -> Policy:
    """Return the rules that mask it. Read from a text, so that what is wrong with a name is said as in rules."""
    rules: list[dict[str, object]] = []
    if columns:
        rules.append({"id": "columns", "when": {"column": columns}, "do": "mask", "with": "redact"})
    if detectors:
        rules.append({"id": "detectors", "when": {"detect": detectors}, "do": "mask", "with": "redact"})
    used = {name: patterns[name] for name in detectors if name in patterns}
    text = json.dumps({"rules": rules, **({"patterns": used} if used else {})})
    return config.rules([(WHERE, text)], lambda name: ())


def _redacted(frames: Iterable[Frame], policy: Policy, detectors: Detectors) -> Iterator[Frame]:
    talks: dict[str, _Talk] = {}
    for frame in frames:
        talk = talks.get(frame.id)
        if talk is None:
            talk = talks[frame.id] = _Talk(policy, detectors)
        yield talk.redacted(frame)
        if frame.note.kind == "closed":
            del talks[frame.id]


class _Talk:
    """One session, told again."""

    def __init__(self, policy: Policy, detectors: Detectors) -> None:
        self._policy, self._finds = policy, partial(_finds, detectors)
        self._rules = [rule for rule in policy.rules if "column" in rule.when]
        self._wire: Wire | None = None
        self._reader: Reader | None = None
        self._begun = self._blind = False
        self._covers = bool(self._rules)  # values may stand in what the client says now
        self._columns: dict[Column, frozenset[str]] = {}
        self._own = b""  # what the wire said by itself, and the record has as of the server

    def redacted(self, frame: Frame) -> Frame:
        note = frame.note
        if not self._begun:
            self._begun = True
            self._begin(frame)
        self._columns.update({named.column: frozenset(named.names) for named in note.columns})
        if note.kind != "message":
            text = self._hidden(note.text, self._covers and note.kind in ("decision", "asked"))
            frame = msgspec.structs.replace(frame, note=msgspec.structs.replace(note, text=text))
        elif note.side is Side.CLIENT:
            frame = self._asked(frame)
        else:
            frame = self._answered(frame)
        return msgspec.structs.replace(frame, note=self._plain(frame.note), flow=named(frame.flow, self._hide))

    def _plain(self, note: Note) -> Note:
        """Return a note with what is to be hidden taken from names in it: of keys, tables, people."""
        told = {name: named(getattr(note, name), self._hide) for name in NAMING if getattr(note, name)}
        return msgspec.structs.replace(note, **told)

    def _begin(self, frame: Frame) -> None:
        """Take up the protocol; a session that does not begin at its beginning cannot be followed."""
        note, flow = frame.note, frame.flow
        self._blind = note.kind != "opened" or note.protocol not in ("", *wires.PROTOCOLS)
        if not self._blind:
            try:
                self._wire = wires.open(note.protocol, *((flow.transport, flow.server.port) if flow else ()))
            except KeyError:
                self._blind = True  # it is not spoken in this transport

    # -- the client ----------------------------------------------------------------------------------------------

    def _asked(self, frame: Frame) -> Frame:
        note = frame.note
        messages = self._follow(frame, lambda wire: list(self._sent(wire, note)))
        if messages is None:
            facts = _facts(note, self._wire.name if self._wire else "")
            if facts is not None or note.text:
                self._covers = bool(self._rules) if facts is None else self._may_hold(facts)
        text = self._hidden(note.text, self._covers)
        frame = msgspec.structs.replace(frame, note=msgspec.structs.replace(note, text=text))
        raw = None if messages is None else self._raw(note.raw, messages)
        if raw is None:
            return withheld(frame)
        return msgspec.structs.replace(frame, note=msgspec.structs.replace(frame.note, raw=raw))

    def _sent(self, wire: Wire, note: Note) -> Iterator[Message]:
        for message in wire.feed(Side.CLIENT, note.raw):
            if message.side is Side.SERVER:
                self._own += message.raw
                continue
            reader = self._reading(wire)
            read = reader.ask(message)
            facts = read and (_facts(note, read.protocol) or _unknown(read))
            plan, redact = None, False
            if facts is not None:
                self._covers = self._may_hold(facts)
                masks = self._policy.masks(("?",), NOWHERE)
                plan = masks.plan(facts, self._columns.get)
                redact = masks.redacts(facts)
                copy = reader.copy(message)
                if copy is not None:
                    plan.copy = copy
            reader.sent(message)
            wire.allow(message, plan, redact)
            yield message
            if message.kind == TLS:
                wire.encrypted()

    def _raw(self, raw: bytes, messages: Sequence[Message]) -> bytes | None:
        """Return the bytes of requests with what is to be hidden overwritten; None if that cannot be done."""
        for message in messages:
            if not message.text and not message.values:
                if (self._covers and TELLING.search(message.raw)) or self._found(message.raw):
                    return None
                continue
            if any(value.data and (self._covers or self._found(value.data)) for value in message.values):
                return None
            if any(self._spans(name, False) for name in (message.name, message.cursor, message.status)):
                return None
            changed = covered_raw(message.raw, message.text, self._spans(message.text, self._covers))
            if changed is None:
                return None
            raw = raw.replace(message.raw, changed) if changed != message.raw else raw
        return raw

    # -- the server ----------------------------------------------------------------------------------------------

    def _answered(self, frame: Frame) -> Frame:
        note = frame.note
        own, self._own = self._own, b""
        raw = note.raw.removeprefix(own) if own else note.raw
        messages = self._follow(frame, lambda wire: list(self._heard(wire, raw)))
        text = self._hidden(note.text, False)
        if messages is None or any(m.kind not in ROWS and self._found(m.raw) for m in messages):
            return withheld(msgspec.structs.replace(frame, note=msgspec.structs.replace(note, text=text)))
        out = (note.raw[: len(note.raw) - len(raw)]) + b"".join(message.raw for message in messages)
        masked = note.masked + sum(message.masked for message in messages)
        note = msgspec.structs.replace(note, raw=out, text=text, masked=masked)
        return msgspec.structs.replace(frame, note=note)

    def _heard(self, wire: Wire, raw: bytes) -> Iterator[Message]:
        for message in wire.feed(Side.SERVER, raw) if raw else ():
            self._reading(wire).heard(message)
            yield message
            if message.kind == TLS:
                wire.encrypted()  # the record goes on with what was inside

    # -- following -----------------------------------------------------------------------------------------------

    def _follow(self, frame: Frame, read: Callable[[Wire], list[Message]]) -> list[Message] | None:
        """Return the messages of a frame; None once the wire does not know where it is."""
        if frame.dropped:
            self._blind = True  # what is missing could have been anything
        if self._blind or self._wire is None:
            return None
        if not frame.note.raw:
            return []  # a secret: said, and never recorded
        try:
            messages = read(self._wire)
        except Exception as error:
            log.info("session %s cannot be followed from frame %d on: %s", frame.id, frame.number, error)
            self._blind = True
            return None
        if frame.note.side is Side.CLIENT and sum(len(m.raw) for m in messages) != len(frame.note.raw):
            self._blind = True  # a frame has whole messages; this one has something else
            return None
        return messages

    def _reading(self, wire: Wire) -> Reader:
        if self._reader is None:
            self._reader = readers.open(wire.name, Shared(), "", needs_catalog=False)
        return self._reader

    # -- what is to be hidden ------------------------------------------------------------------------------------

    def _may_hold(self, facts: Facts) -> bool:
        """Return whether values of a column may stand in a request with these facts."""
        return any(self._holds(rule, facts) for rule in self._rules)

    def _holds(self, rule: Rule, facts: Facts) -> bool:
        columns = rule.when["column"]
        assert isinstance(columns, Names)
        if any(columns.any(facts.values.get(key, ())) is not False for key in VALUES):
            return True
        return not facts.unknown.isdisjoint(VALUES) and self._policy.touched(rule, facts)

    def _spans(self, text: str, covers: bool) -> list[tuple[int, int]]:
        spans = list(everywhere(text, self._finds)) if text else []
        return sorted([*spans, *literals(text)] if covers else spans)

    def _hidden(self, text: str, covers: bool) -> str:
        return covered(text, self._spans(text, covers))

    def _hide(self, text: str) -> str:
        return self._hidden(text, False)

    def _found(self, data: bytes) -> bool:
        return any(True for _ in everywhere(data.decode("utf-8", "replace"), self._finds))


def _finds(detectors: Detectors, text: str) -> list[Span]:
    return [span for _, span in detectors.find(text)]


def _facts(note: Note, protocol: str) -> Facts | None:
    """Return the facts that the record has of a request; None if it has none."""
    if not note.facts:
        return None
    told = dict(note.facts)
    unknown = frozenset(told.pop("unknown", ()))
    values = {key: frozenset(found) for key, found in told.items()}
    return Facts(protocol, values, unknown)


def _unknown(read: Facts) -> Facts:
    """Return facts of a request of which the record says nothing: it may touch anything."""
    return Facts(read.protocol, {}, frozenset(PROTOCOLS.get(read.protocol, {})), "not in the record")
