"""Masking of COPY streams, cut anywhere."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Column, ProtocolError
from appliance.wire import Cell
from appliance.wire.postgres import Postgres
from appliance.wire.postgres.server import JOINED
from tests.wire.build import (
    COPY_DONE,
    C,
    S,
    complete,
    copies,
    copy_data,
    down,
    error,
    logged_in,
    parameter,
    query,
    ready,
)

HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"


class Told:
    """A plan that masks the second of two columns; it is told of the COPY."""

    def __init__(self, copy: object = None, **said: Any) -> None:
        both = (Column("a", type=25), Column("b", type=25))
        self.copy = copy or SimpleNamespace(**{"columns": both, **said})
        self.asked: list[tuple[Column, ...]] = []

    def __call__(self, columns: tuple[Column, ...]) -> list[Cell | None]:
        self.asked.append(columns)
        return [None, lambda text: None if text == "gone" else text.upper()][: len(columns)]


def begun(plan: object, form: int = 0, count: int = 2, encoding: str = "UTF8") -> Postgres:
    wire = logged_in()
    down(wire, parameter("client_encoding", encoding))
    for message in wire.feed(C, query("copy")):
        wire.allow(message, plan)  # type: ignore[arg-type]
    down(wire, copies("H", form, count))
    return wire


def stream(wire: Postgres, *pieces: bytes) -> bytes:
    """Feed data of a COPY; return the data that goes down."""
    out = b""
    for message in wire.feed(S, b"".join(copy_data(piece) for piece in pieces)):
        raw = message.raw
        while raw:
            size = int.from_bytes(raw[1:5]) + 1
            out, raw = out + raw[5:size], raw[size:]
    return out


def tuples(*rows: tuple[bytes | None, ...]) -> bytes:
    out = b""
    for row in rows:
        out += len(row).to_bytes(2)
        out += b"".join(b"\xff\xff\xff\xff" if c is None else len(c).to_bytes(4) + c for c in row)
    return out


CASES: list[tuple[dict[str, Any], bytes, bytes]] = [
    ({"format": "text"}, b"a\tb\nx\t\\N\n\\\\\tq\\tr\\\\\\n\n", b"a\tB\nx\t\\N\n\\\\\tQ\\tR\\\\\\n\n"),
    ({"format": "text"}, b"a\t\\x41\\101\\q8\\8\n", b"a\tAAQ88\n"),
    ({"format": "text"}, b"a\tgone\n", b"a\t\\N\n"),
    ({"format": "text", "header": True, "delimiter": "|", "null": "gone"}, b"a|b\na|gone\na|x\\|y\n", b"a|b\na|gone\na|X\\|Y\n"),
    ({"format": "text", "delimiter": "", "null": ""}, b"a\t\\N\na\t\n", b"a\t\\N\na\t\n"),
    ({"format": "csv"}, b'a,b\nx,\n"q""r","s,""t\nu"\nc,gone\nd,""\n', b'a,"B"\nx,\n"q""r","S,""T\nU"\nc,\nd,""\n'),
    ({"format": "csv", "header": True}, b'h,"i\nj"\na,b\n', b'h,"i\nj"\na,"B"\n'),
    ({"format": "csv", "delimiter": ";", "quote": "'", "escape": "\\", "null": "-"},
     b"a;'b\\'\\\\c'\nx;-\ny;z\\\nu;gone\n", b"a;'B\\'\\\\C'\nx;-\ny;'Z\\\\'\nu;-\n"),
    ({"format": "csv", "delimiter": "]", "quote": "^"}, b"a]^b^^c^\n", b"a]^B^^C^\n"),
    ({"format": "binary"}, HEAD + tuples((b"a", b"b"), (b"x", None), (None, b"gone")) + END,
     HEAD + tuples((b"a", b"B"), (b"x", None), (None, None)) + END),
    ({"format": "binary"}, HEAD[:-1] + b"\3ext" + END, HEAD[:-1] + b"\3ext" + END),
]  # fmt: skip


@pytest.mark.parametrize(("said", "data", "want"), CASES)
def test_masked(said: dict[str, Any], data: bytes, want: bytes) -> None:
    wire = begun(Told(**said), int(said["format"] == "binary"))
    assert stream(wire, data) == want
    assert down(wire, COPY_DONE + complete("COPY 3") + ready()) == COPY_DONE + complete("COPY 3") + ready()
    assert wire.idle


@pytest.mark.parametrize(("said", "data", "want"), CASES)
def test_masked_byte_by_byte(said: dict[str, Any], data: bytes, want: bytes) -> None:
    wire = begun(Told(**said), int(said["format"] == "binary"))
    assert b"".join(stream(wire, data[i : i + 1]) for i in range(len(data))) == want
    down(wire, COPY_DONE)


@given(st.sampled_from(CASES), st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=200, deadline=None)
def test_rows_cut_anywhere(case: tuple[dict[str, Any], bytes, bytes], places: list[int]) -> None:
    said, data, want = case
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    pieces = [data[a:b] for a, b in pairwise(marks)]
    wire = begun(Told(**said), int(said["format"] == "binary"))
    assert b"".join(stream(wire, piece) for piece in pieces) == want
    down(wire, COPY_DONE)


def test_counts_and_frames() -> None:
    """A row is a CopyData of its own; the header of a binary COPY comes with the first row, as clients expect."""
    (said,) = begun(Told(format="text")).feed(S, copy_data(b"a\tb\na\tB\n"))
    assert (said.raw, said.count, said.masked) == (copy_data(b"a\tB\n") * 2, 2, 1)
    wire = begun(Told(format="binary"), 1)
    assert down(wire, copy_data(HEAD)) == b""
    assert down(wire, copy_data(tuples((b"a", b"b")))) == copy_data(HEAD + tuples((b"a", b"B")))


def test_rows_that_are_here_are_masked_together_up_to_joined() -> None:
    rows = [b"%05d\tb\n" % n for n in range(10_000)]
    found = list(begun(Told(format="text")).feed(S, b"".join(map(copy_data, rows))))
    assert b"".join(m.raw for m in found) == b"".join(copy_data(row.replace(b"b", b"B")) for row in rows)
    assert (sum(m.count for m in found), sum(m.masked for m in found)) == (10_000, 10_000)
    sizes = [len(m.raw) for m in found]
    assert JOINED == 65_536
    assert all(JOINED <= size < JOINED + len(copy_data(rows[0])) for size in sizes[:-1]) and len(sizes) == 2


def test_the_end_of_a_copy_and_a_long_row_are_not_joined_to_what_is_before() -> None:
    long = b"a\t" + b"b" * JOINED + b"\n"
    found = list(begun(Told(format="text")).feed(S, copy_data(b"a\tb\n") + copy_data(long) + copy_data(b"a\tb\n") + COPY_DONE))
    assert [m.kind for m in found] == ["copy-data", "copy-data", "copy-data", "copy-done"]


def test_columns_that_do_not_fit_are_unknown() -> None:
    plan = Told(format="text", columns=(Column("a", 5, 1, 25),))
    stream(begun(plan), b"a\tb\n")
    assert plan.asked == [(Column("", attribute=1), Column("", attribute=2))]
    plan = Told(format="binary", columns=(Column("a", 5, 1, 25), Column("b")))
    begun(plan, 1)
    assert plan.asked == [(Column("a", 5, 1, 25, True), Column("b", binary=True))]


def test_what_is_told_in_one_struct() -> None:
    class Copy:
        columns = (Column("a", type=25), Column("b", type=25))
        format, delimiter, quote, escape, null, header = "text", "|", "", "", "NIX", False

    wire = begun(Told(Copy()))
    assert stream(wire, b"a|NIX\na|b\n") == b"a|NIX\na|B\n"


@pytest.mark.parametrize(
    ("plan", "form", "count", "encoding"),
    [
        (Told(format=""), 0, 2, "UTF8"),
        (Told(), 0, 2, "UTF8"),
        (Told(format="csv"), 1, 2, "UTF8"),
        (Told(format="binary"), 0, 2, "UTF8"),
        (Told(format="text"), 0, 0, "UTF8"),
        (Told(format="text"), 0, 2, "SJIS"),
    ],
)
def test_what_is_not_known_is_not_let_through(plan: Told, form: int, count: int, encoding: str) -> None:
    with pytest.raises(ProtocolError, match="cannot be masked"):
        begun(plan, form, count, encoding)


def test_a_copy_that_is_left() -> None:
    wire = begun(lambda columns: None)
    assert stream(wire, b"a\tb\n") == b"a\tb\n"


@pytest.mark.parametrize(
    ("said", "data"),
    [
        ({"format": "text"}, b"a\n"),
        ({"format": "text"}, b"a\tb\tc\n"),
        ({"format": "text"}, b"a\tb\\\n"),
        ({"format": "csv"}, b"a\n"),
        ({"format": "csv"}, b"a,b,c\n"),
        ({"format": "csv"}, b'a,"b"c\n'),
        ({"format": "csv"}, b'a,b"c"\n'),
        ({"format": "binary"}, b"PGCOPX" + HEAD[6:] + END),
        ({"format": "binary"}, HEAD[:-4] + b"\xff" * 4 + END),
        ({"format": "binary"}, HEAD + tuples((b"a",))),
        ({"format": "binary"}, HEAD + b"\0\2\xff\xff\xff\xfe"),
        ({"format": "binary"}, HEAD + END + END),
    ],
)
def test_rows_that_cannot_be(said: dict[str, Any], data: bytes) -> None:
    with pytest.raises(ProtocolError):
        stream(begun(Told(**said), int(said["format"] == "binary")), data)


@pytest.mark.parametrize(
    ("said", "data"),
    [({"format": "text"}, b"a\tb"), ({"format": "csv"}, b'a,"b\n'), ({"format": "binary"}, HEAD + b"\0")],
)
def test_a_copy_that_ends_in_a_row(said: dict[str, Any], data: bytes) -> None:
    wire = begun(Told(**said), int(said["format"] == "binary"))
    assert stream(wire, data) == b""
    with pytest.raises(ProtocolError, match="middle of a row"):
        down(wire, COPY_DONE)


def test_an_error_ends_the_masking_of_a_copy() -> None:
    wire = begun(Told(format="text"))
    assert stream(wire, b"a\tb\nhalf") == b"a\tB\n"
    down(wire, error() + ready())
    assert wire.idle
    for message in wire.feed(C, query("copy")):
        wire.allow(message)
    assert down(wire, copies("H", 0, 2) + copy_data(b"a\tb\n")) == copies("H", 0, 2) + copy_data(b"a\tb\n")
