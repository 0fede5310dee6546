"""Items, their hashes, gaps, and packed segments."""

import os
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.record import packed, read
from appliance.record.chain import HASH, MAX_GAP, READ, Item, gap, leaf, parse, plain
from appliance.record.frame import MAX_FRAME, BadFrame, segments
from appliance.record.log import SALT_BYTES, Log
from appliance.record.packed import BLOCK, MAX_FOOTER, Packed, Signed, is_packed
from appliance.record.read import OPEN_PACKED, Placed, at, extent, segment
from appliance.record.retention import without
from appliance.record.verify import FAST
from tests.record.samples import T, asked, closed, flow, opened, rows

PATH = Path("w0.1700000000000.record")
PATIENT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A segment of some blocks, of three sessions by turns."""
    log = Log(tmp_path, "w0")
    for number in range(90):
        log.append(flow(f"f{number % 3}"), [opened(), *asked(f"select {number}"), rows(os.urandom(1500)), closed()], T + number)
    log.seal()
    return Path(segments(tmp_path)[0].path)


def test_the_hash_of_an_item_is_that_of_a_leaf() -> None:
    assert leaf(b"abc") == sha256(b"\0abc").digest()


def test_each_frame_has_the_hash_of_the_one_before(path: Path) -> None:
    items = list(read.items(path))
    head = leaf(items[0].data)
    for item, placed in zip(items[1:], segment(path), strict=True):
        assert placed.frame.previous == head
        head = leaf(item.data)


def test_the_chain_goes_on_over_segments(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    for number in range(3):
        log.append(flow(), [rows(b"%d" % number)], T + number)
        log.seal()
    paths = [Path(one.path) for one in segments(tmp_path)]
    tops = [read.header(path) for path in paths]
    assert [top.segment for top in tops if top] == [0, 1, 2]
    assert len({top.chain for top in tops if top}) == 1
    for before, top in zip(paths, tops[1:], strict=False):
        assert top and top.previous == leaf(list(read.items(before))[-1].data)


def test_another_worker_of_the_name_is_another_chain(tmp_path: Path) -> None:
    for _ in range(2):
        log = Log(tmp_path, "w0")
        log.append(flow(), [opened()], T)
        log.seal()
    tops = [read.header(Path(one.path)) for one in segments(tmp_path)]
    assert len({top.chain for top in tops if top}) == 2
    assert [top.segment for top in tops if top] == [0, 0]


def test_a_failed_write_leaves_the_chain_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened()], T)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[:-3]))
        with pytest.raises(OSError, match="bytes written"):
            log.append(flow(), [rows(b"x")], T)
    log.append(flow(), [closed()], T)
    first, second = (Path(one.path) for one in segments(tmp_path))
    top = read.header(second)
    assert top and (top.segment, top.previous) == (1, leaf(list(read.items(first))[-1].data))


def test_frames_of_a_session_are_numbered_and_salted(tmp_path: Path) -> None:
    assert SALT_BYTES == 8
    log = Log(tmp_path, "w0")
    log.append(flow("a"), [opened(), rows(b"x")], T)
    log.append(flow("b"), [opened()], T)
    log.seal()
    log.append(flow("a"), [rows(b"y"), closed()], T)
    log.append(flow("a"), [closed("again")], T)
    frames = list(read.read(tmp_path))
    assert [(f.id, f.number) for f in frames] == [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("a", 4), ("a", 1)]
    salts = {frame.salt for frame in frames}
    assert len(salts) == 6
    assert {len(salt) for salt in salts} == {SALT_BYTES}


# -- parsing ---------------------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=40))
def test_rubbish_is_a_bad_frame_or_not_whole(data: bytes) -> None:
    try:
        item = parse(PATH, data, 0, 0)
    except BadFrame:
        return
    assert item is None or item.data


@pytest.mark.parametrize("hashes", [b"", b"x" * 31, b"x" * 33])
def test_a_gap_has_whole_hashes(hashes: bytes) -> None:
    with pytest.raises(BadFrame, match="not a gap"):
        parse(PATH, gap(100, hashes), 0, 0)


def test_a_gap_stands_for_the_bytes_that_were_there() -> None:
    item = parse(PATH, gap(1000, b"a" * HASH + b"b" * HASH), 0, 50)
    assert item == Item(50, 1050, b"a" * HASH + b"b" * HASH, 2, gap=True)
    assert list(item.hashes()) == [b"a" * HASH, b"b" * HASH]
    assert parse(PATH, packed.written(item), 0, 50) == item


def test_max_frame_bounds_a_length_before_it_is_read() -> None:
    for mark in (b"\xc6", b"\xc9"):
        with pytest.raises(BadFrame, match=f"over {MAX_FRAME}"):
            parse(PATH, mark + (MAX_FRAME + 1).to_bytes(4, "big"), 0, 0)


def test_items_longer_than_a_read_are_put_together(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened(), rows(bytes(3 * READ)), closed()], T)
    with Path(segments(tmp_path)[0].path).open("rb") as file:
        assert [item.end - item.start > READ for item in plain(PATH, file, 0)] == [False, False, True, False]


# -- packed ----------------------------------------------------------------------------------------------------------


def pack(path: Path) -> list[Placed]:
    before = list(segment(path))
    packed.write(path, read.items(path), Signed(b"seal", b"signature"))
    return before


def test_a_packed_segment_reads_the_same(path: Path) -> None:
    size = path.stat().st_size
    before = pack(path)
    assert path.stat().st_size < size
    assert list(segment(path)) == before
    assert extent(path) == size
    with path.open("rb") as file:
        assert is_packed(file)
        for placed in (before[0], before[200], before[17], before[-1]):
            assert at(path, file, placed.offset) == placed.frame
    middle = before[150]
    assert list(segment(path, start=middle.end, before=middle.frame.sequence)) == before[151:]


def test_it_is_zstd_and_gives_the_stream(path: Path) -> None:
    data = path.read_bytes()
    pack(path)
    whole = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
    assert whole.read() == data
    whole.close()


def test_blocks_are_of_whole_items(path: Path) -> None:
    assert BLOCK == 1 << 17
    pack(path)
    one = Packed(path)
    assert len(one.footer.blocks) >= 2
    assert all(block.size >= BLOCK for block in one.footer.blocks[:-1])
    assert one.footer.seal == Signed(b"seal", b"signature")
    one.close()


def test_an_offset_where_no_frame_begins(path: Path) -> None:
    before = pack(path)
    with path.open("rb") as file, pytest.raises(BadFrame, match="is gone"):
        at(path, file, before[5].offset + 1)
    with path.open("rb") as file, pytest.raises(BadFrame, match="is gone"):
        at(path, file, before[-1].end)


@PATIENT
@given(data=st.data())
def test_any_changed_byte_of_a_packed_segment_is_a_bad_frame(path: Path, data: st.DataObject) -> None:
    if path.read_bytes()[0] == 0xC6:
        pack(path)
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    try:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :])
        with pytest.raises(BadFrame):
            list(segment(path))
    finally:
        path.write_bytes(whole)


def test_max_footer_bounds_what_is_read_of_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_FOOTER == 1 << 26
    pack(path)
    monkeypatch.setattr(packed, "MAX_FOOTER", 10)
    with pytest.raises(BadFrame, match="without its end"):
        Packed(path)


def test_a_packing_that_fails_leaves_what_was_there(path: Path) -> None:
    before = path.read_bytes()

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        packed.write(path, read.items(path), Signed(b"", b""), fail)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_open_packed_bounds_the_segments_kept_open(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    for number in range(OPEN_PACKED + 8):
        log.append(flow(), [rows(b"x")], T + number)
        log.seal()
    before = len(os.listdir("/proc/self/fd"))
    for one in segments(tmp_path):
        path = Path(one.path)
        (placed,) = pack(path)
        with path.open("rb") as file:
            assert at(path, file, placed.offset) == placed.frame
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN_PACKED


# -- with frames taken out ---------------------------------------------------------------------------------------------


def thin(path: Path, *ids: str) -> None:
    one = Packed(path)
    packed.write(path, without(one.items(), frozenset(ids), sha256()), one.footer.seal)
    one.close()


def test_what_is_left_is_read_where_it_was(path: Path) -> None:
    before = pack(path)
    size = extent(path)
    thin(path, "f0", "f2")
    left = [placed for placed in before if placed.frame.id == "f1"]
    assert list(segment(path)) == left
    assert extent(path) == size
    with path.open("rb") as file:
        for placed in before:
            assert at(path, file, placed.offset) == (placed.frame if placed.frame.id == "f1" else None)


def test_the_hashes_stay(path: Path) -> None:
    hashes = [leaf(item.data) for item in read.items(path)]
    pack(path)
    thin(path, "f0")
    thin(path, "f1")
    assert [hash for item in read.items(path) for hash in (item.hashes() if item.gap else [leaf(item.data)])] == hashes
    assert b"select" not in b"".join(item.data for item in read.items(path) if item.gap)


def test_max_gap_bounds_one_gap(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_GAP == 1 << 16
    monkeypatch.setattr("appliance.record.retention.MAX_GAP", 4)
    before = pack(path)
    thin(path, "f0", "f1")
    gaps = [item for item in read.items(path) if item.gap]
    assert {item.count for item in gaps} == {4, 2}
    assert [placed.frame for placed in segment(path)] == [p.frame for p in before if p.frame.id == "f2"]
    assert extent(path) == before[-1].end


def test_frames_only_a_worker_taken_over_would_write_stay(tmp_path: Path) -> None:
    """They belong to no session; they go with their segment."""
    path = tmp_path / PATH
    odd = msgspec.msgpack.encode({"sequence": 1, "time": 0.0, "previous": b""})
    data = b"\xc6" + len(odd).to_bytes(4, "big") + odd
    items = [Item(0, 10, b"\xc6\0\0\0\5hello"), Item(10, 10 + len(data), data)]
    assert list(without(items, frozenset({"f"}), sha256())) == items
    assert not path.exists()


def test_max_block_bounds_what_a_block_may_say_of_itself(tmp_path: Path) -> None:
    """Workers can put files beside the segments, and zstandard would make room for what one says before it looks."""
    assert packed.MAX_BLOCK == BLOCK + MAX_FRAME + 64
    zstd = zstandard.ZstdCompressor().compressobj(size=packed.MAX_BLOCK + 1)
    block = zstd.compress(bytes(packed.MAX_BLOCK + 1)) + zstd.flush()
    assert len(block) < 10_000
    footer = packed.Footer(2, Signed(b"", b""), (packed.Block(len(block), 1, sha256(block).digest()),))
    body = msgspec.msgpack.encode(footer)
    tail = sha256(body).digest() + len(body).to_bytes(4, "big") + packed.TRAILER
    path = tmp_path / "w0.1700000000000.record"
    path.write_bytes(block + packed.SKIPPABLE + (len(body) + packed.TAIL).to_bytes(4, "little") + body + tail)
    one = Packed(path)
    with pytest.raises(BadFrame, match=f"{packed.MAX_BLOCK + 1} bytes are over"):
        list(one.items())
    one.close()
    with pytest.raises(ValueError, match="are over"):
        FAST.inflate(block)
