"""Texts that could be read otherwise here than on a real server: which column a name, a place or a word means.

Each text of TWINS would tell of users.ssn, or take it elsewhere, where the reading is wrong; its twin is as honest as it
looks. The rules allow everything but mask, so a refusal says that the column was seen.
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
  - {id: hide, when: {column: [public.users.ssn, public.users.salary, public.users.tags, public.users.profile]}, do: mask, with: METHOD}
  - {id: all, do: allow}
"""

TWINS = {
    "a column of an outer level, named as a source of the inner one": (
        "select id from users where (select ssn from (select 1 as a) ssn) like '1%'",
        "select id from users where (select email from (select 1 as a) email) like '1%'",
    ),
    "the same, taken elsewhere": (
        "insert into quotes select 9, (select ssn from (select 1 as a) ssn) from users",
        "insert into quotes select 9, (select name from (select 1 as a) name) from users",
    ),
    "columns of one name twice, renamed by place": (
        "insert into quotes select 9, c from (select id, id, ssn, name from users) t(a, b, c, d)",
        "insert into quotes select 9, d from (select id, id, ssn, name from users) t(a, b, c, d)",
    ),
    "the same of a WITH": (
        "with t(a, b, c, d) as (select id, id, ssn, name from users) select a from t where c like '1%'",
        "with t(a, b, c, d) as (select id, id, ssn, name from users) select a from t where d like '1%'",
    ),
    "the same by number": (
        "select * from (select id, id, ssn, name from users) t order by 3",
        "select * from (select id, id, ssn, name from users) t order by 4",
    ),
    "what USING merges comes once": (
        "select * from orders join users using (id) order by 6",
        "select * from orders join users using (id) order by 5",
    ),
    "what USING merges comes first": (
        "select b from (select * from (select name, id from users) a join (select id, ssn from users) b using (id)) t(a, b, c) where c like '1%'",
        "select b from (select * from (select name, id from users) a join (select id, ssn from users) b using (id)) t(a, b, c) where b like '1%'",
    ),
    "a join of joins": (
        "select * from orders join users using (id) join (select id, 'x' as last from dept) d using (id) order by 6",
        "select * from orders join users using (id) join (select id, 'x' as last from dept) d using (id) order by 12",
    ),
    "a join by USING that has a name": (
        "select * from orders join users using (id) as j order by 6",
        "select j.id, ssn from orders join users using (id) as j order by j.id",
    ),
    "a natural join, renamed by place": (
        "insert into quotes select 9, c from ((select name, id from users) a natural join (select id, name, ssn from users) b) as j(a, b, c)",
        "insert into quotes select 9, a from ((select name, id from users) a natural join (select id, name, ssn from users) b) as j(a, b, c)",
    ),
    "a row in a subquery has the name of its column": (
        "select 1 from (select 'a' as z) o where exists (select from users, lateral (select (select (u).* from (select ssn as z) u)) t where z like '1%')",
        "select 1 from (select 'a' as z) o where exists (select from users, lateral (select (select (u).* from (select name as z) u)) t where z like '1%')",
    ),
    "a word of newer grammars is a column": (
        "select a from (select id as a, ssn as system_user from users) t where system_user like '1%'",
        "select a from (select id as a, name as system_user from users) t where system_user like '1%'",
    ),
    "the same in an order": (
        "select id, ssn as system_user from users order by system_user",
        "select id, name as system_user from users order by system_user",
    ),
    "the same, taken elsewhere in a word": (
        "insert into quotes select 9, system_user from (select ssn as system_user from users) t",
        "insert into quotes select 9, system_user from (select name as system_user from users) t",
    ),
    "what is not matched sees the source alone": (
        "merge into quotes q using users as note on false when not matched then insert (id, note) values (9, note::text)",
        "merge into quotes q using orders as note on false when not matched then insert (id, note) values (9, note::text)",
    ),
    "which row a key meets": (
        "insert into users (id, name, ssn) values (9, 'x', '1') on conflict (ssn) do nothing",
        "insert into users (id, name) values (9, 'x') on conflict (id) do nothing",
    ),
    "how long it would be": ("select repeat(translate(left(ssn, 1), '1', ''), 2000000000) from users", "select repeat(left(name, 1), 3) from users"),
    "arrays that fit or do not": (
        "select array[string_to_array(left(ssn, 1), '1'), array['', '']] from users where id = 1",
        "select array[string_to_array(left(name, 1), 'A'), array['', '']] from users where id = 1",
    ),
    "a sum beside a number of choice": (
        "select sum(v) from (select salary as v from users union all select repeat('9', 131072)::numeric - 9999) t",
        "select sum(salary) from users",
    ),
    "rows that fit a partition": (
        "alter table quoted attach partition users for values from ('1') to ('2')",
        "alter table quoted attach partition quotes for values from ('1') to ('2')",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def gate(corner: Postgres) -> Iterator[Gate]:
    with Gate(address(corner.port), HEAD.replace("METHOD", "redact")) as gate:
        yield gate


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize(("hidden", "plain"), TWINS.values(), ids=TWINS.keys())
def test_the_column_is_seen(gate: Gate, hidden: str, plain: str, extended: bool) -> None:
    with Talk(gate.port, database="corner") as line:
        codes = []
        for text in (hidden, plain):
            line.ask(talk.query("begin; create table quoted (id int, ssn text, note text) partition by range (ssn)"))
            codes.append(talk.codes(line.ask(talk.extended(text) if extended else talk.query(text))))
            line.ask(talk.query("rollback"))
        assert codes[0] == ["42501"]
        assert codes[1] in ([], ["23514"])  # no row of quotes fits the partition, and the server may say so
        assert not shown(line.seen)


@pytest.mark.parametrize("method", ["keep-last-4", "hash"])
def test_what_is_made_of_a_value_shows_no_part_of_it(corner: Postgres, method: str) -> None:
    """A method that tells of a value tells of any part of it, if the text may choose what is shown to it."""
    with Gate(address(corner.port), HEAD.replace("METHOD", method)) as gate, Talk(gate.port, database="corner") as line:
        for text in (
            "select 'xxxx' || left(ssn, 4), reverse(ssn), left(ssn, 1), '1' from users where id = 1",
            "select array[left(ssn, 1), '1'] from users where id = 1",
        ):
            cells = {cell for row in talk.rows(line.ask(talk.query(text))) for cell in row}
            assert cells <= {b"[redacted]", b'{"[redacted]","[redacted]"}', None}
        line.ask(talk.query("begin"))
        for text, code in (
            ("update users set ssn = reverse(ssn) returning ssn", ["42501"]),
            ("update users set ssn = ssn returning ssn", ["25P02"]),
        ):
            assert talk.codes(line.ask(talk.query(text))) == code


BLOCKED = """
rules:
  - {id: no-users, when: {table: [public.users]}, do: block}
  - {id: rest, when: {table: ["*"]}, do: allow}
  - {id: all, do: allow}
"""


@pytest.mark.parametrize(
    "closed",
    ["create schema walled; create table walled.users (id int); revoke all on schema walled from public", ""],
    ids=["never open", "given up"],
)
def test_a_schema_the_role_may_not_use_is_passed_by(corner: Postgres, closed: str) -> None:
    """`users` of a search_path whose first schema is closed to the role is the one behind it."""
    schema = "walled" if closed else "given"
    corner.admin(
        closed
        or "create schema given authorization acme; create table given.users (id int); alter table given.users owner to acme",
        "corner",
    )
    with Gate(address(corner.port), BLOCKED) as gate, Talk(gate.port, database="corner") as line:
        assert talk.codes(line.ask(talk.query(f"set search_path = {schema}, public"))) == []
        if not closed:
            assert talk.codes(line.ask(talk.query("select * from users"))) == []
            line.ask(talk.query("begin"))
            assert talk.codes(
                line.ask(talk.query("revoke all on schema given from acme; select count(*) from users"))
            ) == ["42501"]
            line.ask(talk.query("rollback; begin"))
            assert talk.codes(line.ask(talk.query("revoke all on schema given from acme"))) == []
        assert talk.codes(line.ask(talk.query("select count(*) from users"))) == ["42501"]
        line.ask(talk.query("rollback"))
        # A role may use what another may not, in the middle of a text.
        assert talk.codes(
            line.ask(talk.query("set session authorization default; select count(*) from users; select lower('x')"))
        ) == ["42501"]
        assert (
            talk.codes(
                line.ask(talk.query("set session authorization default; select lower('x'), count(*) from orders"))
            )
            == []
        )
    corner.admin(f"drop schema {schema} cascade", "corner")


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_catalogue_read_before_a_commit_is_read_again(corner: Postgres, busy: bool) -> None:
    """Another flow reads the catalogue after a DROP was sent and before it is committed: what it read is no longer so."""
    corner.admin("create schema own authorization acme", "corner")
    sleep = talk.query("select pg_sleep(0.5)") if busy else b""
    try:
        with (
            Gate(address(corner.port), BLOCKED) as gate,
            Talk(gate.port, database="corner") as one,
            Talk(gate.port, database="corner") as two,
        ):
            one.ask(talk.query("create table own.users (id int)"))
            two.ask(talk.query("set search_path = own, public"))
            assert talk.codes(two.ask(talk.query("select count(*) from users"))) == []
            one.ask(talk.query("begin"))
            assert talk.codes(one.ask(talk.query("drop table own.users"))) == []
            with Talk(gate.port, database="corner") as third:
                assert talk.codes(third.ask(talk.query("select count(*) from orders"))) == []
            two.send(sleep)
            one.ask(talk.query("commit"))
            assert talk.codes(two.ask(talk.query("select count(*) from users"), 1 + busy)) == ["42501"]
    finally:
        corner.admin("drop schema own cascade", "corner")


TEMP = "create temp table users (id int, ssn text)"
OTHER = "set search_path = other, public"
COUNT = "select count(*) from users"
TURNED = {
    "in a body": (OTHER, "do $$ begin set local search_path = public; delete from users where id = 77; end $$"),
    "in a body, backwards": (OTHER, "do $$ begin for n in 1..2 loop delete from users where id = 77; reset search_path; end loop; end $$"),
    "between PREPARE and EXECUTE": (OTHER, f"prepare p as {COUNT}; set search_path = public; execute p"),
    "before EXECUTE": (OTHER, f"prepare p as {COUNT}", "set search_path = public; execute p"),
    "by a DROP between": (TEMP, f"prepare p as {COUNT}; drop table pg_temp.users; execute p"),
    "by a DROP before": (TEMP, f"prepare p as {COUNT}", "drop table pg_temp.users; execute p"),
    "by ROLLBACK of a setting": ("begin", OTHER, "select 1 from users", f"rollback; {COUNT}"),
    "by ROLLBACK of a table": ("begin", TEMP, COUNT, f"rollback; {COUNT}"),
    "by ROLLBACK TO": ("begin; savepoint a", TEMP, COUNT, f"rollback to a; {COUNT}"),
    "by ROLLBACK TO, seen": ("begin; savepoint a", TEMP, COUNT, "rollback to a", COUNT),
    "by ROLLBACK, not seen": ("begin", TEMP, COUNT, ("rollback", COUNT)),
    "by ROLLBACK TO, not seen": ("begin; savepoint a", TEMP, COUNT, ("rollback to a", COUNT)),
    "by COMMIT of a table that is dropped then": ("begin", f"{TEMP} on commit drop", COUNT, f"commit; {COUNT}"),
    "by COMMIT, not seen": ("begin", f"{TEMP} on commit drop", COUNT, ("commit", COUNT)),
    "by DISCARD": (TEMP, COUNT, f"discard temp; {COUNT}"),
}  # fmt: skip


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("script", TURNED.values(), ids=TURNED.keys())
def test_a_name_that_turns_into_another_relation(
    corner: Postgres, script: tuple[str | tuple[str, str], ...], extended: bool
) -> None:
    """`users` is another table up to the last text, and in it, or while it is on its way, becomes the one that is protected."""
    with Gate(address(corner.port), BLOCKED) as gate, Talk(gate.port, database="corner") as line:
        codes = []
        for step in script:
            texts = step if isinstance(step, tuple) else (step,)
            asked = [talk.extended(text) if extended and ";" not in text else talk.query(text) for text in texts]
            codes += talk.codes(line.ask(b"".join(asked), len(asked)))
        assert codes == ["42501"]


@pytest.mark.parametrize(
    "texts",
    [
        ("begin", TEMP, COUNT, "commit", COUNT),
        ("begin", OTHER, COUNT, "commit", COUNT),
        (OTHER, f"prepare p as {COUNT}", "execute p"),
    ],
)
def test_what_stays_is_let_by(corner: Postgres, texts: tuple[str, ...]) -> None:
    with Gate(address(corner.port), BLOCKED) as gate, Talk(gate.port, database="corner") as line:
        answers = [line.ask(talk.query(text)) for text in texts]
        assert not talk.codes(answers[-1])
