"""The session itself.

Theory of operation. Bytes of the client become messages that queue here. The head of the queue is judged: allowed,
it goes up as it came; blocked, the wire makes it fail in its place; held, it and all behind it stay until the
answer comes. So a message is judged exactly when everything before it has been decided, whatever the cuts of the
stream were. Two more things make the head wait: a statement of our own in flight (the catalogue), and an earlier
message that may change how later ones are to be read (`Facts.changes`), until the server has answered it.

Bytes of the server come out of the wire in the form the client may see, and go down in order.

Time is an argument: `now` is any clock that does not jump, in seconds; `start` is told what the wall says then.
"""

from collections.abc import Callable
from typing import Final

from appliance.facts import Facts, Reader
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import (
    Answered,
    Cancel,
    Close,
    Effect,
    Ended,
    Event,
    Flow,
    Message,
    Note,
    Opened,
    ProtocolError,
    Received,
    Send,
    Shut,
    Side,
    Trust,
    Unopened,
    Woke,
)
from appliance.policy import Policy
from appliance.session.answers import APART, DENIED
from appliance.session.answers import judged as answer
from appliance.session.encryption import Encryption
from appliance.session.ground import Ground
from appliance.session.line import Line
from appliance.session.meter import Clock, sooner
from appliance.session.plans import Plans
from appliance.session.released import Released
from appliance.session.scribe import Scribe
from appliance.session.unread import Unread
from appliance.session.wait import OTHERWISE, Wait, moot, refusal, said
from appliance.wire import Wire

LOGIN_S = 60.0  # until the first request may come; authentication_timeout of PostgreSQL, and of servers without one
SERVER: Final = Side.SERVER


class Session:
    """Drive with `start` and `receive`; wake it at `deadline`. `clock` measures what our own work takes.

    The caller performs every effect, in order, before it calls again.
    """

    def __init__(self, flow: Flow, rules: Callable[[], Policy], shared: Shared, clock: Clock | None = None) -> None:
        self._flow, self._rules, self._shared = flow, rules, shared
        self._ground = Ground(flow, rules())
        self._scribe = Scribe(flow.id, clock)
        self._encryption, self._encrypts = Encryption(self._scribe, flow.names), flow.transport == "tcp"
        self._raw = Unread(self._ground, self._scribe)
        self._wire: Wire | None = None
        self._reader: Reader | None = None
        self._line = Line()
        self._wait = Wait(self._ground, self._scribe)
        self._login_by: float | None = None
        self._released = Released()
        self._plans = Plans(self._ground)
        self._settling = self._injected = self._closed = False
        self._ended: set[Side] = set()
        self._shut: set[Side] = set()

    @property
    def deadline(self) -> float | None:
        """When to give it `Woke`, on the clock of `now`; None for never."""
        return sooner(self._wait.by, self._login_by)

    @property
    def held(self) -> int:
        """Bytes of the client that wait for an answer, and such of TLS that are only looked at."""
        return self._line.size + self._encryption.kept

    @property
    def kept(self) -> int:
        """Bytes of messages that have begun, where the wire reads others meanwhile."""
        return getattr(self._wire, "kept", 0)

    @property
    def passing(self) -> bool:
        """True while all that comes goes to the other side as it comes, whatever it is."""
        return self._wire is None and not self._closed and self._raw.rests(self._rules())

    @property
    def trust(self) -> Trust:
        """How the server is to prove who it is, by the rules in force."""
        return self._ground.trusts(self._rules())

    def start(self, now: float, wall: float) -> list[Effect]:
        """Open the flow; `wall` is the time of day, in unix seconds, at `now`."""
        self._wait.wall = wall - now
        self._scribe.do(self._ground.opened())
        decision, passed = self._ground.admit(), self._ground.passes()
        if decision.verdict == "block":
            self._scribe.decision(decision, f"connect to {self._flow.server}")
            self._close("refused at connect", abort=True)
        elif passed is not None:
            self._scribe.decision(passed, f"connect to {self._flow.server}")
        else:
            self._wire = self._ground.wire()
            self._login_by = now + LOGIN_S
        return self._scribe.take()

    def receive(self, event: Event, now: float) -> list[Effect]:
        """Return what must be done, in order, now that `event` happened."""
        if self._closed:
            return []
        self._shared.now = self._scribe.meter.begun(now)
        try:
            match event:
                case Received():
                    self._received(event.side, event.data, now)
                case Ended(side, lost):
                    self._end(side, lost, now)
                case Answered():
                    self._answered(event, now)
                case Woke():
                    self._woke(now)
                case Opened():
                    self._ground.opened_by(*self._encryption.opened(event))
                case Unopened():
                    self._close(self._encryption.unopened(event))
        except ProtocolError as error:
            side = event.side if isinstance(event, Received) else Side.CLIENT
            self._scribe.incident(f"{side.value}: {error}", side)
            self._refuse(f"protocol violation: {error}", "malformed")
        return self._scribe.take()

    def fail(self, text: str) -> list[Effect]:
        """End the flow with an error of the protocol, for a cause outside it (the record cannot be written)."""
        if not self._closed:
            self._refuse(text, "failed")
        return self._scribe.take()

    # -- bytes --------------------------------------------------------------------------------------------------

    def _received(self, side: Side, data: bytes, now: float) -> None:
        wire = self._wire
        if wire is None:
            self._pass(side, data)
        elif data and self._encrypts and self._encryption.takes(side, data):
            self._hello()
        elif side is SERVER:
            self._down(wire, data, now)
        else:
            for message in wire.feed(side, data):
                if message.side is SERVER:  # what the wire answers by itself
                    self._scribe.answers([message], ())
                    continue
                if message.kind == "tls":
                    self._scribe.do(*wire.allow(message))
                    self._begin_tls(wire)
                    return
                self._line.add(message)
                self._pump(now)
                if self._closed:
                    return

    def _begin_tls(self, wire: Wire) -> None:
        self._encryption.begin(wire.encrypted())
        self._hello()

    def _hello(self) -> None:
        self._meet()
        why = self._encryption.open(self._ground.trust)
        if why:
            self._close(why)
        elif self._encryption.unread:
            self._wire, self._login_by = None, None
            self._pass(Side.CLIENT, self._encryption.begun())

    def _pass(self, side: Side, data: bytes) -> None:
        """A raw flow lives as long as a rule passes it: rules that no longer do end it."""
        self._meet()
        if self._raw.passes(self._encryption, side, data):
            self._scribe.send(side.other, data)
        else:
            self._close("the rules in force no longer pass this flow", abort=True)

    def _down(self, wire: Wire, data: bytes, now: float) -> None:
        """Send on what the server said; then the queue may move."""
        answers: list[Message] = []
        encrypts, tunnel = False, None
        try:
            for message in wire.feed(SERVER, data):
                self._reading(wire).heard(message)
                kind = message.kind
                if kind not in APART:
                    answers.append(message)
                elif kind == "injected-done":
                    self._injected = False
                    self._line.again(wire)
                elif kind == "answer":
                    answers.append(answer(message, self._reader, wire, self._ground, self._scribe))
                elif kind != "injected":
                    answers.append(message)
                    if kind == "redirect" and (why := self._ground.elsewhere(message.name)):
                        self._scribe.incident(why, SERVER)
                    encrypts = encrypts or kind == "tls"
                    tunnel = message if kind == "tunnel" else tunnel
        finally:
            # What came before a malformed message has been answered truly, and goes down.
            if not self._closed:
                self._scribe.answers(answers, self._plans.open)
        if encrypts:
            self._begin_tls(wire)
        if tunnel is not None:
            self._enter(tunnel, now)
            return
        if wire.idle:
            self._login_by = None
        self._pump(now)

    def _enter(self, tunnel: Message, now: float) -> None:
        """What a proxy has opened is, from its first byte, a flow of its own."""
        self._scribe.do(self._ground.enter(tunnel.name))
        self._wire, self._reader, self._login_by = self._ground.wire(), None, now + LOGIN_S
        self._encryption, self._plans = Encryption(self._scribe, self._ground.called), Plans(self._ground)
        self._released.clear()
        for rest in (value.data for value in tunnel.values if value.data):
            self._received(Side.SERVER, rest, now)

    # -- judging ------------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        """Decide messages from the head of the queue, until one must wait."""
        wire = self._wire
        if self._line:
            self._meet()  # before it is read: rules that name columns have it read by the catalogue
        while wire and self._line and not (self._wait or self._injected or self._closed):
            message = self._line.first
            self._scribe.meter.judging()
            reader = self._reader or self._reading(wire)
            facts = reader.ask(message)
            if facts is None:
                self._line.shift()
                self._scribe.request(message, message.text)
                self._forward(wire, message, None)
                continue
            if self._settling:
                if wire.busy:
                    return
                self._settling = False
                self._line.again(wire)
                continue
            statement = self._wanted(wire, reader, facts)
            if statement:
                self._injected = True
                self._scribe.do(*wire.inject(statement))
                return
            self._judge(wire, message, facts, now)
        if not self._line and Side.CLIENT in self._ended and not self._closed:
            self._finish(Side.CLIENT)

    def _wanted(self, wire: Wire, reader: Reader, facts: Facts) -> str:
        return reader.wanted(facts) if wire.idle else ""

    def _judge(self, wire: Wire, message: Message, facts: Facts, now: float) -> None:
        idle = wire.idle
        if idle and message.kind != "startup":
            self._login_by = None  # logged in long ago, or a protocol that has no login
        decision = self._scribe.judged(self._ground.decide(facts), idle)
        decision = self._plans.impossible(self._reading(wire), message, facts) or decision
        subject = facts.subject or message.text
        self._released.judged(message, facts)
        if decision.verdict == "approve":
            if self._released.asks(message, subject, facts, self._ground.revision):
                self._scribe.request(message, subject, facts)
                within = self._wait.ask(wire, message, subject, decision, now=now)
                if self._login_by is not None:
                    self._login_by += within  # a login that is held has the reviewer's time as well
                return
            decision = self._released.rides(decision, facts)
        self._line.shift()
        self._scribe.request(message, subject, facts)
        id = self._scribe.decision(decision, subject)
        if decision.verdict == "allow":
            self._forward(wire, message, facts)
        else:
            self._deny(wire, message, f"{DENIED} (decision {id})", decision.reply or "denied")

    def _forward(self, wire: Wire, message: Message, facts: Facts | None) -> None:
        """Let a message go up, with the masks for what it brings back."""
        plan, redact, reader = None, False, self._reading(wire)
        if facts is not None:
            plan, redact = self._plans.of(reader, message, facts)
            self._settling = facts.changes
            self._scribe.meter.sent()
            if facts.cancels:
                self._scribe.do(Cancel(self._flow.server, facts.cancels))
        reader.sent(message)
        self._scribe.refusal(wire.allow(message, plan, redact))
        if self._settling and facts is not None:
            self._scribe.do(*wire.settle())

    def _deny(self, wire: Wire, message: Message, text: str, code: str = "denied") -> None:
        """Make a request fail in its place; a login or a cancel ends its connection, as it would on a server."""
        if message.kind in ("startup", "cancel"):
            self._refuse(text)
        else:
            self._scribe.refusal(wire.deny(message, code, text), text)

    # -- the wait for a reviewer --------------------------------------------------------------------------------

    def _answered(self, answer: Answered, now: float) -> None:
        question, wire = self._wait.take(answer), self._wire
        if question is None or wire is None:
            return
        self._meet()
        message, reader = self._line.first, self._reading(wire)
        facts = reader.ask(message)
        void = moot(question, message, facts, self._ground) if answer.approved else ""
        if void or (facts and answer.approved and self._plans.impossible(reader, message, facts)):
            self._scribe.answered(question, f"void: {void or OTHERWISE}", answer.by)
            self._pump(now)
            return
        self._scribe.answered(question, said(answer), answer.by)
        self._line.shift()
        if answer.approved:
            self._released.keep(message, facts, question.text, self._ground.revision)
            self._forward(wire, message, facts)
        else:
            self._deny(wire, message, *refusal(answer))
        self._pump(now)

    def _woke(self, now: float) -> None:
        if self._login_by is not None and now >= self._login_by:
            self._scribe.incident(f"no login within {LOGIN_S:.0f} s", Side.CLIENT)
            self._refuse(f"no login within {LOGIN_S:.0f} s", "failed")
            return
        if (late := self._wait.late(now)) is not None:
            self._answered(late, now)

    # -- the end ------------------------------------------------------------------------------------------------

    def _end(self, side: Side, lost: bool, now: float) -> None:
        self._ended.add(side)
        if side is Side.SERVER and self._wire is not None and not lost:
            self._down(self._wire, b"", now)
        if self._closed:
            return
        if lost:
            self._close(f"{side.value} lost", abort=True)
        elif len(self._ended) == 2:
            self._close("ended")  # what still waits has nobody to go to
        elif side is Side.SERVER or not self._line:
            self._finish(side)
        elif self._wait:
            self._close("the client left while its request was held")
        else:
            self._pump(now)

    def _finish(self, side: Side) -> None:
        if side.other not in self._shut:
            self._shut.add(side.other)
            self._scribe.do(Shut(side.other))

    def _refuse(self, text: str, code: str = "denied") -> None:
        """Tell the client a last error, and close."""
        data = self._wire.refuse(text, code) if self._wire else b""
        if data:
            self._scribe.do(Note("message", text, Side.SERVER, "error", data), Send(Side.CLIENT, data))
        self._close(text)

    def _close(self, why: str, abort: bool = False) -> None:
        self._wait.end(why)
        self._login_by, self._closed = None, True
        self._line.clear()
        self._scribe.do(Note("closed", why, message="abort" if abort else ""), Close(abort))

    # -- who, and how to read -----------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Take the rules in force."""
        if self._ground.meet(self._rules()) and self._reader:
            self._reader.needs_catalog = self._ground.names()

    def _reading(self, wire: Wire) -> Reader:
        if self._reader is None:
            self._reader = open_reader(wire.name, self._shared, self._ground.server, process=self._flow.process)
            self._reader.needs_catalog = self._ground.names()
        return self._reader
