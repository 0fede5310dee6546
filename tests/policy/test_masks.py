"""Cells: which are masked, by what, and what is counted."""

import uuid

import pytest

from appliance.facts import Facts
from appliance.model import Column
from appliance.policy import MaskPlan, Method
from appliance.policy.masks import REDACTED, apply

from .given import ACME, DB, facts, policy

KEY = b"k" * 32
CARD = "4111 1111 1111 1111"
READ = facts(effect="read", table="public.u")


def origins(column: Column) -> frozenset[str] | None:
    """A column's name is its origin; one without a dot has none that is known, `const` is from no table."""
    if column.name == "const":
        return frozenset()
    return frozenset(column.name.split("|")) if "." in column.name else None


def plan(text: str, said: Facts = READ, key: bytes = KEY) -> MaskPlan:
    return policy(f"rules: [{text}]", key).masks(ACME, DB).plan(said, origins)


def show(made: MaskPlan, column: str, text: str) -> str | None:
    cells = made((Column(column),))
    cell = cells[0] if cells else None
    return cell(text) if cell else text


METHODS = [
    ("redact", "abc", REDACTED),
    ("keep-last-4", "4111111111111111", "************1111"),
    ("keep-last-4", "12345678", "****5678"),
    ("keep-last-4", "1234567", "****567"),  # never more than half
    ("keep-last-4", "1", "*"),
    ("keep-last-4", "", ""),
    ("null", "abc", None),
    ("fixed", "abc", "n/a"),
]


@pytest.mark.parametrize(("method", "text", "masked"), METHODS)
def test_methods(method: str, text: str, masked: str | None) -> None:
    assert apply(Method(method, "n/a"), text, KEY) == masked  # type: ignore[arg-type]


def test_hash_is_keyed_stable_and_a_uuid() -> None:
    one = apply(Method("hash"), "abc", KEY)
    assert one == apply(Method("hash"), "abc", KEY)
    assert one != apply(Method("hash"), "abd", KEY)
    assert one != apply(Method("hash"), "abc", b"x" * 32)
    assert uuid.UUID(one)


def test_hash_without_a_key_is_a_redaction() -> None:
    assert apply(Method("hash"), "abc", b"") == REDACTED


def test_hash_of_what_is_no_unicode() -> None:
    assert apply(Method("hash"), "\udcff", KEY)


HIDE = "{id: m, when: {column: [public.u.ssn]}, do: mask, with: redact}"

COLUMNS = [
    ("public.u.ssn", True),
    ("public.u.id", False),
    ("public.u.*", True),  # whole row
    ("public.v.x|public.u.ssn", True),  # a view's column and what it shows
    ("expression", True),  # of unknown origin, and the statement touches public.u
    ("const", False),
]


@pytest.mark.parametrize(("column", "hidden"), COLUMNS)
def test_columns(column: str, hidden: bool) -> None:
    made = plan(HIDE)
    assert (show(made, column, "x") == REDACTED) is hidden
    assert made.hits == ({"m": 1} if hidden else {})


TOUCHES = [
    (facts(table="public.u"), True),
    (facts(table="public.v"), False),
    (facts(table="?.u"), True),
    (facts("table", table="public.v"), True),
    (facts(table="public.v", column="public.u.ssn"), True),
    (facts("column", table="public.v"), False),
    (facts(), False),
    (facts(protocol=""), False),
    (facts("table", protocol=""), True),
]


@pytest.mark.parametrize(("said", "touched"), TOUCHES)
def test_touches_and_unknown_origin(said: Facts, touched: bool) -> None:
    masks = policy(f"rules: [{HIDE}]").masks(ACME, DB)
    assert masks.touches(said) is touched
    assert masks.redacts(said) is touched
    assert (show(masks.plan(said, origins), "expression", "x") == REDACTED) is touched


def test_a_known_protected_origin_is_masked_whatever_the_facts() -> None:
    assert show(plan(HIDE, facts(table="public.v")), "public.u.ssn", "x") == REDACTED


def test_a_bare_column_protects_every_table() -> None:
    masks = policy("rules: [{id: m, when: {column: ssn}, do: mask}]").masks(ACME, DB)
    assert masks.touches(facts(table="any.thing"))
    assert not masks.touches(facts(effect="session"))


def test_nothing_to_mask_gives_no_plan_and_the_same_object() -> None:
    assert not policy("").masks(ACME, DB)
    assert plan(HIDE)((Column("public.u.id"),)) is None
    made = plan("{id: m, when: {detect: credit_card}, do: mask}")
    cells = made((Column("public.u.note"),))
    text = "nothing of note " * 2
    assert cells and cells[0] and cells[0](text) is text
    assert made.hits == {}


def test_one_cell_per_column() -> None:
    cells = plan(HIDE)((Column("public.u.id"), Column("public.u.ssn"), Column("const")))
    assert cells is not None
    assert [cell is not None for cell in cells] == [False, True, False]


def test_hits_count_cells() -> None:
    made = plan(HIDE)
    cells = made((Column("public.u.ssn"),))
    assert cells and cells[0]
    for text in ("a", "b", REDACTED):  # the last one is not changed
        cells[0](text)
    assert made.hits == {"m": 2}


def test_detectors_mask_only_what_they_find() -> None:
    made = plan("{id: c, when: {detect: [credit_card]}, do: mask, with: keep-last-4}")
    assert show(made, "const", f"paid with {CARD}, thanks") == "paid with ***************1111, thanks"
    assert show(made, "public.u.note", '{"card": "4111111111111111", "n": 1}') == '{"card": "************1111", "n": 1}'
    assert made.hits == {"c": 2}


def test_detectors_with_null_make_the_whole_cell_null() -> None:
    assert show(plan("{id: c, when: {detect: credit_card}, do: mask, with: null}"), "x", f"a {CARD} b") is None


def test_column_and_detect_mask_finds_in_those_columns_only() -> None:
    made = plan("{id: c, when: {column: public.u.note, detect: credit_card}, do: mask, with: {fixed: '#'}}")
    assert show(made, "public.u.note", f"a {CARD} b") == "a # b"
    assert show(made, "public.u.other", f"a {CARD} b") == f"a {CARD} b"


def test_two_detectors_in_one_text() -> None:
    made = plan(
        "{id: c, when: {detect: credit_card}, do: mask, with: keep-last-4},"
        "{id: e, when: {detect: email}, do: mask, with: {fixed: '<mail>'}}"
    )
    assert show(made, "x", f"{CARD} bob@example.com {CARD}") == "***************1111 <mail> ***************1111"
    assert made.hits == {"c": 1, "e": 1}


def test_overlapping_finds_are_one_by_the_strictest() -> None:
    made = plan(
        "{id: p, when: {detect: phone}, do: mask, with: keep-last-4}, {id: i, when: {detect: iban}, do: mask}"
    )
    assert show(made, "x", "DE89 3704 0044 0532 0130 00") == REDACTED
    assert made.hits == {"p": 1, "i": 1}


def test_a_find_inside_another_does_not_end_it() -> None:
    text = """
patterns: {outer: "A[a-z]{8}Z", inner: "cde"}
rules: [{id: o, when: {detect: outer}, do: mask, with: {fixed: "#"}}, {id: i, when: {detect: inner}, do: mask, with: hash}]
"""
    made = policy(text, KEY).masks(ACME, DB).plan(READ, origins)
    assert show(made, "x", "<AabcdefghZ>") == "<#>"


STRICTEST = [("redact", "keep-last-4", REDACTED), ("keep-last-4", "redact", REDACTED), ("keep-last-4", "null", None), ("hash", "redact", REDACTED)]


@pytest.mark.parametrize(("one", "other", "masked"), STRICTEST)
def test_the_strictest_of_two_masks_on_a_column(one: str, other: str, masked: str | None) -> None:
    rule = "{{id: {0}, when: {{column: public.u.ssn}}, do: mask, with: {1}}}"
    made = plan(rule.format("a", one) + "," + rule.format("b", other))
    assert show(made, "public.u.ssn", "123456789") == masked
    assert made.hits == {"a": 1, "b": 1}


def test_a_detector_makes_a_milder_column_mask_stricter() -> None:
    made = plan(
        "{id: k, when: {column: public.u.pan}, do: mask, with: keep-last-4},"
        "{id: c, when: {detect: credit_card}, do: mask, with: redact}"
    )
    assert show(made, "public.u.pan", CARD) == REDACTED
    assert show(made, "public.u.pan", "no card here") == "********here"


def test_other_conditions_of_a_mask() -> None:
    text = "{id: m, when: {column: public.u.ssn, user: 'app*'}, do: mask}"
    assert show(plan(text, facts(table="public.u", user="app1")), "public.u.ssn", "x") == REDACTED
    assert show(plan(text, facts(table="public.u", user="dba")), "public.u.ssn", "x") == "x"
    assert show(plan(text, facts("user", table="public.u")), "public.u.ssn", "x") == REDACTED


def test_masks_of_another_process_do_not_apply_and_of_one_in_doubt_do() -> None:
    rules = policy("rules: [{id: m, who: acme, when: {column: ssn}, do: mask}]")
    assert not rules.masks((), DB)
    assert rules.masks(("?",), DB)
    assert rules.masks(("acme-psql", "acme"), DB)


REDACTS = [(facts(effect="session"), False), (facts(table="public.t"), True), (facts("effect"), True)]


@pytest.mark.parametrize(("said", "redacted"), REDACTS)
def test_errors_are_redacted_where_a_detector_masks(said: Facts, redacted: bool) -> None:
    masks = policy("rules: [{id: c, when: {detect: credit_card}, do: mask}]").masks(ACME, DB)
    assert masks.redacts(said) is redacted
    assert masks.touches(said) is False


def test_a_plan_has_room_for_what_is_known_of_a_copy() -> None:
    assert plan(HIDE).copy is None
