"""What a message of MySQL and of Redis may cost of the processor; as test_cpu.py, with its units and its head-room."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.model import Effect, Flow, Note, Received, Side
from appliance.record.log import Log
from appliance.session import Session
from tests.budget.test_cpu import HEADROOM, least, reference
from tests.session import maria, test_redis
from tests.session.maria import execute
from tests.wire.mysql import build
from tests.wire.redis.dialogues import OK, bulk, cmd

C, S = Side.CLIENT, Side.SERVER
SIZE = 50  # requests in a round
ROWS = 500  # of a result
MYSQL = """
  - {id: hide, to: db, when: {column: [shop.users.ssn]}, do: mask, with: keep-last-4}
  - {id: work, to: db, do: allow}
"""
REDIS = """
  - {id: hide, to: cache, when: {key: "user:*"}, do: mask}
  - {id: work, to: cache, do: allow}
"""
ID, NAME, SSN = ("id", "users", "id"), ("name", "users", "name"), ("ssn", "users", "ssn")
MARKED = "select name from users where id = ?"
OTHERS = [f"select name from users where id = {number}" for number in range(SIZE)]
MASKED = "select id, name, name as other, ssn from users"
PLAIN = "select id, name, name as other, name as more from users"
COLUMNS: maria.Columns = {
    **{text: [NAME] for text in (MARKED, *OTHERS)},
    MASKED: [ID, NAME, ("other", "users", "name"), SSN],
    PLAIN: [ID, NAME, ("other", "users", "name"), ("more", "users", "name")],
}
# Measured, in units of test_cpu.py, with the modules as they are written: 2026-11-21.
MEASURED = {
    "mysql prepared": 0.81, "mysql same": 0.71, "mysql other": 0.76, "mysql masked row": 0.027, "mysql plain row": 0.0044,
    "redis GET": 0.40, "redis other GET": 0.77, "redis SET": 0.64,
}  # fmt: skip

Pair = tuple[bytes, bytes]  # what is asked, and its answer


class Way:
    """A session past its login, with its record."""

    def __init__(self, place: Path, flow: Flow, session: Session) -> None:
        self._flow, self._session, self._log = flow, session, Log(place, "w0")

    def give(self, side: Side, data: bytes) -> None:
        effects: list[Effect] = self._session.receive(Received(side, data), 1.0)
        self._log.append(self._flow, [effect for effect in effects if isinstance(effect, Note)], 1.0)

    def spent(self, pairs: list[Pair], units: int) -> float:
        """Return seconds a unit of what is asked and answered."""

        def work() -> None:
            for asked, answer in pairs:
                self.give(C, asked)
                self.give(S, answer)

        work()
        return least(work, units)


def mysql(place: Path, what: str) -> float:
    server = maria.Server(COLUMNS, rows=ROWS if what.endswith("row") else 2)
    talk = maria.Talk(server, MYSQL)
    talk.ask(build.query(OTHERS[0]))
    talk.ask(build.prepare(MARKED))
    asked = {
        "prepared": [execute(1, str(number)) for number in range(SIZE)],
        "same": [build.query(OTHERS[0])] * SIZE,
        "other": [build.query(text) for text in OTHERS],
        "masked row": [build.query(MASKED)],
        "plain row": [build.query(PLAIN)],
    }[what]
    pairs = [(one, server.says(one)) for one in asked]
    return Way(place, maria.FLOW, talk.session).spent(pairs, ROWS if what.endswith("row") else SIZE)


def redis(place: Path, what: str) -> float:
    session = test_redis.session(REDIS)
    session.start(0.0, 1_700_000_000.0)
    value = bulk("v" * 100)
    pairs = {
        "GET": [(cmd("GET", "k"), value)] * SIZE,
        "other GET": [(cmd("GET", f"key:{number}"), value) for number in range(3 * SIZE)],  # more than are kept
        "SET": [(cmd("SET", f"key:{number}", f"value {number}"), OK) for number in range(3 * SIZE)],
    }[what]
    return Way(place, test_redis.FLOW, session).spent(pairs, len(pairs))


PROTOCOLS: dict[str, Callable[[Path, str], float]] = {"mysql": mysql, "redis": redis}


@pytest.mark.parametrize("what", MEASURED)
def test_the_budget_is_kept(tmp_path: Path, what: str) -> None:
    unit = least(reference, 1)
    protocol, _, row = what.partition(" ")
    units = PROTOCOLS[protocol](tmp_path, row) / unit
    print(f"\n{what}: {units:.4f} units of {1e6 * unit:.0f} us")
    assert units <= HEADROOM * MEASURED[what], f"{what} takes {units:.3f} units; it took {MEASURED[what]:.3f}"


