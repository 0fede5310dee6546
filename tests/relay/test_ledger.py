"""The coverage ledger, without a kernel: accounts go in, lines and differences come out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.kernel.coverage import Coverage, Traffic
from appliance.model import Address, Flow, Note
from appliance.record.log import Log
from appliance.relay.channel import Health, Recorded
from appliance.relay.tally import Account, Accounts
from appliance.service import coverage, numbers
from appliance.service.coverage import GONE_S, MAX_NOTED, MAX_SHOWN, MOURNED, SETTLED, Ear, Ledger
from appliance.service.numbers import MAX_ABOVE, Numbers, runs

EPOCH, SCOPE, PID = 7, 42, 1000
KEY = (EPOCH, SCOPE)


class Host:
    """What the kernel counted, and a crew of one."""

    def __init__(self, home: Path) -> None:
        self.home, self.now = home, 100.0
        self.flows = self.bytes = self.untaken = 0
        self.noted: list[int] = []
        self.incidents: list[str] = []
        self.ready, self.full = True, False
        self.retired: Sequence[Coverage] = ()
        (home / "records").mkdir()
        self.ledger = self.start()

    def start(self) -> Ledger:
        ear = Ear(self.read, lambda: self.retired, self.note, self.incidents.append, lambda: self.ready)
        self.ledger = Ledger(ear, self.home, lambda: self.now)
        return self.ledger

    def read(self) -> tuple[Coverage, ...]:
        relay = Traffic(self.flows, self.flows, self.bytes)
        return (Coverage(SCOPE, "acme.service", EPOCH, self.flows, relay=relay, reasons={"untaken": self.untaken}),)

    def note(self, key: tuple[int, int], found: Sequence[int]) -> None:
        if self.full:
            raise OSError("no room")
        self.noted += found

    def says(self, taken: int, pid: int = PID) -> None:
        """The worker says what it took, now."""
        self.ledger.health(pid, health(self.now, taken))

    def looks(self, count: int, taken: int | None = None) -> coverage.Line:
        """So many looks, a second apart, each with news of the worker; return the line."""
        for _ in range(count):
            self.now += 1
            if taken is not None:
                self.says(taken)
            self.ledger.look()
        return self.ledger.lines[0] if self.ledger.lines else coverage.Line("", 0, 0)

    def passes(self, flows: int, size: int, recorded: bool = True) -> None:
        for number in range(self.flows + 1, self.flows + flows + 1):
            if recorded:
                self.ledger.recorded(Recorded(EPOCH, SCOPE, number))
        self.flows += flows
        self.bytes += size

    @property
    def difference(self) -> dict[str, int]:
        found: dict[str, int] = self.ledger.shown()["difference"]
        return found


def health(at: float, taken: int) -> Health:
    return Health(0, 0, 0, 0, 0, 0, 0, 0, 0, at=at, accounts=(Account(SCOPE, EPOCH, 0, taken),))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_is_taken_and_recorded_balances(host: Host) -> None:
    host.passes(3, 300)
    line = host.looks(SETTLED + 2, taken=300)
    assert (line.flows, line.holes, line.passed, line.taken) == (3, 0, 300, 300)
    assert host.difference == {"flows": 0, "bytes": 0}
    assert host.ledger.problem == ""


def test_a_difference_is_one_when_it_stays_for_settled_looks(host: Host) -> None:
    host.looks(1, taken=0)
    host.passes(1, 300)
    host.looks(SETTLED, taken=200)
    assert host.difference["bytes"] == 0
    assert host.looks(1, taken=200).bytes_left == 100
    assert "100 bytes went to the relay" in host.ledger.problem
    assert host.looks(2, taken=300).bytes_left == 0


def test_the_least_that_was_missing_all_the_time_is_the_difference(host: Host) -> None:
    """Traffic that is on its way is another at each look."""
    host.looks(1, taken=0)
    for _ in range(SETTLED + 2):
        host.passes(1, 100)
        host.looks(1, taken=host.bytes - 100 - (host.flows % 2))
    assert host.ledger.lines[0].bytes_left <= 100


def test_what_died_in_the_host_is_no_difference(host: Host) -> None:
    host.passes(1, 300)
    host.untaken = 100
    assert host.looks(SETTLED + 2, taken=200).bytes_left == 0


def test_counting_begins_with_the_hub(host: Host) -> None:
    host.passes(5, 500)
    host.looks(2, taken=500)
    host.start()
    line = host.looks(SETTLED + 2, taken=0)
    assert (line.passed, line.bytes_left, line.holes) == (0, 0, 0)


def test_a_worker_that_says_nothing_new_holds_up_the_comparison(host: Host) -> None:
    host.says(0)
    host.looks(2)
    host.passes(1, 300)
    host.looks(5 * SETTLED)
    assert host.ledger.lines == () or host.ledger.lines[0].bytes_left == 0


def test_a_place_in_the_crew_that_is_empty_holds_it_up_too(host: Host) -> None:
    host.looks(1, taken=0)
    host.ready = False
    host.passes(1, 300, recorded=False)
    host.looks(5 * SETTLED, taken=0)
    assert host.noted == []
    host.ready = True
    host.looks(SETTLED + 2, taken=0)
    assert host.noted == [1]


def test_what_was_with_a_worker_that_ended_is_lost_and_an_incident(host: Host) -> None:
    host.looks(1, taken=0)
    host.passes(1, 300)
    host.ledger.gone(PID)
    host.ledger.health(PID + 1, health(host.now, 0))
    for _ in range(SETTLED + 3):
        host.now += 1
        host.says(0, PID + 1)
        host.ledger.look()
    assert host.ledger.lines[0].lost == 300
    assert host.difference == {"flows": 0, "bytes": 0}
    assert "300 bytes of acme.service were with a worker that ended" in host.incidents[0]


def test_mourned_is_long_enough_for_what_grew_meanwhile_and_no_longer(host: Host) -> None:
    def look(times: int) -> None:
        for _ in range(times):
            host.now += 1
            host.says(0, PID + 1)
            host.ledger.look()

    look(2)
    host.passes(1, 118)
    host.ledger.gone(PID)
    look(1)
    host.passes(1, 128)  # between two readings of one dying flow
    look(2 * SETTLED + 2)
    assert host.ledger.lines[0].lost == 246
    look(MOURNED)
    host.passes(1, 50)
    look(SETTLED + 2)
    assert host.difference["bytes"] == 50


def test_last_words_of_a_worker_count_for_gone_s(host: Host) -> None:
    host.looks(1, taken=0)
    host.passes(1, 300)
    host.ledger.gone(PID)
    host.says(300)
    host.now += GONE_S + 1
    host.ledger.health(PID + 1, health(host.now, 0))
    for _ in range(SETTLED + 2):
        host.now += 1
        host.says(0, PID + 1)
        host.ledger.look()
    assert host.ledger.lines[0].taken == 300


def test_a_flow_nobody_recorded_is_noted_as_unserved_once(host: Host) -> None:
    host.passes(2, 0)
    host.passes(1, 0, recorded=False)
    host.passes(1, 0)
    host.looks(SETTLED + 4, taken=0)
    assert host.noted == [3]
    assert host.ledger.shown()["unserved"] == 1
    assert host.difference["flows"] == 0


def test_max_noted_flows_are_noted_one_by_one_and_the_rest_by_number(host: Host) -> None:
    host.passes(MAX_NOTED + 30, 0, recorded=False)
    host.looks(SETTLED + 4, taken=0)
    assert host.noted == list(range(1, MAX_NOTED + 1))
    told = host.ledger.runs()
    assert told == {KEY: (MAX_NOTED, 30)}
    host.ledger.told(told)
    assert host.ledger.runs() == {}
    host.looks(SETTLED + 4, taken=0)
    assert len(host.noted) == MAX_NOTED


def test_what_cannot_be_noted_stays_a_difference_until_it_can(host: Host) -> None:
    host.passes(1, 0, recorded=False)
    host.full = True
    host.looks(SETTLED, taken=0)  # the first only reads
    host.now += 1
    host.says(0)
    with pytest.raises(OSError, match="no room"):
        host.ledger.look()
    host.full = False
    host.looks(2, taken=0)
    assert host.difference["flows"] == 1
    host.looks(2, taken=0)
    assert host.difference["flows"] == 0 and host.noted == [1]


def test_max_shown_cgroups_and_those_with_a_difference_first(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tuple(coverage.Line(f"c{n:04}", n, EPOCH, bytes_left=n == 300) for n in range(MAX_SHOWN + 200))
    host.ledger.lines = lines
    shown: dict[str, Any] = host.ledger.shown()["ledger"]
    assert len(shown) == MAX_SHOWN and next(iter(shown)) == "c0300"


def test_a_cgroup_that_is_off_the_list_is_forgotten_but_not_its_difference(host: Host) -> None:
    host.looks(1, taken=0)
    host.passes(1, 300)
    host.looks(SETTLED + 2, taken=0)
    assert host.difference["bytes"] == 300
    host.retired = host.read()
    host.flows = host.bytes = 0
    host.looks(1, taken=0)
    host.retired = ()
    host.ledger.lines = ()
    assert host.difference["bytes"] == 300


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_numbers_settle_and_leave_holes() -> None:
    found = Numbers()
    for number in (1, 2, 5, 4, 9):
        found.add(number)
    assert (found.low, list(found.holes(10))) == (2, [3, 6, 7, 8, 10])
    found.add(3)
    assert found.low == 5


def test_max_above_bounds_what_is_kept_and_what_is_looked_at() -> None:
    found = Numbers()
    for number in range(2, MAX_ABOVE + 4):
        found.add(number)
    assert found.low >= 1
    assert sum(1 for _ in Numbers().holes(10 * MAX_ABOVE)) == MAX_ABOVE


@pytest.mark.parametrize(("given", "said"), [([], ()), ([1], (0, 1)), ([3, 4, 7], (2, 2, 2, 1)), ([1, 2, 3], (0, 3))])
def test_runs_are_those_of_a_checkpoint(given: list[int], said: tuple[int, ...]) -> None:
    assert runs(given) == said


def test_a_hub_that_was_killed_finds_in_the_record_what_it_was_not_told(host: Host) -> None:
    host.passes(2, 0)
    host.looks(2, taken=0)
    log = Log(host.home / "records", "worker0")
    for number in (3, 5):
        flow = Flow(f"f{number}", 1.0, Address("::1", 1), Address("::1", 2), None, 0, number, SCOPE, EPOCH)
        log.append(flow, (Note("opened", "x"),), 1.0)
    log.seal()
    host.passes(3, 0, recorded=False)
    host.start()
    host.looks(SETTLED + 3, taken=0)
    assert host.noted == [4]


def test_a_torn_file_of_numbers_is_as_none(host: Host) -> None:
    (host.home / numbers.FILE).write_bytes(b"[{")
    assert numbers.load(host.home) is None


# -- a worker's side -------------------------------------------------------------------------------------------------


def test_accounts_say_only_what_has_changed() -> None:
    flow = Flow("f", 1.0, Address("::1", 1), Address("::1", 2), None, 0, 1, SCOPE, EPOCH)
    accounts = Accounts()
    accounts.begun(flow)
    assert accounts.news([(flow, 10)]) == (Account(SCOPE, EPOCH, 1, 10),)
    assert accounts.news([(flow, 10)]) == ()
    accounts.ended(flow, 12)
    assert accounts.news([]) == (Account(SCOPE, EPOCH, 1, 12),)
