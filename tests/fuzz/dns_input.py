"""One input of the fuzzing of DNS and QUIC, and the inputs it starts from.

An input is a list of steps: a byte that says whose bytes they are and what becomes of the client's questions, two bytes
of length, the bytes. They are given as datagrams and as a connection. Whatever the bytes: nothing but ProtocolError is
raised; what is allowed goes up as it came; no answer goes down that hides a hello, or leads where the plan masks; and
what the readers of facts say of them is said.
"""

from collections.abc import Callable

from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.model import Column, Message, ProtocolError, Send
from appliance.wire import Cell, Wire
from appliance.wire.dns import DNS, DNSStream, rewrite
from appliance.wire.dns.message import parse
from appliance.wire.icmp import ICMP
from appliance.wire.quic import QUIC
from appliance.wire.udp import UDP
from tests.fuzz.wire_input import DENY, FROM_SERVER, REDACT, SECRET, step, steps
from tests.wire.dns.given import EDNS, POINTER, address, answer, edns, framed, name, question, record
from tests.wire.dns.test_message import ALPN, ECH, V4, V6, service
from tests.wire.dns.test_session import C, S
from tests.wire.icmp.test_icmp import ping
from tests.wire.quic.test_quic import HELLO, crypto, datagrams, initial

WIRES: tuple[Callable[[], Wire], ...] = (DNS, DNSStream, QUIC, ICMP, UDP)


def secret(columns: tuple[Column, ...]) -> list[Cell | None]:
    """A plan that masks what has the secret in it."""
    return [lambda text: "#" if SECRET.decode() in text else text] * len(columns)


def corpus() -> list[bytes]:
    """Return exchanges, each as datagrams and as a connection."""
    text = bytes((len(SECRET),)) + SECRET
    talks = [
        [(C, question("www.example", opt=edns((10, b"12345678")))), (S, answer("www.example", address(), more=(EDNS,)))],
        [(C, question("a.example", "TXT")), (S, answer("a.example", record(POINTER, "TXT", text), qtype="TXT"))],
        [
            (C, question("a.example", "HTTPS")),
            (S, answer("a.example", record(POINTER, "HTTPS", service((0, b"\0\1\0\5"), ALPN, V4, ECH, V6)), qtype="HTTPS")),
        ],
        [
            (C, question("w.old.example")),
            (S, answer("w.old.example", record(name("old.example"), "DNAME", name("new.example")), address(owner=name("w.new.example")))),
        ],
        [(C, question("a.example")), (S, answer("a.example", record(POINTER, "CNAME", POINTER), record(POINTER, "MX", b"\0\1" + POINTER)))],
        [(C, ping()), (S, ping(kind=0))],
    ]
    found = []
    for talk in talks:
        for flags in (0, DENY, REDACT):
            found.append(b"".join(step(side, data, flags) for side, data in talk))
            found.append(b"".join(step(side, framed(data), flags) for side, data in talk))
    hellos = [initial(crypto(0, HELLO)), initial(crypto(20, HELLO[20:]) + crypto(0, HELLO[:20])), datagrams("a.example")[0]]
    return [*found, *(step(C, data) for data in hellos), step(C, hellos[0]) + step(S, hellos[0]) + step(C, b"\x40" + bytes(40))]


def run(data: bytes) -> None:
    """Play one input on every wire."""
    for make in WIRES:
        _play(make(), data)


def _play(wire: Wire, data: bytes) -> None:
    reader = open_reader(wire.name, Shared())
    try:
        for flags, piece in steps(data):
            side = S if flags & FROM_SERVER else C
            for message in wire.feed(side, piece):
                assert message.side is side
                if side is S:
                    reader.heard(message)
                    _check(wire, message)
                    for tell in (getattr(reader, "told", None), getattr(reader, "learned", None)):
                        _ = tell(message) if tell is not None else None
                    continue
                facts = reader.ask(message)
                assert facts is None or facts.protocol == wire.name
                if flags & DENY:
                    wire.deny(message, "denied", "no")
                else:
                    sends = wire.allow(message, secret)
                    assert sends == [Send(S, message.raw)] or sends[0].to is C
                    reader.sent(message)
    except ProtocolError:
        wire.refuse("protocol violation")


def _check(wire: Wire, message: Message) -> None:
    """What goes down is a whole message that hides no hello; what is masked does not go down."""
    if message.kind == "answer":
        raw = message.raw[2:] if isinstance(wire, DNSStream) else message.raw
        assert not rewrite.hides(parse(raw))
        assert SECRET.decode() not in " ".join((value.data or b"").decode() for value in message.values)
