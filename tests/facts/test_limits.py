"""Limits by name, and that no text does harm: neither an exception, nor a broken stack, nor minutes of work."""

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts import catalog, names
from appliance.facts.catalog import Cascade, Catalog, State
from appliance.facts.sql import ALL, World, read, walk
from appliance.facts.sql.tree import MAX_LEFT, MAX_TEXT, SHORT
from tests.facts.small import KNOWN, PLAIN, table
from tests.facts.talk import Talk

DEEP = {
    "plus": lambda n: "select " + "1+" * n + "1",
    "not": lambda n: "select " + "not " * n + "true",
    "minus": lambda n: "select " + "- " * n + "1",
    "operator": lambda n: "select 1" + " operator(pg_catalog.+) 1" * n,
    "parentheses": lambda n: "select " + "(" * n + "1" + ")" * n,
    "subquery": lambda n: "select " + "(select " * n + "1" + ")" * n,
    "union": lambda n: "select 1" + " union select 1" * n,
    "cast": lambda n: "select 1" + "::int" * n,
    "join": lambda n: "select * from a" + " cross join b" * n,
    "joins in parentheses": lambda n: "select * from " + "(" * n + "a" + " join b on true)" * n,
    "function": lambda n: "select " + "lower(" * n + "1" + ")" * n,
    "case": lambda n: "select " + "case when " * n + "1" + " then 1 end" * n,
    "array": lambda n: "select " + "array[" * n + "]" * n,
    "is null": lambda n: "select " + "(" * n + "1" + " is null)" * n,
    "collate": lambda n: "select 'a'" + ' collate "C"' * n,
    "time zone": lambda n: "select now()" + " at time zone 'x'" * n,
    "row": lambda n: "select " + "row(" * n + "1" + ")" * n,
    "with": lambda n: "with a as (" * n + "select 1" + ") select 1" * n,
    "and, or": lambda n: "select true" + " or true and false" * n,
    "blocks": lambda n: "do $$" + "begin " * n + "end;" * n + "$$",
    "body": lambda n: "do $$begin perform " + "1+" * n + "1; end$$",
    "sql body": lambda n: "create function f() returns int language sql as $$select " + "1+" * n + "1$$",
    "stars": lambda n: "select " + "*," * n + "* from a",
    "sources": lambda n: "select x from " + ",".join(f"a{i}" for i in range(n)),
    "columns": lambda n: "select " + ",".join(f"c{i}" for i in range(n)) + " from a, b, c, d, e, f, g, h",
    "statements": lambda n: "select 1;" * n,
    "rounds": lambda n: "with recursive r(a) as (" * n + "select 1" + " union all select a from r) select a from r" * n,
}  # fmt: skip


def fill(name: str) -> str:
    """Return the text of that shape that is about as long as may be."""
    step = len(DEEP[name](3)) - len(DEEP[name](2))
    return DEEP[name](MAX_TEXT // step - 50)


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("n", [20, 60])
def test_ordinary_depth_is_read(name: str, n: int) -> None:
    reading = read(DEEP[name](n), PLAIN)
    assert "does not parse" not in reading.why
    deep = {"subquery", "with", "row", "rounds", "case", "blocks", "function", "joins in parentheses", "is null", "array", "minus", "not"}
    if name not in deep or n == 20:
        assert "nested" not in reading.why


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_no_stack_is_broken(name: str) -> None:
    """In a process of its own, with half the stack that processes usually have."""
    code = (
        "import resource; from tests.facts.test_limits import *\n"
        f"for n in (3900, 9000): read(DEEP[{name!r}](n), PLAIN)\n"
        f"read(fill({name!r}), PLAIN)"
    )
    words = ["bash", "-c", 'ulimit -c 0 -s 4096; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_work_is_bounded(name: str) -> None:
    text = fill(name)
    began = time.process_time()
    read(text, KNOWN)
    assert time.process_time() - began < 10, "the longest text took minutes"


def test_limit_of_left_nesting() -> None:
    short = "select " + "1+" * (MAX_LEFT - 10) + "1" + " " * SHORT
    assert not read(short, PLAIN).unknown
    assert read("select " + "1+" * (MAX_LEFT + 1) + "1" + " " * SHORT, PLAIN).why == "nested too deeply"


def test_left_nesting_does_not_add_up_over_commas() -> None:
    text = "insert into t values " + ",".join(f"({n}, -{n} + 1)" for n in range(MAX_LEFT * 2))
    assert not read(text, PLAIN).unknown


def test_operators_inside_strings_do_not_count() -> None:
    assert not read(f"select '{'-' * MAX_LEFT * 3}'", PLAIN).unknown


def test_limit_of_nesting() -> None:
    assert read("select " + "(select " * walk.MAX_NESTING + "1" + ")" * walk.MAX_NESTING, PLAIN).unknown == ALL


def test_limit_of_text() -> None:
    assert not read("select 1 --" + "x" * (MAX_TEXT - 11), PLAIN).unknown
    assert read("select 1 --" + "x" * (MAX_TEXT - 10), PLAIN).unknown == ALL
    assert read("select 1 --" + "\u00e4" * (MAX_TEXT // 2), PLAIN).unknown == ALL


def test_limit_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_WORK", 200)
    assert read("select 1", PLAIN).unknown == frozenset()
    assert read("select " + "1 + 1," * 100 + "1", PLAIN).why == "too much to work out"


@pytest.mark.parametrize("text", ["select 1\0; drop table t", "select '\udcff'", "select from from", "drop drop", "\\d", "select 1)"])
def test_unreadable_is_unknown(text: str) -> None:
    reading = read(text, PLAIN)
    assert reading.unknown == ALL
    assert reading.why


@given(st.text())
def test_any_text_is_read_or_unknown(text: str) -> None:
    assert read(text, PLAIN) == read(text, PLAIN)


SOME = "select from where users ssn ( ) , * ; ' $$ \" = 1 with as delete update set insert into values join on using natural left union all order by group distinct lower( do begin end declare x int := perform loop if then execute copy to stdout explain analyze prepare p create view v function f() returns language sql plpgsql table exists in case when a.b .* :: text recursive returning merge matched lateral for"


@settings(max_examples=500)
@given(st.lists(st.sampled_from(SOME.split()), max_size=25))
def test_any_words_are_read_or_unknown(words: list[str]) -> None:
    text = " ".join(words)
    assert read(text, KNOWN) == read(text, KNOWN)


def test_nested_arguments_are_read_once() -> None:
    """Each level read twice would be 2 ** 40 of them."""
    assert not read("select " + "substr('a', 1, " * 40 + "1" + ")" * 40, PLAIN).unknown


class TestNamesOfTheSession:
    """What a flow can make of names: each case took minutes, or gigabytes, where it was followed step by step."""

    def test_all_are_taken_away_again_and_again(self) -> None:
        talk = Talk()
        for n in range(10_000):
            talk.send("parse", name=f"s{n}", text="select 1")
        talk.sync()
        talk.send("query", text="deallocate all;" * 17_000)
        talk.hear("ready", status="I")
        assert talk.look("bind", name="s1").unknown >= ALL

    def test_one_is_used_again_and_again(self) -> None:
        talk = Talk()
        talk.query("prepare s as select " + ", ".join(f"c{n}" for n in range(3000)) + " from t")
        facts = talk.look("query", text="execute s;" * 26_000)
        assert not facts.unknown
        assert len(facts.values["column"]) == 3000

    def test_limit_of_pending(self) -> None:
        kept, meaning = names.Names(), names.Meaning("x")
        for n in range(names.MAX_PENDING + 1):
            assert len(kept.get("p", 999)) == (n > 0)
            kept.define("p", meaning, n)
        assert kept.get("p", 999) == ()
        assert kept.get("p", names.MAX_PENDING) == (meaning,)

    def test_parameters_count_as_texts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(names, "MAX_TEXTS", 10)
        kept = names.Names()
        kept.define("p", names.Meaning("", words=frozenset(("12345678", "abc"))), 0)
        assert kept.get("p", 0) == ()

    @settings(max_examples=300)
    @given(st.lists(st.tuples(st.sampled_from(["define", "forget", "all", "next", "sure", "unsure"]), st.sampled_from("ab")), max_size=25))
    def test_taking_all_away_is_taking_each_away(self, acts: list[tuple[str, str]]) -> None:
        at, one, other = 0, names.Names(), names.Names()
        for number, (act, name) in enumerate(acts):
            at += act == "next"
            for kept in (one, other):
                if act == "define":
                    kept.define(name, names.Meaning(str(number)), at)
                elif act == "forget":
                    kept.forget(name, at)
                elif act == "all" and kept is one:
                    kept.forget_all(at)
                elif act == "all":
                    for each in "ab":
                        kept.forget(each, at)
                elif act in ("sure", "unsure"):
                    kept.settle(act == "sure")
            for now in (at, at + 1):
                assert [[m.text for m in one.get(each, now)] for each in "ab"] == [[m.text for m in other.get(each, now)] for each in "ab"]


LARGE = [table(100 + n, f"p{n}", " ".join(f"c{k}" for k in range(30))) for n in range(300)]
WORLD = World(path=("public",), catalog=Catalog(State("public", "acme", ""), LARGE, inherits=[(100 + n, 100) for n in range(1, 300)]), needs_catalog=True)


class TestLargeCatalogues:
    """A table of many partitions: each mention of it stands for all their columns."""

    def test_mentioned_again_and_again(self) -> None:
        assert not read("delete from p0;" * 20, WORLD).unknown
        assert read("delete from p0;" * 17_000, WORLD).why == "too much to work out"

    def test_limit_of_swept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(catalog, "MAX_SWEPT", 1)
        cascade = Cascade(parent=100, child=101, deletes=True, updates=False, columns=(1,))
        small = Catalog(State("public", "acme", ""), LARGE[:3], cascades=[cascade])
        for _ in range(2):
            for parent, swept in ((LARGE[0], ["p1"]), (LARGE[1], [])):
                assert [relation.name for relation in small.swept(parent, True, frozenset())] == swept
