"""What a message may cost of the processor, by path: a regression fails here, another machine or a busy one does not.

Measured is process time, the least of many rounds, in units of a piece of work of the same kind done beside it, so that
a slow machine is slow to both. A budget is two and a half times what was measured when it was written: 2026-11-21, with the modules as
they are written (compiled they take a third).
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.model import Effect, Note, Received, Send
from appliance.record.log import Log
from tests.session import pg
from tests.session.test_fast import Run
from tests.session.test_session import FLOW, C, S

ROUNDS, SIZE = 30, 100  # rounds of which the least counts; requests in each
HEADROOM = 2.5
ROWS = 500  # of a result
STATEMENT = "select id, ssn from users where id = $1"  # its second column is masked
PLAIN = "select name from users where id = $1"
# Measured, in units: a request through its session and into the record, a row of its answer.
MEASURED = {"prepared": 0.95, "repeated": 0.62, "changing": 0.66, "masked row": 0.022, "plain row": 0.0024}


def reference() -> int:
    """One unit: a thousand small objects and calls, about as a session makes them."""
    kept = {}
    for number in range(1000):
        kept[str(number)] = (number, f"{number}")
    return sum(len(text) for _, text in kept.values())


def least(work: Callable[[], object], times: int, rounds: int = ROUNDS) -> float:
    """Return the seconds of process time that one of `times` in a round took, in the quickest round."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) / times)
    return min(found)


class Way:
    """A session past its login and the catalogue, with its record."""

    def __init__(self, place: Path) -> None:
        self.run, self.log = Run(), Log(place, "w0")
        self.run.step(("prepare", "a", STATEMENT))
        self.run.step(("prepare", "b", PLAIN))
        for name in ("a", "b"):
            self.run.step(("run", name, ["1"], 1))
        self.number = 0

    def give(self, side: object, data: bytes) -> list[Effect]:
        effects = self.run._session.receive(Received(side, data), 1.0)  # type: ignore[arg-type]
        self.log.append(FLOW, [effect for effect in effects if isinstance(effect, Note)], 1.0)
        return effects

    def ask(self, name: str) -> list[Effect]:
        self.number += 1
        asked = pg.bind(str(self.number), name=name) + pg.message("D", b"P\0") + pg.execute() + pg.SYNC
        return self.give(C, asked)

    def answer(self, effects: list[Effect]) -> bytes:
        return self.run._server.says(b"".join(e.data for e in effects if isinstance(e, Send) and e.to is S))


@pytest.fixture
def way(tmp_path: Path) -> Way:
    return Way(tmp_path)


def measured(way: Way, what: str) -> float:
    """Return seconds a request, or a row."""
    if what in ("masked row", "plain row"):
        name = "a" if what == "masked row" else "b"
        answer = way.answer(way.ask(name))
        row = answer[answer.index(b"D\0\0") :]
        row = row[: 1 + int.from_bytes(row[1:5])]
        way.give(S, answer)
        many = answer.replace(row, row * ROWS, 1)
        rounds = []
        for _ in range(ROUNDS):
            way.ask(name)
            began = time.process_time()
            way.give(S, many)
            rounds.append((time.process_time() - began) / ROWS)
        return min(rounds)
    answer = way.answer(way.ask("b"))
    way.give(S, answer)
    query = pg.query("select upper(ssn) from users")
    said = pg.described("name") + pg.row("x") + pg.complete("SELECT 1") + pg.ready()

    def prepared() -> None:
        for _ in range(SIZE):
            way.ask("b")
            way.give(S, answer)

    def repeated() -> None:
        for _ in range(SIZE):
            way.give(C, query)
            way.give(S, pg.SELECTED)

    def changing() -> None:  # a program that writes its values into the text
        for _ in range(SIZE):
            way.number += 1
            way.give(C, pg.query(f"select name from users where id = {way.number}"))
            way.give(S, said)

    return least({"prepared": prepared, "repeated": repeated, "changing": changing}[what], SIZE)


@pytest.mark.parametrize("what", MEASURED)
def test_the_budget_is_kept(way: Way, what: str) -> None:
    unit = least(reference, 1)
    units = measured(way, what) / unit
    print(f"\n{what}: {units:.4f} units of {1e6 * unit:.0f} us")
    assert units <= HEADROOM * MEASURED[what], f"{what} takes {units:.3f} units; it took {MEASURED[what]:.3f}"
