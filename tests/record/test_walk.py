"""A segment is read once while it grows, and what is packed is what was read."""

import io
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.record import packed, read, walk
from appliance.record.brief import Told
from appliance.record.catalog import Catalog
from appliance.record.chain import GAP_HEAD, Item, gap, parse, plain
from appliance.record.frame import HEAD, MAX_FRAME, BadFrame
from appliance.record.keeper import seal_of
from appliance.record.packed import BLOCK, Signed
from appliance.record.parts import Parts
from appliance.record.runs import ends
from appliance.record.walk import SESSIONS, Walk
from tests.record.samples import NO_DROP, T, asked, closed, flow, opened, rows
from tests.record.store import Store

HERE = Path("here")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def filled(store: Store, sessions: int = 12) -> Path:
    """Write some sessions of several kinds; return their segment."""
    for number in range(sessions):
        of = msgspec.structs.replace(flow(f"f{number}", T + number), sequence=number, scope=7, epoch=3)
        store.write(of, [opened(f"acme{number % 3}"), *asked("select 1"), rows(b"D" * 40_000)], T + number)
        store.write(of, [*asked("drop table t", NO_DROP), rows(b"", 0, 3, ("hide-ssn",)), closed()], T + 50 - number)
    (name,) = store.names()
    return store.records / name


def one_by_one(data: bytes) -> list[Item]:
    """What `plain` says, as it is defined: one item behind the other."""
    found: list[Item] = []
    at = start = 0
    while (item := parse(HERE, data, at, start)) is not None:
        found.append(item)
        at += len(item.data) + (GAP_HEAD if item.gap else 0)
        start = item.end
    return found


PIECES = st.one_of(
    st.binary(max_size=40).map(lambda body: b"\xc6" + len(body).to_bytes(4, "big") + body),
    st.integers(1, 3).map(lambda count: gap(9, bytes(32 * count))),
    st.binary(max_size=3),
    st.just(b"\xc6" + (MAX_FRAME + 1).to_bytes(4, "big")),
    st.just(b"\xc6\0\0\1\0half"),
)


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_runs_are_the_items_one_by_one(data: bytes) -> None:
    found: list[Item] = []
    try:
        due, wrong = one_by_one(data), ""
    except BadFrame as error:
        wrong = str(error)
    try:
        for item in plain(HERE, io.BytesIO(data), 0):
            found.append(item)
    except BadFrame as error:
        assert str(error) == wrong
    else:
        assert (found, wrong) == (due, "")


@given(st.lists(st.binary(max_size=9), max_size=5), st.integers(0, 60))
def test_ends_of_what_is_whole(bodies: list[bytes], cut: int) -> None:
    data = b"".join(b"\xc6" + len(body).to_bytes(4, "big") + body for body in bodies)
    places = [sum(HEAD + len(body) for body in bodies[: number + 1]) for number in range(len(bodies))]
    assert ends(data[:cut], 0) == [place for place in places if place <= cut]


def test_what_is_packed_is_the_same_as_item_by_item(store: Store, tmp_path: Path) -> None:
    path = filled(store)
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    assert copy.stat().st_size > 3 * BLOCK
    store.keeper.round()  # a part is read while it is open
    store.seal()
    packed.write(copy, read.items(copy), seal_of(path))
    assert path.read_bytes() == copy.read_bytes()


@pytest.mark.parametrize("most", [SESSIONS, 5])
def test_sessions_is_how_many_of_a_segment_are_summed_up_while_it_is_open(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    assert SESSIONS == 5_000
    monkeypatch.setattr(walk, "SESSIONS", most)
    path = filled(store)
    other = Catalog(tmp_path / "other.sqlite")
    other.put(path.name, 0, read.items(path))
    store.seal()
    for table in ("sessions", "parts"):
        query = f"SELECT * FROM {table} ORDER BY 1, 2"
        assert store.keeper.catalog.rows(query) == other.rows(query) != []
    (row,) = store.keeper.catalog.rows("SELECT name, bytes, last FROM segments")
    assert row == (path.name, path.stat().st_size, T + 50)
    other.close()


def test_parts_hold_no_more_than_they_may() -> None:
    parts = Parts(2)
    for id in "abcab":
        parts.add(id, 1.0, Told(), None, 10)
        assert len(parts.of) <= 2
    assert not parts.whole


@pytest.mark.parametrize("where", ["early", "late"])
def test_what_is_not_what_was_read_is_not_packed(store: Store, where: str) -> None:
    """A byte that changed since it was read, in a place where each frame still has its form."""
    path = filled(store)
    store.keeper.round()
    data = path.read_bytes()
    place = data.index(b"select 1") if where == "early" else len(data) - 1
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    store.log().seal()
    done = store.keeper.round()
    assert done.sealed == 1
    assert path.read_bytes()[:1] == data[:1], "it stays as it is"
    (bad,) = store.keeper.round().bad
    assert "does not follow" in bad if where == "early" else "changed while it was open" in bad


def test_what_comes_after_the_last_sum_is_no_part_of_it(store: Store) -> None:
    path = filled(store, 1)
    one = Walk(path)
    one.advance()
    assert b"".join(item.data for item in one.blocks()) == path.read_bytes()
    assert b"".join(item.data for item in one.blocks()) == path.read_bytes(), "again, if it could not be written"
    store.write(flow("f9"), [opened()])
    with pytest.raises(BadFrame, match="has grown since it was sealed"):
        one.advance()


def test_a_seal_needs_no_second_look_at_each_frame(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)
    store.keeper.round()
    monkeypatch.delattr(read, "items")
    monkeypatch.delattr(walk, "boths")
    store.seal()
    assert seal_of(store.records / store.names()[0]) != Signed(b"", b"")
