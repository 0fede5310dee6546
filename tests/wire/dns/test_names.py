"""Domain names: compressed, cased, escaped, international, and every way they can be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model import ProtocolError
from appliance.wire.dns import names

LABEL = st.binary(min_size=1, max_size=63)
NAME = st.lists(LABEL, max_size=8).map(tuple).filter(lambda n: sum(map(len, n)) + len(n) < 255)


def test_a_name_and_where_it_ends() -> None:
    assert names.read(bytes(12) + b"\3www\7Example\3com\0xx", 12) == ((b"www", b"Example", b"com"), 29)


def test_the_root() -> None:
    assert names.read(bytes(12) + b"\0", 12) == ((), 13)
    assert names.text(()) == "."


def test_pointers_lead_back_and_the_name_ends_behind_the_first() -> None:
    data = bytes(12) + b"\7example\0" + b"\3www\xc0\x0c" + b"\1a\xc0\x15rest"
    assert names.read(data, 21) == ((b"www", b"example"), 27)
    assert names.read(data, 27) == ((b"a", b"www", b"example"), 31)


@pytest.mark.parametrize(
    ("data", "at", "why"),
    [
        (b"\xc0\x0c", 12, "lead back"),  # to itself
        (b"\xc0\x0e\xc0\x0c", 14, "lead back"),  # in a circle
        (b"\1a\xc0\x0c", 12, "lead back"),  # to the name it is in
        (b"\xc0\x20", 12, "lead back"),  # forward
        (b"\1a\0\xc0\x05", 15, "lead back"),  # into the head
        (b"\xc0", 12, "cut short"),
        (b"\3ww", 12, "cut short"),
        (b"\3www", 12, "cut short"),
        (b"", 12, "cut short"),
        (b"\x40a\0", 12, "not in use"),  # RFC 2673
        (b"\x80a\0", 12, "not in use"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\0", 12, "over 255"),
    ],
)
def test_what_is_no_name(data: bytes, at: int, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        names.read(bytes(12) + data, at)


def test_the_longest_name() -> None:
    data = bytes(12) + (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert names.read(data, 12)[1] == 12 + names.MAX_NAME


def test_a_name_follows_no_more_than_so_many_pointers() -> None:
    data = bytearray(bytes(12) + b"\0")
    places = [12]
    for _ in range(names.MAX_POINTERS + 1):
        places.append(len(data))
        data += (0xC000 | places[-2]).to_bytes(2, "big")
    assert names.read(bytes(data), places[-2]) == ((), places[-2] + 2)
    with pytest.raises(ProtocolError, match="lead back"):
        names.read(bytes(data), places[-1])


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((b"WWW", b"Example", b"COM"), "www.example.com"),
        ((b"a.b", b"com"), "a\\046b.com"),  # one label that looks like two
        ((b"a\\b",), "a\\092b"),
        ((b"\0\xff ",), "\\000\\255\\032"),
        ((b"xn--bcher-kva", b"example"), "xn--bcher-kva.example"),
        (("bücher".encode(), b"example"), "b\\195\\188cher.example"),
        ((b"_dmarc", b"*", b"example"), "_dmarc.*.example"),
    ],
)
def test_the_one_form_of_a_name(labels: names.Labels, text: str) -> None:
    assert names.text(labels) == text


def test_case_is_of_ascii_only() -> None:
    assert names.same((b"aB", b"c"), (b"Ab", b"C"))
    assert not names.same(("É".encode("latin-1"),), ("é".encode("latin-1"),))
    assert not names.same((b"a",), (b"a", b"b"))


@given(NAME)
def test_what_is_written_is_read(labels: names.Labels) -> None:
    data = bytes(12) + names.write(labels)
    assert names.read(data, 12) == (labels, len(data))


@given(st.lists(NAME, min_size=1, max_size=6))
def test_compressed_names_are_read_as_they_were(found: list[names.Labels]) -> None:
    out = names.Writer(bytes(12))
    places = []
    for labels in found:
        places.append(len(out.data))
        out.name(labels)
    assert [names.read(bytes(out.data), at)[0] for at in places] == found
    assert len(out.data) <= 12 + sum(len(names.write(labels)) for labels in found)


@given(NAME, NAME)
def test_two_names_have_one_text_only_if_they_are_the_same(one: names.Labels, other: names.Labels) -> None:
    assert (names.text(one) == names.text(other)) == names.same(one, other)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_name_or_a_protocol_error(data: bytes) -> None:
    try:
        names.read(bytes(12) + data, 12)
    except ProtocolError:
        pass
