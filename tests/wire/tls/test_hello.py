"""Hellos of a real TLS library, cut anywhere; and what is none."""

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.model import ProtocolError
from appliance.wire import tls
from appliance.wire.tls import Hello, begins, hello


def real(name: str | None = "db.example", alpn: tuple[str, ...] = ()) -> bytes:
    """Return the first flight of OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def made(*extensions: tuple[int, bytes], pieces: int = 0) -> bytes:
    body = b"\3\3" + bytes(32) + vector(1, b"") + vector(2, b"\x13\1") + vector(1, b"\0")
    body += vector(2, b"".join(kind.to_bytes(2, "big") + vector(2, data) for kind, data in extensions))
    message = b"\1" + vector(3, body)
    size = pieces or len(message)
    return b"".join(b"\x16\3\1" + vector(2, message[i : i + size]) for i in range(0, len(message), size))


def sni(*names: bytes) -> tuple[int, bytes]:
    return tls.SERVER_NAME, vector(2, b"".join(b"\0" + vector(2, name) for name in names))


def test_a_real_hello() -> None:
    said = hello(real("DB.example", ("h2", "http/1.1")))
    assert said is not None
    assert (said.name, said.alpn, said.ech) == ("db.example", ("h2", "http/1.1"), False)
    assert said.versions[0] == 0x0304


def test_no_server_name() -> None:
    said = hello(real(None))
    assert said is not None
    assert said.name == ""


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_cut_anywhere(at: int) -> None:
    data = real()
    assert hello(data[: min(at, len(data) - 1)]) is None
    assert hello(data + b"more") == hello(data)


def test_split_over_records() -> None:
    plain = Hello("a.example", (), (0x0303,), False, legacy=0x0303, ciphers=(0x1301,), extensions=(0,))
    assert hello(made(sni(b"a.example"), pieces=7)) == plain


def test_encrypted_hello_is_seen() -> None:
    said = hello(made((tls.ECH, b"\0")))
    assert said is not None
    assert said.ech


BAD = {
    "two names": made(sni(b"a", b"b")),
    "an empty name": made(sni(b"")),
    "a name with a NUL": made(sni(b"a\0b")),
    "a name in 8 bits": made(sni(b"\xe9")),
    "a name with a blank": made(sni(b"a b")),
    "a name of two lines": made(sni(b"a\nb")),
    "an extension twice": made(sni(b"a"), sni(b"b")),
    "cut short inside": b"\x16\3\1" + vector(2, b"\1" + vector(3, b"\3\3" + bytes(10))),
    "another message": b"\x16\3\1" + vector(2, b"\2" + vector(3, b"x")),
    "another record": b"\x16\3\1" + vector(2, b"\1\0\0\x20") + b"\x17\3\3\0\1x",
    "an empty record": b"\x16\3\1\0\0",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_hello(name: str) -> None:
    with pytest.raises(ProtocolError):
        hello(BAD[name])


def test_max_hello() -> None:
    message = b"\1" + (tls.MAX_HELLO + 100_000).to_bytes(3, "big") + bytes(tls.MAX_HELLO + 40_000)
    data = b"".join(b"\x16\3\1" + vector(2, message[i : i + 16384]) for i in range(0, len(message), 16384))
    with pytest.raises(ProtocolError, match="over 65536 bytes"):
        hello(data)


def test_max_alpn() -> None:
    """Each is a value that rules look at; 60 KB of them took 45 ms."""
    offered = [vector(1, b"p%d" % n) for n in range(tls.MAX_ALPN + 1)]
    said = hello(made((tls.ALPN, vector(2, b"".join(offered[1:])))))
    assert said is not None and len(said.alpn) == tls.MAX_ALPN
    with pytest.raises(ProtocolError, match="more than 64 protocols"):
        hello(made((tls.ALPN, vector(2, b"".join(offered)))))


@given(st.binary(max_size=200))
def test_rubbish(data: bytes) -> None:
    try:
        hello(b"\x16\3\1" + data)
    except ProtocolError:
        pass


def test_begins() -> None:
    assert begins(real())
    assert not any(begins(data) for data in (b"", b"\x16\3", b"GET /", b"\x16\3\0\1", b"\0\0\0\x08\4\xd2\x16\x2f"))
