"""Columns, resolved by a catalogue made by hand."""

import msgspec
import pytest

from appliance.facts.sql import read
from appliance.facts.sql.lineage import origin
from tests.facts.small import CATALOG, KNOWN, known, words

USERS = "public.users."
COLUMNS = {
    "select ssn from users": "ssn",
    "select u.ssn from users u": "ssn",
    "select u.ssn as x from users as u": "ssn",
    "select users.ssn from users": "ssn",
    "select public.users.ssn from users": "ssn",
    "select * from users": "id name ssn email",
    "select u.* from users u, orders": "id name ssn email",
    "select users from users": "id name ssn email *",
    "select (users).ssn from users": "ssn",
    "select (u).* from users u": "id name ssn email *",
    "select to_jsonb(u) from users u": "id name ssn email *",
    "select row(u.*) from users u": "id name ssn email *",
    "select users.to_jsonb from users": "id name ssn email *",
    "select count(*) from users": "",
    "select 1 from users": "",
    "select a from (select ssn as a, id from users) t": "ssn id",
    "select a from (select ssn, id from users) t(a, b)": "ssn id",
    "with t as (select ssn as a from users) select a from t": "ssn",
    "with t(a) as (select ssn from users) select a from t": "ssn",
    "with users as (select 1 as ssn) select ssn from users": "",
    "select l.a from users u, lateral (select u.ssn as a) l": "ssn",
    "select (select x from (select u.ssn as x) t) from users u": "ssn",
    "select (select x from (select 1 as ssn) u, (select u.ssn as x) t) from users u": "ssn",
    "update users set name = 'x' returning ssn": "ssn",
    "insert into users (id) values (1) returning ssn": "ssn",
    "insert into users (id) values (1) on conflict (id) do update set name = excluded.name returning id": "id",
    "delete from users returning *": "id name ssn email",
    "delete from users returning old.ssn": "ssn",
    "select j.ssn from (users join orders on true) as j": "ssn",
    "select max(id) over (partition by name) from users": "id name",
    "select ctid from users": "",
    "select x.ssn from users x full join users y using (ssn)": "ssn",
    "select ssn from users tablesample system (1)": "ssn",
    "select ssn from only users": "ssn",
    "copy users (ssn) to stdout": "ssn",
    "copy users to stdout": "id name ssn email",
}


@pytest.mark.parametrize("text", COLUMNS)
def test_columns(text: str) -> None:
    expected = {USERS + name for name in COLUMNS[text].split()}
    got = known(text, KNOWN).values["column"]
    assert {c for c in got if c.startswith(USERS)} == expected


class TestViews:
    def test_its_own_name_and_the_base(self) -> None:
        assert words("select number from v", "column", KNOWN) == "public.users.ssn public.v.number"
        assert words("select number from v", "table", KNOWN) == "public.users public.v"

    def test_only_the_column_asked_for(self) -> None:
        assert "public.users.ssn" not in read("select id from v", KNOWN).values["column"]

    def test_of_a_view_and_an_expression(self) -> None:
        assert words("select b from vv", "column", KNOWN) == "public.orders.note public.users.ssn public.v.number public.vv.b"

    def test_filter_through_it(self) -> None:
        assert "public.users.ssn" in read("select 1 from v where number = '1'", KNOWN).values["compared"]

    def test_with_a_function_in_it_is_a_procedure(self) -> None:
        reading = read("select id from opaque", KNOWN)
        assert "procedure" in reading.values["effect"]
        assert {"effect", "column"} <= reading.unknown

    def test_not_understood_is_all_of_its_relations(self) -> None:
        columns = read("select x from broken", KNOWN).values["column"]
        assert {"public.users.ssn", "public.users.email", "public.broken.x"} <= columns
        assert "effect" in read("select x from broken", KNOWN).unknown

    def test_written(self) -> None:
        assert words("update v set number = '1'", "written", KNOWN) == "public.users.ssn public.v.number"


class TestInheritance:
    def test_child_has_the_names_of_its_parent(self) -> None:
        assert words("select secret from child", "column", KNOWN) == "public.child.secret public.parent.secret"
        assert words("select extra from child", "column", KNOWN) == "public.child.extra"

    def test_parent_has_the_names_of_its_children(self) -> None:
        assert words("select secret from parent", "column", KNOWN) == "public.child.secret public.parent.secret"
        assert words("select secret from parent", "table", KNOWN) == "public.child public.parent"


class TestResolution:
    def world(self, **more: object) -> object:
        return msgspec.structs.replace(KNOWN, **more)

    def test_path(self) -> None:
        assert words("select ssn from users", "table", self.world(path=("evil", "public"))) == "evil.users"

    def test_user(self) -> None:
        assert words("select ssn from users", "table", self.world(user="evil")) == "evil.users"

    def test_temporary_comes_first(self) -> None:
        assert words("select ssn from users", "table", self.world(temp="pg_temp_3")) == "pg_temp_3.users"
        assert words("select ssn from pg_temp.users", "table", self.world(temp="pg_temp_3")) == "pg_temp_3.users"

    def test_temporary_last_if_the_path_says_so(self) -> None:
        world = self.world(temp="pg_temp_3", path=("public", "pg_temp"))
        assert words("select ssn from users", "table", world) == "public.users"

    def test_pg_catalog_before_the_path(self) -> None:
        assert words("select relname from pg_class", "column", KNOWN) == "pg_catalog.pg_class.relname"

    def test_path_not_known_gives_all(self) -> None:
        reading = read("select ssn from users", self.world(path=None))
        assert reading.values["table"] == {"public.users", "evil.users", "pg_temp_3.users"}
        assert {"table", "column"} <= reading.unknown

    def test_set_in_the_same_text(self) -> None:
        assert words("set search_path = evil; select ssn from users", "table", KNOWN) == "evil.users"

    def test_set_role_in_the_same_text(self) -> None:
        assert "table" in read("set role evil; select ssn from users", KNOWN).unknown

    def test_not_in_the_catalogue(self) -> None:
        reading = read("select a from nowhere", KNOWN)
        assert reading.missing == {"nowhere"}
        assert {"table", "column", "compared", "copied"} <= reading.unknown
        assert "effect" not in reading.unknown

    def test_column_not_in_the_catalogue(self) -> None:
        assert "column" in read("select nothing from users", KNOWN).unknown

    def test_after_a_change_of_the_schema_in_the_same_text(self) -> None:
        assert "table" in read("alter table users rename to a; select ssn from orders", KNOWN).unknown

    def test_after_a_change_of_the_schema(self) -> None:
        assert "table" in read("select ssn from users", self.world(stale=True)).unknown

    def test_created(self) -> None:
        assert words("create table n (a int)", "table", KNOWN) == "public.n"
        assert words("create temp table n (a int)", "table", KNOWN) == "pg_temp.n"

    def test_without_a_catalogue_though_needed(self) -> None:
        assert {"table", "column"} <= read("select ssn from users", self.world(catalog=None)).unknown

    def test_names_with_dots_and_quotes(self) -> None:
        assert words('select "q" from "odd.name"', "table", KNOWN) == 'public."odd.name"'
        assert words('select """q" from "odd.name"', "column", KNOWN) == 'public."odd.name"."""q"'


class TestHiddenCode:
    def test_triggers(self) -> None:
        assert "effect" in read("insert into logged values (1)", KNOWN).unknown
        assert not read("select id from logged", KNOWN).unknown

    def test_a_function_of_the_same_name_as_a_built_in(self) -> None:
        assert "effect" in read("select lower('x')", KNOWN).unknown
        assert not read("select pg_catalog.lower('x')", KNOWN).unknown
        assert not read("select upper('x')", KNOWN).unknown

    def test_one_in_a_schema_that_is_searched(self) -> None:
        world = msgspec.structs.replace(KNOWN, path=("evil",))
        assert "effect" in read("select upper('x')", world).unknown
        assert "effect" in read("select 1 = 1", world).unknown
        assert not read("select lower('x'), 1 + 1", world).unknown

    def test_a_type_that_runs_code(self) -> None:
        assert "effect" in read("select 'x'::checked", KNOWN).unknown
        assert not read("select 'x'::mood", KNOWN).unknown

    def test_statistics_hold_values(self) -> None:
        assert {"table", "column"} <= read("select most_common_vals from pg_stats", KNOWN).unknown
        assert {"table", "column"} <= read("table pg_toast.pg_toast_1", KNOWN).unknown


class TestOrigin:
    def test_table(self) -> None:
        assert origin(CATALOG, 1, 3) == {"public.users.ssn"}

    def test_view(self) -> None:
        assert origin(CATALOG, 3, 2) == {"public.users.ssn", "public.v.number"}

    def test_child(self) -> None:
        assert origin(CATALOG, 6, 2) == {"public.child.secret", "public.parent.secret"}

    def test_view_not_understood(self) -> None:
        assert "public.users.ssn" in (origin(CATALOG, 14, 1) or ())

    @pytest.mark.parametrize(("table", "attribute"), [(0, 0), (1, 0), (99, 1), (1, 99), (1, -1), (12, 1)])
    def test_not_known(self, table: int, attribute: int) -> None:
        assert origin(CATALOG, table, attribute) is None


class TestCopy:
    def test_columns_and_options(self) -> None:
        (copy,) = known("copy users (ssn, id) to stdout (format csv, delimiter ';', header, null 'N', quote '\"\"', force_quote *)".replace("'\"\"'", "'^'"), KNOWN).copies
        assert [(c.name, c.table, c.attribute) for c in copy.columns] == [("ssn", 1, 3), ("id", 1, 1)]
        assert (copy.format, copy.delimiter, copy.quote, copy.escape, copy.null, copy.header) == ("csv", ";", "^", "^", "N", True)

    def test_text(self) -> None:
        (copy,) = known("copy users to stdout", KNOWN).copies
        assert (copy.format, copy.delimiter, copy.null, copy.header) == ("text", "\t", "\\N", False)
        assert len(copy.columns) == 4

    def test_old_syntax(self) -> None:
        (copy,) = known("copy users to stdout with csv header delimiter as '|'", KNOWN).copies
        assert (copy.format, copy.delimiter, copy.header) == ("csv", "|", True)

    def test_binary(self) -> None:
        assert known("copy users to stdout (format binary)", KNOWN).copies[0].format == "binary"

    def test_query_keeps_plain_columns(self) -> None:
        (copy,) = known("copy (select ssn as id, upper(ssn) from users) to stdout", KNOWN).copies
        assert [(c.table, c.attribute) for c in copy.columns] == [(1, 3), (0, 0)]

    def test_view(self) -> None:
        (copy,) = known("copy (table v) to stdout", KNOWN).copies
        assert [(c.table, c.attribute) for c in copy.columns] == [(3, 1), (3, 2)]

    @pytest.mark.parametrize("options", ["encoding 'SJIS'", "something 'x'", "format xml"])
    def test_option_that_is_not_known(self, options: str) -> None:
        assert read(f"copy users to stdout ({options})", KNOWN).copies[0].format == ""

    def test_columns_that_are_not_known(self) -> None:
        assert read("copy nowhere to stdout", KNOWN).copies[0].columns == ()

    def test_to_a_file_is_none(self) -> None:
        assert known("copy users to '/tmp/x'", KNOWN).copies == ()
