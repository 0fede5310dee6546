"""Statements to effects and command tags. The table is the promise: a line per form of a statement."""

import pytest

from appliance.facts.sql import ALL, World, read
from appliance.facts.sql.walk import VISITORS
from appliance.facts.words.postgres import EFFECTS, TAGS
from tests.facts.small import PLAIN, known

# statement -> effects, command tags
EFFECT = {
    "select 1": ("read", "SELECT"),
    "values (1)": ("read", "SELECT"),
    "table t": ("read", "SELECT"),
    "select 1 from t for update": ("read lock", "SELECT"),
    "select 1 from t for key share skip locked": ("read lock", "SELECT"),
    "select * into n from t": ("read write schema", "SELECT,SELECT INTO"),
    "create table n as select 1": ("read write schema", "CREATE TABLE AS"),
    "create materialized view n as select 1": ("read write schema", "CREATE MATERIALIZED VIEW"),
    "refresh materialized view m": ("read write", "REFRESH MATERIALIZED VIEW"),
    "insert into t values (1)": ("write", "INSERT"),
    "insert into t default values": ("write", "INSERT"),
    "insert into t values (1) returning id": ("write read", "INSERT"),
    "insert into t select 1": ("write read", "INSERT"),
    "update t set a = 1": ("write", "UPDATE"),
    "update t set a = (select 1)": ("write read", "UPDATE"),
    "delete from t": ("write", "DELETE"),
    "merge into t using s on true when matched then delete": ("write", "MERGE"),
    "truncate t": ("truncate write", "TRUNCATE TABLE"),
    "create table t (a int)": ("schema", "CREATE TABLE"),
    "create table t (a int default my.f())": ("schema procedure", "CREATE TABLE"),
    "create view v as select 1": ("schema read", "CREATE VIEW"),
    "create index on t (a)": ("schema", "CREATE INDEX"),
    "create schema s create table t (a int)": ("schema", "CREATE SCHEMA,CREATE TABLE"),
    "create type t as enum ('a')": ("schema", "CREATE TYPE"),
    "create type t as (a int)": ("schema", "CREATE TYPE"),
    "create sequence s": ("schema", "CREATE SEQUENCE"),
    "create extension x": ("schema admin procedure", "CREATE EXTENSION"),
    "create aggregate a (int) (sfunc = f, stype = int)": ("schema", "CREATE AGGREGATE"),
    "create trigger g before insert on t for each row execute function f()": ("schema", "CREATE TRIGGER"),
    "create rule r as on insert to t do also delete from u": ("schema write", "CREATE RULE,DELETE"),
    "create policy p on t using (true)": ("schema grant", "CREATE POLICY"),
    "alter table t add column a int": ("schema", "ALTER TABLE"),
    "alter table t drop column a": ("schema drop", "ALTER TABLE"),
    "alter table t owner to bob": ("schema grant", "ALTER TABLE"),
    "alter table t disable row level security": ("schema grant", "ALTER TABLE"),
    "alter table t rename to u": ("schema", "ALTER TABLE"),
    "alter table t set schema s": ("schema", "ALTER TABLE"),
    "alter view v rename to w": ("schema", "ALTER VIEW"),
    "alter database d rename to e": ("schema admin", "ALTER DATABASE"),
    "drop table t": ("drop schema", "DROP TABLE"),
    "drop view v": ("drop schema", "DROP VIEW"),
    "drop function f(int)": ("drop schema", "DROP FUNCTION"),
    "drop database d": ("drop schema admin", "DROP DATABASE"),
    "drop owned by bob": ("drop schema grant", "DROP OWNED"),
    "drop role bob": ("drop admin grant", "DROP ROLE"),
    "comment on table t is 'x'": ("schema", "COMMENT"),
    "grant select on t to bob": ("grant", "GRANT"),
    "revoke all on t from bob": ("grant", "REVOKE"),
    "grant a to b": ("grant", "GRANT ROLE"),
    "create role bob superuser": ("admin grant", "CREATE ROLE"),
    "alter user bob password 'x'": ("admin grant", "ALTER ROLE"),
    "alter role bob set search_path = x": ("admin grant", "ALTER ROLE"),
    "alter system set a = 1": ("admin", "ALTER SYSTEM"),
    "alter default privileges grant select on tables to bob": ("grant", "ALTER DEFAULT PRIVILEGES,GRANT"),
    "vacuum t": ("admin", "VACUUM"),
    "analyze t": ("admin", "ANALYZE"),
    "reindex table t": ("admin", "REINDEX"),
    "cluster t": ("admin", "CLUSTER"),
    "checkpoint": ("admin", "CHECKPOINT"),
    "load 'x'": ("admin file procedure", "LOAD"),
    "lock table t": ("lock", "LOCK TABLE"),
    "listen c": ("listen", "LISTEN"),
    "notify c, 'x'": ("notify", "NOTIFY"),
    "begin": ("session", "BEGIN"),
    "commit": ("session", "COMMIT"),
    "rollback to a": ("session", "ROLLBACK"),
    "prepare transaction 'x'": ("session admin", "PREPARE TRANSACTION"),
    "commit prepared 'x'": ("session admin", "COMMIT PREPARED"),
    "set statement_timeout = 1": ("session", "SET"),
    "set transaction read write": ("session", "SET"),
    "reset all": ("session", "RESET"),
    "show all": ("session", "SHOW"),
    "discard all": ("session", "DISCARD"),
    "set constraints all deferred": ("session", "SET CONSTRAINTS"),
    "copy t to stdout": ("copy read", "COPY"),
    "copy t from stdin": ("copy write", "COPY"),
    "copy t to '/tmp/x'": ("copy read file", "COPY"),
    "copy t from program 'x'": ("copy write file", "COPY"),
    "copy (select 1) to program 'x'": ("copy read file", "COPY"),
    "copy (delete from t returning *) to stdout": ("copy read write", "COPY,DELETE"),
    "do $$ begin delete from t; end $$": ("procedure write", "DO,DELETE"),
    "call p()": ("procedure", "CALL"),
    "explain delete from t": ("read", "EXPLAIN"),
    "explain (analyze false) delete from t": ("read", "EXPLAIN"),
    "explain (analyze 0) delete from t": ("read", "EXPLAIN"),
    "explain analyze delete from t": ("read write", "EXPLAIN,DELETE"),
    "explain (analyze) delete from t": ("read write", "EXPLAIN,DELETE"),
    "explain (analyze false, analyze 1) delete from t": ("read write", "EXPLAIN,DELETE"),
    "explain (analyze 'on') delete from t": ("read write", "EXPLAIN,DELETE"),
    "explain analyze create table n as select 1": ("read write schema", "EXPLAIN,CREATE TABLE AS"),
    "prepare p as delete from t": ("session write", "PREPARE,DELETE"),
    "deallocate all": ("session", "DEALLOCATE"),
    "declare c cursor for select 1": ("read", "DECLARE CURSOR,SELECT"),
    "fetch 1 from c": ("read", "FETCH"),
    "move 1 in c": ("read", "MOVE"),
    "close c": ("session", "CLOSE CURSOR"),
    "": ("session", ""),
    ";;": ("session", ""),
    "-- nothing": ("session", ""),
    "select 1; drop table t": ("read drop schema", "SELECT,DROP TABLE"),
    "create function f() returns int language sql as 'delete from t; select 1'": (
        "schema read write",
        "CREATE FUNCTION,DELETE,SELECT",
    ),
    "create function f() returns int begin atomic delete from t; select 1; end": ("schema read write", "CREATE FUNCTION,DELETE"),
    "create function f() returns int return (select 1)": ("schema read", "CREATE FUNCTION"),
    "create procedure p() language c as 'x', 'y'": ("schema procedure", "CREATE PROCEDURE"),
    "import foreign schema s from server x into y": ("schema admin procedure", "IMPORT FOREIGN SCHEMA"),
    "create server s foreign data wrapper w": ("schema admin", "CREATE SERVER"),
    "create subscription s connection 'x' publication p": ("schema admin", "CREATE SUBSCRIPTION"),
    "create tablespace s location '/x'": ("schema admin file", "CREATE TABLESPACE"),
}

# call -> effects besides read; "?" if the effects are unknown too
CALLS = {
    "lower('x')": "",
    "pg_catalog.lower('x')": "",
    "public.lower('x')": "procedure ?",
    "my_function(1)": "procedure ?",
    "now()": "",
    "extract(year from now())": "",
    "substring('x' from 1)": "",
    "position('a' in 'b')": "",
    "current_user": "",
    "coalesce(1, 2)": "",
    "greatest(1, 2)": "",
    "xmlelement(name a)": "",
    "json_object('a': 1)": "",
    "nextval('s')": "write",
    "setval('s', 1)": "write",
    "currval('s')": "",
    "lo_create(0)": "write",
    "lo_unlink(1)": "write",
    "lo_import('/etc/passwd')": "file",
    "lo_export(1, '/x')": "file",
    "pg_read_file('/etc/passwd')": "file",
    "pg_read_binary_file('/etc/passwd')": "file",
    "pg_ls_dir('/')": "file",
    "pg_stat_file('/')": "file",
    "pg_terminate_backend(1)": "admin",
    "pg_cancel_backend(1)": "admin",
    "pg_reload_conf()": "admin",
    "pg_switch_wal()": "admin",
    "pg_logical_emit_message(true, 'a', 'b')": "admin",
    "pg_create_restore_point('x')": "admin",
    "pg_stat_reset()": "admin",
    "pg_export_snapshot()": "session",
    "set_config('search_path', 'x', false)": "session",
    "pg_notify('a', 'b')": "notify",
    "pg_advisory_lock(1)": "lock",
    "pg_try_advisory_xact_lock(1)": "lock",
    "dblink('x', 'delete from t')": "procedure ?",
    "query_to_xml('delete from t', true, true, '')": "procedure ?",
    "table_to_xml('t', true, true, '')": "procedure ?",
    "cursor_to_xml('c', 1, true, true, '')": "procedure ?",
    "ts_stat('select 1')": "procedure ?",
    "ts_rewrite('a', 'select 1')": "procedure ?",
    "pg_logical_slot_get_changes('s', null, null)": "procedure ?",
    "1 operator(public.+) 2": "procedure ?",
    "1 operator(pg_catalog.+) 2": "",
    "1 <==> 2": "procedure ?",
    "'a' like 'b' escape 'c'": "",
    "'a' similar to 'b'": "",
    "1 between 0 and 2": "",
    "x is distinct from 1": "",
}


@pytest.mark.parametrize("text", EFFECT)
def test_effects_and_tags(text: str) -> None:
    effects, tags = EFFECT[text]
    reading = read(text, PLAIN)
    assert reading.values["effect"] == frozenset(effects.split())
    assert reading.values["statement"] == frozenset(tags.split(",") if tags else ())


@pytest.mark.parametrize("text", [t for t, (e, _) in EFFECT.items() if "procedure" not in e and "drop" not in e])
def test_effects_are_known(text: str) -> None:
    assert not read(text, PLAIN).unknown & {"effect", "statement"}


@pytest.mark.parametrize("call", CALLS)
def test_calls(call: str) -> None:
    reading = read(f"select {call} from (values (1)) as t(x)", PLAIN)
    words = CALLS[call].split()
    assert reading.values["effect"] == {"read", *words} - {"?"}
    assert ("effect" in reading.unknown) == ("?" in words)


@pytest.mark.parametrize("text", EFFECT)
def test_words_are_those_of_the_rules(text: str) -> None:
    values = read(text, PLAIN).values
    assert values["effect"] <= set(EFFECTS)
    assert values["statement"] <= set(TAGS)


def test_number_of_statements() -> None:
    assert known("select 1; ; select 2").count == 2
    assert known("").count == 0


def test_a_node_that_is_not_known_makes_all_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(VISITORS, "NotifyStmt")
    assert read("notify x", PLAIN).unknown == ALL


def test_every_statement_of_the_grammar_is_known() -> None:
    """libpg_query wraps these kinds as pb.Node; what is not in the list cannot be sent by a client."""
    from postgast import pg_query_pb2 as pb

    inner = {
        "RawStmt", "PLAssignStmt", "SetOperationStmt", "ReplicaIdentityStmt", "AlterTableCmd", "CreateOpClassItem",
    }  # fmt: skip
    kinds = {f.message_type.name for f in pb.Node.DESCRIPTOR.fields if f.message_type.name.endswith("Stmt")}
    assert kinds - inner <= VISITORS.keys()


class TestSearchPath:
    """A user's function, operator or type stands in for the built-in one where pg_catalog does not come first."""

    @pytest.mark.parametrize("path", [("public", "pg_catalog"), None])
    @pytest.mark.parametrize("text", ["select lower('x')", "select 1 + 1", "select 'x'::text", "select 1 where 1 in (1)", "select case 1 when 1 then 1 end", "select 1 between 1 and 2", "select 1 order by 1 using <"])
    def test_pg_catalog_late_or_not_known(self, path: tuple[str, ...] | None, text: str) -> None:
        assert "effect" in read(text, World(path=path)).unknown

    @pytest.mark.parametrize("path", [("evil",), ("pg_catalog", "evil"), ()])
    def test_pg_catalog_first(self, path: tuple[str, ...]) -> None:
        assert not read("select lower('x'), 1 + 1, 'x'::text", World(path=path)).unknown

    def test_qualified_names_do_not_care(self) -> None:
        text = "select pg_catalog.lower('x'), 1 operator(pg_catalog.+) 1, 'x'::pg_catalog.text"
        assert not read(text, World(path=None)).unknown

    def test_set_in_the_same_text(self) -> None:
        assert "effect" in read("set search_path = evil, pg_catalog; select lower('x')", PLAIN).unknown
        assert "effect" in read("select set_config('search_path', 'x', true); select lower('x')", PLAIN).unknown
        assert "effect" in read("begin; set search_path = x; rollback; select lower('x')", PLAIN).unknown
        assert not read("set search_path = evil; select lower('x')", PLAIN).unknown
