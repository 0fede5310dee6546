"""What a session has to do and to tell, in order: the effects of one event, the notes of the record among them."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from appliance.facts import Facts
from appliance.model import Decision, Effect, Message, Note, Question, Send, Side, Spent
from appliance.policy import MaskPlan
from appliance.session.level import Levels
from appliance.session.meter import Clock, Meter
from appliance.session.secret import veil, veil_raw
from appliance.session.told import Telling
from appliance.wire import Wire

JOIN: Final = 64 * 1024  # bytes of answers noted as one; a frame of the record stays small enough to read at a glance
# kinds that end a run of joined answers
ALONE: Final = frozenset({"error", "notice", "complete", "suspended", "event", "ws-text", "ws-binary", "ws-control"})

COUNTED: Final = frozenset({"row", "copy-data"})
NOTHING: Final = ("", "")
CLIENT: Final = Side.CLIENT
SERVER: Final = Side.SERVER


class Scribe:
    """Collects effects; `take` hands them over. Numbers the decisions and questions of its flow."""

    def __init__(self, flow_id: str, clock: Clock | None = None) -> None:
        self._flow_id = flow_id
        self.meter = Meter(clock)
        self._levels = Levels()
        self._telling = Telling()
        self._asked = 0.0  # when the question that waits was put
        self._plain = NOTHING  # the last subject, and what of it may be recorded
        self._numbered = 0
        self._noted: Message | None = None  # that was held
        self._out: list[Effect] = []

    def take(self) -> list[Effect]:
        """Return what was collected since the last call."""
        out, self._out = self._out, []
        return out

    def do(self, *effects: Effect) -> None:
        self._out.extend(effects)

    def send(self, to: Side, data: bytes) -> None:
        if data:
            self._out.append(Send(to, data))

    def next_id(self) -> str:
        """Return the id of the next decision or question."""
        self._numbered += 1
        return f"{self._flow_id}-{self._numbered}"

    def judged(self, decision: Decision, idle: bool) -> Decision:
        """Take how much is to be kept of the request that is judged, and of its answer; return the decision."""
        self._levels.judged(decision.record, idle)
        return decision

    def request(self, message: Message, subject: str, facts: Facts | None = None) -> None:
        """Note a message of the client as it came, once; a secret one only by its kind."""
        if message is self._noted:
            return
        self._noted = None
        raw, text = message.raw, subject
        if message.secret:
            raw, text = b"", ""
        elif facts is not None:
            raw, text = veil_raw(raw), self._recorded(subject)
        note = Note(
            "message",
            text,
            CLIENT,
            message.kind,
            raw,
            count=message.count,
            facts=() if facts is None else self._telling.facts(facts),
            level=self._levels.joint,
            spent=None if facts is None else self.meter.judged(),
        )
        self._out.append(note)

    def _recorded(self, subject: str) -> str:
        """Return what may be recorded of a text of the client. It is asked for a request and for its decision."""
        if self._plain[0] is not subject:
            self._plain = (subject, veil(subject))
        return self._plain[1]

    def notice(self, wire: Wire, text: str) -> None:
        """Tell a client that waits why, where the protocol has words for it."""
        data = wire.notice(text)
        if data:
            self.do(Note("message", text, Side.SERVER, "notice", data), Send(Side.CLIENT, data))

    def refusal(self, sends: Iterable[Send], text: str = "not relayed") -> None:
        """Send what makes a request fail; what the client is told by us and not by the server is noted."""
        for send in sends:
            if send.to is CLIENT:
                self.do(Note("message", text, SERVER, "error", send.data))
            self._out.append(send)

    def decision(self, decision: Decision, subject: str) -> str:
        """Note a decision; return its id."""
        id = self.next_id()
        text = self._recorded(subject)
        self._plain = NOTHING  # a flow that says no more must not keep what it said last
        self._out.append(Note("decision", text, decision=decision, id=id, level=self._levels.joint))
        return id

    def asked(self, question: Question, message: Message) -> None:
        """Note a question that is put; its message is noted, and will be judged again if the question is void."""
        self._asked, self._noted = self.meter.now, message
        text, decision = self._recorded(question.text), question.decision
        self.do(Note("asked", text, decision=decision, id=question.id, level=self._levels.joint))

    def answered(self, question: Question, text: str, by: str = "") -> None:
        """Note what became of a question."""
        spent = Spent(hold=max(0.0, self.meter.now - self._asked))
        self.do(Note("answered", text, decision=question.decision, id=question.id, by=by, spent=spent))

    def incident(self, what: str, side: Side | None = None) -> None:
        self.do(Note("incident", what, side))

    def answers(self, messages: Iterable[Message], plans: Iterable[MaskPlan]) -> None:
        """Note and send what the server said, runs of it joined; an error or the end of a result ends a run."""
        run = _Run()
        whole: list[bytes] = []
        for message in messages:
            raw = message.raw
            whole.append(raw)
            if run.add(message, raw) or run.size > JOIN:
                self._answer(run, plans)
                run = _Run()
        self._answer(run, plans)
        if whole:
            self.send(CLIENT, b"".join(whole) if len(whole) > 1 else whole[0])

    def _answer(self, run: "_Run", plans: Iterable[MaskPlan]) -> None:
        last = run.last
        if last is None:
            return
        hits: tuple[str, ...] = ()
        if run.masked:
            counts: Counter[str] = Counter()
            for plan in plans:
                counts += plan.hits
                plan.hits.clear()
            hits = tuple(counts)
        note = Note(
            "message",
            last.status or last.text,
            SERVER,
            last.kind,
            b"".join(run.shown),
            count=run.count,
            masked=run.masked,
            masks=hits,
            columns=self._telling.columns(plans),
            level=self._levels.joint,
            spent=self.meter.answered(),
        )
        self._out.append(note)


class _Run:
    """Answers that are noted as one."""

    def __init__(self) -> None:
        self.last: Message | None = None
        self.shown: list[bytes] = []  # their bytes, but for secrets
        self.size = self.masked = self.count = 0

    def add(self, message: Message, raw: bytes) -> bool:
        """Take one more; return True if it ends the run."""
        kind = message.kind
        self.last = message
        self.size += len(raw)
        self.masked += message.masked
        if not message.secret:
            self.shown.append(raw)
        if kind in COUNTED:
            self.count += message.count
        return kind in ALONE
