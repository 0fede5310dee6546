"""Whose a connection is when its process becomes another program, and the kernel keeps no more of that than it can."""

import asyncio
from collections.abc import Awaitable

import msgspec
import pytest

from appliance.kernel.peers import Peer, Peers
from appliance.model import Address, Flow, Note, Process
from appliance.relay.tally import Counts
from appliance.service import arrivals
from appliance.service.arrivals import MAX_UNMET, UNTOLD, Arrivals
from appliance.service.ids import Ids
from tests.relay.sessions import looped

CLIENT, SERVER = Address("10.0.0.2", 40000), Address("10.0.0.9", 5432)
PSQL = Process(7, 1, "/usr/bin/psql", ("psql",), "acme.service", 1000)
OTHER = msgspec.structs.replace(PSQL, exe="/usr/bin/other", argv=("other",))


class Kernel(Peers):
    """Remembers what the test says of what became of processes, and has forgotten the rest."""

    def __init__(self) -> None:
        self.known: dict[int, Process] = {}

    def again(self, peer: Peer) -> Peer:
        return peer

    def became(self, cookie: int, cgroup: str) -> Process | None:
        return self.known.get(cookie)


class Place:
    """Arrivals, and what they told."""

    def __init__(self) -> None:
        self.kernel, self.incidents, self.notes = Kernel(), list[str](), list[Note]()
        self.arrivals = Arrivals(
            self.kernel, Ids(0), lambda flow, text: self.incidents.append(text),
            lambda flow, notes: self.notes.extend(notes), Counts(),
        )  # fmt: skip

    def come(self, cookie: int) -> Flow | None:
        """A connection is taken."""
        process = msgspec.structs.replace(PSQL, became=self.kernel.became(cookie, ""))
        found = self.arrivals._known(CLIENT, Peer(process, SERVER, cookie, 0))
        assert found is None or isinstance(found, Flow)
        return found


def test_what_it_became_is_told_once_and_kept_when_the_kernel_has_it_no_more() -> None:
    place = Place()
    flow = place.come(1)
    assert flow
    place.kernel.known[1] = OTHER
    changed = place.arrivals.ran(1)
    assert changed and changed[1].process and changed[1].process.became == OTHER
    assert place.arrivals.ran(1) is None
    place.kernel.known.clear()
    latest = place.arrivals.latest(flow)
    assert latest.process and latest.process.became == OTHER


def test_what_could_not_be_told_is_nobody_that_is_known() -> None:
    place = Place()
    assert place.come(1)
    changed = place.arrivals.ran(1)
    assert changed and changed[1].process is None and UNTOLD in changed[2]
    assert [note.kind for note in place.notes] == ["incident"] and place.incidents == [changed[2]]


def test_a_connection_that_is_taken_later_is_not_its_programs_either() -> None:
    place = Place()
    assert place.arrivals.ran(1) is None and place.arrivals.ran(2) is None
    place.kernel.known[2] = OTHER
    assert place.come(1) is None
    assert [note.kind for note in place.notes] == ["opened", "decision", "closed"]
    flow = place.come(2)
    assert flow and flow.process and flow.process.became == OTHER
    assert place.come(3)


@looped
async def test_one_vendor_has_a_share_of_max_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait until it is known what they run; the rest is told at once that it is not."""
    monkeypatch.setattr(arrivals, "MAX_WAITING", 8)
    place = Place()

    async def waits(cgroup: str) -> int:
        count = 0
        for cookie in range(20):
            peer = Peer(msgspec.structs.replace(PSQL, cgroup=cgroup), SERVER, cookie, 0, image=b"unknown")
            found = place.arrivals._known(CLIENT, peer)
            if isinstance(found, Awaitable):
                count += 1
                tasks.append(asyncio.ensure_future(found))
                await asyncio.sleep(0)
        return count

    tasks: list[asyncio.Future[Flow | None]] = []
    assert [await waits(cgroup) for cgroup in ("acme.service/child", "acme.service", "other.service")] == [4, 0, 2]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert place.arrivals._waiting.total == 0


def test_limit_max_unmet() -> None:
    place = Place()
    for cookie in range(MAX_UNMET + 5):
        place.arrivals.ran(cookie)
    assert len(place.arrivals._unmet) == MAX_UNMET
    assert place.come(MAX_UNMET + 4) is None
