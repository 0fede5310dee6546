"""Whether a server that was believed when its TLS was opened would still be, by what is trusted since.

OpenSSL verifies a certificate in a handshake only. So what made it good then is compared with what is trusted: its pin,
or all the certificates of the file, and the lists of revoked ones there. Where that does not tell, the answer is no:
the client connects again, and the server proves anew who it is. What has run out since ends no flow.

Source: RFC 7468; RFC 5280 section 5.1, for a revoked certificate: its serial number, then a time; X.690 for both.
"""

import base64
import hashlib
import re
import ssl
from pathlib import Path

import msgspec

from appliance.model import Trust

CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.*?)-----END", re.DOTALL)
REVOKED = re.compile(rb"-----BEGIN X509 CRL-----(.*?)-----END", re.DOTALL)
INTEGER = 2
TIMES = (b"\x17\x0d", b"\x18\x0f")  # UTCTime and GeneralizedTime, of the only lengths that RFC 5280 lets them have


class Trusted(msgspec.Struct, frozen=True):
    """What the file of a `ca` says."""

    certificates: frozenset[bytes] = frozenset()  # digests
    lists: bytes = b""  # of revoked ones, one behind the other


class Belief(msgspec.Struct, frozen=True):
    """Why a server was believed."""

    trust: Trust
    asked: str  # what it is called where `trust` has no name
    name: str  # it has proved to have
    digest: str  # SHA-256 of its certificate, in hexadecimal digits
    serial: bytes  # of its certificate, as lists have it; empty if it was believed for its pin
    trusted: Trusted


def trusted(trust: Trust) -> Trusted:
    """Return what is trusted by a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none of certificates.
    """
    if not trust.ca:
        return Trusted()
    text = Path(trust.ca).read_bytes()
    certificates = (hashlib.sha256(base64.b64decode(one)).digest() for one in CERTIFICATE.findall(text))
    return Trusted(frozenset(certificates), b"".join(map(base64.b64decode, REVOKED.findall(text))))


def believed(secured: ssl.SSLObject, trust: Trust, asked: str, by: Trusted) -> Belief:
    """Return why the server is believed with which a handshake is done; it is `asked` for by that name."""
    digest = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
    said = (secured.getpeercert() or {}).get("serialNumber")  # without a look at the certificate there is none
    number = int(said, 16) if isinstance(said, str) else None
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True) if number is not None else b""
    return Belief(trust, asked, trust.name or asked, digest, serial, by)


def doubts(belief: Belief, trust: Trust, by: Trusted) -> str:
    """Return why a server would not be believed by `trust` and what its file says; "" if it would."""
    if trust.passes:
        return "its TLS is no longer opened"
    if (trust.name or belief.asked) != belief.name:
        return f"it is to be {trust.name or belief.asked}"
    if trust.present != belief.trust.present:
        return "we are somebody else to it"
    if trust.pin:
        return "" if belief.digest in trust.pin else "its certificate is not the one pinned"
    if belief.trust.pin or bool(trust.ca) != bool(belief.trust.ca):
        return "who it is was told in another way"
    if not by.certificates >= belief.trusted.certificates:
        return "an authority is no longer trusted"
    if any(bytes((INTEGER, len(belief.serial))) + belief.serial + time in by.lists for time in TIMES):
        return "its certificate is revoked"
    return ""
