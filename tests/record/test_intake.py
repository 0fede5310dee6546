"""What the index takes out of frames in passing is what a look at each whole frame says."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.model import Column, Decision, Named, Note, NoteKind, Spent
from appliance.record import frame, read
from appliance.record.frame import BadFrame, segments
from appliance.record.index import Index, intake, kept, seen
from appliance.record.index.kept import Kept
from appliance.record.index.words import FACTS, fit, of_process, of_tally, pieces
from appliance.record.log import Log
from appliance.record.session import Filter, Tally
from tests.record.samples import ASK_DBA, NO_DROP, READS, C, S, T, asked, closed, flow, opened, rows, write

TEXTS = ["select 1", " select  1 ;", "SELECT 'ü\0'", "", "drop table t", "x" * 9_000, "\udcff"]
FACTS_OF = [
    (),
    (("table", ("public.T", "a.b")), ("effect", ("read",))),
    (("table", ("public.t\0",)), ("column", ("x",))),
    (("unknown", ("table",)),),
]
NOTES = st.builds(
    Note,
    kind=st.sampled_from(NoteKind.__args__),  # type: ignore[attr-defined]
    text=st.sampled_from(TEXTS),
    side=st.sampled_from([None, C, S]),
    message=st.sampled_from(["", "query", "complete"]),
    raw=st.sampled_from([b"", b"abc"]),
    decision=st.sampled_from([None, READS, NO_DROP, ASK_DBA]),
    identity=st.sampled_from(["", "acme", "other"]),
    target=st.sampled_from(["", "db"]),
    protocol=st.sampled_from(["", "postgres"]),
    count=st.integers(0, 3),
    masked=st.integers(0, 2),
    masks=st.sampled_from([(), ("hide-ssn",), ("a", "b")]),
    by=st.sampled_from(["", "eve", "bob"]),
    size=st.integers(0, 9),
    facts=st.sampled_from(FACTS_OF),
    columns=st.sampled_from([(), (Named(Column("id"), ("public.t.id",)),)]),
    spent=st.sampled_from([None, Spent(parse=0.1), Spent(0.1, 0.2, 0.3, 0.7)]),
)
BATCHES = st.lists(st.tuples(st.sampled_from("abc"), st.lists(NOTES, min_size=1, max_size=5)), max_size=12)


def names(one: frame.Frame) -> set[tuple[str, str]]:
    """The names in one frame, as they are defined."""
    note = one.note
    found = {("who", note.identity), ("to", note.target), ("by", note.by if note.kind == "answered" else "")}
    for key, values in note.facts:
        found |= {(FACTS[key], fit(value.lower())) for value in values if key in FACTS}
    if one.flow and one.flow.process:
        found |= set(of_process(one.flow.process))
    return {name for name in found if name[1]}


def texts(note: Note) -> set[tuple[bool, str]]:
    """The texts in one note."""
    if note.kind == "opened":
        return set()
    asked = note.kind in ("decision", "asked") or (note.kind == "message" and note.side is C)
    return {(asked and not number, piece) for number, piece in enumerate(pieces(note.text)) if piece}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(BATCHES, st.integers(1, 9))
def test_the_index_is_the_sum_of_whole_frames(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[str, list[Note]]], step: int
) -> None:
    home = tmp_path_factory.mktemp("logs")
    log = Log(home, "w0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "STEP", step)
        patch.setattr(intake, "TEXTS", 2)
        index = Index(home / "index.sqlite", home)
        for number, (id, notes) in enumerate(batches):
            if not any(note.message == "auth" for note in notes):
                log.append(flow(id, T + ord(id)), notes, T + 200 - number)
            if number % 3 == 0:
                index.catch_up()
        index.catch_up()
    tallies: dict[str, Tally] = {}
    named: dict[str, set[tuple[str, str]]] = {}
    said: dict[str, set[tuple[bool, str]]] = {}
    for one in (placed.frame for part in segments(home) for placed in read.segment(Path(part.path))):
        tallies.setdefault(one.id, Tally(one.id, one.time, one.time)).add(one)
        named.setdefault(one.id, set()).update(names(one))
        said.setdefault(one.id, set()).update(texts(one.note))
    db = index._db
    known = {id: msgspec.json.decode(tally, type=Tally) for id, tally in db.execute("SELECT id, tally FROM sessions")}
    assert known == tallies  # a set is read back as one: its order is no matter
    has: dict[str, set[tuple[str, str]]] = {}
    query = "SELECT id, kind, value FROM has JOIN names ON name = names.number JOIN sessions ON session = sessions.number"
    for id, kind, value in db.execute(query):
        has.setdefault(id, set()).add((kind, value))
    assert has == {id: found | set(of_tally(tallies[id])) for id, found in named.items()}
    heard: dict[str, set[tuple[bool, str]]] = {id: set() for id in tallies}
    query = "SELECT id, statement, value FROM said JOIN texts ON text = texts.number JOIN sessions ON session = sessions.number"
    for id, statement, value in db.execute(query):
        heard[id].add((bool(statement), value))
    assert heard == said
    assert db.execute("SELECT count(*), count(DISTINCT digest) FROM texts").fetchone()[0] == len(set().union(*said.values()))
    index.close()


BAD = [
    {"decision": {"verdict": "perhaps", "rule": "r"}},
    {"decision": 5},
    {"facts": [["table", "not a list"]]},
    {"columns": [{"column": {}, "names": []}]},
    {"spent": {"parse": "long"}},
    {"side": "nobody"},
    {"kind": "other"},
    {"text": 5},
    {"raw": "text"},
]


@pytest.mark.parametrize("wrong", BAD, ids=lambda wrong: next(iter(wrong)))
def test_what_is_no_frame_is_none_here_either(tmp_path: Path, wrong: dict[str, object]) -> None:
    """Each field has the type a whole frame's has, though it is looked into only when it is new."""
    write(tmp_path, flow(), [opened(), *asked("select 1"), closed()])
    (one,) = segments(tmp_path)
    path = Path(one.path)
    last = list(read.segment(path))[-1].frame
    document = msgspec.msgpack.decode(msgspec.msgpack.encode(last))
    document["sequence"] += 1
    document["note"] |= wrong
    body = msgspec.msgpack.encode(document)
    before = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\xc6" + len(body).to_bytes(4, "big") + body)
    index = Index(tmp_path / "index.sqlite", tmp_path)
    (bad,) = index.catch_up().bad
    assert f"byte {before}: not a frame" in bad
    with pytest.raises(BadFrame, match="not a frame"):
        list(read.segment(path))
    assert index._db.execute("SELECT offset FROM files").fetchone() == (before,)
    assert len(index.sessions(Filter())) == 1
    index.close()


def test_a_frame_has_the_same_fields_here() -> None:
    """One more field in a frame is one more here."""
    for whole, lean in ((frame.Frame, seen.Seen), (Note, seen.Said)):
        assert set(lean.__struct_fields__) == set(whole.__struct_fields__)
    assert len(seen.Frames.__args__) == len(seen.Seen.__struct_fields__)  # type: ignore[attr-defined]
    assert len(seen.Notes.__args__) == len(seen.Said.__struct_fields__)  # type: ignore[attr-defined]
    note = seen.Said.__struct_fields__
    assert [note[at] for at in (2, 10, 11, 12, 14, 15, 16, 18)] == [
        "side", "count", "masked", "masks", "size", "facts", "columns", "spent"]  # fmt: skip


def test_max_kept_and_max_bytes_bound_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (seen.MAX_KEPT, seen.MAX_BYTES) == (1_024, 4_096)
    monkeypatch.setattr(kept, "MAX_KEPT", 3)
    one = Kept()
    for number in range(10):
        facts = msgspec.msgpack.encode((("table", (f"t{number}",)),))
        assert one.names(facts) == one.names(facts) == (("table", f"t{number}"),)
        assert len(one._names) <= 3
    long = msgspec.msgpack.encode((("table", ("t" * 5_000,)),))
    assert one.names(long) and long not in one._names
    ruled = one.ruled(msgspec.Raw(msgspec.msgpack.encode(Decision("block", "r", revision="v"))))
    assert ruled == seen.Ruled("block", "r", "v")


def test_texts_bounds_how_many_go_in_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert intake.TEXTS == 2_000
    monkeypatch.setattr(intake, "TEXTS", 5)
    write(tmp_path, flow(), [opened(), *(note for n in range(12) for note in asked(f"select {n}")), rows(b"D")])
    index = Index(tmp_path / "index.sqlite", tmp_path)
    done: list[str] = []
    index._db.set_trace_callback(done.append)
    index.catch_up()
    assert len([one for one in done if one.startswith("INSERT INTO words (rowid")]) == 3
    assert index._db.execute("SELECT count(*) FROM texts").fetchone()[0] >= 12
    index.close()


def test_a_log_that_is_read_to_its_end_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened()], T)
    index = Index(tmp_path / "index.sqlite", tmp_path)
    assert index.catch_up().frames == 1
    index.catch_up()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda *_: pytest.fail("opened"))
        assert index.catch_up().frames == 0
    log.append(flow(), [closed()], T)
    assert index.catch_up().frames == 1, "what is appended shows"
    index.close()
