"""Every evasion and corner case of the text, by name: what a rule would see. On a real server: tests/evasion/mysql/."""

import pytest

from appliance.facts.mysql.lexer import Mode
from appliance.facts.mysql.reading import ALL, RELATIONS
from appliance.facts.mysql.tree import MAX_SHORT
from tests.facts.mysql.small import KNOWN, PLAIN, World, known, places, read, words

GBK = World(Mode(charset="gbk"), "shop")
ANSI = World(Mode(ansi_quotes=True), "shop")
BARE = World(Mode(backslash=False), "shop")
SPACES = World(Mode(ignore_space=True), "shop")
UNSURE = World(Mode(known=False, charset=""), "")

DROPS = {
    "executable comment": "/*!50000 drop table t */",
    "executable comment, any version": "/*! drop */ table t",
    "executable comment of MariaDB": "/*M!100100 drop table t */",
    "executable comment that hides the rest": "select 1 /*!50000 ; drop table t */",
    "executable comment that is skipped": "select 1 /*!99999 -- */ ; drop table t /*! */",
    "comment to the end of the line": "select 1 -- x\n; drop table t",
    "minus minus without a space is no comment": "select 1--1; drop table t",
    "hash": "select 1 # x\n; drop table t",
    "nested comment": "select 1 /* /* */; drop table t -- */",
    "several statements": "select 1; drop table t",
    "empty statements between": ";;select 1;;drop table t;;",
    "EXECUTE IMMEDIATE": "execute immediate 'drop table t'",
    "EXECUTE IMMEDIATE in itself": "execute immediate 'execute immediate ''drop table t'''",
    "PREPARE": "prepare s from 'drop table t'",
    "letters of both sizes": "DrOp TaBlE t",
    "white space of all kinds": "drop\t\n\v\f\rtable/**/t",
    "SET STATEMENT": "set statement max_statement_time=1 for drop table t",
    "a quote in a string": "select 'a''; --'; drop table t",
    "an escaped quote": "select 'a\\'; --'; drop table t",
    "strings beside each other": "select 'a' '; x'; drop table t",
    "ANALYZE": "analyze drop table t",
}


@pytest.mark.parametrize("name", DROPS)
def test_a_drop_is_seen(name: str) -> None:
    reading = read(DROPS[name], PLAIN)
    assert "drop" in reading.values["effect"] or "effect" in reading.unknown, name


@pytest.mark.parametrize("name", [n for n in DROPS if "executable" not in n and n != "ANALYZE"])
def test_a_drop_is_seen_for_certain(name: str) -> None:
    assert "drop" in known(DROPS[name], PLAIN).values["effect"]


NO_DROPS = {
    "in a string": "select '; drop table t'",
    "in a comment": "select 1 /* ; drop table t */",
    "behind minus minus": "select 1 -- ; drop table t",
    "behind a hash": "select 1 # ; drop table t",
    "in a name": "select `; drop table t` from u",
    "after an escaped quote": "select 'a\\'; drop table t --'",
}


@pytest.mark.parametrize("name", NO_DROPS)
def test_what_is_no_drop(name: str) -> None:
    assert words(NO_DROPS[name], "effect") == "read"
    known(NO_DROPS[name])


@pytest.mark.parametrize("text", ["/*!50000 drop */ table t", "select /*!50000 ssn, */ id from users", "select id from /*!50000 orders, */ users", "select id from users /*M!100100 where ssn = 'x' */"])
def test_what_only_some_servers_execute_is_unknown_where_it_matters(text: str) -> None:
    assert read(text, PLAIN).unknown


@pytest.mark.parametrize("text", ["select /*!40001 SQL_NO_CACHE */ * from users", "/*!40101 SET NAMES utf8 */", "kill /*!50000 query */ 5", "select 1 /*!50000 */", "create table n (a int) /*!50100 tablespace x */"])
def test_what_only_some_servers_execute_is_known_where_it_does_not_matter(text: str) -> None:
    known(text)


def test_sql_mode_decides_what_quotes_are() -> None:
    text = 'select "ssn" from users'
    assert (words(text, "column"), words(text, "column", ANSI)) == ("", "shop.users.ssn")
    text = "select 'a\\', ssn, 'b' from users"
    assert words(text, "column", BARE) == "shop.users.ssn"
    assert read(text, PLAIN).unknown >= ALL
    assert read('select "a"', UNSURE).unknown >= ALL


def test_a_charset_whose_characters_hold_a_backslash() -> None:
    assert read("select '誠'; drop table t -- '", GBK).unknown >= ALL
    assert not read("select 'a'", GBK).unknown


def test_a_function_with_a_space_is_a_stored_one() -> None:
    assert read("select count (id) from users", PLAIN).unknown
    assert words("select count (id) from users", "function") == "shop.count"
    assert not read("select count (id) from users", SPACES).unknown
    assert not read("select lower (ssn) from users", PLAIN).unknown


@pytest.mark.parametrize("text", ["call p()", "select f(1)", "select d.lower('x')", "execute immediate @a", "execute immediate concat('drop ', 'table t')", "begin not atomic drop table t; end", "create procedure p() drop table t", "create event e on schedule every 1 day do drop table t", "create trigger g after insert on t for each row delete from u", "binlog 'x'", "install plugin a soname 'b'", "insert into logged (id) values (1)", "select x from calls"])
def test_code_that_is_not_known(text: str) -> None:
    reading = read(text, KNOWN)
    assert "effect" in reading.unknown
    assert "procedure" in reading.values["effect"]


@pytest.mark.parametrize("text", ["select * from users procedure analyse()", "select {fn now()}", "select * from {x users}", "select next value for s", "select * from users for system_time all", "select 1 limit rows examined 3", "select 1 fetch first 1 rows only", "explode t", "select", "select 1 from", "select * from (select 1)) t", "(((", "create", "show columns", "set", "alter", "lock tables t", "handler", "drop", "delete", "load data", "rename table a", "grant", "kill", "select 1 union", "xyzzy: begin end", "return 1", "select a from t where match(a) against ('x' sometimes)"])
def test_what_cannot_be_read_is_unknown(text: str) -> None:
    reading = read(text, PLAIN)
    if text not in ("grant", "kill"):
        assert reading.unknown >= ALL, text
    assert not reading.values["effect"] <= {"read"} or reading.unknown


LAUNDERED = {
    "user variable": "select @a := ssn from users",
    "SET of a variable": "set @a = (select ssn from users limit 1)",
    "INTO a variable": "select ssn into @a from users limit 1",
    "INTO OUTFILE": "select ssn into outfile '/tmp/x' from users",
    "INTO DUMPFILE": "select ssn into dumpfile '/tmp/x' from users limit 1",
    "CREATE TABLE AS": "create table n as select ssn from users",
    "CREATE TABLE AS, in parentheses": "create table n ((select ssn from users))",
    "CREATE TABLE AS, in more of them": "create table n as (((select ssn from users)))",
    "CREATE TABLE AS, behind columns": "create table n (x varchar(20)) ((select ssn x from users))",
    "CREATE TABLE AS, behind an option": "create table n engine = innodb ((select ssn from users))",
    "CREATE TEMPORARY TABLE AS, in parentheses": "create temporary table n ignore ((select ssn from users) union select 'x')",
    "CREATE TEMPORARY TABLE AS": "create temporary table n select ssn from users",
    "INSERT ... SELECT": "insert into orders (note) select ssn from users",
    "REPLACE ... SELECT": "replace into orders (note) select ssn from users",
    "INSERT of a subquery": "insert into orders (note) values ((select ssn from users limit 1))",
    "ON DUPLICATE KEY UPDATE of what the rows are from": "insert into orders (id) select id from users on duplicate key update note = users.ssn",
    "ON DUPLICATE KEY UPDATE of a union": "insert into orders (id) select 1 union select id from users on duplicate key update note = users.ssn",
    "ON DUPLICATE KEY UPDATE": "insert into orders (id) values (1) on duplicate key update note = (select ssn from users limit 1)",
    "UPDATE": "update orders, users set note = ssn",
    "a view": "create view n as select ssn from users",
    "a renamed column": "alter table users change ssn x varchar(20)",
    "a renamed table": "rename table users to people",
    "a swapped partition": "alter table users exchange partition p with table n",
    "LAST_INSERT_ID": "select last_insert_id(ssn) from users",
    "the name of a lock": "select get_lock(ssn, 1) from users",
    "LOAD DATA": "load data local infile 'x' into table orders set note = (select ssn from users limit 1)",
    "CALL": "call p((select ssn from users limit 1))",
    "a setting": "set session timestamp = (select ssn from users limit 1)",
}


@pytest.mark.parametrize("name", LAUNDERED)
def test_laundering_is_a_copy(name: str) -> None:
    copied = words(LAUNDERED[name], "copied", KNOWN)
    assert "shop.users.ssn" in copied.split() or "shop.users.*" in copied.split()


ORACLES = {
    "WHERE": "select id from users where ssn like '1%'",
    "ORDER BY": "select id from users order by ssn",
    "ORDER BY a place": "select id, ssn from users order by 2",
    "ORDER BY a place with a sign": "select id, ssn from users order by +2",
    "ORDER BY a place with two signs": "select id, ssn from users order by - -2",
    "ORDER BY a place with a sign, in parentheses": "select id, ssn from users order by -(-2), 1",
    "ORDER BY a place of five digits": "select id, ssn from users order by 00002",
    "ORDER BY a place that is a truth": "select ssn, id from users order by true desc",
    "ORDER BY a parameter": "execute immediate 'select id, ssn from users order by ?' using 2",
    "GROUP BY a place with a sign": "select id, ssn from users group by +2",
    "a length beyond all packets": "select concat(trim(leading '1' from ssn), repeat('x', 16777206)) from users",
    "a length that grows by and by": "select concat(x, x, x, x) from (select concat(x, x, x, x) x from (select trim(leading '1' from ssn) x from users) a) b",
    "a length that grows in WITH": "with a as (select replace(ssn, '1', '22') x from users), b as (select concat(x, x) x from a) select hex(x) from b",
    "a length that grows by a literal": "select replace(ssn, '1', '" + "x" * (MAX_SHORT + 1) + "') from users",
    "a charset without the character": "select cast(ssn as char character set ascii) from users",
    "GROUP BY": "select count(*) from users group by ssn",
    "HAVING": "select 1 from users having max(ssn) > '5'",
    "DISTINCT": "select distinct ssn from users",
    "UNION": "select ssn from users union select 'x'",
    "JOIN ... ON": "select o.id from orders o join users u on u.ssn = o.note",
    "USING": "select 1 from users join other.users using (ssn)",
    "NATURAL JOIN": "select 1 from users natural join other.users",
    "EXISTS": "select exists (select 1 from users where ssn = 'x')",
    "LIMIT": "select id from users limit 1",
    "IF": "select if(ssn > '5', 1, 0) from users",
    "CASE": "select case ssn when 'x' then 1 end from users",
    "arithmetic": "select ssn + 0 from users",
    "a cast": "select cast(ssn as unsigned) from users",
    "an error of a function": "select extractvalue(1, concat(0x7e, (select ssn from users limit 1)))",
    "SLEEP": "select sleep(ssn) from users",
    "a short cut": "select ssn = 'x' and sleep(5) from users",
    "BENCHMARK": "select benchmark(ssn, md5('x')) from users",
    "a window": "select rank() over (order by ssn) from users",
    "REGEXP": "select ssn regexp '^1' from users",
    "full text": "select id from users where match (ssn) against ('1')",
    "DO": "do (select ssn from users limit 1)",
    "SHOW ... WHERE": "show tables where (select ssn from users limit 1) like '1%'",
    "KILL": "kill (select ssn from users limit 1)",
    "CHECKSUM": "checksum table users",
    "a new partition": "alter table users partition by list columns (ssn) (partition a values in ('x'))",
    "a partition": "select id from users partition (p0)",
    "rows of a partition": "delete from users partition (p0)",
    "a unique key": "insert ignore into users (ssn) values ('x')",
    "a new unique key": "alter table users add unique (ssn)",
    "DELETE": "delete from users where ssn = 'x'",
    "UPDATE": "update users set name = name where ssn = 'x'",
    "HANDLER": "handler users read first where ssn = 'x'",
    "JSON_TABLE": "select 1 from json_table((select ssn from users limit 1), '$[*]' columns (a int path '$')) t",
}


@pytest.mark.parametrize("name", [n for n in ORACLES if n != "LIMIT"])
def test_an_oracle_is_a_comparison(name: str) -> None:
    compared = words(ORACLES[name], "compared", KNOWN).split()
    assert "shop.users.ssn" in compared or "shop.users.*" in compared, name


MASKED = [
    "select ssn from users", "select upper(ssn) from users", "select concat('a', ssn) from users", "select left(ssn, 3) from users",
    "select hex(ssn), to_base64(ssn), reverse(ssn) from users", "select json_object('a', ssn) from users", "select max(ssn) from users",
    "select concat(ssn, ' ', name), replace(ssn, '-', '') from users", "select concat(x, '') from (select ssn x from users) t",
    "select coalesce(ssn, '') from users", "select (select ssn from users limit 1)", "select ssn from users union all select 'x'",
    "select x from (select ssn x from users) t", "select cast(ssn as char) from users", "select first_value(ssn) over () from users",
]  # fmt: skip


@pytest.mark.parametrize("text", MASKED)
def test_what_always_gives_a_result_may_be_shown_masked(text: str) -> None:
    reading = known(text, KNOWN)
    assert not reading.values["compared"]
    assert all("shop.users.ssn" in place for place in places(text))


@pytest.mark.parametrize("text", ["select * from performance_schema.events_statements_history", "select * from information_schema.processlist", "select * from mysql.general_log", "select * from mysql.column_stats", "select * from information_schema.optimizer_trace", "select * from information_schema.innodb_ft_index_table", "select * from sys.statement_analysis", "show processlist", "show engine innodb status", "show binlog events", "explain for connection 5", "handler h read first", "select x from hidden", "select ssn from merged"])
def test_what_may_hold_values_of_any_table(text: str) -> None:
    reading = read(text, KNOWN)
    assert "?.?" in reading.values["table"] or reading.unknown & RELATIONS


@pytest.mark.parametrize("text", ["select table_name from information_schema.tables where table_schema = 'shop'", "show tables", "show variables", "show create table users", "select variable_value from performance_schema.global_status where variable_name = 'uptime'"])
def test_what_tells_of_the_schema_only(text: str) -> None:
    reading = known(text, KNOWN)
    assert "?.?" not in reading.values["table"]


def test_names_follow_lower_case_table_names() -> None:
    from appliance.facts.mysql.catalog import Catalog
    from tests.facts.mysql.small import RELATIONS

    folded = World(Mode(), "Shop", Catalog(RELATIONS, folds=1), True)
    assert words("select SSN from Users U where u.ID = 1", "column", folded) == "shop.users.id shop.users.ssn"
    exact = World(Mode(), "shop", Catalog(RELATIONS, folds=0), True)
    assert read("select ssn from Users", exact).unknown


def test_names_that_differ_in_case_only() -> None:
    """Some servers tell them apart: then it is another source that is meant."""
    for text in ("with Users as (select 1 ssn) select ssn from users", "with a as (select 1 x), A as (select ssn x from users) select x from a"):
        assert read(text, KNOWN).unknown >= ALL
    text = "select id from users U where exists (select 1 from other.users u where U.ssn like '1%')"
    assert words(text, "compared", KNOWN) == "other.users.ssn shop.users.ssn"
    text = "select (select U.ssn from other.users u limit 1) from users U"
    assert places(text, KNOWN) == ["other.users.ssn shop.users.ssn"]
    assert words("select (select u.ssn from other.users u limit 1) from users U", "column", KNOWN) == "other.users.ssn"


@pytest.mark.parametrize("clause", ["order by ssn", "order by upper(ssn)", "group by ssn", "group by upper(ssn)", "having ssn > '1'", "having upper(ssn) > '1'"])
def test_a_name_that_may_be_an_alias_or_a_column(clause: str) -> None:
    compared = words(f"select id as ssn from users {clause}", "compared", KNOWN)
    assert compared == "shop.users.id shop.users.ssn"
    assert "column" in read(f"select id from users {clause.replace('ssn', 'nothing')}", KNOWN).unknown


def test_a_name_that_is_not_quite_the_column() -> None:
    for name in ("`ssn `", "ſſn", "ssñ"):
        assert "column" in read(f"select {name} from users", KNOWN).unknown


def test_both_opinions_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.facts.mysql import opinion

    text = "select id from users"
    for found in ("select id from orders", "select id from users, orders", "delete from users", "select id, ssn from users", "select id from users; select 1", "select id from (select id from users) users", "select from from"):
        monkeypatch.setattr(opinion, "shown", lambda *_, found=found: found)
        reading = read(text, PLAIN)
        assert reading.unknown >= ALL, found
        assert "sqlglot" in reading.why
