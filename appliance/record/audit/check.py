"""All of a record: the checkpoints, every segment, and what the fence counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from appliance.record.audit.ledger import GRACE_S, Due, Ledger, Wanted, key_name
from appliance.record.audit.manifest import Manifest
from appliance.record.audit.primitives import Tools
from appliance.record.audit.stream import NAME, Bad
from appliance.record.audit.walk import Follows, Frame, Walk

MAX_FAULTS = 100  # that are listed
MAX_FLOWS = 1 << 28  # of one cgroup; what a forged frame says must not cost memory
RUNS = 8  # runs of missing sessions that are named

Progress = Callable[[int, int, str], object]  # bytes done, bytes in all, file


class Fault(NamedTuple):
    """A bad place."""

    file: str
    offset: int
    number: int | None  # of the frame, or of the checkpoint
    what: str

    def __str__(self) -> str:
        return f"{self.file}: byte {self.offset}: {self.what}"


class Report:
    """What was found."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.notes: list[str] = []  # what is no fault, and should be known
        self.key = ""  # name of the public key all was checked with
        self.checkpoints = self.segments = self.frames = 0
        self.deleted = 0  # frames that retention took, by the tombstones
        self.uncovered = 0  # segments that no checkpoint speaks of yet
        self.flows = 0  # that the fence counted and the record has
        self.sessions = 0  # met

    @property
    def whole(self) -> bool:
        return not self.faults

    def bad(self, file: str, bad: Bad) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(file, bad.offset, bad.number, bad.what))


def check(root: Path, wanted: Wanted, tools: Tools, progress: Progress = lambda done, size, name: None) -> Report:
    """Check the record below `root`: `records/` and `proof/`."""
    return _Check(root, wanted, tools, progress).run()


class _Check:
    def __init__(self, root: Path, wanted: Wanted, tools: Tools, progress: Progress) -> None:
        self._records, self._wanted, self._tools, self._progress = root / "records", wanted, tools, progress
        self._manifest = Manifest(root)
        self._export = root / "proof" / "excerpt"  # says so; who can write here could put it there
        excerpt = bool(self._manifest) and self._export.exists()
        self._ledger = Ledger(root / "proof", wanted, tools, excerpt)
        self._report = Report()
        self._chains: dict[str, Follows] = {}
        self._seen: dict[tuple[int, int], bytearray] = {}
        self._numbers: dict[str, int] = {}  # sessions of an excerpt -> their last frame
        self._broken = False  # the checkpoints are not whole

    def run(self) -> Report:
        if self._manifest and not self._listed():
            return self._report
        report, ledger = self._report, self._ledger
        if self._export.exists() and not ledger.excerpt:
            report.bad(str(self._export), Bad(0, "this says that it is an export, and no manifest does"))
        self._read()
        names = self._names()
        sizes = {name: self._size(name) for name in names}
        done, size = 0, sum(sizes.values())
        for name in names:
            self._progress(done, size, name)
            done += sizes[name]
            self._segment(name)
        self._progress(size, size, "")
        for gone in (*ledger.lost, *ledger.unserved):
            self._mark_lost(*gone)
        if not (self._broken or ledger.excerpt):
            for key, due in sorted(ledger.due.items()):
                self._complete(key, due)
        report.key = key_name(ledger.key)
        report.checkpoints, report.deleted = ledger.number, ledger.deleted
        if report.uncovered:
            report.notes.append(f"{report.uncovered} segments are so new that no checkpoint speaks of them")
        if ledger.excerpt:
            report.notes.append("it is an export: of sessions that are not in it only hashes")
        return report

    def _listed(self) -> bool:
        """Check an export by its manifest; return whether there is a proof in it to go on with."""
        if self._wanted.own:
            self._report.bad(str(self._manifest.path), Bad(0, "this is an export, in the place of the record"))
            return False
        key = self._wanted.key or self._ledger.beside()
        for file, bad in self._manifest.faults(key, self._tools):
            self._report.bad(file, bad)
        if self._manifest.redacted:
            self._report.key = key_name(key)
            self._report.notes.append("the export is redacted: it is as it was made, without the record itself")
        return not self._manifest.redacted

    def _read(self) -> None:
        try:
            self._ledger.read()
        except Bad as bad:
            self._broken = True
            self._report.bad(bad.file, bad)

    def _names(self) -> list[str]:
        """Return all segments there are, and all there should be, by worker and age."""
        ledger = self._ledger
        found = {path.name for path in self._records.glob("*.record") if NAME.fullmatch(path.name)}
        if not ledger.excerpt:
            found |= ledger.seals.keys() | ledger.heads.keys()
        return sorted(found, key=_order)

    def _size(self, name: str) -> int:
        try:
            return (self._records / name).stat().st_size
        except OSError:
            return 0

    def _segment(self, name: str) -> None:
        """Check one; what looks bad is looked at again by what the hub wrote meanwhile."""
        seal = self._ledger.seals.get(name)
        if self._outside(name):
            if seal:
                self._skip(name)
            return
        for again in (True, False):
            try:
                self._walk(name)
                return
            except Bad as bad:
                if again and self._news():
                    continue
                self._report.bad(str(self._records / name), bad)
                self._skip(name)
                return

    def _outside(self, name: str) -> bool:
        seal, wanted = self._ledger.seals.get(name), self._wanted
        if name in self._ledger.gone and not (self._records / name).exists():
            return True
        return seal is not None and (seal.last < wanted.since or seal.first > wanted.until + GRACE_S)

    def _news(self) -> bool:
        """Return whether there are new checkpoints."""
        before = self._ledger.number
        if not self._broken:
            self._read()
        return self._ledger.number > before

    def _skip(self, name: str) -> None:
        """Go on with the chain after a segment that is not there or not whole, by its seal."""
        seal = self._ledger.seals.get(name)
        if seal and seal.format > 1:
            follows = Follows(name, seal.segment, seal.head, seal.sequence + seal.items - 1)
            self._chains[seal.chain] = follows

    def _walk(self, name: str) -> None:
        flows: list[tuple[int, int, int]] = []
        ids: set[str] = set()

        def each(frame: Frame) -> None:
            if frame.flow[2]:
                flows.append(frame.flow)
            if frame.kind == "opened":
                ids.add(frame.id)
            if self._ledger.excerpt:
                self._number(frame)

        walk = Walk(self._records / name, self._ledger, self._tools, self._chains, each)
        try:
            walk.run()
        except FileNotFoundError:
            if name in self._ledger.gone:  # it went while it was read
                self._skip(name)
                return
            raise Bad(0, "the segment is missing") from None
        if walk.chain:
            self._chains[walk.chain] = walk.follows
        if walk.items:  # else its worker was killed before it had written anything
            self._count(walk, len(ids))
        for flow in flows if walk.covered else ():
            self._mark(*flow)

    def _count(self, walk: Walk, sessions: int) -> None:
        report, ledger = self._report, self._ledger
        report.segments += 1
        report.frames += walk.frames
        report.sessions += sessions
        if not walk.covered:
            report.uncovered += 1
            new = ledger.time - GRACE_S <= walk.begun <= time.time() + GRACE_S
            if not (new or self._broken):
                raise Bad(0, "no checkpoint knows this segment")

    def _number(self, frame: Frame) -> None:
        """In an excerpt the frames of a session must still be all of them."""
        last = self._numbers.get(frame.id)
        if last is None and frame.number > 1:
            self._report.notes.append(f"session {frame.id} begins with its frame {frame.number}")
        elif frame.number not in ((last or 0) + 1, 1):
            raise Bad(0, f"frame {(last or 0) + 1} of session {frame.id} is left out", frame.sequence)
        if frame.kind == "closed":
            self._numbers.pop(frame.id, None)
        else:
            self._numbers[frame.id] = frame.number

    # -- completeness --------------------------------------------------------------------------------------------

    def _mark(self, epoch: int, scope: int, sequence: int) -> None:
        if 0 < sequence < MAX_FLOWS:
            seen = self._seen.setdefault((epoch, scope), bytearray())
            if len(seen) <= sequence >> 3:
                seen.extend(bytes((sequence >> 3) + 1 - len(seen)))
            seen[sequence >> 3] |= 1 << (sequence & 7)

    def _mark_lost(self, epoch: int, scope: int, runs: list[int]) -> None:
        at = 1
        for skip, run in zip(runs[::2], runs[1::2]):  # noqa: B905
            for sequence in range(at + skip, at + skip + run):
                self._mark(epoch, scope, sequence)
            at += skip + run

    def _complete(self, key: tuple[int, int], due: Due) -> None:
        """Name the sessions of one cgroup that the fence counted and nobody recorded."""
        seen = self._seen.get(key, bytearray())
        holes = list(_holes(seen, due.before + 1, due.flows))
        excused = self._ledger.excused.get(key, [])
        missing = [hole for hole in holes if not any(first <= hole[0] and hole[1] <= last for first, last in excused)]
        if len(missing) < len(holes):
            count = sum(last - first + 1 for first, last in holes) - sum(last - first + 1 for first, last in missing)
            self._report.notes.append(f"{count} flows of {due.name} came around a start and were not served")
        self._report.flows += due.flows - due.before - sum(last - first + 1 for first, last in holes)
        if missing:
            named = ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in missing[:RUNS])
            more = " and more" if len(missing) > RUNS else ""
            what = f"sessions {named}{more} of {due.name} are missing: the fence counted {due.flows}"
            self._report.bad(f"cgroup {due.name} (fence {key[0]}, cgroup id {key[1]})", Bad(0, what, missing[0][0]))


def _holes(seen: bytearray, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield runs of numbers that are not marked."""
    begin = 0
    for number in range(first, last + 2):
        byte = seen[number >> 3] if number >> 3 < len(seen) else 0
        there = number > last or byte >> (number & 7) & 1
        if there and begin:
            yield begin, number - 1
            begin = 0
        elif not there and not begin:
            begin = number


def _order(name: str) -> tuple[str, int]:
    parts = NAME.fullmatch(name)
    return (parts[1], int(parts[2])) if parts else (name, 0)
