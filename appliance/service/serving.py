"""What every process that drives flows does, whether of connections or of packets: it takes settings and rules of the
hub, records, asks, tells how it is, and ends.

The first message of the hub is `Setup`, then `Rules`; only then are flows taken. Without its hub a process can neither
ask nor learn of new rules: it fails closed, which is to deny what is held, end its flows in the words of their
protocol, and exit. Nothing it could do instead would be judged by rules anyone can still change.
"""

import asyncio
import itertools
import logging
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from appliance import config
from appliance.control.desk import plain_process
from appliance.facts.readers import Shared
from appliance.facts.shared import Changes
from appliance.model import Answered, Cancel, ConfigError, Flow, Note, Question, Withdraw
from appliance.policy import Policy
from appliance.record.log import Entry, Log
from appliance.relay import channel
from appliance.relay.channel import (
    Answer,
    Asked,
    Cancelled,
    Contain,
    Drain,
    Health,
    Incident,
    Mint,
    Minted,
    Over,
    Queueing,
    Ran,
    Ready,
    Recorded,
    Rules,
    Setup,
    ToWorker,
    Withdrawn,
)
from appliance.relay.tally import Account, Counts
from appliance.relay.tls import met_with, why
from appliance.service import tuning
from appliance.service.arrivals import Arrivals
from appliance.service.book import Book
from appliance.service.syncing import Syncer

log = logging.getLogger("vendorgate.worker")

HEALTH_S = 1.0
END_S = 10.0  # for flows to take their last words; twice what the relay lingers without progress
MAX_INCIDENT = 4096  # bytes of an incident's text; more is in the record
INCIDENTS_S = 100  # incidents told a second; the rest is counted, and in the record


class Flows(Protocol):
    """What drives the flows: the relay, or what stands in its place for packets (lanes.py)."""

    counts: Counts

    @property
    def flows(self) -> int:
        """How many there are."""

    def accounts(self) -> tuple[Account, ...]:
        """What was taken of each cgroup's flows, where that has changed."""

    def shown(self) -> dict[str, int]:
        """Other figures, by name."""

    def answer(self, answered: Answered) -> None:
        """Give an answer to the flow that asked."""

    def deny_held(self, reason: str) -> None:
        """Deny all that waits."""

    def stop(self) -> None:
        """Take no more flows."""

    def fail(self, text: str, flow: str = "") -> None:
        """End all flows, or one, with an error of their protocol."""

    def abort(self) -> None:
        """End all flows at once."""

    async def empty(self) -> None:
        """Wait until there is none."""


class Serving(ABC):
    """One process's life: `run` returns its exit status."""

    record: str  # name of its files in the record, before its number

    def __init__(self, hub: socket.socket, records: int, changes: Changes | None = None) -> None:
        """`hub` is our end of the channel, `records` the directory to record in, `changes` common to all processes."""
        self._hub, self._records_fd = hub, records
        self._policy: Policy | None = None
        self._shared = Shared(changes)
        self._asking: set[str] = set()  # flows that have asked something
        self._told = 0  # incidents in this second
        self._untold = 0
        self._unrecorded = 0  # notes lost, where the record is not required
        self._numbers = itertools.count(1)
        self._minting: dict[int, asyncio.Future[str]] = {}  # certificates asked for
        self._end = asyncio.Event()
        self._within_s = 0.0
        self._why = ""
        self._syncer: Syncer | None = None
        self._inbox: asyncio.Queue[Setup | Rules] = asyncio.Queue()

    async def run(self) -> int:
        """Serve until the hub says `Drain` or is gone."""
        tuning.give_way()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the hub decides, and its end ends us
        self._channel = await channel.worker_end(self._hub, self._receive, self._lost)
        self._relay = self._begun()
        tasks = [asyncio.create_task(self._prepare()), asyncio.create_task(self._report())]
        ended = asyncio.create_task(self._end.wait())
        done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, ended):
            task.cancel()
        for task in done - {ended}:  # only a fault of ours ends one of them
            log.critical("ended by a fault", exc_info=task.exception())
        await self._close()
        for task in done - {ended}:
            task.result()
        return 0

    @abstractmethod
    def _begun(self) -> Flows:
        """Return what drives the flows. None comes before `_open`."""

    @abstractmethod
    def _meet(self, setup: Setup) -> Arrivals:
        """Return who tells whose each flow is."""

    @abstractmethod
    def _open(self) -> None:
        """The first rules are in force: take flows."""

    @abstractmethod
    def _shut(self) -> None:
        """Take no more flows."""

    @abstractmethod
    def _renew(self) -> None:
        """Other rules are in force: forget what was made under those before."""

    # -- what the hub says -----------------------------------------------------------------------------------

    def _receive(self, message: ToWorker) -> None:
        match message:
            case Setup() | Rules():
                self._inbox.put_nowait(message)
            case Answer(answered):
                self._relay.answer(answered)
            case Ran(cookie):
                self._ran(cookie)
            case Minted():
                self._minted(message)
            case Queueing():
                self._queue(message)
            case Drain(within_s):
                self._within_s, self._why = within_s, "vendorgate is stopping"
                self._end.set()

    def _minted(self, message: Minted) -> None:
        waiting = self._minting.pop(message.id, None)
        if waiting and not waiting.done():
            waiting.set_exception(ValueError(message.error)) if message.error else waiting.set_result(message.pem)

    def _ran(self, cookie: int) -> None:
        """End a flow when the program that has it now is one that rules speak of."""
        changed = self._arrivals.ran(cookie)
        if changed:
            before, after, text = changed
            rules = self._rules()
            # Of a process that is not known every identity could be it.
            new = set(rules.identify(after.process)) - set(rules.identify(before.process))
            if any(rules.who(rule, tuple(new)) is not False for rule in rules.rules if rule.who):
                self._taken_over(text, before)

    def _queue(self, message: Queueing) -> None:
        raise ValueError(f"{message} is for the packet engine")

    def _taken_over(self, text: str, flow: Flow) -> None:
        """The process of a flow became one that rules speak of: end the flow."""
        self._relay.fail(text, flow.id)

    def _lost(self, why: str) -> None:
        if self._end.is_set():
            return
        log.error("the hub is gone: %s", why)
        self._within_s, self._why = 0.0, "vendorgate is stopping"
        self._end.set()

    async def _prepare(self) -> None:
        """Take the settings, then rules, one after the other, for as long as they come."""
        while True:
            message = await self._inbox.get()
            while isinstance(message, Rules) and not self._inbox.empty():
                message = self._inbox.get_nowait()  # rules that others have replaced need not be compiled
            if isinstance(message, Setup):
                self._take(message)
            else:
                await self._judge_by(message)

    def _take(self, setup: Setup) -> None:
        self._setup = setup
        self._arrivals = self._meet(setup)
        # By its descriptor: the directories above need not be open to the user we run as.
        records = Path(f"/proc/self/fd/{self._records_fd}")
        self._log = Log(records, f"{self.record}{setup.worker}", setup.level, synced=setup.sync)
        if setup.sync:
            self._syncer = Syncer(self._log, setup.required, lambda text: self._incident(None, text))
        appended = self._syncer.recorded if self._syncer else None
        self._book = Book(self._log, setup.required, self._tell, self._unkept, appended)

    async def _judge_by(self, rules: Rules) -> None:
        """Put rules in force for the next message of every flow. Compiling them is done aside."""
        try:
            policy = await asyncio.to_thread(self._compile, rules)
        except ConfigError as error:
            self._channel.send(Ready(self._policy.revision if self._policy else "", str(error)))
            return
        first, self._policy = self._policy is None, policy
        self._book.judge_by(policy)
        self._renew()
        if first:
            self._open()
        self._channel.send(Ready(policy.revision))

    def _compile(self, rules: Rules) -> Policy:
        policy = config.rules(rules.files, lambda name: rules.resolved.get(name, ()), self._setup.key, checked=True)
        files = {(t.trust.ca, t.trust.present): t for t in policy.targets if t.trust.ca or t.trust.present}
        for target in files.values():
            try:
                met_with(target.trust)
            except OSError as error:
                what = f"target {target.name}: tls: {target.trust.ca or target.trust.present}: {why(error)}"
                raise ConfigError(target.where, what, "the user of the workers must be able to read it") from None
        return policy

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_S)
            counts = self._relay.counts
            self._channel.send(
                Health(
                    flows=self._relay.flows,
                    accepted=counts.accepted,
                    refused=counts.refused,
                    full=counts.full,
                    unreached=counts.unreached,
                    failed=counts.failed,
                    unrecorded=counts.unrecorded + self._unrecorded,
                    messages=counts.messages,
                    bytes=counts.bytes,
                    unattributed=counts.unattributed,
                    at=time.monotonic(),
                    accounts=self._relay.accounts(),
                    figures=self._relay.shown(),
                )
            )
            if self._untold:
                self._channel.send(Incident("", f"{self._untold} more incidents in one second"))
            self._told = self._untold = 0

    # -- what the relay has us do ----------------------------------------------------------------------------

    def _rules(self) -> Policy:
        assert self._policy is not None  # no flow before the first rules
        return self._policy

    def _record(self, flow: Flow, notes: Sequence[Note]) -> None:
        self._book.keep(flow, notes)

    def _record_all(self, entries: Sequence[Entry]) -> list[Exception | None]:
        return self._book.keep_all(entries)

    def _tell(self, message: Contain | Recorded) -> None:
        if isinstance(message, Contain):
            if self._told >= INCIDENTS_S:
                return  # it is in the record
            self._told += 1
        self._channel.send(message)

    def _unkept(self, flow: Flow, notes: int, error: OSError) -> None:
        self._unrecorded += notes
        self._incident(flow, f"goes on unrecorded: {error}")

    def _ask(self, question: Question) -> None:
        self._asking.add(question.flow.id)
        asked = msgspec.structs.replace(question, flow=self._arrivals.latest(question.flow))
        try:
            self._channel.send(Asked(plain(asked)), channel.MAX_ASKED)
        except ValueError:
            raise ValueError("too large for review, alone or with what else is asked") from None

    def _withdraw(self, effect: Withdraw) -> None:
        self._channel.send(Withdrawn(effect.id, effect.reason))

    def _cancel(self, effect: Cancel) -> None:
        self._channel.send(Cancelled(effect.server, effect.key))

    async def _mint(self, names: tuple[str, ...]) -> str:
        id = next(self._numbers)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._minting[id] = future
        try:
            self._channel.send(Mint(id, names))
            return await future
        finally:
            self._minting.pop(id, None)

    def _over(self, flow: Flow) -> None:
        self._arrivals.over(flow)
        if flow.id in self._asking:
            self._asking.discard(flow.id)
            self._channel.send(Over(flow.id))

    def _incident(self, flow: Flow | None, text: str) -> None:
        if self._told >= INCIDENTS_S:
            self._untold += 1
            return
        self._told += 1  # the hub writes it to the journal
        self._channel.send(Incident(flow.id if flow else "", fit(text)[:MAX_INCIDENT]))

    # -- the end ---------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Accept no more, let flows end by themselves for as long as we may, then end them."""
        self._shut()
        self._relay.deny_held(self._why)
        for wait, then in ((self._within_s, self._relay.fail), (END_S, lambda _: self._relay.abort())):
            try:
                async with asyncio.timeout(wait):
                    await self._relay.empty()
                break
            except TimeoutError:
                then(self._why)
        self._channel.close()


def plain(question: Question) -> Question:
    """Return a question whose text any encoder takes; `raw` still says exactly what it was."""
    flow = msgspec.structs.replace(question.flow, process=plain_process(question.flow.process))
    return msgspec.structs.replace(question, text=fit(question.text), flow=flow)


def fit(text: str) -> str:
    """Return `text` with what is no UTF-8 as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
