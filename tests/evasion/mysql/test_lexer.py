"""What our lexer makes of a text against what a real MariaDB makes of it.

The server tells how it cut a text by what it answers: how many columns, which values. So texts are made of the pieces
scanners disagree on, at random but the same ones each time, and whatever we say is known must be what the server says.
"""

import random
from collections import Counter
from collections.abc import Iterator

import pymysql
import pytest

from appliance.facts.mysql.lexer import Mode
from appliance.facts.mysql.read import read
from appliance.facts.mysql.world import World
from appliance.lab.servers import MariaDB

pytestmark = pytest.mark.peer

MODES = {
    "": Mode(),
    "ANSI_QUOTES": Mode(ansi_quotes=True),
    "NO_BACKSLASH_ESCAPES": Mode(backslash=False),
    "IGNORE_SPACE": Mode(ignore_space=True),
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES": Mode(ansi_quotes=True, backslash=False),
}

KNOWN = {
    "select 1--1": [(2,)],
    "select 1-- 1": [(1,)],
    "select 1--\x011\n+1": [(2,)],
    "select 1 # 1\n+1": [(2,)],
    "select /*! 1 + */ 1": [(2,)],
    "select /*!50000 1 + */ 1": [(2,)],
    "select /*!50701 1 + */ 1": [(1,)],
    "select /*M!100100 1 + */ 1": [(2,)],
    "select /*M!999999 1 + */ 1": [(1,)],
    "select /* /* */ 1": [(1,)],
    "select 1e1from dual": [(10.0,)],
    "select 'a' 'b'": [("ab",)],
    "select 'a''b\\'c'": [("a'b'c",)],
    "select \\N": [(None,)],
    "select t.`a` from (select 3 a) t": [(3,)],
    "select t . a from (select 3 a) t": [(3,)],
    "select 1a from (select 3 as 1a) t": [(3,)],
    "select t.1a from (select 3 as 1a) t": [(3,)],
    "select x'41', 0x41, b'01000001', n'A'": [(b"A", b"A", b"A", "A")],
    "select 1 as `a``b`": [(1,)],
    "select sel.ect from (select 1 ect) sel": [(1,)],
}

WRONG = ["select 1 /* x", "select 1 /*! x", "select 1.e(1)", "select 'x", "select `x", "select 1 */ 2", "select 0X41", "select now ()", "select count (*) from dual"]

PIECES = ["1", "2", "'a'", '"b"', "'a''b'", "'a\\'b'", '"a\\"b"', "`x`", "x", "t.x", "`t`.x", "t.`x`", "1e1", "1.", ".5", "1.5", "0x41", "x'41'", ",", ",", ",", "+", "-", "--", "-- ", "--\n", "#\n", "# \n", "/* */", "/* , */", "/*! , */", "/*!50000 , 1 */", "/*!99999 , 1 */", "/*M!100100 , 1 */", "/*!50701 , 1 */", "*/", "/*", "(", ")", "as", "y", "'", '"', "`", "\\", "\n", ";", " ", "  ", "\t", "count(*)", "now()", "now ()", "lower('A')", "case when 1 then 2 end", "null", "\\N", "n'x'", "_utf8'x'", "@a", "@a := 1", "@'a'", '@"a"', "@'a\\'", '@"a\\"', "@`a\\`", '"a\\", ', "'b\\', ", "@@sql_mode", "in (1, 2)", "like 'a'", "is null", "between 1 and 2", "collate utf8mb4_bin", "distinct", "(select 1)", "(select 1, 2)", "union select 1", "limit 1", "from t", "where 1", "order by 1", "group by 1", "having 1"]  # fmt: skip


@pytest.fixture(scope="module")
def link(mariadb: MariaDB) -> Iterator[pymysql.Connection]:  # type: ignore[type-arg]
    connection = pymysql.connect(host="127.0.0.1", port=mariadb.port, user="tester", password="secret", autocommit=True)
    mariadb.admin("create database if not exists lexer; create table if not exists lexer.t (x int); insert into lexer.t values (1)")
    connection.select_db("lexer")
    yield connection
    connection.close()


def rows(link: pymysql.Connection, text: str) -> list[tuple[object, ...]]:  # type: ignore[type-arg]
    with link.cursor() as cursor:
        cursor.execute(text)
        return list(cursor.fetchall())


@pytest.mark.parametrize("text", KNOWN)
def test_the_server_reads_it_so(link: pymysql.Connection, text: str) -> None:  # type: ignore[type-arg]
    rows(link, "set sql_mode = ''")
    assert rows(link, text) == KNOWN[text]
    reading = read(text, World(Mode(), "lexer"))
    assert not reading.unknown or "!" in text
    assert reading.values["effect"] == {"read"}


@pytest.mark.parametrize("text", WRONG)
def test_the_server_does_not_read_it(link: pymysql.Connection, text: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(pymysql.err.MySQLError):
        rows(link, text)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_known_is_what_the_server_says(link: pymysql.Connection, mode: str) -> None:  # type: ignore[type-arg]
    """Number of columns, of each text that both read; and where the server takes only one statement, so do we."""
    chance = random.Random(f"vendorgate {mode}")
    world = World(MODES[mode], "lexer")
    seen: Counter[str] = Counter()
    rows(link, f"set sql_mode = '{mode}'")
    for _ in range(4_000):
        text = "select " + "".join(chance.choice((" ", "")) + chance.choice(PIECES) for _ in range(chance.randint(1, 7)))
        reading = read(text, world)
        try:
            with link.cursor() as cursor:
                cursor.execute(text)
                width = len(cursor.description or ())
        except pymysql.err.MySQLError as error:
            seen["both refuse" if reading.unknown else f"only the server refuses: {error.args[0]}"] += 1
            continue
        if reading.unknown:
            seen["only we refuse"] += 1
            continue
        seen["both read"] += 1
        assert reading.count == 1, text
        if not reading.results:  # as other servers have other results
            continue
        places = reading.results[0]
        assert places is not None, text
        assert len(places) == width or any(p.name == "*" for p in places), f"{text!r}: {len(places)} columns, the server has {width}"
    print(mode or "default", dict(seen.most_common(8)))
    assert seen["both read"] > 300
