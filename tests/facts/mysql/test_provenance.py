"""What we say of columns against what a real server says of them, and against what really is in them.

The protected column holds values that are nowhere else. So wherever one of them, or a piece of one, is in a cell,
either the column must be known to hold it, or nothing may be known of it: then a mask hides the cell.
"""

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from appliance.facts.mysql import MySQL
from appliance.facts.mysql.catalog import CATALOGUE, STATE, Answer, Catalog
from appliance.facts.shared import Shared
from appliance.lab.servers import MariaDB
from appliance.model import Column
from tests.facts.mysql.talk import Value, client, server

pytestmark = pytest.mark.peer

PIECES = ("123-45", "6789", "987-65", "4320", "9876-54-321", "3132332D34352D", "MTIzLTQ1")
PROTECTED = {"lineage.users.ssn", "lineage.kept.ssn", "lineage.wide.ssn"}

SCHEMA = """
create table users (id int primary key, name varchar(40) not null, ssn char(11), email varchar(60), profile json);
insert into users values (1, 'Ada', '123-45-6789', 'ada@x', '{"ssn": "555-55-5555"}'), (2, 'Grace', '987-65-4320', 'grace@x', '{}');
create table orders (id int primary key, user_id int, x varchar(20), ssn varchar(20) default 'public');
insert into orders values (1, 1, 'first', 'public'), (2, 2, 'second', 'public');
create table kept (id int, ssn varchar(11), folded varchar(20) as (reverse(ssn)) stored, hidden varchar(20) invisible default 'h');
insert into kept (id, ssn) values (1, '123-45-6789');
create table wide (ssn varchar(20), {columns});
insert into wide (ssn) values ('123-45-6789');
create view renamed as select id as a, ssn as b from users;
create view twice as select b as c, upper(b) as d from renamed;
create algorithm = temptable view held as select b from renamed;
create view joined as select u.ssn, o.x, count(*) over () as n from users u left join orders o on o.user_id = u.id;
create view united as select ssn from users union all select x from orders;
create view grouped as select name, max(ssn) as top from users group by name having max(ssn) <> '';
create view with_cte as with x as (select ssn as s from users) select s from x;
create view slashed as select concat(ssn, 'a\\\\b') as e from users;
create view `odd.view` as select ssn as `a.b`, id as `c``d` from users;
create view sub as select (select max(ssn) from users) as m, exists (select 1 from orders) as e;
create view defined as select id, ssn from users where id > 0;
create function peek(n int) returns varchar(20) reads sql data return (select ssn from users where id = n);
create view calls as select id, peek(id) as p from users;
""".replace("{columns}", ", ".join(f"c{n} int" for n in range(40)))

SHAPES = [
    "select ssn from users", "select SSN from users", "select * from users", "select ssn as x from users", "select users.* from users, orders",
    "select u.ssn, o.x from users u join orders o on o.user_id = u.id", "select o.*, u.ssn from orders o, users u",
    "select x from (select ssn as x from users) orders", "select x from (select ssn as x from users) as t", "select x from (select ssn x from users limit 5) orders",
    "select id from (select ssn as id from users) orders", "select * from (select ssn as id, id as ssn from users) users",
    "with orders as (select ssn x from users) select x from orders", "with orders(x) as (select ssn from users) select * from orders",
    "with recursive orders(x, n) as (select ssn, 1 from users union all select x, n + 1 from orders where n < 2) select x, n from orders",
    "select a from (select b as a from (select ssn as b from users) s) t", "select distinct ssn from users", "select ssn from users group by ssn",
    "select upper(ssn), lower(ssn), concat(ssn), concat('', ssn), ssn || '' from users", "select reverse(ssn) from users", "select left(ssn, 6), right(ssn, 4), mid(ssn, 1, 6) from users",
    "select hex(ssn), to_base64(ssn) from users", "select coalesce(ssn, 'x'), ifnull(ssn, 'x'), nullif(ssn, 'x') from users",
    "select case when 1 then ssn end, if(1, ssn, 0), elt(1, ssn) from users", "select max(ssn), min(ssn), group_concat(ssn), any_value from (select ssn, 1 any_value from users) t",
    "select first_value(ssn) over (order by id), lag(ssn) over (order by id) from users", "select ssn from users union select 'x'", "select 'x' union all select ssn from users",
    "select x from orders union select ssn from users", "select ssn from users except select 'x'", "select ssn from users intersect select ssn from users",
    "select (select ssn from users limit 1)", "select (select ssn from users where users.id = orders.user_id) from orders", "select cast(ssn as char), convert(ssn using utf8mb4), binary ssn from users",
    "select ssn collate utf8mb4_bin from users", "select json_object('a', ssn), json_array(ssn), json_arrayagg(ssn) from users group by id",
    "select profile from users", "select json_value(profile, '$.ssn'), json_extract(profile, '$.ssn') from users", "select @a := ssn from users",
    "select * from json_table((select json_arrayagg(ssn) from users), '$[*]' columns (x varchar(20) path '$')) orders", "select b from renamed", "select * from renamed",
    "select c, d from twice", "select * from held", "select b as x from held orders", "select * from joined", "select * from united", "select * from grouped", "select * from with_cte", "select * from slashed",
    "select * from `odd.view`", "select * from sub", "select * from defined", "select id, ssn from defined d", "select * from calls", "select peek(1)", "select * from kept", "select folded, hidden from kept",
    "select * from wide", "select ssn from wide", "select * from users natural join kept", "select * from users join kept using (id)", "select ssn from users join kept using (ssn)",
    "select u.ssn from users u left join orders o on o.id = u.id right join kept k on k.id = u.id", "select * from (users join orders on users.id = orders.id)",
    "select table_t.ssn from users table_t", "select users.ssn from users orders, orders users", "select orders.ssn from users orders", "select orders.ssn, users.ssn from users orders, orders users",
    "select 1, ssn, count(*) over () from users", "select ssn, ssn from users", "select id as ssn, ssn as id from users", "values ((select ssn from users limit 1))", "select * from (values ('x', (select ssn from users limit 1))) orders",
    "select row_number() over (), ssn from users", "execute immediate 'select ssn from users'", "select ssn from users order by id limit 1 offset 1", "select ssn from users for update",
    "select quote(ssn), trim(ssn), replace(ssn, 'x', ''), lpad(ssn, 20, ' '), repeat(ssn, 1), insert(ssn, 1, 0, '') from users", "select greatest(ssn, ''), least(ssn, 'zzz') from users",
    "select ssn from users where exists (select 1)", "select t.ssn from (select * from users) t", "select * from (select * from users) orders", "select * from (select u.* from users u) t join orders o on o.id = t.id",
    "select name, (select group_concat(x) from (select ssn as x from users) orders) from users", "select max(x) from (select ssn x from users) orders", "select extractvalue(concat('<a>', ssn, '</a>'), '/a') from users",
    "select substring_index(ssn, '-', 2) from users", "select ssn from users where id in (select user_id from orders)", "delete from kept where id = 99 returning ssn", "insert into kept (id) values (98) returning ssn, id",
    "select distinct a.ssn, b.ssn from users a, users b", "select users.ssn from lineage.users", "select lineage.users.ssn from users", "select x.ssn from orders x, users y", "select y.ssn from orders x, users y",
    "handler users open", "handler users read first", "handler users close", "show columns from users", "show create table users", "explain select ssn from users", "describe users", "select database(), version()",
    "select count(*) from users", "select id, name from users", "select id + 1, upper(name) from users", "select o.x from orders o", "analyze format=json select ssn from users", "show warnings",
]  # fmt: skip


@pytest.fixture(scope="module")
def link(mariadb: MariaDB) -> Iterator[Any]:
    mariadb.admin("create database lineage")
    mariadb.admin(SCHEMA, "lineage")
    connection = pymysql.connect(host="127.0.0.1", port=mariadb.port, user="tester", password="secret", database="lineage", autocommit=True)
    yield connection
    connection.close()


def load(link: Any, statement: str = CATALOGUE) -> Answer:
    answer = Answer()
    with link.cursor() as cursor:
        cursor.execute(statement)
        for kind, data, _ in cursor.fetchall():
            answer.add(kind if isinstance(kind, bytes) else kind.encode(), data if isinstance(data, bytes) else data.encode())
    return answer


@pytest.fixture(scope="module")
def reader(link: Any) -> MySQL:
    """Return a reader that has been told of the server what the server says."""
    reader = MySQL(Shared(), "db:3306", True)
    login = client("startup", name="tester", status="lineage")
    reader.ask(login)
    reader.sent(login)
    reader.heard(server("complete", cursor="ready"))
    told(reader, link)
    return reader


def told(reader: MySQL, link: Any) -> None:
    reader.wanted(reader.ask(client("query", text="select a from users")))
    with link.cursor() as cursor:
        cursor.execute(CATALOGUE)
        values = [Value(v if isinstance(v, bytes) else str(v).encode()) for found in cursor.fetchall() for v in found]
    reader.heard(server("injected", values=tuple(values)))
    reader.heard(server("injected-done"))


def run(link: Any, text: str) -> tuple[list[tuple[object, ...]], list[str]]:
    """Return the rows, and the origin of each column as the wire would say it."""
    with link.cursor() as cursor:
        cursor.execute(text)
        rows = list(cursor.fetchall()) if cursor.description else []
        fields = cursor._result.fields if cursor.description else []
    origins = [f"{f.db.decode()}.{f.org_table}.{f.org_name}" if f.org_table and f.org_name else "" for f in fields]
    return rows, origins


def test_the_catalogue_is_that_of_the_server(link: Any) -> None:
    answer = load(link)
    catalog, state = answer.catalog(), answer.state()
    assert catalog is not None
    assert state is not None
    assert (state.database, state.charset, state.user) == ("lineage", "utf8mb4", "tester@%")
    users = catalog.find("lineage", "users")
    assert users is not None
    assert [c.name for c in users.columns] == ["id", "name", "ssn", "email", "profile"]
    kept = catalog.find("lineage", "kept")
    assert kept is not None
    assert [(c.name, c.invisible) for c in kept.columns][-1] == ("hidden", True)
    assert "ssn" in kept.columns[2].made_of
    renamed = catalog.find("lineage", "renamed")
    assert renamed is not None
    assert renamed.view
    assert catalog.find("information_schema", "TABLES") is None


HOSTILE = [
    "set sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE,HIGH_NOT_PRECEDENCE'", "set sql_mode = ORACLE", "set sql_mode = MSSQL",
    "set character_set_results = utf16", "set collation_connection = ucs2_general_ci", "set character_set_results = null", "set sql_select_limit = 1", "set group_concat_max_len = 4",
    "set names gbk", "set names sjis", "set sql_auto_is_null = 1", "set optimizer_switch = 'derived_merge=off'", "set max_sort_length = 8", "lock tables lineage.users read", "start transaction read only",
    "set autocommit = 0", "set time_zone = '+13:00'", "set lc_time_names = 'ja_JP'", "set div_precision_increment = 0", "set @@session.character_set_client = latin1",
]  # fmt: skip


@pytest.mark.parametrize("setting", HOSTILE)
def test_settings_of_the_client_do_not_change_what_ours_mean(mariadb: MariaDB, link: Any, setting: str) -> None:
    plain = load(link).catalog()
    other = pymysql.connect(host="127.0.0.1", port=mariadb.port, user="tester", password="secret", database="lineage", autocommit=True, use_unicode=False)
    try:
        with other.cursor() as cursor:
            cursor.execute(setting)
        found = load(other)
        assert load(other, STATE).state() == found.state()
    finally:
        other.close()
    catalog = found.catalog()
    assert isinstance(catalog, Catalog)
    assert isinstance(plain, Catalog)
    assert {r.path: r for r in catalog.relations.values()} == {r.path: r for r in plain.relations.values()}


@pytest.mark.parametrize("text", SHAPES)
def test_no_secret_is_in_a_cell_that_would_be_shown(link: Any, reader: MySQL, text: str) -> None:
    message = client("query", text=text)
    facts = reader.ask(message)
    assert facts is not None
    rows, origins = run(link, text)
    for place, origin in enumerate(origins):
        names = reader.origins(facts, Column("x", origin=origin, place=place))
        cells = [str(row[place]) for row in rows]
        secret = any(piece in cell for cell in cells for piece in PIECES)
        shown = names is not None and not names & PROTECTED
        assert not (secret and shown), f"{text}: place {place} is said to be {names}, and shows {cells}"
        touched = "table" in facts.unknown or "?.?" in facts.values["table"] or facts.values["column"] & PROTECTED
        assert not secret or touched, "a mask would not even look at it"


PLAIN = {
    "select id, name from users": ["lineage.users.id", "lineage.users.name"],
    "select o.x, u.name as n from orders o join users u on u.id = o.user_id": ["lineage.orders.x", "lineage.users.name"],
    "select * from orders": ["lineage.orders.id", "lineage.orders.user_id", "lineage.orders.x", "lineage.orders.ssn"],
    "select distinct name from users": ["lineage.users.name"],
    "select a from renamed": ["lineage.renamed.a lineage.users.id"],
    "select count(*), 1, now() from users": ["", "", ""],
    "show columns from users": [""] * 6,
    "describe users": [""] * 6,
    "show create table users": ["", ""],
    "show tables": [""],
    "execute immediate 'select id from users'": ["lineage.users.id"],
    "select name from users where id in (select user_id from orders) order by name limit 1": ["lineage.users.name"],
}


@pytest.mark.parametrize("text", PLAIN)
def test_plain_columns_are_known(link: Any, reader: MySQL, text: str) -> None:
    """Where nothing is protected, nothing is masked."""
    facts = reader.ask(client("query", text=text))
    assert facts is not None
    assert not facts.unknown
    _, origins = run(link, text)
    found = [reader.origins(facts, Column("x", origin=origin, place=at)) for at, origin in enumerate(origins)]
    assert [None if names is None else " ".join(sorted(names)) for names in found] == PLAIN[text]


FORGED = ["select x from (select ssn x from users) orders", "with orders as (select ssn x from users) select x from orders"]


@pytest.mark.parametrize("text", FORGED)
def test_the_server_can_be_made_to_name_another_column(link: Any, reader: MySQL, text: str) -> None:
    """Why the server's word alone is not taken: it is the same, byte for byte, as for the real column."""
    assert run(link, text)[1] == run(link, "select x from orders")[1] == ["lineage.orders.x"]
    facts = reader.ask(client("query", text=text))
    assert facts is not None
    assert reader.origins(facts, Column("x", origin="lineage.orders.x")) is None
