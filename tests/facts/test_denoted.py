"""Constants that stand for something else than is written: detectors look at what they stand for."""

import pytest

from appliance.facts import decimals
from appliance.facts.readers import denoted

POSTGRES = {
    r"select E'\x34\61\u00311'": "4111",
    r"select U&'4\00311', U&'4!0031' uescape '!'": "411\n41",
    "select '41'\n  '11'": "4111",
    "select '41' -- and\n '11'": "4111",
    "select '41' || '11', ('a'::text) || /* ' /* */ */ $$b$$ || $x$c$x$": "4111\nabc",
    "select a || 'x' || b || 'y'": "",
    "select 41 || '11', 4_1, 0x1f, 0b11, 1.5e1": "4111\n41\n31\n3\n15",
    r"select '\x34313131'": "\\x34313131\n4111",
    r"select E'\\x34313131'": "\\x34313131\n4111",
    "select 'O''Brien', $$it's$$": "O'Brien\nit's",
    "select 'plain', \"a''b\", 1, '$1', 1.5": "",
    "select 1e999999999, 1e70": "1e999999999\n1e70",
    "select 'no end''": "",
    "select U&'\\12'": "",
}
MYSQL = {
    r"select '\4\1\11', 'a\'b', 'a\nb\%'": "4111\na'b\na\nb\\%",
    "select '41' '11', '41' /* ' */ '11', '41' # '\n\"11\"": "4111\n4111\n4111",
    "select 0x34313131, x'3431', X'3431', b'00110100', 0b110100": "4111\n875639089\n41\n13361\n41\n13361\n4\n52\n4\n52",
    "select _utf8mb4'41' '11', _latin1 0x3431, n'4' '1'": "4111\n41\n13361\n41",
    "select '41' || ('11') || a || 'b'": "4111",
    "select '41' /*! '11' */": "4111",
    "select 'O''Brien', \"say \"\"no\"\"\"": "O'Brien\nsay \"no\"",
    "select 'plain', `a''b`, 1, 'x', 'y'": "",
    "select 41e2": "4100",
    "select 'no end''": "no end'",
}


@pytest.mark.parametrize("text", POSTGRES)
def test_postgres(text: str) -> None:
    assert denoted("postgres", text) == POSTGRES[text]


@pytest.mark.parametrize("text", MYSQL)
def test_mysql(text: str) -> None:
    assert denoted("mysql", text) == MYSQL[text]


def test_others_have_none() -> None:
    assert denoted("redis", "SET a '4'||'1'") == denoted("gopher", "") == ""


def test_limit_of_digits_that_are_written_out() -> None:
    assert decimals.written(f"1e{decimals.MAX_DIGITS - 1}") == "1" + "0" * (decimals.MAX_DIGITS - 1)
    assert decimals.written(f"1e{decimals.MAX_DIGITS}") == f"1e{decimals.MAX_DIGITS}"
