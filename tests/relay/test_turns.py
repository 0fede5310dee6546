"""Handshakes of one vendor, however many, leave others their turn."""

import asyncio
from collections import Counter

import pytest

from appliance.relay.limits import Limits
from appliance.relay.turns import Turns
from tests.relay.sessions import looped


class Step:
    """One step of a handshake, that notes that it is done."""

    def __init__(self, done: list[str], name: str) -> None:
        self._done, self._name = done, name

    def step(self) -> None:
        self._done.append(self._name)


class Place:
    """Turns, what was done in them, and what operators were told."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.done: list[str] = []
        self.told: list[tuple[str, int]] = []
        self.turns = Turns(limits or Limits(), lambda vendor, waiting: self.told.append((vendor, waiting)))

    def wait(self, *vendors: str) -> list[Step]:
        steps = [Step(self.done, vendor) for vendor in vendors]
        for vendor, step in zip(vendors, steps, strict=True):
            self.turns.wait(vendor, step)
        return steps

    async def turn(self) -> list[str]:
        """Return what was done in another turn of the loop."""
        before = len(self.done)
        await asyncio.sleep(0)
        return self.done[before:]


@looped
async def test_while_nobody_waits_it_is_done_at_once() -> None:
    place = Place()
    for number in range(1, 4):
        place.wait("a")
        assert len(place.done) == number
        assert await place.turn() == [] and await place.turn() == []


@pytest.mark.parametrize("steps", [1, 3])
def test_limit_steps(steps: int) -> None:
    """Whatever is due, so much is done in one turn of the loop, and all of it in the end."""

    @looped
    async def run() -> None:
        place = Place(Limits(steps=steps))
        place.wait(*["a"] * 30)
        assert len(place.done) == steps
        while len(place.done) < 30:
            assert len(await place.turn()) <= steps
        assert not place.turns._waiting

    run()


@looped
async def test_one_that_comes_last_waits_for_as_many_as_there_are_vendors() -> None:
    place = Place()
    place.wait(*["a"] * 500, *["b"] * 500, "c")
    for _ in range(6):
        await place.turn()
    assert "c" in place.done
    while len(place.done) < 1001:
        await place.turn()
    assert Counter(place.done) == {"a": 500, "b": 500, "c": 1}


@looped
async def test_what_has_ended_meanwhile_takes_no_turn() -> None:
    place = Place()
    for step in place.wait(*["a"] * 500)[:-1]:
        place.turns.leave("a", step)
    place.turns.leave("b", step)
    place.wait("b")
    for _ in range(4):
        await place.turn()
    assert Counter(place.done) == {"a": 2, "b": 1} and not place.turns._waiting


@looped
async def test_limit_shaking_is_told_once_in_quiet_s() -> None:
    place = Place(Limits(shaking=10, quiet_s=600))
    place.wait(*["a"] * 11)
    assert place.told == []
    place.wait(*["a"] * 50)
    assert place.told == [("a", 11)]
    place.wait(*["b"] * 50)
    assert place.told == [("a", 11), ("b", 11)]
    place.turns._quiet["a"] = 0.0  # as when the time is over
    place.wait("a")
    assert [vendor for vendor, _ in place.told] == ["a", "b", "a"]


@looped
async def test_a_fault_in_one_leaves_the_others_their_turn() -> None:
    place, faults = Place(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))

    class Broken(Step):
        def step(self) -> None:
            raise KeyError("a fault of ours")

    place.wait("a")
    place.turns.wait("a", Broken(place.done, "a"))
    place.wait("a")
    for _ in range(4):
        await place.turn()
    assert len(faults) == 1 and place.done == ["a", "a"]
