"""Ways round a PostgreSQL gateway, each tried on a real server through the real relay and rules.

PROTOCOLS.md has the catalogue. A statement is sent in the simple and in the extended protocol. What must not happen
is asserted at the server (nothing executed) or in what the client got (no secret in rows, errors or notices).
"""

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest
from psycopg import sql

from appliance.lab.servers import Postgres
from appliance.model import Address
from tests.gate import Gate

pytestmark = pytest.mark.peer

SECRETS = ("123-45-6789", "987-65-4320")
RULES = """
rules:
  - {id: no-destructive, when: {effect: [drop, truncate]}, do: block}
  - {id: read-only, when: {effect: [write, schema, grant, admin, procedure, file, lock]}, do: block}
  - {id: hide-ssn, when: {column: [public.users.ssn, public.events.ssn, public.people.ssn]}, do: mask, with: redact}
  - {id: hide-tags, when: {column: [public.users.tags, public.users.profile]}, do: mask, with: redact}
  - {id: reads, when: {effect: [read, session, copy]}, do: allow}
"""

WRITES = {
    "cte": "with d as (delete from orders returning *) select * from d",
    "cte materialized": "with d as materialized (delete from orders returning *) select count(*) from d",
    "explain analyze": "explain analyze delete from orders",
    "explain options": "explain (costs off, analyze true) delete from orders",
    "do": "do $$ begin delete from orders; end $$",
    "do dynamic": "do $$ begin execute 'delete ' || 'from orders'; end $$",
    "function": "select peek(1)",
    "select into": "select * into stolen from orders",
    "ctas": "create table stolen as select * from orders",
    "copy to program": "copy orders to program 'cat > /tmp/x'",
    "copy from program": "copy orders from program 'echo 9'",
    "copy with delete": "copy (delete from orders returning *) to stdout",
    "pg_read_file": "select pg_read_file('/etc/passwd')",
    "pg_ls_dir": "select pg_ls_dir('/')",
    "lo_import": "select lo_import('/etc/passwd')",
    "lo_export": "select lo_export(1, '/tmp/x')",
    "lo_from_bytea": "select lo_from_bytea(0, 'x')",
    "dblink": "select * from dblink('dbname=shop', 'delete from orders') as t(a int)",
    "query_to_xml": "select query_to_xml('delete from orders', true, true, '')",
    "nested comment": "/* /* */ */ delete from orders",
    "comment in keyword place": "delete/**/from orders",
    "line comment": "select 1 -- \n; delete from orders",
    "unicode identifier": 'delete from U&"\\006frders"',
    "dollar quotes": "select $a$ ' $a$; delete from orders; select $b$ ' $b$",
    "escape string": "select E'\\''; delete from orders; --'",
    "merge": "merge into orders o using orders s on o.id = s.id when matched then delete",
    "second statement": "select 1; drop table orders",
    "commit and drop": "commit; drop table orders",
    "prepare": "prepare p as delete from orders",
    "prepare, execute": "prepare p as delete from orders; execute p",
    "declare": "declare c cursor with hold for select peek(1)",
    "set read write": "set transaction read write; delete from orders",
    "nextval": "select setval('pg_catalog.x'::regclass, 1)",
    "terminate": "select pg_terminate_backend(1)",
    "reload": "select pg_reload_conf()",
    "lock": "lock table orders in access exclusive mode",
    "for update": "select * from orders for update",
    "values": "values ((select pg_read_file('/etc/passwd')))",
    "table of function": "select * from pg_ls_dir('/') as f",
    "call": "call nothing()",
    "advisory": "select pg_advisory_lock(1)",
    "row comparison": "select (select lo_create(0)) is null",
    "order by": "select 1 order by lo_create(0)",
    "default in values": "values (1), (lo_create(0))",
    "lateral": "select * from orders, lateral lo_create(0) as l",
    "filter": "select count(*) filter (where lo_create(0) > 0) from orders",
    "window": "select sum(1) over (partition by lo_create(0)) from orders",
    "operator by name": "select 1 operator(public.+) 2",
}

SHOWN = {
    # Reads that show a protected column in some form: the server answers, the secret does not arrive.
    "plain": "select ssn from users",
    "star": "select * from users",
    "alias": "select ssn as name from users",
    "alias of another column": "select ssn as id, id as ssn from users",
    "subquery": "select a from (select ssn as a from users) t",
    "cte": "with t as materialized (select ssn as a from users) select a from t",
    "lateral": "select l.a from users u, lateral (select u.ssn as a) l",
    "join": "select u.ssn from orders o join users u on u.id = o.user_id",
    "table": "table users",
    "view": "select number from user_list",
    "view of expression": "select folded from user_calc",
    "materialized view": "select ssn from user_copy",
    "partition": "select ssn from events_2026",
    "parent of partition": "select ssn from events",
    "inheritance child": "select ssn from staff",
    "only": "select ssn from only users",
    "tablesample": "select ssn from users tablesample bernoulli (100)",
    "whole row": "select users from users",
    "whole row of alias": "select u from users u",
    "row star": "select (u).* from users u",
    "field of row": "select (u).ssn from users u",
    "row()": "select row(ssn) from users",
    "row_to_json": "select row_to_json(users) from users",
    "to_jsonb": "select to_jsonb(u) from users u",
    "json_agg": "select json_agg(u) from users u",
    "string_agg": "select string_agg(ssn, ',') from users",
    "array_agg": "select array_agg(ssn) from users",
    "concat": "select 'x' || ssn from users",
    "cast": "select ssn::varchar from users",
    "collate": 'select ssn collate "C" from users',
    "case": "select case when true then ssn end from users",
    "coalesce": "select coalesce(ssn, '') from users",
    "substr": "select substr(ssn, 1, 3) || substr(ssn, 4) from users",
    "reverse twice": "select reverse(reverse(ssn)) from users",
    "scalar subquery": "select (select ssn from users where id = 1)",
    "recursive": "with recursive r(a, n) as (select ssn, 1 from users union all select a, n + 1 from r where n < 2) select a from r",
    "window": "select first_value(ssn) over () from users",
    "cursor": "begin; declare c cursor for select ssn from users; fetch all from c; commit",
    "prepared in SQL": "prepare q as select ssn from users; execute q",
    "array column": "select tags from users",
    "array element": "select tags[2] from users",
    "json column": "select profile from users",
    "json field": "select profile->>'ssn' from users",
    "unnest": "select unnest(tags) from users",
    "max": "select max(ssn) from users",
    "text of row": "select u::text from users u",
    "format": "select format('%s', u.ssn) from users u",
    "explain": "explain (verbose) select ssn from users where id = 1",
    "fetch in the clear name": "select ssn \"quoted \"\"id\" from users",
    "quoted relation": 'select ssn from "public"."users"',
}

ORACLES = {
    # Reads that tell of a protected column by which rows come, in which order, or by an error.
    "where": "select id from users where ssn = '123-45-6789'",
    "like": "select id from users where ssn like '123%'",
    "order by": "select id from users order by ssn",
    "order by ordinal": "select id, ssn from users order by 2",
    "group by": "select count(*) from users group by ssn",
    "distinct": "select distinct ssn from users",
    "having": "select count(*) from users group by id having max(ssn) > '2'",
    "join": "select u.id from users u join people p on p.ssn = u.ssn",
    "in": "select id from users where ssn in ('123-45-6789')",
    "exists": "select 1 where exists (select from users where ssn like '1%')",
    "except": "select ssn from users except select '123-45-6789'",
    "division": "select 1 / (case when ssn like '1%' then 0 else 1 end) from users",
    "fails on zero": "select 1 / (ascii(ssn) - 49) from users",
    "fails when too much": "select ascii(ssn) + 2147483598 from users",
    "fails on a negative length": "select substr('abc', 1, ascii(ssn) - 49) from users",
    "fails as a number": "select substr(ssn, 1, 1)::int from users",
    "fails as a pattern": "select 'x' like ssn from users",
    "fails behind a short cut": "select ssn like '1%' and 1 / (id - id) = 1 from users",
    "fails behind coalesce": "select coalesce(nullif(ssn, '1'), (1 / (id - id))::text) from users",
    "sleeps": "select pg_sleep(ascii(ssn) / 100.0) from users",
    "how many rows": "select generate_series(1, ascii(ssn)) from users",
    "how many rows of a join": "select g from users u, generate_series(1, ascii(u.ssn)) g",
    "limit": "select id from users limit (select length(ssn) from users where id = 1)",
    "a setting the server reports": "select set_config('application_name', ssn, false) from users",
    "statistics": "select most_common_vals from pg_stats where tablename = 'users'",
    "whole row in where": "select id from users u where u::text like '%123%'",
    "json of the row in where": "select id from users where to_jsonb(users)->>'ssn' like '1%'",
    "natural join": "select u.id from users u natural join people",
    "ordered aggregate": "select percentile_disc(0.5) within group (order by ssn) from users",
    "through a view": "select id from user_list where number = '123-45-6789'",
    "insert select": "insert into orders (id, note) select 9, ssn from users",
    "create view": "create view v as select ssn from users",
    "update from": "update users set name = ssn",
}


@pytest.fixture(scope="module")
def shop(postgres: Postgres) -> Iterator[Gate]:
    with Gate(Address("127.0.0.1", postgres.port), RULES) as gate:
        yield gate


def connect(gate: Gate, **more: object) -> "psycopg.Connection[tuple[object, ...]]":
    words = f"host=127.0.0.1 port={gate.port} user=acme password=secret dbname=shop sslmode=disable"
    return psycopg.connect(words, autocommit=True, **more)  # type: ignore[arg-type]


def state(postgres: Postgres) -> str:
    return postgres.admin("select (select count(*) from orders), (select count(*) from pg_class where relnamespace = 'public'::regnamespace)", "shop")


def results(cursor: "psycopg.Cursor[tuple[object, ...]]") -> str:
    """Return everything every result set of a cursor held, as text."""
    out = ""
    more: bool | None = True
    while more:
        if cursor.description:
            out += repr(cursor.fetchall())
        more = cursor.nextset()
    return out


@pytest.mark.parametrize("statement", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_is_refused_and_nothing_happened(shop: Gate, postgres: Postgres, statement: str, protocol: str) -> None:
    before = state(postgres)
    with connect(shop) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="denied by vendorgate"):
            if protocol == "simple":
                connection.pgconn.exec_(b"")
                with connection.cursor(binary=False) as cursor:
                    cursor.execute(sql.SQL(statement), prepare=False) if "%" not in statement else cursor.execute(sql.SQL(statement.replace("%", "%%")))
            else:
                connection.execute(statement.replace("%", "%%"), (), binary=True, prepare=True)
        assert connection.execute("select 1").fetchone() == (1,)
    assert state(postgres) == before


@pytest.mark.parametrize("statement", SHOWN.values(), ids=SHOWN.keys())
def test_a_protected_column_is_never_shown(shop: Gate, statement: str) -> None:
    with connect(shop) as connection:
        notices: list[str] = []
        connection.add_notice_handler(lambda n: notices.append(repr((n.message_primary, n.message_detail))))
        got = results(connection.execute(statement))
        assert got, "there was no result to look at"
        for secret in SECRETS:
            assert secret not in got
            assert secret[::-1] not in got
            assert secret not in repr(notices)
    written = b"".join(note.raw for _, note in shop.notes if note.side and note.side.value == "server")
    assert not any(secret.encode() in written for secret in SECRETS), "the record holds what was masked"


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("statement", [s for s in SHOWN.values() if ";" not in s and "%" not in s])
def test_a_protected_column_is_never_shown_in_the_extended_protocol(shop: Gate, statement: str, binary: bool) -> None:
    with connect(shop) as connection:
        for _ in range(3):  # the third time runs a prepared statement again
            cursor = connection.execute(statement, (), prepare=True, binary=binary)
            got = b"".join(
                cursor.pgresult.get_value(row, column) or b""
                for row in range(cursor.pgresult.ntuples)
                for column in range(cursor.pgresult.nfields)
            ) if cursor.pgresult else b""
            for secret in SECRETS:
                assert secret.encode() not in got


@pytest.mark.parametrize("statement", ORACLES.values(), ids=ORACLES.keys())
def test_a_protected_column_is_no_oracle(shop: Gate, statement: str) -> None:
    with connect(shop) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.replace("%", "%%"), ())


COPIES = {
    "table": "copy users to stdout",
    "columns": "copy users (ssn, id) to stdout",
    "csv": "copy users to stdout (format csv, header)",
    "csv quoted": "copy users to stdout (format csv, force_quote *)",
    "delimiter": "copy users to stdout (delimiter '|')",
    "binary": "copy users to stdout (format binary)",
    "old syntax": "copy users to stdout with csv",
    "query": "copy (select ssn from users) to stdout",
    "query with alias": "copy (select ssn as id from users) to stdout",
    "query of expression": "copy (select lower(ssn) from users) to stdout",
    "view": "copy (table user_list) to stdout",
    "partition": "copy events_2026 to stdout",
}


@pytest.mark.parametrize("statement", COPIES.values(), ids=COPIES.keys())
def test_copy_is_masked(shop: Gate, statement: str) -> None:
    with connect(shop) as connection, connection.cursor().copy(statement) as copy:
        got = b"".join(bytes(block) for block in copy)
    assert got
    assert not any(secret.encode() in got for secret in SECRETS)


def test_what_is_not_protected_comes_through_whole(shop: Gate) -> None:
    """A mask that hides everything would pass all of the above."""
    with connect(shop) as connection:
        assert connection.execute("select id, name, email, salary from users where id = 1").fetchall() == [
            (1, "Ada", "ada@example.com", Decimal("5000"))
        ]
        assert connection.execute("select count(*), sum(total) from orders where user_id = 1").fetchall() == [
            (2, Decimal("30.5"))
        ]
        assert connection.execute("select upper(name), ssn from users where id = 3").fetchall()[0][1] is None
        assert connection.execute("select id, ssn from other.users").fetchall() == [(1, "public knowledge")]


@pytest.mark.parametrize("option", ["encoding 'SJIS'", "encoding 'LATIN1'"])
def test_a_copy_whose_form_is_not_known_is_refused_and_the_connection_lives(shop: Gate, option: str) -> None:
    with connect(shop) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.cursor().copy(f"copy users to stdout ({option})") as copy:
            list(copy)
        assert connection.execute("select 1").fetchone() == (1,)


class TestErrorsSayNothing:
    """[measured] a CHECK quotes the row, a failed cast the value."""

    RULES = RULES.replace("write, ", "")  # writes pass, as an agent that may insert has them
    RULES = RULES.replace("read, session", "read, write, session")

    def test_check_violation(self, postgres: Postgres) -> None:
        with Gate(Address("127.0.0.1", postgres.port), self.RULES) as gate, connect(gate) as connection:
            with pytest.raises(psycopg.errors.CheckViolation) as caught:
                connection.execute("update users set salary = -1 where id = 1")
            assert "123-45-6789" not in repr((caught.value.diag.message_detail, str(caught.value)))

    def test_failed_cast(self, shop: Gate) -> None:
        with connect(shop) as connection:
            with pytest.raises(psycopg.errors.InvalidTextRepresentation) as caught:
                connection.execute("select cast(name as int) from users")
            assert "Ada" not in str(caught.value)


class TestSettings:
    """What changes how text is read is followed; what cannot be followed is unknown."""

    def test_standard_conforming_strings_off(self, shop: Gate, postgres: Postgres) -> None:
        before = state(postgres)
        with connect(shop) as connection:
            try:
                connection.execute("set standard_conforming_strings = off")
            except psycopg.errors.InsufficientPrivilege:
                return
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(r"select '\''; drop table orders; --'")
        assert state(postgres) == before

    def test_standard_conforming_strings_off_at_login(self, shop: Gate, postgres: Postgres) -> None:
        before = state(postgres)
        with connect(shop, options="-c standard_conforming_strings=off") as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(r"select '\''; drop table orders; --'")
        assert state(postgres) == before

    def test_pipelined_behind_the_change(self, shop: Gate, postgres: Postgres) -> None:
        """The statement behind a SET, in the same packet, is judged with the setting in force."""
        before = state(postgres)
        with connect(shop) as connection, pytest.raises(psycopg.Error), connection.pipeline() as pipeline:
            connection.execute("set standard_conforming_strings = off")
            connection.execute(r"select '\'', 'pg_read_file(' ; --'")
            pipeline.sync()
        assert state(postgres) == before

    @pytest.mark.parametrize("encoding", ["SJIS", "BIG5", "GBK"])
    def test_client_encoding_whose_second_byte_is_a_backslash(self, shop: Gate, postgres: Postgres, encoding: str) -> None:
        before = state(postgres)
        with connect(shop) as connection:
            try:
                connection.execute(f"set client_encoding = '{encoding}'")
            except psycopg.errors.InsufficientPrivilege:
                return
            result = connection.pgconn.exec_(b"select E'\x95\x5c'; drop table orders; --'")
            assert result.status == psycopg.pq.ExecStatus.FATAL_ERROR
            assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"42501"
        assert state(postgres) == before

    def test_search_path_to_a_shadow_schema(self, shop: Gate) -> None:
        with connect(shop) as connection:
            connection.execute("set search_path = other, public")
            assert connection.execute("select ssn from users").fetchall() == [("public knowledge",)]
            connection.execute("set search_path = public")
            assert "123-45-6789" not in repr(connection.execute("select ssn from users").fetchall())

    def test_search_path_that_demotes_pg_catalog(self, shop: Gate) -> None:
        with connect(shop) as connection:
            connection.execute("set search_path = public, pg_catalog")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select lower(name) from users")


class TestOversize:
    """What cannot be read is unknown, and unknown is not allowed."""

    def test_statement_padded_past_the_limit(self, shop: Gate, postgres: Postgres) -> None:
        before = state(postgres)
        with connect(shop) as connection:
            result = connection.pgconn.exec_(b"/*" + b"x" * (9 << 20) + b"*/ drop table orders")
            assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"42501"
            assert connection.execute("select 1").fetchone() == (1,)
        assert state(postgres) == before

    def test_nesting_that_would_break_a_parser(self, shop: Gate) -> None:
        with connect(shop) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select " + "(" * 20_000 + "1" + ")" * 20_000)


class TestDenialKeepsTheConnection:
    def test_in_a_transaction_it_aborts_as_any_error(self, shop: Gate) -> None:
        with connect(shop) as connection:
            connection.execute("begin")
            connection.execute("select 1")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("drop table orders")
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                connection.execute("select 1")
            connection.execute("rollback")
            assert connection.execute("select 2").fetchone() == (2,)

    def test_a_savepoint_saves(self, shop: Gate) -> None:
        with connect(shop) as connection:
            connection.execute("begin")
            connection.execute("savepoint s")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("truncate orders")
            connection.execute("rollback to savepoint s")
            assert connection.execute("select 3").fetchone() == (3,)
            connection.execute("commit")

    def test_in_a_pipeline_what_follows_is_aborted_to_the_sync(self, shop: Gate) -> None:
        with connect(shop) as connection, connection.pipeline() as pipeline:
            one = connection.execute("select 1")
            with pytest.raises(psycopg.Error):
                connection.execute("drop table orders")
                connection.execute("select 2")
                pipeline.sync()
            assert one.fetchone() == (1,)
            pipeline.sync()
            assert connection.execute("select 4").fetchone() == (4,)

    def test_the_client_is_told_a_code_and_an_id_and_no_rule(self, shop: Gate) -> None:
        with connect(shop) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
                connection.execute("drop table orders")
        message = str(caught.value)
        assert "denied by vendorgate (decision " in message
        assert "no-destructive" not in message


def test_function_call_is_refused(shop: Gate) -> None:
    """PQfn: the fast-path interface calls any function by its OID."""
    with connect(shop) as connection, connection.cursor() as cursor:
        import socket
        import struct

        sock = socket.socket(fileno=connection.fileno())
        try:
            sock.setblocking(True)
            body = struct.pack("!IHHH", 2167, 0, 0, 0)
            sock.sendall(b"F" + struct.pack("!I", len(body) + 4) + body)
            got = b""
            while b"42501" not in got:
                more = sock.recv(4096)
                assert more, got
                got += more
        finally:
            sock.detach()
        del cursor


def test_replication_is_refused(shop: Gate) -> None:
    with pytest.raises(psycopg.OperationalError):
        connect(shop, replication="database")
