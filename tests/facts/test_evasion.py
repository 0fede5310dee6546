"""Ways to hide what a statement does, one test each, as far as the text can tell. PROTOCOLS.md has the catalogue."""

import pytest

from appliance.facts.sql import ALL, World, read
from tests.facts.small import KNOWN, PLAIN, words

HIDDEN_WRITES = {
    "cte": "with d as (delete from users returning *) select * from d",
    "cte in a subquery": "select (with d as (select 1) select * from d) from (values (1)) v where exists (with x as (select 1) select 1)",
    "nested comment": "/* /* */ */ delete from users",
    "unclosed looking comment": "select '/*'; delete from users; --*/",
    "dashes in a string": "select '--'; delete from users",
    "escape string": r"select E'\''; delete from users; --'",
    "unicode identifier": 'delete from U&"\\0075sers"',
    "unicode identifier with its own escape": 'delete from U&"!0075sers" uescape \'!\'',
    "dollar quotes": "select $a$ ' $a$; delete from users; select $b$ ' $b$",
    "dollar quote in a dollar quote": "select $a$ $b$ $a$; delete from users; select $c$ $b$ $c$",
    "strings that continue": "select 'a'\n'b'; delete from users",
    "merge": "merge into users using users s on true when matched then delete",
    "second statement": "select 1; delete from users",
    "commit first": "commit; delete from users",
    "explain analyze": "explain (costs off, analyze) delete from users",
    "prepared": "prepare p as delete from users",
    "copy": "copy (delete from users returning *) to stdout",
    "do": "do $$ begin delete from users; end $$",
    "do with a branch": "do $$ begin if false then delete from users; end if; end $$",
    "do with a handler": "do $$ begin null; exception when others then delete from users; end $$",
    "do with a cursor": "do $$ declare c cursor for delete from users returning 1; begin null; end $$",
    "do with a loop": "do $$ declare r record; begin for r in delete from users returning id loop null; end loop; end $$",
    "do with an old literal": "do 'begin delete from users; end' language plpgsql",
    "function body": "create function f() returns int language sql as 'delete from users returning 1'",
    "function atomic": "create function f() returns int begin atomic delete from users returning 1; end",
    "rule": "create rule r as on select to t do instead delete from users",
    "insert on conflict": "insert into users values (1) on conflict (id) do update set name = 'x'",
}


@pytest.mark.parametrize("text", [t for n, t in HIDDEN_WRITES.items() if n != "cte in a subquery"], ids=[n for n in HIDDEN_WRITES if n != "cte in a subquery"])
def test_hidden_write(text: str) -> None:
    reading = read(text, PLAIN)
    assert "write" in reading.values["effect"]
    assert "?.users" in reading.values["table"]


@pytest.mark.parametrize("text", ["do $$ begin execute 'delete from t'; end $$", "do $$ begin execute format('drop table %I', 't'); end $$", "do $$ declare r record; begin for r in execute 'x' loop null; end loop; end $$", "do $$ declare c refcursor; begin open c for execute 'x'; end $$", "do $$ nonsense $$", "do language plpython3u $$ pass $$", "create function f() returns int language plpgsql as $$ begin return query execute 'x'; end $$", "create function f() returns int language c as 'x'", "create function f() returns trigger language plpgsql as $$ begin return null; end $$"])
def test_bodies_that_are_not_seen_may_do_anything(text: str) -> None:
    reading = read(text, PLAIN)
    assert {"effect", "table", "column", "statement"} <= reading.unknown
    assert "procedure" in reading.values["effect"]


PARTS = """
declare x int := m1(); c cursor (a int) for select m2(); r record; y constant int default m3(); a int[];
begin
 if m4() then x := m5(); elsif m6() then perform m7(); else x := m8(); end if;
 case m9() when m10() then x := m11(); else x := m12(); end case;
 case when m13() then x := m14(); end case;
 loop exit when m15(); continue when m16(); end loop;
 while m17() loop x := m18(); end loop;
 for i in m19()..m20() by m21() loop x := m22(); end loop;
 for r in select m23() loop x := m24(); end loop;
 for r in execute m25() using m26() loop null; end loop;
 for r in c(m27()) loop x := m28(); end loop;
 foreach x in array m29() loop x := m30(); end loop;
 begin x := m31(); exception when others then x := m32(); when division_by_zero then delete from m33; end;
 raise notice 'a %', m34() using message = m35(), detail = m36();
 assert m37(), m38();
 execute m39() into x using m40(), m41();
 open c(m42()); fetch absolute m43() from c into x; move forward m44() in c; close c;
 a[m45()] := m46(); call m47(m48()); perform m49() from t where m50();
 insert into t values (m51()) returning m52() into x;
 <<lbl>> declare z int := m53(); begin z = m54(); end;
 select m55() into strict x from t; update t set a = m56() returning * into r;
end
"""


def test_no_part_of_a_body_is_overlooked() -> None:
    """libpg_query gives a body as JSON of its own make: each place an expression can stand is tried."""
    reading = read(f"do $${PARTS}$$", PLAIN)
    seen = {f.removeprefix("?.") for f in reading.values["function"]} | {t.removeprefix("?.") for t in reading.values["table"]}
    assert {f"m{n}" for n in range(1, 57)} <= seen


def test_a_body_cannot_write_into_the_json_that_describes_it() -> None:
    text = """do $$ declare "x"",""body"":[],""y" int := 1; begin raise notice 'a"],"body":[]'; delete from users; end $$"""
    assert "write" in read(text, PLAIN).values["effect"]


@pytest.mark.parametrize("text", ["values ((select ssn from users))", "select (table users)", "select array(select ssn from users)", "select exists(select 1 from users where ssn like '1%')", "select 1 in (select ssn from users)", "select row((select ssn from users))", "select case when (select true from users where ssn = '1') then 1 end", "select 1 order by (select ssn from users limit 1)", "select 1 limit (select length(ssn) from users limit 1)", "select coalesce((select ssn from users), '')", "select * from lower((select ssn from users))", "select count(*) filter (where (select ssn from users) = '1') from t", "select sum(1) over (order by (select ssn from users)) from t", "select sum(1) over w from t window w as (partition by (select ssn from users))", "select xmlelement(name a, (select ssn from users))", "select json_object('a': (select ssn from users))", "select * from t tablesample bernoulli ((select length(ssn) from users))", "select * from t join u on (select ssn from users) = '1'", "select * from xmltable('/a' passing (select ssn::xml from users) columns b text)", "insert into t values ((select ssn from users))", "update t set (a, b) = (select ssn, 1 from users)", "delete from t where a = (select ssn from users)", "insert into t values (1) on conflict (id) do update set a = (select ssn from users)", "prepare p as select ssn from users", "declare c cursor for select ssn from users", "explain select ssn from users", "create view w as select ssn from users", "copy (select ssn from users) to stdout", "execute p((select ssn from users))", "select (select array[(select (row((select ssn from users))).f1)])", "select 1 from t group by (select ssn from users)", "select grouping((select ssn from users)) from t", "select percentile_cont(0.5) within group (order by (select length(ssn) from users)) from t", "select * from rows from (unnest((select array[ssn] from users)), generate_series(1, 2))", "merge into t using (select ssn from users) s on true when not matched then insert values (s.ssn)", "select * from json_table((select ssn::jsonb from users), '$' columns (a text path '$'))", "set x = 1; select ssn from users", "create table n (a int default (select ssn from users))", "with recursive r as (select 1 as n union all select (select length(ssn) from users) from r) select * from r"])
def test_a_read_is_found_wherever_it_stands(text: str) -> None:
    reading = read(text, PLAIN)
    assert "?.users" in reading.values["table"]
    assert reading.values["column"] & {"?.users.ssn", "?.users.*"} or "table users" in text


class TestNames:
    def test_quoted_with_a_quote(self) -> None:
        assert words('select * from "quoted ""id"', "table") == '?."quoted ""id"'

    def test_case_is_folded_unless_quoted(self) -> None:
        assert words('select 1 from USERS, "USERS"', "table") == "?.USERS ?.users"

    def test_a_dot_inside_a_name_is_quoted(self) -> None:
        assert words('select 1 from "public.users"', "table") == '?."public.users"'

    @pytest.mark.parametrize("name", ["\uff55\uff53\uff45\uff52\uff53", "us\u200bers", "\u0455ers"])
    def test_homoglyphs_are_other_names(self, name: str) -> None:
        assert words(f'select 1 from "{name}"', "table") == f"?.{name}"

    def test_long_names_are_cut_as_the_server_cuts_them(self) -> None:
        assert words(f"select 1 from {'a' * 70}", "table") == f"?.{'a' * 63}"

    def test_database_in_front(self) -> None:
        assert words("select shop.public.users.ssn from shop.public.users", "column") == "public.users.ssn"


class TestSettings:
    def test_backslash_without_standard_strings(self) -> None:
        world = World(strings=False)
        assert read(r"select '\''; drop table t; --'", world).unknown == ALL
        assert not read("select 'x'", world).unknown

    def test_encoding_that_hides_a_quote(self) -> None:
        world = World(encoded=False)
        assert read("select '\u8868'; drop table t", world).unknown == ALL
        assert not read("select 'x'", world).unknown


class TestOracles:
    """What tells of a column without showing it."""

    @pytest.mark.parametrize("text", ["select 1 from users where ssn = '1'", "select 1 from users where substr(ssn, 1, 1) > '1'", "select 1 from users order by ssn", "select id, ssn as s from users order by s", "select id, ssn from users order by 2", "select 1 from users group by ssn", "select count(*) from users group by cube (ssn)", "select 1 from users group by id having max(ssn) > '1'", "select distinct ssn from users", "select distinct on (ssn) 1 from users", "select ssn from users union select 'x'", "select ssn from users except all select 'x'", "select ssn from users intersect all select 'x'", "select 1 from users u join orders o on u.ssn = o.note", "select 1 from users a join users b using (ssn)", "select 1 from users natural join users b", "select 1 where exists (select from users where ssn = '1')", "select id from users where ssn in ('1')", "select 1 from users where '1' = any (select ssn from users)", "select 1 / (case when ssn like '1%' then 0 else 1 end) from users", "select 1 / (ascii(ssn) - 49) from users", "select row_number() over (order by ssn) from users", "select rank() over (partition by ssn) from users", "select count(*) filter (where ssn = '1') from users", "select string_agg('x', ',' order by ssn) from users", "select count(distinct ssn) from users", "select generate_series(1, ascii(ssn)) from users", "select regexp_split_to_table(ssn, '') from users", "select 1 from users, generate_series(1, length(ssn))", "select 1 limit (select ascii(ssn) from users limit 1)", "delete from users where ssn = '1'", "update users set name = 'x' where ssn = '1'", "delete from users u using orders o where u.ssn = o.note", "merge into orders using users u on u.ssn = '1' when matched then delete", "merge into orders using users u on true when matched and u.ssn = '1' then delete", "insert into orders values (1) on conflict (id) do update set note = 'x' where (select ssn from users) = '1'", "explain select 1 from users where ssn = '1'", "select x from (select ssn as x from users) t where x = '1'", "with t as (select ssn as x from users) select 1 from t where x = '1'", "select 1 from (select ssn from users) t(a) order by a", "with recursive r(a) as (select ssn from users union all select a from r) select 1 from r where a = '1'", "prepare p as select 1 from users where ssn = $1", "copy (select 1 from users where ssn = '1') to stdout", "select ssn from users order by 1 using <"])
    def test_compared(self, text: str) -> None:
        reading = read(text, KNOWN)
        assert "public.users.ssn" in reading.values["compared"]

    @pytest.mark.parametrize("text", ["select ssn from users", "select * from users", "select upper(ssn) from users", "select max(ssn) from users", "select ssn from users where id = 1 order by name", "select ssn from users union all select 'x'", "select coalesce(ssn, '') from users", "select unnest(string_to_array(name, ',')), ssn from users", "select first_value(ssn) over () from users", "with recursive r(a, n) as (select ssn, 1 from users union all select a, n + 1 from r where n < 2) select a from r", "insert into users (ssn) values ('1')"])
    def test_not_compared(self, text: str) -> None:
        assert "public.users.ssn" not in read(text, KNOWN).values["compared"]


class TestLaundering:
    """Values that end up where no mask follows them."""

    @pytest.mark.parametrize("text", ["create table n as select ssn from users", "create table n as select upper(ssn) as x from users", "create temp table n as table users", "select * into n from users", "create view w as select ssn from users", "create materialized view w as select ssn from users", "insert into orders select 1, 2, ssn from users", "insert into orders (note) values ((select ssn from users))", "update orders set note = ssn from users", "update users set name = ssn", "update orders set (note, id) = (select ssn, 1 from users)", "merge into orders using users u on true when not matched then insert (note) values (u.ssn)", "merge into orders using users u on true when matched then update set note = u.ssn", "insert into orders values (1) on conflict (id) do update set note = (select ssn from users)", "copy users to '/tmp/x'", "copy (select ssn from users) to program 'x'", "select pg_notify('c', ssn) from users", "select set_config('a.b', ssn, false) from users", "select lo_from_bytea(0, ssn::bytea) from users", "do $$ declare x text; begin select ssn into x from users; insert into orders values (1, 2, x); end $$", "select my.send(ssn) from users", "create function f() returns text language sql as 'select ssn from users'", "explain analyze create table n as select ssn from users", "with i as (insert into orders select 1, 2, ssn from users returning *) select 1"])
    def test_copied(self, text: str) -> None:
        assert read(text, KNOWN).values["copied"] & {"public.users.ssn", "public.users.*"}

    @pytest.mark.parametrize("text", ["select ssn from users", "update users set ssn = ssn || 'x'", "update users set ssn = 'x' where ssn = 'y'", "copy users to stdout", "insert into users (ssn) values ('x')", "delete from users returning ssn", "explain create table n as select ssn from users"])
    def test_not_copied(self, text: str) -> None:
        assert "public.users.ssn" not in read(text, KNOWN).values["copied"]
