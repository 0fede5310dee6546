"""The hub's side of the record: seals, checkpoints, retention, and who outside gets what.

What waits for others (anchors, shipping) runs on the loop and holds nothing up; what waits for the disk is called in
a thread, by chores.py.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appliance.config import Anchor, Place, Record
from appliance.model import HostError
from appliance.record import anchor
from appliance.record.checkpoint import Counter, Deed, Lost, Written, files
from appliance.record.keeper import PROOF, Keeper
from appliance.record.retention import Keep, prune
from appliance.record.ship import Bucket, Folder, ShipError, Sink
from appliance.service.keys import signer

log = logging.getLogger("vendorgate.hub")

BY = "vendorgate"
LOOK_S = 1.0  # between two looks for something to send
AGAIN_S = 30.0  # after a failure
OPEN_FILE_S = 600.0  # between two sendings of the file of checkpoints that still grows
AS_MANY = 100  # segments asked for at a time


class Notary:
    """Of one hub. `round` and `prune` from a thread, one at a time; `run` on the loop."""

    def __init__(self, state_dir: Path, record: Record, tell: Callable[[str], object] = log.error) -> None:
        """Open it all; `tell` gets what no worker of ours wrote, once.

        Raises:
            HostError: the key or the checkpoints are not as they must be.
        """
        self._state_dir, self._record = state_dir, record
        self.keeper = Keeper(state_dir, signer(state_dir), record.checkpoint_s)
        self.troubles: dict[str, str] = {}
        self.anchored = 0  # number of the checkpoint that was last told outside
        self._incident, self._bad = tell, frozenset[str]()
        self._latest: Written | None = None
        self._deeds: tuple[Deed, ...] = (Deed("start", BY),)  # for the next checkpoint
        self._sent_open = 0.0
        self._sent: dict[str, int] = {}  # files of checkpoints at the place of `ship` -> size

    def close(self) -> None:
        """Seal what the workers left, and say that this is a stop."""
        try:
            self.keeper.round(deeds=(Deed("stop", BY),))
        except OSError as error:
            log.error("the record is not sealed at this stop, but at the next start: %s", error)
        self.keeper.close()

    # -- in a thread -----------------------------------------------------------------------------------------------

    def round(self, revision: str, counters: Sequence[Counter], unserved: Sequence[Lost] = ()) -> None:
        """Sync, seal, and write a checkpoint where something is to be said.

        `unserved`: flows the fence counted that went before anything could be recorded of them.

        Raises:
            HostError: a segment is not what a worker of ours writes.
            OSError: the disk does not take it.
        """
        deeds, self._deeds = self._deeds, ()
        try:
            done = self.keeper.round(revision, counters, unserved, deeds)
        except BaseException:
            self._deeds = deeds
            raise
        self._latest = done.written or self._latest
        for text in sorted(frozenset(done.bad) - self._bad):
            self._incident(text)
        self._bad = frozenset(done.bad)
        if done.bad:
            raise HostError(f"{len(done.bad)} segments are not whole: {done.bad[0]}", "`vendorgate verify` says more")

    def prune(self, keeps: Mapping[str, float]) -> None:
        """Drop what is due; `keeps` has the rules that say how long.

        Raises:
            HostError: the store is over its size, and nothing more may go; or it is not what it was.
        """
        record = self._record
        keep = Keep(record.retention_s, record.max_bytes, keeps, record.ship is not None)
        done = prune(self.keeper, keep)
        if done.frames:
            log.info("retention: %d segments dropped, %d thinned, %d frames", done.segments, done.thinned, done.frames)
        if done.bad or done.over:
            raise HostError(done.bad or done.over)

    def note(self, deed: Deed) -> None:
        """Put on record what somebody did with the record."""
        self._latest = self.keeper.note(deed)

    # -- on the loop -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell and send, until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._record.anchor:
                group.create_task(self._anchors(self._record.anchor))
            if self._record.ship:
                group.create_task(self._ships(self._record.ship))

    async def _anchors(self, to: Anchor) -> None:
        store = sink(to.place) if to.place else None
        due = 0.0
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                written, now = self._latest, time.monotonic()
                if written is None or now < due or written.entry.number <= self.anchored:
                    continue
                failed = await self._tell(to, store, written)
                due = now + (min(AGAIN_S, to.every_s) if failed else to.every_s)
                if not failed:
                    self.anchored = written.entry.number
        finally:
            if store:
                await store.close()

    async def _tell(self, to: Anchor, store: Sink | None, written: Written) -> bool:
        """Tell each of those named; return whether one of them did not take it."""
        try:
            if to.syslog:
                anchor.by_syslog(written)
            if to.command:
                await anchor.by_command(to.command, written)
            if store:
                await anchor.by_object(store, written)
        except (ShipError, OSError) as error:
            self._trouble("anchor", f"checkpoint {written.entry.number} is not anchored: {error}")
            return True
        self.troubles.pop("anchor", None)
        return False

    async def _ships(self, to: Place) -> None:
        store = sink(to)
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                try:
                    await self._ship(store)
                    self.troubles.pop("ship", None)
                except (ShipError, OSError) as error:
                    self._trouble("ship", f"segments wait to be shipped: {error}")
                    await asyncio.sleep(AGAIN_S)
        finally:
            await store.close()

    async def _ship(self, store: Sink) -> None:
        """Send what was not sent; each segment may be dropped only from then on."""
        while rows := await asyncio.to_thread(self.keeper.unshipped, AS_MANY):
            for name in rows:
                await self._send(store, f"records/{name}", self.keeper.records / name)
                await asyncio.to_thread(self.keeper.shipped, name)
        proof = self._state_dir / PROOF
        paths = [*files(proof), proof / "key.pub"]
        due = time.monotonic() - self._sent_open >= OPEN_FILE_S
        for path in paths:
            size = path.stat().st_size
            if self._sent.get(path.name) != size and (due or path not in paths[-2:-1]):
                await self._send(store, f"proof/{path.name}", path)
                self._sent[path.name] = size
        if due:
            self._sent_open = time.monotonic()

    async def _send(self, store: Sink, name: str, path: Path) -> None:
        if not await store.has(name, path.stat().st_size):
            await store.put(name, path)

    def _trouble(self, name: str, text: str) -> None:
        if self.troubles.get(name) != text:
            log.error("%s", text)
        self.troubles[name] = text


def sink(place: Place) -> Sink:
    """Return what sends to a place."""
    if place.to.startswith("/"):
        return Folder(Path(place.to))
    return Bucket(place.to, place.region, place.credentials)


