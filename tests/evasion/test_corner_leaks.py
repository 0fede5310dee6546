"""What tells of a protected value beside the cells of a result: errors, notices, side channels, other relations.

The rules allow everything but mask: what stays hidden here is hidden by the masks alone. A script may be refused or
answered; what must not happen is that a secret is among the bytes the client got, or in the record of what it got.
test_corner_cases.py says what is where.
"""

from collections.abc import Iterator

import pytest

from appliance.lab.servers import Postgres
from tests.evasion import talk
from tests.evasion.talk import Talk, address, shown
from tests.gate import Gate

pytestmark = pytest.mark.peer

HEAD = """
rules:
  - id: hide
    when:
      column: [public.users.ssn, public.users.tags, public.users.profile, public.late.ssn, public.loud.ssn, public.vault.ssn, public.people.ssn,
               public.events.ssn, public.worker.ssn]
    do: mask
    with: redact
"""
RULES = HEAD + "  - {id: all, do: allow}\n"


@pytest.fixture(scope="module")
def gate(corner: Postgres) -> Iterator[Gate]:
    with Gate(address(corner.port), RULES) as gate:
        yield gate


def run(gate: Gate, *texts: str, extended: bool = False) -> tuple[list[list[talk.Frame]], bytes]:
    """Run statements one by one, roll back, and return the answers; asserts that no secret came."""
    at = len(gate.notes)
    with Talk(gate.port, database="corner") as line:
        answers = [line.ask(talk.extended(text) if extended and ";" not in text else talk.query(text)) for text in texts]
        line.ask(talk.query("rollback"))
        assert not shown(line.seen)
        seen = line.seen
    noted = b"".join(note.raw + note.text.encode() for _, note in list(gate.notes)[at:] if note.side is not None and note.side.value == "server")
    assert not shown(noted), "the record holds what was hidden"
    return answers, seen


ERRORS = {
    "check": ("update users set salary = -1 where id = 1", "23514"),
    "not null": ("update users set name = null where id = 1", "23502"),
    "unique": ("update users set id = 2 where id = 3", "23505"),
    "unique on the column": ("insert into users (id, name, ssn) values (80, 'x', '123-45-6789')", "23505"),
    "unique, found by a cast": ("insert into users (id, name) select 1, 'x'", "23505"),
    "foreign key the other way": ("delete from users where id = 1", "23503"),
    "cast to a number": ("select ssn::int from users", "22P02"),
    "cast of an expression": ("select (ssn || 'x')::int from users", "22P02"),
    "cast to a date": ("select ssn::date from users", "22007"),
    "cast to uuid": ("select ssn::uuid from users", "22P02"),
    "cast to json": ("select ssn::json from users", "22P02"),
    "cast to xml": ("select ('<' || ssn)::xml from users", "2200N"),
    "cast to inet": ("select ssn::inet from users", "22P02"),
    "cast to an array": ("select ('{' || ssn)::text[] from users", "22P02"),
    "cast to a row": ("select ssn::orders from users", "22P02"),
    "cast to a class": ("select ssn::regclass from users", "42P01"),
    "cast to an interval": ("select ssn::interval from users", "22007"),
    "cast to tsquery": ("select ('&' || ssn)::tsquery from users", "42601"),
    "overflow": ("select replace(ssn, '-', '')::smallint from users", "22003"),
    "to_number": ("select to_number(ssn, '9G999RN') from users", ""),
    "to_date": ("select to_date(ssn, 'MON') from users", "22007"),
    "division": ("select 1 / (length(ssn) - 11) from users where id = 1", "22012"),
    "encoding": ("select convert_from(ssn::bytea || '\\xff', 'UTF8') from users", "22021"),
    "decode": ("select decode(ssn, 'hex') from users", "22023"),
    "json path": ("select jsonb_path_query_first(profile, ('strict $.' || ssn)::jsonpath) from users", ""),
    "regular expression": ("select 'x' ~ ('(' || ssn) from users", "2201B"),
    "assignment": ("update users set salary = ssn::numeric where id = 1", ""),
    "domain": ("select ssn::int from vault", "22P02"),
    "view": ("select number::int from user_list", "22P02"),
    "child": ("select ssn::int from staff", "22P02"),
    "upsert twice": ("insert into users (id, name, ssn) values (1, 'x', 'y'), (1, 'x', 'y') on conflict (id) do update set name = 'z'", "21000"),
    "type of a column": ("alter table users alter column ssn type int using ssn::int", "22P02"),
    "a new constraint": ("alter table users add constraint c check (ssn = '')", "23514"),
    "a new unique index": ("create unique index on users ((left(ssn, 0)))", "23505"),
    "explain analyze": ("explain analyze select ssn::int from users", "22P02"),
}


class TestErrors:
    @pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
    @pytest.mark.parametrize(("text", "code"), ERRORS.values(), ids=ERRORS.keys())
    def test_say_no_more_than_a_code(self, gate: Gate, text: str, code: str, extended: bool) -> None:
        answers, _ = run(gate, "begin", text, extended=extended)
        failed = [talk.fields(body) for tag, body in answers[1] if tag == "E"]
        assert [f["C"] in {code, "42501"} or not code for f in failed] == [True]
        assert set(failed[0]) <= set("SVCM")

    def test_of_a_commit(self, gate: Gate) -> None:
        """A deferred constraint fails long after the statement that touched the relation."""
        answers, _ = run(gate, "begin", "update late set ssn = '987-65-4320' where id = 1", "select 1", "commit")
        assert talk.codes(answers[-1]) == ["23505"]
        assert set(talk.fields(answers[-1][-2][1])) <= set("SVCM")

    def test_of_set_constraints(self, gate: Gate) -> None:
        answers, _ = run(gate, "begin", "update late set ssn = '987-65-4320' where id = 1", "set constraints all immediate")
        assert talk.codes(answers[-1]) == ["23505"]

    def test_of_a_row_by_row_portal(self, gate: Gate) -> None:
        with Talk(gate.port, database="corner") as line:
            line.ask(talk.parse("select case when id < 2 then 1 else ssn::int end from users order by id") + talk.bind() + talk.execute("", 1) * 3 + talk.SYNC)
            assert not shown(line.seen)

    def test_of_a_cursor(self, gate: Gate) -> None:
        run(gate, "begin; declare c cursor for select ssn::int from users", "fetch all from c")

    def test_of_a_prepared_statement(self, gate: Gate) -> None:
        run(gate, "prepare broken as select ssn::int from users", "execute broken")

    def test_of_rows_that_a_foreign_key_changes(self, gate: Gate) -> None:
        """`delete from dept` does not name worker; the row of worker that it would change is in the error all the same."""
        answers, _ = run(gate, "begin", "delete from dept", "rollback", "begin", "update dept set id = 2")
        assert [talk.codes(answers[n])[0] in {"23514", "42501"} for n in (1, 4)] == [True, True]

    @pytest.mark.parametrize(("text", "refused"), [
        ("delete from dept", True), ("update dept set id = 2", True), ("merge into dept d using orders o on d.id = o.id when matched then delete", True),
        ("insert into dept values (1) on conflict (id) do update set id = 5", True), ("with d as (delete from dept returning *) select 1", True),
        ("update dept set name = 'x'", False), ("insert into dept values (7)", False), ("insert into dept values (1) on conflict (id) do update set name = 'x'", False),
    ])  # fmt: skip
    def test_what_a_foreign_key_changes_counts_as_touched(self, corner: Postgres, text: str, refused: bool) -> None:
        rules = "rules:\n  - {id: no-worker, when: {table: [public.worker]}, do: block}\n  - {id: all, do: allow}\n"
        with Gate(address(corner.port), rules) as gate, Talk(gate.port, database="corner") as line:
            line.ask(talk.query("begin"))
            assert talk.codes(line.ask(talk.query(text))) == (["42501"] if refused else [])
            line.ask(talk.query("rollback"))

    def test_what_is_the_clients_own_is_told_as_ever(self, gate: Gate, corner: Postgres) -> None:
        told = []
        for port in (gate.port, corner.port):
            with Talk(port, database="corner") as line:
                texts = ("select 'abc'::int", "select nothing from orders", "insert into orders (id) values (1)", "select 1/0", "update orders set user_id = 99")
                told.append([line.ask(talk.query(text)) for text in texts])
        assert told[0] == told[1]


class TestSideways:
    """Notices, notifications and reported settings."""

    @pytest.mark.parametrize("text", [
        "do $$ begin raise notice '%', (select ssn from users where id = 1); end $$",
        "do $$ declare r record; begin for r in select * from users loop raise warning 'x %', r; end loop; end $$",
        "do $$ begin raise exception '%', (select ssn from users where id = 1); end $$",
        "do $$ begin execute 'select set_config(''application_name'', ssn, false) from users'; end $$",
        "update loud set id = 2",
        "insert into loud select id, ssn from users",
        "select set_config('application_name', ssn, false) from users where id = 1",
        "select set_config('application_name', (select ssn from users where id = 1), false)",
        "listen c; select pg_notify('c', ssn) from users where id < 3",
        "listen c; do $$ begin perform pg_notify('c', ssn) from users where id < 3; end $$",
        "set client_min_messages = debug5; select ssn from users; update loud set id = 3",
        "set debug_print_plan = on; set client_min_messages = log; select ssn from users where id = 1",
        "set log_statement_stats = on; set client_min_messages = log; select ssn from users",
        "begin; create function pg_temp.f(t text) returns text language plpgsql as $$ begin raise notice '%', t; return ''; end $$; select pg_temp.f(ssn) from users",
        "create temp table seen (t text); create function pg_temp.g() returns trigger language plpgsql as $$ begin raise notice '%', new; return new; end $$; create trigger g before insert on seen for each row execute function pg_temp.g(); insert into seen select ssn from users",
        "select peek(1)",
        "select * from peek(1)",
        "select name from users where peek(id) like '1%'",
    ])  # fmt: skip
    @pytest.mark.parametrize("apart", [False, True], ids=["at once", "one by one"])
    def test_nothing_comes_that_way(self, gate: Gate, text: str, apart: bool) -> None:
        run(gate, *(text.split("; ") if apart and "$$" not in text else [text]))

    def test_an_honest_notice_and_setting_come(self, gate: Gate) -> None:
        answers, _ = run(gate, "set application_name = 'me'", "select 1 as " + "x" * 70, "drop table if exists not_there")
        assert ("S", b"application_name\0me\0") in answers[0]
        assert "will be truncated" in talk.fields(answers[1][0][1])["M"]
        assert talk.tags(answers[2]) == "NCZ"

    def test_a_notification_of_ones_own(self, gate: Gate) -> None:
        answers, seen = run(gate, "listen own", "notify own, 'text'")
        assert b"own\0text\0" in seen
        assert not any(talk.codes(answer) for answer in answers)


class TestLaundering:
    """A value taken to where no rule looks for it: refused on the way, or masked at the end."""

    SCRIPTS = (
        "create table t as select ssn from users; table t", "create temp table t as select ssn as a from users; table t", "select ssn into t from users; table t",
        "create temp table t (a text); insert into t select ssn from users; table t", "create view v as select ssn as a from users; table v",
        "create temp view v as select * from users; select ssn from v", "create materialized view v as select upper(ssn) from users; table v",
        "create view v as select id, name from users; create or replace view v as select id, ssn as name from users; table v",
        "create temp table t (a text); with s as (select ssn from users) insert into t select * from s returning a",
        "create temp table t (a text); with s as (update users set name = name returning ssn) insert into t select * from s; table t",
        "create temp table t (a text); insert into t values ((select ssn from users where id = 1)); table t",
        "update users set name = ssn; select name from users", "update users set name = (select ssn from users u where u.id = users.id); select name from users",
        "update users set (name, email) = (select ssn, ssn from users u where u.id = users.id); select name from users",
        "update orders set note = u.ssn from users u where u.id = orders.user_id; select note from orders",
        "update orders set note = 'x' || u.ssn from users u where u.id = orders.user_id returning note",
        "insert into users (id, name) values (1, 'x') on conflict (id) do update set name = users.ssn; select name from users",
        "insert into users (id, name) values (1, 'x') on conflict (id) do update set name = users.ssn returning name",
        "merge into orders o using users u on u.id = o.user_id when matched then update set note = u.ssn; select note from orders",
        "merge into orders o using (select id, ssn from users) u on u.id = -1 when not matched then insert (id, note) values (u.id + 100, u.ssn); select note from orders",
        "alter table users add column plain text; alter table users alter column plain type text using ssn; select plain from users",
        "alter table only people drop column ssn; select * from staff", "alter table staff no inherit people; select * from staff",
        "create table top (like events) partition by range (at); alter table events detach partition events_2026; alter table top attach partition events_2026 for values from ('2026-01-01') to ('2027-01-01'); table top",
        "alter view user_list rename column number to plain; select plain from user_list", "alter materialized view user_copy rename column ssn to plain; select plain from user_copy",
        "alter view user_list rename to ul; table ul", "alter view user_list set schema other; select * from other.user_list",
        "alter table users rename column ssn to plain; select plain from users", "alter table users rename to persons; select ssn from persons",
        "alter table users rename column ssn to plain; alter table users rename column name to ssn; select plain, ssn from users",
        "create schema hidden; alter table users set schema hidden; select ssn from hidden.users",
        "alter schema public rename to hidden; select ssn from hidden.users",
        "alter table users add column plain text generated always as (ssn) stored; select plain from users",
        "alter table users add column plain text; update users set plain = ssn; select plain from users",
        "alter table users drop column name; alter table users rename column ssn to name; select name from users",
        "create table child () inherits (users); select * from child", "create table top (ssn text); alter table users inherit top; select ssn from top",
        "create table top (id int, ssn text, at date) partition by list (id); alter table events detach partition events_2026; select ssn from events_2026",
        "alter table events detach partition events_2026; select * from events_2026",
        "create rule r as on update to users do also insert into orders (id, note) values (old.id + 50, old.ssn); update users set name = name; select note from orders",
        "create rule r as on insert to orders do instead select ssn from users; insert into orders (id) values (1)",
        "create rule r as on update to users do instead notify c; update users set name = name",
        "create function f() returns setof text language sql as 'select ssn from users'; select f()",
        "create function f() returns setof text language sql begin atomic select ssn from users; end; select * from f()",
        "create function f(users) returns text language sql as 'select $1.ssn'; select users.f from users", "create function f(u users) returns text language sql as 'select u.ssn'; select f(users) from users",
        "create function f() returns trigger language plpgsql as $$ begin new.name = old.ssn\\; return new\\; end $$; create trigger t before update on users for each row execute function f(); update users set salary = salary returning name",
        "create function f(text) returns bool language plpgsql as $$ begin raise notice '%', $1\\; return true\\; end $$; create policy p on users using (f(ssn)); alter table users enable row level security; alter table users force row level security; select name from users",
        "create function f(text, text) returns bool language sql as 'select true'; create operator === (leftarg = text, rightarg = text, function = f); select name from users where ssn === '1'",
        "create function f(text) returns int immutable language plpgsql as $$ begin raise notice '%', $1\\; return 1\\; end $$; create index on users (f(ssn))",
        "create function f(text) returns bool immutable language plpgsql as $$ begin raise notice '%', $1\\; return true\\; end $$; alter table users add constraint c check (f(ssn))",
        "create function f(text, text) returns text language sql as 'select $1 || $2'; create aggregate gather (text) (sfunc = f, stype = text, initcond = ''); select gather(ssn) from users",
        "create type twin as (id int, name text, ssn text, email text, card text, salary numeric, tags text[], profile jsonb); select row(u.*)::twin from users u",
        "create cast (users as text) with inout; select u::text from users u",
        "select lo_from_bytea(77, ssn::bytea) from users where id = 1; select lo_get(77)", "select setval('s', replace(ssn, '-', '')::int) from users; select currval('s')",
        "create sequence q; select setval('q', replace(ssn, '-', '')::bigint) from users where id = 1; select last_value from q",
        "copy users (ssn) to '/tmp/corner-laundry'; select pg_read_file('/tmp/corner-laundry')",
        "create statistics st (mcv) on ssn, name from users; analyze users; select m.* from pg_statistic_ext_data, pg_mcv_list_items(stxdmcv) m",
        "comment on table orders is 'x'; do $$ begin execute format('comment on table orders is %L', (select ssn from users where id = 1))\\; end $$; select obj_description('orders'::regclass)",
        "prepare p as insert into orders (id, note) select id + 50, ssn from users; execute p; select note from orders",
        "begin; declare c cursor for select ssn from users; create temp table t as select 1; fetch all from c",
        "set session_replication_role = replica; create temp table t (like users including all); insert into t select * from users; table t",
        "begin; savepoint s; create temp view v as select 1 as ssn; rollback to s; create temp view v as select ssn from users; table v",
    )  # fmt: skip

    @pytest.mark.parametrize("script", SCRIPTS)
    @pytest.mark.parametrize("user", ["acme", "tester"])
    def test_no_secret_comes_out(self, gate: Gate, script: str, user: str) -> None:
        parts = [part.replace("\\;", ";") for part in script.replace("\\;", "\\\0").replace(";", "\1").replace("\\\0", "\\;").split("\1")]
        with Talk(gate.port, user, "corner") as line:
            line.ask(talk.query("begin"))
            for n, part in enumerate(parts):
                line.ask(talk.query(f"savepoint s{n}"))
                if talk.codes(line.ask(talk.query(part))):
                    line.ask(talk.query(f"rollback to s{n}"))
            line.ask(talk.query("rollback"))
            assert not shown(line.seen)


class TestOracles:
    """Which rows come, how many, in which order, whether an error comes, or how long it takes."""

    TEXTS = (
        "select name from users where ssn = '123-45-6789'", "select name from users u where (u).ssn = '1'", "select name from users where users.* = row(1)",
        "select name from users where users::text like '%123%'", "select name from users order by ssn", "select name from users order by users",
        "select name from users order by (select ssn)", "select name, ssn from users order by 2 limit 1", "select name from users group by name, ssn",
        "select count(distinct ssn) from users group by name order by count(distinct ssn)", "select distinct on (ssn) name from users",
        "select name from users u where exists (select from users v where v.id = u.id and v.ssn like '1%')", "select name from users where id in (select id from users where ssn like '1%')",
        "select name from users limit (select ascii(ssn) from users where id = 1)", "select name from users offset (select ascii(ssn) - 49 from users where id = 1)",
        "select count(*) filter (where ssn like '1%') from users group by name having bool_or(ssn like '1%')", "select name from users join (values ('123-45-6789')) v(a) on a = ssn",
        "select name from users natural join (values ('123-45-6789')) v(ssn)", "select name from users join people using (ssn)", "select row_number() over (order by ssn), name from users",
        "select name, rank() over (order by ssn) from users order by 2", "select ssn from users union select note from orders", "select ssn from users intersect select '123-45-6789'",
        "select ssn from users except all select ''", "values ((select 1 / (ascii(ssn) - 49) from users where id = 1))", "select case when ssn like '1%' then 1 / 0 end from users",
        "select name from users where tags @> '{123-45-6789}'", "select name from users where profile->>'ssn' = '1'", "select name from users where profile ? 'ssn'",
        "select name from users, unnest(tags) t where t like '1%'", "select name from user_list where number = '1'", "select id from user_calc where folded like '1%'",
        "update users set salary = 0 where ssn like '1%'", "delete from users where ssn like '1%'", "insert into users (id, name, ssn) values (1, 'x', '1') on conflict (id) do update set salary = 1 where users.ssn like '1%'",
        "merge into orders o using users u on u.ssn = o.note when matched then delete", "merge into users u using orders o on u.id = o.id when matched and u.ssn like '1%' then delete",
        "select g from generate_series(1, (select ascii(ssn) from users where id = 1)) g", "select repeat('x', ascii(ssn)) from users", "select pg_sleep(case when ssn like '1%' then 1 else 0 end) from users",
        "select name from users where pg_sleep(case when ssn like '1%' then 1 else 0 end) is not null", "select percentile_disc(0.5) within group (order by ssn) from users",
        "select name from users for update of users skip locked limit (select ascii(ssn) from users where id = 1)", "select name from users where (id, ssn) = (1, '123-45-6789')",
        "select name from users where (select ssn) like '1%'", "select name from users where coalesce(ssn, '') like '1%'", "create index on users (ssn) where ssn like '1%'",
        "select * from users u where (select count(*) from users v where v.ssn < u.ssn) = 0", "with t as (select id, ssn s from users) select id from t where s like '1%'",
        "select id from (select id, ssn as s from users offset 0) t where s like '1%'", "select id from users u, lateral (select u.ssn as s) l where l.s like '1%'",
        "copy (select id from users where ssn like '1%') to stdout", "declare c cursor with hold for select id from users where ssn like '1%'", "prepare p as select id from users where ssn = $1",
        "explain analyze select id from users where ssn like '1%'", "begin; declare c cursor for select id from users order by ssn", "alter table users add check (ssn not like '1%')",
        "create table t (s text references users (ssn))", "create table t (s text, foreign key (s) references users (ssn))", "cluster users using users_ssn_idx", "alter domain code add check (value <> '123-45-6789')",
        "create unique index on people (ssn) where badge is null", "create unique index on people (ssn)", "alter table people add unique (ssn)", "alter table people add exclude using hash (ssn with =)",
        "alter table users alter column ssn set not null", "alter table users alter column ssn type varchar(11)", "create index on users ((ssn like '1%'))", "alter table people add foreign key (ssn) references users (ssn)",
    )  # fmt: skip

    @pytest.mark.parametrize("text", TEXTS)
    def test_refused_or_of_no_use(self, gate: Gate, corner: Postgres, text: str) -> None:
        """What is not refused answers the same for every value: masked cells only."""
        with Talk(gate.port, database="corner") as line:
            line.ask(talk.query("begin"))
            got = line.ask(talk.query(text))
            masked = {cell for row in talk.rows(got) for cell in row}
            assert talk.codes(got) == ["42501"] or (masked and masked <= {b"[redacted]", None}), got
            line.ask(talk.query("rollback"))


class TestCompared:
    """Where ops let a rule's columns be compared, what comes back is masked still."""

    TEXTS = ("select distinct ssn from users", "select ssn from users group by ssn", "select ssn, count(*) from users group by 1", "select ssn from users union select ssn from users",
             "select ssn from users order by ssn", "select u.ssn from users u join people p using (ssn)", "select ssn from users where ssn > ''", "select max(ssn) from users having max(ssn) > ''",
             "select ssn from users intersect select ssn from people", "select distinct on (ssn) ssn, id from users", "select ssn::text from vault", "select ssn from vault", "select lower(ssn) from vault",
             "select rank() over (order by ssn), ssn from users")  # fmt: skip

    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("binary", [False, True])
    def test_masked_all_the_same(self, corner: Postgres, text: str, binary: bool) -> None:
        with Gate(address(corner.port), RULES.replace("with: redact", "with: redact\n    compare: allow")) as gate, Talk(gate.port, database="corner") as line:
            got = line.ask(talk.extended(text, binary))
            assert talk.rows(got), got
            assert not shown(line.seen)


class TestBackDoors:
    """Relations and functions of the server that hold or read the values of other relations."""

    TEXTS = (
        "select * from pg_stats where tablename = 'users'", "select most_common_vals, histogram_bounds from pg_catalog.pg_stats", "select * from pg_statistic", "select stavalues1::text from pg_statistic",
        "select * from pg_stats_ext", "select * from pg_statistic_ext_data", "select * from pg_stats_ext_exprs", "select query_to_xml('select ssn from users', true, true, '')",
        "select table_to_xml('users', true, true, '')", "select schema_to_xml('public', true, true, '')", "select database_to_xml(true, true, '')", "select table_to_xml_and_xmlschema('users', true, true, '')",
        "select query_to_xml_and_xmlschema('table users', true, true, '')", "begin; declare c cursor for select ssn from users; select cursor_to_xml('c', 10, true, true, '')",
        "select * from ts_stat('select to_tsvector(ssn) from users')", "select ts_rewrite('a'::tsquery, 'select ssn::tsquery, ssn::tsquery from users')", "select * from peek(1)", "select pg_read_file('base')",
        "select lo_get(loid) from pg_largeobject_metadata m(loid)", "select data from pg_largeobject", "select * from dblink('dbname=corner', 'table users') t(a int, b text, c text)",
        "select pg_catalog.query_to_xml('table users', true, true, '')", "select pg_get_viewdef('user_list')", "select pg_logical_emit_message(false, 'x', ssn) from users", "select * from pg_stat_activity",
        "select * from pg_prepared_statements", "select row_security_active('users')", "select brin_page_items(get_raw_page('users', 0), 'users')", "select * from heap_page_items(get_raw_page('users', 0))",
        "select * from crosstab('select id, id, ssn from users') as t(a int, b text)", "select * from xpath_table('id', 'ssn', 'users', '/', 'true') as t(a int)", "select xpath('/', query_to_xml('table users', true, true, ''))",
        "select (xpath('//ssn/text()', table_to_xml('users'::regclass, true, false, '')))[1]::text", "select * from xmltable('//ssn' passing query_to_xml('table users', true, false, '') columns s text path '.')",
        "select ctid, xmin, ssn from users", "select users.tableoid, users.ssn from users", "select pg_column_size(ssn), pg_column_compression(ssn) from users", "select * from information_schema.columns where table_name = 'users'",
    )  # fmt: skip

    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("user", ["acme", "tester"])
    def test_none_is_open(self, gate: Gate, text: str, user: str) -> None:
        with Talk(gate.port, user, "corner") as line:
            line.ask(talk.query(text))
            line.ask(talk.extended(text.rsplit("; ", maxsplit=1)[-1], binary=True))
            assert not shown(line.seen)
