"""TLS opened between real clients and real servers: what is inside is judged, masked and recorded like anything else."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from appliance.lab.servers import Postgres, postgres_bin
from appliance.model import Address
from appliance.service.authority import Authority
from tests.gate import Gate
from tests.peer.tls.conftest import context
from tests.wire.tls.test_hello import vector

pytestmark = pytest.mark.peer

RULES = """
rules:
  - {id: no-drop, to: db, when: {effect: drop}, do: block}
  - {id: hide, to: db, when: {column: [public.users.ssn]}, do: mask}
  - {id: rest, to: db, do: allow}
"""
Pair = tuple[Authority, Path]


@pytest.fixture
def gate(secured: Postgres, theirs: Pair, ours: Pair) -> Iterator[Gate]:
    with Gate(Address("127.0.0.1", secured.port), RULES, tls=f"{{ca: {theirs[1]}, name: db.example}}") as gate:
        gate.authority = ours[0]
        yield gate


def psql(gate: Gate, statement: str, **options: str) -> subprocess.CompletedProcess[str]:
    said = {"host": "127.0.0.1", "port": str(gate.port), "user": "acme", "password": "secret", "dbname": "shop", **options}
    words = [str(postgres_bin() / "psql"), "-X", "-A", "-t", " ".join(f"{k}={v}" for k, v in said.items()), "-c", statement]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def told(gate: Gate, text: str) -> bool:
    """Wait for an incident that says so; the client may have seen its end of it before."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if any(text in note.text for note in gate.of("incident")):
            return True
        time.sleep(0.01)
    return False


IN_TLS = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
def test_psql_in_every_mode(gate: Gate, ours: Pair, mode: str) -> None:
    done = psql(gate, IN_TLS, sslmode=mode, sslrootcert=str(ours[1]))
    assert (done.stdout, done.stderr) == ("f\n" if mode in ("disable", "allow") else "t\n", "")


def test_verify_full_by_name(gate: Gate, ours: Pair) -> None:
    assert psql(gate, "select 1", host="db.example", hostaddr="127.0.0.1", sslmode="verify-full", sslrootcert=str(ours[1])).stdout == "1\n"


def test_verify_full_with_a_name_the_server_has_not(gate: Gate, ours: Pair) -> None:
    done = psql(gate, "select 1", host="other.example", hostaddr="127.0.0.1", sslmode="verify-full", sslrootcert=str(ours[1]))
    assert "does not match host name" in done.stderr


def test_a_client_that_does_not_trust_us_is_told_of(gate: Gate, theirs: Pair) -> None:
    done = psql(gate, "select 1", sslmode="verify-full", sslrootcert=str(theirs[1]))
    assert "certificate verify failed" in done.stderr
    assert told(gate, "refuses our certificate")


def test_what_is_inside_is_judged_masked_and_recorded(gate: Gate) -> None:
    done = psql(gate, "select ssn from users order by id limit 1", sslmode="require")
    assert done.stdout == "[redacted]\n"
    assert "denied by vendorgate" in psql(gate, "drop table users", sslmode="require").stderr
    assert any("TLS opened: db.example, TLSv1." in note.text for note in gate.of("message"))
    assert any(b"[redacted]" in note.raw for note in gate.of("message"))


def test_a_login_bound_to_the_certificate_says_what_to_do(gate: Gate) -> None:
    done = psql(gate, "select 1", user="bound", sslmode="require")
    assert "PGCHANNELBINDING=disable" in done.stderr
    assert told(gate, "PGCHANNELBINDING")
    assert psql(gate, "select 1", user="bound", sslmode="require", channel_binding="disable").stdout == "1\n"


def test_psycopg(gate: Gate, ours: Pair) -> None:
    address = f"host=127.0.0.1 port={gate.port} user=acme password=secret dbname=shop sslmode=verify-full sslrootcert={ours[1]}"
    with psycopg.connect(address) as connection:
        assert connection.execute("select ssn from users limit 1").fetchone() == ("[redacted]",)


def test_bytes_behind_the_request_for_tls_are_refused(gate: Gate) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), 10) as sock:
        sock.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f" + b"\0\0\0\x08\x00\x03\x00\x00")
        while sock.recv(4096):
            pass
    assert told(gate, "before its request for encryption is answered")


# -- servers that are not what they should be -----------------------------------------------------------------------


def certificate(authority: Authority, names: tuple[str, ...], days: int = 7) -> str:
    """Return a server's certificate, in the past if `days` is negative."""
    from appliance.service import authority as module

    kept = module.LEAF_DAYS, module.EARLIER
    try:
        module.LEAF_DAYS = days
        module.EARLIER = datetime.timedelta(days=30)
        return authority.certify(names)
    finally:
        module.LEAF_DAYS, module.EARLIER = kept


def echo(pem: Path, tune: Callable[[ssl.SSLContext], None] = lambda context: None) -> tuple[socket.socket, list[bytes]]:
    """A TLS server that answers each request with a line; returns its listener and what it heard."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    tune(server)
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve(raw: socket.socket) -> None:
        with contextlib.suppress(OSError), raw, server.wrap_socket(raw, server_side=True) as sock:
            while data := sock.recv(65536):
                heard.append(data)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")

    def accept() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(raw,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, heard


def old(server: ssl.SSLContext) -> None:
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1


ALLOW = "rules: [{id: rest, to: db, do: allow}]"
# name -> (names certified, days, who certified, what the appliance trusts, tuning, what it says)
BROKEN = {
    "expired": (("DNS:web.example",), -1, "theirs", "{ca: THEIRS}", None, "certificate has expired"),
    "wrong name": (("DNS:other.example",), 7, "theirs", "{ca: THEIRS}", None, "Hostname mismatch"),
    "authority not known": (("DNS:web.example",), 7, "theirs", "", None, "self-signed certificate in certificate chain"),
    "another authority": (("DNS:web.example",), 7, "ours", "{ca: THEIRS}", None, "not to be trusted"),
    "pinned to another": (("DNS:web.example",), 7, "theirs", "{pin: " + "0" * 64 + "}", None, "not the one pinned"),
    "TLS 1.0": (("DNS:web.example",), 7, "theirs", "{ca: THEIRS}", old, "protocol"),
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
@pytest.mark.parametrize("name", BROKEN)
def test_a_server_that_does_not_prove_who_it_is(name: str, theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    names, days, who, trust, tune, says = BROKEN[name]
    pem = tmp_path / "server.pem"
    pem.write_text(certificate({"theirs": theirs, "ours": ours}[who][0], names, days))
    listener, heard = echo(pem, tune or (lambda context: None))
    with listener, Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=trust.replace("THEIRS", str(theirs[1]))) as gate:
        gate.authority = ours[0]
        with pytest.raises(ssl.SSLError, match="alert handshake failure"), socket.create_connection(("127.0.0.1", gate.port), 10) as raw:
            context(ours[1]).wrap_socket(raw, server_hostname="web.example")
        assert told(gate, says)
        assert heard == []  # a server that is not trusted is told nothing


def revoking(authority: Authority, leaf: str | None, days: int = 7) -> bytes:
    """Return the list of revoked certificates of an authority, with a leaf in it or with none."""
    now = datetime.datetime.now(datetime.UTC)
    begun = now - datetime.timedelta(days=30)
    made = x509.CertificateRevocationListBuilder().issuer_name(authority._certificate.subject)
    made = made.last_update(begun).next_update(now + datetime.timedelta(days=days))
    if leaf is not None:
        number = x509.load_pem_x509_certificate(leaf.encode()).serial_number
        made = made.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(number).revocation_date(begun).build())
    return made.sign(authority._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# what the list says -> why the server is not believed
LISTS = {"revoked": "certificate revoked", "of last year": "CRL has expired", "another revoked": ""}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_revoked_certificates_beside_the_authority(name: str, theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    pem, trusted = tmp_path / "server.pem", tmp_path / "trusted.pem"
    pem.write_text(theirs[0].certify(("DNS:web.example",)))
    other = theirs[0].certify(("DNS:web.example",))
    leaf = {"revoked": pem.read_text(), "of last year": None, "another revoked": other}[name]
    trusted.write_bytes(theirs[1].read_bytes() + revoking(theirs[0], leaf, -1 if name == "of last year" else 7))
    listener, _ = echo(pem)
    with listener, Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=f"{{ca: {trusted}}}") as gate:
        gate.authority = ours[0]
        with socket.create_connection(("127.0.0.1", gate.port), 10) as raw:
            if LISTS[name]:
                with pytest.raises(ssl.SSLError, match="alert handshake failure"):
                    context(ours[1]).wrap_socket(raw, server_hostname="web.example")
                assert told(gate, LISTS[name])
            else:
                with context(ours[1]).wrap_socket(raw, server_hostname="web.example") as sock:
                    assert ask(sock).endswith(b"yes")


@pytest.fixture
def web(theirs: Pair, ours: Pair, tmp_path: Path) -> Iterator[Gate]:
    pem = tmp_path / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:web.example", "DNS:*.web.example", "IP:127.0.0.1")))
    listener, _ = echo(pem)
    with listener, Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=f"{{ca: {theirs[1]}}}") as gate:
        gate.authority = ours[0]
        yield gate


def ask(sock: ssl.SSLSocket, host: str = "web.example") -> bytes:
    sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    out = b""
    while not out.endswith(b"yes"):
        piece = sock.recv(4096)
        assert piece
        out += piece
    return out


def test_an_encrypted_hello_is_opened_by_the_name_it_shows(web: Gate) -> None:
    """No client here speaks ECH (RFC 9849); one that does goes no further, as with a server that has lost its keys."""
    body = b"\3\3" + bytes(32) + b"\0" + vector(2, b"\x13\1\xc0\x2b") + b"\1\0"
    name = vector(2, b"\0" + vector(2, b"web.example"))
    extensions = {0: name, 0xFE0D: b"\0\0\1\0\1\0\0\0\0\0", 10: vector(2, b"\0\x17"), 13: vector(2, b"\4\3"), 11: b"\1\0"}
    body += vector(2, b"".join(number.to_bytes(2, "big") + vector(2, value) for number, value in extensions.items()))
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw:
        raw.sendall(b"\x16\3\1" + vector(2, b"\1" + vector(3, body)))
        assert raw.recv(65536)[:1] == b"\x16"  # a ServerHello
    assert any(note.text == "TLS hello for web.example, with an encrypted hello" for note in web.of("message"))


def test_no_server_name(web: Gate, ours: Pair) -> None:
    trusting = context(ours[1])
    trusting.check_hostname = False
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw, trusting.wrap_socket(raw) as sock:
        assert ask(sock).endswith(b"yes")
        assert {value for _, value in sock.getpeercert()["subjectAltName"]} == {"web.example", "*.web.example", "127.0.0.1"}  # type: ignore[index]


def test_the_names_are_the_servers(web: Gate, ours: Pair) -> None:
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw, context(ours[1]).wrap_socket(raw, server_hostname="a.web.example") as sock:
        assert ask(sock, "a.web.example").endswith(b"yes")


def test_a_client_of_tls_1_2(web: Gate, ours: Pair) -> None:
    trusting = context(ours[1])
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw, trusting.wrap_socket(raw, server_hostname="web.example") as sock:
        assert (sock.version(), ask(sock)[-3:]) == ("TLSv1.2", b"yes")


def test_a_client_that_offers_more_gets_what_is_read_here(web: Gate, ours: Pair) -> None:
    trusting = context(ours[1])
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw, trusting.wrap_socket(raw, server_hostname="web.example") as sock:
        assert ask(sock).endswith(b"yes")
        assert sock.selected_alpn_protocol() is None  # the server knows of no such thing


def test_a_client_that_insists_on_h2_is_refused(web: Gate, ours: Pair) -> None:
    trusting = context(ours[1])
    trusting.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="no application protocol"), socket.create_connection(("127.0.0.1", web.port), 10) as raw:
        trusting.wrap_socket(raw, server_hostname="web.example")
    assert told(web, "speaks only h2")


def test_a_client_that_resets_in_the_handshake(web: Gate, ours: Pair) -> None:
    from tests.wire.tls.test_hello import real

    for data in (real("web.example"), real("web.example")[:50]):
        with socket.create_connection(("127.0.0.1", web.port), 10) as raw:
            raw.sendall(data)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw, context(ours[1]).wrap_socket(raw, server_hostname="web.example") as sock:
        assert ask(sock).endswith(b"yes")


def test_a_session_is_resumed_by_client_and_upstream(web: Gate, ours: Pair) -> None:
    trusting = context(ours[1])
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw, trusting.wrap_socket(raw, server_hostname="web.example") as sock:
        ask(sock)
        kept = sock.session
    with socket.create_connection(("127.0.0.1", web.port), 10) as raw, trusting.wrap_socket(raw, server_hostname="web.example", session=kept) as sock:
        assert ask(sock).endswith(b"yes")
        assert sock.session_reused


def test_curl(web: Gate, ours: Pair) -> None:
    words = ["curl", "-sS", "--http1.1", "--cacert", str(ours[1]), "--connect-to", f"web.example:443:127.0.0.1:{web.port}", "https://web.example/"]
    done = subprocess.run(words, capture_output=True, timeout=30)
    assert (done.stdout, done.stderr) == (b"yes", b"")


# -- TLS from the first byte ----------------------------------------------------------------------------------------


def terminated(pem: Path, server: Postgres) -> socket.socket:
    """What a server of version 17 does by itself: TLS from the first byte for ALPN postgresql, before an older one."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(pem)
    ours.set_alpn_protocols(["postgresql"])
    listener = socket.create_server(("127.0.0.1", 0))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", server.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(copy(reader, before), copy(behind, writer))

    async def main() -> None:
        async with await asyncio.start_server(serve, sock=listener, ssl=ours) as served:
            await served.serve_forever()

    def live() -> None:
        with contextlib.suppress(RuntimeError, OSError, ValueError):
            asyncio.run(main())

    threading.Thread(target=live, daemon=True).start()
    return listener


@pytest.fixture
def direct(secured: Postgres, theirs: Pair, ours: Pair, tmp_path: Path) -> Iterator[Gate]:
    pem = tmp_path / "front.pem"
    pem.write_text(theirs[0].certify(("DNS:db.example", "IP:127.0.0.1")))
    listener = terminated(pem, secured)
    with Gate(Address("127.0.0.1", listener.getsockname()[1]), RULES, tls=f"{{ca: {theirs[1]}, name: db.example}}") as gate:
        gate.authority = ours[0]
        yield gate


def test_tls_without_a_request_for_it(direct: Gate, ours: Pair) -> None:
    assert psycopg.pq.version() >= 170000  # the client that can
    address = f"host=127.0.0.1 port={direct.port} user=acme password=secret dbname=shop sslnegotiation=direct sslmode=verify-full"
    with psycopg.connect(f"{address} sslrootcert={ours[1]}") as connection:
        assert connection.execute("select ssn from users limit 1").fetchone() == ("[redacted]",)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="denied by vendorgate"):
            connection.execute("drop table users")
    assert any("postgresql" in note.text for note in direct.of("message") if note.message == "tls")
