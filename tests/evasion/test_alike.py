"""A harmless statement is shown again and again, until texts like it are no longer read; then comes the other one.

What differs in constants only is judged by what was read before (facts/sql/alike.py), for all flows of a worker. Each
attack here is a text of the same form as harmless ones, or nearly, that does something else. It must be judged as if
it were the first text ever seen. The judge is PostgreSQL's grammar, beside it all kinds of flows that share a store.
"""

import pytest

from appliance.facts.readers import Shared
from appliance.facts.sql import alike
from appliance.model import Decision
from appliance.policy import Policy
from tests.facts.talk import Talk, client
from tests.session.test_session import FLOW, rules

POLICY: Policy = rules(
    """
  - {id: no-drop, to: db, when: {effect: [drop, write, procedure, file, admin]}, do: block}
  - {id: hide, to: db, when: {column: [users.ssn]}, do: mask, with: redact}
  - {id: role, to: db, when: {role: ["*"]}, do: block}
  - {id: path, to: db, when: {setting: [search_path, role]}, do: block}
  - {id: reads, to: db, when: {effect: [read, session], count: 1}, do: allow}
"""
)
SERVER = FLOW.server
TIMES = 4  # a form is used from the third text on
# name -> harmless text, with a number in it at {}, and what comes then
ATTACKS = {
    "second statement behind a number": ("select name from users where id = {}", "select name from users where id = 5; drop table users"),
    "second statement in a string": ("select name from users where name = '{}'", "select name from users where name = ''; drop table users --'"),
    "quote that ends early": ("select name from users where name = 'a{}b'", "select name from users where name = 'a'; drop table users; select 'b'"),
    "doubled quote": ("select '{}', ssn from users", "select ''', ssn from users; drop table users --'"),
    "doubled quote that is none": ("select 'a', '{}'", "select 'a'', '; drop table users --'"),
    "backslash before a quote": ("select '{}'", "select '\\'; drop table users --'"),
    "escape string": ("select '{}'", "select e'\\'; drop table users --'"),
    "escape string with a quote": ("select e'{}'", "select e'\\''; drop table users --'"),
    "unicode string": ("select u&'{}'", "select u&'\\0027'; drop table users --'"),
    "comment that ends": ("select {} /* 5 */ from users", "select 7 /* 5 */ - 1 from users; drop table users --"),
    "comment that begins in a string": ("select '{}' /* ', ssn from users -- */", "select '/*' /* ', ssn from users -- */, ssn from users"),
    "comment in a number's place": ("select {} from users where id = 5", "select 7/**/ from users where id = 5; drop table users"),
    "line comment": ("select name -- {}\nfrom users", "select name -- 5\n, ssn from users"),
    "dollar quotes": ("select $${}$$", "select $$7$$; drop table users; select $$7$$"),
    "tag of dollar quotes": ("select $a{}$ 'x' $a{}$", "select $a7$ 'x' $a8$ $a7$; drop table users --"),
    "string that continues": ("select '{}'\n'b'", "select 'a'\n'b'; drop table users; select\n'b'"),
    "position in ORDER BY": ("select id, ssn from users order by {}", "select id, ssn from users order by 2"),
    "position in GROUP BY": ("select id, ssn from users group by {}", "select id, ssn from users group by 2"),
    "position in DISTINCT ON": ("select distinct on ({}) id, ssn from users", "select distinct on (2) id, ssn from users"),
    "position of a query in brackets": ("(select id, ssn from users) order by {}", "(select id, ssn from users) order by 2"),
    "position in a set operation": ("select id, ssn from users union all select 5, 'x' order by {}", "select id, ssn from users union all select 5, 'x' order by 2"),
    "a setting by function": ("select set_config('app.n', '{}', false)", "select set_config('role', 'postgres', false)"),
    "a setting by function, its value": ("select set_config('app.a', '{}', true)", "select set_config('app.b', '1', true)"),
    "role by SET": ("set application_name = '{}'", "set role = 'postgres'"),
    "path by SET": ("set work_mem = '{}'", "set search_path = 'evil'"),
    "value of SET": ("set role = '{}'", "set role = 'postgres'"),
    "body of DO": ("do 'begin perform {}; end'", "do 'begin drop table users; end'"),
    "body of a function": ("create function f() returns int language sql as 'select {}'", "create function f() returns int language sql as 'drop table users'"),
    "prepared by name": ("prepare p as select {}", "prepare p as delete from users"),
    "program of COPY": ("copy users to stdout with (delimiter '{}')", "copy users to program 'sh'"),
    "EXPLAIN that runs": ("explain (analyze {}) delete from users", "explain (analyze 1) delete from users"),
    "EXPLAIN that does not": ("explain (analyze 0, costs {}) delete from users", "explain (analyze 1, costs 1) delete from users"),
    "a name in quotes": ('select "{}" from users', 'select "ssn" from users'),
    "a number that becomes a name": ("select {} from users", "select 5ssn from users"),
    "a name that ends in digits": ("select a{} from users", "select a1, ssn from users"),
    "parameters by number": ("select ${} from users", "select $1, ssn from users"),
    "a type that is not built in": ("select '{}'::text", "select '5'::checked"),
    "a number too large for an integer": ("select id, name from users order by {}", "select id, name from users order by 99999999999"),
    "a fraction": ("select id, ssn from users limit {}", "select id, ssn from users order by ssn limit 1.5"),
    "minus that is a comment": ("select 5 -{} from users", "select 5 --1 from users\n, ssn from users"),
    "an operator that takes the minus": ("select id from users where id = -{}", "select id from users where id =- 5 or ssn = 'x'"),
    "beyond ASCII": ("select '{}'", "select '\u00bf'; drop table users --'"),
    "a zero byte": ("select '{}'", "select '\0'; drop table users --'"),
    "many constants, one of them looked at": ("select id, ssn from users where id in ({}, 2, 3) order by 1", "select id, ssn from users where id in (1, 2, 3) order by 2"),
    "more of them": ("values ({}, 'a'), (2, 'b')", "values (1, 'a'), (2, (select ssn from users))"),
    "what follows a semicolon": ("select {};", "select 5; select ssn from users"),
    "a marker of ours": ("select {}", "select \0i; drop table users"),
}  # fmt: skip


def judged(text: str, shared: Shared) -> tuple[Decision, object]:
    """Return the verdict of a text that a flow of its own sends, and its facts but for the texts."""
    facts = Talk(shared=shared).look("query", text=text)
    kept = {key: values for key, values in facts.values.items() if key != "text"}
    said = (kept, facts.unknown, facts.why, facts.changes, facts.stage)
    return POLICY.decide(("acme",), SERVER, facts), said


@pytest.mark.parametrize("name", ATTACKS)
def test_what_looks_like_a_harmless_statement(name: str) -> None:
    harmless, attack = ATTACKS[name]
    shared, talk = Shared(), None
    for n in range(TIMES):
        text = harmless.replace("{}", str(n + 1))
        talk = Talk(shared=shared)
        talk.query(text)
        assert judged(text, shared) == judged(text, Shared())
    first = judged(attack, Shared())
    assert judged(attack, shared) == first
    for n in range(TIMES):  # and what came last does not change what is harmless
        text = harmless.replace("{}", str(n + 11))
        assert judged(text, shared) == judged(text, Shared())
        assert judged(attack, shared) == first
    assert talk is not None
    assert POLICY.decide(("acme",), SERVER, talk.look("query", text=attack)).rule == talked(harmless, attack).rule


def talked(harmless: str, attack: str) -> Decision:
    """Return the verdict on a flow that said what is harmless once."""
    talk = Talk(shared=Shared())
    talk.query(harmless.replace("{}", str(TIMES)))
    return POLICY.decide(("acme",), SERVER, talk.look("query", text=attack))


def test_a_prepared_statement_is_not_judged_by_another_s_form() -> None:
    shared = Shared()
    for n in range(TIMES):
        Talk(shared=shared).query(f"select name from users where id = {n}")
    talk = Talk(shared=shared)
    talk.send("parse", name="p", text="select name from users where id = 5; drop table users")
    talk.send("bind", name="p", cursor="c")
    facts = talk.send("execute", cursor="c")
    assert POLICY.decide(("acme",), SERVER, facts).rule == "no-drop"


def test_a_form_says_nothing_under_other_settings() -> None:
    """What names mean is of the flow: a form known from one with another search_path is not one here."""
    shared = Shared()
    for n in range(TIMES):
        Talk(shared=shared).query(f"select lower(name) from users where id = {n}")
    talk = Talk(shared=shared)
    talk.query("set search_path = evil, pg_catalog")
    facts = talk.look("query", text="select lower(name) from users where id = 77")
    assert "procedure" in facts.values["effect"] and facts.unknown


def test_the_reviewer_and_the_record_have_the_text_itself() -> None:
    shared = Shared()
    for n in range(9):
        facts = Talk(shared=shared).look("query", text=f"select name from users where id = {n}")
        assert facts.subject == f"select name from users where id = {n}"
        assert facts.values["text"] == {facts.subject}


def test_a_flood_of_forms_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "MAX_FORMS", 8)
    shared = Shared()
    for n in range(100):
        Talk(shared=shared).query(f"select a{n} from users where id = {n}")
    for n in range(TIMES):
        text = f"select ssn from users where id = {n}; drop table users"
        assert judged(text, shared) == judged(text, Shared())


def test_messages_that_are_asked_about_twice_are_the_same() -> None:
    talk = Talk(shared=Shared())
    for n in range(TIMES):
        message = client("query", text=f"select name from users where id = {n}")
        assert talk.reader.ask(message) == talk.reader.ask(message)
