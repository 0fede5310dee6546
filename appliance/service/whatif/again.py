"""One recorded session, judged again."""

import contextlib
import logging
from collections import Counter
from functools import partial

import msgspec

from appliance.facts import Facts, Reader, readers
from appliance.facts.shared import Shared
from appliance.model import Column, Decision, Flow, Message, Note, Side
from appliance.policy import MaskPlan, Policy
from appliance.record.frame import Frame
from appliance.service.whatif import known
from appliance.service.whatif.named import Named
from appliance.service.whatif.report import Counts, Example
from appliance.session.answers import Tells
from appliance.session.ground import TUNNEL, Ground
from appliance.session.plans import Plans
from appliance.wire import Wire
from appliance.wire import detect as wires

log = logging.getLogger("vendorgate.whatif")

CONNECT = "connect to "  # how the text of a decision about a whole connection begins (session/core.py)
UNOPENED = "not opened: TLS to "  # how that of a decision on TLS that is passed on begins
OPENED = "TLS opened: "  # what the note says when both ends were opened (session/encryption.py)
TLS = "tls"
MAX_COLUMNS = 4096  # remembered with their names; as many as a flow's record was told of (session/told.py)
MAX_RELEASED = 1000  # cursors whose beginning would have been approved; with more they are forgotten

HEADLESS = "sessions whose beginning is no longer in the record: judged by what it says of each request"
PASSED = "connections that were passed unread: what they said is not in the record"
SILENT = "connections that were refused: what they would have said is not in the record"
MASKED = "answers that were masked when recorded: detectors see only what is left of them"
ROWLESS = "answers that are not in the record, and that masks could change"
WITHHELD = "answers that were withheld: what was in them is not in the record"
REFUSED = "requests that were refused, and whose answers masks could change"


class _Asked:
    """A request that waits for what was decided of it."""

    def __init__(self, frame: Frame, message: Message | None, facts: Facts | None) -> None:
        self.frame, self.message, self.facts = frame, message, facts
        self.was = ""  # the verdict
        self.refused = False  # by the rules asked about


class _Answer:
    """What came back, or would have, for the last request that was judged."""

    def __init__(self, asked: _Asked, plan: MaskPlan | None, covers: bool, rowless: bool) -> None:
        self.frame, self.was, self.refused = asked.frame, asked.was, asked.refused
        self.plan = plan
        self.covers = covers  # a mask on columns is about it
        self.rowless = rowless  # its rows are not in the record
        self.came = False
        self.masks: set[str] = set()  # rules that masked it then


class Again:
    """Give it the frames of one session, in order, then `end`."""

    def __init__(self, policy: Policy, counts: Counts, shared: Shared) -> None:
        self._rules, self._counts, self._shared = policy, counts, shared
        self._policy = Named(policy)
        self._flow: Flow | None = None
        self._ground: Ground | None = None
        self._wire: Wire | None = None
        self._reader: Reader | None = None
        self._protocol = ""
        self._refused: Decision | None = None  # of the connection as a whole
        self._over = False
        self._number = 0  # of the last frame
        self._asked: _Asked | None = None
        self._answer: _Answer | None = None
        self._hits: Counter[str] = Counter()  # cells of it that masks change, by rule
        self._columns: dict[Column, frozenset[str]] = {}
        self._released: dict[str, str] = {}  # cursor -> what would have been approved when it began
        self._own = b""  # what the wire said by itself, and the record has as of the server
        self._withheld = False  # the next answer is not what the server said

    def take(self, frame: Frame) -> None:
        """Take the next frame."""
        note = frame.note
        if self._number == 0:
            self._begin(frame)
        elif frame.number and frame.number != self._number + 1:
            self._wire = None  # retention took some, or a worker died
        self._number = frame.number or self._number + 1
        if self._over or self._ground is None:
            return
        if len(self._columns) < MAX_COLUMNS:
            self._columns.update({named.column: frozenset(named.names) for named in note.columns})
        match note.kind:
            case "message" if note.message == TLS and not note.raw:
                self._inside(note, self._ground)
            case "message" if note.text.startswith(TUNNEL) and note.side is Side.SERVER and not note.raw:
                self._enter(note, self._ground)
            case "message" if note.side is Side.CLIENT:
                self._client(frame)
            case "message":
                self._server(frame)
            case "decision" | "asked" if note.decision:
                self._decided(frame, note.decision, self._ground)
            case "answered":
                self._sent(note.text.startswith("approved"))

    def end(self) -> None:
        """No more frames come."""
        self._passed_on()
        self._settle()
        self._over = True

    # -- the connection ------------------------------------------------------------------------------------------

    def _begin(self, frame: Frame) -> None:
        note, flow = frame.note, frame.flow
        self._counts.sessions += 1
        self._flow = flow
        if flow is None:
            self._lacks(HEADLESS, frame)
            return
        if flow.process is None and note.identity in {one.name for one in self._rules.identities}:
            self._policy = Named(self._rules, note.identity)  # said by who imported it
        self._ground = Ground(flow, self._policy)
        admitted = self._ground.admit()
        self._refused = admitted if admitted.verdict == "block" else None
        if note.kind != "opened":
            self._protocol = note.protocol or self._ground.protocol
            self._lacks(HEADLESS, frame)
        else:
            self._begin_with(note.protocol, flow.transport, flow.server.port)
            self._protocol = note.protocol or self._ground.protocol

    def _connected(self, frame: Frame, was: Decision, ground: Ground) -> None:
        """Judge a connection that was refused, or passed unread."""
        now = self._refused or ground.passes()
        if now is not None:
            self._count(frame, was, now, ground)
        elif was.verdict == "block":
            self._count(frame, was, msgspec.structs.replace(ground.admit(), verdict="allow"), ground)
            self._lacks(SILENT, frame)
        else:
            self._lacks(PASSED, frame)
        self._over = True

    def _refuse(self, frame: Frame, refused: Decision, ground: Ground) -> None:
        """Count a connection that was admitted and would not be; nothing would be said on it."""
        self._over = True
        server = self._flow.server if self._flow else ""
        note = msgspec.structs.replace(frame.note, text=f"{CONNECT}{server}")
        was = Decision("allow", "(the connection)")
        self._count(msgspec.structs.replace(frame, note=note), was, refused, ground)

    def _unopened(self, frame: Frame, was: Decision, ground: Ground) -> None:
        """Judge what TLS that was not opened said in the clear; an import never had anybody to open it."""
        if not ground.trust.passes and not (self._flow and self._flow.source):
            self._lacks(PASSED, frame)
            self._over = True
            return
        text = frame.note.text.removeprefix(UNOPENED)
        facts = readers.open("tls", self._shared).ask(Message(Side.CLIENT, "query", b"", text=text))
        if facts is not None:
            self._policy.missing = ()
            self._count(frame, was, ground.decide(facts), ground)

    def _inside(self, note: Note, ground: Ground) -> None:
        """TLS was opened here: what follows is what was inside."""
        if note.text.startswith(OPENED):
            name = note.text.removeprefix(OPENED).partition(", ")[0]
            ground.opened_by(name.lower(), "")

    def _enter(self, note: Note, ground: Ground) -> None:
        """What follows is for the place that a proxy has opened."""
        where = note.text.removeprefix(TUNNEL)
        self._passed_on()
        self._settle()
        self._over = bool(ground.through(where))  # it would not have been opened, as was counted of the request
        if not self._over:
            ground.enter(where)
            self._begin_with(note.protocol or ground.protocol, "tcp", 0)

    def _begin_with(self, protocol: str, transport: str, port: int) -> None:
        self._protocol, self._wire, self._reader = protocol, None, None
        with contextlib.suppress(KeyError):  # a protocol of another version of vendorgate
            self._wire = wires.open(protocol, transport, port)

    # -- requests ------------------------------------------------------------------------------------------------

    def _client(self, frame: Frame) -> None:
        self._passed_on()
        message, facts = None, None
        for message in self._fed(frame):  # noqa: B007  a frame has one message of the client
            pass
        if message is not None and self._wire is not None:
            facts = self._reading(self._wire).ask(message)
        self._asked = _Asked(frame, message, facts)

    def _passed_on(self) -> None:
        """Send on a message that nothing was decided of: a part of a login, or of a request judged before."""
        if self._asked is not None and not self._asked.was:
            self._sent(True)

    def _decided(self, frame: Frame, was: Decision, ground: Ground) -> None:
        if frame.note.text.startswith(CONNECT) and self._asked is None:
            self._connected(frame, was, ground)
            return
        if self._refused:
            self._refuse(frame, self._refused, ground)
            return
        asked = self._asked
        if frame.note.text.startswith(UNOPENED):
            self._unopened(frame, was, ground)
            return
        if asked is None or asked.was:
            self._withheld = was.verdict == "block"  # a word on the answer, or on what is gone
            return
        self._judge(asked, was, ground)
        if frame.note.kind == "decision":
            self._sent(was.verdict == "allow")

    def _judge(self, asked: _Asked, was: Decision, ground: Ground) -> None:
        asked.was = was.verdict
        note = asked.frame.note
        read = asked.facts
        if read is not None:
            facts, missing = known.together(note, read)
        else:
            protocol = self._wire.name if self._wire else self._protocol or known.protocol_of(note)
            texts = (note.text,) if note.text else ()
            facts, missing = known.of_record(note, protocol, texts)
        asked.facts = facts
        self._policy.missing = missing
        now = ground.decide(facts)
        if self._policy.doubt:
            self._lacks(f"requests of which the record has no text: {self._policy.doubt}", asked.frame)
            return
        if asked.message is not None and self._reader is not None:
            now = Plans(ground).impossible(self._reader, asked.message, facts) or now
        asked.refused = now.verdict == "block"
        self._count(asked.frame, was, self._staged(now, facts, asked), ground)

    def _staged(self, now: Decision, facts: Facts, asked: _Asked) -> Decision:
        """Return the decision as the session carries it out: what is only prepared is asked about when it runs."""
        cursor = asked.message.cursor if asked.message else ""
        if facts.stage == "begins":
            self._released.pop(cursor, None)
        if now.verdict != "approve":
            return now
        if facts.stage == "begins":
            if len(self._released) >= MAX_RELEASED:
                self._released.clear()
            self._released[cursor] = facts.subject
            return now
        if facts.stage == "prepares" or self._released.get(cursor) == facts.subject:
            return msgspec.structs.replace(now, verdict="allow")
        return now

    def _sent(self, went_up: bool) -> None:
        """Take a request to have been sent, or refused; its answer comes next."""
        asked, self._asked = self._asked, None
        if asked is None or self._ground is None:
            return
        plan = None
        if asked.was and asked.facts is not None:
            plan = self._masks(asked, asked.facts, self._ground, went_up)
        wire, message = self._wire, asked.message
        if message is None or wire is None:
            return
        try:
            reader = self._reading(wire)
            if plan is not None and (copy := reader.copy(message)) is not None:
                plan.copy = copy
            if went_up:
                reader.sent(message)
            wire.allow(message, plan)
            if message.kind == TLS:
                wire.encrypted()
        except Exception as error:
            self._lost(asked.frame, error)

    def _masks(self, asked: _Asked, facts: Facts, ground: Ground, went_up: bool) -> MaskPlan | None:
        """Return the masks for what a request brings back."""
        if self._answer is not None and self._answer.came:
            self._settle()
        masks, plan = ground.masks(), None
        if masks:
            plan = masks.plan(facts, partial(self._origins, self._reader, facts))
            plan.hits = self._hits
        rowless = not went_up or self._wire is None
        self._answer = _Answer(asked, plan, bool(masks) and masks.touches(facts), rowless)
        return plan

    def _origins(self, reader: Reader | None, facts: Facts, column: Column) -> frozenset[str] | None:
        return self._columns.get(column) or (reader.origins(facts, column) if reader else None)

    # -- answers -------------------------------------------------------------------------------------------------

    def _server(self, frame: Frame) -> None:
        self._passed_on()
        if self._answer is not None:
            self._answer.came = True
            self._answer.masks.update(frame.note.masks)
            self._answer.rowless = self._answer.rowless or bool(frame.dropped)
        own, self._own = self._own, b""
        raw = frame.note.raw.removeprefix(own) if own else frame.note.raw
        for message in self._fed(msgspec.structs.replace(frame, note=msgspec.structs.replace(frame.note, raw=raw))):
            if message.kind == TLS and self._wire is not None:
                self._wire.encrypted()
            elif message.kind == "answer":
                self._answered(frame, message)

    def _answered(self, frame: Frame, message: Message) -> None:
        """Judge an answer that rules may withhold, as session/answers.py does."""
        ground, reader, withheld = self._ground, self._reader, self._withheld
        self._withheld = False
        if ground is None or not isinstance(reader, Tells):
            return
        facts = reader.told(message)
        if withheld:
            self._lacks(WITHHELD, frame)
        elif facts is not None:
            facts, self._policy.missing = known.together(frame.note, facts)
            now = ground.decide(facts)
            if self._policy.doubt:
                self._lacks(f"answers of which one session does not tell enough: {self._policy.doubt}", frame)
            elif now.verdict == "block" and (self._answer is None or not self._answer.refused):
                note = msgspec.structs.replace(frame.note, text=facts.subject)
                was = Decision("allow", "(the answer)")
                self._count(msgspec.structs.replace(frame, note=note), was, now, ground)

    def _settle(self) -> None:
        """Compare how the last answer was masked, and would be."""
        answer, ground, hits = self._answer, self._ground, dict(self._hits)
        self._answer = None
        self._hits.clear()
        if answer is None or ground is None:
            return
        plan, frame = answer.plan, answer.frame
        place, example = (ground.identity, ground.target), self._example(frame)
        for rule in sorted(hits.keys() - answer.masks):
            self._counts.masked("newly masked", rule, place, hits[rule], example)
        finds = plan is not None and bool(plan.rules) and plan.finds_only
        if answer.rowless and not hits and (answer.covers or finds):
            self._lacks(REFUSED if answer.was == "block" else ROWLESS, frame)
        elif answer.masks and not (hits or answer.covers):
            if finds:
                self._lacks(MASKED, frame)
                return
            for rule in sorted(answer.masks):
                self._counts.masked("no longer masked", rule, place, 0, example)

    # -- following -----------------------------------------------------------------------------------------------

    def _fed(self, frame: Frame) -> list[Message]:
        """Return the messages of a frame; none once the wire does not know where it is."""
        note, wire = frame.note, self._wire
        if frame.dropped:
            self._wire = None  # the level in force kept no bytes
            return []
        if wire is None or not note.raw or note.side is None:
            return []  # a secret has no bytes: it was said, and never recorded
        found: list[Message] = []
        try:
            for message in wire.feed(note.side, note.raw):
                if note.side is Side.SERVER:
                    self._reading(wire).heard(message)
                    found.append(message)
                elif message.side is Side.SERVER:
                    self._own += message.raw
                else:
                    found.append(message)
        except Exception as error:
            self._lost(frame, error)
            return []
        return found

    def _lost(self, frame: Frame, error: Exception) -> None:
        """Whatever a wire makes of a record that is not what it was, the rest is judged without it."""
        log.info("session %s cannot be followed from frame %d on: %s", frame.id, frame.number, error)
        self._wire = None

    def _reading(self, wire: Wire) -> Reader:
        if self._reader is None:
            self._reader = readers.open(wire.name, self._shared, "", needs_catalog=False)
        return self._reader

    # -- counting ------------------------------------------------------------------------------------------------

    def _count(self, frame: Frame, was: Decision, now: Decision, ground: Ground) -> None:
        self._counts.decided(was, now, (ground.identity, ground.target), self._example(frame))

    def _lacks(self, why: str, frame: Frame) -> None:
        self._counts.lacks(why, self._example(frame))

    def _example(self, frame: Frame) -> Example:
        return Example(frame.id, frame.time, frame.note.text)
