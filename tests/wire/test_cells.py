"""Cells: what a mask sees of a value, and what goes down for what it returns; against a server's own binary forms."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Address, Column
from appliance.wire.postgres import cells
from appliance.wire.postgres.cells import remask
from appliance.wire.postgres.encodings import UTF8, Encoding
from appliance.wire.postgres.values import ARRAYS, FORMS

TEXT, VARCHAR, CHAR, INT4, INT8, BOOL, JSON, JSONB, BYTEA, UNKNOWN = (
    25,
    1043,
    18,
    23,
    20,
    16,
    114,
    3802,
    17,
    99999,
)

# type, literals of it: the server's binary form of each must read as its text, and be written as it came
ROUND = {
    "bool": ["t", "f"],
    "int2": ["-32768", "7"],
    "int4": ["2147483647", "-1"],
    "int8": ["-9223372036854775808", "4111111111111111"],
    "oid": ["4294967295"],
    "numeric": ["0", "0.00", "-1", "12345.6789", "100000000", "0.00012", "-0.5", "1e20", "NaN", "Infinity", "-Infinity",
                "99999999999999999999.000000001", "0.0001", "10000", "1234567890.1234567890"],
    "float4": ["1.5", "NaN", "Infinity", "-Infinity"],
    "float8": ["0.1", "-3.25", "NaN", "Infinity", "-Infinity", "1e+300"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "date": ["2000-01-01", "1999-12-31", "9999-12-31", "0001-01-01", "infinity", "-infinity"],
    "timestamp": ["2024-02-29 12:34:56.789012", "1970-01-01 00:00:00", "infinity", "-infinity"],
    "timestamptz": ["2024-02-29 12:34:56.789012+00", "1970-01-01 00:00:00+00", "infinity"],
    "time": ["00:00:00", "23:59:59.123456"],
    "inet": ["10.0.0.1", "10.0.0.0/8", "2001:db8::1", "2001:db8::1/64"],
    "cidr": ["10.0.0.0/8", "10.0.0.1/32", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "pg_lsn": ["16/B374D848"],
    "tid": ["(3,4)"],
    "xid": ["77"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit(5)": ["10110"],
    "varbit": ["1011", "101100111000"],
    "timetz": ["12:34:56+00", "12:34:56.5+02", "12:34:56-05:30"],
    "regclass": ["pg_class"],
    "money": ["12.34"],
    "interval": ["1 mon 2 days 00:00:03"],
    "point": ["(1.5,2)"],
    "path": ["((1,2),(3,4))"],
    "polygon": ["((1,2),(3,4))"],
    "box": ["(3,4),(1,2)"],
    "circle": ["<(1,2),3>"],
    "line": ["{1,2,3}"],
    "lseg": ["[(1,2),(3,4)]"],
}  # fmt: skip

SHOWN = {
    "timetz": ["12:34:56+00:00", "12:34:56.500000+02:00", "12:34:56-05:30"],
    "time": ["00:00:00", "23:59:59.123456"],
    "regclass": ["1259"],
    "money": ["1234"],
    "interval": ["1 mons 2 days 3000000 us"],
    "point": ["1.5,2.0"],
    "path": ["1.0,2.0,3.0,4.0"],
    "polygon": ["1.0,2.0,3.0,4.0"],
    "box": ["3.0,4.0,1.0,2.0"],
    "circle": ["1.0,2.0,3.0"],
    "line": ["1.0,2.0,3.0"],
    "lseg": ["1.0,2.0,3.0,4.0"],
}


def mask(
    data: bytes, kind: int, cell: Callable[[str], str | None], binary: bool = False, encoding: Encoding = UTF8
) -> bytes | None:
    return remask(data, Column("c", type=kind, binary=binary), cell, encoding)


def to(text: str | None) -> Callable[[str], str | None]:
    return lambda said: text


@pytest.fixture(scope="module")
def direct(people: Address) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        host=people.host, port=people.port, user="tester", password="secret", dbname="shop", autocommit=True,
        options="-c timezone=UTC -c lc_monetary=C",
    ) as db:  # fmt: skip
        yield db


def told(db: psycopg.Connection, statement: str, binary: bool) -> tuple[bytes, int]:
    result = db.pgconn.exec_params(statement.encode(), None, result_format=int(binary))
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    data = result.get_value(0, 0)
    assert data is not None
    return data, result.ftype(0)


@pytest.mark.peer
@pytest.mark.parametrize("name", ROUND)
def test_binary_forms_are_the_servers(direct: psycopg.Connection, name: str) -> None:
    for i, literal in enumerate(ROUND[name]):
        statement = f"select '{literal}'::{name}"
        text, kind = told(direct, statement, binary=False)
        data, _ = told(direct, statement, binary=True)
        shown = SHOWN[name][i] if name in SHOWN else text.decode()
        seen: list[str] = []

        def look(said: str, seen: list[str] = seen) -> str:
            seen.append(said)
            return said

        assert mask(data, kind, look, binary=True) is data
        assert mask(text, kind, look) is text
        assert seen == [shown, text.decode()]
        form = FORMS[kind]
        if form.write is not None and name != "regclass" and "Infinity" not in literal:  # one of many forms
            assert form.write(text.decode()) == data
        assert mask(data, kind, to("no value of any type"), binary=True) is None
        assert mask(text, kind, to("no value of any type")) is None
        array = next(a for a, element in ARRAYS.items() if element == kind and a not in (22, 30))
        for binary in (False, True):
            many, oid = told(
                direct,
                f"select array[array['{literal}', null]::{name}[], array['{literal}', null]::{name}[]]",
                binary,
            )
            assert oid == array
            assert mask(many, array, look, binary) is many
            assert (
                mask(many, array, to(None), binary)
                == (
                    told(
                        direct,
                        f"select array[array[null, null]::{name}[], array[null, null]::{name}[]]",
                        binary,
                    )[0]
                )
            )


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("kind", [TEXT, VARCHAR])
def test_text(kind: int, binary: bool) -> None:
    data = "naïve".encode()
    assert mask(data, kind, lambda t: t, binary) is data
    assert mask(data, kind, lambda t: str(t.encode(), "utf-8"), binary) is data
    assert mask(data, kind, lambda t: t[::-1], binary) == "evïan".encode()
    assert mask(data, kind, to(None), binary) is None
    assert mask(data, kind, to("\0"), binary) is None
    assert mask(b"\xff", kind, lambda t: t, binary) is None


def test_text_in_other_encodings() -> None:
    assert mask("é".encode("latin-1"), TEXT, lambda t: t + "ü", encoding=Encoding.of("LATIN1")) == b"\xe9\xfc"
    assert mask(b"a", TEXT, to("表"), encoding=Encoding.of("LATIN1")) is None
    assert mask("表".encode("cp932"), TEXT, lambda t: t * 2, encoding=Encoding.of("sjis")) == "表表".encode("cp932")
    for name in ("SQL_ASCII", "EUC_TW"):
        assert mask("é".encode(), TEXT, lambda t: t + "!", encoding=Encoding.of(name)) == "é!".encode()
        assert mask(b"\xe9", TEXT, lambda t: t, encoding=Encoding.of(name)) == b"\xe9"


def test_char_holds_one_byte() -> None:
    assert mask(b"a", CHAR, to("b")) == b"b"
    assert mask(b"a", CHAR, to("bb")) is None


def test_typed_values_are_said_as_the_server_would() -> None:
    assert mask(b"t", BOOL, to("false")) == b"f"
    assert mask(b"\1", BOOL, to("false"), binary=True) == b"\0"
    assert mask(b"1", INT4, to("+05")) == b"5"
    assert mask(b"1", INT4, to("99999999999")) is None
    assert mask(b"1", 701, to("1_0")) is None
    assert mask(b"1", 1184, to("2024-01-01")) == b"2024-01-01 00:00:00+00"
    assert mask(b"1", 1184, to("2024-01-01 02:00+02:00")) == b"2024-01-01 00:00:00+00"
    assert mask(b"1", 1114, to("2024-01-01 02:00+02:00")) is None
    assert mask(b"1", 1083, to("02:00+02:00")) is None
    assert mask(b"1", 1700, to("1e5")) is None
    assert mask(b"1", 1700, to("0012.50")) == b"12.50"


def test_types_that_cannot_be_read() -> None:
    assert mask(b"happy", UNKNOWN, lambda t: t) == b"happy"
    assert mask(b"happy", UNKNOWN, to("sad")) is None
    assert mask(b"happy", UNKNOWN, lambda t: t, binary=True) is None
    assert mask(b"12", INT4, lambda t: t, binary=True) is None
    assert mask(struct.pack(">i", 9_999_999), 1082, lambda t: t, binary=True) is None
    assert mask(bytes([3, 32, 0, 16, 1, 2, 3, 4]), 869, lambda t: t, binary=True) is None
    assert mask(b"\x80\0\0", 869, lambda t: t, binary=True) is None
    assert mask(b"<a/>", 142, lambda t: t, binary=True) == b"<a/>"
    assert mask(b"<a/>", 142, to("x"), binary=True) is None


@pytest.mark.parametrize("kind", [JSON, JSONB])
@pytest.mark.parametrize("binary", [False, True])
def test_json_stays_json(kind: int, binary: bool) -> None:
    head = b"\1" if binary and kind == JSONB else b""
    data = head + b'{"a": "4111 1111", "n": [1, 2]}'
    assert mask(data, kind, lambda t: t, binary) is data
    assert mask(data, kind, lambda t: t.replace("4111", "****"), binary) == data.replace(b"4111", b"****")
    for new in ("[gone", "redacted", '{"a": }'):
        masked = mask(data, kind, to(new), binary)
        assert masked is not None
        assert json.loads(masked[len(head) :]) == new
    assert mask(data, kind, to("{}"), binary) == head + b"{}"
    assert mask(data, kind, to(None), binary) is None


def test_json_that_hides_by_escapes() -> None:
    def hide(text: str) -> str:
        return text.replace("4111", "****")

    assert (
        mask(rb'{"a": "411\u0031", "411\u0031": 1, "b": "x\n", "c": "d"}', JSON, hide)
        == b'{"a": "****", "****": 1, "b": "x\\n", "c": "d"}'
    )
    assert mask(rb'["\u0034"]', JSON, lambda t: None if t == "4" else t) == b"[null]"
    assert mask(b"1" + b'"x"', JSONB, lambda t: t, binary=True) is None
    deep = b"[" * 100_000 + b"]" * 100_000
    masked = mask(deep, JSON, lambda t: t + " ")
    assert masked is not None
    assert json.loads(masked) == deep.decode() + " "


def test_bytea() -> None:
    hide = lambda t: t.replace("4111", "****")  # noqa: E731
    assert mask(b"\\x34313131", BYTEA, hide) == b"\\x2a2a2a2a"
    assert mask(b"a\\0644111\\\\", BYTEA, lambda t: t + "!") == b"\\x" + b"a44111\\!".hex().encode()
    assert mask(b"4111", BYTEA, hide, binary=True) == b"****"
    assert mask(b"\xff4111", BYTEA, hide, binary=True) == b"\xff****"
    assert mask(b"\xff4111", BYTEA, to("表"), binary=True) is None
    assert mask(b"4111", BYTEA, to(None), binary=True) is None
    data = b"\\xzz"
    assert mask(data, BYTEA, hide) is None
    assert mask(b"4", BYTEA, hide, binary=True) == b"4"


TEXTS, INTS, BOXES, VECTOR = 1009, 1007, 1020, 22


def test_text_arrays() -> None:
    assert (
        mask(b'{a,"b,c",NULL,"NULL","q\\"\\\\"}', TEXTS, lambda t: t + "!") == b'{"a!","b,c!",NULL,"NULL!","q\\"\\\\!"}'
    )
    assert mask(b"{}", TEXTS, to("x")) == b"{}"
    assert mask(b"[2:3]={a,b}", TEXTS, lambda t: "x" if t == "a" else t) == b'[2:3]={"x",b}'
    assert mask(b"{{1,2},{3,4}}", INTS, lambda t: "nine" if t == "2" else t) == b"{{1,NULL},{3,4}}"
    assert mask(b"{(1,2),(0,0);(3,4),(0,0)}", BOXES, lambda t: t) == b"{(1,2),(0,0);(3,4),(0,0)}"
    assert mask(b"{(1,2),(0,0);(3,4),(0,0)}", BOXES, to("x")) == b"{NULL;NULL}"
    for bad in (b"nothing", b'{"no end}', b"{a\\"):
        assert mask(bad, TEXTS, lambda t: t + "!") is None
    assert mask(b"1 2", VECTOR, lambda t: t) == b"1 2"
    assert mask(b"1 2", VECTOR, to("7")) is None


def test_text_arrays_without_end_are_read_once() -> None:
    """No pattern here may take more than linear time."""
    assert mask(b"{" + b'"' + b"\\\\" * 200_000, TEXTS, lambda t: t + "!") is None
    assert mask(b"{" * 200_000, TEXTS, lambda t: t + "!") == b"{" * 200_000


def test_a_separator_of_other_arrays_is_part_of_an_element() -> None:
    assert mask(b"{;a,b;c,;}", TEXTS, to("x")) == b'{"x","x","x"}'


def test_limit_of_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements that repeat are shown to the mask once, so that braces and commas by the million are no work."""
    monkeypatch.setattr(cells, "MAX_ELEMENTS", 5)
    seen: list[str] = []
    assert mask(b"{a,b" + b",a" * 100_000 + b"}", TEXTS, lambda t: seen.append(t) or t.upper()) == b'{"A","B"' + b',"A"' * 100_000 + b"}"
    assert seen == ["a", "b"]
    assert mask(b"{a,b,c,d}", TEXTS, to("x")) is None
    assert mask(array(*[b"a", b"b"] * 1000), TEXTS, lambda t: t.upper(), binary=True) == array(*[b"A", b"B"] * 1000)
    assert mask(array(b"a", b"b", b"c", b"d", b"e", b"f"), TEXTS, to("x"), binary=True) is None


def test_values_with_a_million_escapes_take_no_memory_of_their_own() -> None:
    """What a repeat of an expression could give back was kept: 100 bytes for each escape."""
    run = "import resource; from tests.wire.test_cells import *; look = lambda t: t\n"
    run += "resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))\n"
    run += "assert mask(b'{\"' + b'\\\\a' * 4_000_000 + b'\"}', 1009, look) is not None\n"
    run += "assert mask(b'[\"' + b'\\\\n' * 4_000_000 + b'\"]', JSON, look) is not None\n"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def array(*cells: bytes | None, kind: int = TEXT, dimensions: int = 1) -> bytes:
    body = b"".join(struct.pack(">i", -1) if c is None else struct.pack(">i", len(c)) + c for c in cells)
    return struct.pack(">iiI", dimensions, None in cells, kind) + struct.pack(">ii", len(cells), 1) * dimensions + body


def test_binary_arrays() -> None:
    assert mask(array(b"a", None), TEXTS, lambda t: t + "!", binary=True) == array(b"a!", None)
    assert mask(array(b"a", b"b"), TEXTS, lambda t: None if t == "a" else t, binary=True) == array(None, b"b")
    assert mask(array(b"\0\0\0\1", kind=INT4), INTS, to("2"), binary=True) == array(b"\0\0\0\2", kind=INT4)
    assert mask(array(b"a", kind=VARCHAR), TEXTS, lambda t: t, binary=True) is None
    assert mask(array(b"a", dimensions=7), TEXTS, lambda t: t, binary=True) is None
    assert mask(array(b"a")[:-1] + b"", TEXTS, lambda t: t, binary=True) is None
    assert mask(array(b"a")[:-2], TEXTS, lambda t: t, binary=True) is None
    assert mask(b"", TEXTS, lambda t: t, binary=True) is None


@given(
    st.sampled_from([*FORMS, *ARRAYS, TEXT, JSON, JSONB, BYTEA, UNKNOWN]),
    st.binary(max_size=40),
    st.booleans(),
    st.text(max_size=10),
)
@settings(max_examples=500, deadline=None)
def test_no_bytes_break_a_mask(kind: int, data: bytes, binary: bool, new: str) -> None:
    """Whatever the bytes, a mask gives bytes or NULL; and what it writes reads as a value again."""
    out = mask(data, kind, to(new), binary)
    if out is not None and out is not data and out != data:
        assert mask(out, kind, lambda t: t, binary) is not None
