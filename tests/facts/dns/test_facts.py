"""What a question of DNS is, in the words of rules; and a tunnel that comes to its end."""

import base64
import random

import pytest

from appliance.config import rules
from appliance.facts import Facts, dns
from appliance.facts.dns import DNS as Reader
from appliance.facts.dns import MAX_OPEN, MAX_TTL_S, MIN_TTL_S, entropy
from appliance.facts.hosts import public
from appliance.facts.moved import MAX_COUNTED, MAX_UNITS, Moved
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Address, ConfigError, Flow, Learned, Message, Process, Received, Send, Side
from appliance.session import Session
from appliance.wire.dns import DNS
from tests.session.playbook import Playbook
from tests.wire.dns.given import address, answer, edns, question, record

C, S = Side.CLIENT, Side.SERVER


def facts(data: bytes) -> Facts:
    [message] = DNS().feed(C, data)
    found = open_reader("dns", Shared()).ask(message)
    assert found is not None
    return found


def test_each_word() -> None:
    found = facts(question("A.bcd.Example.com", "TXT", opt=edns((10, bytes(8)), (65001, b"x"))))
    assert {key: set(values) for key, values in found.values.items()} == {
        "qname": {"a.bcd.example.com"},
        "qtype": {"TXT"},
        "qclass": {"IN"},
        "labels": {"4"},
        "label": {"7"},
        "length": {"19"},
        "entropy": {"200"},
        "option": {"cookie", "65001"},
        "size": {str(12 + 19 + 4 + 11 + 12 + 5)},
        "text": {"a.bcd.example.com"},
        "rate": {"1"},
        "bytes": {"63"},
        "unit_rate": {"1"},
        "unit_bytes": {"63"},
    }
    assert found.subject == "TXT a.bcd.example.com"


def test_the_root_and_a_type_without_a_name() -> None:
    data = question("")[:-4] + b"\xff\x00\0\3"
    found = facts(data)
    assert (found.values["qname"], found.values["qtype"], found.values["qclass"]) == ({"."}, {"OTHER"}, {"CH"})
    assert (found.values["labels"], found.values["length"], found.values["entropy"]) == ({"0"}, {"1"}, {"0"})


def test_bytes_that_are_no_characters_count_as_one() -> None:
    [message] = DNS().feed(C, question("x")[:12] + b"\3\0\xff.\0\0\1\0\1")
    found = open_reader("dns", Shared()).ask(message)
    assert found is not None
    assert (found.values["label"], found.values["length"]) == ({"3"}, {"5"})


@pytest.mark.parametrize(("text", "least", "most"), [("", 0, 0), ("aaaa", 0, 0), ("www", 0, 0), ("mail", 200, 200), ("0123456789abcdef", 400, 400)])
def test_entropy(text: str, least: int, most: int) -> None:
    assert least <= entropy(text) <= most


@pytest.mark.parametrize("text", ["TXT WWW.Example.", "txt www.example"])
def test_a_question_as_a_person_types_it(text: str) -> None:
    found = open_reader("dns", Shared()).ask(Message(C, "query", b"", text=text))
    assert found is not None
    assert (found.values["qname"], found.values["qtype"]) == ({"www.example"}, {"TXT"})


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("1.1.1.1", True), ("10.0.0.1", False), ("100.64.0.1", False), ("127.0.0.1", False), ("169.254.169.254", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("2606:4700::1111", True), ("::1", False),
        ("fe80::1", False), ("fd00::1", False), ("::ffff:10.0.0.1", False), ("::ffff:1.1.1.1", True), ("ff02::1", False),
        ("64:ff9b::a00:1", False), ("64:ff9b::101:101", True), ("2002:a00:1::", False),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", False),
    ],
)  # fmt: skip
def test_which_addresses_anybody_may_have(host: str, answer: bool) -> None:
    assert public(host) is answer


def test_what_is_known_only_with_the_answer_cannot_allow() -> None:
    with pytest.raises(ConfigError, match="`answer` is known when the question has gone up"):
        rules([("r.yaml", "rules: [{id: a, when: {answer: '1.1.1.1', qname: a.example}, do: allow}]")], lambda host: [])


def test_an_answer_is_compared_as_text_and_a_network_is_none() -> None:
    with pytest.raises(ConfigError, match=r"`10\.0\.0\.0/8` is compared as text"):
        rules([("r.yaml", "rules: [{id: a, when: {answer: 10.0.0.0/8}, do: block}]")], lambda host: [])
    rules([("r.yaml", "rules: [{id: a, when: {answer: [10.*, 0/25.2.0.192.in-addr.arpa]}, do: block}]")], lambda host: [])


@pytest.mark.parametrize(
    "rule", ["{id: a, do: block, reply: nxdomain}", "{id: a, to: 10.0.0.0/8, do: block, reply: nxdomain}",
             "{id: a, when: {effect: drop}, do: block, reply: nxdomain}"],
)  # fmt: skip
def test_a_reply_is_for_questions_of_dns(rule: str) -> None:
    with pytest.raises(ConfigError, match="`reply` is for dns, and this rule may be about others"):
        rules([("r.yaml", f"rules: [{rule}]")], lambda host: [])


def test_a_reply_needs_a_question() -> None:
    with pytest.raises(ConfigError, match="blocked as a whole is refused before it asks"):
        text = "targets: {r: {protocol: dns, address: 10.0.0.53}}\nrules: [{id: a, to: r, do: block, reply: nxdomain}]"
        rules([("r.yaml", text)], lambda host: [])


def test_a_reply_is_for_rules_that_block() -> None:
    with pytest.raises(ConfigError, match="`reply` is for rules that block"):
        rules([("r.yaml", "rules: [{id: a, when: {qname: a.example}, do: allow, reply: nxdomain}]")], lambda host: [])


def test_only_so_many_are_counted_and_the_one_longest_still_goes() -> None:
    moved = Moved()
    first = Process(0, 0, "", (), "unit-0", 0)
    other = Process(0, 1, "", (), "unit-1", 0)
    for one in (other, first):
        moved.add(one, 0.0, 1, 100)
    for pid in range(1, MAX_COUNTED + 1):
        moved.add(Process(pid, pid, "", (), "unit-0", 0), 0.0, 1, 1)
    assert moved.values(first, 0.0, 0)["bytes"] == {"0"}, "the process is forgotten"
    assert moved.values(first, 0.0, 0)["unit_bytes"] == {str(100 + MAX_COUNTED)}, "its unit is not"
    assert moved.values(other, 0.0, 0)["unit_bytes"] == {"100"}, "nor is another"


def test_max_units() -> None:
    moved = Moved()
    processes = [Process(0, 0, "", (), f"unit-{number}", 0) for number in range(MAX_UNITS + 1)]
    for one in processes:
        moved.add(one, 0.0, 1, 100)
    assert moved.values(processes[0], 0.0, 0)["unit_bytes"] == {"0"}
    assert moved.values(processes[1], 0.0, 0)["unit_bytes"] == {"100"}


def told(qname: str, ttl: int) -> Learned | None:
    wire, reader = DNS(), open_reader("dns", Shared())
    assert isinstance(reader, Reader)
    [asked] = wire.feed(C, question(qname))
    wire.allow(asked)
    reader.sent(asked)
    [answered] = wire.feed(S, answer(qname, address("192.0.2.1", ttl=ttl)))
    return reader.learned(answered)


@pytest.mark.parametrize(("ttl", "held"), [(0, MIN_TTL_S), (59, MIN_TTL_S), (61, 61), (86_401, MAX_TTL_S), (2**31 - 1, MAX_TTL_S)])
def test_a_name_holds_for_a_while_whatever_its_ttl(ttl: int, held: float) -> None:
    assert told("a.example", ttl) == Learned("a.example", ("192.0.2.1",), held)


def test_of_so_many_questions_the_facts_are_kept_and_the_oldest_goes() -> None:
    wire, reader = DNS(), open_reader("dns", Shared())
    assert isinstance(reader, Reader)
    answers = []
    for n in range(MAX_OPEN + 1):
        [asked] = wire.feed(C, question(f"n{n}.example", id_=n))
        wire.allow(asked)
        reader.sent(asked)
        answers += wire.feed(S, answer(f"n{n}.example", address(), id_=n))
    assert [reader.told(one) is not None for one in answers[:2]] == [False, True]


def test_max_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all flows together; what was answered is not kept, and takes nobody's place."""
    monkeypatch.setattr(dns, "MAX_KEPT", 3)
    shared, asked = Shared(), []
    for n in range(5):
        wire, reader = DNS(), open_reader("dns", shared)
        assert isinstance(reader, Reader)
        [message] = wire.feed(C, question("n.example"))
        wire.allow(message)
        reader.sent(message)
        [answered] = wire.feed(S, answer("n.example", address()))
        asked.append((reader, answered))
        if n == 4:
            assert reader.told(answered) is not None
    assert [reader.told(answered) is not None for reader, answered in asked] == [False, False, True, True, False]


# -- a tunnel -----------------------------------------------------------------------------------------------------

BUDGET = 10_000  # bytes of questions and answers of a unit in an hour
TUNNEL = f"""
    targets: {{resolver: {{protocol: dns, address: "10.0.0.53:53"}}}}
    rules:
      - {{id: budget, to: resolver, when: {{unit_bytes: {{gt: {BUDGET}}}}}, do: block}}
      - {{id: names, to: resolver, do: allow}}
"""


def test_a_tunnel_is_stopped_within_its_bytes_whatever_processes_it_starts() -> None:
    policy = rules([("r.yaml", TUNNEL)], lambda host: [])
    shared, carried, refused = Shared(), 0, 0
    secret = random.Random(7)
    for n in range(400):
        process = Process(100 + n, n, "/usr/bin/dig", (), "acme.service/child", 1000)
        flow = Flow(f"f{n}", 0.0, Address("10.0.0.1", 1024 + n), Address("10.0.0.53", 53), process, transport="udp")
        p = Playbook(Session(flow, lambda: policy, shared))
        p.take()
        data = base64.b32encode(secret.randbytes(35)).decode().strip("=").lower()
        ask = question(f"{data}.t.evil.example", "TXT", id_=n)
        p >> Received(C, ask)
        if any(isinstance(effect, Send) and effect.to is S for effect in p.take()):
            told = answer(f"{data}.t.evil.example", record(b"\xc0\x0c", "TXT", b"\x20" + secret.randbytes(32)), qtype="TXT", id_=n)
            p >> Received(S, told)
            p.take()
            carried += len(ask) + len(told)
        else:
            refused += 1
    assert refused > 200
    assert BUDGET / 2 < carried <= BUDGET + len(told), "what is asked within the budget is answered"


def test_a_process_that_asks_the_same_all_day_has_an_hour() -> None:
    policy = rules([("r.yaml", TUNNEL)], lambda host: [])
    flow = Flow("f", 0.0, Address("10.0.0.1", 1024), Address("10.0.0.53", 53), None, transport="udp")
    p = Playbook(Session(flow, lambda: policy, Shared()))
    p.take()
    went = 0
    for _ in range(24 * 12):  # one each five minutes
        p >> Received(C, question("updates.example.com"))
        went += any(isinstance(effect, Send) and effect.to is S for effect in p.take())
        p.wait(300)
    assert went == 24 * 12
