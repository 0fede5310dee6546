"""Fingerprints by their published examples; what is known, and when it will never be."""

import datetime
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from appliance import config
from appliance.facts.readers import Shared
from appliance.facts.readers import open as open_reader
from appliance.facts.tls import MAX_CERTIFICATE_NAMES, certified, grease, ja3, ja4, said
from appliance.model import Address, Message, Side
from appliance.record.tcp import Connection
from appliance.wire.tls import Hello, hello
from tests.wire.tls.test_hello import real

# The example of JA4's technical details: Chrome.
CIPHERS = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035)
KINDS = (0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D, 0x0005, 0x0023, 0x0012, 0x002B, 0xFF01, 0x000B, 0x000A, 0x0015)
SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
CHROME = Hello("a.example", ("h2", "http/1.1"), (0x5A5A, 0x0304, 0x0303), False, 0x0303, (0x0A0A, *CIPHERS), (0xDADA, *KINDS, 0x1A1A),
               (0x3A3A, 29, 23, 24), (0,), SIGNATURES)  # fmt: skip


def test_ja4_of_the_example() -> None:
    assert ja4(CHROME) == "t13d1516h2_8daaf6152771_e5627efa2ab1"
    assert ja4(CHROME, "q").startswith("q13d")


def test_ja4_without_a_name_protocols_and_signatures() -> None:
    bare = Hello("", (), (0x0303,), False, 0x0303, (0x1301,), (0x000A,))
    assert ja4(bare).startswith("t12i010100_")
    assert ja4(msgspec.structs.replace(bare, ciphers=(), extensions=())) == "t12i000000_000000000000_000000000000"
    assert ja4(msgspec.structs.replace(bare, alpn=("\x00x",))).startswith("t12i010108_")


def test_ja4_counts_no_further_than_99() -> None:
    many = Hello("", (), (0x0304,), False, 0x0303, tuple(range(300)), tuple(range(100, 300)))
    assert ja4(many).startswith("t13i9999")


@pytest.mark.parametrize("value", [0x0A0A, 0x1A1A, 0xFAFA])
def test_grease(value: int) -> None:
    assert grease(value) and not grease(value + 1) and not grease(0x0A1A)


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed")
@pytest.mark.parametrize("alpn", [(), ("h2", "http/1.1")])
def test_ja3_as_tshark_reckons_it(tmp_path: Path, alpn: tuple[str, ...]) -> None:
    data = real("db.example", alpn)
    path = tmp_path / "hello.pcap"
    connection = Connection(Address("10.0.0.1", 40000), Address("10.0.0.2", 443), "f")
    packets = [*connection.open(1.0), *connection.say(Side.CLIENT, 1.0, data)]
    head = b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(8) + (65535).to_bytes(4, "little") + (101).to_bytes(4, "little")
    path.write_bytes(head + b"".join(b"\1\0\0\0\0\0\0\0" + len(p.data).to_bytes(4, "little") * 2 + p.data for p in packets))
    words = ["tshark", "-r", str(path), "-T", "fields", "-e", "tls.handshake.ja3", "-Y", "tls.handshake.type == 1"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    mine = hello(data)
    assert mine is not None and found == ja3(mine)


def test_what_is_not_said_yet_is_not_unknown_and_what_never_will_be_is() -> None:
    first = said(CHROME)
    assert not first.unknown & {"version", "certificate"} and not first.values["version"]
    last = said(CHROME, 0x0304, over=True)
    assert last.values["version"] == {"TLSv1.3"} and "certificate" in last.unknown
    broken = said(CHROME, over=True)
    assert {"version", "certificate"} <= broken.unknown


def test_an_encrypted_hello_may_be_for_another() -> None:
    assert "sni" in said(msgspec.structs.replace(CHROME, ech=True)).unknown


def test_no_name_is_a_dash() -> None:
    assert said(msgspec.structs.replace(CHROME, name="")).values["sni"] == {"-"}


@pytest.mark.parametrize("der", [b"", b"0", b"\x30\x82\xff\xff", bytes(1000)])
def test_a_certificate_that_is_none(der: bytes) -> None:
    assert certified(der) is None
    assert "certificate" in said(CHROME, 0x0303, (der,)).unknown


def test_max_certificate_names() -> None:
    """Behind so many, one that a rule blocks by could stand unseen."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)

    def made(count: int) -> bytes:
        names = x509.SubjectAlternativeName([x509.DNSName(f"n{n}.example") for n in range(count)])
        bare = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).public_key(key.public_key())
        dated = bare.serial_number(1).not_valid_before(now).not_valid_after(now)
        return dated.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    assert len(certified(made(MAX_CERTIFICATE_NAMES)) or ()) == MAX_CERTIFICATE_NAMES
    assert certified(made(MAX_CERTIFICATE_NAMES + 1)) is None


HEAD = 'targets:\n  far: {protocol: tls, address: ["10.0.0.2:443"]}\n  db: {protocol: postgres, address: ["10.0.0.3:5432"], tls: pass}\n'
FAR, DB = Address("10.0.0.2", 443), Address("10.0.0.3", 5432)


def decided(rules: str, facts_of: Hello, server: Address = FAR, **more: object) -> str:
    policy = config.rules([("r.yaml", HEAD + "rules:\n" + rules)], lambda name: [name])
    return policy.decide((), server, said(facts_of, **more)).verdict  # type: ignore[arg-type]


def test_rules_by_what_a_hello_says() -> None:
    allow = '  - {id: a, to: far, when: {sni: "*.example", hello: plain}, do: allow}\n'
    assert decided(allow, CHROME) == "allow"
    assert decided(allow, msgspec.structs.replace(CHROME, name="b.test")) == "block"
    assert decided(allow, msgspec.structs.replace(CHROME, ech=True)) == "block"
    prints = '  - {id: a, when: {ja4: "t13d1516h2_*"}, do: block}\n  - {id: b, do: allow}\n'
    assert decided(prints, CHROME) == "block"


def test_a_certificate_is_judged_when_it_comes() -> None:
    rules = '  - {id: a, when: {certificate: "*.evil.example"}, do: block}\n  - {id: b, do: allow}\n'
    assert decided(rules, CHROME) == "allow"
    assert decided(rules, CHROME, version=0x0304, over=True) == "block", "hidden is not known, and not known blocks"


def test_rules_about_what_is_inside_are_not_answered() -> None:
    """As of TLS of which nothing was known at all."""
    rules = "  - {id: a, when: {effect: drop}, do: block}\n  - {id: b, do: allow}\n"
    assert decided(rules, CHROME, DB) == "block"
    assert decided("  - {id: a, when: {effect: read}, do: allow}\n", CHROME, DB) == "block"
    assert decided("  - {id: b, do: allow}\n", CHROME, DB) == "allow"


def test_a_hello_as_a_person_types_it() -> None:
    facts = open_reader("tls", Shared()).ask(Message(Side.CLIENT, "query", b"", text="API.example alpn=h2 version=TLSv1.2"))
    assert facts is not None and facts.opaque
    assert facts.values["sni"] == {"api.example"} and facts.values["alpn"] == {"h2"} and facts.values["version"] == {"TLSv1.2"}
