"""What the hub does again and again: every second, and what may block in threads, each at its own pace.

A chore that fails is a problem in status until it does not; it stops nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from appliance.kernel import containable, coverage, fence, unix
from appliance.model import ConfigError, HostError
from appliance.record.checkpoint import Counter, Lost
from appliance.record.log import SYNC_EVERY_S
from appliance.service import nested, opening, rulebook

if TYPE_CHECKING:
    from appliance.service.hub import Hub

log = logging.getLogger("vendorgate.hub")

TICK_S = 1.0  # DESIGN: a flushed table is back within a second
FENCE_S = 3.0  # between two looks at what is effective: a syscall for each program and cgroup
VENDORS_S = 10.0  # between two looks at the rights of all that is governed: a read of /proc for each process
INDEX_S = 1.0  # how old `sessions` may be when nobody asks
PRUNE_S = 60.0  # retention counts in days
NAMES_S = 60.0  # between two lookups of the names in rules; the usual shortest TTL of a database's name


class Chore(msgspec.Struct, frozen=True):
    """One thing to do in a thread."""

    name: str
    every_s: float
    do: Callable[[], None]


class Chores:
    """All of them; `run` until cancelled."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._stamp = hub.files.stamp

    async def run(self) -> None:
        """Do everything at its time."""
        aside = (
            Chore("steering", TICK_S, self._steer),
            Chore("fence", FENCE_S, self._look_at_fence),
            Chore("unix", TICK_S, lambda: unix.refresh(self._hub.fence, self._hub.settings.unix or ())),
            Chore("evasions", TICK_S, self._hub.containment.watch),
            Chore("vendors", VENDORS_S, self._look_at_vendors),
            Chore("coverage", TICK_S, self._hub.ledger.look),
            Chore("containers", nested.LOOK_S, self._hub.nested.look),
            Chore("index", INDEX_S, self._index),
            Chore("record", self._hub.settings.record.sync_s or SYNC_EVERY_S, self._seal),
            Chore("prune", PRUNE_S, self._prune),
            Chore("names", NAMES_S, self._names),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every_second())
            group.create_task(self._hub.notary.run())
            for chore in aside:
                group.create_task(self._aside(chore))

    async def _aside(self, chore: Chore) -> None:
        while True:
            await asyncio.sleep(chore.every_s)
            try:
                await asyncio.to_thread(chore.do)
            except Exception as error:
                self._failed(chore.name, error)
            else:
                self._hub.troubles.pop(chore.name, None)

    async def _every_second(self) -> None:
        hub = self._hub
        while True:
            await asyncio.sleep(TICK_S)
            hub.questions.tick()
            hub.crew.watch()
            hub.engines.watch()
            hub.attribution.watch()
            self._look_at_rules()
            try:
                hub.judge.refresh()
                hub.troubles.pop("judge", None)
            except HostError as error:
                self._failed("judge", error)
            hub.notifier.notify("WATCHDOG=1")

    def _failed(self, name: str, error: Exception) -> None:
        text = f"{name}: {error}"
        if self._hub.troubles.get(name) != text:
            log.error("%s", text, exc_info=None if isinstance(error, OSError | HostError) else error)
        self._hub.troubles[name] = text

    def _look_at_rules(self) -> None:
        """Reload when a file was saved. A bad one is not tried again before it changes."""
        if opening.end(self._hub.settings.rules, time.time()):
            why = "its time is up, or the one who learned is gone"
            self._hub.incident(f"who was let by to be learned from is let by no more: {why}")
        try:
            stamp = rulebook.stamp(self._hub.settings.rules)
        except ConfigError as error:
            self._hub.rules_error = str(error)
            self._stamp = ()  # once it can be read again, it is read
            return
        if stamp != self._stamp:
            self._stamp = stamp
            if stamp != self._hub.files.stamp or self._hub.rules_error:  # else someone asked for them already
                self._hub.reload_quietly("a file was saved")

    # -- in threads ------------------------------------------------------------------------------------------

    def _steer(self) -> None:
        """Put our table back when somebody flushed or changed it. Until then the fence drops what it steers."""
        if self._hub.steer_again():
            text = "the nftables table was removed or changed by others; it is back"
            self._loop.call_soon_threadsafe(self._hub.incident, text)

    def _look_at_fence(self) -> None:
        """Ask the kernel, not our memory. What is missing is put back at once, and all is begun anew."""
        missing = fence.status(self._hub.place).missing
        if missing:
            fence.up(self._hub.place).close()
            error = HostError(f"the fence was removed by others ({', '.join(missing)}); it is back")
            self._loop.call_soon_threadsafe(self._hub.fail, error)

    def _look_at_vendors(self) -> None:
        """Name those that the fence cannot hold."""
        found = containable.gaps(self._hub.place)
        if found:
            raise HostError("\n".join(map(str, found)))

    def _index(self) -> None:
        self._hub.stores.take()
        bad = self._hub.index.catch_up().bad
        if bad:
            raise HostError(f"{len(bad)} segments cannot be read to their end: {bad[0]}")

    def _seal(self) -> None:
        """Sync the record, seal what is done, and sign how far the rest is and what the fence counted."""
        counted = tuple(
            Counter(one.epoch, one.id, one.cgroup or "", one.sequence) for one in coverage.read(self._hub.fence)
        )
        runs = self._hub.ledger.runs()
        self._hub.stores.take()
        self._hub.notary.round(self._hub.policy.revision, counted, [Lost(*key, run) for key, run in runs.items()])
        self._hub.ledger.told(runs)

    def _prune(self) -> None:
        self._hub.notary.prune({rule.id: rule.keep_s for rule in self._hub.policy.rules if rule.keep_s})

    def _names(self) -> None:
        """Look names up again; those that cannot be resolved keep the addresses they had."""
        names = self._hub.names
        if names.refresh():
            self._loop.call_soon_threadsafe(self._hub.reload_quietly, "addresses of names changed")
        if names.failed:
            name, why = next(iter(names.failed.items()))
            raise HostError(f"{len(names.failed)} names do not resolve, as `{name}`: {why}")
