"""Fragments by the name of what is done to them. What a kernel makes of them is in test_kernel.py."""

import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.all import IP, UDP, IPv6, IPv6ExtHdrFragment, Raw, fragment, fragment6

from appliance.model import ProtocolError
from appliance.packet import fragments
from appliance.packet.build import checksum
from appliance.packet.decode import decode
from appliance.packet.fragments import Fragments
from tests.packet.make import A6, B6, A, B, ip, pieces, pieces6, udp

DATA = bytes(range(256)) * 10
RAW, RAW6 = udp(A, B, (1, 53), DATA), udp(A6, B6, (1, 53), DATA)
SIX = pytest.mark.parametrize("six", [False, True], ids=["4", "6"])


def cut(six: bool, cuts: list[tuple[int, int]], id: int = 7) -> list[bytes]:
    return pieces6(RAW6, cuts, id) if six else pieces(RAW, cuts, id)


def put(keeper: Fragments, parts: list[bytes], now: float = 0.0) -> list[object]:
    """Take fragments; return the payloads that became whole, and why others did not."""
    found: list[object] = []
    for number, part in enumerate(parts, 1):
        try:
            whole = keeper.take(decode(part), now, number)
        except ProtocolError as error:
            found.append(str(error))
        else:
            found += [whole.packet.payload] if whole else []
    return found


@SIX
def test_scapy_cuts_and_we_join(six: bool) -> None:
    if six:
        parts = fragment6(IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(id=5) / UDP(sport=1, dport=53) / Raw(DATA), 1280)
    else:
        parts = fragment(IP(src=A, dst=B, id=5) / UDP(sport=1, dport=53) / Raw(DATA), 1000)
    raws = [bytes(part) for part in parts]
    assert len(raws) == 3
    for order in itertools.permutations(raws):
        keeper = Fragments(inline=True)
        assert put(keeper, [*order]) == [DATA]
        assert keeper.memory == 0
    whole = [keeper.take(decode(raw), 0.0, number) for number, raw in enumerate(raws)][-1]
    assert whole and whole.packets == (0, 1, 2) and checksum(whole.packet) == "good"


@SIX
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_cut_any_order_any_duplication_is_the_same(six: bool, data: st.DataObject) -> None:
    whole = len(DATA) + 8
    places = sorted(data.draw(st.sets(st.integers(1, whole // 8 - 1), max_size=12)))
    bounds = [0, *[place * 8 for place in places], whole]
    parts = cut(six, list(itertools.pairwise(bounds)))
    if len(parts) == 1:
        return
    order = data.draw(st.permutations(parts))
    twice = data.draw(st.lists(st.sampled_from(parts), max_size=5))
    keeper = Fragments(inline=True)
    found = put(keeper, [*order[:-1], *[part for part in twice if part != order[-1]], order[-1]])
    assert found == [DATA] and keeper.memory == 0


@SIX
def test_overlap_drops_the_datagram(six: bool) -> None:
    """RFC 5722; for IPv4 as Linux does."""
    for cuts in ([(0, 1024), (512, 2568)], [(1024, 2568), (0, 1032)], [(8, 24), (0, 32)]):
        keeper = Fragments()
        assert put(keeper, cut(six, cuts)) == ["overlapping fragments"]
        assert keeper.dropped == {"overlapping fragments": 1} and keeper.memory == 0


@SIX
def test_a_duplicate_of_other_bytes(six: bool) -> None:
    """A receiver keeps the first; inline it may have lost that one."""
    parts = cut(six, [(0, 1024), (8, 512), (1024, 2568)])
    other = parts[1][:-8] + b"XXXXXXXX"
    assert put(Fragments(), [parts[0], other, parts[2]]) == [DATA]
    assert put(Fragments(inline=True), [parts[0], other, parts[2]]) == ["conflicting fragments"]
    assert put(Fragments(inline=True), parts) == [DATA]


@SIX
def test_two_ends(six: bool) -> None:
    parts = cut(six, [(1024, 2568), (0, 1024)])
    short = cut(six, [(2560, 2568)])[0]
    shorter = pieces6(udp(A6, B6, (1, 53), DATA[:2048]), [(1032, 2056)]) if six else pieces(udp(A, B, (1, 53), DATA[:2048]), [(1032, 2056)])
    assert put(Fragments(), [short, *shorter]) == ["two ends"]
    beyond = pieces6(udp(A6, B6, (1, 53), DATA + bytes(4000)), [(2568, 2576)]) if six else pieces(udp(A, B, (1, 53), DATA + bytes(4000)), [(2568, 2576)])
    assert put(Fragments(), [parts[0], *beyond]) == ["two ends"]
    early = pieces6(udp(A6, B6, (1, 53), DATA[:2]), [(8, 10)]) if six else pieces(udp(A, B, (1, 53), DATA[:2]), [(8, 10)])
    assert put(Fragments(), [*cut(six, [(1024, 2048)]), *early]) == ["two ends"]


@SIX
def test_an_empty_fragment(six: bool) -> None:
    assert put(Fragments(), cut(six, [(8, 8)])) == ["an empty fragment"]


@SIX
def test_longer_than_ip_can_be(six: bool) -> None:
    """The ping of death."""
    raw = udp(A6, B6, (1, 53), bytes(100)) if six else udp(A, B, (1, 53), bytes(100))
    part = (pieces6 if six else pieces)(raw, [(0, 108)])[0]
    data = bytearray(part)
    at, field = (42, 0xFFF8) if six else (6, 0x1FFF)
    data[at : at + 2] = field.to_bytes(2)
    assert put(Fragments(), [bytes(data)]) == ["a datagram too long for IP"]


@SIX
def test_longer_than_ip_can_be_by_the_headers_of_the_first(six: bool) -> None:
    """Each fits by its own headers. It was no error that those who import a capture expect."""
    if six:
        options, part = bytes((44, 255)) + bytes(2046), struct.pack(">BBHI", 17, 0, 1, 7)
        first = ip(A6, B6, 0, options + part + bytes(800))
        last = ip(A6, B6, 44, struct.pack(">BBHI", 17, 0, 800, 7) + bytes(65_535 - 808))
    else:
        first = ip(A, B, 17, bytes(800), 7, 0x2000, options=b"\1" * 40)
        last = ip(A, B, 17, bytes(65_515 - 800), 7, 100)
    assert put(Fragments(), [first, last]) == ["a datagram too long for IP"]


def test_many_fragments_cost_no_more_than_their_bytes() -> None:
    keeper = Fragments()
    for number in range(8_000):
        assert put(keeper, [ip(A, B, 17, bytes(8), 7, 0x2000 | number + 1)]) == []


def test_fragments_of_odd_length() -> None:
    """Of IPv4 Linux leaves out what is over; of IPv6 the fragment."""
    assert put(Fragments(), pieces6(RAW6, [(0, 1021)])) == ["a fragment of odd length"]
    parts = pieces(RAW, [(0, 1021), (1016, 2568)])
    assert put(Fragments(), parts) == [DATA]


def test_a_fragment_that_is_the_whole_stands_alone() -> None:
    """RFC 6946: others of its id do not touch it."""
    keeper = Fragments()
    assert put(keeper, pieces6(RAW6, [(0, 1024)])) == []
    assert put(keeper, pieces6(RAW6, [(0, 2568)])) == [DATA]
    assert put(keeper, pieces6(RAW6, [(1024, 2568)])) == [DATA]


def test_the_first_fragment_has_all_headers() -> None:
    """RFC 7112."""
    long = bytes((17, 1, 1, 12)) + bytes(12)
    raw = ip(A6, B6, 60, long + RAW6[40:])
    assert put(Fragments(), pieces6(raw, [(0, 16)])) == ["headers beyond the first fragment"]
    assert put(Fragments(), pieces6(raw, [(0, 8)])) == ["headers beyond the first fragment"]
    assert put(Fragments(), pieces6(raw, [(0, 24), (24, 2584)])) == [DATA]


def test_a_fragment_in_a_fragment() -> None:
    inner = pieces6(RAW6, [(0, 64)])[0]
    outer = ip(A6, B6, 44, bytes((44, 0, 0, 1, 0, 0, 0, 9)) + inner[40:])
    assert put(Fragments(), [outer]) == ["headers beyond the first fragment"]


def test_other_datagrams_do_not_mix() -> None:
    one, two = pieces(RAW, [(0, 1024), (1024, 2568)], 1), pieces(udp(A, B, (1, 53), DATA[::-1]), [(0, 1024), (1024, 2568)], 2)
    assert put(Fragments(), [one[0], two[1], two[0], one[1]]) == [DATA[::-1], DATA]


@SIX
def test_what_waits_too_long_is_dropped(six: bool) -> None:
    """As long as ipfrag_time and ip6frag_time."""
    wait = fragments.WAIT_6_S if six else fragments.WAIT_4_S
    assert wait == (60 if six else 30)
    parts = cut(six, [(0, 1024), (1024, 2568)])
    keeper = Fragments()
    put(keeper, parts[:1])
    assert keeper.expire(wait - 0.1) == [] and keeper.expire(wait) == [1]
    assert keeper.memory == 0 and keeper.dropped == {"late": 1}
    put(keeper, parts[:1])
    assert put(keeper, parts[1:], wait) == []  # it begins another datagram
    assert keeper.dropped == {"late": 2}


def test_limit_of_all_that_waits() -> None:
    """The oldest go. ipfrag_high_thresh."""
    assert fragments.MAX_BYTES == 4 << 20
    keeper = Fragments()
    part = bytes(64_000)
    for id in range(100):
        put(keeper, pieces(ip(A, B, 17, part + bytes(800)), [(0, 64_000)], id))
        assert keeper.memory <= fragments.MAX_BYTES
    assert keeper.dropped["limit"] == 100 - keeper.memory // (64_000 + fragments.COST)


def test_tiny_fragments_count_for_the_limit() -> None:
    keeper = Fragments()
    put(keeper, pieces(RAW, [(0, 8)]))
    assert keeper.memory == 8 + fragments.COST
    put(keeper, pieces(RAW, [(0, 8)] * 10))
    assert keeper.memory == 8 + 11 * fragments.COST


def test_a_snapped_fragment() -> None:
    part = decode(pieces(RAW, [(0, 1024)])[0][:-1], snapped=True)
    with pytest.raises(ProtocolError, match="not captured whole"):
        Fragments().take(part, 0.0, 1)
