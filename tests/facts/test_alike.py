"""What differs in constants only: where it is taken for the same, a whole reading says the same."""

import os
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts import sql, store
from appliance.facts.readers import Shared
from appliance.facts.sql import World, alike, read
from appliance.facts.sql.alike import Alike, cut, looked
from appliance.facts.sql.read import examined
from tests.facts.regress import corpus
from tests.facts.small import CATALOG, KNOWN, PLAIN

ROLE = World(user="acme", catalog=CATALOG, needs_catalog=True, path=None)
WORLDS = [PLAIN, KNOWN, ROLE, World(strings=False), World(encoded=False)]
PARTS = [  # expressions and places where a constant may stand
    "5", "0", "-5", "- 5", "-(5)", "+7", "2147483647", "2147483648", "-2147483648", "99999999999999", "1.5", "-0.5", ".5", "5.",
    "1e5", "0x1f", "1_000", "007", "'x'", "'it''s'", "''", "E'x'", "e'a b 5'", "B'101'", "X'1F'", "N'x'", "U&'x'", "'a'\n'b'",
    "'a' 'b'", "$1", "$$5 'x'$$", "$q$5$q$", '"a 5"', "'7'::int", "cast('7' as regclass)", "regclass 'users'", "'users'::regclass",
    "'ssn'::text", "date '2020-01-01'", "interval '5 days'", "interval(3) '5'", "interval '5' day", "float '5'", "numeric(9,2) '5'",
    "'5'::numeric(10,2)", "'5'::float(24)", "'x'::varchar(5)", "'x'::char(3)", "'101'::bit(3)", "ssn", "users.ssn", "id", "name",
    "set_config('search_path', 'evil', false)", "current_setting('role')", "nextval('s')", "pg_sleep(5)", "pg_read_file('x')",
    "lower('X')", "peek(5)", "peek('users', 7)", "left(ssn, 3)", "substring(ssn from 2 for 3)", "coalesce(ssn, 'x')",
    "coalesce(5, 6)", "extract('year' from now())", "extract(year from now())", "name like 'a%' escape '!'", "id in (1, 2, 3)",
    "id between 1 and 9", "case when id = 5 then 'a' else 'b' end", "array[1, 2]", "(array[1, 2])[1]", "(array[1,2])[1:2]", "row(1, 'x')",
    "exists (select 5)", "(select ssn from users where id = 3 limit 1)", "json_value('{}', '$.a')", "xmlelement(name a, 5)",
    "now() at time zone 'utc'", "1 /* 5 'x' */", "5 -- 7 'x\n", "5 operator(pg_catalog.+) 3", "5 !! 3", "5::checked", "'x' collate \"C\"",
    "normalize('x', nfc)", "overlay('abc' placing 'x' from 2)", "position('a' in 'b')", "trim('x' from ssn)", "id+5", "id*-3", "id- -3",
]
FRAMES = [
    "select {} from users", "select {}, {} from users where id = {}", "select id, ssn from users order by {}", "select id, ssn from users order by 2, {}",
    "select ssn, count(*) from users group by {}", "select distinct on ({}) id, ssn from users", "select id from users limit {} offset {}",
    "select id, ssn from users group by grouping sets (({}), (1))", "select id from users fetch first 5 rows only", "values ({}, {}), ({}, {})",
    "insert into users (id, name) values ({}, {})", "insert into users select {}, {}", "update users set name = {} where id = {}",
    "delete from users where id = {} returning {}", "merge into users u using orders o on u.id = {} when matched then update set name = {}",
    "with q as (select {} as a) select a from q", "with q as (delete from users where id = {} returning {}) select * from q",
    "select * from users tablesample bernoulli({})", "select * from users tablesample bernoulli(5) repeatable ({})",
    "select {} union select {}", "select sum(id) over (order by {}) from users", "select sum(id) filter (where id = {}) from users",
    "select string_agg(name, ',' order by {}) from users", "select * from generate_series(1, {})", "select * from users where id = {}; select {}",
    "select {} from vv", "select * from v where number = {}", "select 1; set search_path = {}", "select {} into made from users",
    "set search_path = {}", "prepare p as select {}", "execute p({})", "explain select {}", "explain (analyze {}) select 1",
    "create table t (a numeric({},2) default {})", "do {}", "copy users to stdout (delimiter {})", "declare c cursor for select {}",
    "fetch {} from c", "set local role {}", "alter role r password {}", "comment on table users is {}", "select {} for update", "call p({})",
    "select * from json_table('[]', '$[*]' columns (a int path {}))", "select * from xmltable({} passing 'x' columns a int path 'a')",
]  # fmt: skip
VALUES = {"i": ["0", "1", "2", "3", "9", "77", "2147483647"], "f": ["0.0", "1.5", "99999999999", "2147483648"],
          "s": ["''", "'x'", "'a''b'", "'search_path'", "'users'", "'evil'", "'a /* b'", "'-- c'", "'$$'", "'role'", "'2'", "'year'", "'-'", "'%'"]}  # fmt: skip


def places(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in alike._CONSTANT.finditer(text)]


def other(text: str, chosen: random.Random, but: tuple[int, ...] = ()) -> str:
    """Return a text alike: each constant another of its kind."""
    out, end = [], 0
    for number, (start, stop) in enumerate(places(text)):
        kind = alike._kind(text[start:stop])[1]
        out += [text[end:start], text[start:stop] if number in but else chosen.choice(VALUES[kind])]
        end = stop
    return "".join(out) + text[end:]


TEXTS = st.builds(lambda frame, parts: "".join(a + b for a, b in zip(frame.split("{}"), [*parts, ""] * 9, strict=False)),
                  st.sampled_from(FRAMES), st.lists(st.sampled_from(PARTS), min_size=4, max_size=4))  # fmt: skip


def claim(text: str, world: World, chosen: random.Random) -> bool:
    """Check what `examined` says of a text against others read whole; return False if nothing was said."""
    parts = cut(text)
    reading, passed = examined(text, world)
    assert reading == read(text, world)
    if parts is None or not passed:
        return False
    depends = looked(text, passed)
    for _ in range(4):
        changed = other(text, chosen, depends)
        again = cut(changed)
        assert again is not None and again.form == parts.form
        assert read(changed, world) == reading, changed
    return True


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, world=st.sampled_from(WORLDS), seed=st.integers(0, 1 << 30))
def test_a_reading_depends_on_nothing_else(text: str, world: World, seed: int) -> None:
    claim(text, world, random.Random(seed))


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), seed=st.integers(0, 1 << 30))
def test_what_is_kept_says_what_a_whole_reading_says(texts: list[str], seed: int) -> None:
    kept, chosen = store.Store(), random.Random(seed)
    for text in texts * 3:
        for world in WORLDS[:3]:
            changed = other(text, chosen)
            assert kept.read(changed, world) == read(changed, world), changed


@pytest.mark.parametrize("frame", FRAMES)
def test_every_part_in_every_place(frame: str) -> None:
    chosen = random.Random(frame)
    for part in PARTS:
        claim(frame.replace("{}", part), chosen.choice(WORLDS[:2]), chosen)


SHARED = [
    "select abalance from pgbench_accounts where aid = 5", "select name from users where id = -5 and name = 'x'",
    "insert into users (id, name, ssn) values (1, 'a', 'b'), (2, 'c', 'd')", "update users set name = 'x' where id = 5",
    "delete from orders where id in (1, 2, 3)", "select id from users where name like 'a%' limit 5 offset 10",
    "select 1.5 * id from users where id between 1 and 99999999999", "select '2020-01-01'::date, interval '5 days'",
]  # fmt: skip


@pytest.mark.parametrize("text", SHARED)
def test_ordinary_statements_are_read_twice_and_never_again(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wholes: list[str] = []
    real = store.examined
    monkeypatch.setattr(store, "examined", lambda text, world: wholes.append(text) or real(text, world))
    kept, chosen = store.Store(), random.Random(text)
    texts = {other(text, chosen) for _ in range(20)}
    for one in texts:
        assert kept.read(one, KNOWN) == read(one, KNOWN)
    assert len(wholes) == 2 < len(texts)


KINDS = [  # no two of these are of one form
    ("select 5", "select 5.0"), ("select 5", "select '5'"), ("select 2147483647", "select 2147483648"), ("select 5", "select  5"),
    ("select 5", "select -5"), ("select 'a'", "select 'a' 'b'"), ("select 5", "select 5 -- 5"), ("select '5'", "select \"5\""),
    ("select 1.5", "select 1 .5"), ("select $1", "select $2"), ("select a1", "select a2"), ("select 1e5", "select 1e6"),
]  # fmt: skip


@pytest.mark.parametrize("one,two", KINDS)
def test_kinds_of_tokens_are_told_apart(one: str, two: str) -> None:
    forms = [parts.form if (parts := cut(text)) is not None else text for text in (one, two)]
    assert forms[0] != forms[1]


@pytest.mark.parametrize("text", ["select 'a\\'", "select 'é'", "select 'a\0'", "select a"])
def test_what_is_never_cut(text: str) -> None:
    assert cut(text) is None


@pytest.mark.parametrize("text", ["select ssn, id from users order by 1", "select ssn, id from users group by 2", "select distinct on (1) ssn from users"])
def test_a_constant_that_is_looked_at_counts(text: str) -> None:
    _, passed = examined(text, KNOWN)
    assert looked(text, passed or frozenset()) == (0,)


@pytest.mark.parametrize("text", ["set role 'x'", "select set_config('role', 'x', false)", "explain select 5", "prepare p as select 5",
                                  "do 'begin null; end'", "copy users to stdout (delimiter ',')", "select 1; commit", "select 5 5 5"])  # fmt: skip
def test_statements_that_are_never_alike(text: str) -> None:
    assert not examined(text, PLAIN)[1]


def test_only_one_place_looks_at_constants() -> None:
    """Whoever looks at a constant's value in any other way would not be noticed; detectors look at each text anew."""
    folder = os.path.dirname(sql.__file__)
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py") and name != "denoted.py":
            with open(os.path.join(folder, name)) as file:
                found[name] = re.findall(r"[^\n]*(?<!HasField\(\")\ba_const\b[^\n]*", file.read())
    lines = [line.strip() for name, lines in found.items() for line in lines]
    assert sorted(lines) == sorted(
        [
            '("a_const", "param_ref", "a_expr", "bool_expr", "null_test", "boolean_test", "", "set_to_default")',
            '_LEAVES = frozenset(("a_const", "param_ref", "string", "integer", "float", "boolean", "set_to_default"))',
            'if kind == "a_const":',
            "self.passed.add(node.a_const.location)",
            "self.looked.add(node.a_const.location)",
            "return node.a_const",
        ]
    )


def pair(text: str) -> tuple[alike.Cut, tuple[int, ...]]:
    parts, (_, passed) = cut(text), examined(text, PLAIN)
    assert parts is not None
    return parts, looked(text, passed or frozenset())


def learned(*texts: str) -> Alike:
    kept = Alike()
    for text in texts:
        parts, counts = pair(text)
        kept.learn(parts, PLAIN, read(text, PLAIN), counts)
    return kept


def test_one_reading_alone_is_not_enough() -> None:
    parts, _ = pair("select 7")
    assert learned("select 5").find(parts, PLAIN) is None
    assert learned("select 5", "select 6").find(parts, PLAIN) == read("select 7", PLAIN)
    assert learned("select 5", "select 6").find(parts, KNOWN) is None


def test_two_readings_that_differ_end_it_for_good() -> None:
    parts, counts = pair("select 5")
    kept = learned("select 5", "select 6")
    for text in ("delete from users", "select 5", "select 5"):
        kept.learn(parts, PLAIN, read(text, PLAIN), counts)
        kept._forms["select \0i", PLAIN].add(parts, read(text, PLAIN), counts)
        assert kept.find(parts, PLAIN) is None or text != "delete from users"
    assert kept.find(pair("select 9")[0], PLAIN) is None


def test_what_counts_in_one_text_counts_in_all_of_its_form() -> None:
    kept = learned("select 5, 6", "select 7, 8")
    parts, _ = pair("select 1, 2")
    assert kept.find(parts, PLAIN) is not None
    kept.learn(parts, PLAIN, read("select 1, 2", PLAIN), (1,))
    assert kept.find(parts, PLAIN) is None
    assert kept._forms[parts.form, PLAIN].looked == (1,)


def test_max_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "MAX_FORMS", 3)
    kept = learned(*(f"select {n}, a{n}" for n in range(9)))
    assert [form for form, _ in kept._forms] == ["select \0i, a6", "select \0i, a7", "select \0i, a8"]


def test_max_form() -> None:
    assert cut("select 1, a" + "a" * (alike.MAX_FORM - 12)) is not None
    assert cut("select 1, a" + "a" * alike.MAX_FORM) is None


def test_max_text() -> None:
    assert cut(f"select '{'a' * (alike.MAX_TEXT - 9)}'") is not None
    assert cut(f"select '{'a' * alike.MAX_TEXT}'") is None


def test_max_kept() -> None:
    texts = [f"select id, ssn from users where id = 5 order by {n}" for n in range(1, 9)]
    kept = learned(*texts)
    (form,) = kept._forms.values()
    assert 0 < len(form.readings) <= alike.MAX_KEPT and form.looked == (1,)


def test_max_looked() -> None:
    kept = learned(*(f"select 5 /* '{n:0{alike.MAX_LOOKED}}' */" for n in range(3)))
    assert not any(form.readings for form in kept._forms.values())


def test_max_int() -> None:
    assert alike._kind(str(alike.MAX_INT)) == "\0i" == alike._kind("0" * 9 + "5")
    assert alike._kind(str(alike.MAX_INT + 1)) == "\0f"
    assert len(str(alike.MAX_INT)) == alike.DIGITS


def test_a_new_catalogue_and_full_worlds_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = store.Store()
    for n in range(3):
        kept.read(f"select {n} from users", KNOWN)
    kept.drop(CATALOG)
    assert not kept._alike._forms
    monkeypatch.setattr(store, "MAX_WORLDS", 1)
    kept.world(KNOWN)
    for n in range(3):
        kept.read(f"select {n} from users", KNOWN)
    kept.world(PLAIN)
    assert not kept._alike._forms and not kept._readings


def test_flows_share_forms_and_cannot_change_what_they_say() -> None:
    kept: store.Store = Shared().of(store.Store)
    for n in range(50):
        kept.read(f"select name from users where id = {n}", PLAIN)
        kept.read(f"select name from users where id = {n} -- '", PLAIN)
        kept.read(f"select name from users where id = '{n}", PLAIN)
        kept.read(f"select name from users where id = {n}; drop table users", PLAIN)
    found = kept.read("select name from users where id = 77", PLAIN)
    assert found == read("select name from users where id = 77", PLAIN) and "drop" not in found.values["effect"]


@pytest.mark.slow
def test_postgresql_s_own_statements() -> None:
    chosen, said = random.Random(1), 0
    for _, text in corpus.files():
        for one in (part + ";" for part in text.split(";\n")):
            said += claim(one, chosen.choice(WORLDS[:3]), chosen)
    assert said > 5_000
