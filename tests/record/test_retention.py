"""Sessions are dropped by age, class and share; what is held stays; the proof says what went, and still holds."""

import contextlib
import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from appliance.model import Decision
from appliance.record import checkpoint, retention
from appliance.record import keeper as keeping
from appliance.record.checkpoint import Checkpoints, Deed, Deleted, Lost, Said, entries, files
from appliance.record.keeper import Keeper
from appliance.record.read import read
from appliance.record.retention import BY, LATE_S, LOW, WORTH, Keep, Pruned, prune, runs
from appliance.record.signing import Signer
from appliance.record.verify import describe, verify
from tests.record.samples import T, asked, closed, flow, opened, rows
from tests.record.store import SECRET, Store

DAY = 86_400.0
ALL = 1 << 40  # bytes


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def days(store: Store) -> Store:
    """Five segments, a day between them, each with one session of acme and one of bolt."""
    for day in range(5):
        for number, identity in enumerate(("acme", "bolt")):
            store.session(f"{identity}{day}", T + day * DAY, identity=identity, sequence=2 * day + number + 1, size=1000)
        store.seal()
    return store


def ids(store: Store) -> list[str]:
    return sorted({frame.id for frame in read(store.records)})


def size(store: Store) -> int:
    return sum(path.stat().st_size for path in store.records.iterdir())


def stones(store: Store) -> list[Deleted]:
    return [one for path in files(store.home / "proof") for found in entries(path) for one in found.entry.deleted]


def whole(store: Store) -> None:
    report = verify(store.home)
    assert report.whole, describe(report)
    assert report.deleted == sum(stone.frames for stone in stones(store))


def test_by_age(days: Store) -> None:
    before = size(days)
    done = prune(days.keeper, Keep(2.5 * DAY, ALL), T + 5 * DAY)
    assert (done.segments, done.thinned, done.frames, done.over) == (3, 0, 30, "")
    assert done.left == size(days) < before
    assert ids(days) == ["acme3", "acme4", "bolt3", "bolt4"]
    whole(days)


def test_nothing_is_due(days: Store) -> None:
    assert prune(days.keeper, Keep(100 * DAY, ALL), T + 5 * DAY) == Pruned(left=size(days))
    assert stones(days) == []


def test_the_tombstone_says_what_of_whom_when_and_why(days: Store) -> None:
    prune(days.keeper, Keep(3.5 * DAY, ALL), T + 5 * DAY)
    first = stones(days)[0]
    assert (first.name, first.gaps, first.frames, first.sessions) == (first.name, b"", 10, 2)
    assert first.identities == {"acme": 1, "bolt": 1}
    assert (first.first, first.last, first.by, first.why) == (T, T, BY, "past its time")
    assert first.lost == (Lost(1, 7, (0, 2)),)
    assert stones(days)[1].lost == (Lost(1, 7, (2, 2)),)


def test_a_rule_may_keep_longer(store: Store) -> None:
    """The longest of the rules that decided in a session, those without a word of it among them."""
    for number, rule in enumerate(["reads", "audit", "short"]):
        notes = [opened("acme"), *asked("select 1", Decision("allow", rule)), closed()]
        store.write(flow(rule), notes, T + number)
    both = [opened("acme"), *asked("a", Decision("allow", "short")), *asked("b", Decision("allow", "reads")), closed()]
    store.write(flow("both"), both, T)
    masked = [opened("acme"), *asked("a", Decision("allow", "short")), rows(b"x", masked=1, masks=("audit",)), closed()]
    store.write(flow("masked"), masked, T)
    store.seal()
    keep = Keep(30 * DAY, ALL, {"audit": 90 * DAY, "short": 5 * DAY})
    prune(store.keeper, keep, T + 7 * DAY)
    assert ids(store) == ["audit", "both", "masked", "reads"]
    prune(store.keeper, keep, T + 32 * DAY)
    assert ids(store) == ["audit", "masked"]
    whole(store)
    prune(store.keeper, keep, T + 92 * DAY)
    assert ids(store) == []
    assert list(store.records.iterdir()) == []
    whole(store)


def test_what_a_session_left_is_dropped_though_it_lives(store: Store) -> None:
    store.write(flow("long"), [opened(), rows(b"old")], T)
    store.seal()
    store.write(flow("long"), [rows(b"new")], T + 10 * DAY)
    store.seal()
    prune(store.keeper, Keep(5 * DAY, ALL), T + 10 * DAY)
    assert [frame.note.raw for frame in read(store.records)] == [b"new"]
    assert stones(store)[0].lost == ()
    whole(store)


def test_the_class_of_a_session_holds_for_all_its_segments(store: Store) -> None:
    store.write(flow("long"), [opened(), rows(b"old")], T)
    store.seal()
    store.write(flow("long"), asked("drop", Decision("block", "audit")), T + 1)
    store.seal()
    prune(store.keeper, Keep(1 * DAY, ALL, {"audit": 90 * DAY}), T + 30 * DAY)
    assert len(list(read(store.records))) == 4
    whole(store)


def test_open_segments_are_left(store: Store) -> None:
    store.write(flow(), [opened()], T)
    store.keeper.round()
    done = prune(store.keeper, Keep(DAY, 1), T + 5 * DAY)
    assert done.segments == 0
    assert "by what is open" in done.over
    store.seal()
    assert prune(store.keeper, Keep(DAY, 1), T + 5 * DAY).segments == 1
    whole(store)


def test_other_files_are_left(store: Store) -> None:
    (store.records / "notes.txt").write_bytes(b"x")
    prune(store.keeper, Keep(0.1, 0), T + 1e9)
    assert (store.records / "notes.txt").exists()


# -- how a segment is thinned ------------------------------------------------------------------------------------------


def classes(store: Store, long: int, short: int) -> Keep:
    """One segment of sessions of two classes."""
    for number in range(long + short):
        rule = "audit" if number < long else "reads"
        notes = [opened("acme"), *asked(f"select {number}", Decision("allow", rule)), rows(os.urandom(500)), closed()]
        store.write(flow(f"{rule}{number}"), notes, T)
    store.seal()
    return Keep(DAY, ALL, {"audit": 90 * DAY})


def test_a_thinned_segment_keeps_the_hashes_of_what_went(store: Store) -> None:
    keep = classes(store, 2, 2)
    before = size(store)
    done = prune(store.keeper, keep, T + 1.5 * DAY)
    assert (done.segments, done.thinned, done.frames) == (0, 1, 10)
    assert ids(store) == ["audit0", "audit1"]
    assert size(store) < before
    (stone,) = stones(store)
    assert len(stone.gaps) == 32
    whole(store)
    assert prune(store.keeper, keep, T + 91 * DAY).segments == 1
    whole(store)


def test_worth_is_the_part_a_segment_is_written_anew_for(store: Store) -> None:
    assert WORTH == 1 / 8
    keep = classes(store, 15, 1)
    assert prune(store.keeper, keep, T + 1.5 * DAY).thinned == 0


def test_late_s_is_the_longest_anything_stays_past_its_time(store: Store) -> None:
    assert LATE_S == DAY
    keep = classes(store, 15, 1)
    assert prune(store.keeper, keep, T + DAY + LATE_S - 1).thinned == 0
    assert prune(store.keeper, keep, T + DAY + LATE_S + 1).thinned == 1
    assert len(ids(store)) == 15
    whole(store)


def test_a_segment_is_thinned_again_and_again(store: Store) -> None:
    names = [f"k{number}" for number in range(1, 7)]
    for number, rule in enumerate(names * 3):
        notes = [opened("acme"), *asked(f"select {number}", Decision("allow", rule)), rows(os.urandom(300)), closed()]
        store.write(flow(f"s{number:02d}"), notes, T)
    store.seal()
    keep = Keep(DAY, ALL, {name: number * DAY for number, name in enumerate(names, 1)})
    for day in range(1, 6):
        assert prune(store.keeper, keep, T + (day + 0.5) * DAY).thinned == 1
        assert len(ids(store)) == 18 - 3 * day
        whole(store)
    assert prune(store.keeper, keep, T + 6.5 * DAY).segments == 1
    whole(store)


# -- size --------------------------------------------------------------------------------------------------------------


def test_by_bytes_what_would_go_first_goes(days: Store) -> None:
    most = int(size(days) * 0.7)
    done = prune(days.keeper, Keep(100 * DAY, most), T + 5 * DAY)
    assert done.left <= most
    assert done.over == ""
    left = ids(days)
    assert left == sorted(left, key=lambda id: id[:4])
    assert {"acme4", "bolt4"} <= set(left)
    assert not {"acme0", "bolt0"} & set(left)
    whole(days)


def test_one_vendor_cannot_push_out_what_is_known_of_others(store: Store) -> None:
    for day in range(3):
        store.session(f"quiet{day}", T + day * DAY, identity="quiet", size=500)
        store.seal()
    for number in range(20):
        store.session(f"loud{number:02d}", T + 4 * DAY + number, identity="loud", size=5_000)
        store.seal()
    most = size(store) // 2
    prune(store.keeper, Keep(100 * DAY, most), T + 5 * DAY)
    left = ids(store)
    assert [id for id in left if id.startswith("quiet")] == ["quiet0", "quiet1", "quiet2"]
    assert "loud00" not in left
    assert "loud19" in left
    assert size(store) <= most
    assert {name for stone in stones(store) for name in stone.identities} == {"loud"}
    assert "over record.max_bytes" in stones(store)[0].why
    whole(store)


def test_those_with_the_same_share_lose_the_same(store: Store) -> None:
    for number in range(12):
        store.session(f"{'ab'[number % 2]}{number:02d}", T + number, identity="ab"[number % 2], size=4_000)
        store.seal()
    prune(store.keeper, Keep(100 * DAY, size(store) // 2), T + DAY)
    left = ids(store)
    assert abs(sum(id[0] == "a" for id in left) - sum(id[0] == "b" for id in left)) <= 1
    assert min(int(id[1:]) for id in left) >= 5
    whole(store)


def test_what_a_rule_keeps_longer_goes_last(store: Store) -> None:
    for number in range(10):
        rule = "audit" if number < 5 else "reads"
        notes = [opened("acme"), *asked("select 1", Decision("allow", rule)), rows(os.urandom(4_000)), closed()]
        store.write(flow(f"{rule}{number}"), notes, T + number)
        store.seal()
    prune(store.keeper, Keep(30 * DAY, int(size(store) * 0.6), {"audit": 90 * DAY}), T + DAY)
    assert [id for id in ids(store) if id.startswith("audit")] == [f"audit{number}" for number in range(5)]


def test_low_is_the_mark_dropping_goes_down_to(days: Store) -> None:
    """Else every round would drop one session more."""
    assert LOW == 0.95
    most = size(days) - 1
    assert prune(days.keeper, Keep(100 * DAY, most), T + 5 * DAY).left <= most * LOW


# -- held, and not shipped -----------------------------------------------------------------------------------------------


def test_what_is_held_stays_whatever_its_age_and_size(days: Store) -> None:
    days.keeper.note(Deed("hold", "root", "case 1", ("acme1",), ("bolt",)))
    done = prune(days.keeper, Keep(DAY, 100), T + 50 * DAY)
    assert ids(days) == ["acme1", "bolt0", "bolt1", "bolt2", "bolt3", "bolt4"]
    assert "legal hold" in done.over
    whole(days)


def test_what_is_released_goes(days: Store) -> None:
    days.keeper.note(Deed("hold", "root", "case 1", ("acme1", "acme2"), ("bolt",)))
    prune(days.keeper, Keep(DAY, ALL), T + 50 * DAY)
    days.keeper.note(Deed("release", "root", "closed", ("acme1",), ("bolt",)))
    prune(days.keeper, Keep(DAY, ALL), T + 50 * DAY)
    assert ids(days) == ["acme2"]
    whole(days)


def test_a_hold_outlives_the_hub(days: Store) -> None:
    days.keeper.note(Deed("hold", "root", ids=("acme0",)))
    days.keeper.close()
    later = Keeper(days.home, Signer(SECRET))
    later.round()
    prune(later, Keep(DAY, ALL), T + 50 * DAY)
    assert ids(days) == ["acme0"]


def test_what_was_not_shipped_stays(days: Store) -> None:
    first = days.names()[0]
    days.keeper.shipped(first)
    done = prune(days.keeper, Keep(DAY, 100, shipped=True), T + 50 * DAY)
    assert done.segments == 1
    assert "was not shipped" in done.over
    assert len(days.names()) == 4
    whole(days)


# -- killed on the way ---------------------------------------------------------------------------------------------------


def test_a_kill_between_tombstone_and_removal(days: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told as dropped may be there still: the next round drops it."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, **_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            prune(days.keeper, Keep(3.5 * DAY, ALL), T + 5 * DAY)
    assert verify(days.home).whole
    prune(days.keeper, Keep(3.5 * DAY, ALL), T + 5 * DAY)
    assert ids(days) == ["acme2", "acme3", "acme4", "bolt2", "bolt3", "bolt4"]
    assert verify(days.home).whole


def test_a_kill_between_tombstone_and_thinning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = classes(store, 2, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(OSError("killed")) if "records" in str(self) else os.rename(self, target))
        with pytest.raises(OSError, match="killed"):
            prune(store.keeper, keep, T + 1.5 * DAY)
    assert len(ids(store)) == 4
    assert verify(store.home).whole
    store.keeper.close()
    later = Keeper(store.home, Signer(SECRET))
    later.round()
    assert prune(later, keep, T + 1.5 * DAY).thinned == 1
    assert ids(store) == ["audit0", "audit1"]
    assert verify(store.home).whole


def test_a_segment_removed_by_others_is_missing_and_no_trouble_else(days: Store) -> None:
    (days.records / days.names()[0]).unlink()
    days.keeper.round()
    prune(days.keeper, Keep(2.5 * DAY, ALL), T + 5 * DAY)
    assert [fault.what for fault in verify(days.home).faults] == ["the segment is missing"]


def test_only_packed_segments_are_touched(days: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping.Keeper, "is_packed", lambda self, name: False)
    assert prune(days.keeper, Keep(DAY, ALL), T + 50 * DAY).segments == 0


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([], ()), ([1], (0, 1)), ([1, 2, 3], (0, 3)), ([4], (3, 1)), ([2, 3, 7, 9, 10], (1, 2, 3, 1, 1, 2))],
)
def test_runs(numbers: list[int], expected: tuple[int, ...]) -> None:
    assert runs(numbers) == expected


def test_numbers_no_database_takes_are_left_out(store: Store) -> None:
    """What a worker that was taken over says of its flow must not stop the hub."""
    of = msgspec.structs.replace(flow("odd"), sequence=(1 << 64) - 1, scope=(1 << 64) - 1, epoch=1)
    store.write(of, [opened("acme"), closed()], T)
    store.seal()
    assert prune(store.keeper, Keep(DAY, ALL), T + 5 * DAY).segments == 1
    whole(store)


# -- a full disk ---------------------------------------------------------------------------------------------------------


def test_reserve_bytes_let_a_full_disk_be_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tombstone is written before anything is dropped; there must be room for it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    assert checkpoint.RESERVE_BYTES == 4 << 20
    monkeypatch.setattr(checkpoint, "RESERVE_BYTES", 1 << 20)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", tmp_path], check=True)
    try:
        store = Store(tmp_path)
        for number in range(20):
            store.session(f"s{number}", T + number, size=50_000)
            store.seal()
        with (tmp_path / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        (store.records / "more").write_bytes(b"")
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "proof/more").write_bytes(bytes(1 << 16))
        done = prune(store.keeper, Keep(DAY, ALL), T + 5 * DAY)
        assert done.segments == 20
        assert ids(store) == []
        whole(store)
        store.keeper.round()
        assert (tmp_path / "proof/reserve").stat().st_size == 1 << 20, "it is put aside again"
        store.close()
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_a_disk_without_room_for_the_reserve_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    store.keeper.round()
    assert not (tmp_path / "proof/reserve").exists()


def test_a_hold_placed_while_it_is_pruned_holds(days: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Checkpoints(days.home / "proof", Signer(SECRET))
    drop = retention._Prune._drop

    def late(self: retention._Prune, name: str, why: str) -> None:
        if not other.held[1]:
            other.append(Said(deeds=(Deed("hold", "root", identities=("acme", "bolt")),)))
        drop(self, name, why)

    monkeypatch.setattr(retention._Prune, "_drop", late)
    assert prune(days.keeper, Keep(DAY, ALL), T + 50 * DAY).segments == 0
    assert len(ids(days)) == 10
