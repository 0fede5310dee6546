"""Captures in every form that is read, and what is none."""

import hashlib
import io
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import ConfigError
from appliance.service.foreign.capture import MAX_BLOCK, MAX_FRAME, MAX_INTERFACES, PIECE, Capture, Caught
from tests.foreign.files import block, enhanced, interface, option, pcap, pcapng, section

T = 1_700_000_000.25
FRAMES = [(T, b"one"), (T + 1, b"two and more"), (T + 2.5, b"")]


def read(data: bytes) -> list[Caught]:
    return list(Capture(io.BytesIO(data), "f.pcap"))


def refused(data: bytes) -> str:
    with pytest.raises(ConfigError) as error:
        read(data)
    return str(error.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_pcap_in_both_orders_micro_and_nanoseconds(order: str, magic: int) -> None:
    found = read(pcap(FRAMES, order=order, magic=magic))
    assert [(round(c.time, 6), c.data, c.number) for c in found] == [(t, data, n) for n, (t, data) in enumerate(FRAMES, 1)]


def test_nanoseconds_are_not_read_as_micro() -> None:
    data = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 5, 250_000_000, 0, 0)
    assert read(data)[0].time == 5.25


def test_a_packet_that_was_cut_by_the_capture_tells_its_size() -> None:
    (one,) = read(pcap([(T, bytes(100))], snap=60))
    assert (len(one.data), one.size) == (60, 100)


def test_the_link_type_stands_beside_the_size_of_check_sequences() -> None:
    data = bytearray(pcap(FRAMES, linktype=1))
    data[23] = 0x24
    assert {one.linktype for one in read(bytes(data))} == {1}


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_in_both_orders(order: str) -> None:
    found = read(pcapng(FRAMES, order=order))
    assert [(round(c.time, 6), c.data) for c in found] == FRAMES


def test_sections_of_different_order_and_interfaces_of_different_links() -> None:
    data = section("<") + interface(1) + interface(101) + enhanced(1, b"b", 1) + enhanced(1, b"a", 0)
    data += section(">") + interface(113, ">") + enhanced(1, b"c", 0, ">")
    assert [(c.linktype, c.data) for c in read(data)] == [(101, b"b"), (1, b"a"), (113, b"c")]


@pytest.mark.parametrize(("value", "ticks", "time"), [(9, 1_500_000_000, 1.5), (6, 1_500_000, 1.5), (0x8A, 1536, 1.5), (0, 3, 3.0)])
def test_the_resolution_of_an_interface(value: int, ticks: int, time: float) -> None:
    data = section() + interface(options=option(2, b"eth0") + option(9, bytes([value])) + option(0, b"")) + enhanced(ticks, b"x")
    assert read(data)[0].time == time


def test_the_offset_of_an_interface() -> None:
    data = section() + interface(options=option(14, struct.pack("<q", 100))) + enhanced(1_000_000, b"x")
    assert read(data)[0].time == 101.0


@pytest.mark.parametrize(("unit", "ticks", "offset"), [(0, 2**64 - 1, 0), (0x80, 2**33 + 1, 0), (6, 0, -1), (6, 0, 2**63 - 1)])
def test_a_packet_of_no_time_is_none(unit: int, ticks: int, offset: int) -> None:
    """In the index it would have been a number that SQLite does not take, and nothing after it would have been found."""
    data = section() + interface(options=option(9, bytes([unit])) + option(14, struct.pack("<q", offset)))
    with pytest.raises(ConfigError, match="which is no time"):
        read(data + enhanced(ticks, b"x"))


def test_simple_and_obsolete_packets() -> None:
    simple = block(3, struct.pack("<I", 8) + b"abcdefgh")
    obsolete = block(2, struct.pack("<HHIIII", 0, 0, 0, 2_000_000, 3, 3) + b"xyz")
    found = read(section() + interface(snap=5) + simple + obsolete)
    assert [(c.data, c.size, c.time) for c in found] == [(b"abcde", 8, 0.0), (b"xyz", 3, 2.0)]


def test_blocks_of_other_kinds_are_stepped_over() -> None:
    data = section() + interface() + block(4, bytes(40)) + block(0x0BAD, bytes(2 * PIECE)) + enhanced(1, b"x")
    assert [c.data for c in read(data)] == [b"x"]


@pytest.mark.parametrize("make", [pcap, pcapng])
def test_a_file_that_was_being_written_is_cut_and_no_error(make: Callable[[list[tuple[float, bytes]]], bytes]) -> None:
    whole = make(FRAMES)
    ends = {len(make(FRAMES[:count])): count for count in range(4)}
    for size in range(min(ends), len(whole) + 1):
        capture = Capture(io.BytesIO(whole[:size]), "f")
        found = list(capture)
        assert capture.cut == (size not in ends)
        assert len(found) == max(count for end, count in ends.items() if end <= size)


def test_the_digest_is_of_the_whole_file() -> None:
    data = pcap(FRAMES) + b"\1"
    capture = Capture(io.BytesIO(data), "f")
    list(capture)
    assert capture.digest == hashlib.sha256(data).hexdigest() and capture.count == 3


# -- what is none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\xd4", b"no capture at all", bytes(100)])
def test_no_capture(data: bytes) -> None:
    assert "is no capture" in refused(data)


def test_a_compressed_file_is_named_as_that() -> None:
    assert "gunzip" in refused(b"\x1f\x8b\x08\0" + bytes(50))


def test_another_version() -> None:
    assert "version 3" in refused(struct.pack("<IHHiIII", 0xA1B2C3D4, 3, 0, 0, 0, 0, 1))


def test_a_header_that_is_cut() -> None:
    assert "ends before" in refused(pcap([])[:20])


def test_a_packet_over_the_limit_is_refused_and_not_read() -> None:
    data = pcap([]) + struct.pack("<IIII", 1, 0, MAX_FRAME + 1, MAX_FRAME + 1)
    assert f"the most is {MAX_FRAME}" in refused(data)


def test_a_packet_at_the_limit_is_read() -> None:
    assert len(read(pcap([(T, bytes(MAX_FRAME))]))[0].data) == MAX_FRAME


def test_a_block_over_the_limit_is_refused() -> None:
    data = section() + struct.pack("<II", 6, MAX_BLOCK + 4)
    assert f"a block of {MAX_BLOCK + 4} bytes" in refused(data)


@pytest.mark.parametrize("size", [0, 8, 11, 13])
def test_a_block_of_no_size(size: int) -> None:
    assert f"a block of {size} bytes" in refused(section() + struct.pack("<II", 6, size) + bytes(20))


def test_a_block_whose_lengths_differ() -> None:
    assert "lengths differ" in refused(section() + interface()[:-4] + struct.pack("<I", 24))


def test_interfaces_beyond_the_limit() -> None:
    assert f"more than {MAX_INTERFACES}" in refused(section() + interface() * (MAX_INTERFACES + 1))


def test_a_packet_of_an_interface_that_is_not_there() -> None:
    assert "interface 1" in refused(section() + interface() + enhanced(1, b"x", 1))


def test_a_packet_longer_than_its_block() -> None:
    body = struct.pack("<IIIII", 0, 0, 0, 100, 100) + b"short"
    assert "a packet of 100 bytes" in refused(section() + interface() + block(6, body))


def test_a_section_without_a_byte_order() -> None:
    assert "byte order" in refused(block(0x0A0D0D0A, bytes(16)))


def test_what_was_read_before_a_fault_was_given() -> None:
    capture = Capture(io.BytesIO(pcapng(FRAMES) + struct.pack("<II", 6, 3)), "f")
    found = []
    with pytest.raises(ConfigError, match="byte 168"):
        for one in capture:
            found.append(one)
    assert len(found) == 3


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([pcap(FRAMES), pcapng(FRAMES), pcapng(FRAMES, order=">")]), st.integers(0, 300), st.binary(min_size=1, max_size=8))
def test_any_bytes_are_read_or_refused(data: bytes, at: int, more: bytes) -> None:
    changed = data[:at] + more + data[at + len(more) :]
    try:
        assert all(len(one.data) <= one.size for one in read(changed))
    except ConfigError:
        pass
