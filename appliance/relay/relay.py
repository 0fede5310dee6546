"""The relay of one worker: takes connections, makes pipes of them, and carries answers to them.

Decides nothing: who a connection belongs to, what may pass and what is kept are callables given (`Duties`).
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from appliance.model import Address, Answered, Cancel, Flow, Learned, Note, Question, Withdraw
from appliance.relay.asked import Asked
from appliance.relay.closing import reset_on_close, unread
from appliance.relay.gate import Gate
from appliance.relay.gather import Entry, Gather
from appliance.relay.limits import Limits
from appliance.relay.pipe import NO_ROOM, Pipe
from appliance.relay.pipes import Pipes
from appliance.relay.room import Room, vendor_of
from appliance.relay.session_type import Session
from appliance.relay.tally import Account, Accounts, Counts
from appliance.relay.tls import Contexts, Mint
from appliance.relay.turns import Turns

log = logging.getLogger(__name__)
TCP_CONGESTION = 13  # linux/tcp.h
# Clients are on this host, where nothing is lost on the way: one that paces (bbr) sets a timer for each message.
# Measured: 2 to 4 us a query, bbr against cubic on both connections. Every kernel has this one, and lets anybody
# take it (tcp_allowed_congestion_control).
LOCAL = b"reno"
OUT_OF_FILES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Duties(msgspec.Struct, frozen=True):
    """What the relay has others do. None of these may wait, or call back into the relay from inside."""

    # None: refuse by a reset. What takes time to tell is awaited; nothing is read meanwhile.
    identify: Callable[[socket.socket], Flow | Awaitable[Flow | None] | None]
    session: Callable[[Flow], Session]
    record: Callable[[Flow, Sequence[Note]], None]  # OSError: not recorded
    ask: Callable[[Question], None]  # ValueError: it cannot be asked
    withdraw: Callable[[Withdraw], None]
    cancel: Callable[[Cancel], None]
    incident: Callable[[Flow | None, str], None]
    learned: Callable[[Flow, Learned], None] = lambda flow, effect: None  # kept before it is told
    over: Callable[[Flow], None] = lambda flow: None  # the flow is no more
    missed: Callable[[socket.socket, Address], Flow | None] = lambda sock, client: None  # what was refused, if known
    gate: Callable[[], Gate | None] = lambda: None  # where bytes wait until their record is on the disk
    # The notes of many flows, by one write: for each why it is not recorded. None: each flow's by themselves
    record_all: Callable[[Sequence[Entry]], Sequence[Exception | None]] | None = None
    mint: Mint | None = None  # certificates for clients; without it TLS is not opened


class Relay:
    """Accepts on the sockets given to `listen`, until `stop`; `answer` brings what the reviewers said."""

    def __init__(self, duties: Duties, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.counts = Counts()
        self.contexts = Contexts(duties.mint or _no_authority)
        self.gather = Gather(duties.record_all or self._each, self.limits.gathered)
        self.pipes = Pipes(self.limits.pipes, self.limits.splices)
        self.turns = Turns(self.limits, self._shakes)
        self._accounts = Accounts()
        self._duties = duties
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._pipes: set[Pipe] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._places = Room(self.limits.flows, self.limits.share)
        self._memory = Room(self.limits.memory, self.limits.share)
        self._crowded: dict[Pipe, int] = {}  # they wait until their vendor takes less memory, with so many bytes
        self._look: asyncio.TimerHandle | None = None
        self._asked = Asked(duties.ask, duties.withdraw)
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def gate(self) -> Gate | None:
        return self._duties.gate()

    @property
    def flows(self) -> int:
        """Connections at this moment, those that are winding up included."""
        return len(self._pipes)

    def accounts(self) -> tuple[Account, ...]:
        """Return what was taken of each cgroup's flows, where that is another figure than at the last call."""
        return self._accounts.news((pipe.flow, pipe.client.received) for pipe in self._pipes)

    def shown(self) -> dict[str, int]:
        """Return figures that are no counts of `counts`: none."""
        return {}

    def listen(self, sock: socket.socket) -> None:
        """Accept on a listening socket, which is the relay's from now on."""
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # what it accepts has the same
            sock.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, LOCAL)
        self._listeners.append(sock)
        self._loop.add_reader(sock, self._accept, sock)

    def leave(self, sock: socket.socket) -> None:
        """Accept no more on a listening socket; its flows live on."""
        self._loop.remove_reader(sock)
        self._listeners.remove(sock)
        sock.close()

    def stop(self) -> None:
        """Accept no more; the flows live on."""
        for sock in self._listeners:
            self._loop.remove_reader(sock)
            sock.close()
        self._listeners.clear()

    def answer(self, answered: Answered) -> None:
        """Give an answer to the flow that asked; nothing happens if it is gone."""
        self._asked.answer(answered)

    def deny_held(self, reason: str) -> None:
        """Deny every question that waits, when nobody can answer any more."""
        self._asked.deny_all(reason)

    def renew(self) -> None:
        """Other rules are in force: end the flows whose servers would not be believed by them."""
        self.contexts.renew()
        for pipe in list(self._pipes):
            pipe.renewed()

    def fail(self, text: str, flow: str = "") -> None:
        """End all flows, or one by its id, with an error of their protocol."""
        for pipe in [pipe for pipe in self._pipes if flow in ("", pipe.flow.id)]:
            pipe.fail(text)

    def abort(self) -> None:
        """End all flows at once, by resets."""
        for pipe in list(self._pipes):
            pipe.abort()

    async def empty(self) -> None:
        """Wait until there is no flow, and none about to be: who opened a connection may still be asked."""
        while self._pipes or self._opening:
            if self._opening:
                await asyncio.wait(self._opening)
            await self._empty.wait()

    # -- accepting -------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self.limits.accepts):
            try:
                sock, client = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_FILES:
                    self._rest(listener, error)
                    return
                continue  # this connection died in the queue
            self._admit(sock, Address.of(*client[:2]))

    def _rest(self, listener: socket.socket, error: OSError) -> None:
        """Do not accept for a while: the connection stays in the queue, and so would the event."""
        self.incident(None, f"connections wait: {error.strerror}")
        self._loop.remove_reader(listener)
        self._loop.call_later(self.limits.out_of_files_s, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _admit(self, sock: socket.socket, client: Address) -> None:
        """Make a pipe of a connection, or reset it."""
        self.counts.accepted += 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # else urgent bytes are taken, and judged by nobody
        try:
            found = self._duties.identify(sock)
        except Exception as error:
            self._reject(sock, error)
            return
        if isinstance(found, Awaitable):
            task = self._loop.create_task(self._admit_later(sock, client, found))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._begin(sock, client, found)

    async def _admit_later(self, sock: socket.socket, client: Address, found: Awaitable[Flow | None]) -> None:
        try:
            flow = await found
        except Exception as error:
            self._reject(sock, error)
        except asyncio.CancelledError:
            sock.close()
            raise
        else:
            self._begin(sock, client, flow)

    def _begin(self, sock: socket.socket, client: Address, flow: Flow | None) -> None:
        try:
            if flow is None:
                self.counts.refused += 1
                flow = self._duties.missed(sock, client)
            elif self._has_room(flow):
                self._start(Pipe(flow, self._duties.session(flow), sock, self))
                return
        except Exception as error:
            self._reject(sock, error, flow)
            return
        self._drop(sock, flow)

    def _reject(self, sock: socket.socket, error: Exception, flow: Flow | None = None) -> None:
        log.error("a connection is refused: %s", error, exc_info=error)
        self.counts.failed += 1
        self._drop(sock, flow)

    def _drop(self, sock: socket.socket, flow: Flow | None) -> None:
        """Reset a connection of which no pipe was made."""
        if flow:
            self._accounts.begun(flow)
            self._accounts.ended(flow, unread(sock, last=True))
        reset_on_close(sock)
        sock.close()

    def _has_room(self, flow: Flow) -> bool:
        whose = vendor_of(flow.process)
        if self._places.allows(whose):
            return True
        if self.counts.full == 0:
            held = self._places.taken(whose)
            self.incident(flow, f"connections refused: {len(self._pipes)} open, {held} of {whose}")
        self.counts.full += 1
        return False

    def _start(self, pipe: Pipe) -> None:
        self._pipes.add(pipe)
        self._accounts.begun(pipe.flow)
        self._places.take(vendor_of(pipe.flow.process), 1)
        self._empty.clear()
        task = self._loop.create_task(pipe.open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    # -- what pipes tell (pipe.Outside) ----------------------------------------------------------------------

    def record(self, flow: Flow, notes: Sequence[Note]) -> None:
        self._duties.record(flow, notes)

    def _each(self, entries: Sequence[Entry]) -> list[Exception | None]:
        found: list[Exception | None] = []
        for flow, notes in entries:
            try:
                self._duties.record(flow, notes)
            except Exception as error:
                found.append(error)
            else:
                found.append(None)
        return found

    def ask(self, question: Question, answer: Callable[[Answered], None]) -> None:
        self._asked.ask(question, answer)

    def withdraw(self, effect: Withdraw) -> None:
        self._asked.withdraw(effect)

    def cancel(self, effect: Cancel) -> None:
        self._duties.cancel(effect)

    def _shakes(self, vendor: str, waiting: int) -> None:
        self.incident(None, f"TLS handshakes of {vendor} wait: {waiting} steps, of which others have their turn too")

    def weigh(self, flow: Flow, more: int) -> bool:
        self._memory.take(vendor_of(flow.process), more)
        return self._memory.allows(vendor_of(flow.process))

    def crowded(self, pipe: Pipe, weight: int) -> None:
        self._crowded[pipe] = weight
        self._look = self._look or self._loop.call_later(self.limits.crowded_s, self._look_again)

    def _look_again(self) -> None:
        self._look, waiting, self._crowded = None, self._crowded, {}
        given_up = Counter[str]()
        for pipe, weight in waiting.items():
            whose = vendor_of(pipe.flow.process)
            if self._memory.bursts(whose, given_up[whose]):
                given_up[whose] += weight
                self.incident(pipe.flow, NO_ROOM)
                pipe.fail(NO_ROOM)
                pipe.abort()  # its peers may not take what waits for them
            else:
                pipe.regulate()

    def learned(self, flow: Flow, effect: Learned) -> None:
        self._duties.learned(flow, effect)

    def incident(self, flow: Flow | None, text: str) -> None:
        self._duties.incident(flow, text)

    def ended(self, pipe: Pipe) -> None:
        self._pipes.discard(pipe)
        self._accounts.ended(pipe.flow, pipe.client.received)
        self._crowded.pop(pipe, None)
        self._places.take(vendor_of(pipe.flow.process), -1)
        if not self._pipes:
            self._empty.set()
        self._duties.over(pipe.flow)


async def _no_authority(names: tuple[str, ...]) -> str:
    raise ValueError("there is no authority here that certifies names")
