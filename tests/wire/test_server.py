"""The wire between real clients (psycopg, asyncpg, psql) and a real PostgreSQL."""

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from psycopg import errors, sql

from appliance.model import Address, Message
from tests.wire.clients import NO, MaskBy, connect, kinds, masking, refusing
from tests.wire.pump import ALLOW, Judge, Pump, Verdict

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_allow_all(people: Address, piece: int) -> None:
    with Pump(people, piece=piece) as pump, connect(pump) as db:
        assert db.execute("select count(*) from wire.people").fetchone() == (21,)
        assert db.execute("select %s::int + 1", [41], binary=True).fetchone() == (42,)
        with pytest.raises(errors.DivisionByZero):
            db.execute("select 1/0")
        db.rollback()
        with db.pipeline():
            found = [db.execute("select %s::int", [i]) for i in range(20)]
        assert [cursor.fetchone() for cursor in found] == [(i,) for i in range(20)]
        with db.cursor("c") as cursor:
            cursor.itersize = 3
            assert len(list(cursor.execute("select id from wire.people"))) == 21
        db.execute("truncate wire.loads")
        with db.cursor().copy("copy wire.loads from stdin") as copy:
            for i in range(50):
                copy.write_row((i, f"row {i}"))
        with db.cursor().copy("copy wire.loads to stdout (format binary)") as copy:
            assert b"".join(copy).startswith(b"PGCOPY\n")
        assert db.execute("select count(*) from wire.loads").fetchone() == (50,)
    assert pump.errors == []


def test_gss_and_tls_are_passed_up(people: Address) -> None:
    with Pump(people) as pump, connect(pump, gssencmode="disable") as db:
        db.execute("select 1")
    assert kinds(pump)[:2] == ["ssl-request", "ssl-answer"]
    assert all(m.secret for m in pump.messages if m.kind == "auth" and m.side.value == "client")


def test_psql(people: Address) -> None:
    script = "select id from wire.people where id = 7;\n\\copy wire.loads from stdin\n1\tx\n\\.\nbegin; select 1; select 2;\ncommit;\n"
    with Pump(people) as pump:
        done = subprocess.run(
            ["psql", "-XAtq", f"host=127.0.0.1 port={pump.port} user=tester dbname=shop"],
            input=script, capture_output=True, text=True, timeout=30, env={**os.environ, "PGPASSWORD": "secret"},
        )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split() == ["7", "1", "2"]
    assert pump.errors == []


def test_deny_simple(people: Address) -> None:
    with Pump(people, refusing("secret_table")) as pump, connect(pump, autocommit=True) as db:
        with pytest.raises(errors.InsufficientPrivilege, match="no, says vendorgate") as caught:
            db.execute(sql.SQL("select 1 from secret_table; select 2"))
        diag = caught.value.diag
        assert (diag.severity, diag.sqlstate) == ("ERROR", "42501")
        assert (diag.statement_position, diag.message_hint, diag.source_line) == (None, None, None)
        assert db.info.transaction_status.name == "IDLE"
        assert db.execute("select 1").fetchone() == (1,)
    assert not any("secret_table" in m.text for m in pump.messages if m.kind == "error")


def test_deny_cancelled(people: Address) -> None:
    judge: Judge = lambda m: Verdict(deny="taken back", code="cancelled") if "slow" in m.text else ALLOW  # noqa: E731
    with (
        Pump(people, judge) as pump,
        connect(pump, autocommit=True) as db,
        pytest.raises(errors.QueryCanceled),
    ):
        db.execute("select 'slow'")


@pytest.mark.parametrize("kind", ["parse", "bind", "describe", "execute"])
def test_deny_extended(people: Address, kind: str) -> None:
    armed = threading.Event()
    judge: Judge = lambda m: NO if m.kind == kind and armed.is_set() else ALLOW  # noqa: E731
    with Pump(people, judge) as pump, connect(pump, autocommit=True) as db:
        armed.set()
        with pytest.raises(errors.InsufficientPrivilege, match="no, says vendorgate"):
            db.execute("select %s::int", [1])
        armed.clear()
        assert db.execute("select %s::int", [1]).fetchone() == (1,)
        assert db.info.transaction_status.name == "IDLE"
    assert pump.errors == []


def test_deny_in_a_transaction(people: Address) -> None:
    with Pump(people, refusing("forbidden")) as pump, connect(pump) as db:
        db.execute("insert into wire.loads values (777, 'x')")
        for statement, values in (("select 'forbidden'", None), ("select 'forbidden', %s::int", [1])):
            with pytest.raises(errors.InsufficientPrivilege):
                db.execute(statement, values)
            assert db.info.transaction_status.name == "INERROR"
            with pytest.raises(errors.InFailedSqlTransaction):
                db.execute("select 1")
            with pytest.raises(errors.InsufficientPrivilege):
                db.execute(statement, values)
            db.rollback()
            assert db.info.transaction_status.name == "IDLE"
        with db.transaction():
            with pytest.raises(errors.InsufficientPrivilege), db.transaction():
                db.execute("select 'forbidden'")
            assert db.execute("select count(*) from wire.loads where a = 777").fetchone() == (0,)


def test_deny_in_a_pipeline(people: Address) -> None:
    with Pump(people, refusing("forbidden")) as pump, connect(pump, autocommit=True) as db:
        with pytest.raises(errors.InsufficientPrivilege), db.pipeline() as pipeline:
            first = db.execute("select 1")
            pipeline.sync()
            assert first.fetchone() == (1,)
            db.execute("select 2")
            db.execute("select 'forbidden'")
            db.execute("insert into wire.loads values (555, 'skipped')")
        with pytest.raises(errors.DivisionByZero), db.pipeline():
            db.execute("select 1/0")
            db.execute("select 'forbidden'")
        assert db.execute("select count(*) from wire.loads where a = 555").fetchone() == (0,)
        assert db.info.transaction_status.name == "IDLE"
    assert pump.errors == []


@pytest.mark.parametrize("kind", ["copy-data", "copy-done"])
def test_deny_copy_in(people: Address, kind: str) -> None:
    judge: Judge = lambda m: NO if m.kind == kind else ALLOW  # noqa: E731
    with Pump(people, judge) as pump, connect(pump, autocommit=True) as db:
        with (
            pytest.raises(errors.InsufficientPrivilege, match="no, says"),
            db.cursor().copy("copy wire.loads from stdin") as copy,
        ):
            for i in range(5):
                copy.write_row((i, "denied"))
        assert db.execute("select count(*) from wire.loads where b = 'denied'").fetchone() == (0,)
    assert pump.errors == []


@pytest.mark.parametrize("refused", [False, True])
def test_function_call(people: Address, refused: bool) -> None:
    """The large object calls of libpq go by FunctionCall."""
    libpq = ctypes.CDLL("libpq.so.5")
    libpq.PQconnectdb.restype = ctypes.c_void_p
    libpq.PQerrorMessage.restype = ctypes.c_char_p
    judge: Judge = lambda m: NO if refused and m.kind == "function-call" else ALLOW  # noqa: E731
    with Pump(people, judge) as pump:
        db = ctypes.c_void_p(libpq.PQconnectdb(
            f"host=127.0.0.1 port={pump.port} user=tester password=secret dbname=shop".encode()
        ))  # fmt: skip
        made = libpq.lo_creat(db, 0x60000)
        assert (made == 0) == refused
        assert (b"no, says vendorgate" in libpq.PQerrorMessage(db)) == refused
        assert libpq.PQtransactionStatus(db) == 0
        libpq.PQfinish(db)
    assert pump.errors == []
    assert ("function-result" in kinds(pump)) != refused


def test_redaction(people: Address) -> None:
    judge: Judge = lambda m: Verdict(redact=True) if m.text or m.kind == "execute" else ALLOW  # noqa: E731
    with Pump(people, judge) as pump, connect(pump) as db:
        notices: list[str] = []
        db.add_notice_handler(lambda d: notices.append(str(d.message_primary)))
        for statement in (
            "insert into wire.checked values (500, 'tell')",
            "select 'tell'::int",
            "select wire.noisy('tell')",
        ):
            try:
                db.execute(statement)  # type: ignore[arg-type]
            except psycopg.Error as error:
                assert "tell" not in str(error)
                assert error.diag.message_detail is None
                assert "withheld by vendorgate" in str(error.diag.message_primary)
                assert error.sqlstate in {"23514", "22P02"}
            db.rollback()
    assert notices == ["message withheld by vendorgate"]
    assert b"tell" not in b"".join(m.raw for m in pump.messages if m.kind in {"error", "notice"})


def test_redaction_outlives_the_statement(people: Address) -> None:
    """A deferred constraint speaks at COMMIT, which is redacted by nobody."""
    judge: Judge = lambda m: Verdict(redact=True) if "insert" in m.text else ALLOW  # noqa: E731
    with Pump(people, judge) as pump, connect(pump) as db:
        db.execute("insert into wire.child values (4242)")
        with pytest.raises(errors.ForeignKeyViolation) as caught:
            db.commit()
        assert "4242" not in str(caught.value)
        assert caught.value.diag.message_detail is None
        with pytest.raises(errors.SyntaxError, match="at or near"):
            db.execute("nonsense")


def test_inject_between_requests(people: Address) -> None:
    """The client's unnamed statement and portal, its transaction and its answers are as if we had said nothing."""

    def judge(message: Message) -> Verdict:
        asked = "select 1 as a, null as b union all select 2, 'x'"
        return Verdict(inject=asked) if "want" in message.text else ALLOW

    with Pump(people, judge) as pump, connect(pump) as db:
        assert db.execute("select 'want'").fetchone() == ("want",)
        assert db.execute("select 'want', %s::int", [1]).fetchone() == ("want", 1)
        assert db.info.transaction_status.name == "INTRANS"
        with db.cursor("c") as cursor:
            cursor.execute("select id from wire.people order by id")
            assert cursor.fetchone() == (1,)
            db.execute("select 'want'")
            assert cursor.fetchone() == (2,)
    answers = [m for m in pump.messages if m.kind == "injected"]
    assert len(answers) == 3
    assert [v.data for v in answers[0].values] == [b"1", None, b"2", b"x"]
    assert [c.name for c in answers[0].columns] == ["a", "b"]
    assert answers[0].status == "SELECT 2"
    assert kinds(pump).count("injected-done") == 3


def test_inject_that_fails(people: Address) -> None:
    judge: Judge = lambda m: Verdict(inject="select 1/0") if "want" in m.text else ALLOW  # noqa: E731
    with Pump(people, judge) as pump, connect(pump, autocommit=True) as db:
        for _ in range(3):
            assert db.execute("select 'want'").fetchone() == ("want",)
    done = [m for m in pump.messages if m.kind == "injected-done"]
    assert [(m.status, m.text) for m in done] == [("22012", "division by zero")] * 3


def test_notice_to_the_waiting(people: Address) -> None:
    judge: Judge = lambda m: Verdict(notice="wait a moment") if "slow" in m.text else ALLOW  # noqa: E731
    with Pump(people, judge) as pump, connect(pump) as db:
        heard: list[str] = []
        db.add_notice_handler(lambda d: heard.append(str(d.message_primary)))
        assert db.execute("select 'slow'").fetchone() == ("slow",)
        assert heard == ["wait a moment"]


def test_cancel(people: Address) -> None:
    with Pump(people) as pump, connect(pump, autocommit=True) as db:
        timer = threading.Timer(0.3, db.cancel_safe)  # `cancel` would hold the lock this relay needs
        began = time.monotonic()
        timer.start()
        with pytest.raises(errors.QueryCanceled):
            db.execute("select pg_sleep(20)")
        assert time.monotonic() - began < 10
        timer.join()
        (cancel,) = (m for m in pump.messages if m.kind == "cancel")
        (key,) = (m for m in pump.messages if m.kind == "key")
        assert cancel.name == key.raw[5:].hex()
        assert db.execute("select 1").fetchone() == (1,)


def test_big_rows_stream(people: Address) -> None:
    """A row of 20 MB goes down in pieces while it comes, and what follows it is whole."""
    with Pump(people) as pump, connect(pump) as db:
        found = db.execute("select repeat('x', 20000000), 1").fetchone()
        assert found is not None
        assert len(found[0]) == 20_000_000
        assert db.execute("select 2").fetchone() == (2,)
    rows: list[Message] = [m for m in pump.messages if m.kind == "row"]
    assert max(len(m.raw) for m in rows) <= 1 << 18
    assert sum(m.count for m in rows) == 2


def test_big_rows_masked(people: Address) -> None:
    with Pump(people, masking(MaskBy(lambda text: text[:3], "s"))) as pump, connect(pump) as db:
        assert db.execute("select repeat('x', 3000000) s, 1").fetchone() == ("xxx", 1)
    assert pump.errors == []


def test_copy_in_that_a_trigger_fails(people: Address) -> None:
    """The error comes before the server has read the Sync that went with the Execute."""
    with Pump(people) as pump, connect(pump, autocommit=True) as db:
        for _ in range(3):
            with (
                pytest.raises(errors.RaiseException),
                db.cursor().copy("copy wire.trapped from stdin") as copy,
            ):
                copy.write_row((1,))
            assert db.execute("select %s::int", [5]).fetchone() == (5,)
    assert pump.errors == []


def test_other_encodings(people: Address) -> None:
    with Pump(people, masking(MaskBy(lambda t: t.replace("é", "è"), "s"))) as pump, connect(pump) as db:
        db.execute("set client_encoding to latin1")
        assert db.execute("select 'café' s").fetchone() == ("cafè",)
        db.execute("set client_encoding to sjis")
        assert db.execute("select '表' s").fetchone() == ("表",)
    assert [m.text for m in pump.messages if m.kind == "query" and "表" in m.text]


def test_statements_by_many_threads(people: Address) -> None:
    def work(port: Callable[[], int]) -> None:
        with psycopg.connect(host="127.0.0.1", port=port(), user="tester", password="secret", dbname="shop") as db:
            for i in range(20):
                assert db.execute("select %s::int", [i]).fetchone() == (i,)

    with Pump(people) as pump:
        threads = [threading.Thread(target=work, args=(lambda: pump.port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert pump.errors == []
