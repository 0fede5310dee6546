"""One flow being driven: two ends, a session, one timer.

What a session returns is performed strictly in order, after the notes of the batch were recorded: nothing
leaves before its note is in the record. If it cannot be recorded, nothing of the batch leaves and the flow
ends. Notes and bytes, when there is nothing else to do, wait for the end of the loop's turn (gather.py).

The life of a flow: the session is started; upstream is connected (bytes of the client wait in the kernel
until then); both run; `Close` winds up: each end is told that no more comes, what waits is written, and what
the peer still sends is read and thrown away, because a close with unread bytes is a reset that would take our
last words with it. A peer that makes no progress within `linger_s` is reset.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import assert_never

from appliance.model import (
    Address,
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
    Opened,
    Received,
    Send,
    Shut,
    Side,
    Unopened,
    Withdraw,
    Woke,
)
from appliance.relay import tls
from appliance.relay.alarm import Alarm
from appliance.relay.end import End
from appliance.relay.gather import only_told
from appliance.relay.joined import as_few, joined
from appliance.relay.linger import Linger
from appliance.relay.outside import Outside
from appliance.relay.securing import Securing
from appliance.relay.session_type import Session
from appliance.relay.splice import Bulk
from appliance.relay.tally import Tally
from appliance.relay.upstream import Upstream
from appliance.relay.valve import Valve

log = logging.getLogger(__name__)
C, S = Side.CLIENT, Side.SERVER
NO_ROOM = "too much of this vendor waits unfinished"


class Pipe:
    """Drives one flow. `open` once; it then lives by what the loop calls, until `outside.ended`."""

    def __init__(self, flow: Flow, session: Session, client: socket.socket, outside: Outside) -> None:
        self.flow = flow
        self._session, self._outside, self._limits = session, outside, outside.limits
        self._gather, self._counts = outside.gather, outside.counts
        self._loop = asyncio.get_running_loop()
        self.client = End(C, self, self._limits, client, outside.gate)
        self._ends = {C: self.client, S: End(S, self, self._limits, None, outside.gate)}
        self._valve = Valve(flow, session, self.client, self._ends[S], outside)
        self._questions: set[str] = set()
        self._upstream = Upstream(self._ends[S], self._limits.connect_s)
        self._alarm = Alarm(session, self._limits.tick_s, lambda: self._give(Woke()))
        self._securing = Securing(flow, session, self._ends, outside, told=self._secured, broken=self.broken)
        self._linger = Linger(self._ends, self._limits, self._settle)
        self._greeting: asyncio.TimerHandle | None = None
        self._tally = Tally()
        self._sent = self._tally.sent
        self._bulk = Bulk(session, self._ends, outside, self._tally, self)
        self._notes: Sequence[Note] = ()  # to be recorded at the end of this turn
        self._sends: list[Send] = []  # and to be done then
        self._gathered = False  # there are some
        self._opening = True
        self._closing = self._ended = False

    async def open(self) -> None:
        """Start the session, connect upstream, and let bytes flow."""
        self._greeting = self._loop.call_later(self._limits.greeting_s, self._silent)
        try:
            self._step(lambda: self._session.start(self._loop.time(), time.time()))
            if not self._closing:
                await self._connect()
            await self._attach()
        except Exception as error:
            self.broken(error)
        finally:
            self._opening = False
            self._settle()

    def answer(self, answered: Answered) -> None:
        """A reviewer answered a question of this flow."""
        self._questions.discard(answered.id)
        self._give(answered)

    def fail(self, text: str) -> None:
        """End the flow with an error of its protocol."""
        self._now()
        if not self._closing:
            self._step(lambda: self._session.fail(text))
            self._close(abort=False)

    def renewed(self) -> None:
        """Other rules are in force: end the flow if its server would not be believed by them."""
        why = self._securing.doubts()
        if why and not self._closing:
            text = f"the server is no longer believed: {why}"
            self._outside.incident(self.flow, text)
            self.fail(text)

    def abort(self) -> None:
        """End the flow at once, by resets."""
        self._close(abort=True)

    # -- opening ---------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        try:
            await self._upstream.connect(self.flow.server, lambda: not self._closing)
        except OSError as error:  # TimeoutError is one
            self._unreached(self.flow.server, error)

    def _unreached(self, server: Address, error: OSError) -> None:
        """End the flow as the network would have: the client gets a reset, not words of ours."""
        if self._closing:
            return
        self._counts.unreached += 1
        self._ends[C].shut = True
        why = os.strerror(error.errno) if error.errno else "no answer in time"
        note = Note("incident", f"cannot connect to {server}: {why}")
        self._step(lambda: [note, *self._session.receive(Ended(S, lost=True), self._loop.time())])
        self._close(abort=True)

    async def _attach(self) -> None:
        """Give the client's socket to the loop, unless it was closed meanwhile."""
        end = self._ends[C]
        if not end.gone and end.sock:
            end.sock.setblocking(False)
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(end.protocol, sock=end.sock)

    # -- what the ends tell ----------------------------------------------------------------------------------

    def arrived(self, side: Side, data: bytes) -> None:
        self._now()
        self._valve.came(side, len(data))
        self._give(Received(side, data))
        if self._valve.bursts(side):
            self._outside.incident(self.flow, NO_ROOM)
            self.fail(NO_ROOM)
        if not (self._gathered or self._closing):
            self._bulk.came(side)

    def ended(self, side: Side) -> None:
        self._give(Ended(side))
        self._settle()

    def lost(self, side: Side) -> None:
        self._give(Ended(side, lost=True))
        if self._ends[side.other].gone:
            self._close(abort=True)
        self._settle()

    def broke(self, side: Side, error: Exception) -> None:
        self._give(Unopened(side, tls.why(error)))

    def _secured(self, result: Opened | Unopened) -> None:
        self._give(result)
        self.renewed()  # rules may have changed while it was opened

    def regulate(self) -> None:
        """Read from a side only while what comes of it can go somewhere."""
        if not self._valve.regulate():
            self._outside.crowded(self, self._valve.weight)

    def _silent(self) -> None:
        """End a flow that has not come to its first message: it would keep its place for nothing."""
        self._greeting = None
        self.fail(f"no complete message within {self._limits.greeting_s:g} s")

    # -- events in, effects out ------------------------------------------------------------------------------

    def _give(self, event: Event) -> None:
        """Have the session take an event, when all it asked for before is done."""
        self._now()
        if self._closing:
            return
        try:
            effects = self._session.receive(event, self._loop.time())
            if effects and type(event) is Received:
                self._valve.used(event.side)
                if self._greeting:
                    self._greeting.cancel()
                    self._greeting = None
            if self._leaves(effects):
                return
            if self._recorded(effects):
                self._perform(effects)
        except Exception as error:
            self.broken(error)
        self._after()

    def _step(self, ask: Callable[[], Sequence[Effect]]) -> None:
        try:
            effects = ask()
            if self._recorded(effects):
                self._perform(effects)
        except Exception as error:
            self.broken(error)
        self._after()

    def _after(self) -> None:
        if not self._closing:
            self._alarm.set()
            self.regulate()

    def _leaves(self, effects: Sequence[Effect]) -> bool:
        """Leave notes and bytes to the end of this turn, if there is nothing else to do."""
        told = only_told(effects)
        if told is None:
            return False
        notes, self._sends, size = told
        self._notes, self._gathered = self._tally.completed(notes), True
        self._gather.add(self, size)
        return True

    def _now(self) -> None:
        """Carry out what was left to the end of this turn."""
        if self._gathered:
            self._gather.now()

    @property
    def noted(self) -> tuple[Flow, Sequence[Note]]:
        """What is to be recorded before what was left is done."""
        return self.flow, self._notes

    def recorded(self, error: Exception | None) -> None:
        """What was left is recorded: do it. Or it is not, for this reason."""
        notes, sends = self._notes, self._sends
        self._notes, self._sends, self._gathered = (), [], False
        try:
            if error is None:
                self._count(notes)
                for send in as_few(sends):
                    self._write(send.to, send.data)
            elif isinstance(error, OSError):
                self._unrecorded(error)
            else:
                self.broken(error)
            self._after()
        except Exception as fault:
            self.broken(fault)

    def _recorded(self, effects: Sequence[Effect]) -> bool:
        """Record the notes among `effects`; end the flow if that fails."""
        notes = self._tally.completed([effect for effect in effects if isinstance(effect, Note)])
        if not notes:
            return True
        try:
            self._outside.record(self.flow, notes)
        except OSError as error:
            self._unrecorded(error)
            return False
        self._count(notes)
        return True

    def _count(self, notes: Sequence[Note]) -> None:
        messages = 0
        for note in notes:
            if note.kind == "message":
                messages += 1
        self._counts.messages += messages

    def _write(self, to: Side, data: bytes) -> None:
        self._counts.bytes += len(data)
        self._sent[to] += len(data)
        self._ends[to].write(data)

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in joined(effects):
            match effect:
                case Send(to, data):
                    self._write(to, data)
                case Note():
                    pass  # recorded before the first effect of its batch
                case Shut(to):
                    self._ends[to].finish()
                case Close(abort):
                    self._close(abort)
                case Ask(question):
                    self._questions.add(question.id)
                    self._outside.ask(question, self.answer)
                case Withdraw(id):
                    self._questions.discard(id)
                    self._outside.withdraw(effect)
                case Cancel():
                    self._outside.cancel(effect)
                case Open():
                    self._securing.begin(effect)
                case Learned():
                    self._outside.learned(self.flow, effect)
                case _:
                    assert_never(effect)

    def _unrecorded(self, error: OSError) -> None:
        """End the flow in the words of its protocol. Nothing goes upstream; notes are kept if they can be."""
        self._counts.unrecorded += 1
        text = f"the record cannot be written: {error}"
        self._outside.incident(self.flow, text)
        last = list(self._session.fail("the session cannot be recorded"))
        self._keep([Note("incident", text), *(effect for effect in last if isinstance(effect, Note))])
        self._perform([effect for effect in last if not (isinstance(effect, Send) and effect.to is S)])
        self._close(abort=False)

    def broken(self, error: Exception) -> None:
        """Close this flow for a fault of ours; the others live."""
        self._now()
        log.exception("flow %s to %s is closed: %s", self.flow.id, self.flow.server, error)
        self._counts.failed += 1
        text = f"internal error: {type(error).__name__}"
        self._outside.incident(self.flow, text)
        self._keep([Note("incident", text), Note("closed", text)])
        self._close(abort=True)

    def _keep(self, notes: Sequence[Note]) -> None:
        try:
            self._outside.record(self.flow, self._tally.completed(notes))
        except Exception as error:  # for whatever reason: the flow ends, and others wait for their turn
            log.error("flow %s: its end is not recorded: %s", self.flow.id, error)

    # -- the end ---------------------------------------------------------------------------------------------

    def _close(self, abort: bool) -> None:
        """Begin to wind up; a second call can only make it an abort."""
        self._now()
        if not self._closing:
            self._closing = self._valve.closing = True
            self._alarm.stop()
            if self._greeting:
                self._greeting.cancel()
            self._securing.stop()
            self._upstream.give_up()
            for id in self._questions:
                self._outside.withdraw(Withdraw(id, "the flow ended"))
            self._questions.clear()
            self._linger.begin()
        if abort:
            for end in self._ends.values():
                end.reset()
        else:
            for end in self._ends.values():
                end.finish()
        self._settle()

    def _settle(self) -> None:
        """Close what has nothing left to do; tell when both ends are no more."""
        if self._opening or self._ended:
            return
        ends = self._ends.values()
        if not self._closing and all(end.gone or (end.finished and end.shut) for end in ends):
            self._close(abort=False)
            return
        if not self._closing:
            return
        for end in ends:
            if end.open and end.finished:
                end.close()
        if any(end.open for end in ends):
            self.regulate()
            self._linger.look()
            return
        self._ended = True
        self._linger.stop()
        self._valve.over()
        self._outside.ended(self)
