"""Rows 1 to 19 of the table of ways round: packets and protocols. Zero bytes come over the wire; the errno is a courtesy.

Every attack is first made from outside the slice, where it must arrive: else it proves nothing.
"""

from collections.abc import Sequence

import pytest

from appliance.lab.hosts import TARGET_IP
from tests.evasion import rows
from tests.evasion.field import BOTH, LATER, NOBODY, ROOT, USERNS, V4, V6, Field, arrive, stay
from tests.evasion.host import SECRET
from tests.evasion.wire import MARK

pytestmark = pytest.mark.kernel


def test_row_01_raw_sockets(ground: Field) -> None:
    cases = ("raw_icmp", "raw_tcp", "raw_udp", "raw_253")
    arrive(ground, cases, V4)
    stay(ground, cases)


def test_row_02_a_header_of_ones_own(ground: Field) -> None:
    cases = ("header_syn", "header_ack")
    arrive(ground, cases, V4)
    stay(ground, cases, V4)


FRAMES = ("packet", "packet_raw", "packet_other", "packet_ring")
BYPASS = ("packet_bypass", "packet_raw_bypass", "packet_other_bypass")


def test_row_03_packet_sockets(ground: Field) -> None:
    arrive(ground, FRAMES[:3], V4)
    stay(ground, FRAMES, V4, (NOBODY, USERNS))
    last_words(ground, FRAMES)


def last_words(ground: Field, cases: Sequence[str]) -> None:
    """Root of the slice: where the kernel takes no LSM program, the first send leaves and is the last of its process."""
    for case in cases:
        ground.leaked()
        (said,) = ground.attack([f"{case}@{TARGET_IP}@{SECRET}"], actor=ROOT).values()
        assert said == "killed" or said.startswith("errno"), (case, said)
        assert sum(MARK in frame for frame in ground.leaked()) <= (1 if "lsm" in rows.LACKING else 0)


def test_row_04_packet_sockets_past_the_queue(ground: Field) -> None:
    arrive(ground, BYPASS, V4)
    stay(ground, BYPASS, V4, (NOBODY, USERNS))
    last_words(ground, BYPASS)


def test_row_05_xdp_sockets(ground: Field) -> None:
    stay(ground, ("xdp",), V4, (NOBODY, USERNS))


def test_row_06_ping_sockets(ground: Field) -> None:
    arrive(ground, ("ping",), BOTH)
    stay(ground, ("ping",), says=LATER)


@pytest.mark.parametrize("port", [443, 853])
def test_row_08_names_over_tls_and_quic(ground: Field, port: int) -> None:
    """Where no rule speaks of the server; what is inside an allowed one is for the rules of its protocol."""
    stay(ground, ("tcp", "udp", "quic"), port=port, says=LATER)


def test_row_09_datagrams_and_quic(ground: Field) -> None:
    cases = ("udp", "udp_connected", "quic", "udp_large", "udp_segments", "udp_corked")
    arrive(ground, cases, BOTH, port=443)
    stay(ground, cases, port=443, says=LATER)


def test_row_10_udp_lite(ground: Field) -> None:
    arrive(ground, ("udp_lite",), BOTH)
    stay(ground, ("udp_lite",))


def test_row_11_sctp_dccp_l2tp_smc(ground: Field) -> None:
    stay(ground, ("sctp", "sctp_packets", "dccp", "l2tp", "smc"))


def test_row_12_ipv6(ground: Field) -> None:
    arrive(ground, ("tcp", "udp"), V6)
    stay(ground, ("tcp", "udp", "udp_connected"), V6, says=LATER)


def test_row_13_ipv4_mapped(ground: Field) -> None:
    cases = ("mapped_tcp", "mapped_udp", "mapped_fast_open")
    arrive(ground, cases, V4)
    stay(ground, cases, V4, says=LATER)


TRANSLATED = ("64:ff9b::a4d:2", "2002:a4d:2::1", "2001:0:a4d:2::1", "::10.77.0.2", "fe80::5efe:a4d:2")


def test_row_14_options_and_translated_addresses(ground: Field) -> None:
    stay(ground, ("source_route", "source_route_datagram"), V4, says=LATER)
    stay(ground, ("routing_header", "routing_header_datagram"), V6, says=LATER)
    stay(ground, ("tcp", "udp"), TRANSLATED, says=LATER)


def test_row_15_link_local(ground: Field) -> None:
    there = (ground.link_local(),)
    arrive(ground, ("link_local", "link_local_datagram"), there)
    stay(ground, ("link_local", "link_local_datagram"), there, says=LATER)


def test_row_16_fast_open(ground: Field) -> None:
    cases = ("fast_open", "fast_open_connect")
    arrive(ground, cases, BOTH)
    stay(ground, cases)


def test_row_17_bind_to_device(ground: Field) -> None:
    cases = [f"{what}_{option}" for option in (25, 62, 50) for what in ("bound", "bound_udp", "bound_fast_open")]
    arrive(ground, cases, BOTH)
    stay(ground, [*cases, "packet_info", "rebound"], says=LATER)
    stay(ground, ("bound_link_local_25", "bound_link_local_62"), (ground.link_local(),))


def test_row_18_multipath(ground: Field) -> None:
    arrive(ground, ("mptcp",), BOTH)
    stay(ground, ("mptcp",))


def test_row_19_io_uring(ground: Field) -> None:
    cases = ("uring", "uring_async", "uring_poll", "uring_udp")
    arrive(ground, cases, BOTH)
    stay(ground, cases, says="errno|sent")  # the relay takes what it then refuses
