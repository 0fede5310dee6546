"""Ways to a protected value past its mask, each by name, on a real MariaDB: no byte of it reaches the client."""

from collections.abc import Iterator

import pymysql
import pytest

from appliance.lab.servers import MariaDB
from appliance.wire.mysql.packets import MAX_STATEMENT
from tests.evasion.mysql.line import DENIED, WRITER, Line, address, secret
from tests.facts.mysql.test_evasion import LAUNDERED, MASKED, ORACLES
from tests.gate import Gate

pytestmark = pytest.mark.peer

SHOWN_MASKED = [
    *MASKED,
    "select ssn from users", "select * from users", "select ssn as id from users", "select x from (select ssn x from users) orders",
    "with orders as (select ssn x from users) select x from orders", "select x from (select ssn x from users limit 9) orders",
    "with recursive orders(x, n) as (select ssn, 1 from users union all select x, n + 1 from orders where n < 2) select x from orders",
    "select number from user_list", "select folded from user_calc", "select * from seen", "select ssn from users group by id", "execute immediate 'select ssn from users'",
    "select json_object('a', ssn) from users", "select lower(ssn), hex(ssn), to_base64(ssn), reverse(ssn), left(ssn, 6) from users", "select ssn from users except select 'x'",
    "select /*!50000 ssn, */ id from users", "select /*!99999 id, */ ssn from users", "select ssn/**/from/**/users", "select ssn--1 from users", "select `ssn` from `users`", "select SSN from USERS",
    "select max(ssn) over () from users", "select (select ssn from users where id = 1)", "values ((select ssn from users where id = 1))", "select * from users natural join orders",
    "select u.*, o.note from users u join orders o on o.user_id = u.id", "select * from (select * from users) orders", "select users.ssn from users orders, orders users",
    "select orders.ssn from users orders", "select name, (select group_concat(x) from (select ssn x from users) orders) from users", "select * from other.lent", "select ssn from other.lent",
    "explain select ssn from users where ssn = '123-45-6789'", "analyze format=json select ssn from users", "handler users open", "handler users read first", "delete from users where id = 99 returning ssn",
    "select * from json_table((select json_arrayagg(ssn) from users), '$[*]' columns (x varchar(20) path '$')) orders", "select 1; select ssn from users; select ssn from users",
    "set @a = 1; select ssn from users", "select ssn from users union all select note from orders", "select note from orders union all select ssn from users", "select extractvalue(1, concat(0x7e, ssn)) from users",
    "select updatexml(1, concat(0x7e, (select ssn from users limit 1)), 1)", "select id from users where extractvalue(1, concat(0x7e, ssn))", "select ssn + 0 from users", "select cast(ssn as int) from users",
    "select * from users procedure analyse()", "do extractvalue(1, concat(0x7e, (select ssn from users limit 1)))", "select exp(~(select * from (select ssn from users) x))",
    "select 1 from users group by concat(ssn, floor(rand(0) * 2)) having min(0)", "select name_const((select ssn from users limit 1), 1)", "select * from (select name_const('ssn', 1), name_const('ssn', 1)) x",
    "select st_geomfromtext(ssn) from users", "select json_extract(ssn, '$') from users", "select geometrycollection((select * from (select ssn from users) x))", "select column_get(ssn, 'a' as char) from users",
    "select ssn into @x from users limit 1", "select @x := ssn from users", "select peek(1)", "call two(1)", "select ssn from shop.users", "select convert(ssn, signed) from users", "select date(ssn) from users",
    "select 1--/**/1, ssn from users", "select 1; set sql_mode = 'NO_BACKSLASH_ESCAPES'; select name from users where 'x' = '\\' union select ssn from users -- '",
]  # fmt: skip


@pytest.mark.parametrize("text", SHOWN_MASKED)
def test_no_value_is_shown(free: Line, text: str) -> None:
    free.fails(text)
    assert not secret(free.seen)
    free.fails("show warnings")
    free.fails("show errors")
    free.fails("get diagnostics condition 1 @m = message_text")
    free.fails("select @m, @x")
    assert not secret(free.seen)


@pytest.mark.parametrize("text", [t for t in SHOWN_MASKED if ";" not in t])
def test_no_value_is_shown_in_binary_rows(free: Line, text: str) -> None:
    try:
        free.binary(text)
    except pymysql.err.MySQLError:
        pass
    assert not secret(free.seen)


@pytest.mark.parametrize("name", [n for n in ORACLES if n not in ("LIMIT", "full text", "SHOW ... WHERE")])
def test_an_oracle_is_refused(free: Line, name: str) -> None:
    assert free.fails(ORACLES[name]) == DENIED


@pytest.mark.parametrize("name", [n for n in LAUNDERED if n not in ("LOAD DATA", "a swapped partition")])
def test_laundering_is_refused(shop: MariaDB, free: Line, name: str) -> None:
    assert free.fails(LAUNDERED[name]) == DENIED
    assert shop.admin("select count(*) from information_schema.tables where table_name in ('n', 'people')") == "0"
    assert shop.admin("select count(*) from orders where note like '%-%-%'", "shop") == "0"


def test_laundering_through_a_variable(free: Line) -> None:
    free.fails("select @v := ssn from users")
    free.fails("set @v = (select ssn from users limit 1)")
    assert free.run("select @v") == [[(None,)]]


ERRORS = {
    "a duplicate": "insert into unique_ssn values ('123-45-6789')",
    "a check": "update users set salary = -1 where id = 1",
    "a foreign key": "delete from users where id = 1",
    "a number that is none": "update users set salary = ssn where id = 1",
    "a path": "select updatexml(1, concat(0x7e, (select max(ssn) from users)), 1)",
    "more than one row": "select (select ssn from users)",
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_no_more_than_a_code(shop: MariaDB, free: Line, name: str) -> None:
    shop.admin("create table if not exists unique_ssn (ssn char(11) unique); replace into unique_ssn values ('123-45-6789')", "shop")
    text = ERRORS[name]
    if "unique_ssn" in text:

        with Gate(address(shop), WRITER.replace("shop.users.ssn, shop.users.profile", "shop.unique_ssn.ssn"), protocol="mysql") as gate, Line(gate.port) as other:
            assert other.fails(text) > 0
            assert not secret(other.seen)
    else:
        assert free.fails(text) > 0
        assert not secret(free.seen)


def test_warnings_are_masked_after_what_touched_the_column(shop: MariaDB) -> None:
    rules = WRITER.replace("do: mask", "compare: allow, do: mask")
    with Gate(address(shop), rules, protocol="mysql") as gate, Line(gate.port) as line:
        line.fails("select cast(ssn as int) from users where id = 1")
        line.run("alter database other charset utf8mb4")  # which leaves the messages as they are
        line.prepared("select note from orders where id = 1")
        line.fails("select cast(ssn as int) from users where id = 1")
        with pytest.raises(pymysql.err.MySQLError, match="denied"):
            line.prepared("select 1 /*" + "x" * MAX_STATEMENT + "*/")
        assert line.execute(b"\xff\xff\xff\xff") == 1243, "of the one prepared last, which was refused"
        rows = line.run("show warnings")
        assert rows[0]
        assert [row[1] for row in rows[0]] == [1292] * len(rows[0])
        assert not secret(line.seen)
        line.fails("get diagnostics condition 1 @m = message_text")
        line.fails("select @m")
        assert not secret(line.seen)


MADE = """
create table if not exists made (id int, ssn varchar(20), `tax-id` varchar(20), a varchar(20) as (ssn), b varchar(20) as (a), c varchar(20) as (`tax-id`));
insert into made (id, ssn, `tax-id`) values (1, '123-45-6789', '987-65-4320');
"""


def test_what_is_generated_from_what_is_generated(shop: MariaDB) -> None:
    shop.admin(MADE, "shop")
    with Gate(address(shop), WRITER.replace("shop.users.ssn", "shop.made.ssn, shop.made.tax-id"), protocol="mysql") as gate, Line(gate.port) as line:
        assert line.run("select a, b, c, id from made") == [[(*["[redacted]"] * 3, 1)]]
        assert not secret(line.seen)
    shop.admin("drop table made", "shop")


OWN = """
rules:
  - {id: hide-ssn, when: {user: acme, column: [shop.users.ssn]}, do: mask, with: redact}
  - {id: all, do: allow}
"""


def test_a_view_that_another_connection_has_changed_since_it_was_prepared(shop: MariaDB) -> None:
    """The other may see the column, and lends it to whoever reads its view."""
    shop.admin("create view lent as select id, name as a from users", "shop")
    with Gate(address(shop), OWN, protocol="mysql") as gate, Line(gate.port) as line, Line(gate.port, user="tester") as other:
        line.run("prepare s from 'select a from lent where id = 1'")
        for column, shown in (("ssn", "[redacted]"), ("name", "Ada")):
            other.run(f"create or replace view lent as select id, {column} as a from users")
            line.binary("select a from lent")
            assert line.run("execute s") == line.run("select a from lent where id = 1") == [[(shown,)]]
        assert not secret(line.seen)
    shop.admin("drop view lent", "shop")


FAILING = [
    "prepare s from 'select 1' using @a", "signal sqlstate '45000'; prepare s from 'select 1'", "select 1; select (select id from users); prepare s from 'select 1'",
]  # fmt: skip


@pytest.mark.parametrize("text", FAILING)
def test_a_name_that_was_not_prepared_after_all(free: Line, text: str) -> None:
    free.run("prepare s from 'select ssn from users'")
    assert free.fails(text) > 0
    assert free.fails("execute s") == DENIED
    free.run("prepare s from 'select name from users where id = 1'")
    assert free.run("execute s") == [[("Ada",)]]
    assert not secret(free.seen)


SHADOWS = {
    "one that is gone": ("create temporary table user_list (id int)", "drop temporary table user_list"),
    "one that was not made": ("create temporary table user_list (id int, id int)", "select 1"),
    "one that is there": ("create temporary table user_list as select 1 as id", "select 1"),
}


@pytest.mark.parametrize("name", SHADOWS)
def test_a_temporary_table_does_not_stand_for_the_view_of_its_name(free: Line, name: str) -> None:
    for text in (*SHADOWS[name], "select number from user_list", "select * from user_list", "select id from user_list where number like '1%'"):
        free.fails(text)
        assert not secret(free.seen)
    assert free.fails("select id from user_list where number like '1%'") == DENIED


UPDATES = [
    "select id from users on duplicate key update note = ssn", "select id from users u on duplicate key update note = u.ssn", "(select id from users) on duplicate key update note = ssn",
    "select id from users union select 1 on duplicate key update note = ssn", "with c as (select id, ssn from users) select id from c on duplicate key update note = ssn",
    "select id from (select id, ssn from users) d on duplicate key update note = concat(ssn)",
]  # fmt: skip


@pytest.mark.parametrize("rows", UPDATES)
def test_what_an_update_takes_from_the_rows_to_be_inserted(free: Line, rows: str) -> None:
    """The columns of a temporary table are not in the catalogue: one that is named may be of the other table."""
    free.run("create temporary table scratch (id int primary key, note varchar(100))")
    free.run("insert into scratch (id) values (1), (2)")
    assert free.fails(f"insert into scratch (id) {rows}") == DENIED
    free.run("select note from scratch")
    assert not secret(free.seen)


def test_a_forged_name_is_not_believed(free: Line) -> None:
    """The server calls the column `orders.x`, whatever it holds; the text says otherwise."""
    for text in ("select note from (select ssn note from users) orders", "with orders as (select ssn note from users) select note from orders"):
        assert {row for rows in free.run(text) for row in rows} <= {("[redacted]",), (None,)}
    assert ("first",) in free.run("select note from orders")[0]


def test_another_database_another_table(free: Line) -> None:
    assert free.run("select ssn from other.users") == [[("public knowledge",)]]
    free.run("use other")
    assert free.run("select ssn from users") == [[("public knowledge",)]]
    free.fails("select ssn from shop.users")
    free.fails("execute immediate 'select ssn from shop.users'")
    assert not secret(free.seen)


def test_a_view_with_a_definer_shows_what_its_user_may_not_see(shop: MariaDB, writer: Gate) -> None:
    """The guest sees neither the table nor the definition of the view: then nothing of it is known, and all is masked."""
    with Line(writer.port, user="guest", database="other") as line:
        line.fails("select * from lent")
        line.fails("select ssn from lent where ssn like '1%'")
        assert not secret(line.seen)
        assert line.fails("select ssn from lent where ssn like '1%'") == DENIED


SETTINGS = {
    "ANSI_QUOTES": ("set sql_mode = 'ANSI_QUOTES'", 'select "ssn" from "users"'),
    "ANSI_QUOTES, of a variable": ("set sql_mode = 'ANSI_QUOTES'", 'select @"a\\", ssn from users -- "'),
    "IGNORE_SPACE": ("set sql_mode = 'IGNORE_SPACE'", "select max (ssn) from users"),
    "PIPES_AS_CONCAT": ("set sql_mode = 'PIPES_AS_CONCAT'", "select ssn || '' from users"),
    "HIGH_NOT_PRECEDENCE": ("set sql_mode = 'HIGH_NOT_PRECEDENCE'", "select not ssn between 1 and 2, ssn from users"),
    "another charset of results": ("set character_set_results = latin1", "select ssn from users"),
    "results in two bytes a character": ("set character_set_results = utf16", "select ssn from users"),
    "results as they are": ("set character_set_results = null", "select ssn from users"),
    "one row": ("set sql_select_limit = 1", "select ssn from users"),
    "another database and back": ("use other", "select ssn from shop.users"),
    "MSSQL": ("set sql_mode = 'MSSQL'", "select [ssn] from [users]"),
    "optimizer": ("set optimizer_switch = 'derived_merge=off'", "select x from (select ssn x from users) orders"),
    "a temporary table in its place": ("create temporary table users2 (id int, ssn int)", "select ssn from users"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_do_not_show_it(free: Line, name: str) -> None:
    setting, text = SETTINGS[name]
    free.run(setting)
    free.fails(text)
    wide = "123-45-6789".encode("utf-16-be")
    assert not secret(free.seen)
    assert wide not in free.seen


@pytest.fixture(scope="module")
def seen(writer: Gate) -> Iterator[Line]:
    with Line(writer.port) as line:
        yield line


ORDINARY = {
    "select id, name from users where id = 1": [[(1, "Ada")]],
    "select u.name, o.note from users u join orders o on o.user_id = u.id order by o.id limit 1": [[("Ada", "first")]],
    "select count(*) from users": [[(3,)]],
    "select name from users where id in (1, 2) order by name": [[("Ada",), ("Grace",)]],
    "select 1--1": [[(2,)]],
    "select 1 -- 1": [[(1,)]],
    "select 'a''b', 'c\\'d', \"e\"": [[("a'b", "c'd", "e")]],
    "select /*! 1 + */ 1": [[(2,)]],
    "select database()": [[("shop",)]],
    "set @n = 5": [[]],
    "select id from `select`": [[(7,)]],
    "show tables like 'vic%'": [[("victim",)]],
    "select ssn from orders where id = 1": [[("x",)]],
    "select 1; select 2": [[(1,)], [(2,)]],
    "begin": [[]],
    "insert into victim values (1)": [[]],
    "update victim set id = id + 1": [[]],
    "select id from victim": [[(2,)]],
    "delete from victim": [[]],
    "commit": [[]],
    "create temporary table scratch as select id, name from users": [[]],
    "select name from scratch where id = 1": [[("Ada",)]],
    "prepare p from 'select name from users where id = ?'": [[]],
    "set @id = 2": [[]],
    "execute p using @id": [[("Grace",)]],
    "select table_name from information_schema.tables where table_schema = 'shop' and table_name = 'victim'": [[("victim",)]],
    "select row_count(), last_insert_id()": [[(-1, 0)]],
}  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_work_runs_beside_masks(seen: Line, text: str) -> None:
    assert seen.run(text) == ORDINARY[text]
