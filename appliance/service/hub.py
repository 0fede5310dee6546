"""The hub: everything is built once, in the order of `Hub.steps`; read backwards, that is the order of the
stop.

What it holds open is of no use to the fence: with the hub dead, governed processes have no network
(kernel/fence.py), and steering stays as well, so that they are refused at once rather than left to time out.
Only `on_failure: open` takes the fence away, and only at a stop, orderly or for a failure; not when the hub is killed.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import msgspec
import sdnotify

from appliance import config
from appliance.control.api import Control
from appliance.control.approvals import Approvals
from appliance.control.approvals import Limits as Held
from appliance.control.peer import is_below, slice_path
from appliance.kernel import fence, frozen, needs, nft
from appliance.kernel.fence import Fence, Place
from appliance.kernel.judge import Judge
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.table import Table
from appliance.model import ConfigError, HostError
from appliance.policy import Policy, entries
from appliance.record.index import Index
from appliance.relay.channel import Asked, Cancelled, Contain, Incident, Mint, Over, Ran, Rules, Setup, ToHub, Withdrawn
from appliance.service import barrier, engines, handover, launch, opened, opening, rulebook
from appliance.service.attribution import Attribution
from appliance.service.berth import Berth, own_cgroup
from appliance.service.chores import Chores
from appliance.service.containment import Containment
from appliance.service.coverage import ledger
from appliance.service.crew import LEAVE_S, Crew, Ears, Member
from appliance.service.desk import Desks
from appliance.service.engines import Engines
from appliance.service.lacks import lacks
from appliance.service.nested import nested
from appliance.service.notary import Notary
from appliance.service.questions import TRAIL, Questions, Trail
from appliance.service.stores import Stores

log = logging.getLogger("vendorgate.hub")

# The group that may open control.sock besides root, where the host has it. Not that of the workers: they
# parse hostile bytes, and are no reviewers.
REVIEWERS = "vendorgate-review"
NAMES_S = 10.0  # for names that were never resolved, all together: nothing else is served meanwhile
REST_S = 15.0  # of a stop, besides the workers: exports, the seal of the record, the steps before
IDENTITY_SHARE = 4  # one identity may fill this part of the queue of approvals, so that others can still ask
Step = Callable[[], AbstractAsyncContextManager[None]]


class Hub:
    """One life of the service, by its settings."""

    def __init__(self, settings: config.Settings) -> None:
        self.settings = settings
        self.stopped = asyncio.Event()
        self.broken: HostError | None = None  # why it stopped by itself
        self.who = launch.user(settings.relay.user)
        self.lacks = lacks(settings, self.who)
        self.place = Place(settings.cgroup_root, settings.slice, settings.relay.port)
        self.names = rulebook.Names()
        self.policy: Policy
        self.files: rulebook.Files
        self.rules_error = ""
        self.judge_error = ""
        self.incidents = 0
        self.troubles: dict[str, str] = {}  # chore -> what is wrong with it
        self._table_lock = threading.Lock()  # a chore looks after it in a thread, the engine's start changes it
        self.notifier = sdnotify.SystemdNotifier()
        self.handover = handover.Handover(os.environ)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What a start does, in order."""
        return (
            self._stores,
            self._rules,
            self._fence,
            self._steering,
            self._listeners,
            self._workers,
            self._attribution,
            self._control,
            self._chores,
            self._signals,
        )

    async def run(self) -> None:
        """Start, serve until told to stop, stop."""
        async with contextlib.AsyncExitStack() as stack:
            for step in self.steps:
                await stack.enter_async_context(step())
            for text in self.lacks:
                log.warning("%s", text)
            self.handover.close()
            self.notifier.notify("READY=1")
            print("vendorgate ready", file=sys.stderr, flush=True)
            await self.stopped.wait()
            self.notifier.notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(self._stop_s * 1e6)}")
            log.info("stopping")
        if self.broken:
            raise self.broken

    # -- the steps -------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _stores(self) -> AsyncIterator[None]:
        """Directories, owned as they must be; the index over the records."""
        loop = asyncio.get_running_loop()

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(self.incident, text)

        self.stores = Stores(self.settings.state_dir, self.who, self.settings.authority.names, tell)
        self.index = Index(self.stores.index, self.stores.records)
        self.trail = Trail(self.settings.state_dir / TRAIL)
        self.notary = Notary(self.settings.state_dir, self.settings.record, tell)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the next start takes it
                self.stores.take()
            self.notary.close()
            self.index.close()
            self.stores.close()

    @contextlib.asynccontextmanager
    async def _rules(self) -> AsyncIterator[None]:
        """Before anything of the host is touched: bad rules change nothing."""
        opening.end(self.settings.rules, time.time())
        self.files = rulebook.read(self.settings.rules)
        self.policy = self._compiled(self.files)
        yield

    @contextlib.asynccontextmanager
    async def _fence(self) -> AsyncIterator[None]:
        """Nothing governed passes from here on, but what is direct. It stays at the stop."""
        needs.cgroup2(self.place.cgroup_root)
        if is_below(own_cgroup(), slice_path(self.place.cgroup)):
            what = f"this process is in the governed {self.place.slice} itself"
            raise HostError(what, "start it outside: else it would have no network")
        self.fence: Fence = barrier.put_up(self.settings)
        self.judge = Judge(self.fence)
        self._judge(self.policy)
        self._say(opened.clear(self.settings.state_dir))
        self.ledger, self.nested, self.frozen = ledger(self), nested(self), frozen.program()
        try:
            yield
        finally:
            self.fence.close()
            if self.settings.on_failure == "open" and self.stopped.is_set():
                barrier.take_down(self.settings)
                opened.mark(self.settings.state_dir, self.stores.records)

    @contextlib.asynccontextmanager
    async def _steering(self) -> AsyncIterator[None]:
        """It stays at the stop: then what it steers is refused at once."""
        self.steering = Table(self.settings.relay.port, STEER_MARK)
        self.steer(first=True)
        try:
            yield
        finally:
            self.steering.release()

    @contextlib.asynccontextmanager
    async def _listeners(self) -> AsyncIterator[None]:
        """They stay ours, so that what waits for a worker that died is taken by the next."""
        count = self.settings.relay.workers or os.cpu_count() or 1
        self.listening = handover.listeners(self.handover, self.settings.relay.port, count)
        try:
            yield
        finally:
            for sockets in self.listening:
                for sock in sockets:
                    sock.close()

    @contextlib.asynccontextmanager
    async def _workers(self) -> AsyncIterator[None]:
        self.approvals = Approvals(self.policy.revision, waiting(self.settings))
        self.questions = Questions(
            self.approvals,
            self.trail,
            lambda number, answered: self.engines.answer(answered)
            if number == engines.NUMBER
            else self.crew.answer(self.crew.members[number], answered),
            self.who.name,
        )
        ears = Ears(self._said, lambda one, how: self.questions.gone(one.number), self.ledger.counted, self.ledger.gone)
        self.crew = Crew(self._setup, self._launch, self.listening, ears)
        self.berth = Berth(self.place.cgroup_root, f"relay-{self.place.instance}")
        self.engines = Engines(self, msgspec.structs.replace(ears, buried=lambda pid: None), self._setup, self._sent)
        try:
            await asyncio.gather(self.crew.start(self._sent()), self.engines.start())
            yield
        finally:
            self.nested.close()
            drain_s = self.settings.relay.drain_s
            await asyncio.gather(self.crew.stop(drain_s), self.engines.stop(drain_s))
            self.berth.close()

    @contextlib.asynccontextmanager
    async def _attribution(self) -> AsyncIterator[None]:
        self.attribution = Attribution(self.fence, self._ran)
        self.attribution.start()
        self.containment = Containment(self).started()
        try:
            yield
        finally:
            self.attribution.close()

    @contextlib.asynccontextmanager
    async def _control(self) -> AsyncIterator[None]:
        control = Control(Desks(self).desk(), slice_path(self.place.cgroup))
        await control.start(self.settings.runtime_dir / "control.sock", launch.group(REVIEWERS))
        try:
            yield
        finally:
            await control.stop()

    @contextlib.asynccontextmanager
    async def _chores(self) -> AsyncIterator[None]:
        chores = asyncio.create_task(Chores(self).run())
        chores.add_done_callback(self._ended)
        try:
            yield
        finally:
            chores.remove_done_callback(self._ended)
            chores.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await chores

    @contextlib.asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stopped.set)
        loop.add_signal_handler(signal.SIGINT, self.stopped.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload_quietly, "SIGHUP")
        yield

    @property
    def _stop_s(self) -> float:
        """How long a stop may take: live sessions drain, then have their last words; then comes the rest."""
        return self.settings.relay.drain_s + LEAVE_S + REST_S

    def steer(self, first: bool = False) -> None:
        """Put the table in place, and remember how nft lists it: a change by others shows."""
        with self._table_lock:
            self.table = handover.steer(self.handover, self.steering, anew=not first)

    def steer_again(self) -> bool:
        """Put the table back if it is not as it was left; True if so. From any thread."""
        with self._table_lock:
            if nft.listing() == self.table:
                return False
            self.table = handover.steer(self.handover, self.steering, anew=True)
            return True

    # -- rules -----------------------------------------------------------------------------------------------

    def reload(self, by: str) -> str:
        """Put the rules on disk in force, everywhere or nowhere; return their revision.

        Raises:
            ConfigError: they cannot be; those before stay.
        """
        self.notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            files = rulebook.read(self.settings.rules)
            policy = self._compiled(files)
        except ConfigError as error:
            self.rules_error = str(error)
            log.error("the rules stay as they were (asked by %s): %s", by, error)
            raise
        finally:
            self.notifier.notify("READY=1")
        self.files, self.policy, self.rules_error = files, policy, ""
        self._judge(policy)
        self.crew.judge_by(self._sent())
        self.engines.follow()
        self.approvals.reload(policy.revision, time.time())
        log.info("rules of revision %s are in force (asked by %s)", policy.revision, by)
        return policy.revision

    def reload_quietly(self, by: str) -> None:
        """The same, for those who cannot be told; the error is in the journal and in status."""
        with contextlib.suppress(ConfigError):
            self.reload(by)

    def _compiled(self, files: rulebook.Files) -> Policy:
        asked: list[str] = []
        until = time.monotonic() + NAMES_S

        def resolve(name: str) -> tuple[str, ...]:
            asked.append(name)
            if name not in self.names.known and time.monotonic() > until:
                raise OSError(f"the names before it took over {NAMES_S:g} s")
            return self.names.resolve(name)

        policy = config.rules(files.texts, resolve, self.stores.key)
        self.names.keep(asked)
        return self.stores.kept(policy, files)

    def _sent(self) -> Rules:
        return Rules(self.files.texts, self.names.known, self.policy.revision)

    def _judge(self, policy: Policy) -> None:
        """Tell the kernel what it may decide alone; where it cannot take that, all is inspected."""
        try:
            self.judge.write(entries(policy))
            self.judge_error = ""
        except HostError as error:
            log.error("the kernel does not take the rules, so all is inspected: %s", error)
            self.judge_error = str(error)
            self.judge.write(())

    # -- workers ---------------------------------------------------------------------------------------------

    def _setup(self, number: int) -> Setup:
        record = self.settings.record
        slice, sync = str(self.place.cgroup), record.sync_s == 0
        return Setup(number, record.level, record.required, slice, self.stores.key, sync)

    def _launch(self, member: Member) -> launch.Running:
        running = launch.start(self.who, self._inherited(member))
        self.berth.take(running.process.pid)
        self.nested.welcome(running)
        return running

    def _inherited(self, member: Member) -> launch.Inherited:
        numbers = tuple(sock.fileno() for sock in member.listeners)
        maps = tuple(getattr(self.fence, name) for name in fence.RELAYS)
        return launch.Inherited(numbers, maps, self.stores.place(f"worker{member.number}"), self.frozen)

    def _said(self, member: Member, message: ToHub) -> None:
        match message:
            case Asked(question):
                self.questions.ask(member.number, question)
            case Withdrawn(id, reason):
                self.questions.withdraw(member.number, id, reason)
            case Mint() if member.channel:
                member.channel.send(self.stores.authority.answer(message))
            case Cancelled(server, key):
                self.questions.cancel(server, key)
            case Over(flow):
                self.questions.over(member.number, flow)
            case Incident(flow, text):
                self.incident(text, flow)
            case Contain():
                self.containment.react(message)

    def _ran(self, cookie: int) -> None:
        self.crew.tell(Ran(cookie))
        self.engines.tell(Ran(cookie))

    def incident(self, text: str, flow: str = "") -> None:
        """Tell the operators."""
        self.incidents += 1
        log.warning("incident: %s%s", f"flow {flow}: " if flow else "", text)

    def _say(self, text: str) -> None:
        """Have a thing in status for as long as this hub lives."""
        if text:
            self.lacks = (*self.lacks, text)

    def fail(self, error: HostError) -> None:
        """Stop, for a cause that only a new start can mend."""
        log.critical("%s", error)
        self.broken = error
        self.stopped.set()

    def _ended(self, chores: "asyncio.Task[None]") -> None:
        error = chores.exception() if not chores.cancelled() else None
        if error:
            log.error("chores ended", exc_info=error)
            self.fail(HostError(f"internal error: {error!r}"))


def waiting(settings: config.Settings) -> Held:
    """Return how much may wait for reviewers."""
    most = settings.approvals.max_pending
    return Held(settings.approvals.max_pending_per_process, max(1, most // IDENTITY_SHARE), most)
