"""Limits by name, and that no text does harm: neither an exception, nor a broken stack, nor minutes of work."""

import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts.mysql import read as reading_module
from appliance.facts.mysql import walk
from appliance.facts.mysql.catalog import MAX_ROWS, MAX_VIEW, Answer
from appliance.facts.mysql.cursor import MAX_NESTING
from appliance.facts.mysql.lexer import MAX_TEXT
from appliance.facts.mysql.reading import ALL
from appliance.facts.mysql.store import Store
from tests.facts.mysql.small import KNOWN, PLAIN, read
from tests.facts.mysql.talk import Talk

DEEP = {
    "plus": lambda n: "select " + "1+" * n + "1",
    "not": lambda n: "select " + "not " * n + "true",
    "minus": lambda n: "select " + "- " * n + "1",
    "parentheses": lambda n: "select " + "(" * n + "1" + ")" * n,
    "open parentheses": lambda n: "select " + "(" * n,
    "subquery": lambda n: "select " + "(select " * n + "1" + ")" * n,
    "derived": lambda n: "select * from " + "(select * from " * n + "t" + ") x" * n,
    "union": lambda n: "select 1" + " union select 1" * n,
    "nested union": lambda n: "(" * n + "select 1" + " union select 1)" * n,
    "join": lambda n: "select * from a" + " cross join b" * n,
    "joins in parentheses": lambda n: "select * from " + "(" * n + "a" + " join b on true)" * n,
    "function": lambda n: "select " + "lower(" * n + "1" + ")" * n,
    "case": lambda n: "select " + "case when " * n + "1" + " then 1 end" * n,
    "is null": lambda n: "select " + "(" * n + "1" + " is null)" * n,
    "collate": lambda n: "select 'a'" + " collate utf8mb4_bin" * n,
    "interval": lambda n: "select now()" + " + interval 1 day" * n,
    "intervals in each other": lambda n: "select " + "interval " * n + "1" + " day" * n,
    "with": lambda n: "with a as (" * n + "select 1" + ") select 1" * n,
    "variables": lambda n: "select " + "@a := " * n + "1",
    "and, or": lambda n: "select true" + " or true and false" * n,
    "exists": lambda n: "select " + "exists (select " * n + "1" + ")" * n,
    "in": lambda n: "select 1 in (" + "1," * n + "1)",
    "stars": lambda n: "select " + "*," * n + "* from a",
    "sources": lambda n: "select x from " + ",".join(f"a{i}" for i in range(n)),
    "columns": lambda n: "select " + ",".join(f"c{i}" for i in range(n)) + " from a, b, c, d, e, f, g, h",
    "statements": lambda n: "select 1;" * n,
    "rows": lambda n: "insert into t values " + ",".join(f"({i}, f{i % 7})" for i in range(n)),
    "rounds": lambda n: "with recursive r(a) as (" * n + "select 1" + " union all select a from r) select a from r" * n,
    "strings": lambda n: "select " + "'a' " * n,
    "quotes": lambda n: "select '" + "''" * n,
    "comments": lambda n: "select " + "/*" * n,
    "executed comments": lambda n: "select " + "/*! 1 */ + " * n + "1",
    "explain": lambda n: "explain " * n + "select 1",
    "set statement": lambda n: "set statement a = 1 for " * n + "select 1",
    "create": lambda n: "create table t (" + "a int, " * n + "b int)",
    "grants": lambda n: "grant " + "select, " * n + "insert on a.b to c",
}  # fmt: skip


def fill(name: str, size: int) -> str:
    """Return the text of that shape that is about so long."""
    step = max(1, len(DEEP[name](3)) - len(DEEP[name](2)))
    return DEEP[name](max(3, size // step - 50))


DEEPER = {"explain", "set statement", "open parentheses", "quotes", "comments", "intervals in each other"}


@pytest.mark.parametrize("name", [n for n in DEEP if n not in DEEPER])
@pytest.mark.parametrize("n", [3, 15])
def test_ordinary_depth_is_read(name: str, n: int) -> None:
    assert "nested" not in read(DEEP[name](n), PLAIN).why


@pytest.mark.parametrize("name", DEEP)
def test_no_depth_raises(name: str) -> None:
    for n in (MAX_NESTING - 1, MAX_NESTING + 1, 150, 2000):
        read(DEEP[name](n), KNOWN)


@pytest.mark.slow
def test_no_stack_is_broken() -> None:
    """In a process of its own, with half the stack that processes usually have."""
    code = "from tests.facts.mysql.test_limits import *\nfor name in DEEP:\n for n in (300, 4000): read(DEEP[name](n), PLAIN)\n"
    words = ["bash", "-c", 'ulimit -c 0 -s 4096; exec "$0" -c "$1"', sys.executable, code]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
def test_work_is_bounded(name: str) -> None:
    text = fill(name, MAX_TEXT)
    began = time.process_time()
    Store().read(text, KNOWN)
    assert time.process_time() - began < 30, "the longest text took minutes"


def test_limit_of_nesting() -> None:
    assert not read(DEEP["parentheses"](MAX_NESTING - 5), PLAIN).unknown
    assert read(DEEP["parentheses"](MAX_NESTING + 1), PLAIN).unknown >= ALL


def test_limit_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MAX_WORK", 200)
    assert read("select 1", PLAIN).unknown == frozenset()
    assert "too much to work out" in read("select " + "lower(1)," * 100 + "1", PLAIN).why


def test_limit_of_statements_in_a_text() -> None:
    assert not read("select 1;" * reading_module.MAX_PARTS, PLAIN).unknown
    assert "more than" in read("select 1;" * (reading_module.MAX_PARTS + 1), PLAIN).why


def test_a_statement_run_many_times_in_one_text_is_looked_at_once() -> None:
    """Its 9,000 columns were put together with the rest as many times as it ran."""
    talk = Talk()
    talk.query("prepare s from 'select " + ",".join(f"c{n}" for n in range(9_000)) + " from t'")
    began = time.process_time()
    assert len(talk.query("execute s;" * reading_module.MAX_PARTS).values["column"]) == 9_000
    assert time.process_time() - began < 10, "it took as many times as long"


def test_limit_of_texts_in_texts() -> None:
    text = "drop table t"
    for _ in range(reading_module.MAX_TEXTS):
        text = "execute immediate '" + text.replace("'", "''") + "'"
    assert "drop" in read(text, PLAIN).values["effect"]
    text = "execute immediate '" + text.replace("'", "''") + "'"
    assert read(text, PLAIN).unknown >= ALL


def test_limits_of_the_catalogue() -> None:
    def answer(rows: int, view: int) -> Answer:
        made = Answer()
        made.add(b"state", b",".join(t.encode().hex().encode() or b"-" for t in ("", "", "utf8mb4", "utf8mb4", "0", "8.4", "a")))
        made.add(b"view", b",".join(t.encode().hex().encode() for t in ("d", "v", "x" * view)))
        for n in range(rows - 2):
            made.add(b"column", b",".join(t.encode().hex().encode() for t in ("d", "t", str(n), f"c{n}", "0", "x")))
        return made

    catalog = answer(MAX_ROWS, MAX_VIEW).catalog()
    assert catalog is not None
    assert (catalog.find("d", "v") or catalog.relations["", ""]).view
    assert answer(MAX_ROWS + 1, 1).catalog() is None
    catalog = answer(3, MAX_VIEW + 1).catalog()
    assert catalog is not None
    assert (catalog.find("d", "v") or catalog.relations["", ""]).view == ""


@given(st.text())
def test_any_text_is_read_or_unknown(text: str) -> None:
    assert read(text, PLAIN) == read(text, PLAIN)


SOME = "select from where users ssn ( ) , * ; ' \" ` = 1 with as delete update set insert into values join on using natural left union all order by group distinct lower( do begin end declare if then execute immediate prepare s 'select' explain analyze create view table v procedure trigger exists in case when a.b .* := @a @@b recursive returning replace lateral for /*!50000 */ /*! -- # \n handler read show load data infile kill call 0x1 x'41' _utf8 interval day between and not like is null cast( limit lock tables drop alter rename grant to json_table( over("


@settings(max_examples=600)
@given(st.lists(st.sampled_from(SOME.split(" ")), max_size=25))
def test_any_words_are_read_or_unknown(words: list[str]) -> None:
    text = " ".join(words)
    assert read(text, KNOWN) == read(text, KNOWN)
    shaped = Store().read(text, KNOWN)
    assert shaped.values.keys() == read(text, KNOWN).values.keys()


def test_the_second_opinion_is_loaded_when_it_is_needed() -> None:
    """A worker without MySQL flows does not pay for it."""
    code = (
        "import sys; import appliance.service.worker; from appliance.facts.shared import Shared; from appliance.facts.readers import open\n"
        "open('postgres', Shared()); assert 'sqlglot' not in sys.modules\n"
        "from appliance.facts.mysql.read import read; from appliance.facts.mysql.world import World\n"
        "assert 'sqlglot' not in sys.modules\n"
        "read('select 1', World()); assert 'sqlglot' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
