"""The hub's part in the record: seals what workers have done, packs it, and writes checkpoints.

In this order, so that a kill at any moment leaves nothing that the next round does not mend:

    1. what workers wrote is brought to the disk (log.sync)
    2. open segments are read on from where they were, and closed ones to their end; each frame's tie is checked
    3. one checkpoint says how far the open ones are, and seals the closed ones
    4. the sealed ones are packed, each replaced in one step

Workers cannot come to what is sealed: they begin segments elsewhere (begun.py).
"""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.record import packed, read
from appliance.record.catalog import Catalog
from appliance.record.checkpoint import Checkpoints, Counter, Deed, Lost, Said, Written
from appliance.record.frame import BadFrame, segments
from appliance.record.log import sync
from appliance.record.packed import Packed, Signed, is_packed
from appliance.record.seal import Head, Seal, is_open, locked
from appliance.record.signing import SEAL, Signer
from appliance.record.walk import Walk

log = logging.getLogger(__name__)

CHECKPOINT_S = 10.0  # between two checkpoints that only say how far open segments are: 3 MB a day
EMPTY_S = 60.0  # a segment without a whole header is removed after this; its worker may still be about to write it
RECORDS, PROOF, CATALOG = "records", "proof", "catalog.sqlite"  # in state_dir


class Round(msgspec.Struct, frozen=True, gc=False):
    """What one round did."""

    written: Written | None  # the checkpoint, if there was something to say
    sealed: int
    bad: tuple[str, ...]  # what is wrong with segments


class Keeper:
    """Of one state directory. Any thread; calls wait for one another."""

    def __init__(self, state_dir: Path, signer: Signer, checkpoint_s: float = CHECKPOINT_S) -> None:
        """Open it; `records` is there.

        Raises:
            HostError: the checkpoints cannot be gone on with.
        """
        self.records = state_dir / RECORDS
        self.checkpoints = Checkpoints(state_dir / PROOF, signer)
        self.catalog = Catalog(state_dir / CATALOG)
        self.lock = threading.RLock()
        self.signer, self._checkpoint_s = signer, checkpoint_s
        self._walks: dict[str, Walk] = {}
        self._grown: dict[str, int] = {}  # open segment -> items at the last checkpoint
        self._done: set[str] = set()  # packed, and in the catalog
        self._stuck: dict[str, str] = {}  # sealed as they are, and what is wrong with them
        self._catalogued = self.catalog.names()
        self._synced = self._said = 0.0
        for leftover in self.records.glob("*.new"):
            with suppress(OSError):  # a directory is none of ours
                leftover.unlink()

    def close(self) -> None:
        self.catalog.close()

    def round(
        self,
        revision: str = "",
        counters: Sequence[Counter] = (),
        unserved: Sequence[Lost] = (),
        deeds: Sequence[Deed] = (),
    ) -> Round:
        """Do all that is due. A checkpoint of deeds, or of flows that were not served, is written at once.

        Raises:
            OSError: the disk does not take it; nothing is lost by that, and the next round begins again.
        """
        with self.lock:
            began = time.time()
            self.checkpoints.reserve()
            sync(self.records, self._synced)
            self._synced = began
            heads, seals, bad = self._look()
            fresh = tuple(c for c in counters if self.checkpoints.counters.get((c.epoch, c.scope)) != c)
            due = began - self._said >= self._checkpoint_s and (heads or fresh)
            if not (due or seals or unserved or deeds):
                return Round(None, 0, tuple(bad))
            signed = {seal.name: self.signer.sign(SEAL, seal) for seal in seals}
            said = Said(
                revision=revision,
                heads=tuple(heads),
                seals=tuple(signed.values()),
                counters=fresh,
                unserved=tuple(unserved),
                deeds=tuple(deeds),
            )
            written = self.checkpoints.append(said, began)
            self._said = began
            self._grown.update({head.name: head.items for head in heads})
            for seal in seals:
                self._pack(seal, signed[seal.name])
            return Round(written, len(seals), tuple(bad))

    def note(self, *deeds: Deed) -> Written:
        """Put on record what somebody did with the record; it is on the disk when this returns.

        Raises:
            OSError: it is not there, so it must not be done.
        """
        with self.lock:
            return self.checkpoints.append(Said(deeds=deeds))

    def is_packed(self, name: str) -> bool:
        """Tell whether a segment is sealed, packed, and in the catalog."""
        return name in self._done

    def unshipped(self, most: int) -> list[str]:
        """Return the oldest packed segments that were not acknowledged elsewhere."""
        query = "SELECT name FROM segments WHERE shipped = 0 AND bytes > 0 ORDER BY last LIMIT ?"
        names = [str(name) for (name,) in self.catalog.rows(query, most)]
        gone = [name for name in names if not (self.records / name).exists()]
        for name in gone:  # removed by others: verify says so
            self.catalog.dropped(name)
        return [name for name in names if name not in gone]

    def shipped(self, name: str) -> None:
        """Note that a segment was acknowledged, so that it may be dropped."""
        with self.catalog as db:
            db.execute("UPDATE segments SET shipped = 1 WHERE name = ?", (name,))

    # -- a round -------------------------------------------------------------------------------------------------

    def _look(self) -> tuple[list[Head], list[Seal], list[str]]:
        """Read on in all segments; return what is to be said of the open ones and of those that are done."""
        heads: list[Head] = []
        seals: list[Seal] = []
        present = {Path(one.path).name: Path(one.path) for one in segments(self.records)}
        for gone in (self._walks.keys() | self._done | self._stuck.keys()) - present.keys():
            self._forget(gone)
        bad = list(self._stuck.values())
        for name, path in present.items():
            if name in self._done or name in self._stuck or self._known(path):
                continue
            walk = self._walks.setdefault(name, Walk(path))
            wrong = self._advance(walk)
            open = is_open(path)
            if not open and not wrong:
                wrong = self._advance(walk)  # what came between the reading and the look at the lock
            if wrong:
                bad.append(wrong)
            head, seal = walk.so_far(), walk.seal()
            if open and head and head.items > self._grown.get(name, 0):
                heads.append(head)
            elif not open and seal and not is_open(path):
                seals.append(self._whole(path, seal, wrong))
            elif not open and not seal:
                self._drop_empty(path)
        return heads, seals, bad

    def _advance(self, walk: Walk) -> str:
        try:
            walk.advance()
        except BadFrame as error:
            return str(error)
        return ""

    def _whole(self, path: Path, seal: Seal, wrong: str) -> Seal:
        """Return the seal, with all that is in the file after it told."""
        left = path.stat().st_size - seal.size
        if wrong:
            self._stuck[path.name] = wrong
        return msgspec.structs.replace(seal, torn=left)

    def _known(self, path: Path) -> bool:
        """Tell whether a segment is packed; one that the catalog does not know is put there."""
        with path.open("rb") as file:
            if not is_packed(file):
                return False
        name = path.name
        if name not in self._catalogued:
            try:
                self.catalog.put(name, path.stat().st_size, read.items(path))
            except BadFrame as error:
                self._stuck[name] = str(error)
                return True
        self._done.add(name)
        return True

    def _drop_empty(self, path: Path) -> None:
        """Remove a segment that has not even a header. A worker that made it just now finds out, and makes another."""
        status = path.stat()
        if status.st_mtime < time.time() - EMPTY_S:
            with locked(path) as ours:
                if ours and path.stat().st_size == status.st_size:
                    path.unlink()

    def _forget(self, name: str) -> None:
        self._walks.pop(name, None)
        self._grown.pop(name, None)
        self._stuck.pop(name, None)
        self._done.discard(name)

    def _pack(self, seal: Seal, signed: Signed) -> None:
        path = self.records / seal.name
        if seal.name in self._stuck:
            return  # what is wrong with it is better seen in the file as it is
        walk = self._walks[seal.name]
        try:
            packed.write(path, walk.blocks(), signed)
        except BadFrame as error:
            self._stuck[seal.name] = self._place(path, error)
            return
        size = path.stat().st_size
        if walk.parts.whole:
            self.catalog.take(seal.name, size, walk.parts)
        else:
            self.catalog.put(seal.name, size, read.items(path))
        self._forget(seal.name)
        self._done.add(seal.name)

    def _place(self, path: Path, changed: BadFrame) -> str:
        """Return where a segment was changed since it was read, as far as that shows."""
        try:
            Walk(path).advance()
        except BadFrame as error:
            changed = error
        log.error("%s", changed)
        return str(changed)


def seal_of(path: Path) -> Signed:
    """Return the signed seal of a packed segment.

    Raises:
        BadFrame: it is none.
    """
    one = Packed(path)
    one.close()
    return one.footer.seal


