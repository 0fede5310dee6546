"""The workers, kept alive: started, told the rules, watched, started again when they die.

A worker is watched by its pidfd (it ended), its channel (it lost its mind) and its Health (it hangs); in
each case it is killed and another takes its place on the same listeners, so what waits in their queues is
served. The more often one dies, the longer its place stays empty, up to BACK_OFF_MAX_S: connections then
wait, and none passes.
"""

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from appliance.model import Answered, HostError
from appliance.relay import channel
from appliance.relay.channel import Answer, Channel, Drain, Health, Ready, Recorded, Rules, Setup, ToHub, ToWorker
from appliance.service.launch import Running

log = logging.getLogger("vendorgate.hub")

START_S = 20.0  # for a worker to import, take the rules and say so; a second on a quiet machine
SILENCE_S = 10.0  # without Health, which comes every second: it hangs
AWAY_S = 5.0  # between two looks, a second apart: the hub itself was stopped, or starved
BACK_OFF_S = 0.1  # before the first restart; doubled each time
BACK_OFF_MAX_S = 5.0  # a client's patience for a connect
WELL_S = 30.0  # a worker that lived this long is started again without delay
LEAVE_S = 12.0  # for a worker to exit, after its drain: last words get their time (worker.END_S)


class Member:
    """One place in the crew and the worker that holds it."""

    def __init__(self, number: int, listeners: Sequence[socket.socket]) -> None:
        self.number, self.listeners = number, listeners
        self.name = f"worker {number}"
        self.running: Running | None = None
        self.channel: Channel[ToHub, ToWorker] | None = None
        self.health: Health | None = None
        self.revision = ""  # of the rules it judges by; empty: not ready
        self.error = ""  # why it could not take the last ones
        self.heard = 0.0
        self.started = 0.0
        self.starts = 0
        self.deaths = 0  # in a row
        self.waiting: asyncio.TimerHandle | None = None  # for its next start


class Ears(msgspec.Struct, frozen=True):
    """Who is told what happens in the crew."""

    said: Callable[[Member, ToHub], None]  # all but Ready, Health and Recorded
    gone: Callable[[Member, str], None]  # it has ended, with all it asked
    counted: Callable[[int, Health | Recorded], None] = lambda pid, said: None  # also what an ended one still said
    buried: Callable[[int], None] = lambda pid: None  # the worker with this pid has ended


class Crew:
    """`start`, then `judge_by` whenever the rules change, `watch` every second, `stop`."""

    def __init__(
        self,
        setup: Callable[[int], Setup],
        launch: Callable[[Member], Running],
        listeners: Sequence[Sequence[socket.socket]],
        ears: Ears,
    ) -> None:
        self.members = [Member(number, socks) for number, socks in enumerate(listeners)]
        self._setup, self._launch, self._ears = setup, launch, ears
        self._before = _losses(None)  # counts of workers that are no more
        self._rules: Rules | None = None
        self._news = asyncio.Event()
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        self._watched = self._loop.time()

    async def start(self, rules: Rules) -> None:
        """Start all workers and return when each judges by the rules.

        Raises:
            HostError: one does not.
        """
        self._rules = rules
        await asyncio.gather(*(self._start(member) for member in self.members))
        try:
            async with asyncio.timeout(START_S):
                while not all(member.revision for member in self.members):
                    self._check_start()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            what = f"a worker was not ready within {START_S:.0f} s"
            raise HostError(what, "its log has the reason") from None

    def judge_by(self, rules: Rules) -> None:
        """Send new rules to every worker, also to those that start later."""
        self._rules = rules
        self.tell(rules)

    def tell(self, message: ToWorker) -> None:
        """Send a message to every worker there is."""
        for member in self.members:
            if member.channel:
                member.channel.send(message)

    def answer(self, member: Member, answered: Answered) -> None:
        """Send an answer to the worker that asked."""
        if member.channel:
            member.channel.send(Answer(answered))

    def losses(self) -> dict[str, int]:
        """Return what was not served or not kept, since the start of the hub."""
        found = self._before.copy()
        for member in self.members:
            found.update(_losses(member.health))
        return dict(found)

    def watch(self) -> None:
        """Kill workers that hang. When it was we who hung, what they said meanwhile is still unread."""
        now, before = self._loop.time(), self._watched
        self._watched = now
        if now - before > AWAY_S:
            for member in self.members:
                member.heard = max(member.heard, now)
            return
        for member in self.members:
            if member.running and now - member.heard > SILENCE_S:
                log.error("%s says nothing for %.0f s: killed", member.name, SILENCE_S)
                member.running.kill()

    async def stop(self, drain_s: float) -> None:
        """Let flows end by themselves for so long, then end them, and wait for the workers to exit."""
        self._stopping = True
        for member in self.members:
            if member.waiting:
                member.waiting.cancel()
            if member.channel:
                member.channel.send(Drain(drain_s))
        try:
            async with asyncio.timeout(drain_s + LEAVE_S):
                await self._all_gone()
        except TimeoutError:
            for member in self.members:
                if member.running:
                    member.running.kill()
            await self._all_gone()

    async def _all_gone(self) -> None:
        while any(member.running for member in self.members):
            self._news.clear()
            await self._news.wait()

    def _check_start(self) -> None:
        for member in self.members:
            if member.error:
                raise HostError(f"{member.name} does not take the rules: {member.error}")
            if member.deaths:
                hint = "its log has the reason; can the worker's user read the program and the records?"
                raise HostError(f"{member.name} ended while it started", hint)

    # -- one worker ------------------------------------------------------------------------------------------

    async def _start(self, member: Member) -> None:
        member.running = running = self._launch(member)
        member.started = self._loop.time()
        member.heard = member.started + START_S - SILENCE_S  # until it is ready it says nothing
        member.starts += 1
        self._loop.add_reader(running.pidfd, self._ended, member)
        member.channel = await channel.hub_end(
            running.channel,
            lambda message: self._hear(member, running, message),
            lambda why: self._cut(member, running, why),
        )
        if self._stopping:
            running.kill()
        member.channel.send(self._setup(member.number))
        if self._rules:
            member.channel.send(self._rules)

    def _hear(self, member: Member, running: Running, message: ToHub) -> None:
        if isinstance(message, Health | Recorded):
            self._ears.counted(running.process.pid, message)
        if member.running is not running:
            return  # the last words of one that ended
        member.heard = max(member.heard, self._loop.time())
        match message:
            case Ready(revision, error):
                member.revision, member.error = revision, error
                if error:
                    log.error("%s keeps the old rules: %s", member.name, error)
                self._news.set()
            case Health():
                member.health = message
            case Recorded():
                pass
            case _:
                self._ears.said(member, message)

    def _cut(self, member: Member, running: Running, why: str) -> None:
        """The channel is broken: a worker without it is none."""
        if member.running is running and not self._stopping:
            log.error("%s: channel: %s", member.name, why)
            running.kill()

    def _ended(self, member: Member) -> None:
        running = member.running
        if running is None:
            return
        self._loop.remove_reader(running.pidfd)
        status = running.process.wait()
        os.close(running.pidfd)
        self._ears.buried(running.process.pid)  # what is left in its channel is read to its end, and that closes it
        self._before.update(_losses(member.health))
        member.running = member.channel = member.health = None
        member.revision = ""
        how = f"signal {-status}" if status < 0 else f"status {status}"
        if not self._stopping:
            log.error("%s ended: %s", member.name, how)
            self._again(member)
        self._ears.gone(member, how)
        self._news.set()

    def _again(self, member: Member) -> None:
        """Start another worker, later the more often this place lost one."""
        lived = self._loop.time() - member.started
        member.deaths = 1 if lived > WELL_S else member.deaths + 1
        delay = min(BACK_OFF_S * 2 ** (member.deaths - 1), BACK_OFF_MAX_S)
        member.waiting = self._loop.call_later(delay, self._restart, member)

    def _restart(self, member: Member) -> None:
        member.waiting = None
        task = self._loop.create_task(self._start(member))
        task.add_done_callback(lambda done: self._restarted(member, done))

    def _restarted(self, member: Member, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error:
            log.error("%s could not be started: %s", member.name, error)
            if member.running is None and not self._stopping:
                self._again(member)


def _losses(health: Health | None) -> Counter[str]:
    names = ("refused", "full", "unreached", "failed", "unrecorded", "unattributed")
    return Counter({name: getattr(health, name) if health else 0 for name in names})
