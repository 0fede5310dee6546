"""The hub's side of the packet engine: started where the rules need one, watched and started again as a worker is.

Where no rule allows, or asks about, anything but connections that the relay terminates, there is no engine: then the
kernel refuses the rest by itself, at once. Once started it stays until the hub stops.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from appliance.kernel import cells, names
from appliance.kernel.fence import ENGINE
from appliance.kernel.layout import QUEUES
from appliance.kernel.passage import Passage
from appliance.kernel.queue import dropped
from appliance.kernel.queues import QUEUE
from appliance.model import Answered, HostError
from appliance.policy.packets import needs_engine, needs_pings
from appliance.record import whose
from appliance.relay.channel import Queueing, Rules, Setup, ToWorker
from appliance.service import launch
from appliance.service.crew import Crew, Ears, Member
from appliance.service.overflow import Overflow

if TYPE_CHECKING:
    from appliance.service.hub import Hub

log = logging.getLogger("vendorgate.hub")

RETRY_S = 10.0  # a start that failed: nft is asked four times for it, while the loop waits
NUMBER = whose.ENGINE  # among the workers


class Engines:
    """None or one. `start`, then `follow` whenever the rules change, `watch` every second, `stop`."""

    def __init__(self, hub: "Hub", ears: Ears, setup: Callable[[int], Setup], sent: Callable[[], Rules]) -> None:
        self._hub, self._ears, self._settings, self._sent = hub, ears, setup, sent
        self.crew: Crew | None = None
        self.error = ""  # why it could not be started
        self._failed = 0.0  # when
        self._passage: Passage
        self._overflow: Overflow
        self._passing = 0
        self._pings = False
        self._forged = 0
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start an engine if the rules need one, and return when it judges by them.

        Raises:
            HostError: it does not.
        """
        hub = self._hub
        if self.crew is not None or not needs_engine(hub.policy):
            return
        hub.steering.queue = QUEUE
        hub.steer()
        self._passage = Passage(hub.fence)
        self._overflow = Overflow(hub.fence.shares, hub.place.cgroup, hub.incident)
        self._draw()
        self.crew = Crew(self._setup, self._launch, [()], self._ears)
        for member in self.crew.members:
            member.number, member.name = NUMBER, "the packet engine"
        try:
            await self.crew.start(self._sent())
        except HostError:
            crew, self.crew = self.crew, None
            await crew.stop(0.0)
            self._passage.shut()
            raise

    def follow(self) -> None:
        """Other rules are in force."""
        if self.crew is not None:
            if needs_pings(self._hub.policy) != self._pings:
                self._draw()
            self.crew.judge_by(self._sent())
        elif needs_engine(self._hub.policy) and self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self.start())
            self._starting.add_done_callback(self._started)

    def _draw(self) -> None:
        """Let by what has another mark from now on, which the engine knows and nobody else."""
        self._pings = needs_pings(self._hub.policy)
        self._passing, self._forged = self._passage.open(self._pings), self._passage.forged
        self.tell(Queueing(QUEUE, self._passing))

    def tell(self, message: ToWorker) -> None:
        if self.crew is not None:
            self.crew.tell(message)

    def answer(self, answered: Answered) -> None:
        """Send an answer to the engine, which asked."""
        if self.crew is not None:
            self.crew.answer(self.crew.members[0], answered)

    def watch(self) -> None:
        if self.crew is None:
            if self.error and time.monotonic() >= self._failed + RETRY_S:
                self.follow()  # what stood in its way may be gone
            return
        self.crew.watch()
        self._overflow.look()
        if self._passage.forged > self._forged:
            self._draw()
            self._hub.incident("packets came out with a mark that is nobody's: somebody guesses; another was drawn")

    async def stop(self, drain_s: float) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self.crew is not None:
            await self.crew.stop(drain_s)
            self._passage.shut()  # from now on what it would judge is refused at once

    def shown(self) -> dict[str, str | int]:
        """Return figures for status."""
        if self.crew is None:
            return {}
        (member,) = self.crew.members
        found: dict[str, str | int] = {
            "state": "ready" if member.revision else "starting" if member.running else "ended",
            "pid": member.running.process.pid if member.running else 0,
            "starts": member.starts,
        }
        health = member.health
        figures = {"flows": health.flows, "messages": health.messages, **health.figures} if health else {}
        figures["lost"] = figures.get("lost", 0) + sum(dropped(QUEUE, QUEUES))
        return found | figures | {"overflowed": self._overflow.total}

    def losses(self) -> dict[str, int]:
        """Return what was not served or not kept, since the start of the hub."""
        return {} if self.crew is None else {**self.crew.losses(), "overflowed": self._overflow.total}

    @property
    def problem(self) -> str:
        """What is wrong; empty if nothing is."""
        if self.error:
            return f"no packet engine, so packets for it are dropped: {self.error}"
        if self.crew is not None and not self.crew.members[0].revision:
            return "the packet engine is not ready, so packets for it are dropped"
        return ""

    def _started(self, task: "asyncio.Task[None]") -> None:
        self._starting = None
        error, before = None if task.cancelled() else task.exception(), self.error
        self.error, self._failed = str(error) if error else "", time.monotonic()
        if error and self.error != before:
            log.error("the packet engine could not be started: %s", error)

    def _setup(self, number: int) -> Setup:
        return msgspec.structs.replace(self._settings(number), queue=Queueing(QUEUE, self._passing))

    def _launch(self, member: Member) -> launch.Running:
        fence = self._hub.fence
        maps = tuple(getattr(fence, name) for name in ENGINE)
        running = launched(self._hub.who, self._hub.stores.place(f"engine{NUMBER}"), maps)
        self._hub.berth.take(running.process.pid)
        return running


def launched(who: launch.User, records: int, maps: tuple[int, ...]) -> launch.Running:
    """Start an engine; the descriptors stay ours too.

    Raises:
        HostError: it could not be started.
    """
    ours, theirs = socket.socketpair()
    table = names.table()
    numbers = (theirs.fileno(), records, table, cells.memory(), *maps)
    try:
        process = subprocess.Popen(
            launch.command("appliance.service.engine", who, [*map(str, numbers)]),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if sys.stderr else subprocess.DEVNULL,
            pass_fds=[number for number in numbers if number >= 0],
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            umask=0o077,
        )
        return launch.Running(process, os.pidfd_open(process.pid), ours)
    except OSError as error:
        ours.close()
        raise HostError(f"start the packet engine: {error}") from error
    finally:
        theirs.close()
