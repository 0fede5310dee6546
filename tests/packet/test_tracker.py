"""Many flows: which packet belongs to which, and how much is kept of them. Every limit has its test here."""

import pytest

from appliance.model import Address
from appliance.packet import half, table, tracker
from appliance.packet.decode import decode
from appliance.packet.events import Began, Choices, Datagram, Odd, Over, Told
from appliance.packet.tracker import Tracker
from tests.packet.make import A6, B6, A, B, ip, pieces, summed, tcp, udp
from tests.packet.talk import C, S, Talk

INLINE = Choices(inline=True)


def kinds(talk: Talk, kind: type) -> list[str]:
    return [event.kind if kind is Odd else event.why for event in talk.of(kind)]


def echo(source: str, target: str, type: int, id: int) -> bytes:
    return ip(source, target, 1, summed(source, target, 1, bytes((type, 0, 0, 0)) + id.to_bytes(2) + b"\0\1ping", 2))


def test_early_limit_in_bytes_refuses_a_flow_inline() -> None:
    talk = Talk(Choices(inline=True, max_early=100)).open()
    assert talk(C, "A", 1, bytes(100)).place == "early"
    assert talk(C, "A", 101, b"!").place == "refused"
    assert kinds(talk, Odd) == ["early-limit"] and kinds(talk, Over) == ["refused"] and talk.tracker.memory == 0


def test_early_limit_in_pieces_refuses_a_flow_inline() -> None:
    talk = Talk(Choices(inline=True, max_pieces=10)).open()
    for number in range(10):
        assert talk(C, "A", 2 + 2 * number, b"x").place == "early"
    assert talk(C, "A", 99, b"x").place == "refused"


def test_early_limit_makes_a_gap_in_a_capture() -> None:
    talk = Talk(Choices(max_early=100)).open()
    talk(C, "A", 1, b"a" * 100)
    talk(C, "A", 103, b"b")
    assert talk.said(C) == b"a" * 100 + b"b" and talk.gaps() == [(C, 0, 1), (C, 101, 2)]
    assert kinds(talk, Odd) == ["early-limit"]
    talk(C, "A", 104, b"c")
    assert talk.said(C)[-1:] == b"c"


def test_doubtful_bytes_count_for_the_early_limit() -> None:
    talk = Talk(Choices(max_early=100)).open(stamp=100)
    for _ in range(11):
        talk(C, "A", 0, bytes(10), stamp=50)
    assert kinds(talk, Odd) == ["early-limit"] and talk.tracker.memory == 0


def test_unacked_limit_refuses_a_flow_inline() -> None:
    talk = Talk(Choices(inline=True, max_unacked=100)).open()
    assert talk(C, "A", 0, bytes(100)).place == "next"
    assert talk(C, "A", 100, b"!").place == "refused" and kinds(talk, Odd) == ["unacked-limit"]
    talk = Talk(Choices(inline=True, max_unacked=100)).open()
    for number in range(9):
        talk(C, "A", 100 * number, bytes(100))
        talk(S, "A", 0, ack=100 * (number + 1))
    assert talk.places[-2:] == ["next", "bare"]


def test_unacked_limit_forgets_in_a_capture() -> None:
    talk = Talk(Choices(max_unacked=100)).open()
    talk(C, "A", 0, bytes(101))
    assert talk.tracker.memory == 0 and not talk.of(Odd)
    talk(C, "A", 0, b"XXX" + bytes(98) + b"!")
    assert not talk.of(Odd) and talk.said(C) == bytes(101) + b"!"


def test_memory_limit_of_all_flows_refuses_the_one_that_reaches_it() -> None:
    """It is shared: the flow that asks for more goes, the others live."""
    keeper = Tracker(Choices(inline=True, max_memory=1000))

    def say(port: int, side: object, flags: str, seq: int, ack: int, data: bytes = b"") -> str:
        ends, ports = ((A, B), (port, 80)) if side is C else ((B, A), (80, port))
        return keeper.take(decode(tcp(*ends, ports, flags, seq, ack, data)), 0.0, 1).place

    for port in (1, 2):
        say(port, C, "S", 0, 0)
        say(port, S, "SA", 0, 1)
    assert say(1, C, "A", 1, 1, bytes(600)) == "next" and keeper.memory == 600
    assert say(2, C, "A", 1, 1, bytes(600)) == "refused" and keeper.memory == 600
    assert keeper.counters == {"odd: memory-limit": 1, "over: refused": 1}
    assert say(1, S, "A", 1, 601) == "bare" and keeper.memory == 0


def test_memory_limit_lets_go_in_a_capture() -> None:
    talk = Talk(Choices(max_memory=1000)).open()
    talk(C, "A", 1, b"a" * 700)
    talk(C, "A", 800, b"b" * 400)
    assert kinds(talk, Odd) == ["memory-limit"] and talk.tracker.memory == 0
    assert talk.said(C) == b"a" * 700 + b"b" * 400


def test_a_small_piece_costs_more_than_its_bytes() -> None:
    talk = Talk().open()
    talk(C, "A", 5, b"x")
    assert talk.tracker.memory == 1 + half.PIECE_COST


def test_flow_limit() -> None:
    for inline in (False, True):
        keeper = Tracker(Choices(inline=inline, max_flows=2))
        for port in (1, 2):
            keeper.take(decode(udp(A, B, (port, 53), b"x")), float(port), port)
        taken = keeper.take(decode(udp(A, B, (3, 53), b"x")), 3.0, 3)
        assert [event.kind for event in taken.events if isinstance(event, Odd)] == ["flow-limit"]
        if inline:
            assert (taken.place, taken.flow, taken.why) == ("refused", 0, "the flow was refused")
        else:
            assert [(event.flow, event.why) for event in taken.events if isinstance(event, Over)] == [(1, "evicted")]
            assert taken.flow == 3
        assert len(list(keeper.flows())) == 2


def test_a_connection_that_is_over_is_evicted_first() -> None:
    talk = Talk(Choices(max_flows=2))
    talk.tracker.take(decode(udp(A, B, (1, 53), b"x")), 0.0, 1)
    talk.open()
    talk(C, "FA")
    talk(S, "FA", ack=1)
    talk(C, "A", 1, ack=1)
    taken = talk.tracker.take(decode(udp(A, B, (2, 53), b"x")), 9.0, 9)
    assert taken.flow == 3 and talk.tracker.find("udp", Address(A, 1), Address(B, 53)) == 1
    assert [event for event in taken.events if isinstance(event, Over)] == []  # that was told


def test_connections_that_are_over_take_nobodys_room() -> None:
    talk = Talk(Choices(inline=True, max_flows=2)).open()
    talk.tracker.take(decode(udp(A, B, (1, 53), b"x")), 0.0, 1)
    talk(C, "FA")
    talk(S, "FA", ack=1)
    talk(C, "A", 1, ack=1)
    assert talk.tracker.take(decode(udp(A, B, (2, 53), b"x")), 9.0, 9).place == "next"
    assert talk.tracker.take(decode(udp(A, B, (3, 53), b"x")), 9.0, 10).place == "refused"
    assert talk(S, "FA", ack=1).why == "no handshake"


@pytest.mark.parametrize("kind", table.PATIENCE_S)
def test_flows_are_forgotten_when_they_are_silent_for_as_long_as_in_conntrack(kind: str) -> None:
    talk = Talk(INLINE if kind in ("closing", "unacked") else Choices())
    take = talk.tracker.take
    if kind in ("udp", "talk"):
        take(decode(udp(A, B, (1, 53), b"x")), 0.0, 1)
        if kind == "talk":
            take(decode(udp(B, A, (53, 1), b"x")), 0.0, 2)
    elif kind == "icmp":
        take(decode(echo(A, B, 8, 7)), 0.0, 1)
    elif kind == "opening":
        talk(C, "S")
    else:
        talk.open()
        if kind == "over":
            talk(C, "FA")
            talk(S, "FA", ack=1)
            talk(C, "A", 1, ack=1)
        elif kind != "open":
            talk(C, "FA" if kind == "closing" else "A", 0, b"x")
    talk.now = max(talk.now, 0.0)
    assert not talk.tracker.expire(talk.now + table.PATIENCE_S[kind] - 0.1)
    events = talk.tracker.expire(talk.now + table.PATIENCE_S[kind] + 0.1)
    assert [event.why for event in events] == ([] if kind == "over" else ["idle"])
    assert not list(talk.tracker.flows())


def test_the_patience_of_conntrack() -> None:
    """Defaults of nf_conntrack: /proc/sys/net/netfilter/nf_conntrack_*_timeout*."""
    tcp = {"opening": 120, "open": 432_000, "over": 120, "closing": 120, "unacked": 300}
    assert tcp | {"udp": 30, "talk": 120, "icmp": 30} == table.PATIENCE_S


def test_what_is_acknowledged_may_be_silent_for_days() -> None:
    talk = Talk(INLINE).open()
    talk(C, "A", 0, b"x")
    talk(S, "A", 0, ack=1)
    assert not talk.tracker.expire(talk.now + 400)


def test_a_flow_that_was_silent_too_long_is_another() -> None:
    keeper = Tracker()
    raw = decode(udp(A, B, (1, 53), b"x"))
    assert keeper.take(raw, 0.0, 1).flow == 1
    taken = keeper.take(raw, 30.0, 2)
    assert taken.flow == 2 and isinstance(taken.events[0], Over) and isinstance(taken.events[1], Began)


def test_a_reset_stands_in_a_capture_when_it_was_heeded() -> None:
    talk = Talk().open()
    talk(S, "R", 0)
    assert talk.tracker.expire(talk.now + tracker.RESET_S - 0.1) == []
    events = talk.tracker.expire(talk.now + tracker.RESET_S + 0.1)
    assert [(event.why, event.side) for event in events] == [("reset", S)]


def test_connections_without_a_reset_are_not_looked_at_again_and_again() -> None:
    keeper = Tracker()
    for number in range(5_000):
        keeper.take(decode(tcp(A, B, (number + 1, 80), "S", 1)), 0.0, number)
        keeper.take(decode(tcp(B, A, (80, number + 1), "SA", 1, 2)), 0.0, number)
    assert all(keeper.expire(float(now)) == [] for now in range(5_000))
    keeper.take(decode(tcp(B, A, (80, 7), "R", 2)), 5_000.0, 1)
    assert len(keeper.expire(5_011.0)) == 1


@pytest.mark.parametrize("choices", [Choices(), INLINE], ids=["capture", "inline"])
def test_ports_are_used_again(choices: Choices) -> None:
    talk = Talk(choices).open()
    talk(C, "A", 0, b"old")
    talk(S, "R", 0)
    talk.isns[C] = 900_000
    assert talk(C, "S").flow == 2
    talk(S, "SA")
    talk(C, "A", 0, b"new")
    assert talk.said(C) == b"oldnew" and kinds(talk, Over) == ["reset"]


@pytest.mark.parametrize("choices", [Choices(), INLINE], ids=["capture", "inline"])
def test_a_syn_in_an_open_connection_begins_another_when_it_is_answered(choices: Choices) -> None:
    """Its client may have forgotten the old one; or it is an attacker's, who cannot see the answer (RFC 5961, 4)."""
    talk = Talk(choices).open()
    talk(C, "A", 0, b"old")
    assert talk(C, "S", isn=900_000).place == "bare"
    assert talk(C, "A", 3, b"er").flow == 1
    assert talk.said(C) == b"older"
    talk(C, "S", isn=900_000)
    talk.isns = {C: 900_000, S: 77}
    taken = talk(S, "SA")
    assert taken.flow == 2 and kinds(talk, Over) == ["reused"]
    talk(C, "A", 0, b"new")
    assert talk.said(C) == b"oldernew"


def test_bytes_of_a_syn_in_an_open_connection_are_not_let_by() -> None:
    talk = Talk(INLINE).open()
    assert talk(C, "S", isn=900_000, data=b"GET").why == "bytes of a SYN in an open connection"


def test_a_refused_connection_stays_so_until_a_syn() -> None:
    talk = Talk(INLINE).open()
    assert talk.tracker.refuse(1, talk.now)[0].why == "refused" and talk.tracker.refuse(1, talk.now) == []
    talk.now += 9999
    talk.tracker.expire(talk.now)
    assert talk(C, "A", 0, b"GET").place == talk(S, "A", 0).place == talk(S, "R", 0).place == "refused"
    assert talk(C, "S", isn=7).flow == 2


def test_a_refused_flow_of_datagrams() -> None:
    keeper = Tracker(INLINE)
    keeper.take(decode(udp(A, B, (1, 53), b"x")), 0.0, 1)
    keeper.refuse(1, 0.0)
    for now in (20.0, 40.0):  # what goes on is not forgotten
        assert keeper.take(decode(udp(A, B, (1, 53), b"x")), now, 2).place == "refused"
    assert keeper.take(decode(udp(B, A, (53, 1), b"x")), 41.0, 3).place == "refused"


def test_a_forgotten_flow_begins_again() -> None:
    talk = Talk(INLINE).open()
    talk(C, "A", 0, b"GET")
    talk.tracker.forget(1)
    talk.tracker.forget(1)
    assert talk.tracker.memory == 0 and talk(C, "A", 3, b"x").why == "no handshake"


def test_datagrams() -> None:
    keeper = Tracker()
    taken = keeper.take(decode(udp(A, B, (1000, 53), b"question")), 1.0, 1)
    begun, data = taken.events
    assert begun == Began(1, "udp", Address(A, 1000), Address(B, 53), 1.0, 1)
    assert data == Datagram(1, C, b"question", 1.0, (1,)) and taken.place == "next"
    answer = keeper.take(decode(udp(B, A, (53, 1000), b"answer")), 2.0, 2)
    assert answer.events == (Datagram(1, S, b"answer", 2.0, (2,)),)
    assert keeper.take(decode(udp(A, B, (1001, 53), b"")), 2.0, 3).flow == 2
    assert keeper.find("udp", Address(A, 1000), Address(B, 53)) == 1
    assert keeper.find("tcp", Address(A, 1000), Address(B, 53)) == 0
    assert [event.why for event in keeper.end(3.0)] == ["end", "end"]


def test_who_sent_it_may_be_known() -> None:
    keeper = Tracker(INLINE)
    taken = keeper.take(decode(udp(B, A, (53, 1000), b"unasked")), 1.0, 1, sender=S)
    assert taken.side is S and taken.events[0].client == Address(A, 1000)


def test_fragments_of_a_datagram() -> None:
    keeper = Tracker()
    raw = udp(A, B, (1000, 53), bytes(3000))
    parts = pieces(raw, [(0, 1000), (1000, 2000), (2000, 3008)])
    taken = [keeper.take(decode(part), 1.0, number) for number, part in enumerate(parts, 1)]
    assert [one.place for one in taken] == ["part", "part", "next"]
    assert taken[2].events[1] == Datagram(1, C, bytes(3000), 1.0, (1, 2, 3)) and keeper.memory == 0


def test_echoes_are_one_flow_by_their_identifier() -> None:
    keeper = Tracker()
    assert keeper.take(decode(echo(A, B, 8, 7)), 1.0, 1).flow == 1
    answer = keeper.take(decode(echo(B, A, 0, 7)), 1.0, 2)
    assert (answer.flow, answer.side) == (1, S)
    assert keeper.take(decode(echo(A, B, 8, 8)), 1.0, 3).flow == 2
    assert {flow[1:] for flow in keeper.flows()} == {("icmp", Address(A, 0), Address(B, 0))}


def test_errors_of_icmp_belong_to_the_flow_they_tell_of() -> None:
    keeper = Tracker(INLINE)
    lost = udp(A, B, (1000, 53), b"question")
    error = ip("10.9.9.9", A, 1, b"\3\4\0\0\0\0\5\xdc" + lost[:28])
    assert keeper.take(decode(error), 1.0, 1).why == "an error of ICMP about no flow"
    keeper.take(decode(lost), 1.0, 2)
    taken = keeper.take(decode(error), 1.0, 3)
    assert (taken.place, taken.side, taken.events) == ("bare", S, (Told(1, C, 3, 4, 1.0),))
    keeper.take(decode(echo(A, B, 8, 7)), 1.0, 4)
    about = keeper.take(decode(ip(B, A, 1, b"\x0b\0\0\0\0\0\0\0" + echo(A, B, 8, 7))), 1.0, 5)
    assert about.flow == 2
    keeper.refuse(1, 1.0)
    assert keeper.take(decode(error), 1.0, 6).place == "refused"


def test_other_transports_and_loops_are_counted() -> None:
    keeper = Tracker()
    keeper.take(decode(ip(A, B, 47, b"GRE")), 0.0, 1)
    keeper.take(decode(udp(A, A, (5, 5), b"")), 0.0, 2)
    assert keeper.counters == {"invalid: protocol 47": 1, "invalid: sent to where it comes from": 1}


def test_checksums_are_verified_by_choice() -> None:
    bad = bytearray(udp(A6, B6, (1, 2), b"data"))
    bad[-1] ^= 1
    assert Tracker().take(decode(bytes(bad)), 0.0, 1).place == "next"
    assert Tracker(Choices(verify=True)).take(decode(bytes(bad)), 0.0, 1).why == "a wrong checksum"
    parts = pieces(udp(A, B, (1, 2), bytes(16)), [(0, 8), (8, 24)])
    keeper = Tracker(Choices(verify=True))
    keeper.take(decode(parts[0][:-8] + b"\0\0\0\0\0\0\0\0"), 0.0, 1)
    assert keeper.take(decode(parts[1]), 0.0, 2).why  # UDP of no port and no length


def test_checksums_left_to_the_hardware() -> None:
    raw = bytearray(udp(A, B, (1, 2), b"data"))
    whole = sum(int.from_bytes(raw[at : at + 2]) for at in range(12, 20, 2)) + 17 + 12
    raw[26:28] = (whole % 0xFFFF).to_bytes(2)
    packet = decode(bytes(raw))
    assert Tracker(Choices(verify=True)).take(packet, 0.0, 1).why == "a wrong checksum"
    assert Tracker(Choices(verify=True)).take(packet, 0.0, 1, partial=True).place == "next"
    assert Tracker(Choices(verify=True, partial=True)).take(packet, 0.0, 1).place == "next"
