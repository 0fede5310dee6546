"""What a real TLS server says in the clear, cut anywhere; and what none would say."""

import contextlib
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.facts.tls import certified
from appliance.model import Side
from appliance.wire.handshake import MAX_CHAIN, MAX_FLIGHT, TLS13, Handshake
from tests.wire.tls.test_hello import made, sni, vector

C, S = Side.CLIENT, Side.SERVER
Flights = list[tuple[Side, bytes]]


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "leaf.pem"
    path.write_text(leaf(("db.example",)))
    return path


@pytest.fixture(scope="module")
def talks(pem: Path) -> dict[ssl.TLSVersion, Flights]:
    """One of each version, the same for every example."""
    return {version: flights(pem, version) for version in VERSIONS}


def leaf(names: tuple[str, ...]) -> str:
    """Return a key and a certificate that it signed itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "db.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (secret + made.public_bytes(serialization.Encoding.PEM)).decode()


def flights(pem: Path, version: ssl.TLSVersion, curve: str = "") -> Flights:
    """Return what OpenSSL's two ends say to each other until both are done; a `curve` the client has not guessed."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.maximum_version = version
    server.load_cert_chain(pem)
    if curve:
        server.set_ecdh_curve(curve)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up, server_hostname="db.example"), server.wrap_bio(up, down, server_side=True))
    said: Flights = []
    for _ in range(4):
        for side, end, out in ((C, ends[0], up), (S, ends[1], down)):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            data = out.read()
            if data:
                said.append((side, data))
                out.write(data)
    return said


def fed(said: Flights) -> Handshake:
    found = Handshake()
    for side, data in said:
        found.feed(side, data)
    return found


def test_a_certificate_of_tls_1_2(pem: Path) -> None:
    found = fed(flights(pem, ssl.TLSVersion.TLSv1_2))
    assert (found.version, found.over, found.why) == (0x0303, True, "")
    assert found.hello is not None and found.hello.name == "db.example"
    assert certified(found.chain[0]) == {"db.example"}


def test_tls_1_3_hides_its_certificate(pem: Path) -> None:
    found = fed(flights(pem, ssl.TLSVersion.TLSv1_3))
    assert (found.version, found.chain, found.over, found.why) == (TLS13, (), True, "")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4000), min_size=4, max_size=4), st.sampled_from(VERSIONS))
def test_cut_anywhere(talks: dict[ssl.TLSVersion, Flights], cuts: list[int], version: ssl.TLSVersion) -> None:
    found, said = Handshake(), talks[version]
    for (side, flight), at in zip(said, [*cuts, *[0] * len(said)], strict=False):
        found.feed(side, flight[:at])
        found.feed(side, flight[at:])
    whole = fed(said)
    assert (found.version, found.chain, found.over, found.why) == (whole.version, whole.chain, whole.over, whole.why)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Side), st.binary(max_size=200)), max_size=20))
def test_rubbish_is_not_known(said: Flights) -> None:
    assert fed(said).version in range(1 << 16)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_a_rubbish_answer_to_a_hello(talks: dict[ssl.TLSVersion, Flights], rubbish: bytes) -> None:
    found = fed([talks[VERSIONS[0]][0], (S, b"\x16\3\3" + vector(2, b"\2" + vector(3, rubbish)))])
    assert found.why or found.version or not found.over


def test_more_is_told_only_when_there_is_more(pem: Path) -> None:
    found, said = Handshake(), flights(pem, ssl.TLSVersion.TLSv1_2)
    assert found.feed(*said[0]) and found.feed(*said[1])
    assert not any(found.feed(*one) for one in said[2:])


def test_a_flight_over_the_limit_is_given_up() -> None:
    found = Handshake()
    endless = b"\x16\3\3\x40\0" + b"\x0b\xff\xff\xff" + bytes(0x3FFC)
    for _ in range(MAX_FLIGHT // 0x4000 + 1):
        found.feed(S, endless)
    assert found.over and "over" in found.why
    assert not found.feed(S, endless)


def test_certificates_beyond_the_limit_are_left_out() -> None:
    found = Handshake()
    chain = vector(3, b"".join(vector(3, bytes([n])) for n in range(MAX_CHAIN + 5)))
    found.feed(S, b"\x16\3\3" + vector(2, b"\x0b" + vector(3, chain)))
    assert len(found.chain) == MAX_CHAIN


def test_a_server_that_speaks_something_else() -> None:
    found = Handshake()
    assert found.feed(S, b"HTTP/1.1 400 Bad Request\r\n")
    assert found.over and found.why


# -- a second hello ----------------------------------------------------------------------------------------------


def test_a_second_hello_that_was_asked_for(pem: Path) -> None:
    said = flights(pem, ssl.TLSVersion.TLSv1_3, curve="secp384r1")
    assert [side for side, _ in said[:4]] == [C, S, C, S], "OpenSSL asked for another key"
    found = fed(said[:3])
    assert (found.version, found.over, found.changed) == (TLS13, False, "")
    found = fed(said)
    assert (found.version, found.over, found.changed, found.why) == (TLS13, True, "", "")


def test_a_second_hello_cut_anywhere(pem: Path) -> None:
    (_, first), (_, retry), *_ = flights(pem, ssl.TLSVersion.TLSv1_3, curve="secp384r1")
    other = made(sni(b"evil.example"), pieces=20)
    for cut in range(0, len(other), 7):
        found = Handshake()
        for side, data in ((C, first), (S, retry), (C, other[:cut])):
            found.feed(side, data)
        assert found.changed == "", "its name may be for nobody yet"
        found.feed(C, other[cut:])
        assert found.changed.startswith("a second hello, for evil.example")


EMPTY = b"\x14\3\3\0\1\1"  # a record that says nothing
EARLY = b"\x17\3\3\0\5early"
# what a client sends behind its first hello, unasked
BEHIND = {
    "a record of its own": made(sni(b"evil.example")),
    "behind a record that says nothing": EMPTY + made(sni(b"evil.example")),
    "behind early data": EMPTY + EARLY * 3 + made(sni(b"evil.example")),
    "for nobody": made(),
    "encrypted": made(sni(b"db.example"), (0xFE0D, b"\0")),
    "cut short": b"\x16\3\3\0\7\1\0\0\3abc",
    "longer than any": b"\x16\3\3\0\4\1\2\0\0",
}


@pytest.mark.parametrize("behind", BEHIND)
def test_a_second_hello_nobody_asked_for(behind: str) -> None:
    found = Handshake()
    found.feed(C, made(sni(b"db.example")) + BEHIND[behind])
    assert "a second hello" in found.changed


def test_two_hellos_in_one_record() -> None:
    one, other = (made(sni(name))[5:] for name in (b"db.example", b"evil.example"))
    found = Handshake()
    found.feed(C, b"\x16\3\1" + vector(2, one + other))
    assert "evil.example" in found.changed


def test_what_a_client_says_behind_its_hello_is_kept_within_a_record() -> None:
    found = Handshake()
    found.feed(C, made(sni(b"db.example")))
    for _ in range(100):
        found.feed(C, b"\x17\3\3\x40\0" + bytes(0x4000))
    for _ in range(20):
        found.feed(C, b"\x16\3\3\x40\0\1\0\xff\xff" + bytes(0x3FFC))
    assert len(found._client) + len(found._hellos) <= 3 * 65_540


def test_an_answer_without_a_certificate_is_news_when_it_ends(pem: Path) -> None:
    """TLS 1.2 that goes on with an earlier session shows none: from then on it is known that none will come."""
    said = flights(pem, ssl.TLSVersion.TLSv1_2)
    found = fed(said[:1])
    hello = said[1][1][: 5 + int.from_bytes(said[1][1][3:5], "big")]
    assert found.feed(S, hello) and not found.over
    assert found.feed(S, EMPTY) and found.over and found.chain == ()
