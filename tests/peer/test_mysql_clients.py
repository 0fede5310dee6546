"""Real clients of MySQL run unchanged: mariadb and mariadb-dump, PyMySQL, mysql2 of Node. (mysqlclient: its own suite.)"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from appliance.lab.servers import MariaDB
from appliance.model import Address, Process
from tests.gate import Gate

pytestmark = pytest.mark.peer
NODE_MODULES = Path(__file__).parents[2] / "build/node/node_modules"

RULES = """
rules:
  - {id: no-drop, when: {effect: drop}, do: block}
  - {id: ask-first, when: {effect: schema}, do: approve, approvers: {group: dba, within: 20s}}
  - {id: hide-ssn, when: {column: [shop.users.ssn]}, do: mask, with: keep-last-4}
  - {id: no-upload, when: {effect: copy}, do: block}
  - {id: rest, do: allow}
"""
AGENT = Process(4242, 1, "/usr/bin/mariadb", ("mariadb",), "acme.service", 1000)


@pytest.fixture
def server(mariadb: MariaDB) -> Address:
    return Address("127.0.0.1", mariadb.port)


@pytest.fixture
def gate(server: Address) -> Iterator[Gate]:
    with Gate(server, protocol="mysql", process=AGENT) as gate:
        yield gate


@pytest.fixture
def ruled(server: Address) -> Iterator[Gate]:
    with Gate(server, RULES, protocol="mysql", process=AGENT) as gate:
        yield gate


def client(gate: Gate, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    where = ["-h127.0.0.1", f"-P{gate.port}", "-uacme", "-psecret"]
    command = ["mariadb", "--no-defaults", "--batch", "--skip-column-names", *where, *words, "shop"]
    return subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)


def connect(gate: Gate, **options: Any) -> "pymysql.Connection[Any]":
    given = {"user": "acme", "password": "secret", "database": "shop", "autocommit": True, **options}
    return pymysql.connect(host="127.0.0.1", port=gate.port, **given)


def run(connection: "pymysql.Connection[Any]", text: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


class TestMariadb:
    @pytest.mark.parametrize("words", [[], ["--compress"], ["--quick"], ["--binary-mode"]])
    def test_a_script(self, gate: Gate, words: list[str]) -> None:
        done = client(gate, "select id, name from users order by id;\nshow tables;\ndelimiter //\nselect 1; select 2//\n", *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("1\tAda\n2\tGrace\n3\tEdsger\norders\n")
        assert done.stdout.endswith("1\n2\n")
        assert gate.of("incident") == []

    def test_errors_and_warnings(self, gate: Gate) -> None:
        done = client(gate, "select 1; select nothing; select 2;", "--force", "--show-warnings")
        assert done.stdout == "1\n2\n"
        assert "ERROR 1054 (42S22)" in done.stderr

    def test_load_data_local(self, gate: Gate, tmp_path: Path) -> None:
        file = tmp_path / "rows"
        file.write_text("".join(f"{i}\tx\n" for i in range(20_000)))
        script = f"create temporary table t (a int, b text); load data local infile '{file}' into table t; select count(*) from t;"
        for words in ([], ["--compress"]):
            done = client(gate, script, "--local-infile", *words)
            assert (done.stdout, done.stderr) == ("20000\n", "")

    def test_a_dump_is_what_it_is_direct(self, gate: Gate, mariadb: MariaDB) -> None:
        def dump(port: int, *words: str) -> str:
            where = ["-h127.0.0.1", f"-P{port}", "-utester", "-psecret"]
            command = ["mariadb-dump", "--no-defaults", *where, "--skip-dump-date", "--routines", *words, "shop"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            return done.stdout

        direct = dump(mariadb.port)
        assert "123-45-6789" in direct
        assert dump(gate.port) == direct
        assert dump(gate.port, "--compress") == direct

    def test_many_rows(self, gate: Gate) -> None:
        done = client(gate, "select seq, repeat('x', 100) from seq_1_to_100000;", "--quick")
        assert done.stdout.count("\n") == 100_000
        assert len(done.stdout) == sum(len(str(i)) for i in range(1, 100_001)) + 102 * 100_000

    def test_rules(self, ruled: Gate) -> None:
        done = client(ruled, "select id, ssn from users order by id; drop table users; select 1;", "--force")
        assert done.stdout == "1\t*******6789\n2\t*******4320\n3\tNULL\n1\n"
        assert "ERROR 1142 (42000)" in done.stderr
        assert "denied by vendorgate" in done.stderr
        assert {rule for verdict, rule, _ in ruled.verdicts() if verdict == "block"} == {"no-drop"}


class TestPyMySQL:
    def test_plugins(self, server: Address, mariadb: MariaDB) -> None:
        mariadb.admin("install soname 'auth_ed25519'")
        mariadb.admin("create or replace user ed identified via ed25519 using password('secret')")
        mariadb.admin("create or replace user empty identified by ''; grant select on shop.* to ed, empty")
        with Gate(server, protocol="mysql", process=AGENT) as gate:
            done = subprocess.run(
                ["mariadb", "--no-defaults", "-h127.0.0.1", f"-P{gate.port}", "-ued", "-psecret", "-Nse", "select current_user()"],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert (done.stdout, done.stderr) == ("ed@%\n", "")
            with connect(gate, user="empty", password="") as db:
                assert run(db, "select 1") == ((1,),)
            for user, password in (("acme", "wrong"), ("nobody", "x")):
                with pytest.raises(pymysql.err.OperationalError, match=r"1045|1130"):
                    pymysql.connect(host="127.0.0.1", port=gate.port, user=user, password=password)
            said = b"".join(note.raw for note in gate.of("message"))
            assert b"secret" not in said

    def test_what_was_said_of_the_password_is_not_recorded(self, server: Address) -> None:
        sent: list[bytes] = []
        with Gate(server, protocol="mysql", process=AGENT) as gate:
            db = connect(gate, defer_connect=True)
            write = db._write_bytes

            def spy(data: bytes) -> None:
                sent.append(data)
                write(data)

            db._write_bytes = spy
            db.connect()
            (startup,) = [note.raw for note in gate.of("message") if note.message == "startup"]
            db.close()
        login = sent[0]
        answer = login[login.index(b"acme\0\x14") + 6 :][:20]
        assert answer not in startup
        assert startup == login.replace(answer, bytes(20))

    def test_a_statement_is_held_and_approved(self, ruled: Gate) -> None:
        with connect(ruled) as db:
            done: list[Any] = []
            thread = threading.Thread(target=lambda: done.append(run(db, "create table held (a int)")))
            thread.start()
            question = ruled.wait_question()
            assert question.text == "create table held (a int)"
            assert question.cancel_key == db.thread_id().to_bytes(4, "little")
            with connect(ruled) as other:
                assert run(other, "show tables like 'held'") == ()
            ruled.say(question, True)
            thread.join(20)
            assert len(done) == 1
            assert run(db, "select count(*) from held") == ((0,),)

    def test_a_held_statement_is_taken_back_by_kill(self, ruled: Gate) -> None:
        with connect(ruled) as db, connect(ruled) as other:
            failed: list[Exception] = []

            def work() -> None:
                try:
                    run(db, "create table killed (a int)")
                except pymysql.err.MySQLError as error:
                    failed.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            ruled.wait_question()
            run(other, f"kill query {db.thread_id()}")
            thread.join(20)
            assert [error.args[0] for error in failed] == [1317]
            assert run(db, "select 1") == ((1,),)
            assert run(other, "show tables like 'killed'") == ()

    def test_denied_in_a_transaction(self, ruled: Gate) -> None:
        with connect(ruled, autocommit=False) as db:
            run(db, "insert into orders (id, user_id) values (50, 1)")
            with pytest.raises(pymysql.err.OperationalError, match="denied by vendorgate"):
                run(db, "drop table orders")
            assert run(db, "select count(*) from orders where id = 50") == ((1,),)
            db.rollback()
            assert run(db, "select count(*) from orders where id = 50") == ((0,),)

    def test_several_statements_are_one(self, ruled: Gate) -> None:
        with connect(ruled, client_flag=CLIENT.MULTI_STATEMENTS) as db:
            with pytest.raises(pymysql.err.OperationalError, match="denied by vendorgate"):
                run(db, "delete from orders where id = 1; drop table users")
            assert run(db, "select count(*) from orders where id = 1") == ((1,),)

    def test_an_upload_is_judged(self, ruled: Gate, tmp_path: Path) -> None:
        file = tmp_path / "rows"
        file.write_text("1\tx\n")
        with connect(ruled, local_infile=True) as db:
            with pytest.raises(pymysql.err.OperationalError, match="denied by vendorgate"):
                run(db, f"load data local infile '{file}' into table orders (id, note)")
            assert run(db, "select 1") == ((1,),)

    def test_set_names_changes_how_statements_are_read(self, server: Address, mariadb: MariaDB) -> None:
        """The client does not ask for session tracking; rules by name hold all the same."""
        mariadb.admin("create or replace table `caf\u00e9` (a int)", "shop")
        rules = "rules:\n  - {id: no-cafe, when: {table: [shop.caf\u00e9]}, do: block}\n  - {id: rest, do: allow}\n"
        with Gate(server, rules, protocol="mysql", process=AGENT) as gate, connect(gate, charset="latin1") as db:
            for encoding, names in (("latin-1", "latin1"), ("utf-8", "utf8mb4")):
                run(db, f"set names {names}")
                with pytest.raises(pymysql.err.OperationalError, match="denied by vendorgate"):
                    db._execute_command(3, "select * from `caf\u00e9`".encode(encoding))
                    db._read_query_result()


SCRIPT = r"""
const mysql = require(process.env.MODULES + '/mysql2/promise');
(async () => {
  const out = {};
  for (const compress of [false, true]) {
    const db = await mysql.createConnection({host: '127.0.0.1', port: +process.env.PORT, user: 'acme', password: 'secret',
      database: 'shop', compress, multipleStatements: true,
      infileStreamFactory: () => require('stream').Readable.from([Buffer.from('7\tlocal\n')])});
    const key = compress ? 'compressed' : 'plain', got = out[key] = {};
    got.query = (await db.query('select id, ssn from users order by id'))[0];
    got.execute = (await db.execute('select id, ssn, salary, name from users where id > ? and name <> ?', [0, 'x']))[0];
    got.again = (await db.execute('select id, ssn, salary, name from users where id > ? and name <> ?', [1, 'y']))[0].length;
    got.multi = (await db.query('select 1 as a; select 2 as b'))[0];
    await db.query('create temporary table loads (a int, b text)').catch(e => { got.made = e.message; });
    got.load = await db.query("load data local infile 'any' into table loads").then(r => r[0].affectedRows, e => e.errno);
    got.dropped = await db.query('drop table users').then(() => 'done', e => [e.errno, e.sqlState]);
    got.prepared = await db.execute('drop table orders').then(() => 'done', e => [e.errno, e.sqlState]);
    got.long = (await db.execute('select ? as v', ['x'.repeat(300000)]))[0][0].v.length;
    got.rows = 0;
    await new Promise((done, fail) => db.connection.query('select a.id from orders a, orders b, orders c, orders d').on('result', () => got.rows++)
      .on('end', done).on('error', fail));
    await db.changeUser({user: 'acme', password: 'secret', database: 'other'});
    got.changed = (await db.query('select database() as d'))[0][0].d;
    await db.ping();
    await db.end();
  }
  console.log(JSON.stringify(out));
})().catch(e => { console.error(e); process.exit(1); });
"""


class TestMysql2:
    def node(self, gate: Gate) -> Any:
        environment = {**os.environ, "PORT": str(gate.port), "MODULES": str(NODE_MODULES)}
        done = subprocess.run(["node", "-e", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def test_allowed(self, gate: Gate, mariadb: MariaDB) -> None:
        gate.reload("rules:\n  - {id: no-drop, when: {effect: drop}, do: block}\n  - {id: all, do: allow}\n")
        for got in self.node(gate).values():
            assert got["query"][0] == {"id": 1, "ssn": "123-45-6789"}
            assert [row["name"] for row in got["execute"]] == ["Ada", "Grace", "Edsger"]
            assert got["execute"][0]["salary"] == "5000.00"
            assert (got["again"], got["multi"]) == (2, [[{"a": 1}], [{"b": 2}]])
            assert (got["load"], got["rows"], got["long"], got["changed"]) == (1, 81, 300_000, "other")
            assert got["dropped"] == got["prepared"] == [1142, "42000"]
        assert gate.of("incident") == []

    def test_masked(self, ruled: Gate) -> None:
        ruled.answer = None
        ruled.reload(RULES.replace("when: {effect: schema}", "when: {effect: grant}"))
        for got in self.node(ruled).values():
            assert [row["ssn"] for row in got["query"]] == ["*******6789", "*******4320", None]
            assert [row["ssn"] for row in got["execute"]] == ["*******6789", "*******4320", None]
            assert (got["load"], got["rows"]) == (1142, 81)
        assert ruled.of("incident") == []


def test_a_connection_that_waits_lives(gate: Gate) -> None:
    with connect(gate) as db:
        time.sleep(0.3)
        assert run(db, "select 1") == ((1,),)
