"""The hub's part: seals, checkpoints, the key; what one round does, and what the next one mends."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from appliance.model import HostError
from appliance.record import checkpoint, keeper, packed, read
from appliance.record.catalog import FLUSH, Catalog
from appliance.record.chain import leaf
from appliance.record.checkpoint import FILE_BYTES, Checkpoints, Counter, Deed, Said, entries, files
from appliance.record.frame import BadFrame
from appliance.record.index import Index
from appliance.record.keeper import CHECKPOINT_S, EMPTY_S, Keeper, seal_of
from appliance.record.packed import is_packed
from appliance.record.retention import Keep, prune
from appliance.record.seal import Head, Seal, is_open
from appliance.record.session import Filter
from appliance.record.signing import CHECKPOINT, SEAL, Signer, is_signed, key_name
from appliance.record.tree import Tree
from appliance.record.verify import describe, verify
from appliance.service.keys import signer
from tests.record.samples import T, asked, closed, flow, opened, rows
from tests.record.store import SECRET, Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def said(store: Store) -> list[checkpoint.Entry]:
    return [one.entry for path in files(store.home / "proof") for one in entries(path)]


def seals(store: Store) -> list[Seal]:
    return [msgspec.msgpack.decode(one.body, type=Seal) for entry in said(store) for one in entry.seals]


# -- rounds ----------------------------------------------------------------------------------------------------------


def test_an_open_segment_is_told_of_as_far_as_it_is(store: Store) -> None:
    store.write(flow(), [opened(), *asked("select 1")])
    store.keeper.round("r1")
    (name,) = store.names()
    items = list(read.items(store.records / name))
    tree = Tree()
    for item in items:
        tree.add(leaf(item.data))
    top = read.header(store.records / name)
    assert top
    (entry,) = said(store)
    assert (entry.number, entry.previous, entry.revision) == (1, b"", "r1")
    assert entry.heads == (Head(name, top.chain, 0, 4, 3, items[-1].end, leaf(items[-1].data), tree.root()),)


def test_what_has_not_grown_is_not_told_again(store: Store) -> None:
    store.write(flow(), [opened()])
    assert store.keeper.round().written
    assert store.keeper.round().written is None
    store.write(flow(), [closed()])
    assert store.keeper.round().written
    assert [len(entry.heads) for entry in said(store)] == [1, 1]


def test_checkpoint_s_is_the_time_between_two_that_only_tell_of_growth(tmp_path: Path) -> None:
    assert CHECKPOINT_S == 10
    store = Store(tmp_path)
    store.keeper.close()
    store.keeper = Keeper(tmp_path, Signer(SECRET), checkpoint_s=3600)
    store.write(flow(), [opened()])
    assert store.keeper.round().written
    store.write(flow(), [closed()])
    assert store.keeper.round().written is None
    store.log().seal()
    assert store.keeper.round().sealed == 1, "a seal does not wait"


def test_a_closed_segment_is_sealed_packed_and_signed(store: Store) -> None:
    store.write(flow(), [opened(), closed()], T + 5)
    (name,) = store.names()
    path = store.records / name
    items = list(read.items(path))
    before = path.read_bytes()
    store.log().seal()
    assert store.keeper.round().sealed == 1
    (seal,) = seals(store)
    assert (seal.name, seal.items, seal.sequence, seal.size, seal.torn) == (name, 3, 1, len(before), 0)
    assert (seal.head, seal.first, seal.last) == (leaf(items[-1].data), T + 5, T + 5)
    signed = seal_of(path)
    assert is_signed(store.keeper.signer.public, SEAL, signed)
    assert not is_signed(store.keeper.signer.public, CHECKPOINT, signed), "a signature is for its purpose"
    assert msgspec.msgpack.decode(signed.body, type=Seal) == seal
    assert b"".join(item.data for item in read.items(path)) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_open_segment_is_not_sealed(store: Store) -> None:
    store.write(flow(), [opened()])
    (name,) = store.names()
    assert is_open(store.records / name)
    assert store.keeper.round().sealed == 0
    store.log().seal()
    assert not is_open(store.records / name)


def test_the_torn_end_of_a_killed_worker_is_left_out(store: Store) -> None:
    store.write(flow(), [opened(), closed()])
    (name,) = store.names()
    store.log().seal()
    with (store.records / name).open("ab") as file:
        file.write(b"\xc6\0\0\1\0half")
    store.keeper.round()
    (seal,) = seals(store)
    assert (seal.items, seal.torn) == (3, 9)
    assert len(list(read.segment(store.records / name))) == 2
    assert verify(store.home).whole


def test_a_torn_end_that_is_sealed_and_not_packed_yet(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub was killed in between: verify takes it as it is, and the next round packs it."""
    store.write(flow(), [opened(), closed()])
    (name,) = store.names()
    store.log().seal()
    with (store.records / name).open("ab") as file:
        file.write(b"\xc6\0\0\1\0half")
    with monkeypatch.context() as patch:
        patch.setattr(packed, "write", lambda *_: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            store.keeper.round()
    assert verify(store.home).whole
    with (store.records / name).open("ab") as file:
        file.write(b"more")
    assert "appended after the seal" in verify(store.home).faults[0].what
    os.truncate(store.records / name, (store.records / name).stat().st_size - 4)
    store.keeper.close()
    Keeper(store.home, Signer(SECRET)).round()
    assert verify(store.home).whole
    with (store.records / name).open("rb") as file:
        assert is_packed(file)


def test_empty_s_is_how_long_a_segment_without_a_header_stays(store: Store) -> None:
    assert EMPTY_S == 60
    path = store.records / "w0.1700000000000.record"
    path.write_bytes(b"\xc6\0\0")
    store.keeper.round()
    assert path.exists()
    os.utime(path, (T, T))
    store.keeper.round()
    assert not path.exists()


def test_a_segment_no_worker_wrote_is_named_and_left(store: Store) -> None:
    path = store.records / "w0.1700000000000.record"
    path.write_bytes(b"hello world")
    store.session("good")
    store.seal()
    (bad,) = store.keeper.round().bad
    assert "w0.1700000000000.record: byte 0: byte 0x68" in bad
    assert path.read_bytes() == b"hello world"
    assert [Path(fault.file).name for fault in verify(store.home).faults] == [path.name]


def test_a_frame_that_does_not_follow_ends_what_is_sealed(store: Store) -> None:
    """A worker that was taken over: up to there it is evidence, and the file stays as it is."""
    store.write(flow(), [opened(), closed()])
    (name,) = store.names()
    store.log().seal()
    path = store.records / name
    item = list(read.items(path))[1]
    with path.open("ab") as file:
        file.write(item.data)
    before = path.read_bytes()
    (bad,) = store.keeper.round().bad
    assert f"{name}: byte" in bad
    assert "frame 1 where 3 was due" in bad
    assert path.read_bytes() == before
    assert seals(store)[0].items == 3
    assert store.keeper.round().bad == (bad,), "it is said again"


def test_a_segment_changed_while_it_was_open_is_not_packed(store: Store) -> None:
    store.write(flow(), [opened(), rows(b"secret"), closed()])
    store.keeper.round()
    (name,) = store.names()
    path = store.records / name
    path.write_bytes(path.read_bytes().replace(b"secret", b"public"))
    store.log().seal()
    store.keeper.round()
    assert "does not follow" in store.keeper.round().bad[0]
    assert path.read_bytes()[0] == 0xC6
    assert not verify(store.home).whole


def test_the_next_keeper_seals_what_the_last_one_left(store: Store) -> None:
    store.session("a")
    store.keeper.round()
    store.session("b")
    store.log().seal()
    store.keeper.close()
    later = Keeper(store.home, Signer(SECRET))
    assert later.round().sealed == 1
    assert later.checkpoints.number == 2
    report = verify(store.home)
    assert report.whole, describe(report)


def test_leftovers_of_a_packing_are_removed_at_the_start(store: Store) -> None:
    (store.records / "w0.1700000000000.new").write_bytes(b"x")
    store.keeper.close()
    Keeper(store.home, Signer(SECRET))
    assert list(store.records.iterdir()) == []


def test_what_a_worker_puts_beside_the_segments_leads_root_nowhere(store: Store) -> None:
    """It may make files there, and root packs and reads there. The system protects links only where all may write."""
    store.session("a")
    name = store.names()[0]
    victim = store.home / "victim"
    victim.write_bytes(b"as it was")
    (store.records / name).with_suffix(".new").symlink_to(victim)
    store.seal()
    assert victim.read_bytes() == b"as it was" and store.keeper.is_packed(name)
    os.mkfifo(store.records / "w9.1700000000000.record")
    (store.records / "w9.1700000000001.record").symlink_to(victim)
    (store.records / "w9.1700000000002.record").symlink_to(store.home / "nothing")
    (store.records / "w9.1700000000003.record").mkdir()
    (store.records / "w9.1700000000003.new").mkdir()
    store.keeper.round(deeds=[Deed("start", "root")])
    index = Index(store.home / "index.sqlite", store.records)
    assert index.catch_up().bad == () and [one.id for one in index.sessions(Filter())] == ["a"]
    index.close()
    assert prune(store.keeper, Keep(1e12, 1)).left > 0
    found = {Path(fault.file).name: fault.what for fault in verify(store.home).faults}
    assert found == {f"w9.170000000000{number}.record": "it is no file" for number in (0, 1, 2, 3)}
    store.keeper.close()
    Keeper(store.home, Signer(SECRET)).close()


def test_a_lost_catalog_is_made_again(store: Store) -> None:
    store.session("a", identity="acme")
    store.seal()
    before = store.keeper.catalog.rows("SELECT segment, session, frames, bytes FROM parts")
    store.keeper.close()
    for path in store.home.glob("catalog*"):
        path.unlink()
    later = Keeper(store.home, Signer(SECRET))
    later.round()
    assert later.catalog.rows("SELECT segment, session, frames, bytes FROM parts") == before
    assert later.catalog.rows("SELECT identity, rules FROM sessions") == [("acme", "reads")]


@pytest.mark.parametrize("data", [b"rubbish" * 1000, b""])
def test_a_catalog_that_is_none_is_made_again(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(data)
    catalog = Catalog(tmp_path / "catalog.sqlite")
    assert catalog.names() == set()
    catalog.close()


def test_flush_is_how_many_sessions_are_summed_up_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FLUSH == 5_000
    monkeypatch.setattr("appliance.record.catalog.FLUSH", 2)
    for number in range(7):
        store.session(f"s{number}", T + number, identity=f"i{number % 2}")
    store.seal()
    rows_ = store.keeper.catalog.rows("SELECT session, frames, first, last FROM parts ORDER BY session")
    assert rows_ == [(f"s{number}", 5, T + number, T + number) for number in range(7)]


# -- the chain of checkpoints --------------------------------------------------------------------------------------------


def test_each_has_the_hash_of_the_one_before_and_is_signed(store: Store) -> None:
    for number in range(3):
        store.keeper.note(Deed("export", "eve", text=f"{number}"))
    (path,) = files(store.home / "proof")
    assert path.name == "000000000001.checkpoints"
    found = list(entries(path))
    assert [one.entry.number for one in found] == [1, 2, 3]
    assert [one.entry.previous for one in found] == [b"", found[0].hash, found[1].hash]
    for one in found:
        assert one.hash == leaf(one.data)
        signed = msgspec.msgpack.decode(one.data[5:], type=packed.Signed)
        assert is_signed(store.keeper.signer.public, CHECKPOINT, signed)
    assert (store.home / "proof/latest").read_text() == f"3 {found[2].hash.hex()}\n"
    assert (store.home / "proof/key.pub").read_text() == store.keeper.signer.public.hex() + "\n"
    assert found[2].line == f"vendorgate checkpoint 3 {found[2].hash.hex()} {found[2].entry.time:.3f} key {key_name(store.keeper.signer.public)}"


def test_file_bytes_is_the_size_another_file_is_begun_at(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FILE_BYTES == 4 << 20
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 1000)
    store.keeper.note(Deed("hold", "root", ids=("f1",), identities=("acme",)))
    for number in range(8):
        store.keeper.checkpoints.append(Said(counters=(Counter(1, 7, "acme.service", number),)))
    paths = files(store.home / "proof")
    assert len(paths) >= 2
    first = next(entries(paths[-1])).entry
    assert paths[-1].name == f"{first.number:012d}.checkpoints"
    assert first.standing and first.standing.held_ids == ("f1",)
    again = Checkpoints(store.home / "proof", Signer(SECRET))
    assert again.number == 9
    assert again.held == (frozenset({"f1"}), frozenset({"acme"}))
    assert again.counters[1, 7].flows == 7
    assert verify(store.home).whole


def test_counters_of_a_fence_that_is_gone_are_not_carried_on(store: Store) -> None:
    store.keeper.checkpoints.append(Said(counters=(Counter(1, 7, "a", 3),)))
    store.keeper.checkpoints.append(Said(counters=(Counter(2, 7, "a", 1),)))
    assert list(store.keeper.checkpoints.counters) == [(2, 7)]


def test_only_counters_that_changed_are_told(store: Store) -> None:
    one, other = Counter(1, 7, "a", 3), Counter(1, 8, "b", 3)
    store.keeper.round(counters=[one, other])
    store.keeper.round(counters=[one, msgspec.structs.replace(other, flows=4)])
    assert store.keeper.round(counters=[one]).written is None
    assert [[c.scope for c in entry.counters] for entry in said(store)] == [[7, 8], [8]]


def test_two_processes_append_by_turns(store: Store) -> None:
    """`vendorgate hold` does, while the hub runs."""
    other = Checkpoints(store.home / "proof", Signer(SECRET))
    store.keeper.note(Deed("start", "hub"))
    other.append(Said(deeds=(Deed("hold", "root", identities=("acme",)),)))
    store.keeper.note(Deed("export", "eve"))
    assert [entry.number for entry in said(store)] == [1, 2, 3]
    assert store.keeper.checkpoints.held == (frozenset(), frozenset({"acme"}))
    assert verify(store.home).whole


def test_what_a_crash_left_of_an_entry_is_cut_off(store: Store) -> None:
    store.keeper.note(Deed("start", "hub"))
    (path,) = files(store.home / "proof")
    with path.open("ab") as file:
        file.write(b"\xc6\0\0\1\0half an entry")
    Checkpoints(store.home / "proof", Signer(SECRET)).append(Said())
    assert [entry.number for entry in said(store)] == [1, 2]
    assert verify(store.home).whole


def test_a_crash_before_the_first_entry_of_a_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 1)
    store.keeper.note(Deed("start", "hub"))
    store.keeper.note(Deed("start", "hub"))
    (store.home / "proof/000000000003.checkpoints").write_bytes(b"\xc6\0")
    again = Checkpoints(store.home / "proof", Signer(SECRET))
    assert again.number == 2
    again.append(Said())
    assert [entry.number for entry in said(store)] == [1, 2, 3]
    assert verify(store.home).whole


def test_an_entry_that_cannot_be_written_is_taken_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.keeper.note(Deed("start", "hub"))
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[:20]))
        with pytest.raises(OSError, match="No space"):
            store.keeper.note(Deed("export", "eve"))
    store.keeper.note(Deed("export", "adam"))
    assert [entry.deeds[0].by for entry in said(store)] == ["hub", "adam"]
    assert verify(store.home).whole


def test_another_key_does_not_go_on_with_the_chain(store: Store) -> None:
    store.keeper.note(Deed("start", "hub"))
    with pytest.raises(HostError, match="signed by another key"):
        Checkpoints(store.home / "proof", Signer(b"z" * 32))


def test_a_public_key_that_is_gone_is_not_made_again(store: Store) -> None:
    """Else whoever took it away could put another in its place."""
    store.keeper.note(Deed("start", "hub"))
    (store.home / "proof/key.pub").unlink()
    with pytest.raises(HostError, match="is gone"):
        Checkpoints(store.home / "proof", Signer(SECRET))


def test_a_chain_that_lost_its_end_is_not_gone_on_with(store: Store) -> None:
    """What is written next would hide that something was cut off."""
    store.keeper.note(Deed("start", "hub"))
    store.keeper.note(Deed("start", "hub"))
    (path,) = files(store.home / "proof")
    os.truncate(path, len(next(entries(path)).data))
    with pytest.raises(HostError, match="end with 1, and `latest` says 2"):
        Checkpoints(store.home / "proof", Signer(SECRET))


def test_a_chain_without_the_number_of_its_last_is_not_gone_on_with(store: Store) -> None:
    store.keeper.note(Deed("start", "hub"))
    (store.home / "proof/latest").unlink()
    with pytest.raises(HostError, match="end with 1, and `latest` says none"):
        Checkpoints(store.home / "proof", Signer(SECRET))


def test_a_record_that_was_just_begun_has_no_checkpoint(store: Store) -> None:
    """It says so, and that none may be missing is written already."""
    assert (store.home / "proof/latest").read_text() == f"0 {'0' * 64}\n"
    assert [fault.what for fault in verify(store.home).faults] == ["there are no checkpoints"]


def test_rubbish_among_the_checkpoints_stops_the_start(store: Store) -> None:
    store.keeper.note(Deed("start", "hub"))
    (path,) = files(store.home / "proof")
    path.write_bytes(b"hello")
    with pytest.raises(HostError, match="byte 0"):
        Checkpoints(store.home / "proof", Signer(SECRET))
    with pytest.raises(BadFrame):
        list(entries(path))


# -- the key -------------------------------------------------------------------------------------------------------------


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = signer(tmp_path)
    path = tmp_path / "keys/record.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(path.read_bytes()) == 32
    assert signer(tmp_path).public == first.public
    assert path.read_bytes().hex() not in repr(vars(first))


@pytest.mark.parametrize(("data", "mode", "says"), [(b"short", 0o600, "is no key"), (bytes(32), 0o640, "read by others")])
def test_a_key_that_is_none_or_not_secret_is_refused(tmp_path: Path, data: bytes, mode: int, says: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/record.key").write_bytes(data)
    (tmp_path / "keys/record.key").chmod(mode)
    with pytest.raises(HostError, match=says):
        signer(tmp_path)


def test_what_a_round_looks_at_twice_is_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed segment is not opened again, whatever their number."""
    store.session("a")
    store.seal()
    monkeypatch.setattr(keeper, "is_packed", lambda file: pytest.fail("looked at again"))
    store.keeper.round()
