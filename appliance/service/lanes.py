"""All flows of packets of the engine: reads the kernel's queue, makes lanes of flows, carries words back.

Decides nothing: whose a flow is, what may pass and what is kept are callables given (`Duties`). What cannot be told
whose it is, cannot be read, or begins in the middle is refused, and counted.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from appliance.kernel.queue import BATCH, OUTPUT, Queued
from appliance.model import (
    Address,
    Answered,
    Cancel,
    Flow,
    Learned,
    Note,
    ProtocolError,
    Question,
    Side,
    Withdraw,
)
from appliance.packet.decode import Packet, decode
from appliance.packet.events import Choices, Happening, Odd, Over, Taken
from appliance.packet.tracker import Tracker
from appliance.relay.asked import Asked
from appliance.relay.room import Room, vendor_of
from appliance.relay.session_type import Session
from appliance.relay.tally import Account, Counts
from appliance.service.datagrams import Datagrams
from appliance.service.lane import Lane, Limits
from appliance.service.outlet import Held, Outlet
from appliance.service.streams import Stream

log = logging.getLogger("vendorgate.worker")
C, S = Side.CLIENT, Side.SERVER
TURN_S = 0.02  # for packets of one turn: where they take longer the next has half as many, so others need not wait
LOOK_S = 1.0  # between two looks at what waits too long
OVER = 2  # times what all vendors may have of flows and of memory, that the tracker may: some are over, or not whole
BACKLOGS = 2048  # of such flows by queue, so of one vendor: half of what the kernel keeps of it
BACKLOG = 32  # packets of a flow that wait until it is known whose it is; a burst of a resolver has two


class Duties(msgspec.Struct, frozen=True):
    """What lanes have others do. None of these may wait, or call back from inside."""

    # None: refuse. What takes time to tell is awaited; packets wait meanwhile.
    identify: Callable[[int, str, Address, Address, int], Flow | Awaitable[Flow | None] | None]
    session: Callable[[Flow], Session]
    record: Callable[[Flow, Sequence[Note]], None]  # OSError: not recorded
    ask: Callable[[Question], None]  # ValueError: it cannot be asked
    withdraw: Callable[[Withdraw], None]
    cancel: Callable[[Cancel], None]
    incident: Callable[[Flow | None, str], None]
    learned: Callable[[Flow, Learned], None] = lambda flow, effect: None
    over: Callable[[Flow], None] = lambda flow: None
    same: Callable[[Flow, int], bool] = lambda flow, mark: True  # the socket that has the mark is still the flow's


class _Opening:
    """A flow of which nobody knows yet whose it is."""

    def __init__(self) -> None:
        self.backlog: deque[Held] = deque()
        self.task: asyncio.Task[None] | None = None


class Lanes:
    """Takes packets from `open` until `stop`; `answer` brings what the reviewers said."""

    def __init__(self, duties: Duties, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.limits, self.counts = limits, Counts()
        self.figures: Counter[str] = Counter()
        self._duties = duties
        self._loop = asyncio.get_running_loop()
        most = OVER * limits.flows, OVER * limits.memory  # rooms are to be full before, each vendor's for itself
        self._tracker = Tracker(Choices(inline=True, max_flows=most[0], max_memory=most[1]))
        self._lanes: dict[int, dict[int, Lane]] = {}  # by the tracker's number, then by the mark of the socket
        self._opening: dict[tuple[int, int], _Opening] = {}
        self._behind_all = Counter[int]()  # packets in these by their queue, without the first of each
        self._refused: dict[int, tuple[float, str]] = {}  # flows of the tracker -> when they were, whose they are
        self._places = Room(limits.flows, limits.share)
        self._packets = Room(limits.packets, limits.share)
        self._memory = Room(limits.memory, limits.share)
        self._asked = Asked(duties.ask, duties.withdraw, self._flush)
        self._turn = BATCH  # packets
        self.outlet: Outlet
        self.taking = self._stopped = False
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self, outlet: Outlet) -> None:
        """Take packets from now on."""
        self.outlet, self.taking = outlet, True
        self._loop.add_reader(outlet.queue.fileno(), self._read)
        self._looking = self._loop.call_later(LOOK_S, self._look)

    # -- what the process asks (serving.Flows) ---------------------------------------------------------------

    @property
    def flows(self) -> int:
        return sum(map(len, self._lanes.values()))

    def accounts(self) -> tuple[Account, ...]:
        return ()

    def shown(self) -> dict[str, int]:
        """Return figures for status: what waits now, and what was lost or refused since the start."""
        return {**self.figures, "waiting": self._packets.total, "lost": self.outlet.lost if self.taking else 0}

    def answer(self, answered: Answered) -> None:
        self._asked.answer(answered)

    def deny_held(self, reason: str) -> None:
        self._asked.deny_all(reason)

    def fail(self, text: str, flow: str = "") -> None:
        self._end(text, lambda one: flow in ("", one.id))

    def fail_socket(self, text: str, cookie: int) -> None:
        """End all flows of one socket."""
        self._end(text, lambda one: one.cookie == cookie)

    def renew(self) -> None:
        """Other rules are in force: what was refused as a whole may try again."""
        for number in list(self._refused):
            self._forgive(number)

    def stop(self) -> None:
        """Take no new flows; those there are live on."""
        self._stopped = True
        for lane in self._all():
            if lane.idle:
                lane.forget()

    def abort(self) -> None:
        for lane in self._all():
            lane.end()
        self._flush()

    async def empty(self) -> None:
        await self._empty.wait()

    def _end(self, text: str, which: Callable[[Flow], bool]) -> None:
        for lane in self._all():
            if which(lane.flow):
                lane.fail(text)
        self._flush()

    def _all(self) -> list[Lane]:
        return [lane for lanes in self._lanes.values() for lane in lanes.values()]

    # -- packets ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        begun = self._loop.time()
        for queued in self.outlet.queue.read(self._turn):
            try:
                self._take(queued)
            except Exception as error:
                log.exception("a packet is dropped: %s", error)
                self.counts.failed += 1
                self.outlet.drop(queued.id)
        self._flush()
        slow = self._loop.time() - begun > TURN_S
        self._turn = max(1, self._turn // 2) if slow else min(BATCH, self._turn * 2)

    def _take(self, queued: Queued) -> None:
        if queued.truncated:
            self._lose(queued, "truncated")
            return
        try:
            packet = decode(queued.data)
        except ProtocolError:
            self._lose(queued, "malformed")
            return
        side = C if queued.hook == OUTPUT else S
        client, server = (packet.source, packet.target) if side is C else (packet.target, packet.source)
        if side is S and not self._known(packet, client, server):
            self._lose(queued, "unasked")
            return
        taken = self._tracker.take(packet, self._loop.time(), queued.id, side, queued.partial)
        self._sort(Held(queued, packet, taken))

    def _known(self, packet: Packet, client: Address, server: Address) -> bool:
        """Return False for what a server says to nobody: no flow of a governed process has its ends."""
        if packet.transport == "icmp" or not packet.transport:
            return True  # perhaps an error about another flow, or a fragment: the tracker knows
        return bool(self._tracker.find(packet.transport, client, server))

    def _sort(self, held: Held) -> None:
        taken, queued = held.taken, held.queued
        lane = self._lane(taken, queued.mark)
        key = (taken.flow, queued.mark)
        if taken.place == "refused":
            if lane is not None:
                odd = ", ".join(event.kind for event in taken.events if isinstance(event, Odd))
                lane.broken(f"a packet of the {taken.side.value}: {taken.why}{f' ({odd})' if odd else ''}")
            self._deny(held, "refused")
        elif taken.place in ("invalid", "part") or not taken.flow:
            self._deny(held, "midstream") if held.midstream else self._lose(queued, "invalid")
        elif lane is not None:
            lane.take(held)
        elif key in self._opening:
            self._behind(self._opening[key], held)
        elif held.begins:
            self._begin(key, held)
        elif taken.side is S:
            self._lose(queued, "unasked")
        elif held.packet.payload:
            self._deny(held, "midstream")
        else:  # the last of a connection that is over, or a SYN in an open one: if it is answered, another begins
            self.outlet.go(held)
        self._happened(taken.events)

    def _lane(self, taken: Taken, mark: int) -> Lane | None:
        lanes = self._lanes.get(taken.flow)
        if not lanes:
            return None
        if taken.side is S and mark not in lanes:
            return next(iter(lanes.values()))  # the connection has the mark of who began it
        lane = lanes.get(mark)
        if lane is None or taken.side is S or self._duties.same(lane.flow, mark):
            return lane
        lane.forget()  # a socket made since has its number, and its port: what comes is another's flow
        return None

    def _lose(self, queued: Queued, why: str) -> None:
        self.figures[why] += 1
        self.outlet.drop(queued.id)

    def _deny(self, held: Held, why: str) -> None:
        """Refuse a packet that is of no flow any more, or never was of one."""
        self.figures[why] += 1
        if held.taken.side is C:
            self.outlet.refuse(held)
        else:
            self.outlet.drop(held.queued.id)

    # -- flows -----------------------------------------------------------------------------------------------

    def _begin(self, key: tuple[int, int], held: Held) -> None:
        packet = held.packet
        ends = (packet.source, packet.target) if held.taken.side is C else (packet.target, packet.source)
        self.counts.accepted += 1
        self._empty.clear()
        found = None
        if not self._stopped:
            found = self._duties.identify(key[1], packet.transport, *ends, held.queued.since)
        if isinstance(found, Awaitable):
            opening = self._opening[key] = _Opening()
            opening.backlog.append(held)
            opening.task = self._loop.create_task(self._later(key, opening, found))
        else:
            self._start(key, found, [held])

    def _behind(self, opening: _Opening, held: Held) -> None:
        queue = held.queued.id >> 32
        if len(opening.backlog) < BACKLOG and self._behind_all[queue] < BACKLOGS:
            self._behind_all[queue] += 1
            opening.backlog.append(held)
        else:
            self._deny(held, "backlog")

    async def _later(self, key: tuple[int, int], opening: _Opening, found: Awaitable[Flow | None]) -> None:
        flow = None
        try:
            flow = await found
        except Exception as error:
            log.error("a flow is refused: %s", error, exc_info=error)
            self.counts.failed += 1
        finally:
            self._opening.pop(key, None)
            self._behind_all[opening.backlog[0].queued.id >> 32] -= len(opening.backlog) - 1
            self._start(key, flow, list(opening.backlog))
            self._flush()

    def _start(self, key: tuple[int, int], flow: Flow | None, backlog: Sequence[Held]) -> None:
        """Make a lane of a flow, or refuse what has come of it."""
        number, mark = key
        if flow is None or not self._has_room(flow):
            self.counts.refused += flow is None
            for held in backlog:
                self._deny(held, "refused")
            if number not in self._lanes:
                self._tracker.forget(number)  # not kept: it is of nobody who has room for it
            self._rest()
            return
        kind = Stream if flow.transport == "tcp" else Datagrams
        lane = kind(number, flow, self._duties.session(flow), self)
        self._lanes.setdefault(number, {})[mark] = lane
        self._places.take(vendor_of(flow.process), 1)
        lane.open()
        for held in backlog:
            if lane.over:
                self._deny(held, "refused")
            else:
                lane.take(held)

    def _has_room(self, flow: Flow) -> bool:
        whose = vendor_of(flow.process)
        if self._places.allows(whose):
            return True
        if self.counts.full == 0:
            self.incident(flow, f"flows refused: {self.flows} open, {self._places.taken(whose)} of {whose}")
        self.counts.full += 1
        return False

    def _refuse_all(self, number: int, whose: str) -> None:
        """Refuse further packets of a flow for a while: none of them is to be a new one. It keeps its place so long."""
        if number not in self._refused:  # else a socket that shares its ends was being named meanwhile
            self._places.take(whose, 1)
            self._refused[number] = self._loop.time(), whose
        self._happened(self._tracker.refuse(number, self._loop.time()))

    def _forgive(self, number: int) -> None:
        """What the ends of a refused flow say from now on is a new one."""
        self._places.take(self._refused.pop(number)[1], -1)
        self._tracker.forget(number)

    def _happened(self, events: Sequence[Happening]) -> None:
        for event in events:
            if isinstance(event, Over):
                for lane in list(self._lanes.get(event.flow, {}).values()):
                    lane.forget()

    def _look(self) -> None:
        """End what waits too long, forget what is over; read, though nothing may have come."""
        now = self._loop.time()
        self._looking = self._loop.call_later(LOOK_S, self._look)
        try:
            for lane in self._all():
                lane.look(now)
                if lane.waits:
                    self._tracker.keep(lane.number, now)
            for number in [n for n, (since, _) in self._refused.items() if now - since > self.limits.refused_s]:
                self._forgive(number)
            self._happened(self._tracker.expire(now))
        finally:
            self._read()

    def _rest(self) -> None:
        if not self._lanes and not self._opening:
            self._empty.set()

    def _flush(self) -> None:
        if self.taking:
            self.outlet.flush()

    # -- what lanes tell (lane.Outside) ----------------------------------------------------------------------

    def record(self, flow: Flow, notes: Sequence[Note]) -> None:
        self._duties.record(flow, notes)

    def ask(self, question: Question, answer: Callable[[Answered], None]) -> None:
        self._asked.ask(question, answer)

    def withdraw(self, effect: Withdraw) -> None:
        self._asked.withdraw(effect)

    def cancel(self, effect: Cancel) -> None:
        self._duties.cancel(effect)

    def learned(self, flow: Flow, effect: Learned) -> None:
        self._duties.learned(flow, effect)

    def incident(self, flow: Flow | None, text: str) -> None:
        self._duties.incident(flow, text)

    def kept(self, number: int) -> int:
        return self._tracker.kept(number)

    def weigh(self, flow: Flow, packets: int, size: int) -> bool:
        whose = vendor_of(flow.process)
        self._packets.take(whose, packets)
        self._memory.take(whose, size)
        return self._packets.allows(whose) and self._memory.allows(whose)

    def ended(self, lane: Lane) -> None:
        lanes = self._lanes.get(lane.number, {})
        for mark in [mark for mark, one in lanes.items() if one is lane]:
            del lanes[mark]
            self._places.take(vendor_of(lane.flow.process), -1)
        if not lanes:
            self._lanes.pop(lane.number, None)
            if not lane.forgotten:
                self._refuse_all(lane.number, vendor_of(lane.flow.process))
        self._rest()
        self._duties.over(lane.flow)
