"""Bytes of a packet, read and made anew; dpkt and scapy are the second opinions."""

import struct

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.all import ICMP, IP, TCP, UDP, ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop, Raw

from appliance.model import Address, ProtocolError
from appliance.packet import link
from appliance.packet.build import MAX_PACKET, checksum, rebuild
from appliance.packet.decode import MAX_EXTENSIONS, MAX_SCALE, decode, quoted
from tests.packet.make import A6, B6, A, B, ip, pieces, stamps, tcp, udp

DATA = b"some bytes of a payload"
PACKETS = {
    "tcp": IP(src=A, dst=B) / TCP(sport=1, dport=2, seq=3, ack=4, flags="PA") / Raw(DATA),
    "tcp with options": IP(src=A, dst=B) / TCP(options=[("MSS", 1460), ("WScale", 7), ("Timestamp", (5, 6))]) / Raw(DATA),
    "tcp over IPv6": IPv6(src=A6, dst=B6) / TCP(flags="FA") / Raw(DATA),
    "udp": IP(src=A, dst=B) / UDP(sport=1, dport=53) / Raw(DATA),
    "udp of odd length": IP(src=A, dst=B) / UDP() / Raw(DATA + b"!"),
    "empty udp": IP(src=A, dst=B) / UDP(),
    "udp over IPv6": IPv6(src=A6, dst=B6) / UDP() / Raw(DATA),
    "udp behind options for every hop": IPv6(src=A6, dst=B6) / IPv6ExtHdrHopByHop() / UDP() / Raw(DATA),
    "udp behind two headers": IPv6(src=A6, dst=B6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP() / Raw(DATA),
    "echo": IP(src=A, dst=B) / ICMP(id=7, seq=1) / Raw(DATA),
    "echo over IPv6": IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(id=7, data=DATA),
}


@pytest.mark.parametrize("name", PACKETS)
def test_scapy_and_dpkt_read_the_same(name: str) -> None:
    raw = bytes(PACKETS[name])
    packet = decode(raw)
    theirs = PACKETS[name].__class__(raw)
    other = (dpkt.ip.IP if raw[0] >> 4 == 4 else dpkt.ip6.IP6)(raw).data
    assert (packet.source.host, packet.target.host) == (theirs.src, theirs.dst)
    if packet.transport == "icmp":
        assert packet.payload == bytes(other)
    else:
        assert (packet.source.port, packet.target.port) == (other.sport, other.dport)
        assert packet.payload == bytes(other.data)
    if packet.tcp is not None:
        segment = packet.tcp
        assert (segment.seq, segment.ack, segment.flags) == (other.seq, other.ack, other.flags)
        options = dict(theirs[TCP].options)
        assert segment.scale == options.get("WScale", -1)
        assert segment.stamp == options.get("Timestamp", (-1, 0))[0]
    assert packet.data == raw and raw[packet.body :] == (DATA if packet.transport == "" else packet.payload)


@pytest.mark.parametrize("name", PACKETS)
def test_made_anew_with_the_same_payload_it_is_the_same(name: str) -> None:
    packet = decode(bytes(PACKETS[name]))
    assert checksum(packet) == "good"
    assert rebuild(packet, packet.payload) == packet.data


@pytest.mark.parametrize("name", [name for name in PACKETS if "tcp" not in name])
def test_made_anew_with_another_length(name: str) -> None:
    """Scapy makes lengths and checksums of its own accord: both agree."""
    packet = decode(bytes(PACKETS[name]))
    new = packet.payload[:8] + b"x" * 999
    again = decode(rebuild(packet, new))
    assert again.payload[4:] == new[4:] and checksum(again) == "good"  # of ICMP the checksum is in the payload
    assert packet.transport == "icmp" or again.payload == new
    assert (again.source, again.target) == (packet.source, packet.target)


def test_tcp_made_anew_keeps_its_length() -> None:
    packet = decode(bytes(PACKETS["tcp"]))
    again = decode(rebuild(packet, b"*" * len(DATA)))
    assert again.payload == b"*" * len(DATA) and checksum(again) == "good" and again.tcp == packet.tcp
    with pytest.raises(ValueError, match="keeps its length"):
        rebuild(packet, DATA + b"!")


def test_what_cannot_be_made_anew() -> None:
    with pytest.raises(ValueError, match="too long for IP"):
        rebuild(decode(bytes(PACKETS["udp"])), bytes(MAX_PACKET - 27))
    assert len(rebuild(decode(bytes(PACKETS["udp"])), bytes(MAX_PACKET - 28))) == MAX_PACKET
    part = decode(pieces(udp(A, B, (1, 2), bytes(100)), [(0, 48)])[0])
    with pytest.raises(ValueError, match="only whole packets"):
        rebuild(part, b"")


def test_checksums() -> None:
    good = bytearray(udp(A, B, (1, 2), DATA))
    for at in (1, 25, 30):  # the header of IP, of UDP, the payload
        bad = bytearray(good)
        bad[at] ^= 1
        assert checksum(decode(bytes(bad))) == "bad"
    none = bytearray(good)
    none[26:28] = b"\0\0"
    assert checksum(decode(bytes(none))) == "good"  # UDP over IPv4 may do without
    six = bytearray(udp(A6, B6, (1, 2), DATA))
    six[46:48] = b"\0\0"
    assert checksum(decode(bytes(six))) == "bad"  # over IPv6 it may not


def test_a_checksum_of_udp_that_is_0_is_written_as_65535() -> None:
    """RFC 768: 0 says that there is none."""
    packet = decode(udp(A, B, (1, 2), b"\0\0"))
    fitting = packet.data[26:28]  # added to the words, it makes their sum 65535
    again = rebuild(packet, fitting)
    assert again[26:28] == b"\xff\xff" and checksum(decode(again)) == "good"


def test_checksum_that_the_hardware_was_to_complete() -> None:
    raw = bytearray(tcp(A, B, (1, 2), "A", 1, 1, DATA))
    pseudo = raw[12:20] + (len(raw) - 20).to_bytes(4) + (6).to_bytes(4)
    raw[36:38] = (sum(struct.unpack(">8H", pseudo)) % 0xFFFF).to_bytes(2)
    assert checksum(decode(bytes(raw))) == "partial"


def test_what_stands_behind_a_packet_is_not_of_it() -> None:
    raw = udp(A, B, (1, 2), DATA)
    assert decode(raw + b"padding of Ethernet").data == raw


def test_udp_shorter_than_its_packet_leaves_the_rest() -> None:
    raw = bytearray(udp(A, B, (1, 2), DATA))
    raw[24:26] = (12).to_bytes(2)
    assert decode(bytes(raw)).payload == DATA[:4]


def test_big_tcp_has_no_length() -> None:
    raw = bytearray(tcp(A, B, (1, 2), "A", 1, 1, DATA))
    raw[2:4] = b"\0\0"
    assert decode(bytes(raw)).payload == DATA
    six = bytearray(tcp(A6, B6, (1, 2), "A", 1, 1, DATA))
    six[4:6] = b"\0\0"
    assert decode(bytes(six)).payload == DATA


def test_snapped() -> None:
    raw = tcp(A, B, (1, 2), "A", 1, 1, DATA)
    packet = decode(raw[:-5], snapped=True)
    assert (packet.payload, packet.missing) == (DATA[:-5], 5)
    with pytest.raises(ProtocolError, match="5 bytes of an IP packet are missing"):
        decode(raw[:-5])


def test_an_ipv4_address_in_ipv6_is_that_address() -> None:
    assert decode(udp("::ffff:1.2.3.4", "::ffff:5.6.7.8", (1, 2), b"")).source == Address("1.2.3.4", 1)


def test_window_scale_is_at_most_14() -> None:
    segment = decode(tcp(A, B, (1, 2), "S", 1, options=b"\3\3\x20\0")).tcp
    assert segment and segment.scale == MAX_SCALE == 14


def test_malformed_options_of_tcp_end_them() -> None:
    for options in (b"\3\3\7\x08\x01", b"\3\3\7\x08\xff\0\0\0", b"\3\3\7\0" + stamps(5)):
        segment = decode(tcp(A, B, (1, 2), "S", 1, options=options)).tcp
        assert segment and (segment.scale, segment.stamp) == (7, -1)


def test_timestamps_behind_other_options() -> None:
    segment = decode(tcp(A, B, (1, 2), "S", 1, options=b"\2\4\5\xb4" + stamps(9)[2:] + b"\1\1")).tcp
    assert segment and segment.stamp == 9


EXTENSION = bytes((60, 0, 1, 4, 0, 0, 0, 0))  # options for the destination: padding
MALFORMED = {
    "no IP packet": b"", "no IP packet ": b"\x50" + bytes(60),
    "less than 20 bytes": b"\x45" + bytes(18),
    "a header of IPv4 of 16 bytes": b"\x44" + udp(A, B, (1, 2), b"")[1:],
    "a header of IPv4 of 60 bytes": b"\x4f" + udp(A, B, (1, 2), b"")[1:],
    "shorter than its header": b"\x45\0\0\x10" + udp(A, B, (1, 2), b"")[4:],
    "UDP of less than 8": ip(A, B, 17, bytes(7)),
    "UDP of 7 bytes in 8": ip(A, B, 17, bytes((0, 1, 0, 2, 0, 7, 0, 0))),
    "UDP of 99 bytes in 8": ip(A, B, 17, bytes((0, 1, 0, 2, 0, 99, 0, 0))),
    "TCP of less than 20": ip(A, B, 6, bytes(19)),
    "a header of TCP of 16 bytes": ip(A, B, 6, bytes(12) + b"\x40" + bytes(7)),
    "a header of TCP of 60 bytes": ip(A, B, 6, bytes(12) + b"\xf0" + bytes(7)),
    "ICMP of less than 8": ip(A, B, 1, bytes(7)),
    "malformed options of IPv4": ip(A, B, 17, bytes(8), options=b"\x07\x01\0\0"),
    "routed by its source": ip(A, B, 17, bytes(8), options=b"\x83\x07\x04\1\2\3\4\0"),
    "routed by its source, strictly": ip(A, B, 17, bytes(8), options=b"\x01\x89\x03\x04"),
    "less than 40 bytes": b"\x60" + bytes(38),
    "cut off": ip(A6, B6, 0, b"\x11\0\0\0"),
    "longer than its packet": ip(A6, B6, 60, b"\x11\x04" + bytes(6)),
    "not first": ip(A6, B6, 60, b"\0\0\1\4\0\0\0\0" + b"\x11\0\1\4\0\0\0\0" + bytes(8)),
    "routed by its source ": ip(A6, B6, 43, b"\x11\2\0\1" + bytes(20) + bytes(8)),
    f"more than {MAX_EXTENSIONS} extension": ip(A6, B6, 60, EXTENSION * MAX_EXTENSIONS + bytes(8)),
    "malformed options of IPv6": ip(A6, B6, 60, b"\x11\0\1\x09\0\0\0\0" + bytes(8)),
    "to be refused: 201": ip(A6, B6, 60, b"\x11\0\xc9\4\0\0\0\0" + bytes(8)),
    "fragment header that is cut off": ip(A6, B6, 44, b"\x11\0\0\1"),
}  # fmt: skip


@pytest.mark.parametrize("why", MALFORMED)
def test_malformed(why: str) -> None:
    with pytest.raises(ProtocolError, match=why.strip().split(",")[0]):
        decode(MALFORMED[why])


def test_as_many_extension_headers_as_may_be() -> None:
    headers = EXTENSION * (MAX_EXTENSIONS - 2) + b"\x11" + EXTENSION[1:]
    assert decode(ip(A6, B6, 60, headers + struct.pack(">HHHH", 1, 2, 8, 0))).target.port == 2


def test_ip_in_ip_is_another_transport() -> None:
    """However deep: dpkt takes a packet of 65 kB of nested headers for a reason to exhaust its stack."""
    raw = b""
    for _ in range(3000):
        raw = ip(A, B, 4, raw)
    assert decode(raw).transport == ""


@given(st.binary(max_size=120))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_packet_or_a_protocol_error(data: bytes) -> None:
    for start in (b"", b"\x45\0\0\0", b"\x60\0\0\0\0\0\x3c\0"):
        try:
            packet = decode(start + data, snapped=True)
        except ProtocolError:
            continue
        checksum(packet)
        quoted(packet)


def test_error_of_icmp() -> None:
    lost = udp(A, B, (1000, 53), DATA)
    packet = decode(ip(B, A, 1, b"\3\3\0\0\0\0\0\0" + lost[:28]))
    error = quoted(packet)
    assert error and (error.type, error.code, error.transport) == (3, 3, "udp")
    assert (error.source, error.target) == (Address(A, 1000), Address(B, 53))
    assert quoted(decode(ip(B, A, 1, b"\3\3\0\0\0\0\0\0" + lost[:24]))) is None  # ports are needed
    assert quoted(decode(ip(B, A, 1, b"\x08\0\0\0\0\0\0\0" + lost[:28]))) is None  # an echo
    six = quoted(decode(ip(B6, A6, 58, b"\1\4\0\0\0\0\0\0" + udp(A6, B6, (1000, 53), DATA))))
    assert six and six.target == Address(B6, 53)


def test_frames_of_captures() -> None:
    raw = udp(A, B, (1, 2), DATA)
    mac = bytes(12)
    assert link.network(link.ETHERNET, mac + b"\x08\0" + raw) == raw
    assert link.network(link.ETHERNET, mac + b"\x81\0\0\1\x08\0" + raw) == raw
    assert link.network(link.ETHERNET, mac + b"\x88\xa8\0\1\x81\0\0\1\x08\0" + raw) == raw
    assert link.network(link.ETHERNET, mac + b"\x81\0\0\1" * (link.MAX_TAGS + 1) + b"\x08\0" + raw) is None
    assert link.network(link.ETHERNET, mac + b"\x08\x06" + bytes(28)) is None  # ARP
    assert link.network(link.ETHERNET, mac) is None
    assert link.network(link.SLL, bytes(14) + b"\x08\0" + raw) == raw
    assert link.network(link.SLL2, b"\x08\0" + bytes(18) + raw) == raw
    assert link.network(link.SLL2, b"\x08\x06" + bytes(18) + raw) is None
    assert link.network(link.NULL, b"\2\0\0\0" + raw) == raw
    assert link.network(link.RAW, raw) == raw
    with pytest.raises(ValueError, match="link type 127"):
        link.network(127, raw)
