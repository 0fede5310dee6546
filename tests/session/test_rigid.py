"""A session over a connection that is not terminated: nothing is added, nothing left out, a denial closes."""

import contextlib
import ssl

import pytest

from appliance import config
from appliance.facts.readers import Shared
from appliance.model import Address, Answered, Ask, Close, Effect, Flow, Note, Process, Received, Send, Side
from appliance.session.rigid import Rigid

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(4242, 1, "/usr/bin/curl", ("curl",), "acme.service", 1000)
RULES = """
targets:
  web: {protocol: http, mode: packet, address: "10.0.0.1:80"}
rules:
  - {id: no-delete, when: {method: DELETE}, do: block}
  - {id: ask, when: {method: PUT}, do: approve, approvers: {group: dba}}
  - {id: rest, do: allow}
"""
MASKS = RULES.replace("rules:", "rules:\n  - {id: cards, when: {detect: [credit_card]}, do: mask, with: keep-last-4}")
CARD = "4111111111111111"


def session(rules: str = RULES, host: str = "10.0.0.1") -> Rigid:
    policy = config.rules([("rules.d/a.yaml", rules)], lambda name: [name])
    flow = Flow("0001", 0.0, Address("10.0.0.9", 5), Address(host, 80), AGENT)
    made = Rigid(flow, lambda: policy, Shared())
    made.start(100.0, 1_700_000_000.0)
    return made


def give(to: Rigid, side: Side, data: bytes) -> list[Effect]:
    return [effect for effect in to.receive(Received(side, data), 101.0) if not isinstance(effect, Note)]


def request(method: str, fields: str = "") -> bytes:
    return f"{method} /x HTTP/1.1\r\nHost: web\r\n{fields}\r\n".encode()


def reply(body: str, fields: str = "", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{fields}Content-Length: {len(body.encode())}\r\n\r\n"
    return head.encode() + body.encode()


def sent(effects: list[Effect], to: Side) -> bytes:
    return b"".join(effect.data for effect in effects if isinstance(effect, Send) and effect.to is to)


def test_allowed_bytes_are_sent_as_they_came() -> None:
    one = session()
    assert give(one, C, request("GET")) == [Send(S, request("GET"))]
    assert sent(give(one, S, reply("{}")), C) == reply("{}")


def test_a_denial_closes_and_says_nothing() -> None:
    assert give(session(), C, request("DELETE")) == [Close(True)]


def test_a_held_request_tells_the_client_nothing() -> None:
    one = session()
    (ask,) = give(one, C, request("PUT"))
    assert isinstance(ask, Ask)
    found = one.receive(Answered(ask.question.id, approved=True, by="dana"), 102.0)
    assert sent(found, S) == request("PUT")
    assert sent(found, C) == b""


def test_rubbish_closes() -> None:
    assert give(session(), C, b"\0\1\2\3\r\n\r\n") == [Close(True)]


def test_failing_closes() -> None:
    found = [effect for effect in session().fail("no room") if not isinstance(effect, Note)]
    assert found == [Close(True)]


@pytest.mark.parametrize("body", [f'{{"card": "{CARD}"}}', f'{{"é": "{CARD}", "a": [1, 2]}}'], ids=["ascii", "utf-8"])
@pytest.mark.parametrize("fields", ["", 'ETag: "x"\r\nAccept-Ranges: bytes\r\n'], ids=["plain", "stale"])
def test_a_masked_answer_is_as_long_as_it_was(body: str, fields: str) -> None:
    one = session(MASKS)
    give(one, C, request("GET"))
    whole = reply(body, fields)
    out = sent(give(one, S, whole), C)
    assert len(out) == len(whole)
    assert CARD.encode() not in out
    assert body.replace(CARD, "*" * 12 + CARD[-4:]).encode() in out


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_wherever_a_masked_answer_is_cut(cut: int) -> None:
    one = session(MASKS)
    give(one, C, request("GET"))
    whole = reply(f'{{"card": "{CARD}", "more": "{"x" * 100}"}}')
    out = sent(give(one, S, whole[:cut]), C) + sent(give(one, S, whole[cut:]), C)
    assert len(out) == len(whole)
    assert CARD.encode() not in out


def test_a_mask_that_needs_another_length_closes() -> None:
    """In chunks, what was masked would be framed anew, and shorter."""
    one = session(MASKS)
    give(one, C, request("GET"))
    body = f"{{\"card\": \"{CARD}\"}}".encode()
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    found = give(one, S, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert found == [Close(True)]


def test_masks_that_come_into_force_later_close() -> None:
    policies = [config.rules([("rules.d/a.yaml", text)], lambda name: [name]) for text in (RULES, MASKS)]
    flow = Flow("0001", 0.0, Address("10.0.0.9", 5), Address("10.0.0.1", 80), AGENT)
    one = Rigid(flow, lambda: policies[0], Shared())
    one.start(100.0, 1_700_000_000.0)
    give(one, C, request("GET"))
    give(one, S, reply("{}"))
    policies.pop(0)
    assert give(one, C, request("GET")) == [Close(True)]


SEALED = """
targets:
  web: {protocol: http, mode: packet, address: "10.0.0.1:80"}
  sealed: {protocol: http, mode: packet, address: "10.0.0.2:80", tls: pass}
  named: {protocol: tls, mode: packet, address: "10.0.0.3:80"}
rules:
  - {id: front, to: named, when: {sni: bad.example}, do: block}
  - {id: names, to: named, when: {sni: "*.example"}, do: allow}
  - {id: rest, to: [web, sealed], do: allow}
"""


def test_tls_is_passed_where_rules_say_so_and_else_it_closes() -> None:
    assert give(session(SEALED), C, hello("www.example")) == [Close(True)]
    one = session(SEALED, "10.0.0.2")
    assert sent(give(one, C, hello("www.example")), S) == hello("www.example")
    assert sent(give(one, S, b"whatever"), C) == b"whatever"


def test_the_name_in_a_hello_is_judged() -> None:
    one = session(SEALED, "10.0.0.3")
    for byte in hello("www.example")[:-1]:
        assert give(one, C, bytes([byte])) == []
    assert sent(give(one, C, hello("www.example")[-1:]), S) == hello("www.example")
    assert give(session(SEALED, "10.0.0.3"), C, hello("bad.example")) == [Close(True)]
    assert give(session(SEALED, "10.0.0.3"), C, request("GET")) == [Close(True)]


def hello(name: str) -> bytes:
    """Return what a client of TLS says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    made = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        made.do_handshake()
    return HELLOS.setdefault(name, outgoing.read())


HELLOS: dict[str, bytes] = {}
