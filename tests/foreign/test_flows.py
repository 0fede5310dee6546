"""Frames to sessions: which are put together, what cannot be read over, and limits."""

import struct
import time
from collections.abc import Sequence

import msgspec
import pytest

from appliance import config
from appliance.model import Address, Flow, Note, Side
from appliance.record.tcp import Connection
from appliance.service.foreign import flows as module
from appliance.service.foreign.capture import Caught
from appliance.service.foreign.flows import MAX_ODD, Flows
from appliance.service.foreign.found import MAX_JUDGED, Finder, Found
from appliance.service.whatif import Named
from appliance.session.onlooker import CONNECT
from tests.foreign.files import CLIENT, SERVER, talk
from tests.packet.make import udp
from tests.record.test_datagrams import answer, question

C, S = Side.CLIENT, Side.SERVER
SET, GET, FLUSH = b"SET a 1\r\n", b"GET a\r\n", b"FLUSHALL\r\n"
ALLOW = "rules:\n  - {id: no-flush, when: {effect: flush}, do: block}\n  - {id: all, do: allow}\n"
ASKED = [(C, SET), (S, b"+OK\r\n"), (C, FLUSH), (S, b"+OK\r\n"), (C, GET), (S, b"$-1\r\n")]
ETHERNET = bytes(12) + b"\x08\0"


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, Note, float, int]] = []
        self.flows: dict[str, Flow] = {}

    def append(self, flow: Flow, notes: Sequence[Note], now: float, packet: int) -> None:
        self.flows[flow.id] = flow
        self.notes += [(flow.id, note, now, packet) for note in notes]

    def of(self, kind: str) -> list[Note]:
        return [note for _, note, _, _ in self.notes if note.kind == kind]

    def verdicts(self) -> list[tuple[str, str]]:
        return [(n.decision.verdict, n.text) for n in self.of("decision") if n.decision]


def caught(packets: Sequence[tuple[float, bytes]], linktype: int = 101) -> list[Caught]:
    return [Caught(n, t, linktype, data, len(data)) for n, (t, data) in enumerate(packets, 1)]


def given(frames: Sequence[Caught], rules: str = ALLOW, who: str = "") -> tuple[Kept, Flows]:
    policy = Named(config.rules([("r.yaml", rules)], lambda name: [name]), who)
    kept, ids = Kept(), iter(range(1_000_000))
    flows = Flows(policy, "f.pcap", lambda: f"f{next(ids)}", kept)
    for frame in frames:
        flows.give(frame)
    flows.end()
    return kept, flows


def test_a_session_by_its_first_bytes() -> None:
    kept, _ = given(caught(talk(*ASKED)))
    assert kept.verdicts() == [("allow", "SET a 1"), ("block", "FLUSHALL"), ("allow", "GET a")]
    assert kept.notes[0][1].kind == "opened" and kept.of("closed")[-1].protocol == "redis"
    (flow,) = kept.flows.values()
    assert (flow.client, flow.server, flow.process, flow.source) == (CLIENT, SERVER, None, "f.pcap")


def test_a_verdict_names_the_packet_that_completed_the_request() -> None:
    found: list[Found] = []
    policy = config.rules([("r.yaml", ALLOW)], lambda name: [name])
    flows = Flows(policy, "f", lambda: "f1", Finder(found.append))
    for frame in caught(talk(*ASKED)):
        flows.give(frame)
    flows.end()
    assert [(one.packet, one.verdict) for one in found[0].judged] == [(4, "allow"), (6, "block"), (8, "allow")]
    assert found[0].session.verdicts == {"all": 2, "no-flush": 1} and found[0].session.source == "f"
    assert found[0].judged[1].facts["effect"] == ("delete", "flush", "write")


@pytest.mark.parametrize(("linktype", "head"), [
    (1, ETHERNET), (1, bytes(12) + b"\x81\0\0\5\x08\0"), (1, bytes(12) + b"\x88\xa8\0\5\x81\0\0\6\x08\0"), (101, b""), (12, b""),
    (228, b""), (0, b"\2\0\0\0"), (108, b"\0\0\0\2"), (113, bytes(14) + b"\x08\0"), (276, b"\x08\0" + bytes(18)),
])  # fmt: skip
def test_all_usual_links(linktype: int, head: bytes) -> None:
    packets = [(t, head + data) for t, data in talk(*ASKED)]
    kept, _ = given(caught(packets, linktype))
    assert ("block", "FLUSHALL") in kept.verdicts()


def test_links_that_are_not_known_and_frames_that_are_no_ip_are_counted() -> None:
    _, flows = given([Caught(1, 1.0, 147, b"x", 1), Caught(2, 1.0, 1, bytes(12) + b"\x08\6" + bytes(28), 42), Caught(3, 1.0, 101, b"\x45", 1)])
    assert flows.counters["link type 147 is not known"] == 1 and flows.counters["not IP"] == 1
    assert sum(count for why, count in flows.counters.items() if why.startswith("malformed")) == 1


def test_packets_out_of_order_twice_and_in_ipv6() -> None:
    ends = Address("fd00::5", 40000), Address("fd00::2", 6379)
    packets = talk(*ASKED, client=ends[0], server=ends[1])
    packets[3], packets[4] = packets[4], packets[3]
    packets.insert(5, packets[4])
    kept, _ = given(caught(sorted(packets, key=lambda p: 0)))
    assert ("block", "FLUSHALL") in kept.verdicts()


def test_what_a_rule_would_have_done_with_the_connection() -> None:
    rules = 'targets:\n  cache: {protocol: redis, address: ["10.0.0.2:6379"]}\nrules:\n  - {id: nobody, to: cache, do: block}\n  - {id: all, do: allow}\n'
    kept, _ = given(caught(talk(*ASKED)), rules)
    assert kept.verdicts()[0] == ("block", f"{CONNECT}10.0.0.2:6379")
    assert kept.of("opened")[0].target == "cache"


def test_whose_traffic_it_is_must_be_said() -> None:
    rules = "identities:\n  acme: {cgroup: acme.service}\nrules:\n  - {id: theirs, who: acme, do: allow}\n"
    named, unknown = (given(caught(talk(*ASKED)), rules, who)[0] for who in ("acme", ""))
    assert {verdict for verdict, _ in named.verdicts()} == {"allow"} and named.of("opened")[0].identity == "acme"
    assert {verdict for verdict, _ in unknown.verdicts()} == {"block"}


def test_a_hold_would_have_been_one_and_nothing_waits() -> None:
    rules = "rules:\n  - {id: ask, when: {effect: flush}, do: approve, approvers: {group: dba}}\n  - {id: all, do: allow}\n"
    kept, _ = given(caught(talk(*ASKED)), rules)
    assert kept.verdicts() == [("allow", "SET a 1"), ("approve", "FLUSHALL"), ("allow", "GET a")]


# -- what is missing --------------------------------------------------------------------------------------------


def test_a_gap_ends_the_reading_and_the_rest_is_counted() -> None:
    packets = talk(*ASKED)
    gone = next(i for i, (_, data) in enumerate(packets) if FLUSH in data)
    kept, _ = given(caught(packets[:gone] + packets[gone + 1 :]))
    assert kept.verdicts() == [("allow", "SET a 1")]
    assert any("are not in the capture" in note.text for note in kept.of("incident"))
    assert sum(note.size for note in kept.of("message") if note.message == "unread") > 0
    assert kept.notes[-1][1].kind == "closed"


def test_a_connection_whose_beginning_is_missing_is_read_where_its_protocol_lets_it() -> None:
    kept, _ = given(caught(talk(*ASKED)[3:]))
    assert ("block", "FLUSHALL") in kept.verdicts()
    assert kept.of("incident")[0].text == "its beginning is not in the capture"


def test_who_is_the_server_of_it_the_rules_tell() -> None:
    """The first packet that was seen is an answer (which is not read), and the ports do not tell."""
    ends = Address("10.0.0.5", 30000), Address("10.0.0.2", 40001)
    rules = 'targets:\n  cache: {protocol: redis, address: ["10.0.0.2:40001"]}\n' + ALLOW
    packets = talk(*ASKED, client=ends[0], server=ends[1])[4:]
    kept, _ = given(caught(packets), rules)
    assert [flow.server for flow in kept.flows.values()] == [ends[1]]
    assert ("block", "FLUSHALL") in kept.verdicts()


def test_bytes_of_no_protocol_are_counted() -> None:
    kept, _ = given(caught(talk((C, b"\0\1\2\3 rubbish"), (S, b"more of it"))))
    assert kept.verdicts() == [] and kept.of("incident")
    assert kept.notes[-1][1].kind == "closed" and sum(n.size for n in kept.of("message")) > 0


def test_a_capture_that_ends_early_ends_its_sessions() -> None:
    kept, _ = given(caught(talk(*ASKED, ends=False)))
    assert kept.of("closed")[0].text == "the capture ends"


def test_a_reset_is_one_in_the_record() -> None:
    made = Connection(CLIENT, SERVER, "f")
    packets = [*made.open(1.0), *made.say(C, 2.0, SET), *made.reset(S, 3.0)]
    later = talk((C, SET), client=Address("10.0.0.9", 1), time=100.0)
    kept, _ = given(caught([*[(p.time, p.data) for p in packets], *later]))
    assert any(note.message == "abort" for note in kept.of("closed"))


def test_a_snapped_packet_is_a_gap() -> None:
    frames = caught(talk(*ASKED))
    cut = next(i for i, frame in enumerate(frames) if FLUSH in frame.data)
    frames[cut] = msgspec.structs.replace(frames[cut], data=frames[cut].data[:44])
    kept, _ = given(frames)
    assert any("not in the capture" in note.text for note in kept.of("incident"))


# -- time -------------------------------------------------------------------------------------------------------


def test_time_does_not_go_back() -> None:
    packets = [(t - n * 3, data) for n, (t, data) in enumerate(talk(*ASKED))]
    kept, _ = given(caught(packets))
    times = [when for _, _, when, _ in kept.notes]
    assert times == sorted(times) and ("block", "FLUSHALL") in kept.verdicts()


def test_time_does_not_go_beyond_the_present() -> None:
    kept, _ = given(caught([(t + 10**12, data) for t, data in talk(*ASKED)]))
    assert max(when for _, _, when, _ in kept.notes) <= time.time()


# -- datagrams --------------------------------------------------------------------------------------------------


def test_datagrams_are_sessions_too() -> None:
    packets = [(1.0, udp("10.0.0.5", "10.0.0.2", (40000, 9999), b"hello")), (2.0, udp("10.0.0.2", "10.0.0.5", (9999, 40000), b"you"))]
    kept, _ = given(caught(packets), "rules:\n  - {id: all, do: allow}\n")
    (flow,) = kept.flows.values()
    assert (flow.transport, str(flow.server)) == ("udp", "10.0.0.2:9999")
    assert len([n for n in kept.of("message") if n.raw]) == 2 and kept.verdicts()[0][0] == "allow"


# -- limits -----------------------------------------------------------------------------------------------------


def test_a_flow_that_is_odd_all_the_time_is_noted_so_often() -> None:
    first = talk(*ASKED[:2], ends=False)
    inner = first[3][1]
    icmp = bytes((3, 1, 0, 0)) + bytes(4) + inner
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, bytes((10, 0, 0, 9)), bytes((10, 0, 0, 5)))
    kept, _ = given(caught([*first, *[(first[-1][0], head + icmp)] * (MAX_ODD + 20)]))
    assert len([note for note in kept.of("incident") if "ICMP" in note.text]) == MAX_ODD


def test_flows_beyond_the_limit_push_out_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHOICES", msgspec.structs.replace(module.CHOICES, max_flows=10))
    packets = [packet for n in range(40) for packet in talk((C, SET), client=Address("10.0.1.5", 1000 + n), ends=False)]
    kept, flows = given(caught(packets))
    assert len(kept.of("closed")) == 40 and flows.counters["over: evicted"] == 30


def test_requests_without_answers_are_given_up_at_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """HELLO changes how all is read, so what follows waits for its answer; the capture has only one side."""
    monkeypatch.setattr(module, "MAX_HELD", 1000)
    said = [(C, b"HELLO 3\r\n"), *[(C, SET * 50)] * 20]
    kept, _ = given(caught(talk(*said)))
    texts = [note.text for note in kept.of("incident")]
    assert any("over 1000 bytes of requests" in text for text in texts) or len(kept.verdicts()) > 900


def test_requests_that_are_shown_are_limited_and_all_are_counted() -> None:
    found: list[Found] = []
    flows = Flows(config.rules([("r.yaml", ALLOW)], lambda name: [name]), "f", lambda: "f1", Finder(found.append))
    for frame in caught(talk(*[(C, SET * 100), (S, b"+OK\r\n" * 100)] * 11)):
        flows.give(frame)
    flows.end()
    assert len(found[0].judged) == MAX_JUDGED and found[0].more == 100
    assert found[0].session.verdicts == {"all": MAX_JUDGED + 100}


def test_dns_by_its_port() -> None:
    packets = [(1.0, udp("10.0.0.5", "10.0.0.53", (40000, 53), question("a.evil.example"))),
               (1.1, udp("10.0.0.53", "10.0.0.5", (53, 40000), answer("a.evil.example")))]  # fmt: skip
    rules = 'rules:\n  - {id: no-evil, when: {qname: "*.evil.example"}, do: block}\n  - {id: all, do: allow}\n'
    kept, _ = given(caught(packets), rules)
    assert {(n.decision.verdict, n.decision.rule) for n in kept.of("decision") if n.decision} == {("block", "no-evil")}
    assert [n.raw for n in kept.of("message")] == [question("a.evil.example"), answer("a.evil.example")]
    assert kept.of("closed")[0].protocol == "dns"
