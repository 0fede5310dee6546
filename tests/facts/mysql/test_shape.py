"""The shape of a statement: what is made alike, and that it means the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts.mysql.lexer import Mode
from appliance.facts.mysql.shape import shape
from appliance.facts.mysql.store import Store
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
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_shapes(text: str) -> None:
    assert shape(text, MODE).strip() == CASES[text].strip()


def test_a_text_whose_quotes_are_not_certain_has_no_shape() -> None:
    assert shape("select a = 'b'", Mode(known=False)) == ""


PIECES = ["select", "a", "b", "t", "u", "1", "2", "'x'", "'y'", "(", ")", ",", "=", "in", "values", "insert", "into", "where", "order", "by", "limit", "and", "*", "count(", "--", "-", "+", ".", "on", ";", "set", "distinct", "'z'", "as", "like", "0.5", "1e1", "`", "/*", "*/"]


@settings(max_examples=800)
@given(st.sampled_from(["select ", "insert into t values ", "update t set ", "delete from t where "]), st.lists(st.sampled_from(PIECES), max_size=16))
def test_a_shape_means_what_the_text_means(start: str, words: list[str]) -> None:
    text = start + " ".join(words)
    whole, shaped = read(text, PLAIN), Store().read(text, PLAIN)
    assert (shaped.values, shaped.unknown, shaped.count) == (whole.values, whole.unknown, whole.count)
    assert len(shaped.results) == len(whole.results)


def test_a_bulk_insert_is_read_once() -> None:
    store = Store()
    for base in (1, 5000):
        rows = ", ".join(f"({n}, 'name {n}', null)" for n in range(base, base + 2000))
        assert not store.read(f"insert into users (id, name, ssn) values {rows}", KNOWN).unknown
    assert len(store._shapes) == 1
