"""The reader of one flow: names of the session, settings, parameters, and when it asks the server itself."""

import struct

import pytest

from appliance.facts import Facts, names, parameters, store
from appliance.facts.catalog import CATALOGUE_IN_TRANSACTION
from appliance.facts.entry import MAX_AGE_S, REST, RETRY_S
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.facts.sql import ALL
from tests.facts.talk import CATALOGUE, STATE, Talk, Value, client

STATE_ROW = ("state", '["\\"$user\\", public","acme",""]')
USERS = ("relation", '[1,"public","users","r",false,false,[[1,"id",23],[2,"ssn",25]]]')
ORDERS = ("relation", '[2,"public","orders","r",false,false,[[1,"id",23]]]')
SCHEMA = ("schema", "public")
FACTS = Facts("postgres", {})


def effects(facts: Facts | None) -> str:
    assert facts is not None
    return " ".join(sorted(facts.values["effect"]))


class TestMessages:
    def test_startup(self) -> None:
        login = Talk().login
        assert login is not None
        assert (login.values["user"], login.values["database"], login.values["application"]) == ({"acme"}, {"shop"}, {"psql"})
        assert effects(login) == "session"

    def test_replication(self) -> None:
        assert effects(Talk(startup="replication=database\n").login) == "replication session"

    def test_who_is_in_every_fact(self) -> None:
        facts = Talk().query("select 1")
        assert facts.values["user"] == {"acme"}
        assert facts.values["count"] == {"1"}
        assert facts.values["text"] == {"select 1"}

    @pytest.mark.parametrize("kind", ["sync", "flush", "describe", "close", "copy-data", "copy-done", "copy-fail", "terminate", "auth"])
    def test_no_request_of_its_own(self, kind: str) -> None:
        assert Talk().send(kind) is None

    def test_function_call_is_unknown(self) -> None:
        facts = Talk().look("function-call")
        assert effects(facts) == "procedure"
        assert facts.unknown >= ALL

    def test_cancel(self) -> None:
        assert effects(Talk().look("cancel")) == "session"

    def test_a_kind_not_heard_of_is_unknown(self) -> None:
        assert Talk().look("novelty").unknown >= ALL

    def test_oversize(self) -> None:
        talk = Talk()
        assert talk.look("query", status="oversize").unknown >= ALL | {"text"}
        talk.send("parse", name="p", status="oversize")
        assert talk.look("bind", name="p").unknown >= ALL

    def test_a_protocol_without_reader(self) -> None:
        with pytest.raises(ValueError, match="gopher"):
            open_reader("gopher", Shared())

    def test_application_name_follows_the_server(self) -> None:
        talk = Talk()
        talk.query("select 1")
        talk.hear("parameter", name="application_name", status="other")
        assert talk.query("select 1").values["application"] == {"other"}


class TestExtended:
    def test_facts_of_each_step(self) -> None:
        talk = Talk()
        parse = talk.send("parse", name="p", text="delete from t where a = $1")
        bind = talk.send("bind", name="p", cursor="c", values=(Value(b"12"),))
        execute = talk.send("execute", cursor="c", status="0")
        assert not any(f.unknown for f in (parse, bind, execute))
        assert [effects(f) for f in (parse, bind, execute)] == ["write"] * 3
        assert [f.stage for f in (parse, bind, execute)] == ["prepares", "begins", "continues"]
        assert bind.subject == execute.subject == "delete from t where a = $1\n-- $1 = '12'"
        assert bind.values["text"] == execute.values["text"] == {"delete from t where a = $1", "12"}

    def test_never_seen(self) -> None:
        talk = Talk()
        assert talk.look("bind", name="p").unknown >= ALL
        assert talk.look("execute", cursor="c").unknown >= ALL
        assert talk.query("execute p").unknown >= ALL
        assert talk.query("fetch c").unknown >= ALL

    def test_unnamed_in_one_segment_is_the_last(self) -> None:
        talk = Talk()
        talk.send("parse", text="delete from t")
        talk.send("parse", text="select 1")
        assert effects(talk.send("bind")) == "read"

    def test_unnamed_over_a_sync_not_answered_may_be_either(self) -> None:
        talk = Talk()
        talk.send("parse", text="delete from t")
        talk.send("sync")
        talk.send("parse", text="select 1")
        talk.send("sync")
        assert effects(talk.send("bind")) == "read write"

    def test_answered_it_is_settled(self) -> None:
        talk = Talk()
        talk.send("parse", text="delete from t")
        talk.sync()
        talk.send("parse", text="select 1")
        talk.sync()
        assert effects(talk.send("bind")) == "read"

    def test_after_an_error_it_may_be_either(self) -> None:
        talk = Talk()
        talk.send("parse", name="p", text="delete from t")
        talk.sync()
        talk.send("parse", name="p", text="select 1")  # fails: it exists
        talk.sync(fails=True)
        assert effects(talk.send("bind", name="p")) == "read write"

    def test_a_refused_query_does_not_settle_what_is_behind_it(self) -> None:
        """Its ReadyForQuery is one asked for; the answers of what follows are still to come."""
        talk = Talk()
        talk.send("parse", name="p", text="delete from t")
        talk.sync()
        talk.look("query", text="drop table t")  # refused: something that fails goes up in its place
        talk.send("parse", name="p", text="select 1")
        talk.send("sync")
        talk.hear("error", status="42501")
        talk.hear("ready", status="I")
        assert effects(talk.send("bind", name="p")) == "read write"

    def test_a_refused_parse_defines_nothing(self) -> None:
        talk = Talk()
        talk.look("parse", name="p", text="drop table t")
        assert talk.look("bind", name="p").unknown >= ALL

    def test_a_sync_that_copy_swallows_settles_nothing(self) -> None:
        talk = Talk()
        talk.send("parse", text="copy t from stdin")
        talk.send("bind")
        talk.send("execute")
        talk.send("sync")
        talk.hear("copy-in")
        talk.send("copy-done")
        talk.sync()
        talk.send("parse", name="p", text="select 1")
        talk.sync()
        talk.send("parse", name="p", text="delete from t")
        talk.sync()
        assert "write" in effects(talk.send("bind", name="p"))

    def test_close(self) -> None:
        talk = Talk()
        talk.send("parse", name="p", text="delete from t")
        talk.send("close", name="p", status="S")
        talk.sync()
        talk.send("parse", name="p", text="select 1")
        talk.sync()
        assert effects(talk.send("bind", name="p")) == "read"

    def test_names_are_cut_as_the_server_cuts_them(self) -> None:
        talk = Talk()
        talk.send("parse", name="n" * 63, text="delete from t")
        assert effects(talk.send("bind", name="n" * 80)) == "write"

    def test_one_namespace_with_sql(self) -> None:
        talk = Talk()
        talk.query("prepare p as delete from t")
        assert effects(talk.send("bind", name="p")) == "session write"
        talk.send("parse", name="q", text="drop table t")
        talk.sync()
        assert "drop" in effects(talk.query("execute q"))

    def test_prepared_is_read_anew_under_another_path(self) -> None:
        talk = Talk()
        talk.send("parse", name="p", text="select lower('x')")
        talk.sync()
        talk.query("set search_path = evil, pg_catalog")
        assert "effect" in talk.send("bind", name="p").unknown

    def test_unreadable_stays_so_under_later_settings(self) -> None:
        talk = Talk()
        talk.hear("parameter", name="standard_conforming_strings", status="off")
        talk.send("parse", name="p", text=r"select '\'', drop_it() --'")
        talk.sync()
        talk.hear("parameter", name="standard_conforming_strings", status="on")
        assert talk.send("bind", name="p").unknown >= ALL

    def test_which_names_an_ambiguous_statement_defines_is_not_known(self) -> None:
        talk = Talk()
        for text in ("prepare x as select 1", "prepare x as delete from t"):
            talk.send("parse", name="p", text=text)
            talk.send("sync")
        talk.send("bind", name="p", cursor="c")
        assert talk.send("execute", cursor="c").unknown >= ALL


class TestSqlNames:
    def test_in_one_text(self) -> None:
        facts = Talk().query("prepare p as delete from t; execute p; deallocate p")
        assert facts.values["statement"] == {"PREPARE", "DELETE", "EXECUTE", "DEALLOCATE"}
        assert not facts.unknown

    def test_execute_is_what_was_prepared(self) -> None:
        talk = Talk()
        talk.query("prepare p as delete from t")
        facts = talk.query("execute p")
        assert effects(facts) == "session write"
        assert facts.values["statement"] == {"EXECUTE", "DELETE"}

    def test_explain_execute(self) -> None:
        talk = Talk()
        talk.query("prepare p as delete from t")
        assert "write" in effects(talk.query("explain analyze execute p"))

    def test_prepare_that_failed(self) -> None:
        talk = Talk()
        talk.query("prepare p as delete from t")
        talk.query("deallocate p; prepare p as select 1; select 1/0", fails=True)
        assert "write" in effects(talk.query("execute p"))

    def test_deallocate_all(self) -> None:
        talk = Talk()
        talk.query("prepare p as delete from t")
        talk.query("deallocate all")
        assert talk.query("execute p").unknown >= ALL

    def test_discard_all(self) -> None:
        talk = Talk()
        talk.query("prepare p as delete from t")
        talk.query("discard all")
        assert talk.query("execute p").unknown >= ALL

    def test_cursor(self) -> None:
        talk = Talk()
        talk.query("begin", "T")
        talk.query("declare c cursor for select a from t for update", "T")
        facts = talk.query("fetch all from c", "T")
        assert effects(facts) == "lock read"
        assert facts.values["column"] == {"?.t.a"}
        talk.query("close c", "T")
        assert talk.query("move c", "T").unknown >= ALL

    def test_fetch_from_a_portal_of_the_protocol(self) -> None:
        talk = Talk()
        talk.send("parse", text="select a from t")
        talk.send("bind", cursor="c")
        assert talk.send("query", text="fetch 1 from c").values["column"] == {"?.t.a"}

    def test_explain_declare_makes_no_cursor(self) -> None:
        talk = Talk()
        talk.query("declare c cursor with hold for select ssn from users")
        talk.query("explain analyze declare c cursor for select 1")
        assert talk.query("fetch c").values["column"] == {"?.users.ssn"}

    def test_names_used_in_a_body(self) -> None:
        assert "effect" in Talk().query("do $$ begin deallocate p; end $$").unknown


class TestParameters:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Value(b"abc"), "'abc'"),
            (Value(b"it's"), "'it''s'"),
            (Value(None), "NULL"),
            (Value(struct.pack(">i", -5), 23, True), "'-5'"),
            (Value(struct.pack(">q", 4111111111111111), 20, True), "'4111111111111111'"),
            (Value(b"\1", 16, True), "'true'"),
            (Value(b'\1{"a": 1}', 3802, True), "'{\"a\": 1}'"),
            (Value("\u00e4".encode(), 25, True), "'\u00e4'"),
            (Value(bytes(16), 2950, True), "'" + "0" * 32 + "'"),
        ],
    )
    def test_in_the_subject(self, value: Value, text: str) -> None:
        subject, _, whole = parameters.describe("select $1", (value,), "UTF8")
        assert subject == f"select $1\n-- $1 = {text}"
        assert whole

    def test_encoding(self) -> None:
        assert "'\u00e4'" in parameters.describe("x", (Value(b"\xe4"),), "LATIN1")[0]

    def test_long_one_is_cut_and_its_digest_is_of_all_of_it(self) -> None:
        one, words, _ = parameters.describe("x", (Value(b"a" * 600),), "UTF8")
        other, _, _ = parameters.describe("x", (Value(b"a" * 599 + b"b"),), "UTF8")
        assert len(one) < 700
        assert one != other
        assert "a" * 600 in words

    def test_limit_of_what_detectors_see(self) -> None:
        assert parameters.describe("x", (Value(b"a" * parameters.MAX_VALUE),), "UTF8")[2]
        talk = Talk()
        talk.send("parse", text="select $1")
        facts = talk.send("bind", values=(Value(b"a" * (parameters.MAX_VALUE + 1)),))
        assert facts.unknown == {"text"}

    @pytest.mark.parametrize(
        ("statement", "unseen"),
        [("copy t from stdin", True), ("copy t from '/tmp/x'", False), ("copy t to stdout", False)],
    )
    def test_rows_that_are_copied_in_are_not_seen_by_detectors(self, statement: str, unseen: bool) -> None:
        assert ("text" in Talk().send("query", text=statement).unknown) is unseen

    def test_limit_of_what_is_shown(self) -> None:
        many = tuple(Value(b"1") for _ in range(parameters.MAX_VALUES_SHOWN + 3))
        assert "and 3 more, sha256" in parameters.describe("x", many, "UTF8")[0]


class TestNamesStore:
    def test_limit_of_meanings(self) -> None:
        kept = names.Names()
        for n in range(names.MAX_MEANINGS + 1):
            kept.define("p", names.Meaning(str(n)), n)
            assert len(kept.get("p", 99)) == (n + 1 if n < names.MAX_MEANINGS else 0)
        kept.settle(sure=False)
        assert kept.get("p", 100) == ()

    def test_limit_of_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(names, "MAX_NAMES", 2)
        kept = names.Names()
        for name in "ab":
            kept.define(name, names.Meaning("x"), 0)
        assert kept.get("a", 0)
        kept.define("c", names.Meaning("x"), 0)
        assert kept.get("a", 0) == kept.get("c", 0) == ()

    def test_limit_of_texts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(names, "MAX_TEXTS", 10)
        kept = names.Names()
        for n in range(100):
            kept.define("", names.Meaning("1234567890"), n)
            kept.settle(sure=True)
            assert kept.get("", n)
            break
        kept.define("b", names.Meaning("x"), 2)
        assert kept.get("b", 2) == ()

    def test_settled_texts_are_let_go(self) -> None:
        kept = names.Names()
        for n in range(1000):
            kept.define("", names.Meaning("x" * 100_000), n)
            kept.settle(sure=True)
        assert kept.get("", 1000)


class TestSettings:
    def test_changes_make_others_wait(self) -> None:
        talk = Talk()
        for text in ("set search_path = x", "reset all", "select set_config('a', 'b', false)", "discard all", "select f()", "do $$ begin end $$", "create table n (a int)"):
            assert talk.send("query", text=text).changes, text
        for text in ("select 1", "insert into t values (1)", "begin", "fetch c"):
            assert not Talk().send("query", text=text).changes, text

    def test_parse_changes_nothing_yet(self) -> None:
        talk = Talk()
        assert not talk.send("parse", text="set search_path = x").changes
        assert not talk.send("bind").changes
        assert talk.send("execute").changes

    def test_set_is_followed(self) -> None:
        talk = Talk()
        talk.query("set search_path = evil, pg_catalog")
        assert "effect" in talk.look("query", text="select lower('x')").unknown
        talk.query("set search_path = evil")
        assert not talk.query("select lower('x')").unknown

    @pytest.mark.parametrize("text", ["set search_path = x; select 1/0", "set local search_path = x", "set role x", "select f()", "reset search_path", "discard all", "select set_config('search_path', 'x', false)"])
    def test_what_is_not_sure_is_asked_for(self, text: str) -> None:
        talk = Talk()
        talk.query(text, fails="/0" in text)
        facts = talk.look("query", text="select lower('x')")
        assert "effect" in facts.unknown
        assert talk.reader.wanted(facts) == STATE
        talk.answer([STATE_ROW])
        facts = talk.look("query", text="select lower('x')")
        assert not facts.unknown
        assert talk.reader.wanted(facts) == ""

    def test_set_in_a_transaction_is_asked_for_after_it(self) -> None:
        talk = Talk()
        talk.query("begin", "T")
        talk.query("set search_path = x", "T")
        assert talk.query("rollback").changes
        assert talk.reader.wanted(talk.look("query", text="select 1")) == STATE

    def test_set_after_an_error_is_not_believed(self) -> None:
        """In the extended protocol it may have been skipped."""
        talk = Talk()
        talk.hear("error", status="42601")
        talk.send("query", text="set search_path = pg_catalog")
        assert talk.reader.wanted(talk.look("query", text="select 1")) == STATE

    def test_not_asked_for_in_vain_twice(self) -> None:
        talk = Talk()
        talk.query("select f()")
        assert talk.reader.wanted(talk.look("query", text="select 1")) == STATE
        talk.answer([], status="42501")
        facts = talk.look("query", text="select lower('x')")
        assert talk.reader.wanted(facts) == ""
        assert "effect" in facts.unknown

    def test_not_in_a_failed_transaction(self) -> None:
        talk = Talk()
        talk.query("begin", "T")
        talk.query("select f()", "E", fails=True)
        assert talk.reader.wanted(talk.look("query", text="select 1")) == ""

    def test_options_at_login_are_not_believed(self) -> None:
        talk = Talk(startup="options=-c search_path=evil\n")
        assert talk.reader.wanted(talk.look("query", text="select 1")) == STATE

    def test_search_path_reported(self) -> None:
        talk = Talk()
        talk.hear("parameter", name="search_path", status="evil, pg_catalog")
        assert "effect" in talk.query("select lower('x')").unknown

    def test_strings_and_encoding_reported(self) -> None:
        talk = Talk()
        talk.hear("parameter", name="standard_conforming_strings", status="off")
        assert talk.query(r"select '\''").unknown >= ALL
        talk.hear("parameter", name="standard_conforming_strings", status="on")
        assert not talk.query(r"select '\'").unknown
        talk.hear("parameter", name="client_encoding", status="SJIS")
        assert talk.query("select '\u8868'").unknown >= ALL


class TestCatalogue:
    def test_asked_for_before_the_first_statement(self) -> None:
        talk = Talk(needs_catalog=True)
        facts = talk.look("query", text="select ssn from users")
        assert {"table", "column"} <= facts.unknown
        assert talk.reader.wanted(facts) == CATALOGUE
        talk.answer([STATE_ROW, SCHEMA, USERS])
        facts = talk.look("query", text="select ssn from users")
        assert talk.reader.wanted(facts) == ""
        assert facts.values["column"] == {"public.users.ssn"}
        assert not facts.unknown

    def test_not_asked_for_unless_needed(self) -> None:
        talk = Talk()
        assert talk.reader.wanted(talk.look("query", text="select ssn from users")) == ""
        talk.reader.needs_catalog = True
        assert talk.reader.wanted(talk.look("query", text="select ssn from users")) == CATALOGUE

    def test_not_before_the_login_is_done(self) -> None:
        reader = open_reader("postgres", Shared(), "db")
        assert reader.wanted(reader.ask(client("startup", name="a", text=""))) == ""

    def loaded(self, shared: Shared | None = None) -> Talk:
        talk = Talk(needs_catalog=True, shared=shared)
        talk.reader.wanted(talk.look("query", text="select 1"))
        talk.answer([STATE_ROW, SCHEMA, USERS, ORDERS])
        talk.query("select 1")
        return talk

    def test_asked_for_again_after_a_change_of_the_schema(self) -> None:
        talk = self.loaded()
        talk.query("alter table users rename to people")
        facts = talk.look("query", text="select ssn from users")
        assert "table" in facts.unknown
        assert talk.reader.wanted(facts) == CATALOGUE

    def test_asked_for_again_for_a_name_it_lacks_but_once(self) -> None:
        talk = self.loaded()
        assert talk.reader.wanted(talk.look("query", text="select 1 from fresh")) == CATALOGUE
        talk.answer([STATE_ROW, SCHEMA, USERS])
        assert talk.reader.wanted(talk.look("query", text="select 1 from fresh")) == ""
        talk.query("select 1")
        assert talk.reader.wanted(talk.look("query", text="select 1 from fresh")) == ""

    def test_asked_for_again_when_it_is_old(self) -> None:
        """By one flow at a time: the others go on meanwhile."""
        shared = Shared()
        talk, other = self.loaded(shared), self.loaded(shared)
        read = shared.of(store.Store)._readings
        shared.now += MAX_AGE_S
        assert talk.reader.wanted(talk.look("query", text="select 1")) == ""
        shared.now += 1
        assert talk.reader.wanted(talk.look("query", text="select 1")) == CATALOGUE
        assert other.reader.wanted(other.look("query", text="select 1")) == ""
        shared.now += RETRY_S + 1
        assert other.reader.wanted(other.look("query", text="select 1")) == CATALOGUE
        before = dict(read)
        other.answer([STATE_ROW, ORDERS, SCHEMA, USERS])
        other.query("select 1")
        assert other.reader.wanted(other.look("query", text="select 1")) == ""
        assert shared.of(store.Store)._readings == before, "it is the same, so what was read by it stays"

    def test_one_that_takes_long_to_read_is_asked_for_seldom(self) -> None:
        shared = Shared()
        talk = self.loaded(shared)
        shared.now += MAX_AGE_S + 1
        assert talk.reader.wanted(talk.look("query", text="select 1")) == CATALOGUE
        shared.now += 2
        talk.answer([STATE_ROW, SCHEMA, USERS])
        talk.query("select 1")
        shared.now += 2 * REST
        assert talk.reader.wanted(talk.look("query", text="select 1")) == ""
        shared.now += 1
        assert talk.reader.wanted(talk.look("query", text="select 1")) == CATALOGUE

    def test_shared_by_flows_of_one_database(self) -> None:
        shared = Shared()
        self.loaded(shared)
        other = Talk(needs_catalog=True, shared=shared)
        facts = other.look("query", text="select ssn from users")
        assert other.reader.wanted(facts) == STATE  # only how this session resolves names
        other.answer([STATE_ROW])
        assert not other.look("query", text="select ssn from users").unknown

    def test_what_a_transaction_sees_is_not_shared(self) -> None:
        shared = Shared()
        talk, other = self.loaded(shared), self.loaded(shared)
        talk.query("begin", "T")
        talk.query("drop table users", "T")
        assert talk.reader.wanted(talk.look("query", text="select 1")) == CATALOGUE_IN_TRANSACTION
        talk.answer([STATE_ROW, SCHEMA, ORDERS])
        assert "table" in talk.look("query", text="select ssn from users").unknown
        assert other.look("query", text="select ssn from users").values["table"] == {"public.users"}
        talk.query("rollback")
        assert talk.reader.wanted(talk.look("query", text="select ssn from users")) == CATALOGUE

    def test_set_transaction_comes_before_ours(self) -> None:
        talk = Talk(needs_catalog=True)
        talk.send("query", text="begin")
        talk.hear("ready", status="T")
        assert talk.reader.wanted(talk.look("query", text="set transaction isolation level serializable")) == ""

    def test_refused(self) -> None:
        talk = Talk(needs_catalog=True)
        assert talk.reader.wanted(talk.look("query", text="select 1")) == CATALOGUE
        talk.answer([], status="42501")
        facts = talk.look("query", text="select ssn from users")
        assert talk.reader.wanted(facts) == ""
        assert "table" in facts.unknown

    def test_origins(self) -> None:
        from appliance.model import Column

        talk = self.loaded()
        assert talk.reader.origins(FACTS, Column("x", 1, 2)) == {"public.users.ssn"}
        assert talk.reader.origins(FACTS, Column("x", 1, 0)) is None
        assert Talk().reader.origins(FACTS, Column("x", 1, 2)) is None

    def test_copy(self) -> None:
        talk = self.loaded()
        copy = talk.reader.copy(client("query", text="copy users (ssn) to stdout"))
        assert copy is not None
        assert [(c.table, c.attribute) for c in copy.columns] == [(1, 2)]
        assert talk.reader.copy(client("query", text="select 1")) is None
        two = talk.reader.copy(client("query", text="copy users to stdout; copy orders to stdout"))
        assert two is not None
        assert two.format == ""

    def test_copy_in_the_extended_protocol(self) -> None:
        talk = self.loaded()
        talk.send("parse", text="copy users (ssn) to stdout")
        talk.send("bind", cursor="c")
        copy = talk.reader.copy(client("execute", cursor="c"))
        assert copy is not None
        assert len(copy.columns) == 1


class TestStore:
    def test_a_text_is_read_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []
        real = store.examined
        monkeypatch.setattr(store, "examined", lambda text, world: calls.append(text) or real(text, world))
        shared = Shared()
        for talk in (Talk(shared=shared), Talk(shared=shared)):
            for _ in range(3):
                talk.query("select 1")
        assert calls == ["select 1"]

    def test_limit_of_readings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "MAX_READINGS", 3)
        shared = Shared()
        talk = Talk(shared=shared)
        for n in range(10):
            talk.query(f"select a{n}")
        assert len(shared.of(store.Store)._readings) == 3

    def test_long_texts_are_not_kept(self) -> None:
        shared = Shared()
        Talk(shared=shared).query("select 1 --" + "x" * store.MAX_READ_TEXT)
        assert not shared.of(store.Store)._readings

    def test_limit_of_worlds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "MAX_WORLDS", 2)
        shared = Shared()
        talk = Talk(shared=shared)
        for n in range(10):
            talk.query(f"set search_path = s{n}")
            talk.query("select 1")
        assert len(shared.of(store.Store)._worlds) <= 2


class TestShapes:
    """What statements have in common that differ in values only."""

    def test_texts_that_differ_in_constants_are_of_one_shape(self) -> None:
        talk = Talk()
        found = [talk.query(f"select name from users where id = {n}") for n in range(5)]
        assert [facts.subject for facts in found] == [f"select name from users where id = {n}" for n in range(5)]
        assert found[-1].shape is found[-2].shape is not None
        assert not found[-1].shape.values["text"], "what is kept has no text, which may be long"
        assert talk.query("select ssn from users where id = 5").shape is not found[-1].shape

    def test_parse_is_of_one_shape_and_not_that_of_a_query(self) -> None:
        talk = Talk()
        parsed = [talk.send("parse", text=f"select name from users where id = {n}") for n in range(5)]
        asked = talk.query("select name from users where id = 9")
        assert parsed[-1].shape is parsed[-2].shape is not asked.shape
        assert parsed[-1].stage == "prepares" and asked.stage == "begins"

    def test_statements_that_prepare_are_of_none(self) -> None:
        talk = Talk()
        assert [talk.query("prepare p as select 1").shape, talk.query("execute p").shape] == [None, None]
