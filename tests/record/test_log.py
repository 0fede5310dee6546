"""What is appended is read back, whole, whatever happens to the writer."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model import Decision, Note, Side
from appliance.record import frame as layout
from appliance.record import log as log_module
from appliance.record.chain import leaf
from appliance.record.frame import FORMAT, MAX_FRAME, BadFrame, Frame, Header, pack, segments
from appliance.record.log import SEGMENT_AGE_S, SEGMENT_BYTES, Log, kept, sync
from appliance.record.read import Torn, header, items, read, segment
from tests.record.samples import NO_DROP, C, S, T, asked, closed, flow, opened, rows, write

ROOT = Path(__file__).parents[2]


def only(directory: Path) -> Path:
    (one,) = segments(directory)
    return Path(one.path)


def test_notes_are_read_back_with_their_time_flow_and_sequence(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened(), *asked("select 1")], T)
    log.append(flow(), [closed()], T + 2)
    frames = list(read(tmp_path))
    assert [f.note for f in frames] == [opened(), *asked("select 1"), closed()]
    assert [f.sequence for f in frames] == [1, 2, 3, 4]
    assert [f.time for f in frames] == [T, T, T, T + 2]
    assert {f.id for f in frames} == {"f1"}


def test_a_flow_is_written_once_a_segment(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened()], T)
    log.append(flow(), [rows(b"x")], T)
    log.seal()
    log.append(flow(), [rows(b"y"), rows(b"z")], T)
    assert [f.flow for f in read(tmp_path)] == [flow(), None, flow(), None]
    assert len(segments(tmp_path)) == 2


def test_a_flow_that_closed_and_speaks_again_is_named_again(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened(), closed()], T)
    log.append(flow(), [closed("internal error")], T)
    assert [f.flow is not None for f in read(tmp_path)] == [True, False, True]


def test_one_write_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: sizes.append(len(data)) or write(fd, data))
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened(), *asked("select 1"), rows(b"x" * 100_000), closed()], T)
    assert sizes == [only(tmp_path).stat().st_size]


def test_nothing_to_write_begins_no_segment(tmp_path: Path) -> None:
    Log(tmp_path, "w0").append(flow(), [], T)
    assert segments(tmp_path) == []


def test_a_segment_is_private_and_a_plain_msgpack_stream(tmp_path: Path) -> None:
    write(tmp_path, flow(), [opened(), closed()])
    path = only(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open("rb") as file:
        objects = [msgpack.unpackb(one) for one in msgpack.Unpacker(file)]
    said = {"format": FORMAT, "worker": "wf1", "begun": T, "sequence": 1, "number": int(T * 1000), "segment": 0}
    assert objects[0] == said | {"chain": objects[0]["chain"], "previous": b""}
    assert [one["note"]["kind"] for one in objects[1:]] == ["opened", "closed"]
    assert objects[1]["flow"]["server"] == {"host": "10.0.3.2", "port": 5432}


def test_the_header_says_format_worker_and_time(tmp_path: Path) -> None:
    write(tmp_path, flow(), [opened()])
    found = header(only(tmp_path))
    assert found
    assert found == Header(FORMAT, "wf1", T, 1, int(T * 1000), found.chain)
    assert len(found.chain) == 2 * log_module.CHAIN_BYTES


def test_segment_bytes_is_the_size_a_segment_is_ended_at(tmp_path: Path) -> None:
    assert SEGMENT_BYTES == 64 << 20
    log = Log(tmp_path, "w0", segment_bytes=4000)
    for number in range(50):
        log.append(flow(), [rows(bytes(400))], T + number)
    assert all(Path(s.path).stat().st_size <= 4000 for s in segments(tmp_path))
    assert len(segments(tmp_path)) >= 5
    assert [f.sequence for f in read(tmp_path)] == list(range(1, 51))


def test_a_batch_over_segment_bytes_has_a_segment_of_its_own(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0", segment_bytes=1000)
    for _ in range(3):
        log.append(flow(), [rows(bytes(3000))], T)
    assert len(segments(tmp_path)) == 3


def test_segment_age_is_the_time_a_segment_is_ended_at(tmp_path: Path) -> None:
    assert SEGMENT_AGE_S == 86_400
    log = Log(tmp_path, "w0")
    for now in (T, T + SEGMENT_AGE_S - 1, T + SEGMENT_AGE_S, T + SEGMENT_AGE_S + 1):
        log.append(flow(), [rows(b"x")], now)
    assert [len(list(segment(Path(s.path)))) for s in segments(tmp_path)] == [2, 2]


def test_two_logs_of_one_worker_name_do_not_share_a_segment(tmp_path: Path) -> None:
    """The old process may still drain when the new one starts."""
    logs = [Log(tmp_path, "w0") for _ in range(3)]
    for number, log in enumerate(logs):
        log.append(flow(f"f{number}"), [opened()], T)
    assert len(segments(tmp_path)) == 3
    assert sorted(f.id for f in read(tmp_path)) == ["f0", "f1", "f2"]


def test_max_tries_bounds_the_search_for_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_TRIES", 2)
    for _ in range(2):
        Log(tmp_path, "w0").append(flow(), [opened()], T)
    with pytest.raises(OSError, match="no free name"):
        Log(tmp_path, "w0").append(flow(), [opened()], T)


def test_a_segment_removed_before_it_was_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub removes what killed workers left without a header; it must not be one that is just made."""
    real = log_module.fcntl.flock
    removed: list[Path] = []

    def lock(fd: int, how: int) -> None:
        if not removed:
            removed.append(only(tmp_path))
            removed[0].unlink()
        real(fd, how)

    monkeypatch.setattr(log_module.fcntl, "flock", lock)
    Log(tmp_path, "w0").append(flow(), [opened()], T)
    assert [f.note.kind for f in read(tmp_path)] == ["opened"]
    assert only(tmp_path) != removed[0]


def test_a_clock_set_back_keeps_the_order_of_segments(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    for now in (T, T - 100):
        log.append(flow(), [rows(b"x")], now)
        log.seal()
    assert [f.sequence for s in segments(tmp_path) for f in (p.frame for p in segment(Path(s.path)))] == [1, 2]


@pytest.mark.parametrize("worker", ["", "a/b", "a.b", "x" * 65, "é"])
def test_a_worker_name_that_is_no_file_name_is_refused(tmp_path: Path, worker: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        Log(tmp_path, worker)


def test_max_frame_is_refused_and_nothing_of_the_batch_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_FRAME == 72 << 20
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened()], T)
    monkeypatch.setattr(layout, "MAX_FRAME", 1000)
    with pytest.raises(OSError, match="over 1000"):
        log.append(flow(), [rows(b"x"), rows(bytes(1000))], T)
    log.append(flow(), [closed()], T)
    assert [f.note.kind for f in read(tmp_path)] == ["opened", "closed"]


def test_a_message_of_64_mib_fits_a_frame(tmp_path: Path) -> None:
    write(tmp_path, flow(), [Note("message", "x" * (1 << 20), C, "query", bytes(64 << 20))])
    assert [len(f.note.raw) for f in read(tmp_path)] == [64 << 20]


def test_text_that_is_no_utf8_is_written_with_escapes(tmp_path: Path) -> None:
    bad = b"select '\xff'".decode(errors="surrogateescape")
    process = msgspec.structs.replace(flow().process, argv=("psql", bad), parents=(bad,))
    write(tmp_path, flow(process=process), [Note("message", bad, C, "query", b"\xff", masks=(bad,))])
    (frame,) = read(tmp_path)
    assert frame.note.text == "select '\\udcff'" == frame.note.masks[0]
    assert frame.note.raw == b"\xff"
    assert frame.flow and frame.flow.process and frame.flow.process.argv[1] == "select '\\udcff'"


def test_a_secret_does_not_reach_the_file(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    with pytest.raises(AssertionError):
        log.append(flow(), [opened(), Note("message", side=C, message="auth", raw=b"p\0\0\0\x08pw")], T)
    assert segments(tmp_path) == []
    log.append(flow(), [Note("message", side=C, message="auth"), Note("message", side=S, message="auth", raw=b"R")], T)
    assert [f.note.raw for f in read(tmp_path)] == [b"", b"R"]


QUERY, VERDICT = asked("drop table t", NO_DROP)
ANSWER = Note("message", "42501", S, "error", b"E1234", masked=1, masks=("m",))
HELD = Note("asked", "drop table t", decision=NO_DROP, id="q")
LEVELS = {
    ("full", "client"): (QUERY, QUERY, 0),
    ("full", "server"): (ANSWER, ANSWER, 0),
    ("requests", "client"): (QUERY, QUERY, 0),
    ("requests", "decision"): (VERDICT, VERDICT, 0),
    ("requests", "asked"): (HELD, HELD, 0),
    ("requests", "server"): (ANSWER, msgspec.structs.replace(ANSWER, raw=b"", text=""), 5),
    ("metadata", "client"): (QUERY, msgspec.structs.replace(QUERY, raw=b"", text=""), len(QUERY.raw)),
    ("metadata", "decision"): (VERDICT, msgspec.structs.replace(VERDICT, text=""), 0),
    ("metadata", "asked"): (HELD, msgspec.structs.replace(HELD, text=""), 0),
    ("metadata", "server"): (ANSWER, msgspec.structs.replace(ANSWER, raw=b"", text=""), 5),
    ("metadata", "opened"): (opened(), opened(), 0),
    ("metadata", "closed"): (closed(), closed(), 0),
    ("metadata", "incident"): (Note("incident", "odd"), Note("incident", "odd"), 0),
    ("metadata", "answered"): (Note("answered", "denied", by="eve"), Note("answered", "denied", by="eve"), 0),
}


@pytest.mark.parametrize(("level", "what"), LEVELS)
def test_what_a_level_keeps(level: str, what: str) -> None:
    note, stays, dropped = LEVELS[level, what]
    assert kept(note, level) == (stays, dropped)  # type: ignore[arg-type]


def test_the_level_full_is_the_default_and_the_level_applies_on_disk(tmp_path: Path) -> None:
    assert Log(tmp_path, "w0")._level == "full"
    write(tmp_path, flow(), [opened(), QUERY, ANSWER], level="metadata")
    data = only(tmp_path).read_bytes()
    assert b"drop table" not in data and b"E1234" not in data
    assert [f.size for f in read(tmp_path)] == [0, len(QUERY.raw), 5]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NOTES = st.builds(
    Note,
    kind=st.sampled_from(["opened", "message", "decision", "asked", "answered", "incident", "closed"]),
    text=TEXT,
    side=st.sampled_from([None, *Side]),
    message=st.sampled_from(["query", "row", ""]),
    raw=st.binary(max_size=64),
    decision=st.none() | st.builds(Decision, st.sampled_from(["allow", "block", "approve"]), TEXT),
    identity=TEXT,
    count=st.integers(0, 1 << 40),
    masks=st.lists(TEXT, max_size=2).map(tuple),
)
BATCHES = st.lists(st.tuples(st.integers(0, 2), st.lists(NOTES, max_size=4)), max_size=8)
PATIENT = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PATIENT
@given(batches=BATCHES, segment_bytes=st.integers(100, 2000))
def test_any_sequence_of_notes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[int, list[Note]]], segment_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("any")
    log = Log(directory, "w0", segment_bytes=segment_bytes)
    for step, (number, notes) in enumerate(batches):
        log.append(flow(f"f{number}"), notes, T + step)
    log.seal()
    frames = list(read(directory))
    assert [(f.id, f.note) for f in frames] == [(f"f{n}", note) for n, notes in batches for note in notes]
    for one in segments(directory):
        named: set[str] = set()
        for placed in segment(Path(one.path)):
            named |= {placed.frame.flow.id} if placed.frame.flow else set()
            assert placed.frame.id in named, "a segment can be read alone"


def whole(directory: Path) -> bool:
    """Tell whether each item has the hash of the one before, over segments."""
    head = b""
    for one in segments(directory):
        for item in items(Path(one.path)):
            kind = Header if item.start == 0 else Frame
            if msgspec.msgpack.decode(item.body, type=kind).previous != head:
                return False
            head = leaf(item.data)
    return True


@PATIENT
@given(batches=BATCHES, cuts=st.lists(st.integers(1, 4), max_size=8), segment_bytes=st.integers(100, 2000))
def test_the_notes_of_many_flows_by_one_write_are_as_by_many(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[int, list[Note]]],
    cuts: list[int],
    segment_bytes: int,
) -> None:
    entries = [(flow(f"f{number}"), notes) for number, notes in batches]
    found = []
    for together in (False, True):
        directory = tmp_path_factory.mktemp("many")
        log, left, sizes = Log(directory, "w0", segment_bytes=segment_bytes), list(entries), list(cuts)
        while left:
            take = (sizes.pop() if sizes else 2) if together else 1
            log.append_all(left[:take], T)
            left = left[take:]
        log.seal()
        assert whole(directory)
        found.append([(f.sequence, f.time, f.id, f.note, f.dropped, f.number) for f in read(directory)])
        for one in segments(directory):
            named: set[str] = set()
            for placed in segment(Path(one.path)):
                named |= {placed.frame.flow.id} if placed.frame.flow else set()
                assert placed.frame.id in named, "a segment can be read alone"
    assert found[0] == found[1]


def test_a_batch_of_many_flows_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow("f1"), [opened()], T)
    before = only(tmp_path).read_bytes()
    many = [(flow("f1"), [rows(b"x")]), (flow("f2"), [opened(), closed()])]
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            log.append_all(many, T)
    assert only(tmp_path).read_bytes() == before
    log.append_all(many, T)
    assert [(f.sequence, f.id, f.number) for f in read(tmp_path)] == [(1, "f1", 1), (2, "f1", 2), (3, "f2", 1), (4, "f2", 2)]
    assert whole(tmp_path)


@PATIENT
@given(data=st.data())
def test_a_file_cut_anywhere_gives_a_prefix(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = tmp_path_factory.mktemp("cut")
    write(directory, flow(), data.draw(st.lists(NOTES, min_size=1, max_size=5)))
    path = only(directory)
    whole = [p.frame for p in segment(path)]
    size = path.stat().st_size
    ends = {0, *(p.end for p in segment(path)), next(p.offset for p in segment(path))}
    cut = data.draw(st.integers(0, size))
    os.truncate(path, cut)
    torn: list[Torn] = []
    left = [p.frame for p in segment(path, torn.append)]
    assert left == whole[: len(left)]
    assert len(torn) == (cut not in ends)
    if torn:
        assert torn[0].offset + torn[0].size == cut


BAD = {
    "no frame at all": (b"hello world", 0, "0x68 where a frame"),
    "a header of another kind": (pack(Frame(1, T, "f", closed())), 0, "not a header"),
    "a format of tomorrow": (pack(Header(FORMAT + 1, "w0", T, 1)), 0, f"format {FORMAT + 1}"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_header_is_named_with_file_and_byte(tmp_path: Path, what: str) -> None:
    data, offset, says = BAD[what]
    path = tmp_path / "w0.1700000000000.record"
    path.write_bytes(data)
    with pytest.raises(BadFrame, match=says) as caught:
        list(read(tmp_path))
    assert (caught.value.file, caught.value.offset) == (path, offset)
    assert str(path) in str(caught.value)


BAD_FRAMES = {
    "a mark that is none": (b"\x00\x00\x00\x00\x00", "0x00 where"),
    "a length over max frame": (b"\xc6" + (MAX_FRAME + 1).to_bytes(4, "big"), f"over {MAX_FRAME}"),
    "no msgpack": (b"\xc6\0\0\0\x01\xc1", "not a frame"),
    "no utf-8": (pack(Frame(2, T, "xxxx", closed())).replace(b"xxxx", b"\xff\xfe\xff\xfe"), "not a frame"),
    "a map of other fields": (b"\xc6\0\0\0\x01\x80", "not a frame"),
    "a frame twice": (pack(Frame(1, T, "f", closed())), "frame 1 where 2"),
    "a frame lost": (pack(Frame(3, T, "f", closed())), "frame 3 where 2"),
}


@pytest.mark.parametrize("what", BAD_FRAMES)
def test_a_bad_frame_is_named_and_those_before_it_are_read(tmp_path: Path, what: str) -> None:
    data, says = BAD_FRAMES[what]
    write(tmp_path, flow(), [opened()])
    path = only(tmp_path)
    offset = path.stat().st_size
    with path.open("ab") as file:
        file.write(data)
    frames = read(tmp_path)
    assert next(frames).note == opened()
    with pytest.raises(BadFrame, match=says) as caught:
        next(frames)
    assert caught.value.offset == offset


def test_fields_a_later_version_adds_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, flow(), [opened()])
    body = msgpack.packb({"sequence": 2, "time": T, "id": "f1", "note": {"kind": "closed", "new": 1}, "more": [1]})
    with only(tmp_path).open("ab") as file:
        file.write(b"\xc6" + len(body).to_bytes(4, "big") + body)
    assert [f.note.kind for f in read(tmp_path)] == ["opened", "closed"]


def test_read_goes_by_time_over_workers_and_can_pick_one_flow(tmp_path: Path) -> None:
    logs = {name: Log(tmp_path, name) for name in ("w0", "w1")}
    for step, name in enumerate(["w1", "w0", "w0", "w1"]):
        logs[name].append(flow(name), [rows(b"%d" % step)], T + step)
    assert [f.note.raw for f in read(tmp_path)] == [b"0", b"1", b"2", b"3"]
    assert [f.note.raw for f in read(tmp_path, "w1")] == [b"0", b"3"]


def test_files_of_other_names_are_no_segments(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"x")
    (tmp_path / "w0.12.record").write_bytes(b"x")
    assert list(read(tmp_path)) == []


def test_sync_takes_what_was_written_since(tmp_path: Path) -> None:
    write(tmp_path, flow("a"), [opened()])
    write(tmp_path, flow("b"), [opened()])
    old = segments(tmp_path)[0].path
    os.utime(old, (T, T))
    assert sync(tmp_path, T + 1) == 1
    assert sync(tmp_path, T - 1) == 2


# -- the disk and the writer fail ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], check=True)
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def test_a_full_disk_is_an_error_and_the_record_stays_readable(small_disk: Path) -> None:
    log = Log(small_disk, "w0")
    done = 0
    with pytest.raises(OSError):
        for _ in range(1000):
            log.append(flow(), [rows(bytes(3000)), rows(bytes(1777))], T)
            done += 2
    torn: list[Torn] = []
    assert done > 50
    assert len(list(read(small_disk, on_torn=torn.append))) == done
    assert torn == []


def test_a_disk_that_has_room_again_is_written_again(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    log = Log(small_disk, "w0")
    log.append(flow(), [opened()], T)
    ballast.write_bytes(bytes(200 << 10))
    for _ in range(20):
        with pytest.raises(OSError):
            log.append(flow(), [rows(bytes(100_000))], T)
    assert len(segments(small_disk)) == 1, "tries that failed leave no files"
    ballast.unlink()
    log.append(flow(), [closed()], T)
    frames = list(read(small_disk))
    assert [(f.sequence, f.note.kind) for f in frames] == [(1, "opened"), (2, "closed")]
    assert frames[1].flow == flow()


def test_a_short_write_that_cannot_be_taken_back_ends_the_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened()], T)
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[:-3]))
        patch.setattr(os, "ftruncate", lambda fd, size: (_ for _ in ()).throw(OSError("append only")))
        with pytest.raises(OSError, match="bytes written"):
            log.append(flow(), [rows(b"x"), rows(b"y")], T)
    log.append(flow(), [closed()], T)
    torn: list[Torn] = []
    frames = list(read(tmp_path, on_torn=torn.append))
    assert [f.note.kind for f in frames] == ["opened", "message", "closed"]
    assert [f.sequence for f in frames] == [1, 2, 4]
    assert len(torn) == 1


def test_a_directory_that_is_gone_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Log(tmp_path / "none", "w0").append(flow(), [opened()], T)


WRITER = """
import os, sys
from pathlib import Path
from appliance.record.log import Log
from tests.record.samples import T, flow, rows
log = Log(Path(sys.argv[1]), "w0", segment_bytes=200_000)
for number in range(1_000_000):
    log.append(flow(f"f{number % 3}"), [rows(b"%d" % number), rows(bytes(number % 5000))], T)
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.parametrize("after", [0.0, 0.013, 0.05, 0.11, 0.2])
def test_kill_9_loses_no_acknowledged_note(tmp_path: Path, after: float) -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout
    first = child.stdout.readline()
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    lines = (first + child.stdout.read()).split(b"\n")[:-1]
    child.wait()
    child.stdout.close()
    numbers = [int(f.note.raw) for f in read(tmp_path) if f.sequence % 2]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= len(lines) > 0


LIMITED = """
import resource, sys
from pathlib import Path
from appliance.record.log import Log
from tests.record.samples import T, flow, rows
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
log = Log(Path(sys.argv[1]), "w0")
done = 0
try:
    while True:
        log.append(flow(), [rows(bytes(900))], T)
        done += 1
except OSError as error:
    print(done, error.errno)
"""


def test_a_file_size_limit_is_an_error_and_takes_back_the_part(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE
    out = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    done, _ = out.stdout.split()
    torn: list[Torn] = []
    assert len(list(read(tmp_path, on_torn=torn.append))) == int(done) > 5
    assert torn == []
