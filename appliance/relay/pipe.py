"""One flow being driven: two ends, a session, one timer.

What a session returns is performed strictly in order, after the notes of the batch were recorded: nothing
leaves before its note is in the record. If it cannot be recorded, nothing of the batch leaves and the flow
ends.

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
    Received,
    Send,
    Shut,
    Side,
    Unopened,
    Withdraw,
    Woke,
)
from appliance.relay import tls
from appliance.relay.end import End, dial
from appliance.relay.joined import joined
from appliance.relay.limits import MAX_READ
from appliance.relay.outside import Outside
from appliance.relay.session_type import Session
from appliance.relay.tally import Tally

log = logging.getLogger(__name__)
C, S = Side.CLIENT, Side.SERVER
NO_ROOM = "too much of this vendor waits unfinished"


class Pipe:
    """Drives one flow. `open` once; it then lives by what the loop calls, until `outside.ended`."""

    def __init__(self, flow: Flow, session: Session, client: socket.socket, outside: Outside) -> None:
        self.flow = flow
        self._session, self._outside, self._limits = session, outside, outside.limits
        self._loop = asyncio.get_running_loop()
        self.client = End(C, self, self._limits, client, outside.gate)
        self._ends = {C: self.client, S: End(S, self, self._limits, None, outside.gate)}
        self._questions: set[str] = set()
        self._deadline: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Timeout | None = None
        self._securing: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._linger_until = 0.0
        self._greeting: asyncio.TimerHandle | None = None
        self._tally = Tally()
        self._unfinished = {C: 0, S: 0}  # bytes since the session last had something to do with them
        self._weight = 0
        self._left = {C: -1, S: -1}  # bytes unread when the linger timer last rang
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
            self._broken(error)
        finally:
            self._opening = False
            self._settle()

    def answer(self, answered: Answered) -> None:
        """A reviewer answered a question of this flow."""
        self._questions.discard(answered.id)
        self._give(answered)

    def fail(self, text: str) -> None:
        """End the flow with an error of its protocol."""
        if not self._closing:
            self._step(lambda: self._session.fail(text))
            self._close(abort=False)

    def abort(self) -> None:
        """End the flow at once, by resets."""
        self._close(abort=True)

    # -- opening ---------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        server, end = self.flow.server, self._ends[S]
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(self._limits.connect_s) as self._connecting:
                try:
                    sock = await dial(server)
                except ConnectionRefusedError:
                    # Perhaps only because of our source port (kernel/nft.py): with another it is the server's word.
                    sock = await dial(server)
            self._connecting = None
            if self._closing:
                sock.close()
                return
            end.sock = sock
            await self._loop.create_connection(end.protocol, sock=sock)
        except OSError as error:  # TimeoutError is one
            self._connecting = None
            if sock:
                sock.close()
            self._unreached(server, error)

    def _unreached(self, server: Address, error: OSError) -> None:
        """End the flow as the network would have: the client gets a reset, not words of ours."""
        if self._closing:
            return
        self._outside.counts.unreached += 1
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
        self._unfinished[side] += len(data)
        self._give(Received(side, data))
        if self._crowded() and self._unfinished[side] > MAX_READ:
            # Reading on is the only way to the end of a message, and there is no room for it.
            self._outside.incident(self.flow, NO_ROOM)
            self.fail(NO_ROOM)

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

    def regulate(self) -> None:
        """Read from a side only while what comes of it can go somewhere."""
        if self._closing:
            for end in self._ends.values():
                end.read(True)
            return
        client, server, limits = self._ends[C], self._ends[S], self._limits
        crowded = self._crowded()
        most = 0 if crowded else limits.answers
        held = self._session.held
        client.read(not server.full and client.buffered <= most and held <= (0 if crowded else limits.held))
        server.read(not client.full and server.buffered <= most and not (crowded and client.buffered))
        if crowded:
            self._outside.crowded(self)

    def _crowded(self) -> bool:
        """Weigh what waits here; True if the flow's vendor has more waiting than it may."""
        waiting = 0 if self._closing else self._session.held + self._unfinished[C] + self._unfinished[S]
        weight = 0 if self._ended else waiting + self._ends[C].buffered + self._ends[S].buffered
        if weight == self._weight == 0:
            return False
        more, self._weight = weight - self._weight, weight
        return not self._outside.weigh(self.flow, more) and weight > 0

    def _silent(self) -> None:
        """End a flow that has not come to its first message: it would keep its place for nothing."""
        self._greeting = None
        self.fail(f"no complete message within {self._limits.greeting_s:g} s")

    # -- events in, effects out ------------------------------------------------------------------------------

    def _give(self, event: Event) -> None:
        if not self._closing:
            self._step(lambda: self._heard(event))

    def _heard(self, event: Event) -> Sequence[Effect]:
        effects = self._session.receive(event, self._loop.time())
        if effects and isinstance(event, Received):
            self._unfinished[event.side] = 0
            if self._greeting:
                self._greeting.cancel()
                self._greeting = None
        return effects

    def _step(self, ask: Callable[[], Sequence[Effect]]) -> None:
        try:
            effects = ask()
            if self._recorded(effects):
                self._perform(effects)
        except Exception as error:
            self._broken(error)
        if not self._closing:
            self._set_timer()
            self.regulate()

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
        self._outside.counts.messages += sum([note.kind == "message" for note in notes])
        return True

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in joined(effects):
            match effect:
                case Send(to, data):
                    self._outside.counts.bytes += len(data)
                    self._tally.sent[to] += len(data)
                    self._ends[to].write(data)
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
                    self._secure(effect)
                case Learned():
                    self._outside.learned(self.flow, effect)
                case _:
                    assert_never(effect)

    def _secure(self, ask: Open) -> None:
        """Open the TLS of both ends; from now on nothing is given to the session until that is done."""
        layers = {side: tls.Layer() for side in Side}
        for side, end in self._ends.items():
            end.secure(layers[side])
        layers[C].feed(ask.data)
        self._securing = self._loop.create_task(self._open_tls(ask, layers))

    async def _open_tls(self, ask: Open, layers: dict[Side, tls.Layer]) -> None:
        def flush() -> None:
            for end in self._ends.values():
                end.flush()

        try:
            way = tls.Way(self.flow.server, layers, flush, self._limits.connect_s)
            result = await tls.opened(ask, way, self._outside.contexts)
        except Exception as error:
            self._broken(error)
            return
        if isinstance(result, Unopened) and result.side is S:
            self._ends[C].secure(None)  # it has said nothing yet: what it is told is told plainly
        self._give(result)
        for end in self._ends.values():
            end.release()

    def _unrecorded(self, error: OSError) -> None:
        """End the flow in the words of its protocol. Nothing goes upstream; notes are kept if they can be."""
        self._outside.counts.unrecorded += 1
        text = f"the record cannot be written: {error}"
        self._outside.incident(self.flow, text)
        last = list(self._session.fail("the session cannot be recorded"))
        self._keep([Note("incident", text), *(effect for effect in last if isinstance(effect, Note))])
        self._perform([effect for effect in last if not (isinstance(effect, Send) and effect.to is S)])
        self._close(abort=False)

    def _broken(self, error: Exception) -> None:
        """Close this flow for a fault of ours; the others live."""
        log.exception("flow %s to %s is closed: %s", self.flow.id, self.flow.server, error)
        self._outside.counts.failed += 1
        text = f"internal error: {type(error).__name__}"
        self._outside.incident(self.flow, text)
        self._keep([Note("incident", text), Note("closed", text)])
        self._close(abort=True)

    def _keep(self, notes: Sequence[Note]) -> None:
        try:
            self._outside.record(self.flow, self._tally.completed(notes))
        except OSError as error:
            log.error("flow %s: its end is not recorded: %s", self.flow.id, error)

    def _set_timer(self) -> None:
        """Keep one timer that rings at the session's deadline, or before it."""
        deadline, timer = self._session.deadline, self._deadline
        if timer and (deadline is None or timer.when() > deadline):
            timer.cancel()
            self._deadline = timer = None
        if timer is None and deadline is not None:
            soon = self._loop.time() + self._limits.tick_s
            self._deadline = self._loop.call_at(max(deadline, soon), self._woken)

    def _woken(self) -> None:
        self._deadline = None
        deadline = self._session.deadline
        if deadline is not None and self._loop.time() >= deadline:
            self._give(Woke())
        elif not self._closing:
            self._set_timer()

    # -- the end ---------------------------------------------------------------------------------------------

    def _close(self, abort: bool) -> None:
        """Begin to wind up; a second call can only make it an abort."""
        if not self._closing:
            self._closing = True
            for timer in filter(None, (self._deadline, self._greeting)):
                timer.cancel()
            if self._securing:
                self._securing.cancel()
            if self._connecting:
                self._connecting.reschedule(self._loop.time())
            for id in self._questions:
                self._outside.withdraw(Withdraw(id, "the flow ended"))
            self._questions.clear()
            self._linger_until = self._loop.time() + self._limits.linger_max_s
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
            self._linger = self._linger or self._loop.call_later(self._limits.linger_s, self._lingered)
            return
        self._ended = True
        if self._linger:
            self._linger.cancel()
        self._crowded()  # gives back what it took
        self._outside.ended(self)

    def _lingered(self) -> None:
        """End what made no progress since the last time.

        An end with nothing left to write is closed, not reset: what the kernel still has gets its time.
        """
        self._linger = None
        late = self._loop.time() >= self._linger_until
        for side, end in self._ends.items():
            left = end.unread
            if left == 0 or late or left == self._left[side]:
                if end.buffered:
                    end.reset()
                else:
                    end.close()
            self._left[side] = left
        self._settle()
