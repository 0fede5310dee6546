"""The extended protocol, its pipelines, portals and prepared statements: what is refused, and what state is left.

The standard for a refusal is the server itself: the same pipeline with a statement in the same place that the
server fails on its own must be answered with the same messages. test_corner_cases.py says what is where.
"""

import select
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import pq

from appliance.lab.servers import Postgres
from tests.evasion import talk
from tests.evasion.talk import SYNC, Talk, address, shown
from tests.gate import Gate

pytestmark = pytest.mark.peer

Line = Callable[[], Talk]
BROKEN = "select from where"  # a syntax error stands for a refusal when the server is asked directly
DENIED = "drop table orders"


@pytest.fixture
def line(reader: Gate) -> Iterator[Talk]:
    with Talk(reader.port, database="corner") as line:
        yield line


@pytest.fixture
def direct(corner: Postgres) -> Iterator[Talk]:
    with Talk(corner.port, database="corner") as line:
        yield line


def step(text: str) -> bytes:
    return talk.parse(text) + talk.bind() + talk.describe("P") + talk.execute()


class TestPipeline:
    """Raw: a refusal at each position, with Syncs here and there, in a transaction and outside."""

    @pytest.mark.parametrize("synced", ["at the end", "after each", "after the second"])
    @pytest.mark.parametrize("before", ["", "begin", "begin; select 1/0"])
    @pytest.mark.parametrize("at", range(5))
    def test_answers_are_those_of_an_error_of_the_server(self, line: Talk, direct: Talk, at: int, before: str, synced: str) -> None:
        told = []
        for where, bad in ((line, DENIED), (direct, BROKEN)):
            if before:
                where.ask(talk.query(before))
            steps = [step(bad if n == at else f"select {n}") for n in range(5)]
            ends = {"after each": range(5), "after the second": (1, 4), "at the end": (4,)}[synced]
            asked = b"".join(one + (SYNC if n in ends else b"") for n, one in enumerate(steps))
            got = where.ask(asked, len(ends))
            told.append((talk.tags(got), [body for tag, body in got if tag in "ZD"], len(talk.codes(got))))
            assert talk.tags(where.ask(talk.query("rollback"))).endswith("CZ")
            assert talk.rows(where.ask(talk.query("select 7"))) == [[b"7"]]
        assert told[0] == told[1]

    def test_only_the_refused_statement_has_our_code(self, line: Talk) -> None:
        got = line.ask(step("select 1") + SYNC + step(DENIED) + step("select 2") + SYNC + step("select 3") + SYNC, 3)
        assert talk.codes(got) == ["42501"]
        assert talk.rows(got) == [[b"1"], [b"3"]]

    @pytest.mark.parametrize("kind", ["parse", "bind", "describe", "execute"])
    def test_what_was_prepared_before_the_refusal_lives(self, reader: Gate, kind: str) -> None:
        """Rules change under a live session: each message of a statement is refused in its own place."""
        with Gate(reader.server, reader_rules()) as gate, Talk(gate.port, database="corner") as line:
            line.ask(talk.query("begin") + talk.parse("select id from orders order by id", "s") + talk.bind("c", "s") + SYNC, 2)
            gate.reload("rules:\n  - {id: no-orders, when: {table: [public.orders]}, do: block}\n  - {id: rest, do: allow}\n")
            message = {
                "parse": talk.parse("select id from orders", "t"),
                "bind": talk.bind("d", "s"),
                "describe": talk.bind("d", "s") + talk.describe("P", "d"),
                "execute": talk.execute("c"),
            }[kind]
            got = line.ask(message + SYNC)
            assert talk.codes(got) == ["42501"]
            assert got[-1] == ("Z", b"E")
            line.ask(talk.query("rollback"))
            gate.reload(reader_rules())
            assert len(talk.rows(line.ask(talk.bind("", "s") + talk.execute() + SYNC))) == 3

    def test_flush_instead_of_sync(self, line: Talk) -> None:
        line.send(step("select 1") + talk.FLUSH)
        assert talk.tags(line.until("C")) == "12TDC"
        line.send(step(DENIED) + talk.FLUSH)
        assert talk.codes(line.until("E")) == ["42501"]
        line.send(step("select 2") + talk.FLUSH)
        assert talk.tags(line.ask(SYNC)) == "Z"
        assert talk.rows(line.ask(step("select 3") + SYNC)) == [[b"3"]]

    def test_cut_into_single_bytes(self, line: Talk) -> None:
        for byte in step("select 1") + step(DENIED) + SYNC + step("select ssn from users where id = 1") + SYNC:
            line.send(bytes([byte]))
        got = line.until("Z", 2)
        assert talk.tags(got) == "12TDCEZ12TDCZ"
        assert not shown(line.seen)


def reader_rules() -> str:
    return "rules:\n  - {id: all, do: allow}\n"


class TestLibpqPipeline:
    @pytest.mark.parametrize("at", range(4))
    def test_through_libpq(self, reader: Gate, at: int) -> None:
        with talk.connect(reader.port) as connection:
            line = connection.pgconn
            line.enter_pipeline_mode()
            for n in range(4):
                line.send_query_params(DENIED.encode() if n == at else b"select $1::text", None if n == at else [b"%d" % n])
            line.pipeline_sync()
            line.send_query_params(b"select 'after'", None)
            line.pipeline_sync()
            line.flush()
            seen: list[int] = []
            while seen.count(pq.ExecStatus.PIPELINE_SYNC) < 2:
                # `get_result` that waits keeps the interpreter, which the gate needs.
                while line.is_busy():
                    assert select.select([line.socket], [], [], talk.SILENCE)[0]
                    line.consume_input()
                if (result := line.get_result()) is not None:
                    seen.append(result.status)
            fine, failed, aborted, sync = pq.ExecStatus.TUPLES_OK, pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED, pq.ExecStatus.PIPELINE_SYNC
            assert seen == [*[fine] * at, failed, *[aborted] * (3 - at), sync, fine, sync]
            line.exit_pipeline_mode()
            assert connection.execute("select 1").fetchone() == (1,)

    def test_a_long_pipeline_with_masks(self, reader: Gate) -> None:
        with talk.connect(reader.port) as connection, connection.pipeline():
            cursors = [connection.execute("select id, ssn from users where id = %s", (1 + n % 2,), binary=bool(n % 3)) for n in range(300)]
            assert {(n % 2, cursor.fetchone()) for n, cursor in enumerate(cursors)} == {(0, (1, "[redacted]")), (1, (2, "[redacted]"))}


class TestBindOnly:
    """Only the values change: rules that look into text see them at the Bind."""

    RULES = "rules:\n  - {id: cards, when: {detect: [credit_card]}, do: block}\n  - {id: all, do: allow}\n"

    @pytest.mark.parametrize("wrapped", ["4111 1111 1111 1111", "x 4111-1111-1111-1111 y", "4111111111111111"])
    def test_one_bind_of_many(self, corner: Postgres, wrapped: str) -> None:
        with Gate(address(corner.port), self.RULES) as gate, Talk(gate.port, database="corner") as line:
            line.ask(talk.parse("select $1::text", "s") + SYNC)
            for value, code in (("fine", []), (wrapped, ["42501"]), (None, []), ("fine", [])):
                got = line.ask(talk.bind("", "s", (value,)) + talk.execute() + SYNC)
                assert talk.codes(got) == code

    def test_a_value_in_a_type_not_read_is_unknown(self, corner: Postgres) -> None:
        with Gate(address(corner.port), self.RULES) as gate, talk.connect(gate.port) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select %b::text", ("4111 1111 1111 1111",))
            assert connection.execute("select %b::int + 1", (4,)).fetchone() == (5,)


class TestSuspended:
    """Execute with a limit: each part of the rows is judged and masked like the first."""

    @pytest.mark.parametrize("binary", [False, True])
    def test_in_parts(self, line: Talk, binary: bool) -> None:
        line.ask(talk.query("begin"))
        line.ask(talk.parse("select id, ssn from users order by id", "s") + talk.bind("c", "s", binary=binary) + SYNC)
        parts = [line.ask(talk.execute("c", 1) + SYNC) for _ in range(4)]
        assert [talk.tags(part) for part in parts] == ["DsZ", "DsZ", "DsZ", "CZ"]
        assert [row[1] for part in parts for row in talk.rows(part)] == [b"[redacted]", b"[redacted]", None]

    def test_between_parts_the_rules_may_change(self, corner: Postgres) -> None:
        with Gate(address(corner.port), reader_rules()) as gate, Talk(gate.port, database="corner") as line:
            line.ask(talk.query("begin") + talk.parse("select ssn from users order by id") + talk.bind("c") + SYNC, 2)
            assert talk.rows(line.ask(talk.execute("c", 1) + SYNC)) == [[talk.SECRETS[0].encode()]]
            gate.reload(talk.READER)
            assert talk.rows(line.ask(talk.execute("c", 1) + SYNC)) == [[b"[redacted]"]]
            gate.reload("rules:\n  - {id: none, when: {table: [public.users]}, do: block}\n  - {id: rest, do: allow}\n")
            assert talk.codes(line.ask(talk.execute("c", 1) + SYNC)) == ["42501"]

    def test_other_statements_between_the_parts(self, line: Talk) -> None:
        line.ask(talk.query("begin") + talk.parse("select ssn from users order by id") + talk.bind("c") + talk.describe("P", "c") + SYNC, 2)
        got = line.ask(talk.execute("c", 1) + step("select note from orders where id = 1") + talk.execute("c", 1) + SYNC)
        assert talk.rows(got) == [[b"[redacted]"], [b"first"], [b"[redacted]"]]

    def test_a_portal_of_the_same_name_by_turns(self, line: Talk) -> None:
        """A Describe of the first must not tell of the second."""
        free, secret = "select note, id::text from orders where id = 1", "select ssn, name from users where id = 1"
        asked = b""
        for text in (free, secret, free):
            asked += talk.parse(text) + talk.bind("c") + talk.describe("P", "c") + talk.close("P", "c")
            asked += talk.parse(secret) + talk.bind("c") + talk.execute("c") + talk.close("P", "c")
        got = line.ask(asked + SYNC)
        assert talk.rows(got) == [[b"[redacted]", b"Ada"]] * 3


SECRET = "select ssn from users where id = 1"
MIXED = {
    "PREPARE, EXECUTE": [talk.query(f"prepare s as {SECRET}"), talk.query("execute s")],
    "Parse, EXECUTE": [talk.parse(SECRET, "s") + SYNC, talk.query("execute s")],
    "PREPARE, Bind": [talk.query(f"prepare s as {SECRET}"), talk.bind("", "s") + talk.execute() + SYNC],
    "Parse of PREPARE, Bind": [talk.extended(f"prepare s as {SECRET}"), talk.bind("", "s") + talk.execute() + SYNC],
    "PREPARE, Parse of EXECUTE": [talk.query(f"prepare s as {SECRET}"), talk.extended("execute s")],
    "Parse, Parse of EXECUTE": [talk.parse(SECRET, "s") + talk.extended("execute s")],
    "in one packet": [talk.query(f"prepare s as {SECRET}") + talk.query("execute s")],
    "in one Query": [talk.query(f"prepare s as {SECRET}; execute s")],
    "with a value": [talk.query("prepare s(int) as select ssn from users where id = $1"), talk.query("execute s(1)")],
    "quoted": [talk.query(f'prepare "S s" as {SECRET}'), talk.bind("", "S s") + talk.execute() + SYNC],
    "replaced": [talk.query("prepare s as select 1"), talk.query("deallocate s"), talk.query(f"prepare s as {SECRET}; execute s")],
    "closed and replaced": [talk.parse("select 1", "s") + talk.close("S", "s") + talk.parse(SECRET, "s") + talk.bind("", "s") + talk.execute() + SYNC],
    "DEALLOCATE ALL between": [talk.query("prepare s as select 1"), talk.query(f"deallocate all; prepare s as {SECRET}"), talk.query("execute s")],
    "DISCARD ALL between": [talk.query("prepare s as select 1"), talk.query("discard all"), talk.query(f"prepare s as {SECRET}"), talk.query("execute s")],
    "replacing fails": [talk.query(f"prepare s as {SECRET}"), talk.query("prepare s as select 1"), talk.query("execute s")],
    "replacing by Parse fails": [talk.parse(SECRET, "s") + SYNC, talk.parse("select 1", "s") + SYNC, talk.bind("", "s") + talk.execute() + SYNC],
    "replacing fails in one packet": [talk.parse(SECRET, "s") + SYNC + talk.parse("select 1", "s") + SYNC + talk.bind("", "s") + talk.execute() + SYNC],
    "PREPARE in a transaction that fails": [talk.query(f"begin; prepare s as {SECRET}"), talk.query("select 1/0"), talk.query("rollback"), talk.query("execute s")],
    "DEALLOCATE behind an error": [talk.query(f"prepare s as {SECRET}"), talk.query("select 1/0; deallocate s"), talk.query("prepare s as select 1"), talk.query("execute s")],
    "EXPLAIN ANALYZE EXECUTE": [talk.query(f"prepare s as {SECRET}"), talk.query("explain analyze execute s"), talk.query("execute s")],
    "DEALLOCATE rolled back": [talk.query(f"prepare s as {SECRET}"), talk.query("begin; deallocate s; rollback"), talk.query("execute s")],
    "CREATE TABLE AS EXECUTE": [talk.query(f"prepare s as {SECRET}"), talk.query("create temp table t as execute s"), talk.query("table t")],
}


class TestPreparedBothWays:
    """One namespace for Parse and PREPARE; what runs is what is judged and masked."""

    @pytest.mark.parametrize("asked", MIXED.values(), ids=MIXED.keys())
    def test_a_protected_column_stays_masked(self, writer: Gate, asked: list[bytes]) -> None:
        with Talk(writer.port, database="corner") as line:
            for one in asked:
                line.send(one)
                line.until("Z", one.count(SYNC) + one.count(b"Q\0\0"))
            assert not shown(line.seen)
            assert b"[redacted]" in line.seen or line.seen.count(b"C42501")  # the last two leave nothing to read
            assert talk.tags(line.ask(talk.query("select 1"))) == "TDCZ"

    @pytest.mark.parametrize("asked", [
        [talk.query("prepare s as delete from orders"), talk.query("execute s")],
        [talk.parse("delete from orders", "s") + SYNC, talk.query("execute s"), talk.bind("", "s") + talk.execute() + SYNC],
        [talk.query("prepare s as delete from orders") + talk.query("execute s")],
        [talk.query("prepare s as select 1"), talk.query("deallocate s; prepare s as delete from orders; execute s")],
        [talk.parse("select 1", "s") + SYNC, talk.close("S", "s") + talk.parse("delete from orders", "s") + talk.bind("", "s") + talk.execute() + SYNC],
        [talk.parse("execute s") + SYNC + talk.query("prepare s as delete from orders"), talk.bind() + talk.execute() + SYNC],
    ])  # fmt: skip
    def test_a_refused_statement_never_runs(self, reader: Gate, corner: Postgres, asked: list[bytes]) -> None:
        before = corner.admin("select count(*) from orders", "corner")
        with Talk(reader.port, database="corner") as line:
            for one in asked:
                got = line.ask(one, one.count(SYNC) + one.count(b"Q\0\0"))
                assert "42501" in talk.codes(got) or "E" not in talk.tags(got) or "34000" in talk.codes(got) or "26000" in talk.codes(got)
        assert corner.admin("select count(*) from orders", "corner") == before

    def test_statements_others_prepared_cannot_be_known(self, reader: Gate) -> None:
        with Talk(reader.port, database="corner") as line:
            assert talk.codes(line.ask(talk.query("execute nobody_prepared_this"))) == ["42501"]
            assert talk.codes(line.ask(talk.bind("", "nobody") + talk.execute() + SYNC)) == ["42501"]


FETCHES = ["fetch all from c", "fetch forward 2 from c", "fetch next from c", "fetch absolute 1 from c", "fetch relative 1 from c",
           "move 1 from c; fetch 1 from c", "fetch last from c; fetch backward all from c", "fetch c", "fetch first in c"]  # fmt: skip


class TestCursors:

    @pytest.mark.parametrize("fetch", FETCHES)
    @pytest.mark.parametrize("declare", ["begin; declare c scroll cursor for", "declare c scroll cursor with hold for", "begin; declare c binary scroll cursor for",
                                         "begin; declare c insensitive scroll cursor without hold for"])  # fmt: skip
    @pytest.mark.parametrize("way", ["simple", "extended"])
    def test_fetch(self, line: Talk, declare: str, fetch: str, way: str) -> None:
        line.ask(talk.query(f"{declare} select id, ssn, name from users where id < 3 order by id"))
        for one in fetch.split("; "):
            got = line.ask(talk.query(one) if way == "simple" else talk.extended(one, binary=True))
            assert "E" not in talk.tags(got)
        assert talk.rows(got)
        assert all(row[1] == b"[redacted]" and row[2] in {b"Ada", b"Grace"} for row in talk.rows(got))
        assert not shown(line.seen)

    def test_with_hold_over_a_commit(self, line: Talk) -> None:
        line.ask(talk.query("begin; declare c cursor with hold for select ssn from users order by id; commit"))
        got = line.ask(talk.query("fetch 2 from c; close c"))
        assert talk.rows(got) == [[b"[redacted]"], [b"[redacted]"]]
        assert talk.codes(line.ask(talk.query("fetch 1 from c"))) in (["34000"], ["42501"])

    @pytest.mark.parametrize("cross", [
        [talk.query("begin; declare c cursor for select ssn from users"), talk.execute("c") + SYNC],
        [talk.query("begin; declare c cursor for select ssn from users"), talk.describe("P", "c") + talk.execute("c") + SYNC],
        [talk.query("begin"), talk.parse("select ssn from users") + talk.bind("c") + SYNC, talk.query("fetch all from c")],
        [talk.query("begin"), talk.parse("select ssn from users") + talk.bind("c") + SYNC, talk.extended("fetch all from c", binary=True)],
        [talk.query("begin; declare c cursor for select note from orders"), talk.query("close c; declare c cursor for select ssn from users"), talk.execute("c") + SYNC],
        [talk.query("begin; declare c cursor for select note from orders; close all; declare c cursor for select ssn from users; fetch all from c")],
        [talk.query("begin; savepoint s; declare c cursor for select ssn from users"), talk.query("savepoint t; close c; rollback to t"), talk.query("fetch all from c")],
    ])  # fmt: skip
    def test_a_cursor_is_a_portal(self, line: Talk, cross: list[bytes]) -> None:
        for one in cross:
            line.ask(one)
        assert not shown(line.seen)
        assert talk.tags(line.ask(talk.query("rollback"))).endswith("CZ")

    def test_where_current_of_tells_nothing(self, writer: Gate) -> None:
        with Talk(writer.port, database="corner") as line:
            line.ask(talk.query("begin; declare c cursor for select ssn from users for update; move 1 from c"))
            line.ask(talk.query("update users set name = name where current of c returning ssn"))
            line.ask(talk.query("rollback"))
            assert not shown(line.seen)


SENT = {
    "CopyData when idle": talk.frame("d", b"x"),
    "CopyDone when idle": talk.DONE,
    "CopyFail when idle": talk.frame("f", b"no\0"),
    "Execute of an unknown portal": talk.execute("nobody"),
    "Bind of an unknown statement": talk.bind("", "nobody"),
    "Describe of an unknown statement": talk.describe("S", "nobody"),
    "Describe of an unknown portal": talk.describe("P", "nobody"),
    "Close of unknown names": talk.close("S", "nobody") + talk.close("P", "nobody"),
    "Execute of the unnamed portal": talk.execute(),
    "two Syncs": SYNC,
    "Flush alone": talk.FLUSH,
    "Bind with values too many": talk.parse("select 1") + talk.bind("", "", ("1",)),
    "Bind with values too few": talk.parse("select $1::int") + talk.bind(),
    "empty statement": talk.parse("") + talk.bind() + talk.describe("P") + talk.execute(),
    "comment only": talk.parse("-- nothing") + talk.bind() + talk.execute(),
    "two statements in a Parse": talk.parse("select 1; select 2"),
    "Execute twice": talk.parse("select 1") + talk.bind() + talk.execute() + talk.execute(),
    "a statement that changed under its plan": talk.parse("select * from orders limit 1", "s") + talk.describe("S", "s"),
    "text that does not end": talk.parse("select 'x"),
}


class TestOutOfState:
    """Messages the state has no place for are answered as the server answers them."""

    @pytest.mark.parametrize("sent", SENT.values(), ids=SENT.keys())
    def test_as_the_server(self, corner: Postgres, direct: Talk, sent: bytes) -> None:
        with Gate(address(corner.port)) as gate, Talk(gate.port, database="corner") as line:
            told = [one.ask(sent + SYNC + talk.query("select 5"), 2) for one in (line, direct)]
        assert told[0] == told[1]

    @pytest.mark.parametrize("text", ["", ";", " ; ;", "-- nothing", "/* /* */ */"])
    def test_an_empty_query_is_answered(self, line: Talk, text: str) -> None:
        assert talk.tags(line.ask(talk.query(text))) == "IZ"
        assert talk.tags(line.ask(talk.extended(text, described=False))) == "12IZ"


class TestSeveralStatements:
    @pytest.mark.parametrize("text", [
        "select 1; drop table orders", "drop table orders; select 1", "select 1; delete from orders; select 2", "begin; drop table orders; commit",
        "commit; drop table orders", "rollback; delete from orders", "select 1;;; truncate orders", "savepoint s; delete from orders",
        "select 1; select lo_create(0); select 2", "set transaction read write; delete from orders",
    ])  # fmt: skip
    @pytest.mark.parametrize("inside", ["", "begin"])
    def test_one_refused_is_all_refused(self, line: Talk, corner: Postgres, text: str, inside: str) -> None:
        before = corner.admin("select count(*) from orders", "corner")
        if inside:
            line.ask(talk.query(inside))
        got = line.ask(talk.query(text))
        assert talk.codes(got) == ["42501"]
        assert not talk.rows(got)
        assert got[-1] == ("Z", b"E" if inside else b"I")
        line.ask(talk.query("rollback"))
        assert corner.admin("select count(*) from orders", "corner") == before

    def test_all_allowed_all_answered(self, line: Talk) -> None:
        got = line.ask(talk.query("select name from users where id = 1; select ssn from users where id = 1; select note from orders where id = 1"))
        assert talk.rows(got) == [[b"Ada"], [b"[redacted]"], [b"first"]]
        assert talk.tags(got) == "TDCTDCTDCZ"


def test_function_call_past_masks(writer: Gate, corner: Postgres) -> None:
    """Where everything is allowed, a call by number could still bring back what is masked."""
    number = int(corner.admin("select 'peek'::regproc::oid", "corner"))
    call = talk.frame("F", number.to_bytes(4, "big") + bytes.fromhex("0000" "0001" "00000001") + b"1" + bytes(2))
    with Talk(writer.port, database="corner") as line:
        assert talk.codes(line.ask(call)) == ["42501"]


def test_function_call_keeps_the_state(line: Talk) -> None:
    call = talk.frame("F", bytes.fromhex("00000877" "0000" "0000" "0000"))
    line.ask(talk.query("begin"))
    got = line.ask(call)
    assert talk.codes(got) == ["42501"]
    assert got[-1] == ("Z", b"E")
    line.ask(talk.query("rollback"))
    assert talk.rows(line.ask(call + talk.query("select 1"), 2)) == [[b"1"]]
