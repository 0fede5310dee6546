"""One flow: wire, facts and policy joined, and the wait for a reviewer.

Theory of operation. Bytes of the client become messages that queue here. The head of the queue is judged: allowed,
it goes up as it came; blocked, the wire makes it fail in its place; held, it and all behind it stay until the
answer comes. So a message is judged exactly when everything before it has been decided, whatever the cuts of the
stream were. Two more things make the head wait: a statement of our own in flight (the catalogue), and an earlier
message that may change how later ones are to be read (`Facts.changes`), until the server has answered it.

Bytes of the server come out of the wire in the form the client may see, and go down in order.

Time is an argument: `now` is any clock that does not jump, in seconds; `start` is told what the wall says then.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable

from appliance.facts import Facts, Reader
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import (
    Answered,
    Ask,
    Cancel,
    Close,
    Decision,
    Effect,
    Ended,
    Event,
    Flow,
    Message,
    Note,
    ProtocolError,
    Question,
    Received,
    Send,
    Shut,
    Side,
    Withdraw,
    Woke,
)
from appliance.policy import MaskPlan, Policy
from appliance.wire import Wire
from appliance.wire.detect import open as open_wire

JOIN = 64 * 1024  # bytes of answers noted as one; a frame of the record stays small enough to read at a glance
NO_CATALOG = frozenset({"table", "column", "compared", "copied", "written"})


class Session:
    """Drive with `start` and `receive`; wake it at `deadline`.

    The caller performs every effect, in order, before it calls again.
    """

    def __init__(self, flow: Flow, rules: Callable[[], Policy], shared: Shared) -> None:
        self.deadline: float | None = None
        self._flow, self._rules, self._shared = flow, rules, shared
        self._wire: Wire | None = None
        self._reader: Reader | None = None
        self._queue: deque[Message] = deque()
        self._queued = 0
        self._question: Question | None = None
        self._released: dict[str, str] = {}  # cursor -> subject an approval has released
        self._plans: list[MaskPlan] = []
        self._settling = self._injected = self._closed = False
        self._ended: set[Side] = set()
        self._decisions = 0
        self._wall = 0.0
        self._out: list[Effect] = []
        self._meet(rules())

    @property
    def held(self) -> int:
        """Bytes of the client that wait for an answer."""
        return self._queued

    def start(self, now: float, wall: float) -> list[Effect]:
        """Open the flow; `wall` is the time of day, in unix seconds, at `now`."""
        self._wall = wall - now
        self._note(Note("opened", text=f"{self._flow.client} -> {self._flow.server}"))
        policy = self._policy
        decision = policy.admit(self._who, self._flow.server)
        passed = policy.passes(self._who, self._flow.server) if decision.verdict != "block" else None
        if passed or decision.verdict == "block":
            decision = passed or decision
            self._note(Note("decision", f"connect {self._flow.server}", decision=decision, id=self._next_id()))
        if decision.verdict == "block":
            self._close("refused at connect", abort=True)
        elif passed is None:
            self._wire = open_wire(self._protocol)
        return self._take()

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Return what must be done, in order, now that `event` happened."""
        if self._closed:
            return []
        try:
            match event:
                case Received(side, data):
                    self._received(side, data, now)
                case Ended(side, lost):
                    self._end(side, lost, now)
                case Answered():
                    self._answered(event, now)
                case Woke():
                    self._woke(now)
        except ProtocolError as error:
            self._malformed(event.side if isinstance(event, Received) else Side.CLIENT, str(error))
        return self._take()

    def fail(self, text: str) -> list[Effect]:
        """End the flow with an error of the protocol, for a cause outside it (the record cannot be written)."""
        if self._closed:
            return []
        self._refuse(text)
        return self._take()

    # -- bytes and messages -------------------------------------------------------------------------------------

    def _received(self, side: Side, data: bytes, now: float) -> None:
        if self._wire is None:
            self._out.append(Send(side.other, data))
        elif side is Side.SERVER:
            self._down(self._wire, data, now)
        else:
            for message in self._wire.feed(side, data):
                self._queue.append(message)
                self._queued += len(message.raw)
                self._pump(now)
                if self._closed:
                    return

    def _down(self, wire: Wire, data: bytes, now: float) -> None:
        """Send on what the server said; then the queue may move."""
        answers: list[Message] = []
        try:
            for message in wire.feed(Side.SERVER, data):
                self._reading(wire).heard(message)
                if message.kind == "injected-done":
                    self._injected = False
                if message.kind == "ssl-answer" and message.status == "S":
                    self._note(Note("incident", "the server asked for TLS, which is not opened yet: flow refused"))
                    self._refuse("the server requires TLS on this connection, which vendorgate does not open yet")
                    return
                if not message.kind.startswith("injected"):
                    answers.append(message)
        finally:
            self._answer(answers)
        self._pump(now)

    def _answer(self, messages: list[Message]) -> None:
        """Note and send answers of the server, runs of them joined; an error or a refusal stands alone."""
        run: list[Message] = []
        size = 0
        for message in messages:
            run.append(message)
            size += len(message.raw)
            if message.kind in ("error", "complete", "notice") or size > JOIN:
                self._note_answers(run)
                run, size = [], 0
        self._note_answers(run)
        data = b"".join(m.raw for m in messages)
        if data:
            self._out.append(Send(Side.CLIENT, data))

    def _note_answers(self, run: list[Message]) -> None:
        if not run:
            return
        masked = sum(m.masked for m in run)
        hits: Counter[str] = Counter()
        for plan in self._plans if masked else ():
            hits += plan.hits
            plan.hits.clear()
        last = run[-1]
        self._note(
            Note(
                "message",
                text=last.status or last.text,
                side=Side.SERVER,
                message=last.kind,
                raw=b"".join(m.raw for m in run),
                count=sum(m.count for m in run if m.kind in ("row", "copy-data")),
                masked=masked,
                masks=tuple(hits),
            )
        )

    # -- judging ------------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        """Decide messages from the head of the queue, until one must wait."""
        wire = self._wire
        while wire and self._queue and not (self._question or self._injected or self._closed):
            message = self._queue[0]
            reader = self._reading(wire)
            facts = reader.ask(message)
            if facts is None:
                self._shift()
                self._forward(wire, message, None, None)
                continue
            if self._settling and wire.busy:
                return
            self._settling = False
            statement = reader.wanted(facts) if wire.idle else ""
            if statement:
                self._injected = True
                self._out.extend(wire.inject(statement))
                return
            self._meet(self._rules())
            self._judge(wire, message, facts, now)
        if not self._queue and Side.CLIENT in self._ended:
            self._finish(Side.CLIENT)

    def _judge(self, wire: Wire, message: Message, facts: Facts, now: float) -> None:
        decision = self._policy.decide(self._who, self._flow.server, facts)
        subject = facts.subject or message.text
        if decision.verdict == "approve":
            if facts.runs and self._released.get(message.cursor) != self._release_of(subject):
                self._hold(wire, message, facts, decision, now)
                return
            reason = decision.reason if facts.runs else "prepared only; asked when it runs"
            decision = Decision("allow", decision.rule, decision.file, decision.revision, reason)
        self._shift()
        self._note_request(message, subject)
        self._note(Note("decision", subject, decision=decision, id=self._next_id()))
        if decision.verdict == "allow":
            self._forward(wire, message, facts, decision)
        else:
            self._deny(wire, message, f"denied by vendorgate (decision {self._id()})")

    def _forward(self, wire: Wire, message: Message, facts: Facts | None, decision: Decision | None) -> None:
        """Let a message go up, with the masks for what it brings back. Unjudged messages are noted here."""
        plan, redact = None, False
        if facts is None:
            self._note_request(message, message.text)
        else:
            masks = self._policy.masks(self._who, self._flow.server)
            if masks:
                plan = self._plan(masks.plan(facts, self._reading(wire).origins), message)
                redact = masks.redacts(facts)
            self._settling = facts.changes
            if message.kind == "cancel":
                self._out.append(Cancel(self._flow.server, bytes.fromhex(message.name)))
        self._reading(wire).sent(message)
        self._out.extend(wire.allow(message, plan, redact))
        if facts is not None and facts.changes:
            self._out.extend(wire.settle())

    def _plan(self, plan: MaskPlan, message: Message) -> MaskPlan:
        copy = self._reading(self._wire).copy(message) if self._wire else None
        if copy is not None:
            plan.copy = copy
        if self._wire and self._wire.idle:
            self._plans.clear()
        self._plans.append(plan)
        return plan

    def _deny(self, wire: Wire, message: Message, text: str, code: str = "denied") -> None:
        """Make a request fail in its place; a login or a cancel ends its connection, as it would on a server."""
        if message.kind in ("startup", "cancel"):
            self._refuse(text)
        else:
            self._out.extend(wire.deny(message, code, text))

    # -- the wait for a reviewer --------------------------------------------------------------------------------

    def _hold(self, wire: Wire, message: Message, facts: Facts, decision: Decision, now: float) -> None:
        approval = decision.approval
        within = approval.within_s if approval else 0.0
        subject = facts.subject or message.text
        self._question = question = Question(
            id=self._next_id(),
            flow=self._flow,
            identity=self._identity,
            target=self._target,
            protocol=self._protocol,
            text=subject,
            raw=message.raw,
            decision=decision,
            asked=self._wall + now,
            expires=self._wall + now + within,
            cancel_key=wire.cancel_key,
        )
        self.deadline = now + within
        self._note_request(message, subject)
        self._note(Note("asked", subject, decision=decision, id=question.id))
        notice = wire.notice(f"vendorgate holds this statement for approval (question {question.id})")
        if notice:
            self._out.append(Send(Side.CLIENT, notice))
        self._out.append(Ask(question))

    def _answered(self, answer: Answered, now: float) -> None:
        question, wire = self._question, self._wire
        if question is None or wire is None or answer.id != question.id:
            return
        self._question = self.deadline = None
        message = self._queue[0]
        facts = self._reading(wire).ask(message)
        decision = question.decision
        self._meet(self._rules())
        if answer.approved and self._policy.revision != decision.revision:
            # An approval is bound to the rules it was asked under; these are others.
            self._note(Note("answered", "void: the rules changed while it waited", id=question.id, by=answer.by))
            self._pump(now)
            return
        verdict = "approved" if answer.approved else "cancelled" if answer.cancelled else "denied"
        text = f"{verdict}: {answer.reason}" if answer.reason else verdict
        self._note(Note("answered", text, decision=decision, id=question.id, by=answer.by))
        self._shift()
        if answer.approved:
            self._released[message.cursor] = self._release_of(question.text)
            self._forward(wire, message, facts, decision)
        elif answer.cancelled:
            self._deny(wire, message, "canceling statement due to user request", "cancelled")
        else:
            self._deny(wire, message, f"denied by vendorgate (question {question.id})")
        self._pump(now)

    def _woke(self, now: float) -> None:
        question = self._question
        if question is None or self.deadline is None or now < self.deadline:
            return
        self._out.append(Withdraw(question.id, "timed out"))
        self._answered(Answered(question.id, approved=False, by="time-out", reason="approval timed out"), now)

    def _release_of(self, subject: str) -> str:
        return f"{self._policy.revision} {subject}"

    # -- the end ------------------------------------------------------------------------------------------------

    def _end(self, side: Side, lost: bool, now: float) -> None:
        self._ended.add(side)
        if lost:
            self._close(f"{side.value} lost", abort=True)
        elif side is Side.SERVER or not self._queue:
            self._finish(side)
        elif self._question:
            self._close("client left while its request was held")
        else:
            self._pump(now)

    def _finish(self, side: Side) -> None:
        if self._ended == {Side.CLIENT, Side.SERVER}:
            self._close("ended")
        else:
            self._out.append(Shut(side.other))

    def _malformed(self, side: Side, what: str) -> None:
        self._note(Note("incident", f"{side.value}: {what}", side=side))
        self._refuse(f"protocol violation: {what}")

    def _refuse(self, text: str) -> None:
        data = self._wire.refuse(text) if self._wire else b""
        if data:
            self._note(Note("message", text, Side.SERVER, "error", data))
            self._out.append(Send(Side.CLIENT, data))
        self._close(text)

    def _close(self, why: str, abort: bool = False) -> None:
        if self._question:
            self._out.append(Withdraw(self._question.id, why))
            self._note(Note("answered", f"denied: {why}", decision=self._question.decision, id=self._question.id))
            self._question = self.deadline = None
        self._closed = True
        self._queue.clear()
        self._queued = 0
        self._note(Note("closed", why))
        self._out.append(Close(abort))

    # -- small things -------------------------------------------------------------------------------------------

    def _meet(self, policy: Policy) -> None:
        """Take the rules in force; who and where to are named by them."""
        if getattr(self, "_policy", None) is policy:
            return
        self._policy = policy
        self._who = policy.identify(self._flow.process)
        self._identity = self._who[0] if self._who else ""
        target = policy.target(self._flow.server)
        self._target = target.name if target else ""
        self._protocol = target.protocol if target else ""

    def _reading(self, wire: Wire) -> Reader:
        if self._reader is None:
            self._reader = open_reader(wire.name, self._shared)
        return self._reader

    def _shift(self) -> None:
        self._queued -= len(self._queue.popleft().raw)

    def _note_request(self, message: Message, subject: str) -> None:
        raw, text = (b"", "") if message.secret else (message.raw, subject)
        self._note(Note("message", text, Side.CLIENT, message.kind, raw, count=message.count))

    def _note(self, note: Note) -> None:
        self._out.append(note)

    def _next_id(self) -> str:
        self._decisions += 1
        return self._id()

    def _id(self) -> str:
        return f"{self._flow.id}-{self._decisions}"

    def _take(self) -> list[Effect]:
        out, self._out = self._out, []
        return out


def notes(effects: Iterable[Effect]) -> list[Note]:
    """Return the notes among `effects`: what the record must hold before any of them is performed."""
    return [effect for effect in effects if isinstance(effect, Note)]
