"""The wire between real clients and a real MariaDB."""

from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT

from appliance.lab.servers import MariaDB
from appliance.model import Address, Column, Message
from appliance.wire import Cell, Plan
from appliance.wire.mysql import capabilities as caps
from tests.wire.mysql.build import (
    PING,
    RESET_CONNECTION,
    STATISTICS,
    change_user,
    close,
    command,
    execute,
    fetch,
    long_data,
    numbered,
    prepare,
    query,
    reset,
    string,
)
from tests.wire.mysql.speak import WANTED, Speaker
from tests.wire.pump import ALLOW, Judge, Pump, Verdict

pytestmark = pytest.mark.peer
NO = Verdict(deny="no, says vendorgate")
EXTENDED = WANTED | caps.PROGRESS | caps.BULK | caps.EXTENDED_METADATA | caps.CACHE_METADATA


@pytest.fixture
def server(mariadb: MariaDB) -> Address:
    return Address("127.0.0.1", mariadb.port)


def connect(pump: Pump, **options: Any) -> "pymysql.Connection[Any]":
    given = {"user": "tester", "password": "secret", "database": "shop", "autocommit": True, **options}
    return pymysql.connect(host="127.0.0.1", port=pump.port, **given)


def run(connection: "pymysql.Connection[Any]", text: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


def refusing(word: str, *kinds: str) -> Judge:
    return lambda message: NO if message.kind in (kinds or ("query",)) and word in message.text else ALLOW


def stars(text: str) -> str:
    return "*" * len(text)


def mask(*names: str) -> Plan:
    def plan(columns: tuple[Column, ...]) -> list[Cell | None]:
        return [stars if "*" in names or c.name in names else None for c in columns]

    return plan


def masking(plan: Plan) -> Judge:
    return lambda message: Verdict(plan=plan) if message.kind in ("query", "execute", "fetch") else ALLOW


def kinds(pump: Pump) -> list[str]:
    return [message.kind for message in pump.messages]


def test_queries_through_the_wire(server: Address) -> None:
    with Pump(server) as pump, connect(pump) as db:
        assert run(db, "select id, name from users order by id") == ((1, "Ada"), (2, "Grace"), (3, "Edsger"))
        with pytest.raises(pymysql.err.ProgrammingError, match="1146"):
            run(db, "select * from none_such")
        assert run(db, "select 1 where false") == ()
        db.ping(reconnect=False)
    assert pump.errors == []


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_pieces_of_any_size(server: Address, piece: int) -> None:
    with Pump(server, piece=piece) as pump, connect(pump) as db:
        assert run(db, "select ssn from users order by id") == (("123-45-6789",), ("987-65-4320",), (None,))


def test_a_refusal_is_an_error_and_nothing_else(server: Address) -> None:
    with Pump(server, refusing("drop")) as pump, connect(pump, autocommit=False) as db:
        run(db, "insert into orders (id, user_id) values (100, 1)")
        with pytest.raises(pymysql.err.OperationalError) as caught:
            run(db, "drop table orders")
        assert caught.value.args == (1142, "no, says vendorgate")
        assert run(db, "select count(*) from orders where id = 100") == ((1,),), "the transaction lives on"
        db.rollback()
        assert run(db, "select count(*) from orders where id = 100") == ((0,),)


def test_a_cancelled_statement(server: Address) -> None:
    judge: Judge = lambda m: Verdict(deny="taken back", code="cancelled") if "sleep" in m.text else ALLOW  # noqa: E731
    with Pump(server, judge) as pump, connect(pump) as db:
        with pytest.raises(pymysql.err.OperationalError) as caught:
            run(db, "select sleep(1)")
        assert caught.value.args[0] == 1317


def test_pipelined_refusals_keep_their_place(server: Address) -> None:
    with Pump(server, refusing("drop")) as pump, Speaker(pump.port) as db:
        answers = db.ask(query("select sleep(0.2), 1") + query("drop table users") + query("select 2") + query("drop table x"))
        assert [a[:1] for a in answers if a[:1] == b"\xff"] == [b"\xff", b"\xff"]
        errors = [i for i, a in enumerate(answers) if a[:1] == b"\xff"]
        rows = [i for i, a in enumerate(answers) if a in (b"\x010\x011", b"\x012")]
        assert rows[0] < errors[0] < rows[1] < errors[1]


def test_masked_text_rows_stay_typed(server: Address) -> None:
    with Pump(server, masking(mask("ssn", "salary", "at", "profile"))) as pump, connect(pump) as db:
        found = run(db, "select id, ssn, salary, profile, now() as at, name from users where id = 1")
        assert found == ((1, "*" * 11, None, '"' + "*" * 30 + '"', None, "Ada"),) or found[0][:3] == (1, "*" * 11, None)
        assert found[0][4] is None
        assert found[0][5] == "Ada"


def test_a_masked_column_may_be_null_for_the_client(server: Address) -> None:
    with Pump(server, masking(mask("id"))) as pump, connect(pump) as db:
        with db.cursor() as cursor:
            cursor.execute("select id, name from users where id = 1")
            assert cursor.fetchall() == ((None, "Ada"),)
            fields = cursor._result.fields
        assert [field.flags & 1 for field in fields] == [0, 1], "NOT NULL is taken back for what is masked"


def test_masked_binary_rows(server: Address) -> None:
    text = "select id, ssn, salary, date '2020-02-03' d, time '10:11:12.5' t, 1.5e0 r, id > 0 b, null n from users where id=1"
    for names, expected in (
        (("none",), None),
        (("ssn", "d", "n"), "*" * 11),
    ):
        with Pump(server, masking(mask(*names))) as pump, Speaker(pump.port) as db:
            number = db.prepare(text)
            (row,) = [a for a in db.ask(execute(number)) if a[:1] == b"\0"]
            nulls = int.from_bytes(row[1:3], "little") >> 2
            if expected is None:
                assert nulls == 0b10000000
                assert b"123-45-6789" in row
            else:
                assert nulls == 0b10001000
                assert string(expected.encode()) in row
                assert b"123-45-6789" not in row


def test_a_cursor_is_masked_by_the_plan_of_its_execution(server: Address) -> None:
    def judge(message: Message) -> Verdict:
        return Verdict(plan=mask("ssn")) if message.kind == "execute" else ALLOW

    for capabilities in (WANTED, WANTED & ~caps.DEPRECATE_EOF, EXTENDED):
        with Pump(server, judge) as pump, Speaker(pump.port, capabilities) as db:
            number = db.prepare("select id, ssn from users order by id")
            opened = db.ask(execute(number, flags=1))
            assert opened[-1][0] == 0xFE
            assert not any(a[:1] == b"\0" for a in opened)
            rows = [a for a in db.ask(fetch(number, 2)) + db.ask(fetch(number, 2)) if a[:1] == b"\0"]
            assert len(rows) == 3
            assert not any(b"123-45" in row or b"987-65" in row for row in rows)
        assert pump.errors == []
        assert kinds(pump).count("suspended") >= 2


def test_long_data(server: Address) -> None:
    with Pump(server) as pump, Speaker(pump.port) as db:
        number = db.prepare("select length(?), ?")
        db.say(long_data(number, 0, b"x" * 1000) + long_data(number, 0, b"y"))
        answers = db.ask(execute(number, b"\0", bytes([252, 0, 253, 0]), string(b"abc")))
        assert any(b"abc" in a for a in answers if a[:1] == b"\0")
        (message,) = [m for m in pump.messages if m.kind == "execute"]
        assert [value.data for value in message.values] == [b"x" * 1000 + b"y", b"abc"]


def test_refused_long_data_refuses_the_execution(server: Address) -> None:
    judge: Judge = lambda message: NO if message.kind == "long-data" else ALLOW  # noqa: E731
    with Pump(server, judge) as pump, Speaker(pump.port) as db:
        number = db.prepare("select ?")
        db.say(long_data(number, 0, b"x"))
        (answer,) = db.ask(execute(number, b"\0", bytes([252, 0])))
        assert answer[:3] == b"\xff\xdb\x04"
        db.ask(reset(number))
        assert db.ask(execute(number, b"\0", bytes([253, 0]), string(b"ok")))[-1][0] == 0xFE


def test_types_of_a_refused_execution_are_not_lost(server: Address) -> None:
    refused: list[Message] = []

    def judge(message: Message) -> Verdict:
        if message.kind == "execute" and not refused:
            refused.append(message)
            return NO
        return ALLOW

    with Pump(server, judge) as pump, Speaker(pump.port) as db:
        number = db.prepare("select ? + 1")
        assert db.ask(execute(number, b"\0", bytes([3, 0]), b"\1\0\0\0"))[0][:1] == b"\xff"
        answers = db.ask(execute(number, b"\0", None, b"\2\0\0\0"))
        assert answers[-1][0] == 0xFE, answers
        assert any(a[:1] == b"\0" and a[2:3] == b"\3" for a in answers)
        _, second = [m for m in pump.messages if m.kind == "execute"]
        assert [value.data for value in second.values] == [b"2"]


def test_the_statement_prepared_last(server: Address) -> None:
    with Pump(server, refusing("refused", "prepare")) as pump, Speaker(pump.port, EXTENDED) as db:
        answers = db.ask(prepare("select 41") + execute(-1))
        assert any(a[:1] == b"\0" and b"\x29" in a for a in answers)
        answers = db.ask(prepare("select 'refused'") + execute(-1))
        assert [a[:3] for a in answers] == [b"\xff\x76\x04", b"\xff\xdb\x04"], "not the one prepared before"
        assert db.ask(PING)[0][0] == 0


def test_definitions_the_client_has_are_masked_by(server: Address) -> None:
    with Pump(server, masking(mask("ssn"))) as pump, Speaker(pump.port, EXTENDED) as db:
        number = db.prepare("select id, ssn from users where id = 1")
        for _ in range(3):
            answers = db.ask(execute(number))
            (row,) = [a for a in answers if a[:1] == b"\0"]
            assert string(b"*" * 11) in row
            assert len(answers) == 3, "the definitions are left out"


def test_bulk(server: Address) -> None:
    with Pump(server) as pump, Speaker(pump.port, EXTENDED) as db:
        db.ask(query("create temporary table shop.bulk (a int, b text)"))
        number = db.prepare("insert into shop.bulk values (?, ?)")
        rows = b"\0\1\0\0\0" + b"\0\1a" + b"\0\2\0\0\0" + b"\1"
        (answer,) = db.ask(command(250, number.to_bytes(4, "little") + b"\x80\0" + bytes([3, 0, 253, 0]) + rows))
        assert answer[:2] == b"\0\2"
        assert any(a == b"\x012\x011" for a in db.ask(query("select count(*), count(b) from shop.bulk")))
        (message,) = [m for m in pump.messages if m.kind == "bulk-execute"]
        assert [value.data for value in message.values] == [b"1", b"a", b"2", None]
        assert message.count == 2


def test_change_user_and_reset(server: Address) -> None:
    with Pump(server, refusing("", "change-user")) as pump, Speaker(pump.port) as db:
        assert db.ask(change_user())[0][:3] == b"\xff\x76\x04"
        assert db.ask(PING)[0][0] == 0, "a refused change of user leaves the session as it was"
    with Pump(server) as pump, connect(pump) as db2:
        db2._execute_command(31, b"")
        db2._read_ok_packet()
        assert run(db2, "select 1") == ((1,),)
    with Pump(server) as pump, Speaker(pump.port) as db:
        number = db.prepare("select 1")
        assert db.ask(RESET_CONNECTION)[0][0] == 0
        assert db.ask(execute(number))[0][:1] == b"\xff"


def test_change_user_for_good(server: Address) -> None:
    """With an empty answer, so that the server asks by its plugin."""
    with Pump(server) as pump, Speaker(pump.port) as db:
        asked = db.ask_auth(change_user("acme", "shop", b"", db.capabilities), "secret")
        assert asked[-1][0] == 0
        assert any(b"acme@" in a for a in db.ask(query("select current_user()")))
    assert [m.side.value for m in pump.messages if m.secret] == ["client"]


def test_small_commands(server: Address) -> None:
    with Pump(server) as pump, Speaker(pump.port) as db:
        assert db.ask(command(2, b"other"))[0][0] == 0
        assert b"Uptime" in db.ask(STATISTICS)[0]
        assert db.ask(command(27, b"\1\0"))[0][0] in (0, 0xFE)
        assert db.ask(query("select 1; select 2"))[0][0] == 0xFF
        assert db.ask(command(27, b"\0\0"))[0][0] in (0, 0xFE)
        assert db.ask(query("select 1; select 2"))[-1][0] == 0xFE
        assert len(db.ask(command(4, b"users\0"))) == 3
        assert db.ask(command(10))[-1][0] == 0xFE
        assert db.ask(command(13))[-1][0] in (0, 0xFE)
        assert db.ask(numbered(12, 999_999))[0][:1] == b"\xff"
        number = db.prepare("select 1")
        db.say(close(number))
        assert db.ask(execute(number))[0][:1] == b"\xff"
    assert [m.text for m in pump.messages if m.kind == "init-db"] == ["other"]
    assert ("schema", "other") in [(m.name, m.status) for m in pump.messages if m.kind == "parameter"]


@pytest.mark.parametrize("code", [0, 11, 15, 16, 18, 19, 20, 21, 29, 30, 32, 254, 200])
def test_commands_that_are_not_relayed(server: Address, code: int) -> None:
    with Pump(server) as pump, Speaker(pump.port) as db:
        (answer,) = db.ask_refused(command(code, bytes(20)))
        assert answer[:3] == b"\xff\x17\x04"
        assert db.ask(PING)[0][0] == 0
    assert [m.kind for m in pump.messages if m.kind in ("unknown", "replication")] != []


def test_load_data_local(server: Address, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("".join(f"{i}\tname {i}\n" for i in range(5000)))
    with Pump(server) as pump, connect(pump, local_infile=True) as db:
        run(db, "create temporary table loads (a int, b text)")
        run(db, f"load data local infile '{file}' into table loads")
        assert run(db, "select count(*) from loads") == ((5000,),)
        with pytest.raises(pymysql.err.ProgrammingError):
            run(db, f"load data local infile '{file}' into table none_such")
    said = [m for m in pump.messages if m.kind == "copy-data"]
    assert b"name 4999" in b"".join(m.raw for m in said)


def test_a_refused_upload(server: Address, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("1\tx\n" * 40_000)
    judge: Judge = lambda m: NO if m.kind == "copy-data" else ALLOW  # noqa: E731
    with Pump(server, judge, piece=8192) as pump, connect(pump, local_infile=True) as db:
        run(db, "create temporary table loads (a int, b text)")
        with pytest.raises(pymysql.err.OperationalError, match="no, says vendorgate"):
            run(db, f"load data local infile '{file}' into table loads")
        assert run(db, "select count(*) from loads") == ((0,),)
    assert pump.errors == []


def test_several_results(server: Address) -> None:
    with Pump(server, masking(mask("ssn"))) as pump, connect(pump, client_flag=CLIENT.MULTI_STATEMENTS) as db:
        with db.cursor() as cursor:
            cursor.execute("select 1; select ssn from users where id = 1; do 1; call two(2)")
            found = [cursor.fetchall()]
            while cursor.nextset():
                found.append(cursor.fetchall())
        assert [list(one) for one in found] == [[(1,)], [("*" * 11,)], [], [(2, "*" * 11)], [("Grace",)], []]
    columns = [column for m in pump.messages for column in m.columns if column.name == "ssn"]
    assert [(column.origin, column.result, column.place) for column in columns] == [
        ("shop.users.ssn", 1, 0),
        ("shop.users.ssn", 3, 1),
    ]


def test_injected_statements(server: Address) -> None:
    judge: Judge = lambda m: Verdict(inject="select @@sql_mode as mode, 'é' as letter, null") if "2" in m.text and m.kind == "query" else ALLOW  # noqa: E731
    with Pump(server, judge) as pump, connect(pump) as db:
        run(db, "select 1")
        assert run(db, "select 2") == ((2,),)
        with pytest.raises(pymysql.err.ProgrammingError):
            run(db, "select 2 from")
        assert run(db, "select 1") == ((1,),)
    first = next(m for m in pump.messages if m.kind == "injected")
    assert [column.name for column in first.columns] == ["mode", "letter", "NULL"]
    assert b"STRICT_TRANS_TABLES" in (first.values[0].data or b"")
    assert (first.values[1].data, first.values[2].data) == ("é".encode(), None)
    assert kinds(pump).count("injected-done") == 2


def test_an_injected_statement_that_fails(server: Address) -> None:
    with Pump(server, lambda m: Verdict(inject="select no such") if m.kind == "query" else ALLOW) as pump:
        with connect(pump) as db:
            assert run(db, "select 2") == ((2,),)
    done = [m for m in pump.messages if m.kind == "injected-done"]
    assert {(m.status, m.name) for m in done} == {("42S22", "1054")}


def test_redacted_errors(server: Address) -> None:
    judge: Judge = lambda m: Verdict(redact=True) if m.kind == "query" else ALLOW  # noqa: E731
    with Pump(server, judge) as pump, connect(pump) as db:
        with pytest.raises(pymysql.err.MySQLError) as caught:
            run(db, "insert into orders (id, note) select id, ssn from users")
        assert caught.value.args[1] == "duplicate entry for a key (message withheld by vendorgate)"
        run(db, "update users set salary = salary where id = 1")


def test_large_rows_and_statements(server: Address) -> None:
    """More than one packet of 16 MiB up and down, masked and not; numbers of packets stay right."""
    with Pump(server, masking(mask("hidden"))) as pump, connect(pump, max_allowed_packet=1 << 26) as db:
        run(db, "set global max_allowed_packet = 67108864")
    with Pump(server, masking(mask("hidden"))) as pump:
        with connect(pump, max_allowed_packet=1 << 26) as db:
            size = 17 << 20
            assert run(db, f"select repeat('x', {size}) as shown, 1")[0][0] == "x" * size
            found = run(db, f"select repeat('x', {size}) as hidden, 'y' as shown")
            assert found[0] == ("*" * size, "y")
            assert run(db, "select length('" + "z" * size + "')")[0][0] == size
    assert pump.errors == []


def test_compression_with_a_real_client(server: Address) -> None:
    with Pump(server, masking(mask("ssn"))) as pump, Speaker(pump.port, WANTED | caps.COMPRESS) as db:
        answers = db.ask(query("select id, ssn, repeat('x', 1000) from shop.users"))
        assert any(string(b"*" * 11) in a for a in answers)
        answers = db.ask(query("select repeat('abc', 2000000)"))
        assert any(len(a) > 6_000_000 for a in answers)
        assert db.ask(query("select '" + "q" * 100_000 + "'"))[-1][0] == 0xFE
    assert pump.errors == []
