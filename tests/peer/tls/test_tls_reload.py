"""What a reload does to TLS that is open: it ends where the server would not be believed by what is trusted since."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.model import Address
from appliance.service.authority import Authority
from tests.gate import Gate
from tests.peer.tls.conftest import context
from tests.peer.tls.test_tls import ALLOW, ask, echo, revoking
from tests.peer.tls.test_tls_attacks import joined

pytestmark = pytest.mark.peer

Pair = tuple[Authority, Path]
Server = tuple[int, Path, list[bytes]]
ELSEWHERE = 'targets: {else: {protocol: http, address: ["192.0.2.1:443"]}}\nrules: [{id: other, to: else, do: allow}]'
# what was trusted, what is trusted since, and why the flow ends; CA is a file that says `first`, then `then`
RELOADS = {
    "nothing changes": ("{ca: CA}", "{ca: CA}", "ours theirs", "ours theirs", ""),
    "an authority more": ("{ca: CA}", "{ca: CA}", "theirs", "theirs ours", ""),
    "an authority less": ("{ca: CA}", "{ca: CA}", "theirs ours", "ours", "an authority is no longer trusted"),
    "another file": ("{ca: CA}", "{ca: OURS}", "theirs", "theirs", "an authority is no longer trusted"),
    "a file that says the same": ("{ca: CA}", "{ca: THEIRS}", "theirs", "theirs", ""),
    "revoked": ("{ca: CA}", "{ca: CA}", "theirs", "theirs revoked", "its certificate is revoked"),
    "another is revoked": ("{ca: CA}", "{ca: CA}", "theirs other", "theirs another", ""),
    "no file": ("{ca: CA}", "", "theirs", "theirs", "who it is was told in another way"),
    "the target is gone": ("{ca: CA}", None, "theirs", "theirs", "who it is was told in another way"),
    "pinned": ("{ca: CA}", "{pin: PIN}", "theirs", "theirs", ""),
    "pinned to another": ("{ca: CA}", "{pin: " + "0" * 64 + "}", "theirs", "theirs", "its certificate is not the one pinned"),
    "no longer pinned": ("{pin: PIN}", "{ca: CA}", "theirs", "theirs", "who it is was told in another way"),
    "a pin more": ("{pin: PIN}", "{pin: [PIN, " + "0" * 64 + "]}", "theirs", "theirs", ""),
    "the name it has": ("{ca: CA}", "{ca: CA, name: web.example}", "theirs", "theirs", ""),
    "another name": ("{ca: CA}", "{ca: CA, name: db.example}", "theirs", "theirs", "it is to be db.example"),
    "no longer opened": ("{ca: CA}", "pass", "theirs", "theirs", "its TLS is no longer opened"),
}


@pytest.fixture
def server(theirs: Pair, tmp_path: Path) -> Iterator[Server]:
    """A server for web.example and db.example; its port, its certificate, and what it heard."""
    pem = tmp_path / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:web.example", "DNS:db.example")))
    listener, heard = echo(pem)
    with listener:
        yield listener.getsockname()[1], pem, heard


@pytest.mark.parametrize("name", RELOADS)
def test_what_is_trusted_changes(name: str, server: Server, theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    port, pem, heard = server
    before, after, first, then, why = RELOADS[name]
    said = {
        "theirs": theirs[1].read_bytes(),
        "ours": ours[1].read_bytes(),
        "revoked": revoking(theirs[0], pem.read_text()),
        "other": revoking(theirs[0], None),
        "another": revoking(theirs[0], theirs[0].certify(("DNS:web.example",))),
    }
    ca, found = tmp_path / "ca.pem", x509.load_pem_x509_certificate(pem.read_bytes())
    pin = hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest()
    names = {"CA": ca, "THEIRS": theirs[1], "OURS": ours[1], "PIN": pin}

    def meant(text: str) -> str:
        for word, value in names.items():
            text = text.replace(word, str(value))
        return text

    ca.write_bytes(b"".join(said[one] for one in first.split()))
    with Gate(Address("127.0.0.1", port), ALLOW, protocol="http", tls=meant(before)) as gate:
        gate.authority = ours[0]
        with joined(gate) as raw, context(ours[1]).wrap_socket(raw, server_hostname="web.example") as sock:
            assert ask(sock).endswith(b"yes")
            ca.write_bytes(b"".join(said[one] for one in then.split()))
            gate._tls = f", tls: {meant(after)}" if after else ""
            if after is None:
                gate.server = Address("192.0.2.1", 443)
            gate.reload("rules: [{id: rest, do: allow}]" if after is None else ALLOW)
            if why:
                with contextlib.suppress(OSError):
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
                    assert b"200 OK" not in b"".join(iter(lambda: sock.recv(4096), b""))
                assert any(f"no longer believed: {why}" in text for text in gate.incidents)
            else:
                assert ask(sock).endswith(b"yes")
            assert len(heard) == (1 if why else 2)


def test_while_it_is_opened(server: Server, theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    """The handshake with the server is done by what was trusted before the reload, and its end comes after."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(theirs[1].read_bytes())
    with Gate(Address("127.0.0.1", server[0]), ALLOW, protocol="http", tls=f"{{ca: {ca}}}") as gate:
        made = gate.mint

        async def mint(names: tuple[str, ...]) -> str:
            ca.write_bytes(ours[1].read_bytes())
            gate._relay.renew()
            return await made(names)

        gate.authority, gate._relay.contexts._mint = ours[0], mint
        with contextlib.suppress(OSError), joined(gate) as raw, context(ours[1]).wrap_socket(raw, server_hostname="web.example") as sock:
            assert sock.recv(4096) == b""
        until = time.monotonic() + 20
        while not any("an authority is no longer trusted" in text for text in gate.incidents):
            assert time.monotonic() < until
            time.sleep(0.01)
