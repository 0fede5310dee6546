"""Ways round TLS and ways to wear it out: what a client or a server does that no honest one would."""

import asyncio
import contextlib
import functools
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from appliance.model import Address, Open, ProtocolError, Side, Trust
from appliance.relay import tls
from appliance.relay.layer import HEAVY, MAX_EARLY, USUAL, Layer
from appliance.relay.limits import Limits
from appliance.relay.tls import MAX_NAMES
from appliance.service.authority import Authority
from appliance.wire.tls import MAX_RECORDS, hello
from tests.gate import Gate
from tests.peer.tls.conftest import context
from tests.peer.tls.test_tls import ALLOW, ask, echo, told
from tests.ports import free_port
from tests.wire.tls.test_hello import real

pytestmark = pytest.mark.peer

Pair = tuple[Authority, Path]


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        async def main() -> None:
            await test(*args, **kwargs)

        asyncio.run(main())

    return run


@pytest.fixture
def heard() -> list[bytes]:
    return []


@pytest.fixture
def web(theirs: Pair, ours: Pair, tmp_path: Path, heard: list[bytes]) -> Iterator[Gate]:
    pem = tmp_path / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:web.example", "DNS:evil.example", "IP:127.0.0.1")))
    listener, got = echo(pem)
    with listener, Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=f"{{ca: {theirs[1]}}}") as gate:
        gate.authority = ours[0]
        yield gate
    heard += got


class Loose:
    """A client over buffers of its own, that can put what it likes on the wire."""

    def __init__(self, raw: socket.socket, ours: Pair, name: str = "web.example") -> None:
        self.raw, self.come, self.goes = raw, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context(ours[1]).wrap_bio(self.come, self.goes, server_hostname=name)

    def step(self) -> bool:
        """Go one step of the handshake; True once it is done, with the last bytes not sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            return True
        self.raw.sendall(self.goes.read())
        self.come.write(self.raw.recv(65536))
        return False

    def all(self) -> bytes:
        """Return what is said until the end."""
        out = b""
        while True:
            try:
                piece = self.tls.read(65536)
                if not piece:
                    return out
                out += piece
            except ssl.SSLWantReadError:
                data = self.raw.recv(65536)
                if not data:
                    return out
                self.come.write(data)
            except ssl.SSLError:
                return out


def joined(gate: Gate) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gate.port), 20)


REQUEST = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"


def test_request_and_end_in_the_flight_that_ends_the_handshake(web: Gate, ours: Pair) -> None:
    """The request is judged and goes up before the end it came with."""
    with joined(web) as raw:
        client = Loose(raw, ours)
        while not client.step():
            pass
        client.tls.write(REQUEST)
        raw.sendall(client.goes.read())
        raw.shutdown(socket.SHUT_WR)
        assert client.all().endswith(b"yes")


@pytest.mark.parametrize("which", ["hello and end", "half a hello and end"])
def test_a_client_that_ends_in_its_handshake(web: Gate, ours: Pair, which: str) -> None:
    with joined(web) as raw:
        raw.sendall(real("web.example")[: 50 if which.startswith("half") else None])
        raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while raw.recv(65536):
                pass
    assert not any("internal error" in text for text in web.incidents)
    with joined(web) as raw, context(ours[1]).wrap_socket(raw, server_hostname="web.example") as sock:
        assert ask(sock).endswith(b"yes")


def test_a_server_that_ends_in_its_handshake(ours: Pair) -> None:
    """The client is told at once, not after the time a server has to answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(OSError):
                    sock.recv(65536)

        threading.Thread(target=serve, daemon=True).start()
        with Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http") as gate:
            with pytest.raises(ssl.SSLError, match="alert handshake failure"), joined(gate) as raw:
                context(ours[1]).wrap_socket(raw, server_hostname="web.example")
            assert told(gate, "the connection ended in the handshake")


# -- what is kept ---------------------------------------------------------------------------------------------------


def test_hello_max_records() -> None:
    """A hello in records of one byte costs what its bytes cost, not their square."""
    body = real("web.example")[5:]
    size = -(-len(body) // MAX_RECORDS)

    def cut(step: int) -> bytes:
        return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(body[i : i + step])) + body[i : i + step] for i in range(0, len(body), step))

    assert hello(cut(size)) is not None
    with pytest.raises(ProtocolError, match="records"):
        hello(cut(1))


def test_protocols_a_client_offers_twice_make_no_more_settings(web: Gate, ours: Pair) -> None:
    for offered in (["http/1.1"], ["http/1.1"] * 2, ["http/1.1"] * 3):
        trusting = context(ours[1])
        trusting.set_alpn_protocols(offered)
        with joined(web) as raw, trusting.wrap_socket(raw, server_hostname="web.example") as sock:
            ask(sock)
    assert len(web._relay.contexts._clients) == 1


def pair(pem: Path, ours: Pair, certified: str, tickets: int = 2) -> tuple[Layer, ssl.SSLObject, ssl.MemoryBIO]:
    """Return a layer of ours as a client, and the server it has shaken hands with."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem.write_text(certified)
    server.load_cert_chain(pem)
    server.num_tickets = tickets
    come, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    other = server.wrap_bio(come, goes, server_side=True)
    layer = Layer()
    layer.begin(context(ours[1]), "web.example")
    for _ in range(3):
        come.write(layer.take())
        with contextlib.suppress(ssl.SSLWantReadError):
            other.do_handshake()
        layer.feed(goes.read())
    assert layer.done.done()
    return layer, other, goes


@in_a_loop
async def test_max_kept(theirs: Pair, tmp_path: Path) -> None:
    """A server that speaks before the client's handshake is done, and does not stop."""
    layer, server, goes = pair(tmp_path / "pem", theirs, theirs[0].certify(("DNS:web.example",)))
    server.write(b"x" * 65536)
    assert layer.feed(goes.read()) == b""
    with pytest.raises(ssl.SSLError, match="before both ends are open"):
        for _ in range(10):
            server.write(b"x" * 65536)
            layer.feed(goes.read())
    assert layer.feed(b"y" * 65536) == b""
    assert layer._in.pending == 0


@in_a_loop
async def test_what_comes_after_close_notify_is_not_kept(theirs: Pair, tmp_path: Path) -> None:
    layer, server, goes = pair(tmp_path / "pem", theirs, theirs[0].certify(("DNS:web.example",)))
    layer.release()
    with contextlib.suppress(ssl.SSLWantReadError):
        server.unwrap()
    layer.feed(goes.read())
    assert layer.ended
    for _ in range(100):
        layer.feed(b"x" * 65536)
    assert layer._in.pending == 0


@in_a_loop
async def test_max_barren(theirs: Pair, tmp_path: Path) -> None:
    """A peer that sends tickets, or new keys, without end, and never a byte inside."""
    pem = theirs[0].certify(("DNS:web.example",))
    layer, server, goes = pair(tmp_path / "pem", theirs, pem)
    layer.release()
    assert layer.feed(goes.read()) == b""  # tickets as they are usual
    with pytest.raises(ssl.SSLError, match="with nothing inside"):
        pair(tmp_path / "pem", theirs, pem, tickets=3000)
    server.write(b"x")
    assert layer.feed(goes.read()) == b"x"


@pytest.mark.parametrize("beside", [0, 12])
def test_heavy_certificates_are_weighed(beside: int, theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    """A server may show some beside its own, up to 100 KB: half a megabyte in memory until the connection ends."""
    pem, names = tmp_path / "server.pem", tuple(f"DNS:a-long-name-of-number-{n}.example" for n in range(MAX_NAMES))
    more = theirs[0].certify(names).partition("-----BEGIN CERT")
    one = (more[1] + more[2]).partition("-----END CERTIFICATE-----\n")
    pem.write_text(theirs[0].certify(("DNS:web.example",)) + (one[0] + one[1]) * beside)
    listener, _ = echo(pem)
    with listener, Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=f"{{ca: {theirs[1]}}}") as gate:
        gate.authority = ours[0]
        with joined(gate) as raw, context(ours[1]).wrap_socket(raw, server_hostname="web.example") as sock:
            ask(sock)
            (pipe,) = gate._relay._pipes
            shaken = pipe._ends[Side.SERVER]._layer._shaken  # type: ignore[union-attr]
            assert (shaken > USUAL) == bool(beside)
            assert gate._relay._memory.total == HEAVY * max(0, shaken - USUAL)


@in_a_loop
async def test_max_early() -> None:
    layer = Layer()
    for _ in range(100):
        layer.feed(b"x" * 65536)
        assert layer.kept <= MAX_EARLY
    with pytest.raises(ssl.SSLError, match="before the handshake is done"):
        await layer.done


@in_a_loop
async def test_what_comes_when_nobody_waits_for_a_handshake_any_more_is_not_kept() -> None:
    """It took too long; the peer's end is only being wound up, and what it still says is thrown away."""
    layer = Layer()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.001):
            await layer.done
    for _ in range(100):
        layer.feed(b"x" * 65536)
    assert layer.kept == layer._in.pending == 0


@in_a_loop
async def test_a_session_of_before_a_reload_is_not_resumed(theirs: Pair, tmp_path: Path) -> None:
    """Not with the new settings, which OpenSSL refuses, nor with the old ones, which may trust another."""

    async def mint(names: tuple[str, ...]) -> str:
        return theirs[0].certify(names)

    contexts, trust = tls.Contexts(mint), Trust(ca=str(theirs[1]))
    server, request = Address("127.0.0.1", 443), Open(b"", "web.example", (), trust)
    secured = contexts.upstream(trust, ()).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="web.example")
    layer, other, goes = pair(tmp_path / "pem", theirs, theirs[0].certify(("DNS:web.example",)))
    other.write(b"x")
    layer.feed(goes.read())  # with the tickets
    kept = (await layer.done).session
    assert kept is not None
    contexts.renew()
    contexts.resume(server, "web.example", request, await layer.done)
    assert contexts._sessions == {}
    contexts._sessions[server, "web.example", trust, ()] = (secured.context, kept)
    assert contexts.session(server, "web.example", request) is None


@in_a_loop
async def test_fresh_s(theirs: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that lives longer than its certificates has them made anew."""
    made: list[tuple[str, ...]] = []

    async def mint(names: tuple[str, ...]) -> str:
        made.append(names)
        return theirs[0].certify(names)

    contexts = tls.Contexts(mint)
    first = await contexts.downstream(("DNS:web.example",), "")
    assert await contexts.downstream(("DNS:web.example",), "") is first
    now = time.monotonic()
    monkeypatch.setattr(tls.time, "monotonic", lambda: now + tls.FRESH_S + 1)
    assert await contexts.downstream(("DNS:web.example",), "") is not first
    assert len(made) == 2


@in_a_loop
async def test_what_is_said_while_a_server_shakes_hands_anew_goes_up_behind_it(theirs: Pair, tmp_path: Path) -> None:
    """OpenSSL takes nothing to be written meanwhile. Its own server begins when its operator types r."""
    pem, port = tmp_path / "pem", free_port()
    pem.write_text(theirs[0].certify(("DNS:web.example",)))
    words = ["openssl", "s_server", "-tls1_2", "-accept", f"127.0.0.1:{port}", "-cert", str(pem), "-key", str(pem)]
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert server.stdin and server.stdout
    try:
        with reached(port) as sock:
            layer = Layer()
            layer.begin(tls.met_with(Trust(ca=str(theirs[1]))), "web.example")
            while not layer.done.done():
                sock.sendall(layer.take())
                layer.feed(sock.recv(65536))
            sock.sendall(layer.take())
            server.stdin.write(b"r\n")
            server.stdin.flush()
            layer.feed(sock.recv(65536))
            layer.seal(b"mean")
            layer.seal(b"while\n")
            assert layer.waiting == len(b"meanwhile\n")
            while layer.waiting:
                sock.sendall(layer.take())
                layer.feed(sock.recv(65536))
            sock.sendall(layer.take())
            out = b""
            while b"meanwhile" not in out:
                assert select.select([server.stdout], [], [], 20)[0]
                piece = os.read(server.stdout.fileno(), 65536)
                assert piece
                out += piece
    finally:
        server.kill()
        server.communicate()


def reached(port: int) -> socket.socket:
    """Connect to a server that is about to listen."""
    until = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 20)
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_handshake_that_has_to_wait_for_its_vendors_turn(web: Gate, ours: Pair) -> None:
    """Its request, which comes with its end, is answered all the same, and operators are told of so many."""
    turns = web._relay.turns
    turns._limits, turns._left = Limits(shaking=0), 0
    with joined(web) as raw:
        client = Loose(raw, ours)
        while not client.step():
            turns._left = 0
        client.tls.write(REQUEST)
        turns._left = 0
        raw.sendall(client.goes.read())
        raw.shutdown(socket.SHUT_WR)
        assert client.all().endswith(b"yes")
    assert web.incidents == ["TLS handshakes of acme.service wait: 1 steps, of which others have their turn too"]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_flow_that_ends_while_its_handshake_waits_leaves_nothing(web: Gate, ours: Pair, taken: int) -> None:
    relay, waits = web._relay, list[Layer]()
    relay.limits, wait = Limits(linger_s=600, linger_max_s=600), relay.turns.wait

    def none_comes(vendor: str, one: Layer) -> None:
        waits.append(one)
        if len(waits) <= taken:
            wait(vendor, one)
        else:
            relay.turns._waiting.setdefault(vendor, OrderedDict())[one] = None

    relay.turns.wait = none_comes  # type: ignore[assignment, method-assign]
    with joined(web) as raw:
        client = Loose(raw, ours)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.do_handshake()
        raw.sendall(client.goes.read())
        eventually(lambda: len(waits) > taken)
        web._loop.call_soon_threadsafe(relay.fail, "a reason")
        while raw.recv(65536):
            pass
    eventually(lambda: relay.flows == 0)
    assert not relay.turns._waiting


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)
