"""TLS that is not opened: judged by its hello before any byte goes up, and by the server's answer before it goes down."""

import ssl
from pathlib import Path

import pytest

from appliance import config
from appliance.facts.readers import Shared
from appliance.model import Address, Close, Flow, Open, Process, Received, Send, Side
from appliance.session import Session
from appliance.session.onlooker import Onlooker
from tests.session.playbook import Playbook, noted, sent
from tests.wire.tls.test_handshake import VERSIONS, Flights, flights, leaf
from tests.wire.tls.test_hello import made, real, sni

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(1, 1, "/usr/bin/curl", ("curl",), "acme.service", 1000)
FLOW = Flow("f1", 1.0, Address("10.0.0.5", 40000), Address("10.0.0.2", 443), AGENT)
HEAD = 'targets:\n  far: {protocol: tls, address: ["10.0.0.2:443"]}\nrules:\n'
NAME = "  - {id: name, to: far, when: {sni: db.example, hello: plain}, do: allow}\n"


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> dict[ssl.TLSVersion, Flights]:
    pem: Path = tmp_path_factory.mktemp("tls") / "leaf.pem"
    pem.write_text(leaf(("db.example", "evil.example")))
    return {version: flights(pem, version) for version in VERSIONS}


def session(rules: str) -> Session:
    policy = config.rules([("r.yaml", HEAD + rules)], lambda name: [name])
    return Session(FLOW, lambda: policy, Shared())


def opened(rules: str) -> Playbook:
    book = Playbook(session(rules))
    book << noted("opened", target="far", protocol="tls")
    return book


def test_a_hello_that_a_rule_allows_goes_up_and_is_in_the_record() -> None:
    data = real("db.example")
    with opened(NAME) as p:
        p >> Received(C, data)
        p << noted("message", message="tls") << noted("decision", rule="name", has="not opened: TLS to db.example") << sent(S, data)


def test_a_hello_that_no_rule_allows_does_not_go_up() -> None:
    with opened(NAME) as p:
        p >> Received(C, real("other.example"))
        p << noted("message", message="tls") << noted("decision", verdict="block") << noted("closed") << isclose


def test_a_hello_in_pieces_is_judged_when_it_is_whole() -> None:
    data = real("db.example")
    with opened(NAME) as p:
        p >> Received(C, data[:50])
        p >> Received(C, data[50:])
        p << noted("message", message="tls") << noted("decision", rule="name") << sent(S, data)


def test_what_is_no_tls_is_refused() -> None:
    with opened(NAME) as p:
        p >> Received(C, b"GET / HTTP/1.1\r\n\r\n")
        p << noted("incident", has="no TLS") << noted("closed") << isclose


@pytest.mark.parametrize("version", VERSIONS)
def test_a_servers_answer_is_judged_before_it_goes_down(talks: dict[ssl.TLSVersion, Flights], version: ssl.TLSVersion) -> None:
    """By the names of its certificate; TLS 1.3 hides them, so the rule cannot be answered."""
    said = talks[version]
    with opened("  - {id: cert, to: far, when: {certificate: evil.example}, do: block}\n" + NAME) as p:
        p >> Received(*said[0])
        p << noted("message") << noted("decision", rule="name") << sent(S)
        p >> Received(*said[1])
        p << noted("decision", verdict="block", rule="cert") << noted("closed") << isclose


@pytest.mark.parametrize("version", VERSIONS)
def test_what_follows_passes_without_a_word(talks: dict[ssl.TLSVersion, Flights], version: ssl.TLSVersion) -> None:
    said = talks[version]
    with opened("  - {id: old, to: far, when: {version: [TLSv1.0, TLSv1.1]}, do: block}\n" + NAME) as p:
        p >> Received(*said[0])
        p.take()
        p >> Received(*said[1])
        p << noted("decision", rule="name", has="version=TLSv1.") << sent(C, said[1][1])
        for side, data in said[2:]:
            p >> Received(side, data)
            p << sent(side.other, data)
        p >> Received(C, b"\x17\3\3\0\3abc")
        p << sent(S, b"\x17\3\3\0\3abc")


@pytest.mark.parametrize("version", VERSIONS)
def test_it_rests_when_nothing_more_is_in_the_clear_and_the_rules_are_the_same(
    talks: dict[ssl.TLSVersion, Flights], version: ssl.TLSVersion
) -> None:
    policies = [config.rules([("r.yaml", HEAD + NAME)], lambda name: [name]) for _ in range(2)]
    looks = Session(FLOW, lambda: policies[0], Shared())
    looks.start(1.0, 1.0)
    for side, data in talks[version][:2]:
        assert not looks.passing, "who is asked for, or who answers, is still to be said"
        looks.receive(Received(side, data), 1.0)
    looks.receive(Received(C, b"\x17\3\3\0\3abc"), 1.0)
    assert looks.passing
    policies.pop(0)
    assert not looks.passing, "other rules have not judged it yet, though they say the same"
    looks.receive(Received(C, b"\x17\3\3\0\3abc"), 1.0)
    assert looks.passing
    looks.fail("over")
    assert not looks.passing


def test_what_is_inspected_never_rests() -> None:
    inspected = session("  - {id: reads, to: far, when: {version: TLSv1.3}, do: allow}\n")
    inspected.start(1.0, 1.0)
    inspected.receive(Received(C, real("db.example")[:20]), 1.0)
    assert not inspected.passing


def test_a_place_passed_unread_rests_after_its_first_bytes() -> None:
    texts = [HEAD + "  - {id: raw, to: far, do: allow, inspect: false}\n", HEAD + "  - {id: none, to: far, do: block}\n"]
    policies = [config.rules([("r.yaml", text)], lambda name: [name]) for text in texts]
    raw = Session(FLOW, lambda: policies[0], Shared())
    raw.start(1.0, 1.0)
    assert not raw.passing
    raw.receive(Received(C, b"one"), 1.0)
    assert raw.passing
    policies.pop(0)
    assert not raw.passing
    assert isclose(raw.receive(Received(S, b"two"), 1.0)[-1])
    assert not raw.passing


@pytest.mark.parametrize("then", [HEAD + NAME.replace("db.", "other."), HEAD.replace("]}", "], tls: {name: other.example}}") + NAME])
def test_new_rules_end_what_they_would_not_have_let_begin(talks: dict[ssl.TLSVersion, Flights], then: str) -> None:
    policies = [config.rules([("r.yaml", text)], lambda name: [name]) for text in (HEAD + NAME, then)]
    book = Playbook(Session(FLOW, lambda: policies[0], Shared()))
    book.take()
    with book as p:
        p >> Received(*talks[VERSIONS[0]][0])
        p.take()
        policies.pop(0)
        p >> Received(C, b"\x17\3\3\0\3abc")
        p << noted("closed", has="no longer pass") << isclose


def test_tls_is_opened_as_the_rules_in_force_say_when_it_begins() -> None:
    text = "targets:\n  far: {{protocol: http, address: ['10.0.0.2:443'], tls: {{pin: {0}}}}}\nrules:\n  - {{id: all, do: allow}}\n"
    policies = [config.rules([("r.yaml", text.format(pin * 64))], lambda name: [name]) for pin in "ab"]
    one, data = Session(FLOW, lambda: policies[0], Shared()), real("db.example")
    one.start(1.0, 1.0)
    one.receive(Received(C, data[:50]), 1.0)
    policies.pop(0)
    (ask,) = (effect for effect in one.receive(Received(C, data[50:]), 1.0) if isinstance(effect, Open))
    assert ask.trust.pin == ("b" * 64,)


def test_what_is_said_in_the_clear_is_judged_once_and_not_with_each_piece() -> None:
    one = session(NAME)
    one.start(1.0, 1.0)
    one.receive(Received(C, real("db.example")), 1.0)
    judged = one._raw._judged
    assert judged is not None
    for _ in range(3):
        assert [type(effect) for effect in one.receive(Received(C, b"\x14\3\3\0\1\1"), 1.0)] == [Send]
    assert one._raw._judged is judged


def test_what_came_with_a_hello_is_not_kept() -> None:
    """A client may say 256 KB more in the same read, and have thousands of connections."""
    one, data = session(NAME), real("db.example") + b"\x17\3\3\x40\0" + bytes(16_384)
    one.start(1.0, 1.0)
    assert [effect for effect in one.receive(Received(C, data), 1.0) if isinstance(effect, Send)] == [Send(S, data)]
    assert one.held == 0
    assert one._encryption.begun() == b""


def test_what_waits_for_more_of_what_is_in_the_clear_is_told_to_the_caller() -> None:
    """It passed already, but is kept here: thousands of flows may wait for the rest of a certificate."""
    one = session(NAME)
    one.start(1.0, 1.0)
    one.receive(Received(C, real("db.example")), 1.0)
    one.receive(Received(S, b"\x16\3\3\x40\0\x0b\0\xff\xff" + bytes(10_000)), 1.0)
    assert 10_000 < one.held < 11_000
    one.receive(Received(S, bytes(16_384 - 10_004) + b"\x17\3\3\0\1x"), 1.0)
    assert one.held == 0


@pytest.mark.parametrize("rules", [NAME, "  - {id: all, to: far, do: allow}\n"])
def test_a_second_hello_for_another_server_does_not_go_up(tmp_path: Path, rules: str) -> None:
    """OpenSSL's servers act on the second hello's name, where they have asked for one (RFC 8446 section 4.1.4)."""
    (tmp_path / "pem").write_text(leaf(("db.example",)))
    first, retry, second, answer, *_ = flights(tmp_path / "pem", VERSIONS[1], curve="secp384r1")
    for last in (second, (C, made(sni(b"evil.example")))):
        with opened(rules) as p:
            p >> Received(*first)
            p.take()
            p >> Received(*retry)
            p << noted("decision", verdict="allow") << sent(C, retry[1])
            p >> Received(*last)
            if last is second:
                p << sent(S, second[1])
                p >> Received(*answer)
                p << noted("decision", verdict="allow") << sent(C, answer[1])
            else:
                p << noted("incident", has="a second hello, for evil.example") << noted("closed") << isclose


def isclose(effect: object) -> bool:
    return isinstance(effect, Close)


# -- looking on -------------------------------------------------------------------------------------------------


def test_an_onlooker_judges_and_refuses_nothing(talks: dict[ssl.TLSVersion, Flights]) -> None:
    rules = "  - {id: none, do: block}\n"
    policy = config.rules([("r.yaml", HEAD + rules)], lambda name: [name])
    looks = Onlooker(FLOW, policy, Shared())
    effects = looks.start(1.0, 1.0)
    for side, data in talks[VERSIONS[0]]:
        effects += looks.receive(Received(side, data), 1.0)
    decisions = [e.decision.verdict for e in effects if getattr(e, "decision", None)]  # type: ignore[union-attr]
    assert decisions == ["block", "block", "block"], "the connection, the hello, the answer"
    assert looks.unread and sum(isinstance(e, Send) for e in effects) == len(talks[VERSIONS[0]])
    assert not any(isinstance(e, Close) for e in effects)


def test_an_onlooker_goes_on_behind_an_encrypted_hello() -> None:
    policy = config.rules([("r.yaml", HEAD + NAME)], lambda name: [name])
    looks = Onlooker(FLOW, policy, Shared())
    looks.start(1.0, 1.0)
    effects = looks.receive(Received(C, made(sni(b"front.example"), (0xFE0D, b"\0" * 20))), 1.0)
    assert any("hello=encrypted" in getattr(e, "text", "") for e in effects) and not any(isinstance(e, Close) for e in effects)
