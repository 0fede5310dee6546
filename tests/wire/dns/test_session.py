"""DNS in a session: what goes up, what is refused how, what comes down, what is learned of it."""

import pytest

from appliance.config import rules
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Address, Close, Flow, Learned, Note, Process, Received, Send, Side
from appliance.session import Session
from appliance.session.answers import judged
from appliance.session.ground import Ground
from appliance.session.scribe import Scribe
from appliance.wire.dns import DNS
from appliance.wire.dns import message as messages
from appliance.wire.dns.connection import MAX_OPEN, MAX_REASON, MAX_SHOWN, refusal
from appliance.wire.dns.message import parse
from tests.session.playbook import Playbook, a, noted, sent
from tests.wire.dns.given import EDNS, POINTER, address, answer, framed, name, question, record

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(7, 1, "/usr/bin/agent", (), "acme.service", 1000)
RULES = """
    targets: {resolver: {protocol: dns, address: "10.0.0.53:53"}}
    rules:
      - {id: evil, when: {qname: "*.evil.example"}, do: block}
      - {id: gone, to: resolver, when: {qname: "*.gone.example"}, do: block, reply: nxdomain}
      - {id: rebinding, to: resolver, when: {answer: [internal]}, do: block}
      - {id: held, to: resolver, when: {qtype: ANY}, do: approve, approvers: {group: net}}
      - {id: names, to: resolver, when: {qtype: [A, AAAA, HTTPS, TXT, CNAME], qclass: IN}, do: allow}
"""


def session(text: str = RULES, transport: str = "udp", shared: Shared | None = None, host: str = "10.0.0.53") -> Playbook:
    policy = rules([("r.yaml", text)], lambda host: [])
    flow = Flow("f1", 0.0, Address("10.0.0.1", 40000), Address(host, 53), AGENT, transport=transport)
    p = Playbook(Session(flow, lambda: policy, shared or Shared()))
    p.take()
    return p


def down(p: Playbook) -> bytes:
    """Return what goes down, all other effects left out."""
    return b"".join(effect.data for effect in p.take() if isinstance(effect, Send) and effect.to is C)


def up(p: Playbook) -> bytes:
    return b"".join(effect.data for effect in p.take() if isinstance(effect, Send) and effect.to is S)


def asked(p: Playbook, data: bytes) -> None:
    p >> Received(C, data)
    assert up(p) == data


def test_a_question_goes_up_as_it_came_and_its_answer_down() -> None:
    ask, told = question("WwW.Example.com", opt=EDNS), answer("WwW.Example.com", address("1.1.1.1"))
    with session() as p:
        p >> Received(C, ask)
        p << noted("message", message="question", has="A www.example.com") << noted("decision", verdict="allow", rule="names")
        p << sent(S, ask)
        p >> Received(S, told)
        p << a(Learned, name="www.example.com", hosts=("1.1.1.1",), ttl_s=300.0)
        p << noted("message", message="answer") << sent(C, told)


def test_what_is_learned_comes_before_the_answer_goes_down() -> None:
    p = session()
    asked(p, question("a.example"))
    p >> Received(S, answer("a.example", address("1.1.1.1"), address("1.0.0.1", ttl=5)))
    effects = [effect for effect in p.take() if not isinstance(effect, Note)]
    assert effects[0] == Learned("a.example", ("1.1.1.1", "1.0.0.1"), 60.0)
    assert isinstance(effects[1], Send)


@pytest.mark.parametrize("target", ["10.0.0.99", "all"])
def test_nothing_is_learned_from_a_server_that_no_rule_names_as_one(target: str) -> None:
    p = session(f"targets: {{all: {{address: 0.0.0.0/0}}}}\nrules: [{{id: any, to: {target}, do: allow}}]", host="10.0.0.99")
    asked(p, question("a.example"))
    told = answer("a.example", address("1.1.1.1"))
    p >> Received(S, told)
    effects = p.take()
    assert not [effect for effect in effects if isinstance(effect, Learned)]
    assert [effect.data for effect in effects if isinstance(effect, Send)] == [told]


def test_a_port_of_a_service_tells_of_its_host() -> None:
    p = session()
    asked(p, question("_8443._https.www.example", "HTTPS"))
    hint = record(POINTER, "HTTPS", b"\0\1\0" + b"\0\4\0\4\1\1\1\1")
    p >> Received(S, answer("_8443._https.www.example", hint, qtype="HTTPS"))
    assert [e.name for e in p.take() if isinstance(e, Learned)] == ["www.example"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("_acme-challenge.www.example", "A"), ("_8443._https.www.example", "A"), ("_443._acme-challenge.www.example", "HTTPS")],
)
def test_other_names_below_a_host_do_not_tell_of_it(name: str, kind: str) -> None:
    """They may be in the hands of who proves something there, by an alias."""
    p = session()
    asked(p, question(name, kind))
    told = record(POINTER, "A", b"\1\1\1\1") if kind == "A" else record(POINTER, "HTTPS", b"\0\1\0\0\4\0\4\1\1\1\1")
    p >> Received(S, answer(name, told, qtype=kind))
    assert [e.name for e in p.take() if isinstance(e, Learned)] == [name]


def test_a_refused_question_is_refused_in_its_place() -> None:
    p = session()
    ask = question("x.EVIL.example", opt=EDNS)
    p >> Received(C, ask)
    reply = down(p)
    found = parse(reply)
    assert (found.id, found.code, found.question) == (7, 5, parse(ask).question)
    assert found.edns is not None
    [(option, value)] = messages.options(found.edns)
    assert (option, value[:2]) == (15, b"\0\x0f")
    assert b"denied by vendorgate (decision f1-1)" in value
    asked(p, question("fine.example", id_=8))


def test_a_client_without_edns_is_answered_without() -> None:
    p = session()
    p >> Received(C, question("x.evil.example"))
    found = parse(down(p))
    assert found.code == 5
    assert found.edns is None


def test_a_rule_may_say_that_there_is_no_such_name() -> None:
    p = session()
    p >> Received(C, question("x.gone.example"))
    assert parse(down(p)).code == 3


@pytest.mark.parametrize(
    "qname", ["X.evil.EXAMPLE", "x.evil.example.", "a.b.c.evil.example", "\u0445.evil.example"], ids=["case", "dot", "deep", "utf8"]
)
def test_a_name_cannot_be_written_round_a_rule(qname: str) -> None:
    p = session()
    p >> Received(C, question(qname))
    assert parse(down(p)).code == 5


def test_a_label_that_looks_like_two_is_not_of_the_zone_it_shows() -> None:
    p = session("targets: {r: {protocol: dns, address: 10.0.0.53}}\nrules: [{id: a, to: r, when: {qname: '*.corp.example'}, do: allow}]")
    p >> Received(C, question("x.corp.example"))
    assert up(p)
    ask = question("x")[:12] + b"\x06x.corp\7example\0" + b"\0\1\0\1"
    p >> Received(C, ask)
    assert parse(down(p)).code == 5


def test_an_international_name_in_a_rule() -> None:
    p = session(RULES.replace("*.evil.example", "*.Bücher.example"))
    p >> Received(C, question("x.xn--bcher-kva.example"))
    assert parse(down(p)).code == 5


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_an_answer_that_leads_inside_is_withheld(host: str) -> None:
    p = session()
    kind = "AAAA" if ":" in host else "A"
    asked(p, question("rebind.example", kind))
    p >> Received(S, answer("rebind.example", address("1.1.1.1") if kind == "A" else address("2606:4700::1"), address(host), qtype=kind))
    effects = p.take()
    assert not [effect for effect in effects if isinstance(effect, Learned)]
    [data] = [effect.data for effect in effects if isinstance(effect, Send)]
    assert parse(data).code == 5
    assert not parse(data).records
    assert [e.decision.rule for e in effects if isinstance(e, Note) and e.decision] == ["rebinding"]


def test_an_address_beside_the_chain_cannot_be_smuggled_past_a_rule() -> None:
    p = session(RULES.replace("[internal]", '["10.9.*"]'))
    asked(p, question("a.example"))
    p >> Received(S, answer("a.example", address("1.1.1.1"), address("10.9.9.9", name("b.example"))))
    assert parse(down(p)).code == 5


@pytest.mark.parametrize("where", ["answer", "more"])
def test_an_internal_address_of_another_name_is_one_too(where: str) -> None:
    """There are resolvers in clients that take it, whose ever it is."""
    p = session()
    asked(p, question("a.example"))
    inside = address("10.9.9.9", name("b.example"))
    told = (address("1.1.1.1"), inside) if where == "answer" else (address("1.1.1.1"),)
    p >> Received(S, answer("a.example", *told, more=() if where == "answer" else (inside,)))
    effects = p.take()
    assert not [effect for effect in effects if isinstance(effect, Learned)]
    [data] = [effect.data for effect in effects if isinstance(effect, Send)]
    assert parse(data).code == 5


@pytest.mark.parametrize(
    "data",
    [
        answer("a.example", address("6.6.6.6"), id_=8),
        answer("b.example", address("6.6.6.6")),
        answer("a.example", address("6.6.6.6"), qtype="AAAA"),
        question("a.example"),
        answer("a.example", address("6.6.6.6")) + b"x",
        b"rubbish",
        b"",
    ],
    ids=["id", "name", "type", "a question", "too long", "rubbish", "empty"],
)
def test_a_datagram_that_answers_nothing_is_dropped(data: bytes) -> None:
    p = session()
    asked(p, question("a.example"))
    p >> Received(S, data)
    assert not [effect for effect in p.take() if not isinstance(effect, Note)]
    told = answer("a.example", address("1.1.1.1"))
    p >> Received(S, told)
    assert down(p) == told
    p >> Received(S, told)
    assert down(p) == b"", "answered once"


def test_a_question_sent_twice_is_answered_twice() -> None:
    p = session()
    told = answer("a.example", address("1.1.1.1"))
    asked(p, question("a.example"))
    asked(p, question("a.example"))
    for _ in range(2):
        p >> Received(S, told)
        assert down(p) == told
    p >> Received(S, told)
    assert down(p) == b""


def test_an_answer_that_was_cut_passes_so_that_the_client_comes_over_tcp() -> None:
    p = session()
    asked(p, question("a.example"))
    cut = answer("a.example", flags=0x8380)
    p >> Received(S, cut)
    assert down(p) == cut


def test_an_answer_without_its_question() -> None:
    p = session()
    asked(p, question("a.example"))
    bare = (7).to_bytes(2, "big") + b"\x81\x81" + bytes(8)
    p >> Received(S, bare)
    assert down(p) == bare


def test_only_so_many_questions_wait_and_the_oldest_is_forgotten() -> None:
    p = session()
    for id_ in range(MAX_OPEN + 1):
        asked(p, question("a.example", id_=id_))
    p >> Received(S, answer("a.example", address("1.1.1.1"), id_=0))
    assert down(p) == b""
    p >> Received(S, answer("a.example", address("1.1.1.1"), id_=1))
    assert down(p) != b""


def test_a_transfer_of_a_zone_is_refused_whatever_the_rules() -> None:
    p = session("rules: [{id: all, to: 10.0.0.0/8, do: allow}]")
    p >> Received(C, question("example", "AXFR"))
    assert parse(down(p)).code == 5


def test_what_is_malformed_ends_the_flow() -> None:
    with session() as p:
        p >> Received(C, question("a.example") + b"hidden")
        p << noted("incident", has="6 bytes behind the end")
        p.take()


def test_tls_does_not_begin_in_a_datagram() -> None:
    p = session("rules: [{id: all, to: 10.0.0.0/8, do: allow}]")
    ask = question("a.example", id_=0x1603)
    asked(p, ask)


def test_ech_is_taken_out_of_answers() -> None:
    p = session()
    asked(p, question("a.example", "HTTPS"))
    p >> Received(S, answer("a.example", record(POINTER, "HTTPS", b"\0\1\0" + b"\0\5\0\6secret"), qtype="HTTPS"))
    data = down(p)
    assert b"secret" not in data
    assert len(parse(data).records) == 1


def test_an_answer_that_a_mask_would_change_is_withheld() -> None:
    p = session(RULES + "      - {id: cards, when: {detect: [credit_card]}, do: mask}\n")
    asked(p, question("a.example", "TXT"))
    text = b"4111 1111 1111 1111"
    p >> Received(S, answer("a.example", record(POINTER, "TXT", bytes((len(text),)) + text), qtype="TXT"))
    data = down(p)
    assert text not in data
    assert parse(data).code == 5


def test_an_answer_nobody_can_judge_is_withheld() -> None:
    """As it would be if the reader forgot a question before its wire did."""
    policy = rules([("r.yaml", RULES)], lambda host: [])
    flow = Flow("f1", 0.0, Address("10.0.0.1", 40000), Address("10.0.0.53", 53), AGENT, transport="udp")
    wire, reader, scribe = DNS(), open_reader("dns", Shared()), Scribe("f1")
    [asked_] = wire.feed(C, question("a.example"))
    wire.allow(asked_)
    [told] = wire.feed(S, answer("a.example", address("1.1.1.1")))
    shown = judged(told, reader, wire, Ground(flow, policy), scribe)
    assert parse(shown.raw).code == 5
    assert [effect.kind for effect in scribe.take() if isinstance(effect, Note)] == ["incident"]


def test_so_many_records_stand_in_the_text_of_an_answer_and_all_are_judged() -> None:
    p = session(RULES.replace("[internal]", '["1.1.1.24"]'))
    asked(p, question("a.example"))
    p >> Received(S, answer("a.example", *(address(f"1.1.1.{n}") for n in range(MAX_SHOWN + 4))))
    [note] = [e for e in p.take() if isinstance(e, Note) and e.message == "answer"]
    assert note.text.count("A 1.1.1.") == MAX_SHOWN
    asked(p, question("b.example"))
    p >> Received(S, answer("b.example", *(address(f"1.1.1.{n}") for n in range(MAX_SHOWN + 5))))
    assert parse(down(p)).code == 5


def test_the_text_of_a_refusal_fits_the_smallest_datagram() -> None:
    long = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    data = refusal(question(long, opt=EDNS), 5, "x" * 1000)
    assert len(data) <= 512
    assert data.count(b"x") == MAX_REASON


# -- over a connection --------------------------------------------------------------------------------------------


def test_over_a_connection_messages_are_behind_their_length_and_answers_in_any_order() -> None:
    p = session(transport="tcp")
    one, two = framed(question("a.example", id_=1)), framed(question("b.example", id_=2))
    p >> Received(C, (one + two)[:20])
    assert up(p) == b""
    p >> Received(C, (one + two)[20:])
    assert up(p) == one + two
    back = [framed(answer("b.example", address("1.1.1.1"), id_=2)), framed(answer("a.example", address("1.1.1.2"), id_=1))]
    p >> Received(S, b"".join(back))
    assert down(p) == b"".join(back)


def test_over_a_connection_a_refusal_is_behind_its_length() -> None:
    p = session(transport="tcp")
    p >> Received(C, framed(question("x.evil.example")))
    data = down(p)
    assert int.from_bytes(data[:2], "big") == len(data) - 2
    assert parse(data[2:]).code == 5
    asked(p, framed(question("a.example")))


@pytest.mark.parametrize("size", range(1, 31))
def test_a_connection_cut_anywhere_changes_nothing(size: int) -> None:
    data = framed(question("a.example", id_=1)) + framed(question("x.evil.example", id_=2)) + framed(question("b.example", id_=3))
    p, ups, downs = session(transport="tcp"), b"", b""
    for at in range(0, len(data), size):
        p >> Received(C, data[at : at + size])
        effects = p.take()
        ups += b"".join(e.data for e in effects if isinstance(e, Send) and e.to is S)
        downs += b"".join(e.data for e in effects if isinstance(e, Send) and e.to is C)
    assert ups == framed(question("a.example", id_=1)) + framed(question("b.example", id_=3))
    assert parse(downs[2:]).code == 5


def test_over_a_connection_an_answer_to_nothing_ends_it() -> None:
    with session(transport="tcp") as p:
        p >> Received(S, framed(answer("a.example", address())))
        p << noted("incident", has="not asked")
        p.take()


def test_over_a_connection_too_many_questions_end_it() -> None:
    p = session(transport="tcp")
    for id_ in range(MAX_OPEN):
        asked(p, framed(question("a.example", id_=id_)))
    p >> Received(C, framed(question("a.example", id_=MAX_OPEN)))
    assert [e for e in p.take() if isinstance(e, Note) and e.kind == "incident"]


@pytest.mark.parametrize("data", [b"\0\0", b"\0\x0b" + bytes(11), b"\x16\x03\x01" + bytes(64)], ids=["none", "half", "tls"])
def test_what_is_no_dns_on_its_port_ends(data: bytes) -> None:
    p = session("rules: [{id: all, to: 10.0.0.0/8, do: allow}]", transport="tcp")
    p >> Received(C, data)
    effects = p.take()
    assert not [e for e in effects if isinstance(e, Send) and e.to is S]
    assert [e for e in effects if isinstance(e, Close)]


def test_a_held_question_waits_and_others_behind_it() -> None:
    p = session()
    p >> Received(C, question("a.example")[:-4] + b"\0\xff\0\1")
    effects = p.take()
    assert [type(e).__name__ for e in effects if not isinstance(e, Note)] == ["Ask"]
    p >> Received(C, question("b.example", id_=9))
    assert up(p) == b""
