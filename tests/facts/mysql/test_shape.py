"""The shape of a statement and its outline: what is made alike, and that it means the same."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts.mysql.lexer import Mode
from appliance.facts.mysql.shape import outline, shape
from appliance.facts.mysql.store import MAX_KEPT, MAX_READINGS, Store
from tests.facts.mysql.small import KNOWN, MODE, PLAIN, read

CASES = {
    "select a from t where b = 1 and c = 'x'": " select a from t where b = 1 and c = 's'",
    "select a from t where b in (1, 2, 3)": " select a from t where b in (1)",
    "select a from t where (b, c) in ((1, 2), (3, 4))": " select a from t where (b, c) in ((1, 2), (3, 4))",
    "insert into t values (1, 'a'), (2, 'b')": " insert into t values (1, 's')",
    "insert into t values (1, 'a'), (2, now()), (3, now())": " insert into t values (1, 's'), (1, now())",
    "insert into t (a) values (1), (2) on duplicate key update a = values(a), b = 3": " insert into t (a) values (1) on duplicate key update a = values(a), b = 1",
    "select a 'x', b from t order by 2, 1": " select a 'x', b from t order by 2, 1",
    "select 'x' from t group by 1": " select 'x' from t group by 1",
    "select a, b from t order by +2, - 2": " select a, b from t order by +2, - 2",
    "update t set a = a + 5, b = (c) - 7, d = `e` - 8 where f = -3": " update t set a = a + 1, b = (c) - 1, d = `e` - 1 where f = -3",
    "select a from t limit 10 offset 20": " select a from t limit 1 offset 1",
    "select a from t where b = 'x' 'y'": " select a from t where b = 'x' 'y'",
    "select a->'$.b' from t": " select a->'$.b' from t",
    "select count(*) from t": " select count(*) from t",
    "select count (*) from t": " select count (*) from t",
    "select t . a, t.1b from t": " select t . a, t.1b from t",
    "select 1--1": " select 1--1",
    "select/**/a -- b": " select a",
    "select a from t where b between 3 and 'x'": " select a from t where b between 1 and 's'",
    "select a from t where b in (select 1, 'x')": " select a from t where b in (select 1, 'x')",
    "values (1), (2)": "",
    "set @a = 1": "",
    "execute immediate 'select 1'": "",
    "select /*!50000 1, */ 2": "",
    "select 1--/**/ssn from customers": "",  # without the comment, what is behind the signs would be one
    "select a=1.b from t": "",  # without its dot the number would be glued to the name
    "select a=0.5select": "",
    "select a = 1;": " select a = 1;",
    "select 1; set sql_mode = 'NO_BACKSLASH_ESCAPES'; select 'x' = '\\' union select ssn from customers -- '": "",
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_shapes(text: str) -> None:
    assert shape(text, MODE).strip() == CASES[text].strip()


def test_a_text_whose_quotes_are_not_certain_has_no_shape() -> None:
    assert shape("select a = 'b'", Mode(known=False)) == ""


PIECES = ["select", "a", "b", "t", "u", "1", "1.", "2", "'x'", "'y'", "(", ")", ",", "=", "in", "values", "insert", "into", "where", "order", "by", "limit", "and", "*", "count(", "--", "-", "+", ".", "on", ";", "set", "distinct", "'z'", "as", "like", "0.5", "1e1", "`", "/*", "*/"]


@settings(max_examples=800, deadline=None)
@given(st.sampled_from(["select ", "insert into t values ", "update t set ", "delete from t where "]), st.lists(st.sampled_from(PIECES), max_size=16), st.sampled_from(["", " ", "/**/"]))
def test_a_shape_means_what_the_text_means(start: str, words: list[str], between: str) -> None:
    text = start + between.join(words)
    whole, shaped = read(text, PLAIN), Store().read(text, PLAIN)
    assert (shaped.values, shaped.unknown, shaped.count) == (whole.values, whole.unknown, whole.count)
    assert len(shaped.results) == len(whole.results)


def test_a_bulk_insert_is_read_once() -> None:
    store = Store()
    for base in (1, 5000):
        rows = ", ".join(f"({n}, 'name {n}', null)" for n in range(base, base + 2000))
        assert not store.read(f"insert into users (id, name, ssn) values {rows}", KNOWN).unknown
    assert len(store._shapes) == 1


OUTLINES = {
    "select a from t where b = 1 and c='x'": "select a from t where b = {n} and c={s}",
    "select a from t where b >= 1 and c <=> 'x' or d<>2": "select a from t where b >= {n} and c <=> {s} or d<>{n}",
    "select `a`.`b` from `a` where `a`.`b` = 1": "select `a`.`b` from `a` where `a`.`b` = {n}",
    "update t set a = 'x', b = -1": "update t set a = {s}, b = -1",
    "select f(a) = 1, (a)=2": "select f(a) = {n}, (a)={n}",
    "select a from t where b = 1e3 and c = 2": "select a from t where b = 1e3 and c = {n}",
    "select a from t where b = 1.5 and c = 2": "select a from t where b = 1.5 and c = {n}",
}  # fmt: skip


@pytest.mark.parametrize("text", OUTLINES)
def test_outlines(text: str) -> None:
    assert outline(text) == OUTLINES[text].format(n="\xb9", s="\xb2")


@pytest.mark.parametrize(
    "text",
    [
        "select a from t",  # there is nothing to leave out
        "select a->'$.b', c from t where d = 1", "select a->>'$.b' = 1", "select @a:='x', b = 1", "select a = 'x' 'y'",
        "select a = 1 'b'", "select a = 1\n'b'", 'select a = 1 "b"', 'select "a = 1"', "select 'a = 1'", "select `a = 1`", "select a = 'x''y'",
        "select 'x = ' , ' and y = '", "select a = 'x\\' = 1'", "select a = '\\\\' and b = 1", "select a = 1 -- = 2", "select a = 1--\t2",
        "select a = 1 # = 2", "select a = 1 /*! and b = 2 */", "select /* = 1 */ a = 2", "select a = N'x' and b = 1", "select @a = 1",
        "select a = 'x' collate 'y'", "select a = 'é'", "select é = 1", "select a = x'31' and b = 1", "select a = \xb9", "select {d '2020-01-01'} = 1",
    ],
)  # fmt: skip
def test_texts_without_an_outline(text: str) -> None:
    assert outline(text) == ""


@pytest.mark.parametrize("operator", ["->", "->>", ">>", "<<", ":=", "=-", "&=", "||", "=@"])
def test_other_signs_keep_what_is_behind_them(operator: str) -> None:
    assert outline(f"select a {operator}5, b = 1") in ("", f"select a {operator}5, b = \xb9")


VARIANTS = [{}, {"1": "77", "2": "3", "'x'": "'a = 1'", "'y'": "''", "'z'": "'/* -- `'"}, {"1": "0", "'x'": "'\n'", "'y'": "'#'"}]
COMPARED = [*PIECES, "=", "= 1", "= 'x'", "<=> 'y'", ">= 2", "<>'z'", "!=1", "->", "->'x'", ":=", "@a", "`a`", "'x = '", "''", "#", "\\", '"']


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(["select ", "update t set ", "delete from t where ", "set @a "]), st.lists(st.sampled_from(COMPARED), max_size=14), st.sampled_from(["", " "]))
def test_texts_of_one_outline_have_one_shape(start: str, words: list[str], between: str) -> None:
    """What is kept for a text does for one with other values, and for no other."""
    texts = [start + between.join(values.get(word, word) for word in _parted(words)) for values in VARIANTS]
    store = Store()
    for text in texts:
        kept, whole = store.read(text, PLAIN), read(text, PLAIN)
        assert (kept.values, kept.unknown, kept.count) == (whole.values, whole.unknown, whole.count), text
        assert kept.results == whole.results


def _parted(words: list[str]) -> list[str]:
    """Return words with the literals in them apart, so that each can be another."""
    return [part for word in words for part in re.findall(r"'[^']*'|[^'\s]+", word)]


def test_a_statement_with_other_values_is_known_by_its_outline() -> None:
    store = Store()
    first = store.read("select name from users where id = 7", KNOWN)
    assert store.read("select name from users where id = 8", KNOWN) is first
    assert (len(store._outlines), len(store._shapes), len(store._texts)) == (1, 1, 0)
    other = store.read("select ssn from users where id = 8", KNOWN)
    assert other is not first and other.values["column"] != first.values["column"]


def test_limits_of_outlines() -> None:
    store = Store()
    for n in range(MAX_READINGS + 5):
        store.read(f"select a{n} from t where b = 1", PLAIN)
    assert len(store._outlines) == MAX_READINGS
    store.read(f"select a from t where b = 1 and c = '{'x' * MAX_KEPT}'", PLAIN)
    assert not any(len(text) > MAX_KEPT for text, _ in store._outlines)


def test_a_statement_whose_literals_matter_has_no_outline_kept() -> None:
    store = Store()
    for value in ("'ANSI'", "'ORACLE'", "1"):
        store.read(f"set sql_mode = {value}", PLAIN)
    assert not store._outlines and len(store._texts) == 3


def test_outlines_go_with_their_catalogue() -> None:
    store = Store()
    store.read("select name from users where id = 7", KNOWN)
    store.drop(KNOWN.catalog)
    assert not store._outlines
