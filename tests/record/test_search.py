"""Sessions are found by what was done in them, and quickly however many there are."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import Note
from appliance.record.index import Caught, Index, search, words
from appliance.record.log import Log
from appliance.record.retention import Keep, prune
from appliance.record.session import Filter
from tests.record.samples import ASK_DBA, NO_DROP, PSQL, READS, C, S, T, closed, flow, opened, write
from tests.record.store import Store
from tests.record.synthetic import EVERY_S, RARE, write_sessions

MANY = 100_000


def ids(index: Index, **wanted: object) -> list[str]:
    return [one.id for one in index.sessions(Filter(**wanted))]  # type: ignore[arg-type]


def said(text: str, *tables: str, effect: str = "read") -> Note:
    facts = (("effect", (effect,)), ("table", tables))
    return Note("message", text, C, "query", text.encode("utf-8", "replace"), count=1, facts=facts)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


@pytest.fixture
def index(tmp_path: Path, logs: Path) -> Index:
    return Index(tmp_path / "index.sqlite", logs)


@pytest.fixture
def some(logs: Path, index: Index) -> Index:
    python = msgspec.structs.replace(
        PSQL, exe="/usr/bin/python3", script="/opt/acme/agent.py", script_sha256="ab" * 32, sha256="cd" * 32,
        package="python3-minimal", unit="acme.service", container="0123abcd", parents=(),
    )  # fmt: skip
    became = msgspec.structs.replace(PSQL, exe="/opt/evil", became=PSQL)
    notes = {
        "a": [said("SELECT  name\n FROM users WHERE id = 4711;", "public.users"), Note("decision", "x", decision=READS)],
        "b": [said("drop table orders", "shop.orders", effect="drop"), Note("message", "42501", S, "error", b"E")],
        "c": [said("select 100%_done from \"Odd [Name]\"", "?.odd"), Note("incident", "client: malformed message")],
        "d": [Note("asked", "truncate audit", decision=ASK_DBA), Note("answered", "denied: not on a Friday", by="eve")],
        "e": [said("select straße, naïve from t", "public.t", "public.users")],
    }
    for number, (id, found) in enumerate(notes.items()):
        process = {"c": python, "d": became}.get(id, PSQL)
        write(logs, flow(id, T + number, process=process), [opened(), *found, closed()], T + number)
    index.catch_up()
    return index


FILTERS: dict[str, tuple[dict[str, object], str]] = {
    "table": ({"table": "public.users"}, "ea"),
    "table of any schema": ({"table": "orders"}, "b"),
    "table in capitals": ({"table": "PUBLIC.Users"}, "ea"),
    "table by pattern, also where the schema is not known": ({"table": "public.*"}, "eca"),
    "table whose schema is not known": ({"table": "public.odd"}, "c"),
    "table of another schema": ({"table": "public.orders"}, ""),
    "a part of a table": ({"table": "user"}, ""),
    "statement": ({"statement": "select name from users where id = 4711"}, "a"),
    "statement by pattern": ({"statement": "select*from users*"}, "a"),
    "statement by its begin": ({"statement": "drop*"}, "b"),
    "statement by a part of a word": ({"statement": "*rop tab*"}, "b"),
    "statement by one character": ({"statement": "drop ?able orders"}, "b"),
    "statement with signs of LIKE": ({"statement": "*100%_done*"}, "c"),
    "signs of LIKE mean nothing": ({"statement": "drop table order_"}, ""),
    "statement with brackets": ({"statement": '*"odd [name]"'}, "c"),
    "statement that was held": ({"statement": "truncate audit"}, "d"),
    "statement in other letters": ({"statement": "select straße*"}, "e"),
    "statement is no word of the server": ({"statement": "42501"}, ""),
    "text": ({"text": "users 4711"}, "a"),
    "text of the server": ({"text": "42501"}, "b"),
    "text of an incident": ({"text": "malformed"}, "c"),
    "text of a reviewer": ({"text": "friday"}, "d"),
    "text, words in a row": ({"text": '"drop table"'}, "b"),
    "text, not in a row": ({"text": '"table drop"'}, ""),
    "text by the begin of a word": ({"text": "trunc*"}, "d"),
    "text, the begin of a word alone": ({"text": "trunc"}, ""),
    "text in other letters": ({"text": "STRASSE straße"}, ""),
    "text in those letters": ({"text": "naïve"}, "e"),
    "text without a word": ({"text": "--"}, ""),
    "text with the language of FTS": ({"text": "users OR nothing"}, ""),
    "text with open quotes": ({"text": '"drop table'}, "b"),
    "text with a colon": ({"text": "value: drop"}, ""),
    "rule": ({"rule": "reads"}, "a"),
    "rule that asked": ({"rule": "dba"}, "d"),
    "by": ({"by": "eve"}, "d"),
    "package": ({"package": "python3*"}, "c"),
    "sha256 of the executable": ({"sha256": "cdcd"}, "c"),
    "sha256 of the script": ({"sha256": "ab" * 32}, "c"),
    "sha256 of nothing": ({"sha256": "cdcc"}, ""),
    "script by its name": ({"exe": "agent.py"}, "c"),
    "who by unit": ({"who": "acme.service"}, "edcba"),
    "who by container": ({"who": "0123*"}, "c"),
    "what it became by exec": ({"exe": "psql"}, "edba"),
    "what it was before": ({"exe": "/opt/evil"}, "d"),
    "two of them": ({"table": "public.users", "text": "4711"}, "a"),
    "two that no session meets": ({"table": "public.users", "rule": "dba"}, ""),
    "brackets are no pattern": ({"who": "[a-z]*"}, ""),
    "quotes": ({"table": "' OR 1 --", "statement": "' OR 1", "text": "' OR 1"}, ""),
}


@pytest.mark.parametrize("few", [20_000, 0], ids=["from the rarest", "from the newest"])
@pytest.mark.parametrize("what", FILTERS)
def test_filters(some: Index, what: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same is found whichever way is taken."""
    monkeypatch.setattr(search, "FEW", few)
    wanted, expected = FILTERS[what]
    assert "".join(ids(some, **wanted)) == expected


@given(st.text(max_size=30), st.sampled_from(["who", "exe", "to", "table", "statement", "text", "package", "sha256", "by"]))
def test_nothing_that_is_asked_is_an_error(asked: str, field: str) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as directory:
        logs = Path(directory) / "logs"
        logs.mkdir()
        index = Index(Path(directory) / "index", logs)
        write(logs, flow(), [opened(), said("select 1", "t"), closed()])
        index.catch_up()
        assert ids(index, **{field: asked}) in (["f1"], [])
        index.close()


def test_max_asked_bounds_a_condition(some: Index) -> None:
    assert search.MAX_ASKED == 1_000
    assert ids(some, who="*" * 2_000) == ["e", "d", "c", "b", "a"]
    assert ids(some, statement="?" + "x" * 5_000) == []


def test_max_terms_bounds_a_search(some: Index) -> None:
    assert search.MAX_TERMS == 32
    assert ids(some, text=" ".join(["users"] * 32 + ["nowhere"])) == ["a"]


def test_max_text_and_max_pieces_bound_what_is_found_of_a_long_statement(logs: Path, index: Index) -> None:
    assert (words.MAX_TEXT, words.MAX_PIECES, words.OVERLAP) == (8_192, 64, 64)
    spoken = [f"w{number:06d}" for number in range(100_000)]
    write(logs, flow(), [opened(), said(" ".join(spoken), "t")])
    index.catch_up()
    reach = words.MAX_PIECES * (words.MAX_TEXT - words.OVERLAP) // 8
    for number in (0, 1023, 1024, 2048, 30_000, reach - 10):
        assert ids(index, text=spoken[number]) == ["f1"], number
    assert ids(index, text=spoken[reach + 10]) == []
    assert ids(index, statement="w000000 w000001*") == ["f1"]


def test_text_that_is_no_utf8_is_found(logs: Path, index: Index) -> None:
    write(logs, flow(), [opened(), said("select \udcff\0 from x", "t\udcff")])
    index.catch_up()
    assert ids(index, text="select") == ids(index, table="t\\udcff") == ["f1"]


def test_what_was_said_in_a_log_that_is_gone_is_not_found(logs: Path, index: Index) -> None:
    log = Log(logs, "w0")
    log.append(flow("long"), [opened(), said("select early", "t"), said("select both", "t")], T)
    log.append(flow("old"), [opened(), said("select old", "u"), closed()], T)
    log.seal()
    gone = next(logs.iterdir())
    log.append(flow("long"), [said("select late", "t"), said("select both", "t"), closed()], T + 9)
    log.seal()
    index.catch_up()
    assert ids(index, text="early") == ["long"] and ids(index, text="old") == ["old"]
    gone.unlink()
    index.catch_up()
    assert ids(index, text="early") == ids(index, text="old") == ids(index, table="u") == []
    assert ids(index, text="late") == ids(index, text="both") == ids(index, table="t") == ["long"]
    db = sqlite3.connect(index._path)
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    assert db.execute("SELECT count(*) FROM texts").fetchone() == (3,), "two statements, and why it closed"
    assert db.execute("SELECT count(*) FROM names WHERE kind = 'table'").fetchone() == (1,)
    db.close()


def test_sessions_of_one_moment_are_all_kept(logs: Path, index: Index) -> None:
    log = Log(logs, "w0")
    for number in range(50):
        log.append(flow(f"f{number:02d}"), [opened(), closed()], T)
    index.catch_up()
    assert ids(index) == [f"f{number:02d}" for number in reversed(range(50))]


def test_an_index_of_the_last_format_is_made_again(tmp_path: Path, logs: Path) -> None:
    write(logs, flow(), [opened(), closed()])
    db = sqlite3.connect(tmp_path / "index.sqlite")
    db.executescript("CREATE TABLE sessions (id TEXT); PRAGMA user_version = 1;")
    db.close()
    index = Index(tmp_path / "index.sqlite", logs)
    index.catch_up()
    assert ids(index) == ["f1"]


def test_an_index_closed_while_it_catches_up_stays(logs: Path, index: Index) -> None:
    write(logs, flow(), [opened(), closed()])
    index.catch_up()
    index.close()
    assert index.catch_up().frames == 0
    assert index._path.exists()


# -- many -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    directory = tmp_path_factory.mktemp("many")
    (directory / "logs").mkdir()
    write_sessions(directory / "logs", MANY)
    index = Index(directory / "index.sqlite", directory / "logs")
    assert index.catch_up().frames == MANY * 5
    yield index
    index.close()


RARE_ONES = len(range(0, MANY, RARE))
END = T + MANY * EVERY_S
SEARCHES: dict[str, tuple[dict[str, object], int, bool]] = {
    "the newest": ({}, 100, False),
    "who": ({"who": "vendor7"}, 100, True),
    "who by pattern": ({"who": "vendor*"}, 100, False),
    "exe": ({"exe": "/opt/vendor3/bin/agent"}, 100, True),
    "exe of all": ({"exe": "agent"}, 100, False),
    "to": ({"to": "orders-db"}, 100, False),
    "table of all": ({"table": "orders"}, 100, False),
    "table of one": ({"table": f"public.archive_{RARE * 5}"}, 1, True),
    "tables of some": ({"table": "archive_*"}, 100, True),
    "verdict": ({"verdict": "block"}, 100, True),
    "statement": ({"statement": "select name from orders where id = 4711"}, 1, True),
    "statement by pattern": ({"statement": "drop table *"}, 100, True),
    "text of one": ({"text": "4711"}, 1, True),
    "text of all": ({"text": "select orders"}, 100, False),
    "since": ({"since": END - 300}, 100, True),
    "since the begin": ({"since": T}, 100, False),
    "until": ({"until": T + 300}, 100, False),
    "id": ({"id": "s00004711"}, 1, True),
    "common and rare": ({"who": "vendor*", "to": "orders-db", "verdict": "block"}, 100, True),
    "none": ({"who": "nobody"}, 0, True),
}


@pytest.mark.parametrize("what", SEARCHES)
def test_a_search_walks_an_index(many: Index, what: str) -> None:
    """No table is read through, and what is walked from the newest is not sorted: it ends when there are enough."""
    wanted, count, few = SEARCHES[what]
    asked = search.query(many._db, Filter(**wanted, limit=100))  # type: ignore[arg-type]
    assert asked is not None and asked.few is few
    plan = [row[3] for row in many._db.execute(f"EXPLAIN QUERY PLAN {asked.sql}", asked.values)]
    read = [step for step in plan if step.startswith("SCAN") and "VIRTUAL TABLE INDEX" not in step]
    assert read == ([] if few or "until" in wanted else ["SCAN s"])
    assert few or not any("ORDER BY" in step for step in plan), plan
    assert len(ids(many, **wanted, limit=100)) == count


def test_a_hundred_thousand_sessions_are_searched_in_a_moment(many: Index) -> None:
    """Not a measurement (tests/bench has it): what takes this long has read everything."""
    for wanted, _, _ in SEARCHES.values():
        began = time.monotonic()
        ids(many, **wanted, limit=100)
        assert time.monotonic() - began < 5, wanted


def test_all_of_them_can_be_listed(many: Index) -> None:
    assert len(ids(many, limit=0)) == MANY
    assert len(ids(many, verdict="block", limit=0)) == RARE_ONES == len(ids(many, rule=NO_DROP.rule, limit=0))


# -- what retention takes ---------------------------------------------------------------------------------------


def test_what_retention_took_out_of_a_log_is_not_found(tmp_path: Path) -> None:
    """A session that a rule keeps longer stays in its log; of the other only hashes do."""
    store = Store(tmp_path)
    begun = time.time() - 10 * 86_400
    kept = msgspec.structs.replace(READS, rule="kept")
    for id, decision in (("gone", READS), ("stays", kept)):
        notes = [opened(), said(f"select {id}_word from t", f"public.{id}"), Note("decision", "x", decision=decision), closed()]
        for note in notes:
            store.write(flow(id, begun), [note], begun)
    index = Index(tmp_path / "index.sqlite", store.records)
    assert index.catch_up().frames == 8
    store.seal()
    assert index.catch_up() == Caught(0, 0), "packed, and nothing else"
    assert sorted(ids(index)) == ["gone", "stays"]
    prune(store.keeper, Keep(86_400, 1 << 30, {"kept": 30 * 86_400.0}))
    assert len(store.names()) == 1, "the log is still there"
    assert [frame.id for frame in index.frames(["gone", "stays"])] == ["stays"] * 4, "the index does not know yet"
    assert index.catch_up() == Caught(0, 0)
    assert ids(index) == ["stays"]
    assert ids(index, text="gone_word") == ids(index, table="public.gone") == []
    assert ids(index, text="stays_word") == ["stays"]
    index.close()
    (tmp_path / "index.sqlite").unlink()
    again = Index(tmp_path / "index.sqlite", store.records)
    again.catch_up()
    assert ids(again) == ["stays"]
    again.close()
    store.keeper.close()
