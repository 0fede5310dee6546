"""The reader of a flow: settings, prepared statements, diagnostics, and what it asks the server."""

import msgspec
import pytest

from appliance.facts.entry import MAX_AGE_S
from appliance.facts.mysql.diagnoses import MAX_WORDS
from appliance.facts.mysql.named import MAX_SAME, Named
from appliance.facts.mysql.parameters import MAX_SHOWN, MAX_VALUE, MAX_VALUES_SHOWN, describe
from appliance.facts.mysql.reading import ALL
from appliance.facts.mysql.settings import MAX_TEMPORARY
from appliance.facts.mysql.statements import MAX_STATEMENTS, MAX_TEXTS, Statements
from appliance.facts.mysql.store import MAX_ENTRIES, MAX_KEPT, MAX_READINGS, MAX_WORLDS, Store
from appliance.facts.mysql.world import World
from appliance.facts.readers import open as open_reader
from appliance.facts.shared import Shared
from appliance.model import Column
from tests.facts.mysql.small import PLAIN
from tests.facts.mysql.talk import CATALOGUE, SHOP, STATE, Talk, Value, client, columns, row, said, server, state


def test_a_text_without_a_server_is_read_by_defaults() -> None:
    """Tests of rules, and `rules explain`."""
    reader = open_reader("mysql", Shared(), "", needs_catalog=False)
    facts = reader.ask(client("query", text='select "a\\"b" from shop.users'))
    assert facts is not None
    assert not facts.unknown
    assert said(facts, "table") == "shop.users"
    assert reader.wanted(facts) == ""


def test_login() -> None:
    talk = Talk()
    assert talk.login is not None
    assert (said(talk.login, "effect"), said(talk.login, "statement")) == ("session", "LOGIN")
    assert (said(talk.login, "user"), said(talk.login, "database")) == ("acme", "shop")
    facts = talk.query("select 1")
    assert (said(facts, "user"), said(facts, "database"), said(facts, "count")) == ("acme", "shop", "1")


# -- what is asked of the server ----------------------------------------------------------------------------------------


def test_nothing_is_asked_where_settings_do_not_matter() -> None:
    talk = Talk()
    talk.query("select 'a', `b` from users where c = 1")
    assert talk.asked == []


@pytest.mark.parametrize("text", ['select "a"', "select 'a\\nb'", "select 'ä'"])
def test_settings_are_asked_for_before_the_first_text_that_depends_on_them(text: str) -> None:
    talk = Talk()
    assert not talk.query(text).unknown
    assert talk.asked == [STATE]
    talk.query(text)
    assert talk.asked == [STATE]


def test_names_need_the_catalogue() -> None:
    talk = Talk(needs_catalog=True)
    assert said(talk.query("select ssn from users"), "column") == "shop.users.ssn"
    assert talk.asked == [CATALOGUE]
    talk.query("select note from orders")
    assert talk.asked == [CATALOGUE]


def test_the_catalogue_is_shared_by_flows_of_one_user() -> None:
    shared = Shared()
    Talk(True, shared).query("select ssn from users")
    talk = Talk(True, shared)
    talk.query("select ssn from users")
    assert talk.asked == [STATE]


def test_the_catalogue_of_another_user_is_another() -> None:
    shared = Shared()
    Talk(True, shared).query("select ssn from users")
    talk = Talk(True, shared)
    talk.send("change-user", name="bob", status="shop")
    talk.hear("complete", status="OK 0", cursor="ready login")
    talk.query("select ssn from users")
    assert talk.asked == [CATALOGUE]


@pytest.mark.parametrize("text", ["set sql_mode = 'ANSI_QUOTES'", "set names gbk", "use other", "call p()", "select f()", "set role x", "execute immediate @a"])
def test_settings_are_asked_for_again_when_they_may_have_changed(text: str) -> None:
    talk = Talk()
    talk.query('select "a"')
    talk.query(text)
    talk.query('select "a"')
    assert talk.asked.count(STATE) >= 2


@pytest.mark.parametrize("text", ["set autocommit = 0", "begin", "insert into users values (1)", "set @a = 1"])
def test_settings_are_not_asked_for_again_without_cause(text: str) -> None:
    talk = Talk()
    talk.query('select "a"')
    talk.query(text)
    talk.query('select "a"')
    assert talk.asked == [STATE]


@pytest.mark.parametrize("text", ["create table n (a int)", "drop table users", "alter table users add x int", "rename table users to u"])
def test_the_catalogue_is_read_again_after_ddl(text: str) -> None:
    talk = Talk(needs_catalog=True)
    talk.query("select ssn from users")
    talk.query(text)
    talk.query("select ssn from users")
    assert talk.asked.count(CATALOGUE) == 2


def test_a_name_that_is_not_there_is_looked_for_once() -> None:
    talk = Talk(needs_catalog=True)
    talk.query("select ssn from users")
    for _ in range(3):
        assert "table" in talk.query("select a from nowhere").unknown
    assert talk.asked == [CATALOGUE, CATALOGUE]


@pytest.mark.parametrize("text", ["select row_count()", "select found_rows()", "show warnings", "get diagnostics @a = number", "select @@warning_count", "select last_insert_id()"])
def test_nothing_of_ours_comes_before_what_looks_back(text: str) -> None:
    talk = Talk(needs_catalog=True)
    talk.query(text)
    assert talk.asked == []


@pytest.mark.parametrize("text", ["begin", "set transaction isolation level serializable", "set names utf8mb4", "commit", "use shop"])
def test_nothing_of_ours_comes_before_statements_of_the_session(text: str) -> None:
    talk = Talk(needs_catalog=True)
    talk.query(text)
    assert talk.asked == []


def test_an_answer_that_fails_leaves_all_unknown() -> None:
    talk = Talk()
    message = client("query", text='select "a"')
    assert talk.reader.wanted(talk.reader.ask(message)) == STATE
    talk.answer([], error="42000")
    facts = talk.reader.ask(message)
    assert facts is not None
    assert facts.unknown >= ALL
    assert talk.reader.wanted(facts) == ""


@pytest.mark.parametrize("rows", [[], [state(), state()], [row("state", "a", "b")], [row("state", "a", "b", "c", "c", "x", "d", "e")], [(Value(b"state"), Value(b"zz"), Value(b""))], [(Value(None), Value(None), Value(None))]])
def test_a_strange_answer_is_no_answer(rows: list[tuple[Value, ...]]) -> None:
    talk = Talk()
    message = client("query", text='select "a"')
    talk.reader.wanted(talk.reader.ask(message))
    talk.answer(rows)
    facts = talk.reader.ask(message)
    assert facts is not None
    assert facts.unknown >= ALL


def test_modes_are_taken_from_the_answer() -> None:
    talk = Talk(mode="ANSI_QUOTES,NO_BACKSLASH_ESCAPES,IGNORE_SPACE")
    assert said(talk.query('select 1 from "users"'), "table") == "shop.users"
    assert not talk.query("select count (*), 'a\\' from users").unknown
    assert Talk(mode="ORACLE").query('select "1"').unknown >= ALL


def test_the_server_itself_tells_of_a_mode() -> None:
    talk = Talk()
    talk.query('select "a"')
    talk.hear("complete", status="OK 0", cursor="ready no-backslash-escapes")
    talk.query('select "a"')
    talk.hear("parameter", name="sql_mode", status="ANSI_QUOTES")
    talk.query('select "a"')
    assert talk.asked == [STATE] * 3


@pytest.mark.parametrize("text", ["set password = 'x', sql_mode = 'ANSI_QUOTES'", "set @a = 1, sql_mode = 'ANSI_QUOTES'", "set default role none, sql_mode = 'ANSI_QUOTES'", "set role none", "set @a = 1, names gbk"])
def test_a_setting_behind_others(text: str) -> None:
    assert Talk().query(text).changes


def test_use_and_its_command() -> None:
    talk = Talk()
    assert said(talk.query("use payroll"), "database") == "payroll shop"
    facts = talk.send("init-db", text="payroll")
    assert facts is not None
    assert (said(facts, "database"), said(facts, "statement"), facts.changes) == ("payroll shop", "USE", True)


def test_a_literal_that_the_server_alters_is_no_statement_that_is_known() -> None:
    """A charset of literals without a backtick has a parameter in its place."""
    text = "execute immediate 'select ` union select ssn from users # ` from orders' using 1"
    for literals in ("swe7", "later"):
        talk = Talk(literals=literals)
        assert "effect" in talk.query(text).unknown
        talk.query("prepare s from 'select 1 from `orders`'")
        assert "effect" in talk.query("execute s").unknown
        talk.query("prepare s from 'select 1 from orders'")
        assert not talk.query("execute s").unknown
        assert talk.asked[0] == STATE
    talk = Talk(literals="latin1")
    talk.query("prepare s from 'select \"é\"'")
    assert "effect" in talk.query("execute s").unknown
    talk.query("prepare s from 'select 1 from `orders`'")
    assert not talk.query("execute s").unknown


@pytest.mark.parametrize("text", ["prepare s from 'select 1'", "prepare s from 'select 1' using @a", "select 2; prepare s from 'select 1'"])
def test_what_a_name_stands_for_when_its_text_fails(text: str) -> None:
    talk = Talk()
    talk.query("prepare s from 'select ssn from users'")
    talk.query(text, fails=True)
    assert "effect" in talk.query("execute s").unknown
    talk.query("prepare s from 'select name from users'")
    assert said(talk.query("execute s"), "column") == "?.users.name"


def test_what_a_name_stands_for_until_its_text_is_answered() -> None:
    talk = Talk()
    talk.query("prepare s from 'select ssn from users'")
    talk.send("query", text="select 1")
    talk.send("query", text="prepare s from 'select name from users'")
    for _ in range(2):
        facts = talk.look("query", text="execute s")
        assert facts is not None
        assert (said(facts, "column"), facts.lineage) == ("?.users.name ?.users.ssn", ())
        talk.hear("complete", status="OK 0", cursor="ready")
    assert said(talk.query("execute s"), "column") == "?.users.name"


def test_a_name_that_is_prepared_again_and_again_is_the_last() -> None:
    talk = Talk()
    for column in ("id", "name", "ssn"):
        talk.query(f"prepare s from 'select {column} from users'")
        talk.hear("error", status="42000", cursor="refused")
        talk.send("reset", name="1")
        talk.hear("complete", status="OK 0", cursor="ready")
        assert said(talk.query("execute s"), "column") == f"?.users.{column}"


def test_code_that_runs_may_prepare_others_by_the_same_names() -> None:
    talk = Talk()
    talk.query("prepare s from 'select 1'")
    assert not talk.query("execute s").unknown
    talk.query("call p()")
    assert "effect" in talk.query("execute s").unknown


def test_unknown_database_is_a_question_mark() -> None:
    talk = Talk()
    assert said(talk.query("select 1 from users"), "table") == "?.users"
    talk.query('select "a"')
    assert said(talk.query("select 1 from users"), "table") == "shop.users"


# -- prepared statements ------------------------------------------------------------------------------------------------


def test_prepared_statements_by_number() -> None:
    talk = Talk()
    facts = talk.prepare("delete from users where id = ?", "1")
    assert (facts.stage, facts.changes, said(facts, "effect")) == ("prepares", False, "write")
    facts = talk.execute("1", values=(Value(b"42"),))
    assert (facts.stage, said(facts, "effect")) == ("begins", "write")
    assert facts.subject == "delete from users where id = ?\n-- $1 = '42'"
    assert facts.values["text"] == {"delete from users where id = ?", "42"}


def test_a_number_that_is_not_known() -> None:
    talk = Talk()
    assert talk.execute("9").unknown >= ALL
    talk.prepare("select 1", "1")
    talk.send("close", name="1")
    assert talk.execute("1").unknown >= ALL


def test_the_last_one_by_its_special_number() -> None:
    talk = Talk()
    talk.send("prepare", text="drop table users")
    facts = talk.look("execute", name="-1")
    assert facts is not None
    assert "drop" in facts.values["effect"]


def test_who_it_is_until_a_change_of_user_is_through() -> None:
    """Some servers go on as who it was when it fails; and answers to what came before are not its own."""
    talk = Talk()
    talk.prepare("select 1", "1")
    talk.send("query", text="select 1")
    talk.send("change-user", name="bob", status="other")
    talk.hear("complete", status="OK 0", cursor="ready")
    assert said(talk.query("select 1"), "user") == "acme"
    talk.hear("error", status="28000", cursor="ready login")
    facts = talk.query("select 1")
    assert (said(facts, "user"), said(facts, "database")) == ("acme", "shop")
    assert talk.execute("1").unknown >= ALL, "the session began anew all the same"
    talk.send("change-user", name="bob", status="other")
    talk.hear("complete", status="OK 0", cursor="ready login")
    facts = talk.query("select 1")
    assert (said(facts, "user"), said(facts, "database")) == ("bob", "other")


@pytest.mark.parametrize("kind", ["change-user", "reset-connection"])
def test_a_session_that_begins_anew_has_no_statements(kind: str) -> None:
    talk = Talk()
    talk.prepare("select 1", "1")
    talk.query("prepare s from 'select 1'")
    talk.send(kind, name="bob", status="shop")
    talk.hear("complete", cursor="ready login" if kind == "change-user" else "ready")
    assert talk.execute("1").unknown >= ALL
    assert talk.query("execute s").unknown >= ALL


def test_a_failed_prepare_has_no_number() -> None:
    talk = Talk()
    talk.send("prepare", text="select from")
    talk.hear("error", status="42000", cursor="ready")
    talk.prepare("drop table t", "1")
    assert "drop" in talk.execute("1").values["effect"]


def test_pipelined_prepares_keep_their_order() -> None:
    talk = Talk()
    for text in ("select 1", "drop table t"):
        talk.send("prepare", text=text)
    talk.hear("prepared", name="1", text="select 1")
    talk.hear("prepared", name="2", text="drop table t")
    assert "drop" not in talk.execute("1").values["effect"]
    assert "drop" in talk.execute("2").values["effect"]


def test_a_statement_means_what_it_meant_when_it_was_prepared_or_what_it_would_now() -> None:
    """A server prepares it anew when a table it names was changed."""
    talk = Talk()
    talk.query('select ""')
    talk.prepare('select "ssn" from users', "1")
    talk.mode = "ANSI_QUOTES"
    talk.query("set sql_mode = 'ANSI_QUOTES'")
    assert said(talk.query('select "ssn" from users'), "column") == "shop.users.ssn"
    assert "column" in talk.execute("1").unknown
    talk.mode = ""
    talk.query("set sql_mode = ''")
    talk.query('select ""')
    assert said(talk.execute("1"), "column") == ""


def test_prepare_and_execute_in_sql() -> None:
    talk = Talk()
    assert said(talk.query("prepare S from 'delete from users'"), "effect") == "session write"
    assert said(talk.query("execute s"), "effect") == "session write"
    talk.query("deallocate prepare s")
    assert talk.query("execute s").unknown >= ALL
    talk.query("prepare s from @a")
    assert talk.query("execute s").unknown >= ALL


def test_a_cursor_is_fetched_by_what_was_executed() -> None:
    talk = Talk()
    talk.prepare("select ssn from users", "1")
    run = talk.execute("1", cursor="read-only")
    facts = talk.look("fetch", name="1")
    assert facts is not None
    assert (facts.stage, facts.subject, facts.values) == ("continues", run.subject, run.values)
    facts = talk.look("fetch", name="2")
    assert facts is not None
    assert facts.unknown >= ALL


def test_values_that_are_not_whole_are_not_known() -> None:
    talk = Talk()
    talk.prepare("select ?", "1")
    assert "text" not in talk.execute("1", values=(Value(b"1"),)).unknown
    for status in ("partial", "unread"):
        assert "text" in talk.execute("1", status=status).unknown


def test_bulk_execute() -> None:
    talk = Talk()
    talk.prepare("insert into users (name) values (?)", "1")
    facts = talk.look("bulk-execute", name="1", values=(Value(b"a"), Value(b"b")), count=2)
    assert facts is not None
    assert facts.values["text"] >= {"a", "b"}
    assert facts.subject.endswith("-- 2 rows")


# -- commands that are no text ------------------------------------------------------------------------------------------

COMMANDS = {
    "ping": ("session", ""),
    "statistics": ("session", "SHOW"),
    "debug": ("admin", ""),
    "refresh": ("admin", "FLUSH"),
    "shutdown": ("admin", "SHUTDOWN"),
    "process-info": ("read", "SHOW"),
    "set-option": ("session", "SET"),
    "reset-connection": ("session", "RESET"),
    "create-db": ("admin schema", "CREATE DATABASE"),
    "drop-db": ("admin drop schema", "DROP DATABASE"),
    "field-list": ("read", "SHOW"),
    "replication": ("admin replication", ""),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_commands(kind: str) -> None:
    facts = Talk().look(kind, text="x")
    assert facts is not None
    assert (said(facts, "effect"), said(facts, "statement")) == COMMANDS[kind]
    assert not facts.unknown


@pytest.mark.parametrize("kind", ["unknown", "something new"])
def test_commands_that_are_not_known(kind: str) -> None:
    facts = Talk().look(kind, text="COM_MULTI")
    assert facts is not None
    assert facts.unknown >= ALL


@pytest.mark.parametrize("kind", ["auth", "tls", "long-data", "close", "reset", "copy-data", "copy-done", "terminate"])
def test_what_carries_no_request(kind: str) -> None:
    assert Talk().look(kind) is None


def test_kill_takes_back_what_waits() -> None:
    talk = Talk()
    for facts in (talk.query("kill query 7"), talk.query("KILL /*!50000 QUERY */ 7"), talk.look("kill", name="7")):
        assert facts is not None
        assert facts.cancels == b"\7\0\0\0"
        assert said(facts, "effect") == "kill"
    for text in ("kill query id 7", "kill user bob", "kill (select 7)", "kill -1", "kill 99999999999"):
        assert talk.query(text).cancels == b""
    facts = talk.look("prepare", text="kill 7")
    assert facts is not None
    assert facts.cancels == b""


def test_a_statement_too_long_to_be_read_stays_unknown_when_it_runs() -> None:
    for number in ("7", "-1"):
        talk = Talk()
        talk.send("prepare", status="oversize")
        talk.hear("prepared", name="7", text="", cursor="ready")
        facts = talk.look("execute", name=number)
        assert facts is not None
        assert "effect" in facts.unknown
        talk.prepare("select 1", "8")
        assert not talk.execute("8").unknown


def test_a_statement_that_is_too_long_is_unknown() -> None:
    facts = Talk().look("query", status="oversize")
    assert facts is not None
    assert facts.unknown >= ALL | {"text", "count"}


def test_query_attributes_are_shown() -> None:
    facts = Talk().look("query", text="select 1", name="trace", values=(Value(b"abc"),))
    assert facts is not None
    assert facts.subject == "select 1\n-- attributes: trace\n-- $1 = 'abc'"
    assert facts.values["text"] >= {"select 1", "abc"}


# -- what tells of the statement before ---------------------------------------------------------------------------------


def test_warnings_tell_of_the_statement_before() -> None:
    talk = Talk()
    talk.query('select ""')
    assert said(talk.query("show warnings"), "table") == ""
    talk.query("select ssn + 0 from users")
    talk.query("select 1")
    facts = talk.query("show warnings")
    assert (said(facts, "table"), said(facts, "column")) == ("shop.users", "shop.users.ssn")
    assert facts.lineage == ((frozenset(), frozenset(), None),)
    assert said(talk.query("get diagnostics condition 1 @m = message_text"), "copied") == "shop.users.ssn"
    for scope in ("", "session.", "local."):
        assert said(talk.query(f"select @@{scope}warning_count"), "table") == "shop.users"
    talk.query("select note from orders")
    assert said(talk.query("show warnings"), "table") == "shop.orders"


@pytest.mark.parametrize("text", ["alter database other charset utf8mb4", "show processlist", "lock tables orders read", "analyze table orders", "create table n (a int)", "select note from orders; show processlist"])
def test_warnings_tell_of_all_since_they_were_cleared(text: str) -> None:
    """Some statements name tables and leave the messages of those before as they are."""
    talk = Talk(needs_catalog=True)
    talk.query("select cast(ssn as unsigned) from users")
    talk.query(text)
    assert "shop.users.ssn" in talk.query("show warnings").values["column"]
    talk.query("select note from orders")
    assert "shop.users.ssn" not in talk.query("show warnings").values["column"]


def test_warnings_stay_behind_an_execution() -> None:
    """Which may be refused by the wire, for want of what was refused before it."""
    talk = Talk()
    talk.prepare("select note from orders", "1")
    talk.query("select ssn + 0 from users")
    talk.execute("1")
    assert said(talk.query("show warnings"), "table") == "?.orders ?.users"


def test_warnings_after_what_is_not_known() -> None:
    talk = Talk()
    talk.query("call p()")
    assert {"table", "column"} <= talk.query("show warnings").unknown


def test_limit_of_what_is_remembered_of_a_statement() -> None:
    talk = Talk()
    talk.query("select " + ", ".join(f"c{n}" for n in range(MAX_WORDS + 1)) + " from users")
    assert "table" in talk.query("show warnings").unknown


# -- where a column comes from ------------------------------------------------------------------------------------------


def origin(talk: Talk, text: str, said_: str, place: int = 0, result: int = 0) -> set[str] | None:
    facts = talk.query(text)
    found = talk.reader.origins(facts, Column("x", origin=said_, place=place, result=result))
    return None if found is None else set(found)


def test_text_and_server_must_agree_on_a_column() -> None:
    talk = Talk(needs_catalog=True)
    assert origin(talk, "select ssn from users", "shop.users.ssn") == {"shop.users.ssn"}
    assert origin(talk, "select SSN x from users", "shop.users.ssn") == {"shop.users.ssn"}
    assert origin(talk, "select ssn from users", "shop.orders.note") is None
    assert origin(talk, "select x from (select ssn x from users) orders", "shop.orders.x") is None
    assert origin(talk, "with orders as (select ssn x from users) select x from orders", "shop.orders.x") is None
    assert origin(talk, "select upper(ssn) from users", "") is None
    assert origin(talk, "select count(*) from users", "") == set()
    assert origin(talk, "select 1 from users", "shop.users.ssn") is None
    assert origin(talk, "select @a from users", "") is None
    assert origin(talk, "select * from users", "shop.users.ssn", place=2) == {"shop.users.ssn"}
    assert origin(talk, "select * from users", "shop.users.ssn", place=1) is None
    assert origin(talk, "select ssn from users", "shop.users.ssn", place=1) is None
    assert origin(talk, "select ssn from users", "shop.users.ssn", result=1) is None
    assert origin(talk, "select 1; select ssn from users", "shop.users.ssn", result=1) == {"shop.users.ssn"}
    assert origin(talk, "set @a = 1; select ssn from users", "shop.users.ssn", result=1) == {"shop.users.ssn"}
    assert origin(talk, "call p(); select ssn from users", "shop.users.ssn", result=1) is None


def test_forms_are_shown() -> None:
    talk = Talk(needs_catalog=True)
    assert origin(talk, "show columns from users", "information_schema.COLUMNS.COLUMN_NAME") == set()
    assert origin(talk, "describe users", "information_schema.COLUMNS.COLUMN_TYPE", place=1) == set()
    assert origin(talk, "show create table users", "", place=1) == set()
    assert origin(talk, "show processlist", "") is None
    assert origin(talk, "explain select * from users", "") is None


def test_no_copy_has_rows_outside_a_result() -> None:
    assert Talk().reader.copy(client("query", text="load data local infile 'x' into table t")) is None


# -- temporary tables ---------------------------------------------------------------------------------------------------


def test_temporary_tables_are_known_to_their_session() -> None:
    talk = Talk(needs_catalog=True)
    assert not talk.query("create temporary table scratch (a int)").unknown
    assert not talk.query("select a from scratch where a = 1").unknown
    talk.send("reset-connection")
    assert "table" in talk.query("select a from scratch where a = 1").unknown


def test_limit_of_temporary_tables() -> None:
    talk = Talk(needs_catalog=True)
    for n in range(MAX_TEMPORARY + 1):
        talk.query(f"create temporary table t{n} (a int)")
    assert not talk.query("select a from t0").unknown
    assert talk.query(f"select a from t{MAX_TEMPORARY}").unknown


# -- limits -------------------------------------------------------------------------------------------------------------


def test_limit_of_statements() -> None:
    statements = Statements()
    for n in range(MAX_STATEMENTS + 1):
        statements.preparing("x", PLAIN)
        statements.prepared(str(n), "x")
    assert statements.get(str(MAX_STATEMENTS - 1)) is not None
    assert statements.get(str(MAX_STATEMENTS)) is None


def test_limit_of_their_texts() -> None:
    named = Named()
    named.define("a", "x" * MAX_TEXTS, PLAIN)
    named.define("b", "x", PLAIN)
    assert [len(named.get(name)) for name in "ab"] == [1, 0]
    named.undefine("a")
    named.define("b", "x", PLAIN)
    assert len(named.get("b")) == 1


def test_limit_of_what_a_name_may_be() -> None:
    named = Named()
    named.sent()
    for count in range(MAX_SAME):
        named.define("a", f"select {count}", PLAIN)
    assert len(named.get("a")) == MAX_SAME
    named.define("a", "select 1", PLAIN)
    assert named.get("a") == ()


def test_limits_of_the_store() -> None:
    store = Store()
    for n in range(MAX_READINGS + 5):
        store.read(f"select a{n}", PLAIN)
    assert len(store._texts) == len(store._shapes) == MAX_READINGS
    store.read("select " + "a" * MAX_KEPT, PLAIN)
    assert not any(len(text) > MAX_KEPT for text, _ in (*store._texts, *store._shapes))
    for n in range(MAX_WORLDS + 5):
        store.world(World(database=f"d{n}"))
    assert len(store._worlds) <= MAX_WORLDS
    for n in range(MAX_ENTRIES + 5):
        store.entry(Shared(), "db:3306", f"u{n}")
    assert len(store._entries) == MAX_ENTRIES


def test_an_old_catalogue_is_read_again() -> None:
    shared = Shared()
    talk = Talk(True, shared)
    talk.query("select ssn from users")
    shared.now += MAX_AGE_S + 1
    talk.query("select ssn from users")
    talk.query("select ssn from users")
    assert talk.asked == [CATALOGUE, CATALOGUE]


def test_limits_of_what_is_shown_of_parameters() -> None:
    text, words, whole = describe("select ?", [Value(b"x" * (MAX_SHOWN + 1))])
    assert "sha256" in text
    assert whole
    assert "x" * (MAX_SHOWN + 1) in words
    assert not describe("select ?", [Value(b"x" * (MAX_VALUE + 1))])[2]
    text, _, _ = describe("select ?", [Value(b"1")] * (MAX_VALUES_SHOWN + 3))
    assert "and 3 more, sha256" in text
    other, _, _ = describe("select ?", [*[Value(b"1")] * (MAX_VALUES_SHOWN + 2), Value(None)])
    assert other != text
    assert describe("select ?", [Value(None)])[0].endswith("$1 = NULL")


def test_facts_are_plain_values() -> None:
    """What goes to the record and to reviewers must be written."""
    assert msgspec.json.encode(Talk(True).query("select ssn from users").lineage)
    assert SHOP
    assert columns
    assert server
