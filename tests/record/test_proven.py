"""Nothing is dropped, or said to be gone, because somebody without the key changed what nobody signs."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.record import packed
from appliance.record.chain import Item
from appliance.record.checkpoint import Deed, Deleted, Said, entries, files
from appliance.record.packed import Packed, Signed
from appliance.record.read import read
from appliance.record.retention import Keep, Pruned, prune
from appliance.record.verify import describe, verify
from tests.record.samples import T, asked, closed, flow, opened
from tests.record.store import Store

DAY = 86_400.0
ALL = 1 << 40  # bytes
YOUNG = Keep(30 * DAY, ALL)
OLD = Keep(30 * DAY, ALL, {"reads": 3650 * DAY})  # what the rule `reads` decided is kept
SMALL = Keep(3650 * DAY, 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One segment with a session of acme and a larger one of bolt."""
    found = Store(tmp_path)
    found.session("a", T, identity="acme", sequence=1, size=1000)
    found.session("b", T, identity="bolt", sequence=2, size=9000)
    found.seal()
    return found


def ids(store: Store) -> list[str]:
    return sorted({frame.id for frame in read(store.records)})


def stones(store: Store) -> list[Deleted]:
    return [one for path in files(store.home / "proof") for found in entries(path) for one in found.entry.deleted]


def change(store: Store, *statements: str) -> None:
    for statement in statements:
        store.keeper.catalog.rows(statement)


def hold(store: Store, deed: Deed | None) -> None:
    if deed:
        store.keeper.checkpoints.append(Said(deeds=(deed,)))


ACME, SESSION = Deed("hold", "root", identities=("acme",)), Deed("hold", "root", ids=("a",))
LATER = T + 31 * DAY
# what was changed; what is held, kept, and when; what is left when the catalog is right again
CHANGED: dict[str, tuple[tuple[str, ...], Deed | None, Keep, float, list[str]]] = {
    "older": (("UPDATE parts SET first = 0, last = 0",), None, YOUNG, T + DAY, ["a", "b"]),
    "whose": (("UPDATE sessions SET identity = 'bolt'",), ACME, YOUNG, LATER, ["a"]),
    "nobody's": (("UPDATE sessions SET identity = ''",), ACME, YOUNG, LATER, ["a"]),
    "by no rule": (("UPDATE sessions SET rules = ''",), None, OLD, LATER, ["a", "b"]),
    "by another rule": (("UPDATE sessions SET rules = 'short'",), None, OLD, LATER, ["a", "b"]),
    "left out": (("DELETE FROM parts WHERE session = 'a'",), SESSION, YOUNG, LATER, ["a"]),
    "left out, with its size": (
        ("DELETE FROM parts WHERE session = 'a'", "UPDATE segments SET live = (SELECT sum(bytes) FROM parts)"),
        SESSION, YOUNG, LATER, ["a"],
    ),
    "another id": (("UPDATE parts SET session = 'x' WHERE session = 'a'", "UPDATE sessions SET id = 'x' WHERE id = 'a'"),
                   SESSION, YOUNG, LATER, ["a"]),
    "another number": (("UPDATE sessions SET sequence = sequence + 40",), ACME, YOUNG, LATER, ["a"]),
    "larger": (("UPDATE parts SET bytes = 1000000 WHERE session = 'b'",), SESSION, SMALL, T + DAY, ["a"]),
    "a larger file": (("UPDATE segments SET bytes = 1000000",), SESSION, SMALL, T + DAY, ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_catalog_has_nothing_dropped(store: Store, what: str) -> None:
    changes, deed, keep, now, left = CHANGED[what]
    hold(store, deed)
    change(store, *changes)
    done = prune(store.keeper, keep, now)
    assert (done.frames, stones(store), ids(store)) == (0, [], ["a", "b"])
    assert "the catalog said other than the segment does" in done.bad
    again = prune(store.keeper, keep, now)
    assert (again.bad, ids(store)) == ("", left)
    assert [number for stone in stones(store) for lost in stone.lost for number in lost.runs] == [1, 1] * (left == ["a"])
    assert verify(store.home).whole, describe(verify(store.home))


def test_whose_a_session_is_that_began_elsewhere_stays_open(tmp_path: Path) -> None:
    """While an identity is held it could be that: what the catalog says of it is in no frame here."""
    store = Store(tmp_path)
    store.write(flow("a"), [opened("acme"), *asked("select 1")])
    store.seal()
    store.write(flow("a"), [*asked("select 2"), closed()], T + 1)
    store.session("b", T + 1, identity="bolt")
    store.seal()
    hold(store, ACME)
    change(store, "UPDATE sessions SET identity = 'bolt'")
    for _ in range(3):
        prune(store.keeper, YOUNG, LATER)
    assert ids(store) == ["a"]
    assert len(list(read(store.records))) == 6
    hold(store, Deed("release", "root", identities=("acme",)))
    prune(store.keeper, YOUNG, LATER)
    assert ids(store) == []


def earlier(item: Item) -> Item:
    """The same frame, as if of long ago."""
    said = msgspec.msgpack.decode(item.body)
    if "time" not in said:
        return item
    body = msgspec.msgpack.encode(said | {"time": 1.5e9})
    return Item(item.start, item.end, item.data[:1] + len(body).to_bytes(4, "big") + body)


FORGED: dict[str, Callable[[list[Item], Signed], tuple[list[Item], Signed]]] = {
    "frames": lambda items, seal: ([*map(earlier, items)], seal),
    "a frame left out": lambda items, seal: (items[:-1], seal),
    "a seal of nobody": lambda items, seal: (items, msgspec.structs.replace(seal, signature=bytes(64))),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_changed_segment_is_not_dropped_but_seen(store: Store, what: str) -> None:
    """A tombstone over it would have hidden that it was changed."""
    (name,) = store.names()
    with contextlib.closing(Packed(store.records / name)) as whole:
        items, seal = FORGED[what](list(whole.items()), whole.footer.seal)
    packed.write(store.records / name, items, seal)
    change(store, "UPDATE parts SET first = 0, last = 0")
    done = prune(store.keeper, YOUNG, T + DAY)
    assert name in done.bad
    assert stones(store) == []
    assert (store.records / name).exists()
    assert what == "a seal of nobody" or not verify(store.home).whole


def test_what_is_right_is_dropped_in_one_round(store: Store) -> None:
    assert prune(store.keeper, YOUNG, LATER) == Pruned(segments=1, frames=10)
    assert stones(store)[0].identities == {"acme": 1, "bolt": 1}
    assert verify(store.home).whole
