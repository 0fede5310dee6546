"""Real clients run unchanged: psql, pgbench in its three protocols, psycopg 3, asyncpg."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Iterator

import asyncpg
import psycopg
import pytest

from appliance.lab.servers import Postgres, postgres_bin
from appliance.model import Address
from tests.gate import Gate

pytestmark = pytest.mark.peer

HOLD = """
rules:
  - {id: ask-first, when: {effect: schema}, do: approve, approvers: {group: dba, within: 4s}}
  - {id: rest, do: allow}
"""


@pytest.fixture(scope="module")
def gate(postgres: Postgres) -> Iterator[Gate]:
    with Gate(Address("127.0.0.1", postgres.port)) as gate:
        yield gate


@pytest.fixture
def holding(postgres: Postgres) -> Iterator[Gate]:
    with Gate(Address("127.0.0.1", postgres.port), HOLD) as gate:
        yield gate


def environment(gate: Gate) -> dict[str, str]:
    names = {"PGHOST": "127.0.0.1", "PGPORT": str(gate.port), "PGUSER": "acme", "PGPASSWORD": "secret", "PGDATABASE": "shop"}
    return {**os.environ, **names, "PGSSLMODE": "prefer"}


def psql(gate: Gate, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", *words]
    return subprocess.run(command, input=script, env=environment(gate), capture_output=True, text=True, timeout=30)


def connect(gate: Gate) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(f"host=127.0.0.1 port={gate.port} user=acme password=secret dbname=shop", autocommit=True)


class TestPsql:
    def test_a_script(self, gate: Gate) -> None:
        done = psql(gate, "select id, name from users order by id;\n\\d orders\n\\copy users (id) to stdout\n")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1|Ada\n2|Grace\n")
        assert done.stdout.endswith("1\n2\n3\n")

    def test_copy_in_and_a_transaction(self, gate: Gate) -> None:
        script = "begin;\ncreate temp table t (a int, b text);\n\\copy t from stdin\n1\tx\n2\ty\n\\.\nselect count(*), max(b) from t;\nrollback;\n"
        assert psql(gate, script).stdout == "2|y\n"

    def test_errors_look_as_they_do_direct(self, gate: Gate, postgres: Postgres) -> None:
        through = psql(gate, "select 1/0; select * from nowhere;").stderr
        direct = environment(gate) | {"PGPORT": str(postgres.port)}
        command = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t"]
        plain = subprocess.run(command, input="select 1/0; select * from nowhere;", env=direct, capture_output=True, text=True)
        assert through == plain.stderr

    def test_a_wrong_password_fails_as_it_does_direct(self, gate: Gate) -> None:
        command = [str(postgres_bin() / "psql"), "-X", "-c", "select 1"]
        done = subprocess.run(command, env=environment(gate) | {"PGPASSWORD": "no"}, capture_output=True, text=True)
        assert done.returncode == 2
        assert "password authentication failed" in done.stderr


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench(gate: Gate, postgres: Postgres, protocol: str) -> None:
    program = str(postgres_bin() / "pgbench")
    if not postgres.admin("select to_regclass('pgbench_accounts')", "shop"):
        subprocess.run([program, "-i", "-q", "-s", "1"], env=environment(gate), check=True, capture_output=True)
    words = [program, "-n", "-M", protocol, "-c", "4", "-j", "2", "-t", "50"]
    done = subprocess.run(words, env=environment(gate), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "number of transactions actually processed: 200/200" in done.stdout
    assert "number of failed transactions: 0" in done.stdout


def test_psycopg_pipeline(gate: Gate) -> None:
    with connect(gate) as connection, connection.pipeline():
        cursors = [connection.execute("select %s::int", (n,)) for n in range(200)]
        assert [c.fetchone() for c in cursors] == [(n,) for n in range(200)]


def test_psycopg_server_cursor_and_copy(gate: Gate) -> None:
    with connect(gate) as connection:
        with connection.transaction(), connection.cursor("c", binary=True) as cursor:
            cursor.itersize = 7
            cursor.execute("select g from generate_series(1, 100) g")
            assert [row[0] for row in cursor] == list(range(1, 101))
        connection.execute("create temp table t (a int, b text)")
        with connection.cursor().copy("copy t from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(1000):
                copy.write_row((n, "x" * n))
        assert connection.execute("select count(*), sum(length(b)) from t").fetchone() == (1000, 499500)


def test_notifications_come_at_any_time(gate: Gate) -> None:
    with connect(gate) as one, connect(gate) as two:
        one.execute("listen news")
        two.execute("notify news, 'hello'")
        assert [n.payload for n in one.notifies(timeout=20, stop_after=1)] == ["hello"]


def test_asyncpg(gate: Gate) -> None:
    async def main() -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=gate.port, user="acme", password="secret", database="shop")
        try:
            assert await connection.fetchval("select sum(g) from generate_series(1, $1::int) g", 1000) == 500500
            rows = await connection.fetch("select name, tags from users where id = any($1::int[]) order by id", [1, 2])
            assert [tuple(r) for r in rows] == [("Ada", ["a", "123-45-6789"]), ("Grace", ["b"])]
            async with connection.transaction():
                seen = [r["g"] async for r in connection.cursor("select g from generate_series(1, 500) g", prefetch=50)]
            assert seen == list(range(1, 501))
        finally:
            await connection.close()

    asyncio.run(main())


def test_a_long_query_is_cancelled(gate: Gate) -> None:
    """`cancel_safe`: the older call holds the interpreter that the gate needs, too."""
    with connect(gate) as connection:
        timer = threading.Timer(0.5, connection.cancel_safe)
        timer.start()
        started = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("select pg_sleep(20)")
        timer.join()
        assert time.monotonic() - started < 10
        assert connection.execute("select 1").fetchone() == (1,)


class TestHeld:
    """A statement that waits for a reviewer."""

    def test_approved_it_runs(self, holding: Gate) -> None:
        notices: list[str] = []
        with connect(holding) as connection:
            connection.add_notice_handler(lambda n: notices.append(n.message_primary or ""))
            worker = threading.Thread(target=connection.execute, args=("create temp table held (a int)",))
            worker.start()
            question = holding.wait_question()
            assert question.text == "create temp table held (a int)"
            assert question.raw.endswith(b"create temp table held (a int)\0")
            assert question.flow.process == holding.process
            holding.say(question, approved=True)
            worker.join(10)
            assert connection.execute("select count(*) from held").fetchone() == (0,)
        assert any(question.id in notice for notice in notices)

    def test_denied_it_fails_and_the_connection_lives(self, holding: Gate) -> None:
        holding.answer = lambda question: None
        with connect(holding) as connection:
            threading.Timer(0.1, lambda: holding.say(holding.wait_question(), approved=False)).start()
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="denied by vendorgate"):
                connection.execute("create temp table held (a int)")
            assert connection.execute("select 1").fetchone() == (1,)

    def test_silence_is_a_denial(self, holding: Gate) -> None:
        with connect(holding) as connection:
            started = time.monotonic()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("create temp table held (a int)")
            assert 3.5 < time.monotonic() - started < 30
        assert any("time-out" in note.by for note in holding.of("answered"))

    def test_the_client_takes_it_back(self, holding: Gate) -> None:
        with connect(holding) as connection:
            timer = threading.Timer(0.3, connection.cancel_safe)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
                connection.execute("create temp table held (a int)")
            timer.join()
            assert connection.execute("select 1").fetchone() == (1,)

    def test_the_client_leaves(self, holding: Gate) -> None:
        connection = connect(holding)
        connection.pgconn.send_query(b"create table left_behind (a int)")
        connection.pgconn.flush()
        holding.wait_question()
        connection.close()
        until = time.monotonic() + 5
        while not holding.of("closed") and time.monotonic() < until:
            time.sleep(0.02)
        assert any(note.text.startswith("denied") for note in holding.of("answered"))

    def test_prepared_it_is_asked_once_a_run_with_its_values(self, holding: Gate) -> None:
        """Parse passes, Bind is held and shows the values, Execute rides on it; the next Bind asks again."""
        holding.reload(HOLD.replace("effect: schema", "effect: write"))
        with connect(holding) as connection:
            connection.execute("create temp table t (a int)")
            for n in (1, 2):
                timer = threading.Timer(0.1, lambda n=n: holding.say(holding.wait_question(n), approved=True))
                timer.start()
                connection.execute("insert into t values (%s)", (n + 40,), prepare=True)
            assert [str(n + 40) in q.text for n, q in enumerate(holding.questions, 1)] == [True, True]
            assert connection.execute("select array_agg(a) from t").fetchone() == ([41, 42],)


def test_rules_reload_reaches_a_live_session(postgres: Postgres) -> None:
    with Gate(Address("127.0.0.1", postgres.port)) as gate, connect(gate) as connection:
        prepared = "select count(*) from orders where id > %s"
        connection.execute(prepared, (0,), prepare=True)
        gate.reload("rules:\n  - {id: no-orders, when: {table: [public.orders]}, do: block}\n  - {id: rest, do: allow}\n")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(prepared, (0,), prepare=True)
        gate.reload("rules:\n  - {id: all, do: allow}\n")
        assert connection.execute(prepared, (0,), prepare=True).fetchone() == (3,)
