"""Ways to destroy past a rule that forbids it, each by name, on a real MariaDB: the table is there afterwards."""

import pymysql
import pytest

from appliance.lab.servers import MariaDB
from tests.evasion.mysql.line import DENIED, READER, Line, address
from tests.facts.mysql.test_evasion import DROPS, NO_DROPS
from tests.gate import Gate

pytestmark = pytest.mark.peer


def there(shop: MariaDB) -> bool:
    return shop.admin("show tables like 'victim'", "shop") == "victim"


def aimed(text: str) -> str:
    return text.replace("table t", "table victim").replace("table/**/t", "table/**/victim").replace("TaBlE t", "TaBlE victim")


@pytest.mark.parametrize("name", DROPS)
def test_a_drop_in_every_guise(shop: MariaDB, line: Line, name: str) -> None:
    assert line.fails(aimed(DROPS[name])) == DENIED
    assert line.run("select 1") == [[(1,)]], "the connection lives on"
    assert there(shop)


@pytest.mark.parametrize("name", [n for n in DROPS if n not in ("EXECUTE IMMEDIATE in itself", "SET STATEMENT")])
def test_a_drop_in_every_guise_prepared(shop: MariaDB, line: Line, name: str) -> None:
    with pytest.raises(Exception, match=r"denied by vendorgate|syntax"):
        line.binary(aimed(DROPS[name]))
    assert there(shop)


@pytest.mark.parametrize("name", [n for n in NO_DROPS if n != "in a name"])
def test_what_is_no_drop_runs(line: Line, name: str) -> None:
    assert line.fails(NO_DROPS[name]) == 0


SETTINGS = {
    "ANSI_QUOTES": ("set sql_mode = 'ANSI_QUOTES'", "select 1 as \"'; drop table victim; -- '\""),
    "no backslash escapes": ("set sql_mode = 'NO_BACKSLASH_ESCAPES'", "select '\\'; drop table victim; -- '"),
    "no backslash escapes, by an expression": ("set sql_mode = concat(@@sql_mode, ',NO_BACKSLASH_ESCAPES')", "select '\\'; drop table victim; -- '"),
    "no backslash escapes, set by its long name": ("set @@session.sql_mode := 'NO_BACKSLASH_ESCAPES'", "select '\\'; drop table victim; -- '"),
    "no backslash escapes, by a prepared SET": ("prepare s from 'set sql_mode = ?'; set @m = 'NO_BACKSLASH_ESCAPES'; execute s using @m", "select '\\'; drop table victim; -- '"),
    "ORACLE": ("set sql_mode = 'ORACLE'", "drop table victim"),
    "ANSI_QUOTES, of a variable": ("set sql_mode = 'ANSI_QUOTES'", "select @\"a\\\"; drop table victim -- \""),
    "GBK": ("set names gbk", b"select '\xbf\\'; drop table victim; -- '"),
    "SJIS": ("set names sjis", b"select '\x95\\'; drop table victim; -- '"),
    "BIG5": ("set names big5", b"select '\xa5\\'; drop table victim; -- '"),
    "CP932, by its variable": ("set character_set_client = cp932", b"select '\x95\\'; drop table victim; -- '"),
    "latin1 and its other space": ("set names latin1", b"select 1;drop\xa0table\xa0victim"),
    "a setting of several": ("set @a = 1, sql_mode = 'NO_BACKSLASH_ESCAPES', @b = 2", "select '\\'; drop table victim; -- '"),
    "binary": ("set names binary", b"select '\xbf\\'; drop table victim; -- '"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_change_what_a_text_is(shop: MariaDB, line: Line, name: str) -> None:
    setting, text = SETTINGS[name]
    line.run(setting)
    line.fails(text)
    assert there(shop)


def test_a_setting_and_what_uses_it_in_one_message(shop: MariaDB, line: Line) -> None:
    """A server cuts each statement of a text by what those before it have set."""
    for first in ("set sql_mode = 'NO_BACKSLASH_ESCAPES'", "set @m = 'NO_BACKSLASH_ESCAPES'; prepare s from 'set sql_mode = ?'; execute s using @m"):
        assert line.fails(f"{first}; select '\\'; drop table victim; -- '") == DENIED
        line.fails(f"select 1; {first}; select '\\'; drop table victim; -- '")
        assert there(shop)


BEYOND = READER.replace("rules:", "rules:\n  - {id: not-there, when: {table: shop.users}, do: block}", 1)

CUT = {
    "a space of latin1 in a variable": ("set names latin1", b"select id from orders where id = @a\xa0union\xa0select\xa0salary\xa0from\xa0users"),
    "a space of cp1251 in a name": ("set names cp1251", b"select note from orders where 0 union select 1a\xa0from\xa0users"),
    "literals in a charset without a backtick": ("set collation_connection = swe7_bin", "execute immediate 'select ` union select salary from users # ` from orders' using 1"),
    "the same, with a name": ("set collation_connection = swe7_bin; prepare s from 'select ` union select salary from users # ` from orders'", "set @a = 1; execute s using @a"),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_text_that_the_server_cuts_elsewhere_reaches_no_other_table(shop: MariaDB, name: str) -> None:
    setting, text = CUT[name]
    with Gate(address(shop), BEYOND, protocol="mysql") as gate, Line(gate.port) as line:
        assert line.fails("select salary from users") == DENIED
        line.fails(setting)
        line.seen = b""
        assert line.fails(text) == DENIED
        assert b"5000.00" not in line.seen


OTHERS = {
    "TRUNCATE": "truncate victim",
    "TRUNCATE TABLE": "truncate table shop.victim",
    "DELETE": "delete from victim",
    "DELETE of several": "delete v from victim v join users",
    "UPDATE": "update victim set id = 1",
    "REPLACE": "replace into victim values (1)",
    "INSERT ... SET": "insert into victim set id = 1",
    "WITH before DELETE": "with x as (select 1) delete from victim",
    "ALTER": "alter table victim add x int",
    "RENAME": "rename table victim to gone",
    "CREATE TABLE AS": "create table n as select 1",
    "OR REPLACE": "create or replace table victim (a int)",
    "a procedure": "create procedure p() drop table victim",
    "a function": "create function f() returns int begin delete from victim; return 1; end",
    "a trigger": "create trigger g before insert on users for each row delete from victim",
    "an event": "create event e on schedule every 1 second do drop table victim",
    "a view": "create view w as select 1",
    "CALL": "call two(1)",
    "a stored function": "select peek(1)",
    "a stored function named as a built-in": "select count (id) from users",
    "BEGIN NOT ATOMIC": "begin not atomic drop table victim; end",
    "IF": "if 1 then drop table victim; end if",
    "INTO OUTFILE": "select 1 into outfile '/tmp/vendorgate-x'",
    "INTO DUMPFILE": "select 1 into dumpfile '/tmp/vendorgate-x'",
    "LOAD_FILE": "select load_file('/etc/passwd')",
    "LOAD DATA": "load data infile '/etc/passwd' into table victim",
    "LOAD DATA LOCAL": "load data local infile '/etc/passwd' into table victim",
    "SET GLOBAL": "set global max_connections = 10",
    "SET of a global by its long name": "set @@global.max_connections = 10",
    "KILL of a user": "kill user tester",
    "FLUSH": "flush tables",
    "LOCK TABLES": "lock tables victim write",
    "GET_LOCK": "select get_lock('x', 1)",
    "GRANT": "grant all on *.* to acme",
    "SET PASSWORD among other settings": "set @a = 1, password = password('x')",
    "SET PASSWORD": "set password = password('x')",
    "BINLOG": "binlog 'x'",
    "INSTALL": "install soname 'x'",
    "a user defined function": "create function f returns integer soname 'x.so'",
    "CHANGE MASTER": "change master to master_host = 'x'",
    "PROCEDURE ANALYSE": "select id from victim procedure analyse()",
    "ANALYZE of a DELETE": "analyze delete from victim",
    "DEALLOCATE and EXECUTE": "prepare a from 'select 1'; deallocate prepare a; prepare a from 'drop table victim'; execute a",
    "EXECUTE of what is made at run time": "set @a = concat('drop ', 'table victim'); prepare a from @a; execute a",
    "EXECUTE IMMEDIATE of a variable": "set @a = 'drop table victim'; execute immediate @a",
    "MERGE tables": "create table n (id int) engine = merge union = (victim)",
    "COMMIT; DROP": "commit; drop table victim",
    "braces": "select * from {x victim}",
    "XA": "xa start 'a'; xa end 'a'; xa prepare 'a'; drop table victim",
    "PURGE": "purge binary logs to 'x'",
    "SHUTDOWN": "shutdown",
    "a sequence": "create sequence s",
    "another engine": "create table n (id int) engine = connect table_type = xml file_name = '/etc/passwd'",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_ways_to_change_something(shop: MariaDB, line: Line, name: str) -> None:
    assert line.fails(OTHERS[name]) == DENIED
    assert there(shop)


def test_the_record_says_who_was_refused_and_why(shop: MariaDB, reader: Gate, line: Line) -> None:
    assert line.fails("/*! drop table victim */") == DENIED
    assert reader.verdicts()[-1] == ("block", "no-destructive", "/*! drop table victim */")


def test_a_prepared_statement_by_name_is_what_it_was_prepared_as(shop: MariaDB, line: Line) -> None:
    line.run("prepare a from 'select 1'")
    assert line.run("execute a") == [[(1,)]]
    assert line.fails("prepare a from 'drop table victim'") == DENIED
    assert line.run("execute a") == [[(1,)]]


def test_commands_that_are_no_text(shop: MariaDB, line: Line) -> None:
    line.select_db("other")
    assert line.run("select ssn from users") == [[("public knowledge",)]]
    with pytest.raises(Exception, match="denied"):
        line._execute_command(6, "other")  # COM_DROP_DB
        line._read_ok_packet()
    assert shop.admin("show databases like 'other'") == "other"
    line.ping()


BY_USER = """
rules:
  - {id: tester, when: {user: tester}, do: allow}
  - {id: acme, when: {user: acme, effect: [read, session]}, do: allow}
"""


def test_a_change_of_user_that_fails_changes_no_rule(shop: MariaDB) -> None:
    """The server refuses it and goes on as who it was, with the rights of that user, and was judged by another's rules."""
    with Gate(address(shop), BY_USER, protocol="mysql") as gate, Line(gate.port) as line:
        assert line.fails("drop table victim") == DENIED
        line._execute_command(17, b"tester\0\x14" + b"x" * 20 + b"shop\0\x2d\0mysql_native_password\0")  # COM_CHANGE_USER
        with pytest.raises(pymysql.err.MySQLError):
            line._read_packet()
        assert line.run("select current_user()") == [[("acme@%",)]]
        assert line.fails("drop table victim") == DENIED
    assert there(shop)
