"""Rows that are masked, definitions that allow for it, answers that are redacted."""

import struct

import pytest

from appliance.model import Column, ProtocolError
from appliance.wire import Cell, Plan
from appliance.wire.mysql import MySQL
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql.packets import FULL
from tests.wire.mysql.build import (
    BASE,
    BLOB,
    CURSOR,
    DATETIME,
    JSON,
    LONG,
    LONGLONG,
    MARIADB,
    MODERN,
    MORE,
    TINY,
    C,
    S,
    binary_row,
    column,
    down,
    end,
    error,
    execute,
    fetch,
    logged_in,
    ok,
    p,
    prepare,
    prepared,
    ps,
    query,
    result,
    row,
    string,
    up,
    variable,
)

WITHHELD = "message withheld by vendorgate"


def hide(text: str) -> str | None:
    return "#" * len(text)


def plan_for(*names: str, cell: Cell = hide) -> Plan:
    return lambda columns: [cell if "*" in names or column.name in names else None for column in columns]


def allow(wire: MySQL, data: bytes, plan: Plan | None = None, redact: bool = False) -> None:
    for message in wire.feed(C, data):
        wire.allow(message, plan, redact)


def text_cell(kind: int, value: bytes, cell: Cell, **more: int) -> bytes | None:
    """Mask one value of a text row; return it as it goes down."""
    wire = logged_in()
    allow(wire, query("x"), plan_for("n", cell=cell))
    raw = down(wire, result([column("n", kind, **more)], [row(value)]))  # type: ignore[arg-type]
    packets = split(raw)
    return None if packets[2] == b"\xfb" else packets[2][1:]


def binary_cell(kind: int, value: bytes, cell: Cell, **more: int) -> bytes | None:
    """Mask one value of a binary row; return it as it goes down, with its length."""
    wire = logged_in()
    up(wire, prepare("x"))
    down(wire, ps(prepared(1)))
    allow(wire, execute(1), plan_for("n", cell=cell))
    raw = down(wire, result([column("n", kind, **more)], [binary_row(value)]))  # type: ignore[arg-type]
    packets = split(raw)
    return None if packets[2][1] & 4 else packets[2][2:]


def split(raw: bytes) -> list[bytes]:
    found = []
    while raw:
        size = int.from_bytes(raw[:3], "little")
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found


def test_masked_rows_of_a_query() -> None:
    for capabilities in (MODERN, BASE):
        wire = logged_in(capabilities)
        allow(wire, query("x"), plan_for("b"))
        columns = [column("a"), column("b")]
        said = list(wire.feed(S, result(columns, [row("1", "xyz"), row("2", None), row("3", "")], capabilities=capabilities)))
        assert [m.kind for m in said] == ["describe", "row", "complete"]
        assert split(said[1].raw) == [row("1", "###"), row("2", None), row("3", "")]
        assert (said[1].count, said[1].masked, said[2].status) == (3, 1, "ROWS 3")


def test_a_plan_is_given_origins_and_places() -> None:
    seen: list[Column] = []

    def plan(columns: tuple[Column, ...]) -> list[Cell | None]:
        seen.extend(columns)
        return [None] * len(columns)

    wire = logged_in()
    allow(wire, query("x"), plan)
    first = [column("a", LONG), column("x", origin="ssn", table="us.ers"), column("now()", schema="", table="", origin="")]
    down(wire, result(first, [], MORE | 2) + result([column("b")], [], first=6))
    assert [(c.name, c.origin, c.type, c.result, c.place) for c in seen] == [
        ("a", "shop.t.a", LONG, 0, 0),
        ("x", 'shop."us.ers".ssn', 253, 0, 1),
        ("now()", "", 253, 0, 2),
        ("b", "shop.t.b", 253, 1, 0),
    ]
    assert all(c.table == 0 and not c.binary for c in seen)


def test_a_plan_that_leaves_the_result() -> None:
    answer = result([column("n", flags=1)], [row("1")])
    for plan in (lambda columns: None, lambda columns: [None]):
        wire = logged_in()
        allow(wire, query("x"), plan)
        assert down(wire, answer) == answer


def test_a_plan_of_another_width_is_our_fault() -> None:
    wire = logged_in()
    allow(wire, query("x"), lambda columns: [hide, hide])
    with pytest.raises(ValueError, match="a plan of 2 cells"):
        down(wire, result([column("n")], []))


def test_what_may_become_null_is_told_to_be_nullable() -> None:
    wire = logged_in()
    allow(wire, query("x"), plan_for("a"))
    said = list(wire.feed(S, ps(b"\2", column("a", LONG, flags=1 | 2 | 0x8000), column("b", LONG, flags=1))))
    assert said[0].raw == ps(b"\2", column("a", LONG, flags=2 | 0x8000), column("b", LONG, flags=1))
    wire = logged_in()
    allow(wire, prepare("x"), plan_for("a"))
    answer = list(wire.feed(S, ps(prepared(1, 2), column("a", flags=1), column("b", flags=1))))
    assert answer[1].raw == p(column("a"), 2) + p(column("b", flags=1), 3)


@pytest.mark.parametrize(
    ("kind", "value", "new", "expected"),
    [
        (253, b"abc", "xyz", b"xyz"),
        (LONG, b"123", "45", b"45"),
        (LONG, b"123", "***", None),
        (LONG, b"123", "99999999999", None),
        (TINY, b"1", "300", None),
        (LONGLONG, b"123", "-5", b"-5"),
        (246, b"1.50", "2.75", b"2.75"),
        (246, b"1.50", "x", None),
        (4, b"1.5", "2.5e3", b"2.5e3"),
        (5, b"1.5", "nan", None),
        (10, b"2020-02-03", "1970-01-01", b"1970-01-01"),
        (10, b"2020-02-03", "1970-13-01", None),
        (10, b"2020-02-03", "********03", None),
        (DATETIME, b"2020-02-03 04:05:06", "1970-01-01 00:00:00", b"1970-01-01 00:00:00"),
        (DATETIME, b"2020-02-03 04:05:06", "1970-01-01 24:00:00", None),
        (11, b"10:11:12", "-800:00:00", b"-800:00:00"),
        (11, b"10:11:12", "900:00:00", None),
        (13, b"2020", "1999", b"1999"),
        (16, b"\5", "1", None),
        (255, b"\0\0\0\0\1", "x", None),
        (242, b"\0\0\x80\x3f", "x", None),
        (JSON, b'{"a": 1}', "hidden", b'"hidden"'),
        (JSON, b'{"a": 1}', '{"b": 2}', b'{"b": 2}'),
        (BLOB, b"text", "new", b"new"),
        (253, b"abc", None, None),
        (77, b"abc", "x", None),
    ],
)
def test_a_masked_text_is_a_value_of_its_type(kind: int, value: bytes, new: str | None, expected: bytes | None) -> None:
    assert text_cell(kind, value, lambda text: new) == expected


@pytest.mark.parametrize(
    ("kind", "value", "seen", "new", "expected"),
    [
        (253, string(b"abc"), "abc", "xyz", string(b"xyz")),
        (LONG, b"\x7b\0\0\0", "123", "45", b"\x2d\0\0\0"),
        (LONG, b"\xff\xff\xff\xff", "-1", "***", None),
        (TINY, b"\x80", "-128", "127", b"\x7f"),
        (2, b"\x7b\0", "123", "99999", None),
        (9, b"\xff\xff\xff\xff", "-1", "8388607", b"\xff\xff\x7f\0"),
        (LONGLONG, b"\1" + bytes(7), "1", "2", b"\2" + bytes(7)),
        (13, b"\xe4\7", "2020", "1999", b"\xcf\7"),
        (4, struct.pack("<f", 1.5), "1.5", "2.5", struct.pack("<f", 2.5)),
        (5, struct.pack("<d", 1.5), "1.5", "2.5", struct.pack("<d", 2.5)),
        (246, string(b"1.50"), "1.50", "2.75", string(b"2.75")),
        (10, b"\4\xe4\7\2\3", "2020-02-03", "1970-01-01", b"\4\xb2\7\1\1"),
        (10, b"\0", "0000-00-00", "x", None),
        (DATETIME, b"\7\xe4\7\2\3\4\5\6", "2020-02-03 04:05:06", "1970-01-01 00:00:00.5", b"\x0b\xb2\7\1\1\0\0\0\x20\xa1\7\0"),
        (7, b"\x0b\xe4\7\2\3\4\5\6\1\0\0\0", "2020-02-03 04:05:06.000001", "x", None),
        (11, b"\x08\0\0\0\0\0\x0a\x0b\x0c", "10:11:12", "-26:00:00", b"\x08\1\1\0\0\0\2\0\0"),
        (11, b"\0", "00:00:00", "x", None),
        (16, string(b"\1\0"), "256", "1", None),
        (JSON, string(b'{"a": 1}'), '{"a": 1}', "hidden", string(b'"hidden"')),
        (255, string(b"\0\0"), "\0\0", "x", None),
    ],
)
def test_a_masked_binary_value_is_one_of_its_type(
    kind: int, value: bytes, seen: str, new: str, expected: bytes | None
) -> None:
    shown: list[str] = []

    def cell(text: str) -> str:
        shown.append(text)
        return new

    assert binary_cell(kind, value, cell) == expected
    assert shown == [seen]
    assert binary_cell(kind, value, lambda text: text) == value, "what a mask leaves stays as it came"


def test_unsigned_numbers() -> None:
    assert text_cell(LONG, b"4294967295", lambda text: "4294967294", flags=32) == b"4294967294"
    assert text_cell(LONG, b"1", lambda text: "-1", flags=32) is None
    assert binary_cell(LONG, b"\xff" * 4, lambda text: text if text == "4294967295" else None, flags=32) == b"\xff" * 4


def test_character_sets_of_cells() -> None:
    assert text_cell(253, b"caf\xe9", lambda text: text.upper(), charset=8) == b"CAF\xc9"
    assert text_cell(253, b"caf\xe9\x81", lambda text: text.upper(), charset=8) == b"CAF\xc9\x81"
    assert text_cell(253, b"caf\xe9", lambda text: "€", charset=8) == b"\x80"
    assert text_cell(253, b"n", lambda text: "😀", charset=28) is None, "not GBK"
    assert text_cell(253, "日".encode("gbk"), lambda text: "本" if text == "日" else None, charset=28) == "本".encode("gbk")
    assert text_cell(253, "né".encode("utf-16-be"), lambda text: text * 2, charset=54) == "néné".encode("utf-16-be")
    assert text_cell(253, b"x\xff", lambda text: "y", charset=45) is None, "no UTF-8: not shown, so not left"
    assert text_cell(BLOB, b"\xff\xfe", lambda text: text[::-1], charset=63) == b"\xfe\xff"
    assert text_cell(253, b"x", lambda text: "y", charset=9999) == b"y"
    assert text_cell(253, b"x", lambda text: "y", charset=1070) == b"y", "without padding"


def test_json_that_hides_in_escapes() -> None:
    def cell(text: str) -> str:
        return text.replace("4111", "****")

    assert text_cell(JSON, b'{"a": "\\u0034\\u0031\\u0031\\u0031"}', cell, charset=63) == b'{"a": "****"}'
    assert text_cell(JSON, b'{"a": "b\\n"}', cell) == b'{"a": "b\\n"}'


def test_mariadb_types_with_rules_of_their_own() -> None:
    for extended, expected in ((b"\1\4json", string(b'"##"')), (b"\0\4uuid", b"\xfb"), (b"", string(b"##"))):
        wire = logged_in(MARIADB)
        allow(wire, query("x"), plan_for("n"))
        raw = down(wire, ps(b"\1\1", column("n", extended=extended), row("ab"), end()))
        assert split(raw)[2] == expected


def test_masked_binary_rows_and_their_nulls() -> None:
    wire = logged_in()
    up(wire, prepare("x"))
    down(wire, ps(prepared(1)))
    columns = [column("a", LONG), *[column(f"c{i}") for i in range(7)], column("z", LONG)]
    allow(wire, execute(1), plan_for("a", "c3", "z", cell=lambda text: "x"))
    cells = [b"\1\0\0\0", None, *[string(b"v%d" % i) for i in range(1, 7)], b"\2\0\0\0"]
    raw = down(wire, result(columns, [binary_row(*cells)]))
    assert split(raw)[10] == binary_row(None, None, string(b"v1"), string(b"v2"), string(b"x"), *cells[5:8], None)


def test_rows_of_a_cursor_take_the_plan_of_their_execution() -> None:
    wire = logged_in()
    up(wire, prepare("x"))
    down(wire, ps(prepared(1, 1), column("n")))
    allow(wire, execute(1, flags=1), plan_for("n"))
    down(wire, ps(b"\1", column("n"), end(2 | CURSOR)))
    up(wire, fetch(1))
    assert split(down(wire, ps(binary_row(string(b"abc")), end(2 | CURSOR))))[0] == binary_row(string(b"###"))
    allow(wire, fetch(1), plan_for("n", cell=lambda text: "other"))
    assert split(down(wire, ps(binary_row(string(b"abc")), end())))[0] == binary_row(string(b"other"))


def test_rows_of_a_cursor_that_is_not_known_are_not_let_through() -> None:
    wire = logged_in()
    allow(wire, fetch(7), plan_for("n"))
    with pytest.raises(ProtocolError, match="without a description"):
        down(wire, p(binary_row(string(b"abc")), 1))


def test_definitions_that_were_told_before() -> None:
    wire = logged_in(MARIADB)
    up(wire, prepare("x"))
    down(wire, ps(prepared(1, 1), column("n", extended=b"")))
    allow(wire, execute(1), plan_for("n"))
    assert split(down(wire, ps(b"\1\0", binary_row(string(b"abc")), end())))[1] == binary_row(string(b"###"))
    wire = logged_in(MARIADB)
    allow(wire, execute(1), plan_for("", "*"))
    with pytest.raises(ProtocolError, match="without a description"):
        down(wire, ps(b"\1\0", binary_row(string(b"abc")), end()))


def test_a_text_row_without_definitions_becomes_null_where_masked() -> None:
    for capabilities in (MODERN | caps.OPTIONAL_METADATA, BASE | caps.OPTIONAL_METADATA):
        wire = logged_in(capabilities)
        allow(wire, query("x"), lambda columns: [None, hide if columns[1].name == "" else None])
        marks = [] if capabilities & caps.DEPRECATE_EOF else [b"\xfe\0\0\2\0"]
        raw = down(wire, ps(b"\2\0", *marks, row("a", "b"), end(capabilities=capabilities)))
        assert row("a", None) in split(raw)


def test_masked_rows_that_do_not_fit() -> None:
    for bad in (row("1", "2"), b"\5x", b"\1", b"\xff", row("1") + b"x"):
        wire = logged_in()
        allow(wire, query("x"), plan_for("n"))
        try:
            down(wire, ps(b"\1", column("n"), bad))
        except ProtocolError:
            continue
        raise AssertionError(bad)
    for bad in (b"\0", b"\1\0", b"\0\0\5x", b"\0\0\1xy"):
        wire = logged_in()
        up(wire, prepare("x"))
        down(wire, ps(prepared(1)))
        allow(wire, execute(1), plan_for("n"))
        with pytest.raises(ProtocolError):
            down(wire, ps(b"\1", column("n"), bad))


def test_a_row_of_two_packets_that_fits_into_one_when_masked() -> None:
    """The numbers of all packets behind it change, for the client."""
    big = string(b"x" * FULL)
    for cell, count in ((lambda text: "short", 1), (lambda text: text.upper(), 2)):
        wire = logged_in()
        allow(wire, query("x"), plan_for("n", cell=cell))
        answer = ps(b"\1", column("n"), big[:FULL], big[FULL:], row("y"), end(MORE | 2)) + result([column("m")], [], first=7)
        raw = down(wire, answer)
        numbers = []
        while raw:
            numbers.append(raw[3])
            raw = raw[4 + int.from_bytes(raw[:3], "little") :]
        assert numbers == list(range(1, 8 + count))
        assert wire.idle


def test_redacted_errors() -> None:
    for number, text in ((1062, f"duplicate entry for a key ({WITHHELD})"), (9999, WITHHELD)):
        wire = logged_in()
        allow(wire, query("x"), redact=True)
        (said,) = wire.feed(S, p(error(number, "23000", "Duplicate entry '123-45-6789'"), 1))
        assert said.raw == p(error(number, "23000", text), 1)
        assert (said.text, said.status, said.name) == (text, "23000", str(number))
        up(wire, query("x"))
        assert down(wire, p(error(), 1)) == p(error(), 1)


def test_redacted_info_and_session_state() -> None:
    safe = [variable("autocommit", "ON"), (1, string(b"shop"))]
    changes = [*safe, variable("time_zone", "+01:23"), (6, string(b"v") + string(b"s3cret"))]
    for info, kept in ((b"Rows matched: 1  Changed: 1  Warnings: 0", True), (b"s3cret", False), (b"(3 warnings)", True)):
        wire = logged_in()
        allow(wire, query("x"), redact=True)
        said = list(wire.feed(S, p(ok(1, info=info, changes=changes), 1)))
        assert said[-1].raw == p(ok(1, info=info if kept else b"", changes=safe), 1)
        assert ("time_zone", "+01:23") in [(m.name, m.status) for m in said]
    wire = logged_in()
    allow(wire, query("x"), redact=True)
    assert down(wire, p(ok(changes=[variable("time_zone", "+01:23")]), 1)) == p(ok(), 1)
    wire = logged_in(BASE)
    allow(wire, query("x"), redact=True)
    assert down(wire, p(ok(info=b"s3cret", capabilities=BASE), 1)) == p(ok(capabilities=BASE), 1)


def test_messages_are_values() -> None:
    """The caller may keep a message after more bytes came."""
    wire = logged_in()
    up(wire, query("x"))
    answer = result([column("n")], [row("1")])
    first = list(wire.feed(S, answer[:-3]))
    raw = b"".join(m.raw for m in first)
    down(wire, answer[-3:])
    assert b"".join(m.raw for m in first) == raw


def test_definitions_that_are_none() -> None:
    for bad in (column("n").replace(b"\x0c\x2d", b"\x0d\x2d"), column("n")[:-5], b"\xfb" * 6):
        wire = logged_in()
        up(wire, query("x"))
        with pytest.raises(ProtocolError):
            down(wire, ps(b"\1", bad))


def test_masks_that_leave_or_take_all() -> None:
    for kind, value in ((LONG, b"12"), (246, b"1.5"), (JSON, b"{}"), (BLOB, b"x"), (16, b"\5"), (255, b"\0")):
        assert text_cell(kind, value, lambda text: text, charset=63) == value
        assert text_cell(kind, value, lambda text: None, charset=63) is None
    for kind, value in ((LONG, b"\1\0\0\0"), (10, b"\4\xe4\7\2\3"), (16, string(b"\5"))):
        assert binary_cell(kind, value, lambda text: None) is None
    assert binary_cell(10, b"\3\xe4\7\2", lambda text: text) is None, "no date: not shown, so not left"
    assert binary_cell(11, b"\3\xe4\7\2", lambda text: text) is None
    assert text_cell(LONG, b"\xff", lambda text: text) is None


def test_an_empty_packet_among_rows() -> None:
    for plan in (None, plan_for("n")):
        wire = logged_in()
        allow(wire, query("x"), plan)
        with pytest.raises(ProtocolError, match="empty packet"):
            down(wire, ps(b"\1", column("n"), row("1"), b""))
