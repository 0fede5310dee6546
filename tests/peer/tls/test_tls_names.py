"""Whom TLS is opened for: what a server's certificate may look like, and who cannot be asked behind its back."""

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from appliance.model import Address, Answered, Question
from appliance.relay.tls import MAX_NAMES
from appliance.service.authority import Authority
from tests.gate import Gate
from tests.peer.tls.conftest import context
from tests.peer.tls.test_tls import ALLOW, ask, echo

pytestmark = pytest.mark.peer

Pair = tuple[Authority, Path]
DNS, IP = x509.DNSName, lambda text: x509.IPAddress(ipaddress.ip_address(text))

# what a server shows -> its other names; the one in its subject is web.example
SHOWN: dict[str, list[x509.GeneralName]] = {
    "its subject alone": [],
    "beside addresses": [IP("10.0.0.2"), IP("2001:db8::1")],
    "beside a URI": [x509.UniformResourceIdentifier("spiffe://example/web")],
    "MAX_NAMES and one": [*(DNS(f"n{n}.example") for n in range(MAX_NAMES)), DNS("web.example")],
}


def shown(authority: Authority, names: Sequence[x509.GeneralName]) -> bytes:
    """Return a key and certificates as a server has them whose authority is not as strict as ours."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.example")]))
        .issuer_name(authority._certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    leaf = made.sign(authority._key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + leaf.public_bytes(Encoding.PEM) + authority._certificate.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("what", SHOWN)
def test_a_server_shows_the_name_it_is_asked_by(what: str, theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    """Clients believe it, so they are shown that name by us."""
    pem = tmp_path / "server.pem"
    pem.write_bytes(shown(theirs[0], SHOWN[what]))
    listener, _ = echo(pem)
    with listener, Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=f"{{ca: {theirs[1]}}}") as gate:
        gate.authority = ours[0]
        with socket.create_connection(("127.0.0.1", gate.port), 20) as raw, context(ours[1]).wrap_socket(raw, server_hostname="web.example") as sock:
            assert ask(sock).endswith(b"yes")
            names = sock.getpeercert()["subjectAltName"]  # type: ignore[index]
            assert ("DNS", "web.example") in names and len(names) <= MAX_NAMES


# -- fronting -------------------------------------------------------------------------------------------------------


# the target, what it says of TLS -> (name in the hello, Host) -> status. Another customer of the same front is
# evil.example, and the front's certificate is good for all; the target is web.example, or this host by its name.
FRONTS = {
    ("by address", ""): {
        ("web.example", "web.example"): 200, ("web.example", "WEB.example.:443"): 200, ("web.example", "evil.example"): 403,
        (None, "127.0.0.1"): 200, (None, "web.example"): 200,
    },
    ("by address", ", name: web.example"): {
        ("web.example", "web.example"): 200, (None, "web.example"): 200, ("web.example", "127.0.0.1"): 200,
        (None, "evil.example"): 403, ("evil.example", "web.example"): 200, ("evil.example", "evil.example"): 403,
    },
    ("by name", ""): {
        ("localhost", "localhost"): 200, ("evil.example", "evil.example"): 403, (None, "127.0.0.1"): 200,
        (None, "localhost"): 200, (None, "evil.example"): 403, ("localhost", "evil.example"): 403,
    },
    ("by name", ", name: Web.Example"): {
        ("localhost", "localhost"): 200, ("web.example", "web.example"): 200, ("evil.example", "evil.example"): 403,
    },
}  # fmt: skip


@pytest.mark.parametrize("target", FRONTS)
def test_a_front_is_asked_only_for_whom_tls_was_opened(target: tuple[str, str], theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:web.example", "DNS:localhost", "DNS:evil.example", "IP:127.0.0.1")))
    listener, heard = echo(pem)
    where, more = target
    said = f"{{ca: {theirs[1]}{more}}}"
    port = listener.getsockname()[1]
    named = f'targets: {{web: {{protocol: http, address: "localhost:{port}", tls: {said}}}}}' if where == "by name" else ""
    rules = "rules: [{id: web, to: web, do: allow}]" if named else ALLOW
    with listener, Gate(Address("127.0.0.1", port), rules, protocol="http", tls=said, more=named) as gate:
        gate.authority = ours[0]
        assert {asked: status(gate, *asked) for asked in FRONTS[target]} == FRONTS[target]
        assert len(heard) == list(FRONTS[target].values()).count(200)


def status(gate: Gate, name: str | None, host: str) -> int:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", gate.port), 20) as raw, trusting.wrap_socket(raw, server_hostname=name) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return int(sock.recv(65536).split()[1])


def test_a_reviewer_is_not_asked_about_one_name_for_what_goes_to_another(theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:localhost", "DNS:evil.example")))
    listener, heard = echo(pem)
    said, port = f"{{ca: {theirs[1]}}}", listener.getsockname()[1]
    named = f'targets: {{web: {{protocol: http, address: "localhost:{port}", tls: {said}}}}}'
    rules = "rules: [{id: web, to: web, do: approve, approvers: {group: dba, count: 1, within: 10m}}]"
    with listener, Gate(Address("127.0.0.1", port), rules, yes, protocol="http", tls=said, more=named) as gate:
        gate.authority = ours[0]
        assert (status(gate, "evil.example", "evil.example"), gate.questions, heard) == (403, [], [])
        assert (status(gate, "localhost", "localhost"), len(gate.questions), len(heard)) == (200, 1, 1)


def yes(question: Question) -> Answered:
    return Answered(question.id, True, by="dana")


def test_what_is_refused_says_why(theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:web.example",)))
    listener, _ = echo(pem)
    with listener, Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=f"{{ca: {theirs[1]}}}") as gate:
        gate.authority = ours[0]
        status(gate, "web.example", "evil.example")
        last = [note.decision for note in gate.of("decision") if note.decision]
        assert ("block", "the request is for another host than its TLS") in [(one.verdict, one.reason) for one in last]
