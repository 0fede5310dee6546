"""The start of the packet engine: what stood in its way is tried again, and said for as long as it does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from appliance import config
from appliance.model import HostError
from appliance.relay.channel import Setup
from appliance.service import engines
from appliance.service.crew import Ears, Member
from appliance.service.engines import RETRY_S, Engines
from appliance.service.launch import Running
from tests.relay.sessions import looped, until
from tests.relay.test_crew import RULES, Stand

PACKETS = "targets:\n  names: {protocol: dns, address: ['10.0.0.53']}\nrules:\n  - {id: names, to: names, do: allow}\n"
NO_ROOM = "nft: No space left on device"


class Beside:
    """What an engine's start has in the kernel: nothing here."""

    forged = 0

    def __init__(self, *given: object) -> None:
        self.shut_ = False

    def open(self, pings: bool) -> int:
        return 1

    def shut(self) -> None:
        self.shut_ = True

    def look(self) -> None:
        """Nothing is dropped."""


class Hub:
    """As much of a hub as an engine's start asks for; `steer` fails while there is `trouble`."""

    def __init__(self, trouble: str) -> None:
        self.policy = config.rules([("r.yaml", PACKETS)], lambda name: [name])
        self.trouble, self.steered = trouble, 0
        self.steering = self.fence = self.place = self
        self.queue = self.shares = 0
        self.cgroup = ""

    def steer(self) -> None:
        self.steered += 1
        if self.trouble:
            raise HostError(self.trouble)

    def incident(self, text: str) -> None:
        raise AssertionError(text)


class Tried(Engines):
    """Whose engine is the crew's worker in few lines, or cannot be launched while that is said."""

    def __init__(self, hub: Any, word: str = "well") -> None:
        gone = Ears(said=lambda member, message: None, gone=lambda member, how: None)
        super().__init__(hub, gone, lambda number: Setup(number, "full", True, "/"), lambda: RULES)
        self.stand, self.unlaunched = Stand([word]), ""

    def _launch(self, member: Member) -> Running:
        if self.unlaunched:
            raise HostError(self.unlaunched)
        stands_for, member.number = member.number, 0
        try:
            return self.stand.launch(member)
        finally:
            member.number = stands_for


@contextmanager
def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """So much time has gone by."""
    now = engines.time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(engines.time, "monotonic", lambda: now + seconds)
        yield


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "Passage", Beside)
    monkeypatch.setattr(engines, "Overflow", Beside)


@looped
async def test_retry_s(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(NO_ROOM)
    here = Tried(hub)
    here.follow()
    await until(lambda: bool(here.error))
    assert NO_ROOM in here.problem and hub.steered == 1
    with later(monkeypatch, RETRY_S - 1):
        here.watch()
    assert here._starting is None
    with later(monkeypatch, RETRY_S + 1):
        here.watch()
        here.watch()  # while that one is at it there is no other
        await until(lambda: here._starting is None)
    assert hub.steered == 2 and NO_ROOM in here.problem
    hub.trouble = ""
    with later(monkeypatch, 3 * RETRY_S):
        here.watch()
        await until(lambda: here._starting is None)
    try:
        assert here.problem == "" and here.crew and here.crew.members[0].revision == "r1"
    finally:
        await here.stop(5.0)


@looped
async def test_one_that_cannot_be_launched_is_launched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Tried(Hub(""))
    here.unlaunched = "start the packet engine: Cannot allocate memory"
    here.follow()
    await until(lambda: bool(here.error))
    assert here.crew is None and here._passage.shut_ and "memory" in here.problem  # type: ignore[attr-defined]
    here.unlaunched = ""
    with later(monkeypatch, RETRY_S + 1):
        here.watch()
        await until(lambda: here._starting is None)
    assert here.problem == ""
    await here.stop(5.0)


@looped
async def test_one_that_ended_while_it_started_leaves_no_other_beside_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Tried(Hub(""), "dies at once")
    here.follow()
    await until(lambda: bool(here.error))
    assert here.crew is None and "ended while it started" in here.problem
    here.stand.words = ["well"]
    with later(monkeypatch, RETRY_S + 1):
        here.watch()
        await until(lambda: here._starting is None)
    assert here.problem == "" and here.crew and here.crew.members[0].starts == 1
    await here.stop(5.0)
