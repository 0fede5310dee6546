"""A run of values that a plan leaves is passed at once: never other bytes, counts or errors than one by one."""

import struct
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import Column, ProtocolError
from appliance.policy.detect import Detectors
from appliance.policy.finders import BUILT_IN
from appliance.wire import Cell
from appliance.wire.postgres import masks
from appliance.wire.postgres.copies import CsvCopy, Spec, TextCopy
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.masks import MAX_PAUSE, Maskers, maskers, rows

UTF8 = Encoding.of("UTF8")
FOUND = Detectors(["email", "credit_card"], {})
TYPES = (25, 23, 114, 3802, 17, 1009, 1007, 1700, 2950, 0, 142, 18)  # text int4 json jsonb bytea text[] int4[] ... xml "char"


def hide(text: str) -> str | None:
    """Replace what is found, as a mask with detectors does."""
    for _, (start, end) in reversed(FOUND.find(text)):
        text = text[:start] + "[redacted]" + text[end:]
    return text


class Finds:
    """A plan that masks finds in every column; asked of many values at once where `leaves`."""

    def __init__(self, leaves: bool) -> None:
        self.asked = 0
        self.leaves: Callable[[bytes], bool] | None = self._leaves if leaves else None

    def _leaves(self, values: bytes) -> bool:
        self.asked += 1
        return FOUND.nowhere(values)

    def __call__(self, columns: tuple[Column, ...]) -> Sequence[Cell | None]:
        return [hide] * len(columns)


def row(values: Sequence[bytes | None]) -> bytes:
    cells = b"".join(b"\xff\xff\xff\xff" if v is None else struct.pack(">i", len(v)) + v for v in values)
    return b"D" + struct.pack(">IH", len(cells) + 6, len(values)) + cells


def said(call: Callable[[], object]) -> object:
    try:
        return call()
    except ProtocolError as error:
        return str(error)


words = st.sampled_from(
    [b"a@b.example", b"4111111111111111", b"4111 1111", b"\xff\xfe", b"\\u0040", b'{"a":"x\\u0040b.example"}', b"{a@b.example,c}", b"{1,2}",
     b"\\x6140622e6578616d706c65", b"17", b"", b"caf\xc3\xa9", b"x" * 200, b"{", b"1e400", b"\xc3"]
)  # fmt: skip
values = st.one_of(st.none(), words, st.binary(max_size=12), st.text("abc@. 0123456789", max_size=30).map(str.encode))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TYPES), st.booleans()), min_size=1, max_size=4).flatmap(
        lambda columns: st.tuples(st.just(columns), st.lists(st.lists(values, min_size=len(columns), max_size=len(columns)), max_size=8))
    ),
    st.integers(0, 40),
)
def test_rows_are_the_same_at_once_and_one_by_one(
    given_: tuple[list[tuple[int, bool]], list[list[bytes | None]]], damage: int
) -> None:
    told, table = given_
    columns = tuple(Column(f"c{n}", 1, n, kind, binary) for n, (kind, binary) in enumerate(told))
    data = b"".join(map(row, table))
    if damage < len(data) and damage > 30:
        data = data[:damage] + bytes([data[damage] ^ 1]) + data[damage + 1 :]
    one, all_ = (maskers(Finds(leaves), columns, UTF8) for leaves in (False, True))
    assert one and all_
    assert said(lambda: rows(data, 0, len(data), all_)) == said(lambda: rows(data, 0, len(data), one))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.text("abc@.\\\t\n,\"N 0123456789é", max_size=12), min_size=2, max_size=2), max_size=8),
    st.booleans(),
    st.lists(st.integers(1, 40), max_size=6),
    st.sampled_from([TextCopy, CsvCopy]),
)
def test_copies_are_the_same_at_once_and_one_by_one(
    table: list[list[str]], header: bool, cuts: list[int], kind: type[TextCopy | CsvCopy]
) -> None:
    delimiter = "\t" if kind is TextCopy else ","
    data = "".join(delimiter.join(line) + "\n" for line in table).encode()
    columns = (Column("a", type=25), Column("b", type=25))
    found = []
    for leaves in (False, True):
        each = maskers(Finds(leaves), columns, UTF8)
        assert each
        copy, rest, out = kind(each, Spec(format="x", header=header), UTF8), data, b""
        try:
            for cut in (*cuts, len(data)):
                out += copy.feed(rest[:cut])[0]
                rest = rest[cut:]
            copy.end()
        except ProtocolError as error:
            out += str(error).encode()
        found.append(out)
    assert found[0] == found[1]


def test_a_run_is_looked_over_once() -> None:
    plan = Finds(True)
    all_ = maskers(plan, (Column("a", type=25), Column("b", type=25)), UTF8)
    assert all_
    data = b"".join(row([b"%d" % n, None]) for n in range(1000))
    assert rows(data, 0, len(data), all_) == (data, 0)
    assert plan.asked == 1


def test_where_things_are_found_looks_become_rare_and_come_back() -> None:
    plan = Finds(True)
    all_ = maskers(plan, (Column("a", type=25),), UTF8)
    assert all_
    dirty, clean = row([b"a@b.example"]), row([b"a"])
    for _ in range(1000):
        assert rows(dirty, 0, len(dirty), all_)[1] == 1
    assert MAX_PAUSE == 63 and plan.asked <= 6 + 1000 // MAX_PAUSE
    for _ in range(MAX_PAUSE + 1):
        assert rows(clean, 0, len(clean), all_) == (clean, 0)
    asked = plan.asked
    for _ in range(10):
        rows(clean, 0, len(clean), all_)
    assert plan.asked == asked + 10


@pytest.mark.parametrize(
    ("column", "encoding"),
    [(Column("a", type=17), UTF8), (Column("a", type=1009), UTF8), (Column("a", type=23, binary=True), UTF8), (Column("a", type=25), Encoding.of("LATIN1")),
     (Column("a", type=25), Encoding.of("SQL_ASCII"))],
)  # fmt: skip
def test_what_a_mask_is_shown_otherwise_than_it_is_sent_is_masked_one_by_one(column: Column, encoding: Encoding) -> None:
    plan = Finds(True)
    all_ = maskers(plan, (column,), encoding)
    assert all_ and not all_.looks


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_a_detector_looks_for_is_found_in_any_surroundings(name: str) -> None:
    """So what is nowhere in a run is in none of its values: no anchor, no border of a word, no look around."""
    expression = BUILT_IN[name][1]
    assert not any(part in expression for part in ("^", "$", r"\b", r"\B", r"\A", r"\z", r"\Z", "(?=", "(?!", "(?<")) or (
        "^" in expression and expression.count("^") == expression.count("[^")
    )


def test_operators_patterns_are_looked_for_one_by_one() -> None:
    assert Detectors(["email"], {}).parts
    assert not Detectors(["email", "own"], {"own": "^[0-9]+$"}).parts


def test_maskers_of_no_plan_that_leaves_are_never_asked() -> None:
    assert not Maskers([None]).looks and masks.Maskers([hide], None).looks is False  # type: ignore[list-item]
