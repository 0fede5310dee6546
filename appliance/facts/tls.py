"""What TLS that is not opened tells of itself. Keys of `Facts.values`: facts/words/tls.py.

Sources: "TLS Fingerprinting with JA3 and JA3S" (Salesforce Engineering, 2019) for JA3; "JA4: TLS Client
Fingerprinting", technical details of the JA4+ suite (FoxIO), for JA4; RFC 8701 for GREASE, which both leave out;
RFC 6125 for the names in a certificate.

As a person types it, a hello is the server's name, and behind it KEY=VALUE,VALUE for each of the other keys; KEY=? for
what is not known.
"""

from collections.abc import Collection, Mapping, Sequence
from hashlib import md5, sha256
from typing import Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from appliance.facts import Copy, Facts
from appliance.facts.shared import Shared
from appliance.facts.words.tls import KEYS
from appliance.model import Column, Message

NAMES = {0x0300: "SSLv3", 0x0301: "TLSv1.0", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
SHORT = {0x0300: "s3", 0x0301: "10", 0x0302: "11", 0x0303: "12", 0x0304: "13"}  # of JA4
NO_NAME = "-"
MAX_CERTIFICATE_NAMES = 1_000  # of one certificate; public authorities sign up to 100 and some few 250
SERVER_NAME, ALPN = 0, 16  # extensions that JA4 leaves out of its hash
INSIDE = "TLS is not opened"


class Hello(Protocol):
    """What a client says first, as it stands there; `wire.tls.Hello` is one."""

    @property
    def name(self) -> str: ...
    @property
    def alpn(self) -> tuple[str, ...]: ...
    @property
    def versions(self) -> tuple[int, ...]: ...
    @property
    def ech(self) -> bool: ...
    @property
    def legacy(self) -> int: ...
    @property
    def ciphers(self) -> tuple[int, ...]: ...
    @property
    def extensions(self) -> tuple[int, ...]: ...
    @property
    def groups(self) -> tuple[int, ...]: ...
    @property
    def formats(self) -> tuple[int, ...]: ...
    @property
    def signatures(self) -> tuple[int, ...]: ...


def said(
    hello: Hello, version: int = 0, chain: Sequence[bytes] = (), over: bool = False, changed: bool = False
) -> Facts:
    """Return the facts of what has been said: of the client's hello, and of the server's answer, if it came.

    `over`: nothing more comes in the clear, so what is not known by now never will be. `changed`: by a second hello,
    whose word counts.
    """
    values = {
        "sni": frozenset((hello.name or NO_NAME,)),
        "alpn": frozenset(hello.alpn),
        "offered": frozenset(named(one) for one in hello.versions if not grease(one)),
        "hello": frozenset(("encrypted" if hello.ech else "plain",)),
        "ja3": frozenset((ja3(hello),)),
        "ja4": frozenset((ja4(hello),)),
        "version": frozenset((named(version),)) if version else frozenset[str](),
    }
    unknown = {"text"} | ({"sni"} if hello.ech else set()) | ({"sni", "alpn", "hello"} if changed else set())
    names = certified(chain[0]) if chain else None
    if names is not None:
        values["certificate"] = names
    elif over or chain:
        unknown.add("certificate")
    if over and not version:
        unknown.add("version")
    return Facts("tls", values, frozenset(unknown), INSIDE, subject=subject(values, unknown), opaque=True)


def subject(values: Mapping[str, frozenset[str]], unknown: Collection[str]) -> str:
    """Return it on one line, as a person would type it behind "TLS to "."""
    name, *_ = values["sni"]
    shown = {key: "?" if key in unknown else ",".join(sorted(values.get(key, ()))) for key in KEYS if key != "sni"}
    return " ".join((f"TLS to {name}", *(f"{key}={text}" for key, text in shown.items() if text)))


def named(version: int) -> str:
    """Return a version as OpenSSL calls it; one that is not known in hexadecimal digits."""
    return NAMES.get(version, f"{version:04x}")


def grease(number: int) -> bool:
    """Return True for a value that only keeps servers from choking on unknown ones."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def ja3(hello: Hello) -> str:
    """Return the fingerprint of a hello."""
    lists = (hello.ciphers, hello.extensions, hello.groups, hello.formats)
    text = ",".join([str(hello.legacy), *("-".join(str(n) for n in one if not grease(n)) for one in lists)])
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def ja4(hello: Hello, transport: str = "t") -> str:
    """Return the fingerprint of a hello; `transport`: t for TCP, q for QUIC."""
    ciphers = [n for n in hello.ciphers if not grease(n)]
    kinds = [n for n in hello.extensions if not grease(n)]
    best = max((v for v in hello.versions if not grease(v)), default=0)
    asks = "d" if SERVER_NAME in kinds else "i"
    counts = f"{min(len(ciphers), 99):02}{min(len(kinds), 99):02}"
    head = f"{transport}{SHORT.get(best, '00')}{asks}{counts}{_ends(hello.alpn)}"
    hashed = ",".join(sorted(f"{n:04x}" for n in kinds if n not in (SERVER_NAME, ALPN)))
    signed = ",".join(f"{n:04x}" for n in hello.signatures if not grease(n))
    tail = f"{hashed}_{signed}" if signed else hashed
    return f"{head}_{_short(','.join(sorted(f'{n:04x}' for n in ciphers)))}_{_short(tail)}"


def _ends(alpn: Sequence[str]) -> str:
    """Return the first and last character of the first protocol offered; of its bytes' digits if they are not plain."""
    first = alpn[0].encode("latin-1") if alpn else b""
    if not first:
        return "00"
    if _plain(first[0]) and _plain(first[-1]):
        return chr(first[0]) + chr(first[-1])
    return first.hex()[0] + first.hex()[-1]


def _plain(byte: int) -> bool:
    return chr(byte).isascii() and chr(byte).isalnum()


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def certified(der: bytes) -> frozenset[str] | None:
    """Return the names and addresses that a certificate is for; None if it cannot be read, or has too many."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        found = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        try:
            alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            alternative = None
        if alternative is not None:
            found += alternative.get_values_for_type(x509.DNSName)
            found += map(str, alternative.get_values_for_type(x509.IPAddress))
    except Exception:
        return None  # whatever a library makes of a hostile certificate: its names are not known
    return frozenset(name.lower() for name in found) if len(found) <= MAX_CERTIFICATE_NAMES else None


def open(shared: Shared, server: str = "", needs_catalog: bool = True) -> "TLS":
    """Return a reader, as `facts.readers.open` says."""
    return TLS()


class TLS:
    """Reads what a person types of a hello; of a connection the session asks `said` itself."""

    needs_catalog = False

    def ask(self, message: Message) -> Facts | None:
        if message.kind != "query":
            return None
        name, *others = message.text.split() or [""]
        pairs = [other.partition("=") for other in others]
        found = {key: frozenset(v for k, _, text in pairs if k == key for v in text.split(",")) for key in KEYS}
        unknown = {key for key, values in found.items() if "?" in values}
        values = {key: one - {"?"} for key, one in found.items()}
        values["sni"] = frozenset((name.lower() or NO_NAME,))
        values["hello"] = values["hello"] or frozenset(("plain",))
        return Facts("tls", values, frozenset(("text", *unknown)), INSIDE, subject=message.text, opaque=True)

    def sent(self, message: Message) -> None: ...

    def heard(self, message: Message) -> None: ...

    def wanted(self, facts: Facts | None) -> str:
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        return None

    def copy(self, message: Message) -> Copy | None:
        return None
