"""What a name means: search_path, temporary tables, spelling, settings, roles; and what READ ONLY would let through.

test_corner_cases.py says what is where.
"""

from collections.abc import Iterator

import pytest

from appliance.lab.servers import Postgres
from tests.evasion import talk
from tests.evasion.talk import SYNC, Talk, address, shown
from tests.gate import Gate

pytestmark = pytest.mark.peer

OWN = "rules:\n  - {id: hide-code, when: {application: agent, column: [public.lent.code]}, do: mask, with: redact}\n  - {id: all, do: allow}\n"
NO_ORDERS = "rules:\n  - {id: no-orders, when: {table: [public.orders]}, do: block}\n  - {id: all, do: allow}\n"


@pytest.fixture(scope="module")
def gate(corner: Postgres) -> Iterator[Gate]:
    with Gate(address(corner.port), NO_ORDERS) as gate:
        yield gate


@pytest.fixture
def masked(writer: Gate) -> Iterator[Talk]:
    with Talk(writer.port, database="corner") as line:
        yield line


SECRET = "select ssn from users where id = 1"


class TestShadows:
    """A name that comes to mean another relation, and back again."""

    SCRIPTS = (
        ["create temp table users (id int, ssn text)", "drop table pg_temp.users", SECRET],
        ["create temp table users (id int, ssn text)", "drop table users", SECRET],
        ["begin; create temp table users (id int, ssn text)", "rollback", SECRET],
        ["begin; create temp table users (id int, ssn text) on commit drop", "commit", SECRET],
        ["begin; savepoint s; create temp table users (id int, ssn text)", "rollback to s", SECRET],
        ["create temp table users (id int, ssn text)", "discard temp", SECRET],
        ["create temp table users (id int, ssn text)", "discard all", SECRET],
        ["create temp table users (id int, ssn text)", "set search_path = public, pg_temp", SECRET],
        ["create temp table users (id int, ssn text)", "alter table users rename to others", SECRET],
        ["create temp table users (id int, ssn text)", "select ssn from public.users where id = 1"],
        ["set search_path = other", "reset search_path", SECRET],
        ["set search_path = other", "set search_path = default", SECRET],
        ["set search_path = other", "reset all", SECRET],
        ["set search_path = other", "discard all", SECRET],
        ["begin; set local search_path = other", "commit", SECRET],
        ["begin; set search_path = other", "rollback", SECRET],
        ["begin; savepoint s; set search_path = other", "rollback to s", SECRET],
        ["select set_config('search_path', 'other', false)", "select set_config('search_path', 'public', false)", SECRET],
        ["begin; select set_config('search_path', 'other', true)", "rollback", SECRET],
        ["set search_path = other; set search_path = public; " + SECRET],
        ["set schema 'other'", "set schema 'public'", SECRET],
        ["set search_path to '$user', public", SECRET],
        ["set search_path = PUBLIC", SECRET], ['set search_path = "public "', "set search_path = 'public'", SECRET],
        ["begin; set search_path = other; select 1/0", "rollback", SECRET],
        ["prepare s as " + SECRET, "set search_path = other", "execute s"],
        ["set search_path = other", "prepare s as " + SECRET, "set search_path = public", "execute s"],
        ["set search_path = other", "begin; declare c cursor for " + SECRET, "set search_path = public", "fetch all from c"],
    )  # fmt: skip

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: "; ".join(script[:2]))
    @pytest.mark.parametrize("glued", [False, True], ids=["one by one", "in one packet"])
    def test_what_is_read_is_what_is_masked(self, masked: Talk, script: list[str], glued: bool) -> None:
        if glued:
            masked.ask(b"".join(talk.query(text) for text in script), len(script))
        else:
            for text in script:
                masked.ask(talk.query(text))
        assert not shown(masked.seen)

    def test_a_table_of_ones_own_is_read(self, masked: Talk) -> None:
        masked.ask(talk.query("create temp table mine (ssn text)"))
        masked.ask(talk.query("insert into mine values ('my own')"))
        assert talk.rows(masked.ask(talk.query("select ssn from mine"))) == [[b"my own"]]
        masked.ask(talk.query("set search_path = other"))
        assert talk.rows(masked.ask(talk.query("select ssn from users"))) == [[b"public knowledge"]]

    @pytest.mark.parametrize("script", [
        ["create temp table orders (id int)", "drop table orders", "delete from orders"], ["begin; create temp table orders (id int)", "rollback", "delete from orders"],
        ["create temp table orders (id int)", "delete from public.orders"], ["set search_path = other", "delete from public.orders"], ["set search_path = other", "reset all; delete from orders"],
        ["set search_path = other; create table other.orders (id int)", "drop table other.orders; set search_path = public, other", "delete from orders"],
        ["create view o as select 1 as id", "create or replace view o as select id from public.orders", "delete from o"], ["create temp view o as select * from orders", "delete from o"],
    ])  # fmt: skip
    def test_what_rules_refuse_by_name_stays_refused(self, gate: Gate, corner: Postgres, script: list[str]) -> None:
        before = corner.admin("select count(*) from orders", "corner")
        with Talk(gate.port, database="corner") as line:
            for text in script:
                line.ask(talk.query(text))
            line.ask(talk.query("rollback; drop view if exists o"))
        assert corner.admin("select count(*) from orders; drop table if exists other.orders; drop view if exists o", "corner") == before

    def test_while_others_change_the_schema(self, writer: Gate, corner: Postgres) -> None:
        """A relation someone else made after the catalogue was read is asked about before it is read."""
        with Talk(writer.port, database="corner") as line:
            line.ask(talk.query(SECRET))
            corner.admin("set role acme; create view sneaky as select ssn as fine from users; create table fresh (a text); insert into fresh values ('new')", "corner")
            line.ask(talk.query("select fine from sneaky"))
            assert not shown(line.seen)
            assert talk.rows(line.ask(talk.query("select a from fresh"))) == [[b"new"]]
            corner.admin("drop view sneaky; drop table fresh", "corner")


    @pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
    def test_while_a_transaction_has_a_catalogue_of_its_own(self, corner: Postgres, isolation: str) -> None:
        """What it reads of the catalogue may be what was, but its names mean what others have made of them since."""
        corner.admin("set role acme; create table lent (code varchar); insert into lent values ('123-45-6789')", "corner")
        with Gate(address(corner.port), OWN) as gate, Talk(gate.port, database="corner", application_name="agent") as line:
            for text in (f"begin isolation level {isolation}", "create temp table t (a int)", "select a from t"):
                assert not talk.codes(line.ask(talk.query(text)))
            assert talk.rows(line.ask(talk.query("select lower(code) from lent"))) == [[b"[redacted]"]]
            with Talk(gate.port, database="corner") as other:  # it fits better than the built-in one, so it is called
                assert not talk.codes(other.ask(talk.query("create function lower(varchar) returns text language sql return 'x'")))
            assert talk.codes(line.ask(talk.query("select lower(code) from lent"))) == ["42501"]
            line.ask(talk.query("rollback"))
            assert talk.codes(line.ask(talk.query("select lower(code) from lent"))) == ["42501"]
            assert not shown(line.seen)
        corner.admin("drop table lent; drop function public.lower(varchar)", "corner")


class TestSpelling:
    """Names that look alike, and names that are the same."""

    SAME = (
        "delete from ORDERS", 'delete from "orders"', "delete from public . orders", 'delete from "public"."orders"', 'delete from U&"\\006Frders"', 'delete from U&"!006frders" uescape \'!\'',
        "delete from/**/orders", "delete from orders*", "delete from only orders", "delete from only (orders)", "delete from orders as users", "delete\nfrom\torders", "delete from corner.public.orders",
        "table orders", "select from orders", "select 'orders'::regclass, (select max(id) from orders)", "lock orders", "insert into orders default values", "truncate users, orders cascade", "select 1 from users, orders",
        "with orders as (select 1) delete from orders", "with x as (select 1) delete from orders", "select 1 where exists (table orders)", "comment on column orders.id is ''", "analyze orders", "grant select on orders to acme",
        "create trigger t before insert on orders execute function tell()", "explain select * from orders", "copy orders to stdout", "create table t (like orders)", "create table t () inherits (orders)", "alter sequence if exists s owned by orders.id",
    )  # fmt: skip
    OTHERS = ("select 'delete from orders'", "select $$ delete from orders $$", "select 1 -- delete from orders", "select 1 /* from orders */", 'select 1 as "orders"', "select 1 as orders", "with orders as (select 1) table orders")
    FORGED = ("delete from оrders", "delete from ord\u200bers", "delete from ｏｒｄｅｒｓ", "delete from orders\u200b", "delete from orders", "delete from ORDERS﻿")

    @pytest.mark.parametrize("text", SAME)
    def test_the_same_relation(self, gate: Gate, text: str) -> None:
        with Talk(gate.port, database="corner") as line:
            line.ask(talk.query("begin"))
            assert talk.codes(line.ask(talk.query(text))) == ["42501"]

    @pytest.mark.parametrize("text", OTHERS)
    def test_only_words(self, gate: Gate, text: str) -> None:
        with Talk(gate.port, database="corner") as line:
            assert talk.codes(line.ask(talk.query(text))) == []

    @pytest.mark.parametrize("text", FORGED)
    def test_look_alikes_are_other_names(self, gate: Gate, corner: Postgres, text: str) -> None:
        before = corner.admin("select count(*) from orders", "corner")
        with Talk(gate.port, database="corner") as line:
            assert talk.codes(line.ask(talk.query(text)))[0] in {"42501", "42P01"}
        assert corner.admin("select count(*) from orders", "corner") == before

    @pytest.mark.parametrize("text", [b"delete from \xff", b"select '\xc3'", b"select 'a\xe4'; delete from orders"])
    def test_bytes_that_are_no_text(self, reader: Gate, text: bytes) -> None:
        with Talk(reader.port, database="corner") as line:
            assert talk.codes(line.ask(talk.frame("Q", text + b"\0"))) == ["42501"]


class TestSettings:
    """What changes how a text is read, in every way it can be set."""

    WAYS = (
        ["set standard_conforming_strings = off"], ["set standard_conforming_strings to 'off'"], ["set session standard_conforming_strings = 0"], ["begin; set local standard_conforming_strings = off"],
        ["select set_config('standard_conforming_strings', 'off', false)"], ["SET STANDARD_CONFORMING_STRINGS = no"], ["do $$ begin perform set_config('standard_conforming_strings', 'off', false); end $$"],
        ["create function pg_temp.f() returns int language sql set standard_conforming_strings = off as 'select 1'", "select pg_temp.f()"],
        ["set backslash_quote = on"], ["set standard_conforming_strings = off; select 1/0"], ["begin; set standard_conforming_strings = off; savepoint s; set standard_conforming_strings = on; rollback to s"],
        ["set client_encoding = 'SJIS'"], ["set names 'SJIS'"], ["set client_encoding = 'GBK'"], ["select set_config('client_encoding', 'BIG5', false)"], ["set client_encoding = 'UHC'"], ["set client_encoding = 'JOHAB'"],
    )  # fmt: skip

    @pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
    @pytest.mark.parametrize("smuggled", [b"select '\\''; delete from orders; --'", b"select E'\x95\x5c'; delete from orders; --'", b"select '\x95\x5c''; delete from orders; --'"], ids=["quote", "two bytes", "half"])
    @pytest.mark.parametrize("glued", [False, True], ids=["one by one", "in one packet"])
    def test_nothing_is_smuggled_in_a_string(self, gate: Gate, corner: Postgres, way: list[str], smuggled: bytes, glued: bool) -> None:
        before = corner.admin("select count(*) from orders", "corner")
        with Talk(gate.port, database="corner") as line:
            asked = [*(talk.query(text) for text in way), talk.frame("Q", smuggled + b"\0"), talk.query("commit")]
            if glued:
                line.ask(b"".join(asked), len(asked))
            else:
                for one in asked:
                    line.ask(one)
        assert corner.admin("select count(*) from orders", "corner") == before

    @pytest.mark.parametrize("options", ["-c standard_conforming_strings=off", "-cstandard_conforming_strings=off", "--standard-conforming-strings=off", "-c search_path=other", "-c client_encoding=SJIS"])
    def test_set_at_login(self, writer: Gate, corner: Postgres, options: str) -> None:
        with Talk(writer.port, database="corner", options=options) as line:
            for text in (b"select '\\''; update orders set note = 'taken'; --'", b"select ssn from public.users", b"select ssn from users", b"select E'\x95\x5c'; update orders set note = 'taken'; --'"):
                line.ask(talk.frame("Q", text + b"\0"))
            assert not shown(line.seen)
        assert corner.admin("select count(*) from orders where note = 'taken'", "corner") == "0"

    def test_of_the_role_and_the_database(self, writer: Gate, corner: Postgres) -> None:
        """Defaults that no client ever sends: a session may start with another search_path."""
        corner.admin("alter role acme in database corner set search_path = other")
        try:
            with Talk(writer.port, database="corner") as line:
                assert talk.rows(line.ask(talk.query("select ssn from users"))) == [[b"public knowledge"]]
                assert talk.rows(line.ask(talk.query("select ssn from public.users where id = 1"))) == [[b"[redacted]"]]
        finally:
            corner.admin("alter role acme in database corner reset search_path")

    @pytest.mark.parametrize("encoding", ["LATIN1", "UTF8", "WIN1252", "EUC_JP"])
    def test_honest_encodings_work(self, writer: Gate, encoding: str) -> None:
        with talk.connect(writer.port, client_encoding=encoding) as connection:
            assert connection.execute("select name, ssn from users where id = 1").fetchone() == ("Ada", "[redacted]")
            assert connection.execute("select %s::text", ("plain",)).fetchone() == ("plain",)

    def test_extra_float_digits_bytea_and_dates(self, writer: Gate) -> None:
        with Talk(writer.port, database="corner") as line:
            for text in ("set bytea_output = escape", "set datestyle = 'German'", "set intervalstyle = iso_8601", "set extra_float_digits = 0", "set xmloption = content", "set quote_all_identifiers = on", "set timezone = 'Asia/Tokyo'"):
                assert talk.codes(line.ask(talk.query(text))) == []
                line.ask(talk.query("select ssn, ssn::bytea, to_jsonb(u) from users u"))
                line.ask(talk.extended("select ssn, ssn::bytea, to_jsonb(u) from users u", binary=True))
            assert not shown(line.seen)


class TestRoles:
    RULES = "rules:\n  - {id: hide, when: {column: [public.users.ssn]}, do: mask, with: redact}\n  - {id: only-acme, when: {role: [tester, postgres]}, do: block}\n  - {id: all, do: allow}\n"
    BECOME = ("set role tester", "set role 'tester'", "set session role tester", "set local role tester", "set session authorization tester", "set session authorization 'tester'", "select set_config('role', 'tester', false)",
              "select set_config('session_authorization', 'tester', false)", "SET ROLE TESTER", "begin; set local session authorization tester", "alter role acme set role = tester", "grant tester to acme", "create role x in role tester",
              "set role none; set role tester", "do $$ begin set role tester; end $$", "create function pg_temp.f() returns int language sql set role = tester as 'select 1'", "alter table users owner to tester", "reassign owned by acme to tester")  # fmt: skip

    @pytest.mark.parametrize("text", BECOME)
    @pytest.mark.parametrize("extended", [False, True])
    def test_rules_see_whom_a_session_becomes(self, corner: Postgres, text: str, extended: bool) -> None:
        with Gate(address(corner.port), self.RULES) as gate, Talk(gate.port, "tester", "corner") as line:
            line.ask(talk.query("begin"))
            for one in text.split("; ") if extended and "$$" not in text else [text]:
                got = line.ask(talk.extended(one) if extended else talk.query(one))
            assert talk.codes(got) == ["42501"]

    @pytest.mark.parametrize("words", [{"options": "-c role=tester"}, {"options": "--role=tester"}, {"options": "-crole=tester -c work_mem=1MB"}, {"options": "-ec role=tes\\ter"},
                                       {"options": "--session-authorization=tester"}, {"role": "tester"}, {"Role": "tester"}, {"session_authorization": "tester"}])  # fmt: skip
    def test_at_login(self, corner: Postgres, words: dict[str, str]) -> None:
        with Gate(address(corner.port), self.RULES) as gate, talk.Socket.open(gate.port) as line:
            line.send(talk.startup(user="acme", database="corner", **words))
            assert talk.codes(line.until("RE")) == ["42501"]

    @pytest.mark.parametrize("back", ["reset role", "set role none", "reset session authorization", "set session authorization default", "reset all", "discard all", "rollback"])
    def test_masks_hold_whoever_it_is(self, writer: Gate, back: str) -> None:
        with Talk(writer.port, "tester", "corner") as line:
            line.ask(talk.query("begin") if back == "rollback" else talk.query("select 1"))
            for text in ("set role acme", SECRET, "set session authorization acme", SECRET, back, SECRET):
                line.ask(talk.query(text))
            assert line.seen.count(b"[redacted]") == 3
            assert not shown(line.seen)

    def test_the_schema_of_a_role_comes_with_it(self, writer: Gate, corner: Postgres) -> None:
        """`$user` in search_path follows SET ROLE."""
        corner.admin("create schema acme authorization acme; create table acme.users (id int, ssn text); insert into acme.users values (1, 'of acme'); grant all on acme.users to public", "corner")
        try:
            with Gate(writer.server, talk.WRITER) as gate, Talk(gate.port, "tester", "corner") as line:
                assert talk.rows(line.ask(talk.query(SECRET))) == [[b"[redacted]"]]
                line.ask(talk.query("set role acme"))
                assert talk.rows(line.ask(talk.query(SECRET))) == [[b"of acme"]]
                line.ask(talk.query("reset role"))
                assert talk.rows(line.ask(talk.query(SECRET))) == [[b"[redacted]"]]
        finally:
            corner.admin("drop schema acme cascade", "corner")


class TestReadOnlyGaps:
    """[measured] What the server lets through in BEGIN READ ONLY; the rules of a reader must not."""

    TEXTS = (
        "select lo_create(0)", "select lo_import('/etc/passwd')", "select lo_from_bytea(0, 'x')", "select pg_read_file('/etc/passwd')", "select pg_ls_dir('/')", "copy (select 1) to '/tmp/x'", "copy (select 1) to program 'true'",
        "notify c", "select pg_notify('c', 'x')", "select pg_advisory_lock(1)", "select pg_terminate_backend(1)", "select pg_cancel_backend(1)", "select pg_reload_conf()", "select pg_switch_wal()", "select pg_rotate_logfile()",
        "select pg_logical_emit_message(false, 'a', 'b')", "select pg_create_restore_point('x')", "select pg_stat_reset()", "lock table orders", "prepare p as delete from orders", "checkpoint",
        "set transaction read write; delete from orders", "select nextval('s')", "select setval('s', 1)", "select pg_promote()", "select pg_read_binary_file('/etc/passwd')", "select pg_stat_file('/etc/passwd')", "select pg_create_physical_replication_slot('x')",
        "select pg_import_system_collations('public')", "select pg_file_write('x', 'y', false)", "select pg_backup_start('x')", "vacuum", "analyze", "reindex table orders", "cluster", "load 'x'", "alter system set work_mem = '1MB'",
    )  # fmt: skip

    def test_a_snapshot_is_exported_only_by_who_may_more_than_read(self, corner: Postgres) -> None:
        rules = "rules:\n  - {id: in, when: {effect: session}, do: allow}\n  - {id: reads, when: {effect: [read]}, do: allow}\n"
        with Gate(address(corner.port), rules) as gate, Talk(gate.port, database="corner") as line:
            assert talk.codes(line.ask(talk.query("select pg_export_snapshot()"))) == ["42501"]

    @pytest.mark.parametrize("text", TEXTS)
    @pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in READ ONLY"])
    def test_refused(self, reader: Gate, text: str, wrapped: bool) -> None:
        with Talk(reader.port, "tester", "corner") as line:
            line.ask(talk.query("begin read only")) if wrapped else None
            got = line.ask(talk.query(text))
            assert talk.codes(got) == ["42501"]
            assert "denied by vendorgate" in talk.fields(got[0][1])["M"]
            assert talk.codes(line.ask(talk.parse(text) + talk.bind() + talk.execute() + SYNC)) in (["42501"], ["25P02"])
