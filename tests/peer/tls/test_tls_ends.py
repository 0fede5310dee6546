"""How TLS ends: what was cut short on the way is not taken for whole, and nothing of ours gets into an answer."""

import contextlib
import os
import socket
import ssl
import threading
from pathlib import Path

import pytest

from appliance.model import Address
from appliance.service.authority import Authority
from tests.gate import Gate
from tests.peer.tls.conftest import context
from tests.peer.tls.test_tls import ALLOW

pytestmark = pytest.mark.peer

Pair = tuple[Authority, Path]
BROKEN = b"\x17\x03\x03\x00\x20" + bytes(32)  # a record that the server has not sealed
# how the server's side ends -> whether its end was said. Who sits on the way can do all but the first.
ENDS = {"said": True, "cut": False, "broken": False}


@pytest.mark.parametrize("how", ENDS)
def test_an_answer_that_was_cut_short_is_seen_to_be(how: str, theirs: Pair, ours: Pair, tmp_path: Path) -> None:
    """A body that lasts to the end of its connection: without close_notify anybody on the way could have ended it."""
    pem = tmp_path / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:web.example",)))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    halved = threading.Event()

    def serve(listener: socket.socket) -> None:
        raw, _ = listener.accept()
        with contextlib.suppress(OSError), server.wrap_socket(raw, server_side=True) as sock:
            sock.recv(65536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
            assert halved.wait(20)
            if how == "said":
                sock.unwrap()
            elif how == "broken":
                with socket.socket(fileno=os.dup(sock.fileno())) as under:
                    under.sendall(BROKEN)
            sock.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with Gate(Address("127.0.0.1", listener.getsockname()[1]), ALLOW, protocol="http", tls=f"{{ca: {theirs[1]}}}") as gate:
            gate.authority = ours[0]
            assert _read_to_the_end(gate.port, ours, halved) == (b"half", ENDS[how])


def _read_to_the_end(port: int, ours: Pair, halved: threading.Event) -> tuple[bytes, bool]:
    """Return the body and whether its end was said."""
    trusting, out = context(ours[1]), b""
    trusting.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    with socket.create_connection(("127.0.0.1", port), 20) as raw:
        with trusting.wrap_socket(raw, server_hostname="web.example", suppress_ragged_eofs=False) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
            try:
                while piece := sock.recv(65536):
                    out += piece
                    if b"half" in out:
                        halved.set()
            except ssl.SSLError as error:
                assert "EOF" in str(error).upper()
                return out.partition(b"\r\n\r\n")[2], False
            return out.partition(b"\r\n\r\n")[2], True
