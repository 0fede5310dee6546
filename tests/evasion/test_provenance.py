"""Where each cell of a result comes from, by the server's own word: the shapes of PROTOCOLS.md 2.1 on a real server.

A shape says of each of its columns what must become of it: `x` masked in every row that has a value, `.` exactly
what the server sent, `?` either. Each shape is run by the simple protocol, and by the extended one with text and
binary results, with and without a Describe, and row by row. A mask that hides by origin must not care.

    "survives" of the paragraph      SURVIVES    origin is told: protected cells are masked, their neighbours arrive
    "becomes 0/0"                    LOST        origin is not told: masked, since the statement touches users
    "pitfalls"                       PITFALLS    origin is told, but of a view, child or whole row
    per-char functions, re-encodings CUT         catalogue of evasions
    set-returning functions          COUNTED     refused: how many rows there are would tell
    not of a protected relation      FREE        functions of other tables arrive
"""

from collections.abc import Iterator

import pytest

from appliance.lab.servers import Postgres
from tests.evasion import talk
from tests.evasion.talk import Frame, Talk, shown
from tests.gate import Gate

pytestmark = pytest.mark.peer

SURVIVES = {
    "column": ("select id, ssn, name from users", ".x."),
    "alias": ("select id as ssn, ssn as id from users", ".x"),
    "nested subquery": ("select a, b from (select c as a, b from (select ssn as c, name as b from users) s) t", "x."),
    "cte": ("with t as (select ssn as a, id from users) select a, id from t", "x."),
    "cte materialized": ("with t as materialized (select ssn as a, id from users) select id, a from t", ".x"),
    "cte not materialized": ("with t as not materialized (select ssn as a, id from users) select id, a from t", ".x"),
    "lateral": ("select u.id, l.a from users u, lateral (select u.ssn as a) l", ".x"),
    "join": ("select o.note, u.ssn from orders o join users u on u.id = o.user_id", ".x"),
    "left join": ("select o.note, u.ssn from orders o left join users u on u.id = o.user_id", ".x"),
    "join using": ("select ssn, note from users join orders using (id)", "x."),
    "natural join": ("select u.ssn, o.id from users u natural join (select id from orders) o", "x."),
    "cross join": ("select u.ssn, o.id from users u cross join orders o", "x."),
    "distinct on another": ("select distinct on (id) id, ssn from users", ".x"),
    "group by key": ("select id, ssn from users group by id", ".x"),
    "tablesample": ("select id, ssn from users tablesample system (100)", ".x"),
    "only": ("select id, ssn from only users", ".x"),
    "field of row": ("select (u).id, (u).ssn from users u", ".x"),
    "star of row": ("select (u).* from users u", "..x...xx"),
    "star": ("select * from users", "..x...xx"),
    "star and more": ("select u.*, u.ssn from users u", "..x...xxx"),
    "identity cast": ("select id::int, ssn::text from users", "?x"),
    "table": ("table users", "..x...xx"),
    "order by another": ("select id, ssn from users order by id desc limit 2 offset 1", ".x"),
    "where another": ("select ssn, name from users where id between 1 and 2", "x."),
    "window beside": ("select ssn, row_number() over (order by id) from users", "x?"),
    "column names of the alias": ("select a, c from users as t(a, b, c)", ".x"),
    "same column twice": ("select ssn, ssn, id from users", "xx."),
    "schema and table": ("select public.users.ssn, users.id from public.users", "x."),
}

LOST = {
    "function": ("select lower(ssn) from users", "x"),
    "cast": ("select ssn::varchar(20) from users", "x"),
    "cast to bytea": ("select ssn::bytea from users", "x"),
    "cast to name": ("select ssn::name from users", "x"),
    "collate": ('select ssn collate "C" from users', "x"),
    "concatenation": ("select ssn || '' from users", "x"),
    "case": ("select case when id > 0 then ssn end from users", "x"),
    "coalesce": ("select coalesce(ssn, 'none') from users", "x"),
    "nullif": ("select nullif(ssn, '') from users", "x"),
    "greatest": ("select greatest(ssn, '') from users", "x"),
    "string_agg": ("select string_agg(ssn, ',') from users", "x"),
    "array_agg": ("select array_agg(ssn order by id) from users", "x"),
    "min and max": ("select min(ssn), max(ssn) from users", "xx"),
    "first_value": ("select first_value(ssn) over (order by id) from users", "x"),
    "lag": ("select lag(ssn) over (order by id) from users", "x"),
    "union all": ("select ssn from users where id < 3 union all select note from orders", "?"),
    "recursive": ("with recursive r(a, n) as (select ssn, 1 from users union all select a, n + 1 from r where n < 2) select a from r", "x"),
    "full join using": ("select id, u.ssn from users u full join orders o using (id)", "?x"),
    "scalar subquery": ("select (select ssn from users where id = 1), note from orders", "x."),
    "scalar subquery in a function": ("select upper((select ssn from users where id = 1))", "x"),
    "array of subquery": ("select array(select ssn from users order by id)", "x"),
    "array": ("select array[ssn] from users where id < 3", "x"),
    "row": ("select row(ssn, id) from users", "x"),
    "json_build_object": ("select json_build_object('a', ssn) from users", "x"),
    "jsonb of columns": ("select to_jsonb(u.ssn) from users u", "x"),
    "xmlelement": ("select xmlelement(name a, ssn) from users", "x"),
    "string_to_array": ("select string_to_array(ssn, '-') from users", "x"),
    "composite of a subquery": ("select s from (select id, ssn from users) s", "x"),
    "values of a subquery": ("select v.a from (values ((select ssn from users where id = 1))) v(a)", "x"),
}

PITFALLS = {
    "view": ("select id, number, name from user_list", ".x."),
    "view of an expression": ("select id, folded from user_calc", ".x"),
    "view, whole row": ("select l from user_list l", "x"),
    "view of a view": ("select number from (table user_list) v", "x"),
    "materialized view": ("select id, ssn from user_copy", ".x"),
    "partitioned table": ("select id, ssn, at from events", ".x."),
    "partition": ("select id, ssn, at from events_2026", ".x."),
    "inheritance parent": ("select ssn from people", "x"),
    "inheritance child": ("select badge, ssn from staff", ".x"),
    "whole row": ("select users from users", "x"),
    "whole row by alias": ("select u from users u", "x"),
    "whole row beside columns": ("select u.id, u from users u", ".x"),
    "whole row of a child": ("select s from staff s", "x"),
    "whole row as text": ("select u::text from users u", "x"),
    "whole row in a function": ("select row_to_json(u) from users u", "x"),
    "whole row in an aggregate": ("select array_agg(u) from users u", "x"),
    "field of a subquery's row": ("select (s.u).ssn, s.id from (select u, id from users u) s", "x."),
}

CUT = {
    "substr": ("select substr(ssn, 1, 1), substr(ssn, 2) from users", "xx"),
    "left and right": ("select left(ssn, 5), right(ssn, 6) from users", "xx"),
    "reverse": ("select reverse(ssn) from users", "x"),
    "encode": ("select encode(ssn::bytea, 'hex'), encode(ssn::bytea, 'base64') from users", "xx"),
    "ascii": ("select ascii(ssn), ascii(substr(ssn, 2)) from users", "xx"),
    "get_byte": ("select get_byte(ssn::bytea, 0) from users", "x"),
    "translate": ("select translate(ssn, '0123456789', 'abcdefghij') from users", "x"),
    "replace": ("select replace(ssn, '-', '') from users", "x"),
    "to number": ("select replace(ssn, '-', '')::int from users", "x"),
    "to bigint and back": ("select (replace(ssn, '-', '')::bigint + 1)::text from users", "x"),
    "md5": ("select md5(ssn) from users", "x"),
    "length": ("select length(ssn) from users", "x"),
    "position": ("select strpos(ssn, '6') from users", "x"),
    "per-char rows": ("select substr(ssn, g, 1) from users, generate_series(1, 11) g where id = 1", "x"),
    "one comparison a column": ("select ssn like '1%', ssn = '123-45-6789' from users where id = 1", "xx"),
    "format": ("select format('%s', ssn), format('%I', ssn), quote_literal(ssn) from users where id < 3", "xxx"),
    "overlay": ("select overlay(ssn placing '' from 1 for 0) from users", "x"),
    "to date": ("select to_date(left(ssn, 2), 'MM') from users where id = 1", "x"),
    "array element": ("select tags[2], tags[1:2], array_to_string(tags, '') from users where id = 1", "xxx"),
    "json field": ("select profile->'ssn', profile->>'ssn', profile #>> '{ssn}', profile['ssn'] from users where id = 1", "xxxx"),
    "text search": ("select to_tsvector('simple', ssn) from users", "x"),
}

COUNTED = {
    "function scan": "select f from users u, unnest(array[u.ssn]) f",
    "regexp_matches": "select m[1] from users u, regexp_matches(u.ssn, '(.*)') m",
    "split to rows": "select regexp_split_to_table(ssn, 'x') from users",
    "json each": "select j.value from users u, jsonb_each_text(u.profile) j",
    "json to record": "select r.ssn from users u, jsonb_to_record(u.profile) as r(ssn text)",
    "json path": "select jsonb_path_query(profile, '$.ssn') from users",
    "lateral function": "select l from users u cross join lateral upper(u.ssn) l",
}

FREE = {
    "another table": ("select id, upper(note), total * 2 from orders", "..."),
    "aggregates of another table": ("select count(*), sum(total), array_agg(note order by id) from orders", "..."),
    "same name, another schema": ("select id, ssn, lower(ssn) from other.users", "..."),
    "no table": ("select 1, 'x'::text, now() is null", "..."),
}

SHAPES = {
    f"{kind}: {name}": shape
    for kind, shapes in (("survives", SURVIVES), ("lost", LOST), ("pitfall", PITFALLS), ("cut", CUT), ("free", FREE))
    for name, shape in shapes.items()
}

WAYS = {
    "simple": talk.query,
    "extended text": talk.extended,
    "extended binary": lambda text: talk.extended(text, binary=True),
    "text not described": lambda text: talk.extended(text, described=False),
    "binary not described": lambda text: talk.extended(text, binary=True, described=False),
    "row by row": lambda text: talk.parse(text) + talk.bind(binary=True) + talk.execute(rows=1) * 12 + talk.SYNC,
    "statement described": lambda text: talk.parse(text, "s") + talk.describe("S", "s") + talk.bind("c", "s") + talk.execute("c")
    + talk.close("P", "c") + talk.close("S", "s") + talk.SYNC,
    "prepared in SQL": lambda text: talk.query(f"prepare q as {text}") + talk.query("execute q"),
    "cursor": lambda text: talk.query(f"begin; declare c cursor for {text}") + talk.query("fetch 2 from c; fetch all from c")
    + talk.query("commit"),
    "binary cursor": lambda text: talk.query(f"begin; declare c binary cursor for {text}") + talk.query("fetch all from c; commit"),
}
TURNS = {"prepared in SQL": 2, "cursor": 3, "binary cursor": 2}  # ReadyForQuery that come


@pytest.fixture
def direct(corner: Postgres) -> Iterator[Talk]:
    with Talk(corner.port, database="corner") as line:
        yield line


def check(pattern: str, sent: list[list[bytes | None]], got: list[list[bytes | None]], frames: list[Frame]) -> None:
    assert "E" not in talk.tags(frames), frames
    assert len(sent) == len(got) > 0
    for before, after in zip(sent, got, strict=True):
        for rule, old, new in zip(pattern, before, after, strict=True):
            if rule == ".":
                assert new == old
            elif rule == "x" and old is not None:
                assert new != old, f"{old!r} arrived"


# A value that fails in them would be told by the error, one bit a statement, however its cell is masked.
TELLING = {
    "cut: encode",
    "cut: get_byte",
    "cut: text search",
    "cut: to bigint and back",
    "cut: to date",
    "cut: to number",
    "lost: cast to bytea",
    "lost: string_to_array",
    "lost: xmlelement",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", sorted(TELLING))
def test_shape_that_fails_on_some_values_is_refused(reader: Gate, shape: str, way: str) -> None:
    with Talk(reader.port, database="corner") as line:
        assert "42501" in talk.codes(line.ask(WAYS[way](SHAPES[shape][0]), TURNS.get(way, 1)))
        assert not shown(line.seen)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in TELLING])
def test_shape(reader: Gate, direct: Talk, shape: str, way: str) -> None:
    text, pattern = SHAPES[shape]
    asked, turns = WAYS[way](text), TURNS.get(way, 1)
    sent = direct.ask(asked, turns)
    at = len(reader.notes)
    with Talk(reader.port, database="corner") as line:
        got = line.ask(asked, turns)
        check(pattern, talk.rows(sent), talk.rows(got), got)
        assert not shown(line.seen)
    noted = b"".join(note.raw + note.text.encode() for _, note in list(reader.notes)[at:] if note.side is not None and note.side.value == "server")
    assert noted
    assert not shown(noted), "the record holds what was masked"


@pytest.mark.parametrize("way", ["simple", "extended binary"])
@pytest.mark.parametrize("statement", COUNTED.values(), ids=COUNTED.keys())
def test_rows_made_of_a_protected_value_are_refused(reader: Gate, statement: str, way: str) -> None:
    with Talk(reader.port, database="corner") as line:
        assert talk.codes(line.ask(WAYS[way](statement))) == ["42501"]


RETURNING = {
    "insert": "insert into users (id, name, ssn) values (90, 'x', '987-65-4321') returning id, ssn",
    "update": "update users set name = name returning id, ssn",
    "delete": "delete from users where id = 2 returning id, ssn",
    "by cte": "with d as (update users set name = name returning id, ssn as a) select id, a from d",
    "upsert": "insert into users (id, name) values (1, 'x') on conflict (id) do update set name = excluded.name returning id, users.ssn",
    "for update": "select id, ssn from users for update",
    "update from": "update users u set name = o.note from orders o where o.id = u.id returning u.id, u.ssn",
}


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("statement", RETURNING.values(), ids=RETURNING.keys())
def test_returning(writer: Gate, direct: Talk, statement: str, binary: bool) -> None:
    direct.ask(talk.query("begin; delete from orders where user_id = 2"))
    sent = direct.ask(talk.extended(statement, binary))
    direct.ask(talk.query("rollback"))
    with Talk(writer.port, database="corner") as line:
        line.ask(talk.query("begin; delete from orders where user_id = 2"))
        got = line.ask(talk.extended(statement, binary))
        check(".x", talk.rows(sent), talk.rows(got), got)
        line.ask(talk.query("rollback"))
        assert not shown(line.seen)


def test_every_cell_of_explain_is_the_servers_and_holds_no_value(reader: Gate) -> None:
    with Talk(reader.port, database="corner") as line:
        got = line.ask(talk.query("explain (verbose, costs off) select ssn, lower(ssn) from users where id = 1"))
        assert talk.rows(got)
        assert not shown(line.seen)
