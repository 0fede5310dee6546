"""One flow of packets being driven: a session, one timer, and the packets that wait in the kernel for its word.

What a session returns is performed strictly in order, after the notes of the batch were recorded: no packet goes on
before its note is in the record. If it cannot be recorded, nothing of the batch goes on and the flow ends.

A lane ends once. Packets that wait then are refused, and their senders told.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

import msgspec

from appliance.model import (
    Answered,
    Ask,
    Cancel,
    Close,
    Effect,
    Ended,
    Event,
    Flow,
    Learned,
    Note,
    Open,
    ProtocolError,
    Question,
    Send,
    Shut,
    Side,
    Withdraw,
    Woke,
)
from appliance.relay.session_type import Session
from appliance.relay.tally import Counts, Tally
from appliance.service.outlet import Held, Outlet

log = logging.getLogger("vendorgate.worker")
C, S = Side.CLIENT, Side.SERVER


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How much one engine takes on, and how long it waits."""

    flows: int = 16384  # at a time; a resolver of one agent has some hundred in two minutes
    share: float = 0.5  # of `flows`, `packets` and `memory` that one vendor may take when it is alone (room.py)
    packets: int = 4096  # that wait in all flows; what one vendor may have is half of its queue's room, so others come
    memory: int = 64 * 1024 * 1024  # bytes of those, and of connections what was seen and is not acknowledged
    behind: int = 64  # datagrams of one flow that wait for the one before them
    held_s: float = 120.0  # a packet waits for a reviewer, whatever `within` says: the kernel keeps it all the while
    stall_s: float = 15.0  # a message of a connection to become whole; senders try again five times in it
    silent_s: float = 60.0  # a connection to come to its first message; authentication_timeout of PostgreSQL
    tick_s: float = 0.001  # at least between two wakes of a session that does not move its deadline
    refused_s: float = 5.0  # further packets of a flow that was refused as a whole make no new one


class Outside(Protocol):
    """Where effects go. None of these calls may answer from inside."""

    limits: Limits
    counts: Counts
    outlet: Outlet

    def record(self, flow: Flow, notes: Sequence[Note]) -> None:
        """Append to the record; OSError if it cannot be written."""

    def ask(self, question: Question, answer: Callable[[Answered], None]) -> None:
        """Put a question; `answer` is called later."""

    def withdraw(self, effect: Withdraw) -> None:
        """Take a question back."""

    def cancel(self, effect: Cancel) -> None:
        """Pass a cancel request to whoever holds the question it is about."""

    def learned(self, flow: Flow, effect: Learned) -> None:
        """Keep what an answer of DNS told the flow's process."""

    def incident(self, flow: Flow | None, text: str) -> None:
        """Tell the operators."""

    def kept(self, number: int) -> int:
        """Return how many bytes of a flow are kept that were seen, and not acknowledged."""

    def weigh(self, flow: Flow, packets: int, size: int) -> bool:
        """So many more packets and bytes wait in the flow; False if its vendor may not have more."""

    def ended(self, lane: "Lane") -> None:
        """The lane is over. Unless it is `forgotten`, further packets of the flow are to be refused."""


class Lane(ABC):
    """Drives one flow. `open` once; then `take` for each packet, until `Outside.ended`."""

    def __init__(self, number: int, flow: Flow, session: Session, outside: Outside) -> None:
        self.number, self.flow = number, flow  # by the tracker
        self.over = self.forgotten = False
        self._session, self._outside = session, outside
        self._loop = asyncio.get_running_loop()
        self._questions: dict[str, float] = {}  # -> when it was asked
        self._deadline: asyncio.TimerHandle | None = None
        self._tally = Tally()
        self._weight = (0, 0)

    @property
    def idle(self) -> bool:
        """True if nothing is lost when the flow is forgotten."""
        return False

    @property
    def waits(self) -> bool:
        """True while a reviewer is asked: the flow is not over, whatever the silence."""
        return bool(self._questions)

    def open(self) -> None:
        """Start the session."""
        self._step(lambda: self._session.start(self._loop.time(), time.time()))

    @abstractmethod
    def take(self, held: Held) -> None:
        """Take the next packet of the flow, which the tracker has found sound."""

    @abstractmethod
    def look(self, now: float) -> None:
        """End what waits too long. Called every second."""

    @abstractmethod
    def _send(self, to: Side, data: bytes) -> None:
        """Let `data` go on to a side."""

    @abstractmethod
    def _shut(self, to: Side) -> None:
        """No more goes to a side."""

    @abstractmethod
    def _finish(self) -> bool:
        """The session ended in peace. False: it did not, for the packets."""

    @abstractmethod
    def _waiting(self) -> Sequence[Held]:
        """Return the packets that wait."""

    @abstractmethod
    def _abort(self, left: Sequence[Held]) -> None:
        """Refuse what is left."""

    def forget(self) -> None:
        """The flow is over for the tracker: nothing was heard of it for long, or both sides have ended."""
        self.forgotten = True
        for side in Side:
            self._give(Ended(side))
        self.end()

    def answer(self, answered: Answered) -> None:
        """A reviewer answered a question of this flow."""
        self._questions.pop(answered.id, None)
        self._give(answered)

    def fail(self, text: str) -> None:
        """End the flow with an error of its protocol."""
        if not self.over:
            self._step(lambda: self._session.fail(text))
            self.end()

    def end(self) -> None:
        """End the flow at once; what waits is refused."""
        if self.over:
            return
        self.over = True
        if self._deadline:
            self._deadline.cancel()
        for id in self._questions:
            self._outside.withdraw(Withdraw(id, "the flow ended"))
        self._questions.clear()
        self._abort(self._waiting())
        self._weigh()
        self._outside.ended(self)

    def broken(self, text: str) -> None:
        """End the flow for what a peer or a limit did."""
        if not self.over:
            self._outside.incident(self.flow, text)
            self._keep([Note("incident", text), Note("closed", text, message="abort")])
            self.end()

    def _expire(self, now: float) -> None:
        """Deny what has been asked too long ago for packets to wait."""
        for id, asked in list(self._questions.items()):
            if now - asked > self._outside.limits.held_s:
                reason = f"packets wait no longer than {self._outside.limits.held_s:g} s"
                self._outside.withdraw(Withdraw(id, reason))
                self.answer(Answered(id, approved=False, by="vendorgate", reason=reason))

    # -- events in, effects out ------------------------------------------------------------------------------

    def _give(self, event: Event) -> None:
        if not self.over:
            self._step(lambda: self._session.receive(event, self._loop.time()))

    def _step(self, ask: Callable[[], Sequence[Effect]]) -> None:
        try:
            effects = ask()
            if self._recorded(effects):
                self._perform(effects)
        except ProtocolError as error:
            self.broken(str(error))
        except Exception as error:
            self._failed(error)
        if not self.over:
            self._set_timer()
            if not self._weigh():
                self.broken("too much of this vendor waits")

    def _recorded(self, effects: Sequence[Effect]) -> bool:
        notes = self._tally.completed([effect for effect in effects if isinstance(effect, Note)])
        if not notes:
            return True
        try:
            self._outside.record(self.flow, notes)
        except OSError as error:
            self._outside.counts.unrecorded += 1
            text = f"the record cannot be written: {error}"
            self.broken(text)
            return False
        self._outside.counts.messages += sum(note.kind == "message" for note in notes)
        return True

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to, data):
                    self._outside.counts.bytes += len(data)
                    self._tally.sent[to] += len(data)
                    self._send(to, data)
                case Note():
                    pass  # recorded before the first effect of its batch
                case Shut(to):
                    self._shut(to)
                case Close(abort):
                    if abort or not self._finish():
                        self.end()
                case Ask(question):
                    self._questions[question.id] = self._loop.time()
                    self._outside.ask(question, self.answer)
                case Withdraw(id):
                    self._questions.pop(id, None)
                    self._outside.withdraw(effect)
                case Cancel():
                    self._outside.cancel(effect)
                case Open():
                    raise ProtocolError("TLS cannot be opened in a connection that is not terminated")
                case Learned():
                    self._outside.learned(self.flow, effect)
                case _:
                    assert_never(effect)

    def _failed(self, error: Exception) -> None:
        """End this flow for a fault of ours; the others live."""
        log.exception("flow %s to %s is ended: %s", self.flow.id, self.flow.server, error)
        self._outside.counts.failed += 1
        self.broken(f"internal error: {type(error).__name__}")

    def _keep(self, notes: Sequence[Note]) -> None:
        try:
            self._outside.record(self.flow, self._tally.completed(notes))
        except OSError as error:
            log.error("flow %s: its end is not recorded: %s", self.flow.id, error)

    def _weigh(self) -> bool:
        waiting = () if self.over else self._waiting()
        kept = 0 if self.over else self._outside.kept(self.number)
        weight = len(waiting), max(sum(len(held.packet.data) for held in waiting), kept)
        before, self._weight = self._weight, weight
        if weight == before:
            return True
        return self._outside.weigh(self.flow, weight[0] - before[0], weight[1] - before[1]) or weight <= before

    def _set_timer(self) -> None:
        """Keep one timer that rings at the session's deadline, or before it."""
        deadline, timer = self._session.deadline, self._deadline
        if timer and (deadline is None or timer.when() > deadline):
            timer.cancel()
            self._deadline = timer = None
        if timer is None and deadline is not None:
            soon = self._loop.time() + self._outside.limits.tick_s
            self._deadline = self._loop.call_at(max(deadline, soon), self._woken)

    def _woken(self) -> None:
        self._deadline = None
        deadline = self._session.deadline
        if deadline is not None and self._loop.time() >= deadline:
            self._give(Woke())
        elif not self.over:
            self._set_timer()
