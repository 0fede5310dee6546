"""The index says what the logs say, and where."""

import os
import sqlite3
import stat
from pathlib import Path

import msgspec
import pytest

from appliance.model import HostError, Note, Spent
from appliance.record.frame import BadFrame, segments
from appliance.record.index import FORMAT, Caught, Index, intake, place, schema
from appliance.record.log import Log
from appliance.record.read import read
from appliance.record.session import MAX_NAMES, Filter, Session
from tests.record.samples import ASK_DBA, NO_DROP, READS, S, T, asked, closed, flow, opened, rows, write

FIELDS = ["id", "started", "ended", "identity", "process", "target", "protocol", "messages", "verdicts", "bytes",
          "rows", "masked", "answered_by", "revisions", "spent", "source"]  # fmt: skip
DAY = 86_400.0


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


@pytest.fixture
def index(tmp_path: Path, logs: Path) -> Index:
    return Index(tmp_path / "index.sqlite", logs)


def ids(index: Index, **wanted: object) -> list[str]:
    return [one.id for one in index.sessions(Filter(**wanted))]  # type: ignore[arg-type]


def test_a_session_has_exactly_the_public_fields(logs: Path, index: Index) -> None:
    log = Log(logs, "w0")
    log.append(flow(), [opened(), *asked("select 1"), rows(b"D" * 90, count=3)], T)
    log.append(flow(), [*asked("drop table t", NO_DROP), Note("message", "42501", S, "error", b"E" * 7)], T + 1)
    log.append(flow(), [*asked("select 2"), closed()], T + 2)
    index.catch_up()
    (session,) = index.sessions(Filter())
    document = msgspec.json.decode(msgspec.json.encode(session))
    assert list(document) == FIELDS
    sent = sum(len(asked(text)[0].raw) for text in ("select 1", "drop table t", "select 2"))
    assert document == {
        "id": "f1",
        "started": T,
        "ended": T + 2,
        "identity": "acme-psql",
        "process": {
            "pid": 4242,
            "exe": "/usr/bin/psql",
            "argv": ["psql", "-h", "db", "shop"],
            "cgroup": "acme.service",
            "package": "postgresql-client-15",
            "sha256": "",
            "script": "",
            "script_sha256": "",
            "unit": "",
            "container": "",
        },
        "target": "orders-db",
        "protocol": "postgres",
        "messages": 3 + 3 + 1,
        "verdicts": {"reads": 2, "no-drop": 1},
        "bytes": sent + 97,
        "rows": 3,
        "masked": 0,
        "answered_by": [],
        "revisions": ["r1"],
        "spent": {},
        "source": "",
    }


def test_times_rows_cells_and_reviewers_are_summed_up(logs: Path, index: Index) -> None:
    held = Note("asked", "alter table t", decision=ASK_DBA, id="q")
    answers = [
        Note("answered", "approved", decision=ASK_DBA, id="q", by=by, spent=Spent(hold=2.5)) for by in ("eve", "bob", "eve")
    ]
    masked = msgspec.structs.replace(rows(b"D", 4, 3, ("hide-ssn",)), spent=Spent(parse=0.25, upstream=1.0))
    write(logs, flow(), [opened(), held, *answers, masked, masked])
    index.catch_up()
    (session,) = index.sessions(Filter())
    assert (session.rows, session.masked, session.answered_by) == (8, 6, ("eve", "bob"))
    assert session.spent == Spent(parse=0.5, hold=7.5, upstream=2.0)
    assert ids(index, by="bob") == ["f1"] and ids(index, by="dana") == []


def test_max_names_bounds_what_a_session_is_listed_with(logs: Path, index: Index) -> None:
    assert MAX_NAMES == 16
    answers = [Note("answered", "denied", by=f"r{n}") for n in range(20)]
    write(logs, flow(), [opened(), *answers])
    index.catch_up()
    assert len(index.sessions(Filter())[0].answered_by) == 16
    assert ids(index, by="r19") == ["f1"], "found all the same"


def test_a_mask_is_counted_once_a_request(logs: Path, index: Index) -> None:
    masked = rows(b"D", 1, masked=5, masks=("hide-ssn",))
    log = Log(logs, "w0")
    log.append(flow(), [opened(), *asked("select 1"), masked, masked], T)
    index.catch_up()
    log.append(flow(), [masked, *asked("select 2"), masked], T)
    index.catch_up()
    assert index.sessions(Filter())[0].verdicts == {"reads": 2, "hide-ssn": 2}
    assert ids(index, verdict="mask") == ["f1"]


def test_a_held_request_counts_as_approve(logs: Path, index: Index) -> None:
    held = Note("asked", "alter table t", decision=ASK_DBA, id="q")
    answer = Note("answered", "approved", decision=ASK_DBA, id="q", by="eve")
    write(logs, flow(), [opened(), held, answer])
    index.catch_up()
    assert index.sessions(Filter(verdict="approve"))[0].verdicts == {"dba": 1}


def test_bytes_and_messages_are_counted_at_every_level(logs: Path, index: Index) -> None:
    for level in ("full", "requests", "metadata"):
        notes = [opened(), *asked("select 1"), rows(b"D" * 9)]
        write(logs, flow(level), notes, level=level)  # type: ignore[arg-type]
    index.catch_up()
    assert len({(s.messages, s.bytes) for s in index.sessions(Filter())}) == 1


def test_a_session_without_an_end_has_none(logs: Path, index: Index) -> None:
    write(logs, flow(process=None), [opened()])
    index.catch_up()
    (session,) = index.sessions(Filter())
    assert session.ended is None
    assert session.process is None


def test_catching_up_reads_only_what_is_new(logs: Path, index: Index) -> None:
    log = Log(logs, "w0")
    log.append(flow(), [opened(), *asked("select 1")], T)
    assert index.catch_up() == Caught(3, 0)
    assert index.catch_up() == Caught(0, 0)
    log.append(flow(), [closed()], T + 1)
    log.seal()
    log.append(flow("f2"), [opened()], T + 2)
    assert index.catch_up() == Caught(2, 0)
    assert ids(index) == ["f2", "f1"]
    assert [f.note.kind for f in index.frames(["f1"])] == ["opened", "message", "decision", "closed"]


def test_step_bounds_a_transaction(logs: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    assert intake.STEP == 20_000
    monkeypatch.setattr(intake, "STEP", 7)
    write(logs, flow(), [opened(), *(rows(b"%d" % n) for n in range(50)), closed()])
    assert index.catch_up().frames == 52
    assert len(list(index.frames(["f1"]))) == 52


def test_frames_of_a_session_are_found_in_every_segment_in_order(logs: Path, index: Index) -> None:
    log = Log(logs, "w0", segment_bytes=1500)
    for number in range(60):
        log.append(flow(f"f{number % 4}"), [rows(b"%d" % number * 20)], T + number)
    index.catch_up()
    assert len(segments(logs)) > 5
    for name in ("f0", "f3"):
        assert list(index.frames([name])) == list(read(logs, name))
    assert list(index.frames(["f2", "f0", "f2"])) == [f for f in read(logs) if f.id in ("f0", "f2")]
    assert list(index.frames(["none"])) == []


def test_open_files_bounds_what_is_open_at_once(
    logs: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.OPEN_FILES == 32
    monkeypatch.setattr(place, "OPEN_FILES", 3)
    for number in range(9):
        write(logs, flow(f"f{number}"), [opened(), closed()])
    index.catch_up()
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    for _ in index.frames([f"f{n}" for n in range(9)]):
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert most == 3
    assert len(os.listdir("/proc/self/fd")) == before




@pytest.fixture
def three(logs: Path, index: Index) -> Index:
    curl = msgspec.structs.replace(flow().process, pid=5, exe="/opt/acme/curl", cgroup="zeta.service/job1")
    write(logs, flow("a1"), [opened(), *asked("select 1"), closed()], T)
    write(logs, flow("a2", T + DAY), [opened("zeta", "logs-db"), *asked("drop", NO_DROP), closed()], T + DAY)
    write(logs, flow("b1", T + 2 * DAY, process=curl), [opened("", ""), *asked("x", ASK_DBA)], T + 2 * DAY)
    index.catch_up()
    return index


FILTERS = {
    "all, newest first": ({}, ["b1", "a2", "a1"]),
    "limit": ({"limit": 2}, ["b1", "a2"]),
    "limit 0 is none": ({"limit": 0}, ["b1", "a2", "a1"]),
    "id": ({"id": "a1"}, ["a1"]),
    "id prefix": ({"id": "a"}, ["a2", "a1"]),
    "id is no pattern": ({"id": "*"}, []),
    "who": ({"who": "zeta"}, ["a2"]),
    "who by pattern": ({"who": "acme*"}, ["a2", "a1"]),
    "who by cgroup": ({"who": "zeta.service/*"}, ["b1"]),
    "exe": ({"exe": "/usr/bin/psql"}, ["a2", "a1"]),
    "exe by its last part": ({"exe": "curl"}, ["b1"]),
    "to": ({"to": "logs-db"}, ["a2"]),
    "to an address": ({"to": "10.0.3.2"}, ["b1", "a2", "a1"]),
    "to an address and port": ({"to": "10.0.3.2:5432", "limit": 1}, ["b1"]),
    "to another port": ({"to": "10.0.3.2:1"}, []),
    "verdict": ({"verdict": "block"}, ["a2"]),
    "verdict approve": ({"verdict": "approve"}, ["b1"]),
    "a part of a verdict": ({"verdict": "lock"}, []),
    "since": ({"since": T + 1}, ["b1", "a2"]),
    "until": ({"until": T + DAY}, ["a2", "a1"]),
    "since 0": ({"since": 0.0}, ["b1", "a2", "a1"]),
    "all at once": ({"who": "acme-psql", "exe": "psql", "to": "orders-db", "verdict": "allow", "until": T}, ["a1"]),
    "quotes": ({"who": "' OR 1 --"}, []),
}


@pytest.mark.parametrize("what", FILTERS)
def test_filters(three: Index, what: str) -> None:
    wanted, expected = FILTERS[what]
    assert ids(three, **wanted) == expected


def test_the_default_limit_is_a_thousand() -> None:
    assert Filter().limit == 1000


def test_since_finds_a_long_session_by_its_last_note(logs: Path, index: Index) -> None:
    log = Log(logs, "w0")
    log.append(flow(), [opened()], T)
    log.append(flow(), [rows(b"x")], T + DAY)
    index.catch_up()
    assert ids(index, since=T + DAY / 2) == ["f1"]


def test_the_server_of_ipv6_is_found_by_its_host(logs: Path, index: Index) -> None:
    v6 = msgspec.structs.replace(flow(), server=msgspec.structs.replace(flow().server, host="fd77::2"))
    write(logs, v6, [opened()])
    index.catch_up()
    assert ids(index, to="fd77::2") == ids(index, to="fd77::2") == ["f1"]


# -- lost, damaged, other format ------------------------------------------------------------------------------


def snapshot(index: Index) -> list[Session]:
    index.catch_up()
    return index.sessions(Filter(limit=0))


@pytest.mark.parametrize("how", ["lost", "rubbish", "another format", "empty"])
def test_an_index_that_is_no_good_is_made_again(tmp_path: Path, logs: Path, three: Index, how: str) -> None:
    before = snapshot(three)
    three.close()
    path = tmp_path / "index.sqlite"
    if how == "another format":
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
        db.execute("DROP TABLE parts")
        db.close()
    else:
        for one in tmp_path.glob("index.sqlite*"):
            one.unlink()
        if how != "lost":
            path.write_bytes(b"rubbish" * 1000 if how == "rubbish" else b"")
    again = Index(path, logs)
    assert snapshot(again) == before
    assert [f.note for f in again.frames(["a1"])] == [opened(), *asked("select 1"), closed()]


def test_an_index_damaged_in_the_middle_is_made_again(tmp_path: Path, logs: Path) -> None:
    index = Index(tmp_path / "index.sqlite", logs)
    for number in range(200):
        write(logs, flow(f"f{number}"), [opened(), closed()])
    before = snapshot(index)
    index.close()
    path = tmp_path / "index.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    again = Index(path, logs)
    write(logs, flow("new"), [opened(), closed()])
    assert again.catch_up().rebuilt
    assert len(again.sessions(Filter())) == len(before) + 1


def test_a_log_that_became_shorter_makes_the_index_anew(logs: Path, index: Index) -> None:
    """A worker took back a batch that did not fit the disk, after the index had read part of it."""
    log = Log(logs, "w0")
    log.append(flow(), [opened()], T)
    size = os.stat(segments(logs)[0].path).st_size
    log.append(flow(), [rows(b"x"), rows(b"y")], T)
    assert index.catch_up() == Caught(3, 0)
    os.truncate(segments(logs)[0].path, size)
    assert index.catch_up() == Caught(1, 0, rebuilt=True)
    assert index.sessions(Filter())[0].messages == 0


def test_a_log_replaced_by_another_of_its_name_makes_the_index_anew(logs: Path, index: Index) -> None:
    write(logs, flow(), [opened()], T)
    index.catch_up()
    path = Path(segments(logs)[0].path)
    path.unlink()
    write(logs, flow("f1", port=2), [opened("other"), closed()], T + 5)
    Path(segments(logs)[0].path).rename(path)
    assert index.catch_up().rebuilt
    assert index.sessions(Filter())[0].identity == "other"


def test_a_torn_end_is_counted_and_taken_in_when_it_is_whole(logs: Path, index: Index) -> None:
    write(logs, flow(), [opened(), *asked("select 1"), closed()])
    path = Path(segments(logs)[0].path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert index.catch_up() == Caught(3, 1)
    assert index.catch_up() == Caught(0, 1)
    path.write_bytes(whole)
    assert index.catch_up() == Caught(1, 0)
    assert index.sessions(Filter())[0].ended == T


def test_a_bad_log_is_told_and_the_others_are_read(logs: Path, index: Index) -> None:
    write(logs, flow("a"), [opened(), closed()])
    write(logs, flow("b"), [opened(), closed()])
    path = Path(segments(logs)[0].path)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"rubbish")
    for frames in (4, 0):
        caught = index.catch_up()
        assert caught.frames == frames
        assert len(caught.bad) == 1 and f"{path}: byte {size}:" in caught.bad[0]
    assert sorted(ids(index)) == ["a", "b"]


def test_a_frame_that_changed_under_the_index_is_named(logs: Path, index: Index) -> None:
    write(logs, flow(), [opened(), closed()])
    index.catch_up()
    path = Path(segments(logs)[0].path)
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(BadFrame):
        list(index.frames(["f1"]))


def test_what_retention_dropped_is_forgotten(logs: Path, index: Index) -> None:
    log = Log(logs, "w0")
    log.append(flow("old"), [opened(), closed()], T)
    log.append(flow("long"), [opened()], T)
    log.seal()
    log.append(flow("long"), [closed()], T + DAY)
    log.seal()
    index.catch_up()
    stale, fresh = (Path(s.path) for s in segments(logs))
    os.utime(stale, (T, T))
    os.utime(fresh, (T + DAY, T + DAY))
    frames = index.frames(["long"])
    assert next(frames).note == opened()
    stale.unlink()
    assert list(read(logs, "old")) == []
    assert list(index.frames(["old"])) == [], "dropped, and the index does not know yet"
    index.catch_up()
    assert ids(index) == ["long"]
    (end,) = index.frames(["long"])
    assert end.flow == flow("long")
    assert index.sessions(Filter())[0].ended == T + DAY


def test_two_processes_may_keep_one_index(tmp_path: Path, logs: Path, index: Index) -> None:
    second = Index(tmp_path / "index.sqlite", logs)
    write(logs, flow(), [opened(), *asked("select 1"), closed()])
    assert index.catch_up().frames == 4
    assert second.catch_up().frames == 0
    assert second.sessions(Filter()) == index.sessions(Filter())


def test_an_index_that_cannot_be_written_is_a_host_error(
    tmp_path: Path, logs: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "WAIT_S", 0.05)
    second = Index(tmp_path / "index.sqlite", logs)
    write(logs, flow(), [opened()])
    index._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(HostError, match="locked"):
        second.catch_up()
    index._db.execute("ROLLBACK")
    assert second.catch_up().frames == 1


def test_the_index_is_private(tmp_path: Path, index: Index) -> None:
    assert stat.S_IMODE((tmp_path / "index.sqlite").stat().st_mode) == 0o600


def test_ten_thousand_sessions(logs: Path, index: Index) -> None:
    log = Log(logs, "w0")
    for number in range(10_000):
        decision = NO_DROP if number % 100 == 0 else READS
        log.append(flow(f"f{number:06d}", T + number), [opened(), *asked("select 1", decision), closed()], T + number)
    assert index.catch_up().frames == 40_000
    assert len(index.sessions(Filter(limit=0))) == 10_000
    assert len(index.sessions(Filter())) == 1000
    assert len(index.sessions(Filter(verdict="block"))) == 100
    assert len(list(index.frames(["f005000"]))) == 4
