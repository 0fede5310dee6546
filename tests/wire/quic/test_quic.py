"""The first packets of QUIC, made by a real client (aioquic) and by hand."""

from contextlib import suppress

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import rules
from appliance.facts.quic import MAX_NAMES
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Address, Flow, Message, Note, Process, ProtocolError, Received, Send, Side
from appliance.session import Session
from appliance.wire.detect import open as open_wire
from appliance.wire.quic import QUIC
from appliance.wire.quic.connection import MAX_CRYPTO, MAX_INITIALS
from appliance.wire.quic.keys import V1, V2, keys
from appliance.wire.quic.packets import MAX_ID, begins, packets
from appliance.wire.quic.packets import crypto as frames
from tests.session.playbook import Playbook

C, S = Side.CLIENT, Side.SERVER
AGENT = Process(7, 1, "/usr/bin/agent", (), "acme.service", 1000)
THERE = ("192.0.2.1", 443)


def client(name: str | None, version: int = QuicProtocolVersion.VERSION_1, alpn: tuple[str, ...] = ("h3",)) -> QuicConnection:
    settings = QuicConfiguration(is_client=True, server_name=name, alpn_protocols=list(alpn))
    settings.original_version, settings.supported_versions = version, [version]
    connection = QuicConnection(configuration=settings)
    connection.connect(THERE, now=0.0)
    return connection


def datagrams(name: str | None, version: int = QuicProtocolVersion.VERSION_1, alpn: tuple[str, ...] = ("h3",)) -> list[bytes]:
    return [data for data, _ in client(name, version, alpn).datagrams_to_send(now=0.0)]


def session(text: str) -> Playbook:
    policy = rules([("r.yaml", text)], lambda host: [])
    flow = Flow("f1", 0.0, Address("10.0.0.1", 40000), Address(*THERE), AGENT, transport="udp")
    p = Playbook(Session(flow, lambda: policy, Shared()))
    p.take()
    return p


def goes(p: Playbook, data: bytes) -> bool:
    p >> Received(C, data)
    return any(isinstance(effect, Send) and effect.to is S and effect.data == data for effect in p.take())


RULES = """
    targets: {web: {protocol: quic, address: "192.0.2.0/24:443"}}
    rules:
      - {id: doh, when: {sni: [dns.example, "*.doh.example"]}, do: block}
      - {id: docs, to: web, when: {sni: "*.example", alpn: h3, hello: plain}, do: allow}
"""


# -- keys, as the RFCs have them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "key", "iv", "head"),
    [  # RFC 9001 appendix A.1 and RFC 9369 appendix A.1
        (V1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"),
        (V2, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"),
    ],
)
def test_keys_of_the_standards(version: int, key: str, iv: str, head: str) -> None:
    found = keys(version, bytes.fromhex("8394c8f03e515708"))
    assert (found.key.hex(), found.iv.hex(), found.head.hex()) == (key, iv, head)


# -- a real client ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2])
def test_a_real_hello_is_read(version: int) -> None:
    first, *_ = datagrams("WWW.Example.com", version)
    assert begins(first)
    wire = open_wire("", "udp", 443)
    [message] = wire.feed(C, first)
    assert wire.name == "quic"
    assert (message.kind, message.name, message.status) == ("hello", "www.example.com", "plain")
    assert [value.data for value in message.values] == [b"h3"]


def test_a_hello_is_judged_by_its_name_and_what_follows_goes_with_it() -> None:
    p = session(RULES)
    first, *_ = datagrams("www.example")
    assert goes(p, first)
    assert goes(p, b"\x40" + bytes(100)), "what is hidden, of a connection that was allowed"
    p >> Received(S, b"\xc0" + bytes(1300))
    assert [effect.data for effect in p.take() if isinstance(effect, Send)] == [b"\xc0" + bytes(1300)]


@pytest.mark.parametrize("name", ["dns.example", "x.doh.example", "elsewhere.test", None])
def test_a_hello_for_another_is_refused(name: str | None) -> None:
    p = session(RULES)
    first, *_ = datagrams(name)
    assert not goes(p, first)
    assert not goes(p, b"\x40" + bytes(100)), "nor is what would follow"


def test_another_connection_over_the_same_addresses_is_judged_by_its_own_name() -> None:
    p = session(RULES)
    assert goes(p, datagrams("www.example")[0])
    assert not goes(p, datagrams("dns.example")[0])
    assert goes(p, datagrams("docs.example")[0])
    assert goes(p, b"\x40" + bytes(100))


def test_a_hello_in_two_datagrams_waits_for_the_second_and_is_said_again() -> None:
    sent = datagrams("www.example", alpn=("h3", *(f"{n:0100}" for n in range(13))))
    assert len(sent) == 2
    p = session(RULES.replace("alpn: h3, ", ""))
    p >> Received(C, sent[0])
    assert [effect for effect in p.take() if not isinstance(effect, Note)] == [Send(C, b"")], "held back, and not refused"
    assert goes(p, sent[1])
    assert goes(p, sent[0]), "as its client sends it again"


def test_a_refused_hello_in_two_datagrams() -> None:
    sent = datagrams("dns.example", alpn=("h3", *(f"{n:0100}" for n in range(13))))
    p = session(RULES)
    for data in (*sent, *sent):
        assert not goes(p, data)


def test_quic_in_a_flow_that_began_otherwise_ends_it() -> None:
    wire = open_wire("", "udp", 443)
    list(wire.feed(C, b"junk"))
    with pytest.raises(ProtocolError, match="quic where another protocol was spoken"):
        wire.feed(C, datagrams("dns.example")[0])


# -- made by hand -------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    return number.to_bytes(1, "big") if number < 64 else (number | 0x4000).to_bytes(2, "big")


def initial(frames: bytes, number: int = 0, target: bytes = b"\1" * 8, size: int = 1200, version: int = V1) -> bytes:
    head = bytes((0xC1 if version == V1 else 0xD1,)) + version.to_bytes(4, "big") + bytes((len(target),)) + target + b"\0" + b"\0"
    frames = frames.ljust(size - len(head) - 2 - 2 - 16, b"\0")
    head += varint(len(frames) + 2 + 16)
    sealed = number.to_bytes(2, "big")
    secret = keys(version, target)
    nonce = bytes(a ^ b for a, b in zip(secret.iv, number.to_bytes(12, "big"), strict=True))
    body = AESGCM(secret.key).encrypt(nonce, frames, head + sealed)
    mask = Cipher(algorithms.AES(secret.head), modes.ECB()).encryptor().update(body[2:18])
    first = bytes((head[0] ^ (mask[0] & 0x0F),))
    return first + head[1:] + bytes(a ^ b for a, b in zip(sealed, mask[1:3], strict=True)) + body


def crypto(place: int, data: bytes) -> bytes:
    return b"\x06" + varint(place) + varint(len(data)) + data


def hello(name: str) -> bytes:
    host = b"\0" + len(name).to_bytes(2, "big") + name.encode()
    extension = b"\0\0" + (len(host) + 2).to_bytes(2, "big") + len(host).to_bytes(2, "big") + host
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(extension).to_bytes(2, "big") + extension
    return b"\1" + len(body).to_bytes(3, "big") + body


def said(*sent: bytes) -> Message:
    wire, message = QUIC(), None
    for data in sent:
        [message] = wire.feed(C, data)
    assert message is not None
    return message


HELLO = hello("a.example")


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("cut", range(1, len(HELLO), 7))
def test_a_hello_in_pieces_in_any_order(version: int, cut: int) -> None:
    one, two = crypto(0, HELLO[:cut]), crypto(cut, HELLO[cut:])
    assert said(initial(two + b"\1" + one, version=version)).name == "a.example"
    assert said(initial(two, 0, version=version), initial(one, 1, version=version)).name == "a.example"
    assert said(initial(two, 0, version=version)).kind == "partial"


def test_a_hello_that_is_repeated_as_its_server_asked() -> None:
    first, size = initial(crypto(0, HELLO), 0), len(HELLO)
    assert said(first, initial(crypto(size, HELLO), 1)).name == "a.example"
    assert said(first, initial(crypto(size, HELLO[:50]), 1)).kind == "partial"
    assert said(first, initial(crypto(size, HELLO[:50]), 1), initial(crypto(size + 50, HELLO[50:]), 2)).name == "a.example"


def test_numbers_that_are_sent_in_part_are_completed() -> None:
    wire = QUIC()
    for number in (0, 200, 300):
        [message] = wire.feed(C, initial(crypto(0, HELLO), number))
        assert message.name == "a.example"


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ([initial(crypto(0, HELLO), size=1199)], "servers discard"),
        ([initial(crypto(0, HELLO) + crypto(0, hello("b.example")))], "two things in one place"),
        ([initial(crypto(0, HELLO), 0), initial(crypto(0, hello("b.example")), 1)], "two things in one place"),
        ([initial(crypto(0, HELLO) + b"\x08\x00")], "a frame of type 8"),
        ([initial(crypto(MAX_CRYPTO - 1, b"xx"))], "over 16384 bytes"),
        ([b"\xc1" + initial(crypto(0, HELLO))[1:-1] + b"x"], "cannot be read"),
        ([initial(crypto(0, HELLO))[:40] + bytes(1)], "cut short"),
        ([initial(crypto(0, b"\2" + HELLO[1:]))], "does not begin with a client's hello"),
        ([initial(crypto(0, HELLO), size=700) + initial(crypto(0, hello("b.example")), target=b"\2" * 8, size=700)], "two connections"),
        ([b"".join(initial(crypto(0, HELLO), n, size=200) for n in range(MAX_INITIALS + 1))], "more than 16 Initial"),
        ([initial(crypto(0, HELLO), 0), initial(crypto(len(HELLO), hello("b.example")), 1)], "repeated for another server"),
        ([initial(crypto(0, HELLO + hello("b.example")))], "repeated for another server"),
        ([initial(crypto(0, HELLO), 0), initial(crypto(len(HELLO), HELLO + HELLO), 1)], "goes on behind its hello"),
        ([initial(crypto(0, HELLO), 0), initial(crypto(len(HELLO), b"\x14\0\0\0"), 1)], "does not begin with a client's hello"),
    ],
)
def test_what_cannot_be_read_as_a_server_would_is_refused(sent: list[bytes], why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        said(*sent)


@pytest.mark.parametrize("version", [0x0A1A2A3A, 0xFF00001D, 0x51303530])
def test_a_version_not_read_here_is_for_nobody_known(version: int) -> None:
    data = b"\xc0" + version.to_bytes(4, "big") + b"\x08" + bytes(8) + b"\0" + bytes(1200)
    assert begins(data)
    assert said(data).kind == "strange"
    assert not goes(session(RULES), data)


def test_a_connection_has_so_many_others_beside_it_and_the_oldest_is_forgotten() -> None:
    wire = QUIC()
    for n in range(17):
        list(wire.feed(C, initial(crypto(0, HELLO), target=bytes((n,)) * 8)))
    assert len(wire._connections) == 16


def test_behind_so_many_names_nobody_knows_whom_a_datagram_is_for() -> None:
    reader = open_reader("quic", Shared())
    hidden = Message(C, "datagram", b"x")
    for n in range(MAX_NAMES + 1):
        facts = reader.ask(hidden)
        assert facts is not None
        assert ("sni" in facts.unknown) == (n == 0)
        reader.sent(Message(C, "hello", b"x", name=f"n{n}.example", status="plain"))
    facts = reader.ask(hidden)
    assert facts is not None
    assert "sni" in facts.unknown


def test_a_connection_id_over_the_longest_there_is() -> None:
    with pytest.raises(ProtocolError, match="that no server takes"):
        said(b"\xc0\0\0\0\1" + bytes((MAX_ID + 1,)) + bytes(MAX_ID + 1) + b"\0\0\x44\0" + bytes(1400))


def test_what_is_no_begin_of_quic() -> None:
    good = datagrams("a.example")[0]
    assert not any(map(begins, (good[:1199], b"\x40" + good[1:], b"\x80" + good[1:], good[:1] + b"\0\0\0\2" + good[5:], b"", b"x" * 1300)))


def test_a_hello_as_a_person_types_it() -> None:
    found = open_reader("quic", Shared()).ask(Message(C, "query", b"", text="www.Example"))
    assert found is not None
    assert found.values["sni"] == {"www.example"}


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_frames_and_any_datagram_are_read_or_a_protocol_error(data: bytes) -> None:
    for read in (lambda: list(frames(data)), lambda: list(packets(data)), lambda: list(packets(b"\xc0\0\0\0\1" + data)),
                 lambda: said(initial(data))):  # fmt: skip
        with suppress(ProtocolError):
            read()


@given(st.permutations(range(9)), st.integers(0, 30))
@settings(deadline=None)
def test_a_hello_in_any_order_and_overlapping(order: list[int], more: int) -> None:
    size = len(HELLO) // 8
    pieces = [crypto(size * n, HELLO[size * n : size * (n + 1) + more]) for n in order]
    assert said(initial(b"".join(pieces))).name == "a.example"


def test_a_datagram_over_the_largest_there_is() -> None:
    with pytest.raises(ProtocolError, match="over 65535"):
        said(bytes(65_536))
