"""Ways to a protected value that no row shows: counts, errors, time, a column made of it, a text that is cut anew."""

from collections.abc import Iterator

import pymysql
import pytest
from pymysql.constants import COMMAND

from appliance.lab.servers import MariaDB
from tests.evasion.mysql.line import DENIED, WRITER, Line, address, secret
from tests.gate import Gate

pytestmark = pytest.mark.peer

RULES = WRITER.replace("shop.users.ssn,", "shop.users.ssn, shop.keyed.ssn,")
TABLES = """
create table keyed (ssn char(11) primary key, n int); insert into keyed values ('123-45-6789', 1);
create table cut_anew (id int); insert into cut_anew values (1);
"""


@pytest.fixture(scope="module")
def gate(shop: MariaDB) -> Iterator[Gate]:
    shop.admin(TABLES, "shop")
    with Gate(address(shop), RULES, protocol="mysql") as gate:
        yield gate
    shop.admin("drop table keyed, cut_anew", "shop")


@pytest.fixture
def keyed(gate: Gate) -> Iterator[Line]:
    with Line(gate.port) as line:
        yield line


ORACLES = {
    "rows in both": "select ssn from users intersect all select '123-45-6789'",
    "rows in one": "select ssn from users except all select '123-45-6789'",
    "rows in one, the last of several": "select 1 union all select ssn from users except all select '123-45-6789'",
    "rows an UPDATE changed": "update users set ssn = '123-45-6789' where id = 1",
    "rows an INSERT changed": "insert into users (id, name) values (1, 'x') on duplicate key update ssn = '123-45-6789'",
    "what stands behind a match": "select field('123-45-6789', ssn, concat(sleep(1), '')) from users where id = 1",
    "the order of rows": "alter table users order by ssn",
    "a default of a new column": "alter table users add column oracle char(11) default (ssn)",
    "a default that calls": "alter table users add column oracle char(11) default concat(ssn)",
    "a default in parentheses": "alter table users add column (oracle char(11) default (ssn))",
    "a foreign key": "create table oracle (ssn char(11), foreign key (ssn) references keyed (ssn))",
    "a foreign key of a column": "create table oracle (ssn char(11) references keyed (ssn))",
    "a foreign key of a new column": "alter table orders add column oracle char(11) references keyed (ssn)",
}  # fmt: skip


@pytest.mark.parametrize("name", ORACLES)
def test_it_is_refused(shop: MariaDB, keyed: Line, name: str) -> None:
    assert keyed.fails(ORACLES[name]) == DENIED
    assert shop.admin("show tables like 'oracle'", "shop") == ""
    assert shop.admin("show columns from users like 'oracle'", "shop") == ""


def test_a_plain_default_and_another_parent_are_let_through(shop: MariaDB, keyed: Line) -> None:
    assert keyed.fails("alter table users add column plain int not null default 7") == 0
    assert keyed.fails("create table parted (id int, foreign key (id) references users (id))") == 0
    shop.admin("drop table parted; alter table users drop column plain", "shop")


ANEW = "select '\u20ac\\', ssn from users -- ', id from cut_anew"
"""Of UTF-8 one string and a number; of GBK, which takes the backslash for half a character, the protected column."""


def test_a_prepared_text_that_the_server_cuts_anew(shop: MariaDB, keyed: Line) -> None:
    """A changed table makes the server prepare again, in the charset of then."""
    number, columns = keyed.prepared(ANEW)
    assert columns == 2
    keyed.run("set names gbk")
    shop.admin("alter table cut_anew add column more int", "shop")
    keyed.seen = b""
    keyed._execute_command(COMMAND.COM_STMT_EXECUTE, number + b"\0" + (1).to_bytes(4, "little"))
    try:
        if keyed._read_packet().get_all_data()[:1] != b"\0":
            keyed.to_the_end()
            keyed.to_the_end()
    except pymysql.err.MySQLError:
        pass
    shop.admin("alter table cut_anew drop column more", "shop")
    assert not secret(keyed.seen)


def test_a_prepared_text_with_a_name_that_the_server_cuts_anew(shop: MariaDB, keyed: Line) -> None:
    keyed.run("prepare anew from " + "\"" + ANEW.replace("\\", "\\\\") + "\"")
    keyed.run("set names gbk")
    shop.admin("alter table cut_anew add column more int", "shop")
    keyed.seen = b""
    keyed.fails("execute anew")
    shop.admin("alter table cut_anew drop column more", "shop")
    assert not secret(keyed.seen)


def test_a_prepared_text_runs_on_under_settings_that_do_not_matter_to_it(keyed: Line) -> None:
    keyed.run("prepare quoted from 'select \"a\", id from users where id = 1'")
    keyed.run("set names latin1")
    assert keyed.run("execute quoted") == [[("a", 1)]]


def test_many_statements_after_which_settings_are_not_known_do_not_hold_the_worker(keyed: Line) -> None:
    """What was left of the text was cut anew behind each: forty seconds."""
    assert keyed.fails("execute a; " * 20_000) > 0
    assert keyed.run("select 1") == [[(1,)]]
