"""Limits by name, and that no text does harm: neither an exception, nor a broken stack, nor minutes of work."""

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts.sql import ALL, read, walk
from appliance.facts.sql.tree import MAX_LEFT, MAX_TEXT, SHORT
from tests.facts.small import KNOWN, PLAIN

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
