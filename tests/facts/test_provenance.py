"""What we say of columns against what a real server says of them (RowDescription, pg_get_viewdef, pg_depend)."""

from collections.abc import Iterator

import msgspec
import psycopg
import pytest

from appliance.facts.catalog import CATALOGUE, STATE, Answer, Catalog, search_path
from appliance.facts.sql import World, read
from appliance.facts.sql.lineage import origin
from appliance.lab.servers import Postgres

pytestmark = pytest.mark.peer

MORE = """
set role acme;
create view renamed as select id as a, ssn as b from users;
create view twice as select b as c, upper(b) as d from renamed;
create view joined as select u.ssn, o.note, count(*) over () as n from users u left join orders o on o.user_id = u.id;
create view unioned as select ssn from users union all select ssn from people;
create view grouped as select name, max(ssn) as top from users group by name having max(ssn) <> '';
create view with_cte as with x as (select ssn as s from users) select s from x;
create recursive view climbing (n, s) as select 1, ssn from users union all select n + 1, s from climbing where n < 3;
create view calls as select peek(id) as p from users;
create view whole as select users as u from users;
create view "Odd.View" as select ssn as "a.b", id as "c""d" from users;
create view updatable as select id, ssn from users where id > 0;
create view laterals as select l.x from users u cross join lateral (select u.ssn as x) l;
create view funcs as select j.key, j.value from users u, jsonb_each_text(u.profile) j;
create view sub as select (select max(ssn) from users) as m, exists (select 1 from people) as e;
create materialized view mat as select ssn as s from users;
create table logged (id int, ssn text);
create function note() returns trigger language plpgsql as 'begin return new; end';
create trigger t before insert on logged for each row execute function note();
create view over_logged as select id from logged;
create table parted (id int) partition by list (id);
create table part_one partition of parted for values in (1);
create trigger t before insert on part_one for each row execute function note();
create table kept (id int, ssn text);
create rule r as on delete to kept do instead nothing;
create schema shadow;
create function shadow.lower(text) returns text language sql as 'select $1';
create function shadow.json_build_array(text, text, text) returns json language sql as 'select ''[]''::json';
create function shadow.current_setting(text) returns text language sql as 'select ''evil''::pg_catalog.text';
create function shadow.same(text, text) returns bool language sql as 'select true';
create operator shadow.= (leftarg = text, rightarg = text, function = shadow.same);
create domain shadow.text as pg_catalog.text;
create table shadow.pg_class (oid int);
create function public.initcap(text) returns text language sql as 'select $1';
create domain positive as int check (value > 0);
create function fine(int) returns bool language sql as 'select true';
create domain checked as int check (fine(value));
create type mood as enum ('sad');
"""


@pytest.fixture(scope="module")
def link(postgres: Postgres) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    postgres.admin("create database lineage owner acme template shop")
    postgres.admin(MORE, "lineage")
    with psycopg.connect(f"host={postgres.home} port={postgres.port} user=acme dbname=lineage", autocommit=True) as connection:
        yield connection


def load(link: psycopg.Connection[tuple[object, ...]], statement: str = CATALOGUE) -> Answer:
    answer = Answer()
    for kind, text in link.execute(statement).fetchall():
        answer.add(str(kind), str(text))
    return answer


@pytest.fixture(scope="module")
def world(link: psycopg.Connection[tuple[object, ...]]) -> World:
    return world_of(load(link))


def world_of(answer: Answer) -> World:
    catalog, state = answer.catalog(), answer.state()
    assert catalog is not None
    assert state is not None
    return World(search_path(state.path), state.user, state.temp, catalog, True)


def catalog_of(world: World) -> Catalog:
    assert world.catalog is not None
    return world.catalog


SHAPES = [
    "select ssn from users", "select * from users", "select ssn as x from users", "select a from (select ssn as a from users) t",
    "select a from (select b as a from (select ssn as b from users) s) t", "with t as (select ssn from users) select ssn from t",
    "with t as materialized (select ssn as a from users) select a from t", "with t(z) as (select ssn from users) select z from t",
    "select l.a from users u, lateral (select u.ssn as a) l", "select u.ssn, o.note from users u join orders o on o.user_id = u.id",
    "select u.ssn from users u left join orders o on o.user_id = u.id", "select distinct ssn from users",
    "select ssn from users group by ssn", "update users set name = name returning ssn", "delete from users where false returning ssn",
    "insert into users (id, name) select 99, 'x' where false returning ssn",
    "with d as (update users set name = name returning ssn as q) select q from d", "select ssn from users tablesample system (100)",
    "select ssn from only users", "select ssn from users for update", "select (users).ssn from users", "select (u).* from users u",
    "select ssn::text from users", "table users", "select users.* from users, orders", "select o.*, u.ssn from orders o, users u",
    "select upper(ssn) from users", "select ssn::varchar(5) from users", 'select ssn collate "C" from users', "select 'x' || ssn from users",
    "select case when true then ssn end from users", "select coalesce(ssn, '') from users", "select nullif(ssn, '') from users",
    "select max(ssn) from users", "select first_value(ssn) over () from users", "select ssn from users union select ssn from people",
    "select ssn from users union all select 'x'",
    "with recursive r(a, n) as (select ssn, 1 from users union all select a, n + 1 from r where n < 2) select a, n from r",
    "select ssn from users u full join people p using (ssn)", "select (select ssn from users limit 1)", "select row(ssn) from users",
    "select to_json(u) from users u", "select row_to_json(users) from users", "select users from users", "select u from users u",
    "select * from json_each((select to_json(u) from users u limit 1))", "select unnest(tags) from users", "select tags[1] from users",
    "select profile->>'ssn' from users", "select string_agg(ssn, ',') from users", "select array(select ssn from users)",
    "select * from users natural join people", "select * from users join people using (ssn)", "select x.* from (users join orders on user_id = users.id) as x",
    "values ((select ssn from users limit 1))", "select b from renamed", "select * from renamed", "select c, d from twice", "select * from joined",
    "select * from unioned", "select * from grouped", "select * from with_cte", "select * from climbing", "select u from whole",
    "select (u).ssn from whole", 'select * from "Odd.View"', "select * from updatable", "update updatable set ssn = ssn returning ssn",
    "select * from laterals", "select * from funcs", "select * from sub", "select * from mat", "select s from mat m", "select * from events",
    "select * from events_2026", "select * from people", "select * from staff", "select p.ssn from only people p", "select * from user_list",
    "select folded from user_calc", "select * from user_copy", "select ssn from other.users", "select relname, ssn from pg_class, users",
    "select * from (values (1, 2)) as v(a, b), users", "select count(*), count(ssn) from users", "select ctid, tableoid, ssn from users",
    "select * from (select * from users) as t(a, b, c)", "select t.c from (select * from users) as t(a, b, c)",
    "select 1 from users order by ssn", "select a.ssn, b.ssn from users a, users b", "select ssn as id, id as ssn from users",
]  # fmt: skip


@pytest.mark.parametrize("text", SHAPES)
def test_the_server_names_no_column_that_we_do_not(link: psycopg.Connection[tuple[object, ...]], world: World, text: str) -> None:
    reading = read(text, world)
    assert "column" not in reading.unknown, reading.why
    with link.transaction(force_rollback=True):
        result = link.execute(text).pgresult
    assert result is not None
    for at in range(result.nfields):
        table, attribute = result.ftable(at), result.ftablecol(at)
        if table and attribute > 0:
            names = origin(catalog_of(world), table, attribute)
            assert names, f"origin of {table}.{attribute} is not known"
            assert names <= reading.values["column"]
        elif table:
            assert origin(catalog_of(world), table, attribute) is None
    columns = [(c.table, c.attribute) for c in reading.outputs]
    if len(columns) == result.nfields and not any(o.name == "*" for o in reading.outputs):
        for at, (table, attribute) in enumerate(columns):
            if table and result.ftable(at):
                assert (table, attribute) == (result.ftable(at), result.ftablecol(at))
            assert not (table and not result.ftable(at)) or "full join" in text, "we claim what the server does not"


@pytest.mark.parametrize("text", [t for t in SHAPES if "users" in t or any(v in t for v in ("renamed", "twice", "joined", "whole", "mat", "sub"))])
def test_a_read_of_the_table_is_never_missed(world: World, text: str) -> None:
    assert "public.users" in read(text, world).values["table"] or "other.users" in text or "people" in text


LINEAGE = {
    ("renamed", "b"): "users.ssn", ("twice", "c"): "users.ssn renamed.b", ("twice", "d"): "users.ssn renamed.b",
    ("joined", "note"): "orders.note", ("joined", "n"): "", ("unioned", "ssn"): "users.ssn people.ssn staff.ssn",
    ("grouped", "top"): "users.ssn", ("grouped", "name"): "users.name", ("with_cte", "s"): "users.ssn", ("climbing", "s"): "users.ssn",
    ("climbing", "n"): "", ("Odd.View", "a.b"): "users.ssn", ("laterals", "x"): "users.ssn", ("funcs", "value"): "users.profile",
    ("sub", "m"): "users.ssn", ("mat", "s"): "users.ssn", ("user_list", "number"): "users.ssn", ("user_calc", "folded"): "users.ssn",
}  # fmt: skip


@pytest.mark.parametrize(("view", "column"), LINEAGE)
def test_base_columns_of_views(world: World, view: str, column: str) -> None:
    catalog = catalog_of(world)
    relation = catalog.find("public", view)
    assert relation is not None
    attribute = next(a for a in relation.attributes or () if a.name == column)
    names = origin(catalog, relation.oid, attribute.number)
    own = msgspec.structs.replace(relation, name=view).full
    quoted = f'{own}."{column}"' if "." in column else f"{own}.{column}"
    assert names == {quoted, *(f"public.{n}" for n in LINEAGE[view, column].split())}


def test_every_view_is_understood_as_the_server_understands_it(link: psycopg.Connection[tuple[object, ...]], world: World) -> None:
    """pg_depend has the columns a view depends on: ours are among them, and each relation of them is named."""
    rows = link.execute(
        "select v.relname, t.relname, a.attname from pg_rewrite r join pg_class v on v.oid = r.ev_class "
        "join pg_depend d on d.objid = r.oid and d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass "
        "join pg_class t on t.oid = d.refobjid and t.oid <> v.oid left join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid "
        "and a.attnum > 0 where v.oid >= 16384"
    ).fetchall()
    catalog = catalog_of(world)
    for view in {str(v) for v, _, _ in rows}:
        relation = catalog.find("public", view)
        assert relation is not None
        tables = read(f'select 1 from "{view}"', world).values["table"]
        assert {f"public.{t}" for v, t, _ in rows if v == view} <= tables
        depends = {f"public.{t}.{a}" for v, t, a in rows if v == view}
        direct = {f"public.{t}" for v, t, _ in rows if v == view}
        for attribute in relation.attributes or ():
            names = origin(catalog, relation.oid, attribute.number) or frozenset()
            mine = {n for n in names if n.rpartition(".")[0] in direct and not n.endswith(".*")}
            assert mine <= depends or view in ("whole", "calls")


class TestHiddenCode:
    def test_function_in_a_view(self, world: World) -> None:
        assert "effect" in read("select p from calls", world).unknown

    def test_triggers_and_rules(self, world: World) -> None:
        assert "effect" in read("insert into logged values (1)", world).unknown
        assert "effect" in read("delete from kept", world).unknown
        assert not read("select * from logged, kept", world).unknown

    def test_triggers_behind_a_view_and_on_a_partition(self, world: World) -> None:
        assert "effect" in read("update over_logged set id = 1", world).unknown
        assert "effect" in read("insert into parted values (1)", world).unknown
        assert not read("update updatable set id = 1", world).unknown

    def test_foreign_keys_are_no_code_of_a_user(self, world: World) -> None:
        assert not read("insert into orders (id) values (1)", world).unknown

    def test_overloads_of_built_ins(self, world: World) -> None:
        assert "effect" in read("select initcap('x')", world).unknown
        assert not read("select lower('x')", world).unknown  # the other is in a schema that is not searched
        searched = msgspec.structs.replace(world, path=("shadow", "public"))
        assert "effect" in read("select lower('x')", searched).unknown
        assert "effect" in read("select 'x' = 'y'", searched).unknown
        assert not read("select pg_catalog.initcap('x')", world).unknown

    def test_types(self, world: World) -> None:
        assert "effect" in read("select 1::checked", world).unknown
        assert not read("select 1::positive, 'sad'::mood", world).unknown


class TestOurOwnStatement:
    HOSTILE = "set search_path = shadow, pg_catalog, public"

    def test_means_the_same_under_a_hostile_path(self, link: psycopg.Connection[tuple[object, ...]], world: World) -> None:
        link.execute(self.HOSTILE)
        try:
            other = world_of(load(link))
        finally:
            link.execute("reset search_path")
        assert catalog_of(other).path == ("pg_catalog",)
        assert other.path == ("shadow", "pg_catalog", "public")
        assert catalog_of(other).relations == catalog_of(world).relations
        assert catalog_of(other).functions == catalog_of(world).functions
        for text in ("select b from renamed", "select d from twice", "select s from climbing"):
            plain = msgspec.structs.replace(other, path=("$user", "public"))
            assert read(text, plain).values["column"] == read(text, world).values["column"]

    def test_is_of_pg_catalog_alone(self) -> None:
        world = World(path=None)
        for text in (STATE, CATALOGUE):
            reading = read(text, world)
            assert not reading.unknown - {"table", "column", "compared", "copied", "written"}, reading.why
            assert all(f.startswith("pg_catalog.") for f in reading.values["function"])
            assert all(t.startswith("pg_catalog.") for t in reading.values["table"])

    def test_state_of_a_temporary_schema(self, link: psycopg.Connection[tuple[object, ...]]) -> None:
        link.execute("create temp table users (ssn text)")
        try:
            state = load(link, STATE).state()
            assert state is not None
            assert state.temp.startswith("pg_temp_")
            assert read("select ssn from users", world_of(load(link))).values["table"] == {f"{state.temp}.users"}
        finally:
            link.execute("discard temp")

    def test_limit_of_attributes(self, link: psycopg.Connection[tuple[object, ...]]) -> None:
        few = CATALOGUE.replace("OPERATOR(pg_catalog.<=) 200000", "OPERATOR(pg_catalog.<=) 10")
        assert few != CATALOGUE
        assert load(link, few).catalog() is None
