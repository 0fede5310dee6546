"""The coverage ledger: what the fence let go of each governed cgroup, held against what the relay took and recorded.

Bytes: those the fence passed to the relay, less those that died in this host (UNTAKEN), less those that workers took,
less those that were with a worker when it died, which is an incident. Flows: those the fence numbered, less those in
the record, less those noted as unserved: their handshake was complete, and they were gone, or their worker was, before
anything could be recorded. What is left is the difference: something went astray.

The fence's count is read first. What workers had when they said so later must be at least that, so traffic makes no
difference. What waits to be accepted makes one, so it counts as one only when it stays for SETTLED looks. Bytes are
counted from the start of this hub: no worker of an earlier one is left then, and what it took is known to nobody.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.kernel import coverage
from appliance.kernel.coverage import Coverage
from appliance.kernel.peers import Peers
from appliance.relay.channel import Health, Recorded
from appliance.relay.tally import Account
from appliance.service import numbers
from appliance.service.numbers import Key, Numbers
from appliance.service.unserved import Unserved

if TYPE_CHECKING:
    from appliance.service.hub import Hub

SETTLED = 5  # looks, a second apart and each with news of all workers: twice what a flow waits for its executable
MOURNED = 3 * SETTLED  # looks after the death of a worker in which what is missing was with it: twice, as it may grow
GONE_S = 10.0  # for the last words of a worker that ended to be read
MAX_NOTED = 20  # unserved flows noted one by one in one look; the rest by their numbers, in the checkpoint
MAX_SHOWN = 200  # cgroups in status, those with a difference first


class Line(msgspec.Struct, frozen=True, gc=False):
    """One cgroup's line of the ledger: flows, and bytes."""

    cgroup: str
    scope: int
    epoch: int
    flows: int = 0  # that the fence numbered
    holes: int = 0  # of them neither recorded nor noted, or not yet
    passed: int = 0  # to the relay
    taken: int = 0  # by workers
    untaken: int = 0  # died in this host
    lost: int = 0  # were with workers that died
    direct: int = 0  # of packets, as all that follow
    engine: int = 0
    inside: int = 0
    kept: int = 0
    dropped: int = 0
    flows_left: int = 0  # the difference
    bytes_left: int = 0

    @property
    def waiting(self) -> int:
        """Bytes on their way, or astray."""
        return self.passed - self.untaken - self.taken - self.lost


class Ear(msgspec.Struct, frozen=True):
    """What the ledger asks of others. All but `ready` may block."""

    read: Callable[[], Sequence[Coverage]]
    retire: Callable[[], Sequence[Coverage]]  # take those of cgroups that are gone off the list, when it is long
    note: Callable[[Key, Sequence[int]], None]  # put unserved flows into the record; OSError: they are not
    incident: Callable[[str], None]
    ready: Callable[[], bool]  # all workers are there


class Life:
    """One worker's accounts."""

    def __init__(self) -> None:
        self.accounts: dict[Key, Account] = {}
        self.at = 0.0  # when it last said them, by time.monotonic()
        self.ended = 0.0


class Ledger:
    """Fed on the loop (`health`, `recorded`, `gone`); `look` is called in a thread, once a second."""

    def __init__(self, ear: Ear, state_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count. No worker runs yet."""
        self._ear, self._state_dir, self._clock = ear, state_dir, clock
        self._lock = threading.Lock()
        self._lives: dict[int, Life] = {}  # by pid
        self._ended: Counter[Key] = Counter()  # bytes taken by workers that are no more
        self._lost: Counter[Key] = Counter()
        self._mourning = 0
        self._base = {(one.epoch, one.id): one for one in ear.read()}
        known = numbers.load(state_dir)
        first = {key: Numbers(one.sequence) for key, one in self._base.items()} if known is None else {}
        self._numbers: dict[Key, Numbers] = first if known is None else known
        self._holes: dict[Key, Counter[int]] = {}  # number -> looks it was one in
        self._unnoted: dict[Key, int] = {}  # flows that should be noted, and are not
        self._over: dict[Key, tuple[int, int]] = {}  # looks in which bytes were missing, and the least of them
        self._runs: dict[Key, list[int]] = {}  # unserved flows for the next checkpoint
        self._read: tuple[float, Sequence[Coverage]] | None = None
        self._kept = b""  # of the numbers, in the file
        self._retired = 0  # bytes missing of cgroups that are off the list
        self._looked = 0.0  # when that was read which the lines are of, by the clock
        self.unserved = 0
        self.lines: tuple[Line, ...] = ()

    # -- on the loop -----------------------------------------------------------------------------------------------

    def counted(self, pid: int, said: Health | Recorded) -> None:
        """A worker says what it has, or that a flow is in the record."""
        if isinstance(said, Recorded):
            self.recorded(said)
        else:
            self.health(pid, said)

    def health(self, pid: int, health: Health) -> None:
        """A worker says what it has."""
        with self._lock:
            life = self._lives.setdefault(pid, Life())
            life.at = max(life.at, health.at)
            life.accounts.update({(one.epoch, one.scope): one for one in health.accounts})

    def recorded(self, message: Recorded) -> None:
        """A flow is in the record."""
        with self._lock:
            self._numbers.setdefault((message.epoch, message.scope), Numbers()).add(message.sequence)

    def gone(self, pid: int) -> None:
        """A worker has ended; its last words may still come."""
        with self._lock:
            self._lives.setdefault(pid, Life()).ended = self._clock()
            self._mourning = MOURNED

    # -- in a thread -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare what was read at the last look, once all workers have spoken since; then read again."""
        with self._lock:
            self._bury()
            heard = self._read and all(life.ended or life.at >= self._read[0] for life in self._lives.values())
            done = {}
            if self._read and heard and self._ear.ready():
                done = self._compare(self._read[1])
                self._looked, self._read = self._read[0], None
        for key, found in done.items():
            self._write_off(key, found)
        if self._read is None:
            accounts = self._ear.read()
            self._read = (self._clock(), accounts)
            self._retire()
        with self._lock:
            kept = numbers.pack(self._numbers)
        if kept != self._kept:
            numbers.save(self._state_dir, kept)
            self._kept = kept

    def runs(self) -> dict[Key, tuple[int, ...]]:
        """Return, as runs, the numbers of unserved flows that are not noted one by one: for a checkpoint."""
        with self._lock:
            return {key: numbers.runs(sorted(found)) for key, found in self._runs.items()}

    def told(self, runs: Mapping[Key, tuple[int, ...]]) -> None:
        """Those are in a checkpoint."""
        with self._lock:
            for key, run in runs.items():
                if numbers.runs(sorted(self._runs.get(key, ()))) == run:
                    for number in self._runs.pop(key):
                        self._numbers[key].add(number)

    @property
    def problem(self) -> str:
        """What is wrong, for status; empty: nothing."""
        flows, size = sum(line.flows_left for line in self.lines), sum(line.bytes_left for line in self.lines)
        what = f"{flows} flows and {size} bytes went to the relay, and nobody accounts for them"
        return f"coverage: {what}" if flows or size else ""

    def shown(self) -> dict[str, Any]:
        """Return what status says of it."""
        lines = sorted(self.lines, key=lambda line: (-line.flows_left - line.bytes_left, line.cgroup))
        flows, size = sum(line.flows_left for line in lines), sum(line.bytes_left for line in lines)
        return {
            "difference": {"flows": flows, "bytes": size + self._retired},
            "looked": self._looked,
            "unserved": self.unserved,
            "lost_bytes": sum(self._lost.values()),
            "ledger": {line.cgroup: msgspec.to_builtins(line) for line in lines[:MAX_SHOWN]},
        }

    # -- the comparison --------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        for pid, life in list(self._lives.items()):
            if life.ended and self._clock() - life.ended > GONE_S:
                del self._lives[pid]
                for key, account in life.accounts.items():
                    self._ended[key] += account.bytes

    def _compare(self, accounts: Sequence[Coverage]) -> dict[Key, list[int]]:
        """Set the lines; return the flows that are unserved, of each cgroup."""
        lines, unserved = [], {}
        for one in accounts:
            key = (one.epoch, one.id)
            line = self._line(key, one)
            unserved[key] = self._unserved(key, one.sequence)
            lines.append(self._settled(key, line))
        self.lines = tuple(lines)
        self._mourning = max(0, self._mourning - 1)
        return unserved

    def _line(self, key: Key, one: Coverage) -> Line:
        base = self._base.get(key)
        passed, untaken = one.relay.bytes, one.reasons.get("untaken", 0)
        if base:
            passed, untaken = passed - base.relay.bytes, untaken - base.reasons.get("untaken", 0)
        said = [life.accounts[key].bytes for life in self._lives.values() if key in life.accounts]
        return Line(
            one.cgroup or (f"gone-{one.id}" if one.cgroup is None else "."), one.id, one.epoch, one.sequence,
            passed=passed, taken=sum(said) + self._ended[key], untaken=untaken, lost=self._lost[key],
            direct=one.direct.bytes, engine=one.engine.bytes, inside=one.inside.bytes, kept=one.kept.bytes,
            dropped=one.dropped.bytes,
        )  # fmt: skip

    def _unserved(self, key: Key, last: int) -> list[int]:
        """Return the flows that were holes for long enough."""
        before, told = self._holes.get(key, Counter()), set(self._runs.get(key, ()))
        holes = (number for number in self._numbers.setdefault(key, Numbers()).holes(last) if number not in told)
        now = Counter({number: before[number] + 1 for number in holes})
        self._holes[key] = now
        self._unnoted[key] = sum(looks > SETTLED for looks in now.values())
        return [number for number, looks in now.items() if looks >= SETTLED]

    def _settled(self, key: Key, line: Line) -> Line:
        """Return the line with its difference: what was missing in so many looks, the least of it."""
        holes, flows = len(self._holes[key]), self._unnoted[key]
        if line.waiting <= 0:
            self._over.pop(key, None)
            return msgspec.structs.replace(line, holes=holes, flows_left=flows)
        looks, least = self._over.get(key, (0, line.waiting))
        least = min(least, line.waiting)
        self._over[key] = (looks + 1, least)
        if looks + 1 >= SETTLED and self._mourning:
            del self._over[key]
            self._lost[key] += least
            text = f"{least} bytes of {line.cgroup} were with a worker that ended, and nobody knows what became of them"
            self._ear.incident(text)
            return msgspec.structs.replace(line, holes=holes, flows_left=flows, lost=self._lost[key])
        left = least if looks + 1 >= SETTLED else 0
        return msgspec.structs.replace(line, holes=holes, flows_left=flows, bytes_left=left)

    def _write_off(self, key: Key, found: Sequence[int]) -> None:
        """Put unserved flows on record; then they are accounted for."""
        if not found:
            return
        self._ear.note(key, found[:MAX_NOTED])
        with self._lock:
            if found[MAX_NOTED:]:
                self._runs.setdefault(key, []).extend(found[MAX_NOTED:])
            for number in found[:MAX_NOTED]:
                self._numbers[key].add(number)
            self.unserved += len(found)

    def _retire(self) -> None:
        for one in self._ear.retire():
            key = (one.epoch, one.id)
            with self._lock:
                self._retired += sum(line.bytes_left for line in self.lines if (line.epoch, line.scope) == key)
                for kept in (self._base, self._numbers, self._holes, self._unnoted, self._over):
                    kept.pop(key, None)


def ledger(hub: "Hub") -> Ledger:
    """Return the ledger of a hub whose fence is up."""
    fence = hub.fence
    peers = Peers(fence.peers, hub.place.cgroup, fence.images, fence.carried)
    loop = asyncio.get_running_loop()
    ear = Ear(
        read=lambda: coverage.read(fence),
        retire=lambda: coverage.retire(fence),
        note=Unserved(hub.stores.records, peers).note,
        incident=lambda text: _soon(loop, hub, text),
        ready=lambda: all(member.revision for member in hub.crew.members),
    )
    return Ledger(ear, hub.settings.state_dir)


def _soon(loop: asyncio.AbstractEventLoop, hub: "Hub", text: str) -> None:
    loop.call_soon_threadsafe(hub.incident, text)
