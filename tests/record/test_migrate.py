"""Records of every earlier format stay readable. tests/data has a file of each, written by the version of its time."""

import shutil
from pathlib import Path

import msgspec
import pytest

from appliance.record import migrate
from appliance.record.frame import FORMAT, OLDEST, Frame
from appliance.record.index import Index
from appliance.record.packed import is_packed
from appliance.record.read import header, read, segment
from appliance.record.session import Filter
from appliance.record.verify import describe, verify
from tests.record.samples import NO_DROP, T, asked, closed, flow, opened, rows
from tests.record.store import Store

DATA = Path(__file__).parents[1] / "data"
NAME = "w0.1700000000000.record"
OLD = {
    1: [
        opened(), *asked("select name from users", id="old1-1"),
        rows(b"D\0\0\0\x0b\0\1\0\0\0\1x", 1, 1, ("hide",)),
        opened("acme", "orders-db"), *asked("drop table users", NO_DROP, "old2-1"),
        closed(), closed("the client left"),
    ],
}  # fmt: skip


def test_every_earlier_format_has_a_file_and_a_migration() -> None:
    assert OLDEST == 1
    assert set(range(OLDEST, FORMAT)) == set(OLD) == set(migrate.STEPS)
    assert {path.name for path in DATA.glob("format-*.record")} == {f"format-{number}.record" for number in OLD}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    shutil.copy(DATA / "format-1.record", made.records / NAME)
    return made


@pytest.mark.parametrize("number", OLD)
def test_a_file_of_an_earlier_format_is_read(tmp_path: Path, number: int) -> None:
    path = tmp_path / NAME
    shutil.copy(DATA / f"format-{number}.record", path)
    top = header(path)
    assert top and top.format == number
    frames = [placed.frame for placed in segment(path)]
    assert [frame.note for frame in frames] == OLD[number]
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[0].flow == flow("old1")
    assert {frame.previous for frame in frames} == {b""}


def test_a_field_that_format_1_did_not_have_says_nothing() -> None:
    frame = Frame(1, T, "f", closed(), number=9, previous=b"x", salt=b"y")
    assert migrate.frame(frame, 1) == Frame(1, T, "f", closed())
    assert migrate.frame(frame, FORMAT) == frame


def test_it_is_sealed_packed_and_verified_as_it_is(store: Store) -> None:
    before = [placed.frame for placed in segment(store.records / NAME)]
    store.session("new", T + 10)
    store.seal()
    with (store.records / NAME).open("rb") as file:
        assert is_packed(file)
    assert [placed.frame for placed in segment(store.records / NAME)] == before
    report = verify(store.home)
    assert report.whole, describe(report)
    assert report.segments == 2
    data = bytearray((store.records / NAME).read_bytes())
    data[100] ^= 1
    (store.records / NAME).write_bytes(data)
    assert [Path(fault.file).name for fault in verify(store.home).faults] == [NAME]


def test_its_sessions_are_listed_and_shown_with_the_others(store: Store) -> None:
    index = Index(store.home / "index.sqlite", store.records)
    index.catch_up()
    assert {session.id for session in index.sessions(Filter())} == {"old1", "old2"}
    store.session("new", T + 10)
    store.seal()
    index.catch_up()
    assert {session.id for session in index.sessions(Filter())} == {"old1", "old2", "new"}
    assert [frame.note.kind for frame in index.frames(["old1"])] == ["opened", "message", "decision", "message", "closed"]
    assert [frame.id for frame in read(store.records)].count("old2") == 4
    index.close()


def test_the_struct_of_today_still_reads_it_field_by_field() -> None:
    """What a later field of model.py would break shows here first."""
    data = (DATA / "format-1.record").read_bytes()
    assert msgspec.msgpack.decode(data[5 : 5 + int.from_bytes(data[1:5], "big")])["format"] == 1
