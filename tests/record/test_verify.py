"""Whatever is done to a record, verify says so and where; both sets of primitives say the same."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.record import bundle, checkpoint, packed, read
from appliance.record.audit import check as audit
from appliance.record.audit.ledger import GRACE_S, Wanted
from appliance.record.audit.primitives import MAX_BLOCK, PLAIN, Tools, Tree, inflate, signed, unpack
from appliance.record.chain import Item, leaf
from appliance.record.checkpoint import Counter, Deed, Lost, Said, entries, files
from appliance.record.excerpt import members
from appliance.record.frame import Frame, Header, pack
from appliance.record.keeper import Round
from appliance.record.packed import Packed, is_packed
from appliance.record.retention import Keep, prune, runs
from appliance.record.signing import Signer, checks
from appliance.record.standalone import source
from appliance.record.tree import Tree as Growing
from appliance.record.verify import FAST, Report, describe, summary, verify
from tests.record.samples import T, closed, flow, opened, rows
from tests.record.store import SECRET, Store

SLOW = Tools(unpack, signed, FAST.inflate)  # zstd is not in the standard library of this Python
DAY = 86_400.0
COPIES = itertools.count()
MANY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(MANY, max_examples=25)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record with everything in it: chains over segments, packed and thinned ones, one open, tombstones, a hold."""
    home = tmp_path_factory.mktemp("sample")
    store = Store(home, segment_bytes=6_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "FILE_BYTES", 4_000)
        sequence = 0
        for day in range(4):
            for number in range(6):
                sequence += 1
                identity = ("acme", "bolt")[number % 2]
                store.session(f"d{day}s{number}", T + day * DAY + number, f"w{number // 3}", identity=identity, sequence=sequence)
                if number % 3 == 0:
                    store.keeper.round("r1", [Counter(1, 7, "acme.service", sequence)])
            store.seal()
        store.keeper.note(Deed("hold", "root", "case 1", identities=("bolt",)))
        assert prune(store.keeper, Keep(2 * DAY, 1 << 40), T + 3.5 * DAY).thinned
        store.write(flow("open"), [opened(), rows(b"x" * 50), rows(b"y")], T + 4 * DAY)
        store.keeper.round("r1", [Counter(1, 7, "acme.service", sequence)])
    assert len(files(home / "proof")) > 2
    store.close()
    report = verify(home)
    assert report.whole, describe(report)
    return home


def spoilt(home: Path, tmp: Path, how: Callable[[Path], object]) -> Path:
    copy = tmp / f"copy{next(COPIES)}"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("catalog*", "reserve"))
    how(copy)
    return copy


def found(home: Path, wanted: Wanted | None = None) -> Report:
    """Verify with both sets of primitives; they must say the same."""
    wanted = wanted or Wanted()
    fast, slow = verify(home, wanted), audit.check(home, wanted, SLOW)

    def places(report: Report) -> list[tuple[str, int, int | None]]:
        return [(fault.file, fault.offset, fault.number) for fault in report.faults]

    assert places(fast) == places(slow)
    left, right = summary(fast), summary(slow)
    assert {**left, "faults": 0} == {**right, "faults": 0}
    return fast


def evidence(home: Path) -> list[Path]:
    """All files that count, sorted."""
    paths = [path for place in ("records", "proof") for path in (home / place).iterdir()]
    return sorted(path for path in paths if path.stat().st_size and path.name != "reserve")


@MANY
@given(data=st.data())
def test_a_flipped_bit_anywhere(sample: Path, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([path.relative_to(sample) for path in evidence(sample)]))
    place = data.draw(st.integers(0, (sample / name).stat().st_size - 1))
    bit = data.draw(st.integers(0, 7))

    def flip(home: Path) -> None:
        bytes_ = bytearray((home / name).read_bytes())
        bytes_[place] ^= 1 << bit
        (home / name).write_bytes(bytes_)

    home = spoilt(sample, tmp_path, flip)
    report = found(home)
    assert not report.whole
    if name.parts[0] == "records" or name.name == "key.pub":
        assert report.faults[0].file == str(home / name)
        assert report.faults[0].offset <= place
    else:
        assert report.faults[0].file.startswith(str(home / "proof"))
    shutil.rmtree(home)


@MANY
@given(data=st.data())
def test_a_file_cut_anywhere(sample: Path, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([path.relative_to(sample) for path in evidence(sample)]))
    size = data.draw(st.integers(0, (sample / name).stat().st_size - 1))
    home = spoilt(sample, tmp_path, lambda home: os.truncate(home / name, size))
    report = found(home)
    assert not report.whole
    if name.parts[0] == "records":
        assert report.faults[0].file == str(home / name)
    shutil.rmtree(home)


def test_any_file_dropped(sample: Path, tmp_path: Path) -> None:
    for path in evidence(sample):
        name = path.relative_to(sample)
        home = spoilt(sample, tmp_path, lambda home, name=name: (home / name).unlink())  # type: ignore[misc]
        report = found(home)
        assert not report.whole, name
        if name.parts[0] == "records":
            assert report.faults[0] == (str(home / name), 0, None, "the segment is missing")
        shutil.rmtree(home)


@FEW
@given(data=st.data())
def test_two_files_swapped(sample: Path, tmp_path: Path, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(["records", "proof"]))
    names = [path.name for path in evidence(sample) if path.parent.name == place and path.suffix in (".record", ".checkpoints")]
    one, other = data.draw(st.lists(st.sampled_from(names), min_size=2, max_size=2, unique=True))

    def swap(home: Path) -> None:
        (home / place / one).rename(home / "aside")
        (home / place / other).rename(home / place / one)
        (home / "aside").rename(home / place / other)

    home = spoilt(sample, tmp_path, swap)
    report = found(home)
    assert {Path(fault.file).name for fault in report.faults} & {one, other}
    shutil.rmtree(home)


@pytest.mark.parametrize("number", range(3))
def test_a_segment_under_another_name_too(sample: Path, tmp_path: Path, number: int) -> None:
    name = [path.name for path in evidence(sample) if path.suffix == ".record"][number]
    worker, when, _ = name.split(".")
    for other in (f"{worker}.{int(when) + 1:013d}.record", f"w9.{when}.record"):
        home = spoilt(sample, tmp_path, lambda home, other=other: shutil.copy(home / "records" / name, home / "records" / other))  # type: ignore[misc]
        (fault,) = [fault for fault in found(home).faults if Path(fault.file).name == other]
        assert "under another name" in fault.what


def unthinned(home: Path) -> list[str]:
    """Return the segments retention took nothing from, the open one last."""
    paths = [path for path in evidence(home) if path.suffix == ".record"]
    whole = [path for path in paths if not any(item.gap for item in read.items(path))]
    return [path.name for path in sorted(whole, key=lambda path: path.read_bytes()[0] == 0xC6)]


# -- frames ----------------------------------------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[list[Item]], Iterable[Item]]) -> None:
    """Write a segment anew with other items, under the seal it has."""
    items = list(read.items(path))
    with path.open("rb") as file:
        sealed = is_packed(file)
    new = list(change(items))
    if sealed:
        one = Packed(path)
        packed.write(path, new, one.footer.seal)
        one.close()
    else:
        path.write_bytes(b"".join(packed.written(item) for item in new))


def placed(items: Iterable[bytes]) -> list[Item]:
    start, done = 0, []
    for data in items:
        done.append(Item(start, start + len(data), data))
        start += len(data)
    return done


def rechained(items: list[Item], change: Callable[[list[Frame]], list[Frame]]) -> list[Item]:
    """Change frames as one does who can compute hashes, but has no key."""
    top = items[0]
    frames = change([msgspec.msgpack.decode(item.body, type=Frame) for item in items[1:]])
    head, new = leaf(top.data), [top.data]
    first = msgspec.msgpack.decode(items[1].body, type=Frame).sequence
    for number, frame in enumerate(frames):
        new.append(pack(msgspec.structs.replace(frame, sequence=first + number, previous=head)))
        head = leaf(new[-1])
    return placed(new)


def altered(item: Item) -> Item:
    frame = msgspec.msgpack.decode(item.body, type=Frame)
    return placed([pack(msgspec.structs.replace(frame, time=frame.time + 1))])[0]


CHANGES: dict[str, Callable[[list[Item], int], list[Item]]] = {
    "alter": lambda items, n: placed(i.data for i in [*items[:n], altered(items[n]), *items[n + 1 :]]),
    "drop": lambda items, n: placed(i.data for i in items[:n] + items[n + 1 :]),
    "duplicate": lambda items, n: placed(i.data for i in items[: n + 1] + items[n:]),
    "swap": lambda items, n: placed(i.data for i in [*items[:n], items[n + 1], items[n], *items[n + 2 :]]),
}
FIRST_BAD = {"alter": 0, "drop": 0, "duplicate": 1, "swap": 0}  # which frame, from the one that was changed


@pytest.mark.parametrize("what", CHANGES)
@FEW
@given(data=st.data())
def test_any_frame_changed_is_named(sample: Path, tmp_path: Path, what: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(unthinned(sample)))
    items = list(read.items(sample / "records" / name))
    n = data.draw(st.integers(1, len(items) - 1 - (what == "swap")))
    home = spoilt(sample, tmp_path, lambda home: rewritten(home / "records" / name, lambda _: CHANGES[what](items, n)))
    fault = found(home).faults[0]
    assert fault.file == str(home / "records" / name)
    number = msgspec.msgpack.decode(items[n].body, type=Frame).sequence
    assert fault.number == number + FIRST_BAD[what], fault
    shutil.rmtree(home)


def test_the_frame_is_named_by_its_byte(sample: Path, tmp_path: Path) -> None:
    """In the open segment, which is not packed, the offset is that of the bad frame itself."""
    (name,) = (path.name for path in evidence(sample) if path.suffix == ".record" and path.read_bytes()[0] == 0xC6)
    items = list(read.items(sample / "records" / name))
    assert len(items) == 4
    for n in (1, 2, 3):
        home = spoilt(sample, tmp_path, lambda home, n=n: rewritten(home / "records" / name, lambda _: CHANGES["alter"](items, n)))  # type: ignore[misc]
        fault = found(home).faults[0]
        assert (fault.offset, fault.number) == (items[n].start, msgspec.msgpack.decode(items[n].body, type=Frame).sequence)


@FEW
@given(data=st.data())
def test_a_session_cut_out_and_the_chain_made_anew(sample: Path, tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(unthinned(sample)))
    items = list(read.items(sample / "records" / name))
    id = data.draw(st.sampled_from([msgspec.msgpack.decode(item.body, type=Frame).id for item in items[1:]]))
    new = rechained(items, lambda frames: [frame for frame in frames if frame.id != id])
    home = spoilt(sample, tmp_path, lambda home: rewritten(home / "records" / name, lambda _: new))
    assert str(home / "records" / name) in {fault.file for fault in found(home).faults}
    shutil.rmtree(home)


def test_frames_hidden_in_a_gap_no_tombstone_speaks_of(sample: Path, tmp_path: Path) -> None:
    name = unthinned(sample)[0]

    def hide(items: list[Item]) -> list[Item]:
        last = items[-1]
        return [*items[:-1], Item(last.start, last.end, leaf(last.data), 1, gap=True)]

    home = spoilt(sample, tmp_path, lambda home: rewritten(home / "records" / name, hide))
    fault = found(home).faults[0]
    assert (Path(fault.file).name, "no checkpoint says so" in fault.what) == (name, True)


def test_what_was_appended_after_the_seal(sample: Path, tmp_path: Path) -> None:
    name = unthinned(sample)[0]

    def more(items: list[Item]) -> list[Item]:
        frame = Frame(10_000, T, "f", closed(), previous=leaf(items[-1].data))
        return placed([*(item.data for item in items), pack(frame)])

    home = spoilt(sample, tmp_path, lambda home: rewritten(home / "records" / name, more))
    assert "appended after the seal" in str(found(home).faults[0])


# -- checkpoints -----------------------------------------------------------------------------------------------------


def regrouped(home: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Write the checkpoints anew, each in the file it was in as far as there are as many."""
    paths = files(home / "proof")
    counts = [sum(1 for _ in entries(path)) for path in paths]
    data = change([one.data for path in paths for one in entries(path)])
    for path, count in zip(paths, [*counts[:-1], len(data)], strict=True):
        path.write_bytes(b"".join(data[:count]))
        data = data[count:]


ENTRY_CHANGES: dict[str, Callable[[list[bytes], int], list[bytes]]] = {
    "drop": lambda data, n: data[:n] + data[n + 1 :],
    "duplicate": lambda data, n: data[: n + 1] + data[n:],
    "swap": lambda data, n: [*data[:n], data[n + 1], data[n], *data[n + 2 :]],
}


@pytest.mark.parametrize("what", ENTRY_CHANGES)
@FEW
@given(data=st.data())
def test_any_checkpoint_changed_is_named(sample: Path, tmp_path: Path, what: str, data: st.DataObject) -> None:
    count = sum(1 for path in files(sample / "proof") for _ in entries(path))
    n = data.draw(st.integers(0, count - 1 - (what == "swap")))
    home = spoilt(sample, tmp_path, lambda home: regrouped(home, lambda all_: ENTRY_CHANGES[what](all_, n)))
    fault = found(home).faults[0]
    assert Path(fault.file).suffix == ".checkpoints"
    assert fault.number == n + 1 + (what == "duplicate")
    shutil.rmtree(home)


def test_checkpoints_of_another_key_are_named_from_the_first(sample: Path, tmp_path: Path) -> None:
    """Who has no key can build a chain of the right shape, not sign it."""
    other = Signer(b"x" * 32)

    def forge(data: list[bytes]) -> list[bytes]:
        done, previous = data[:3], leaf(data[2])
        for one in data[3:]:
            entry = msgspec.msgpack.decode(msgpack.unpackb(one[5:])["body"], type=checkpoint.Entry)
            body = msgspec.msgpack.encode(other.sign(b"vendorgate checkpoint 1\0", msgspec.structs.replace(entry, previous=previous)))
            done.append(b"\xc6" + len(body).to_bytes(4, "big") + body)
            previous = leaf(done[-1])
        return done

    home = spoilt(sample, tmp_path, lambda home: regrouped(home, forge))
    last = [one for path in files(home / "proof") for one in entries(path)][-1]
    (home / "proof/latest").write_text(f"{last.entry.number} {last.hash.hex()}\n")
    fault = found(home).faults[0]
    assert fault.number == 4
    assert "not signed by key" in fault.what


def test_a_chain_rewritten_with_the_key_shows_by_the_anchors(sample: Path, tmp_path: Path) -> None:
    """Root has the key; what was told outside it has not."""
    lines = [one.line for path in files(sample / "proof") for one in entries(path)]
    text = "\n".join(f"Nov 21 10:00:00 host vendorgate[1]: {line}" for line in lines[::3])
    assert found(sample, Wanted(anchors=text)).whole
    store = Store(tmp_path)
    for _ in lines:
        store.keeper.note(Deed("start", "root"))
    store.close()
    assert found(tmp_path).whole
    fault = found(tmp_path, Wanted(anchors=text)).faults[0]
    assert (fault.number, "kept elsewhere" in fault.what) == (1, True)


def test_checkpoints_cut_off_show_by_the_anchors(sample: Path, tmp_path: Path) -> None:
    last = [one for path in files(sample / "proof") for one in entries(path)][-1]

    def cut(home: Path) -> None:
        regrouped(home, lambda data: data[:-1])
        before = [one for path in files(home / "proof") for one in entries(path)][-1]
        (home / "proof/latest").write_text(f"{before.entry.number} {before.hash.hex()}\n")

    home = spoilt(sample, tmp_path, cut)
    fault = found(home, Wanted(anchors=last.line)).faults[0]
    assert fault.number == last.entry.number
    assert "is missing" in fault.what


def test_the_key_that_was_noted_elsewhere_must_be_the_one(sample: Path) -> None:
    mine = Signer(SECRET)
    assert found(sample, Wanted(key=mine.public)).key == mine.name
    fault = found(sample, Wanted(key=Signer(b"y" * 32).public)).faults[0]
    assert fault.file.endswith("key.pub")


# -- completeness ----------------------------------------------------------------------------------------------------


def counted(store: Store, flows: int, now: float, **more: object) -> Round:
    """Have a checkpoint say that the fence counted so many, at a time."""
    counter = Counter(1, 7, "acme.service", flows)
    store.keeper.checkpoints.append(Said(counters=(counter,), **more), now)  # type: ignore[arg-type]
    return Round(None, 0, ())


def whole(store: Store, *sequences: int) -> None:
    for sequence in sequences:
        store.session(f"s{sequence}", T + sequence, sequence=sequence)


def test_a_session_the_fence_counted_and_nobody_recorded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole(store, 1, 2, 4, 6)
    counted(store, 6, T + 10)
    counted(store, 6, T + 11 + GRACE_S)
    store.seal()
    (fault,) = found(tmp_path).faults
    assert "sessions 3, 5 of acme.service are missing: the fence counted 6" in fault.what
    assert fault.number == 3


def test_names_of_cgroups_command_no_terminal_of_an_auditor(tmp_path: Path) -> None:
    """Who is delegated a cgroup names those below it; the verifier as one file has no screen of ours."""
    store = Store(tmp_path)
    counter = Counter(1, 7, "acme.service/\x1b]0;owned\x07\x9b31m\n\u202e", 1)
    for when in (T, T + 1 + GRACE_S):
        store.keeper.checkpoints.append(Said(counters=(counter,)), when)
    store.seal()
    text = describe(found(tmp_path))
    assert "owned" in text and text.replace("\n", "").isprintable() and len(text.splitlines()) == 3


def test_grace_is_how_long_a_counted_flow_may_wait(tmp_path: Path) -> None:
    assert GRACE_S == 120
    store = Store(tmp_path)
    whole(store, 1)
    store.seal()
    when = time.time() + 10
    counted(store, 2, when)
    counted(store, 2, when + GRACE_S - 1)
    assert found(tmp_path).whole
    counted(store, 2, when + GRACE_S + 1)
    assert "sessions 2 of acme.service are missing" in found(tmp_path).faults[0].what


def test_flows_noted_as_not_served_are_not_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole(store, 1, 3)
    counted(store, 4, T, unserved=(Lost(1, 7, runs([2, 4])),))
    counted(store, 4, T + 1 + GRACE_S)
    store.seal()
    assert found(tmp_path).whole


def test_flows_around_a_start_are_told_and_no_fault(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole(store, 1, 2)
    counted(store, 2, T)
    counted(store, 5, T + GRACE_S + 1, deeds=(Deed("start", "vendorgate"),))
    whole(store, 6)
    counted(store, 6, T + GRACE_S + 2)
    counted(store, 6, T + 2 * GRACE_S + 3)
    store.seal()
    report = found(tmp_path)
    assert report.whole, describe(report)
    assert report.notes == ["3 flows of acme.service came around a start and were not served"]
    assert report.flows == 3


def test_sessions_that_retention_dropped_are_not_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole(store, *range(1, 8))
    store.seal()
    counted(store, 7, T)
    counted(store, 7, T + 1 + GRACE_S)
    assert prune(store.keeper, Keep(DAY, 1 << 40), T + 3 * DAY).segments == 1
    report = found(tmp_path)
    assert report.whole, describe(report)
    assert report.deleted == 35


def test_another_cgroup_and_another_fence_count_for_themselves(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole(store, 1)
    for when in (T, T + 1 + GRACE_S):
        store.keeper.checkpoints.append(Said(counters=(Counter(1, 8, "b.service", 1), Counter(2, 7, "acme.service", 1))), when)
    store.seal()
    assert {fault.file for fault in found(tmp_path).faults} == {
        "cgroup b.service (fence 1, cgroup id 8)",
        "cgroup acme.service (fence 2, cgroup id 7)",
    }


def test_a_range_of_time_asks_for_its_own_sessions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole(store, 1)
    counted(store, 3, T)  # 2 and 3 are missing, on the first day
    store.seal()
    store.session("later", T + 2 * DAY, sequence=4)
    counted(store, 4, T + 2 * DAY)
    counted(store, 4, T + 2 * DAY + GRACE_S + 1)
    store.seal()
    assert len(found(tmp_path).faults) == 1
    later = found(tmp_path, Wanted(since=T + DAY))
    assert later.whole, describe(later)
    assert later.segments == 1
    assert not found(tmp_path, Wanted(until=T + DAY)).whole


# -- while it is used --------------------------------------------------------------------------------------------------


def test_a_segment_no_checkpoint_knows(tmp_path: Path) -> None:
    """New ones are told of; one that is old can only have been put there."""
    store = Store(tmp_path)
    store.session("a")
    store.seal()
    store.session("b", T + 100)
    report = found(tmp_path)
    assert [fault.what for fault in report.faults] == ["no checkpoint knows this segment"]
    assert report.uncovered == 1


@pytest.mark.parametrize("begun", [0.0, -1.0, float("nan"), float("inf"), 4e9], ids=str)
@pytest.mark.parametrize("format", [1, 2])
def test_a_segment_put_there_says_of_itself_that_it_is_new(tmp_path: Path, begun: float, format: int) -> None:
    """Nor does it make up for a session the fence counted."""
    store = Store(tmp_path)
    whole(store, 1, 3)
    counted(store, 3, T + 10)
    counted(store, 3, T + 11 + GRACE_S)
    store.seal()
    top = pack(Header(format, "put", begun, 1, 9_999_999_999_999, "ab" * 16))
    forged = msgspec.structs.replace(flow("put"), sequence=2, scope=7, epoch=1)
    frame = Frame(1, T, "put", opened(), flow=forged, number=1, previous=leaf(top))
    (tmp_path / "records" / "put.9999999999999.record").write_bytes(top + pack(frame))
    whats = [fault.what for fault in found(tmp_path).faults]
    assert whats[0] == "no checkpoint knows this segment"
    assert "sessions 2 of acme.service are missing" in whats[1]


def test_a_segment_in_the_place_of_one_that_was_dropped(tmp_path: Path) -> None:
    """It may still be there after its tombstone, but as it was."""
    store = Store(tmp_path)
    for day in range(3):
        store.session(f"s{day}", T + day * DAY)
        store.seal()
    path = tmp_path / "records" / store.names()[0]
    before = path.read_bytes()
    assert prune(store.keeper, Keep(DAY, 1 << 40), T + 2 * DAY).segments and not path.exists()
    path.write_bytes(before)
    assert found(tmp_path).whole
    top = pack(Header(2, "w0", T, 1, int(path.name.split(".")[1]), "ab" * 16))
    path.write_bytes(top + pack(Frame(1, T, "put", opened(), flow=flow("put"), number=1, previous=leaf(top))))
    (fault,) = found(tmp_path).faults
    assert fault.file == str(path) and fault.what == "the last 4 frames are missing"


def test_a_segment_so_new_that_no_checkpoint_knows_it_makes_up_for_no_session(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole(store, 1, 3)
    counted(store, 3, T + 10)
    counted(store, 3, T + 11 + GRACE_S)
    store.seal()
    store.session("late", time.time(), sequence=2)
    report = found(tmp_path)
    assert report.uncovered == 1
    (fault,) = report.faults
    assert "sessions 2 of acme.service are missing" in fault.what


def test_an_open_segment_may_grow_past_its_checkpoint(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(flow(), [opened()])
    store.keeper.round()
    store.write(flow(), [rows(b"x")])
    assert found(tmp_path).whole


def test_a_record_without_any_proof(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    report = found(tmp_path)
    assert "there is no proof here" in report.faults[0].what


def test_a_hub_that_seals_and_drops_meanwhile_is_no_fault(tmp_path: Path) -> None:
    """What looks bad is looked up again in the checkpoints that came since."""
    store = Store(tmp_path, segment_bytes=3_000)
    for number in range(12):
        store.session(f"s{number}", T + number * DAY, size=400)
    store.keeper.round()
    steps = iter([
        store.seal,
        lambda: prune(store.keeper, Keep(6 * DAY, 1 << 40), T + 12 * DAY),
        lambda: prune(store.keeper, Keep(1 * DAY, 1 << 40), T + 12 * DAY),
    ])  # fmt: skip

    def meanwhile(done: int, size: int, name: str) -> None:
        next(steps, lambda: None)()

    report = verify(tmp_path, progress=meanwhile)
    assert report.whole, describe(report)
    assert found(tmp_path).whole


# -- handed over -------------------------------------------------------------------------------------------------------


def handed(home: Path, out: Path, *ids: str) -> Path:
    for member in members(home, ids, [path.name for path in (home / "records").iterdir()]):
        path = out / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(member.parts))
    return vouched(out)


def vouched(home: Path) -> Path:
    """Put the manifest of an export there, as of what is there."""
    signer = Signer(SECRET)
    (home / bundle.MANIFEST).unlink(missing_ok=True)
    (home / bundle.SIGNATURE).unlink(missing_ok=True)
    paths = sorted(path for path in home.rglob("*") if path.is_file())
    listed = [
        bundle.Listed(str(path.relative_to(home)), path.stat().st_size, sha256(path.read_bytes()).hexdigest())
        for path in paths
    ]
    text = msgspec.json.encode(bundle.Manifest(1, T, bundle.About("root"), signer.name, tuple(listed)))
    (home / bundle.MANIFEST).write_bytes(text)
    signed = signer.sign(bundle.CONTEXT, bundle.Vouched(sha256(text).digest()))
    (home / bundle.SIGNATURE).write_bytes(msgspec.msgpack.encode(signed))
    return home


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(home / "verify.py"), str(home), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", env={"PATH": ""})


def test_an_excerpt_proves_one_session_and_shows_no_other(sample: Path, tmp_path: Path) -> None:
    home = handed(sample, tmp_path, "d3s1")
    done = run(home, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["whole"], report["sessions"], report["frames"]) == (True, 1, 5)
    data = b"".join(path.read_bytes() for path in (home / "records").iterdir())
    assert b"select d3s1" in data
    assert b"select d3s2" not in data
    assert found(home).whole


def test_the_mark_of_an_excerpt_makes_no_record_an_export(sample: Path, tmp_path: Path) -> None:
    """It would have segments, checkpoints and sessions that are gone be no fault."""
    whats = [fault.what for fault in found(spoilt(sample, tmp_path, lambda home: (home / "proof/excerpt").touch())).faults]
    assert whats == ["this says that it is an export, and no manifest does"]

    def drop(home: Path) -> None:
        (home / "proof/excerpt").touch()
        sorted((home / "records").iterdir())[0].unlink()

    whats = [fault.what for fault in found(spoilt(sample, tmp_path, drop)).faults]
    assert whats[1:2] == ["the segment is missing"]


def test_an_export_in_the_place_of_the_record_is_none(sample: Path, tmp_path: Path) -> None:
    home = handed(sample, tmp_path, "d3s1")
    assert found(home).notes == ["it is an export: of sessions that are not in it only hashes"]
    assert [fault.what for fault in found(home, Wanted(own=True)).faults] == ["this is an export, in the place of the record"]


def test_an_excerpt_of_the_open_segment_too(sample: Path, tmp_path: Path) -> None:
    report = found(handed(sample, tmp_path, "open"))
    assert report.whole, describe(report)
    assert report.frames == 3


def test_a_frame_left_out_of_an_excerpt(sample: Path, tmp_path: Path) -> None:
    home = handed(sample, tmp_path, "d3s1")
    (path,) = (p for p in (home / "records").iterdir() if b"select d3s1" in p.read_bytes())
    items = list(read.items(path))
    n = next(n for n, item in enumerate(items) if not item.gap and n and b"select d3s1" in item.data)
    hidden = items[n]
    gone = Item(hidden.start, hidden.end, leaf(hidden.data), 1, gap=True)
    path.write_bytes(b"".join(packed.written(item) for item in [*items[:n], gone, *items[n + 1 :]]))
    assert "of session d3s1 is left out" in found(vouched(home)).faults[0].what


def test_a_bit_flipped_in_an_excerpt(sample: Path, tmp_path: Path) -> None:
    home = handed(sample, tmp_path, "d3s1")
    (path,) = (p for p in (home / "records").iterdir() if b"select d3s1" in p.read_bytes())
    data = path.read_bytes()
    at = data.index(b"select d3s1")
    path.write_bytes(data[:at] + b"S" + data[at + 1 :])
    done = run(vouched(home))
    assert done.returncode == 1
    first = done.stdout.splitlines()[0]
    assert first.startswith(f"{path}: byte ")
    assert "was changed" in first
    assert found(home).faults[0].offset <= at


@pytest.mark.peer
def test_the_one_file_reads_a_state_directory(sample: Path, tmp_path: Path) -> None:
    """Packed segments are unpacked by the program zstd, where Python cannot."""
    (tmp_path / "verify.py").write_text(source())
    done = subprocess.run(
        [sys.executable, "-I", "-S", tmp_path / "verify.py", sample, "--from", "2023-11-14T00:00:00Z"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "whole: " in done.stdout


def test_the_one_file_imports_nothing_of_ours() -> None:
    text = source()
    assert "import appliance" not in text
    assert "from appliance" not in text
    compile(text, "verify.py", "exec", dont_inherit=True)
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= set(sys.stdlib_module_names)


# -- primitives ----------------------------------------------------------------------------------------------------------


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20),
    max_leaves=20,
)


@MANY
@given(value=VALUES)
def test_both_readers_of_msgpack_agree(value: object) -> None:
    data = msgspec.msgpack.encode(value)
    assert unpack(data) == msgspec.msgpack.decode(data) == value


@MANY
@given(data=st.binary(max_size=60))
def test_rubbish_is_a_value_error_for_both(data: bytes) -> None:
    for tools in (PLAIN, FAST):
        try:
            tools.unpack(data)
        except ValueError:
            pass


@FEW
@given(secret=st.binary(min_size=32, max_size=32), body=st.binary(max_size=200), data=st.data())
def test_both_checks_of_a_signature_agree(secret: bytes, body: bytes, data: st.DataObject) -> None:
    signer = Signer(secret)
    signature = signer.sign(b"", Deed("hold", body.hex()))
    for check in (signed, checks):
        assert check(signer.public, signature.body, signature.signature)
    spoilt = bytearray(signature.signature)
    spoilt[data.draw(st.integers(0, 63))] ^= 1 << data.draw(st.integers(0, 7))
    assert not signed(signer.public, signature.body, bytes(spoilt))
    assert not checks(signer.public, signature.body, bytes(spoilt))


def test_a_signature_of_rfc_8032() -> None:
    """7.1, TEST 3."""
    public = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
    signature = bytes.fromhex(
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )
    for check in (signed, checks):
        assert check(public, b"\xaf\x82", signature)
        assert not check(public, b"\xaf\x83", signature)
        assert not check(public, b"\xaf\x82", signature[:63])
        assert not check(b"\xff" * 32, b"\xaf\x82", signature)


@given(leaves=st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_both_trees_agree(leaves: list[bytes]) -> None:
    one, other = Tree(), Growing()
    for leaf_ in leaves:
        one.add(leaf_)
        other.add(leaf_)
        assert one.root() == other.root()


def test_a_tree_of_rfc_9162() -> None:
    """Roots of the trees over the first leaves 00 10 2021 3031 ..., computed by the recursive definition of 2.1.1."""
    leaves = [leaf(bytes.fromhex(text)) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]

    def root(some: list[bytes]) -> bytes:
        if len(some) == 1:
            return some[0]
        split = 1 << ((len(some) - 1).bit_length() - 1)
        return leaf_pair(root(some[:split]), root(some[split:]))

    tree = Growing()
    for count, one in enumerate(leaves, 1):
        tree.add(one)
        assert tree.root() == root(leaves[:count])


def leaf_pair(left: bytes, right: bytes) -> bytes:
    from hashlib import sha256

    return sha256(b"\1" + left + right).digest()


@pytest.mark.peer
def test_zstd_by_the_program_is_the_same() -> None:
    data = os.urandom(1000) + bytes(100_000)
    assert inflate(packed.zstandard.ZstdCompressor().compress(data)) == data
    with pytest.raises(ValueError, match="cannot be unpacked"):
        inflate(b"rubbish")


@pytest.mark.peer
def test_max_block_bounds_what_the_one_file_unpacks() -> None:
    """A few KB may stand for any number of bytes: no more is taken than a block can be."""
    assert MAX_BLOCK == packed.MAX_BLOCK
    zstd = packed.zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(zstd.compress(bytes(1 << 20)) for _ in range(1_000)) + zstd.flush()
    assert len(bomb) < 40_000
    with pytest.raises(ValueError, match=f"it unpacks to more than {MAX_BLOCK} bytes, the most a block can be"):
        inflate(bomb)
    with pytest.raises(ValueError, match="did not decompress"):
        FAST.inflate(bomb)


@pytest.mark.parametrize("more", [b"x", packed.zstandard.ZstdCompressor().compress(b"\xc6")])
def test_a_block_is_one_frame_of_zstd(more: bytes) -> None:
    """Else two verifiers might read it differently: of frames that follow one another zstd(1) gives all."""
    block = packed.zstandard.ZstdCompressor().compress(b"hello")
    assert FAST.inflate(block) == b"hello"
    with pytest.raises(ValueError, match="unused data"):
        FAST.inflate(block + more)
