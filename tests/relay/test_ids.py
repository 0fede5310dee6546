"""Ids of flows."""

from appliance.record.whose import ALPHABET, CHANCE, TIME, WORKER
from appliance.service.ids import Ids


def test_ids_sort_by_time_and_are_unique() -> None:
    ids = Ids(3)
    given = [ids.next() for _ in range(5000)]
    assert given == sorted(given)
    assert len(set(given)) == 5000
    assert {len(id) for id in given} == {TIME + WORKER + CHANCE}
    assert set("".join(given)) <= set(ALPHABET)


def test_ids_of_two_workers_in_one_microsecond_differ() -> None:
    assert Ids(1, lambda: 10**18).next()[:-CHANCE] != Ids(2, lambda: 10**18).next()[:-CHANCE]


def test_ids_go_on_when_the_clock_goes_back() -> None:
    clock = iter([2_000_000_000, 1_000_000_000, 2_000_000_000])
    ids = Ids(0, lambda: next(clock))
    given = [ids.next() for _ in range(3)]
    assert given == sorted(given)
    assert len({id[:TIME] for id in given}) == 3


def test_ids_of_later_sort_later_whatever_the_worker() -> None:
    assert (
        Ids(900, lambda: 1_700_000_000_000_000_000).next() < Ids(0, lambda: 1_700_000_000_000_001_000).next()
    )
