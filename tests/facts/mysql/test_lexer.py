"""What a text is cut into, for every setting that decides it. The real server says the same: tests/evasion/mysql/."""

import pytest

from appliance.facts.mysql.lexer import MAX_CHOICES, MAX_READ, MAX_TEXT, MAX_TOKENS, UNSAFE, Mode, Unreadable, readings

ANSI = Mode(ansi_quotes=True)
BARE = Mode(backslash=False)
UNKNOWN = Mode(known=False, charset="")


def cut(text: str, mode: Mode = Mode()) -> str:  # noqa: B008 (it is frozen)
    """Return the tokens, with "|" between different readings."""
    return " | ".join(" ".join(t.text if t.key != "<string>" else f"<{t.text}>" for t in r) for r in readings(text, mode))


CASES = {
    "select 1--1": "select 1 - - 1",
    "select 1-- 1\n, 2": "select 1 , 2",
    "select 1--\t1\n, 2": "select 1 , 2",
    "select 1--\x011\n, 2": "select 1 , 2",
    "select 1 --": "select 1",
    "select 1 # drop\n, 2": "select 1 , 2",
    "select 1 /* drop */ , 2": "select 1 , 2",
    "select /* /* */ 1": "select 1",
    "select /*/ 1 */ 2": "select 2",
    "select /*! 1, */ 2": "select 1 , 2",
    "select /*!40101 1, */ 2": "select 1 , 2",
    "select /*!50000 1, */ 2": "select 1 , 2 | select 2",
    "select /*!100100 1, */ 2": "select 1 , 2 | select 0 1 , 2 | select 2",
    "select /*M!100100 1, */ 2": "select 1 , 2 | select 0 1 , 2 | select 2",
    "select /*M! 1, */ 2": "select 1 , 2 | select 2",
    "select /*! 1 /* x */ , */ 2": "select 1 , 2",
    "select /*! '*/' */ 2": "select <*/> 2",
    "sel/**/ect 1": "sel ect 1",
    "select 1e1from t": "select 1e1 from t",
    "select 1.from t": "select 1. from t",
    "select 1.5e+3, .5, 1e-2, 1.e1": "select 1.5e+3 , .5 , 1e-2 , 1.e1",
    "select 0x41, 0b01, x'41', B'01', 0X41, 0x4g, 1a": "select 0x41 , 0b01 , x'41' , B'01' , 0X41 , 0x4g , 1a",
    "select t.1e5, t.5, t.select": "select t . 1e5 , t . 5 , t . select",
    "select 'a''b', 'a\\'b', \"a\", 'a' 'b'": "select <a''b> , <a\\'b> , <a> , <a> <b>",
    "select `a``b`, ``` `": "select a`b , ` ",
    "select @a, @`b c`, @'d', @e.f, @@g, @@session.h, @@`i`": "select a , b c , d , e.f , g , session.h , i",
    "select \\N, a->>'$.b', a:=1, a<=>b": "select NULL , a ->> <$.b> , a := 1 , a <=> b",
    "select _utf8'x', n'y', N'z'": "select _utf8 <x> , <y> , <z>",
    "a@b 'u'@'h'": "a b <u> h",
    "select {d '2020-01-01'}": "select { d <2020-01-01> }",
    "select straße": "select straße",
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_tokens(text: str) -> None:
    assert cut(text) == CASES[text]


def test_a_variable_in_quotes_is_cut_as_what_they_quote() -> None:
    text = 'select @"a\\", b -- "'
    assert [cut(text), cut(text, ANSI), cut(text, BARE)] == ['select a\\", b -- ', "select a\\ , b", "select a\\ , b"]
    assert cut("select @`a\\`, @'b\\', c'") == "select a\\ , b\\', c"


NARROW = {
    "a variable": "select @a\xa0union\xa0select\xa0x",
    "a variable of the server": "select @@a\xa0union\xa0select\xa0x",
    "a quoted variable": "select @`a\xa0`",
    "a name that begins with a digit": "select 1a\xa0from\xa0t",
    "a name behind a dot": "select t.1a\xa0from\xa0t",
    "a word": "select a\xa0from\xa0t",
    "a quoted name": "select `\xa0`",
}


@pytest.mark.parametrize("name", NARROW)
def test_words_end_at_spaces_that_other_charsets_have(name: str) -> None:
    for charset in ("latin1", "cp1251", "greek"):
        with pytest.raises(Unreadable, match="not of ASCII"):
            cut(NARROW[name], Mode(charset=charset))
        assert cut("select '\xa0' # \xa0", Mode(charset=charset)) == "select <\xa0>"
    assert len(readings(NARROW[name], Mode())) == 1


def test_a_charset_with_letters_where_ascii_has_signs() -> None:
    with pytest.raises(Unreadable, match="swe7"):
        cut("select a^b", Mode(charset="swe7"))


@pytest.mark.parametrize("text", ["/*! select 1; select 2 */* 1 # */ 3", "select 1 /*!50000 ; drop table t */", "/*M! ; */"])
def test_a_statement_does_not_end_in_a_comment_that_is_executed(text: str) -> None:
    """What follows would begin outside of the comment on one server, and inside on another."""
    with pytest.raises(Unreadable, match="ends in a comment"):
        cut(text)


def test_max_read() -> None:
    """Each choice is a text of its own: four of them had 121 looked through."""
    words = "select" + " 1" * (MAX_READ // 4)
    assert len(readings(words + " /*!99999 */", Mode())) == 2
    with pytest.raises(Unreadable, match="too long for the comments"):
        readings(words + " /*!99999 */" * 2, Mode())
    assert len(readings("select" + " 1" * (MAX_READ + 1), Mode())) == 1


def test_a_string_that_only_some_servers_see_is_not_read() -> None:
    """Executed, the comment holds a string; skipped, what follows it is one without an end."""
    with pytest.raises(Unreadable, match="without an end"):
        cut("select /*!50000 '*/' */ , 2")


UNREADABLE = {
    "select /* x": "comment without an end",
    "select /*! x": "comment without an end",
    "select /*!50000 /* x */ 1 */": "comment",
    "select /*!123 x */": "version",
    "select /*! /*! 1 */ */": "executed comment in another",
    "select /*! -- */\n */": "executed comment",
    "select 'x": "without an end",
    "select 'x''": "without an end",
    "select `x": "without an end",
    "select ``": "quoted name",
    "select 1.e(1)": "different places",
    "select 1.5.5": "different places",
    "select \x01": "no token",
    "select 1\0; drop table t": "no token",
    "select 1 -- \0drop table t": "zero byte",
    "select @@": "without a name",
    "select x'4'": "no number",
    "select /*+ SET_VAR(sql_mode='') */ 1": "hint",
    "select '\udcff'": "not utf8mb4",
}  # fmt: skip


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_not_certain_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable, match=UNREADABLE[text]):
        readings(text, Mode())


def test_ansi_quotes() -> None:
    assert cut('select "a""b", \'c\'', ANSI) == 'select a"b , <c>'
    assert [t.key for t in readings('select "a"', ANSI)[0]] == ["SELECT", "<name>"]


def test_no_backslash_escapes() -> None:
    assert cut("select 'a\\', 'b'", BARE) == "select <a\\> , <b>"
    with pytest.raises(Unreadable):
        cut("select 'a\\', 'b'")


@pytest.mark.parametrize("text", ['select "a"', "select 'a\\'b'"])
def test_unknown_sql_mode(text: str) -> None:
    with pytest.raises(Unreadable, match="sql_mode"):
        cut(text, UNKNOWN)


def test_unknown_sql_mode_where_it_does_not_matter() -> None:
    assert cut("select 'a', `b`", UNKNOWN) == "select <a> , b"


@pytest.mark.parametrize("mode", ["ORACLE", "MSSQL"])
def test_grammars_of_other_databases(mode: str) -> None:
    with pytest.raises(Unreadable, match=mode):
        cut("select 1", Mode(foreign=mode))


@pytest.mark.parametrize("charset", [*UNSAFE, ""])
def test_charsets_whose_characters_hold_quotes(charset: str) -> None:
    assert cut("select 'a'", Mode(charset=charset)) == "select <a>"
    with pytest.raises(Unreadable, match="quote"):
        cut("select '誠'", Mode(charset=charset))


def test_names_in_other_charsets() -> None:
    """In latin1 the byte A0 is a space, and which bytes are letters depends on the charset."""
    assert cut("select 'ä'", Mode(charset="latin1")) == "select <ä>"
    for text in ("select\u00a01", "select `ä`"):
        with pytest.raises(Unreadable):
            cut(text, Mode(charset="latin1"))


def test_letters_that_look_like_others_are_no_keywords() -> None:
    assert [t.key for t in readings("ſelect", Mode())[0]] == ["<name>"]
    assert [t.key for t in readings("ＳＥＬＥＣＴ", Mode())[0]] == ["<name>"]


def test_limit_of_text() -> None:
    assert readings("a" * MAX_TEXT, Mode())
    with pytest.raises(Unreadable, match="longer"):
        readings("a" * (MAX_TEXT + 1), Mode())


def test_limit_of_tokens() -> None:
    assert readings("," * MAX_TOKENS, Mode())
    with pytest.raises(Unreadable, match="words"):
        readings("," * (MAX_TOKENS + 1), Mode())


def test_limit_of_choices() -> None:
    assert len(readings("/*!50000 a */" * MAX_CHOICES, Mode())) == 2**MAX_CHOICES
    with pytest.raises(Unreadable, match="comments"):
        readings("/*!50000 a */" * (MAX_CHOICES + 1), Mode())
