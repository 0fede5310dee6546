"""Statements that wait for a reviewer, on a real MariaDB: what is shown is what runs, and silence is a denial."""

import threading

import pytest
from pymysql.constants import COMMAND

from appliance.lab.servers import MariaDB
from appliance.model import Answered, Question
from appliance.wire.mysql.packets import MAX_STATEMENT
from tests.evasion.mysql.line import ASKER, DENIED, Line, address
from tests.gate import Gate

pytestmark = pytest.mark.peer


def tables(shop: MariaDB, like: str) -> str:
    return shop.admin(f"show tables like '{like}'", "shop")


class Held(threading.Thread):
    """A statement that somebody else must let go."""

    def __init__(self, line: Line, text: str) -> None:
        super().__init__(daemon=True)
        self._line, self._text, self.error = line, text, -1
        self.start()

    def run(self) -> None:
        self.error = self._line.fails(self._text)

    def ended(self) -> int:
        self.join(20)
        assert not self.is_alive(), "it is still held"
        return self.error


GUISES = {
    "plain": "create table {} (a int)",
    "an executable comment": "/*! create table {} (a int) */",
    "EXECUTE IMMEDIATE": "execute immediate 'create table {} (a int)'",
    "several statements": "select 1; create table {} (a int)",
    "a prepared statement": "prepare s from 'create table {} (a int)'; execute s",
}


@pytest.mark.parametrize("name", GUISES)
def test_approved_it_runs_and_denied_it_does_not(shop: MariaDB, name: str) -> None:
    table = "asked_" + name.replace(" ", "_").lower()
    text = GUISES[name].format(table)
    for approved in (False, True):
        with Gate(address(shop), ASKER, protocol="mysql") as gate, Line(gate.port) as line:
            held = Held(line, text)
            question = gate.wait_question()
            assert question.text == text
            assert tables(shop, table) == ""
            gate.say(question, approved)
            assert held.ended() == (0 if approved else DENIED)
            assert line.run("select 1") == [[(1,)]]
        assert tables(shop, table) == (table if approved else "")
    shop.admin(f"drop table {table}", "shop")


def test_a_statement_that_is_prepared_is_asked_for_when_it_runs(shop: MariaDB) -> None:
    with Gate(address(shop), ASKER, protocol="mysql") as gate, Line(gate.port) as line:
        worker = threading.Thread(target=line.binary, args=("create table asked_binary (a int)",), daemon=True)
        worker.start()
        question = gate.wait_question()
        assert question.text == "create table asked_binary (a int)"
        assert tables(shop, "asked_binary") == ""
        gate.say(question, True)
        worker.join(20)
        assert not worker.is_alive()
    assert tables(shop, "asked_binary") == "asked_binary"
    shop.admin("drop table asked_binary", "shop")


@pytest.mark.parametrize("text", ["kill query {}", "KILL /*!50000 QUERY */ {}"])
def test_kill_query_takes_back_what_waits(shop: MariaDB, text: str) -> None:
    """As mysql(1) does on Ctrl-C, over a second connection."""
    with Gate(address(shop), ASKER, protocol="mysql") as gate, Line(gate.port) as line, Line(gate.port) as other:
        number = line.thread_id()
        held = Held(line, "create table asked_taken_back (a int)")
        question = gate.wait_question()
        assert question.cancel_key == number.to_bytes(4, "little")
        other.run(text.format(number))
        assert held.ended() > 0
    assert tables(shop, "asked_taken_back") == ""


def test_rows_of_a_cursor_ride_on_the_approval_of_its_execution(shop: MariaDB) -> None:
    rules = """
rules:
  - {id: ask, when: {table: shop.orders}, do: approve, approvers: {group: dba, within: 20s}}
  - {id: all, do: allow}
"""
    with Gate(address(shop), rules, protocol="mysql") as gate, Line(gate.port) as line:
        worker = threading.Thread(target=line.cursor_rows, args=("select id from orders order by id", 2), daemon=True)
        worker.start()
        gate.say(gate.wait_question(), True)
        worker.join(20)
        assert not worker.is_alive()
        assert len(gate.questions) == 1
        assert line.fetched == 3


WRITES = ASKER.replace("[schema, drop, truncate]", "[schema, drop, truncate, write]")


def test_long_data_of_a_denied_execution_is_not_in_the_next(shop: MariaDB) -> None:
    """The server keeps it, and takes it in place of what the next execution says of that parameter."""

    def answer(question: Question) -> Answered:
        return Answered(question.id, "forbidden" not in question.text, by="dana")

    strings = b"\0\1\xfd\0"
    with Gate(address(shop), WRITES, answer, protocol="mysql") as gate, Line(gate.port) as line:
        number, _ = line.prepared("insert into orders (id, note) values (99, ?)")
        line._execute_command(COMMAND.COM_STMT_SEND_LONG_DATA, number + b"\0\0forbidden")
        assert line.execute(number, strings) == DENIED
        line.execute(number, strings + b"\4fine")
        assert shop.admin("select note from orders where id = 99", "shop") in ("", "fine")
        line._execute_command(COMMAND.COM_STMT_RESET, number)
        line._read_ok_packet()
        assert line.execute(number, strings + b"\4fine") == 0
    assert shop.admin("select note from orders where id = 99", "shop") == "fine"
    shop.admin("delete from orders where id = 99", "shop")


def test_a_statement_too_long_to_be_read_is_not_an_empty_one(shop: MariaDB) -> None:
    """It was prepared as what is asked about when it runs, and ran as a text without a word."""
    shop.admin("create table asked_long (a int)", "shop")
    with Gate(address(shop), ASKER, protocol="mysql") as gate, Line(gate.port) as line:
        number, _ = line.prepared("drop table asked_long /* " + "x" * MAX_STATEMENT + " */")
        held = threading.Thread(target=line.execute, args=(number,), daemon=True)
        held.start()
        gate.say(gate.wait_question(), False)
        held.join(20)
        assert not held.is_alive()
    assert tables(shop, "asked_long") == "asked_long"
    shop.admin("drop table asked_long", "shop")
