"""The local authority: certifies to governed clients the names that a server has proved to have.

    state_dir/keys/authority.key   signs certificates (P-256); root's alone, made at the first start
    state_dir/authority.pem        its certificate, for clients to trust (`vendorgate trust`)

Certificates are for one key that is made anew at each start, and last a week: what a worker holds is worth little to
who steals it, and nothing after that. Only the hub knows the authority's key.

With `authority.names` of the settings it is good for those names alone: what trusts it need not trust it for the
rest of the world, even if its key is stolen.

Source: RFC 5280, its 4.2.1.10 for constraints of names; CA/Browser Forum Baseline Requirements 7.1 for what
clients expect of extensions.
"""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.model import HostError
from appliance.relay.channel import Mint, Minted
from appliance.relay.tls import MAX_NAMES
from appliance.service.keys import KEYS

KEY, CERTIFICATE = "authority.key", "authority.pem"
YEARS = 10  # of the authority; operators replace it by removing both files
LEAF_DAYS = 7  # of what it certifies; the appliance renews at each start, and daily
EARLIER = datetime.timedelta(hours=1)  # clocks of clients may be behind
MAX_NAME = 253  # characters of a name; RFC 1035


class Authority:
    """Certifies names. Made from the state directory, which then holds its key."""

    def __init__(self, state_dir: Path, names: tuple[str, ...] = ()) -> None:
        """`names` are all it is good for ("example.com" and what is below, "10.0.0.0/8"); without any, every name.

        Raises:
            HostError: its files cannot be read or made, or are not what they should be.
        """
        wanted = _constraints(names)
        key, certificate = state_dir / KEYS / KEY, state_dir / CERTIFICATE
        try:
            if not key.exists():
                _make(key, certificate, wanted)
            loaded = serialization.load_pem_private_key(key.read_bytes(), None)
            self._certificate = x509.load_pem_x509_certificate(certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise HostError(f"the authority's key or certificate: {error}", f"remove {key} for a new one") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise HostError(f"{key} is no key on an elliptic curve", "remove it for a new one")
        if loaded.public_key() != self._certificate.public_key():
            raise HostError(f"{key} and {certificate} do not fit", "remove both for new ones")
        if _constraints_of(self._certificate) != wanted:
            what = f"{certificate} is for other names than authority.names says"
            raise HostError(what, f"remove it and {key} for a new one, then `vendorgate trust install` again")
        self._permitted = wanted.permitted_subtrees if wanted else None
        self._key = loaded
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())

    def answer(self, asked: Mint) -> Minted:
        """Certify what a worker asks for, or tell it why not."""
        try:
            return Minted(asked.id, self.certify(asked.names))
        except ValueError as error:
            return Minted(asked.id, error=str(error))

    def certify(self, names: tuple[str, ...]) -> str:
        """Return a key, a certificate for the names ("DNS:db.example", "IP:10.0.0.1") and the authority's, in PEM.

        Raises:
            ValueError: there is no name, or one that is none.
        """
        if not 0 < len(names) <= MAX_NAMES:
            raise ValueError(f"{len(names)} names to certify")
        found = self._within([_name(name) for name in names])
        now = datetime.datetime.now(datetime.UTC)
        common = next((name.value for name in found if isinstance(name, x509.DNSName)), "vendorgate")
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])]))
            .issuer_name(self._certificate.subject)
            .public_key(self._leaf_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLIER)
            .not_valid_after(now + datetime.timedelta(days=LEAF_DAYS))
            .add_extension(x509.SubjectAlternativeName(found), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return (_private(self._leaf_key) + _pem(leaf) + _pem(self._certificate)).decode()

    def _within(self, names: list[x509.GeneralName]) -> list[x509.GeneralName]:
        """Return those names that the authority is good for."""
        if self._permitted is None:
            return names
        found = [name for name in names if any(_holds(one, name) for one in self._permitted)]
        if not found:
            raise ValueError(f"the authority is not for `{str(names[0].value)[:80]}`: authority.names of the settings")
        return found


def _constraints(names: tuple[str, ...]) -> x509.NameConstraints | None:
    """Return what limits the authority: RFC 5280 limits only kinds that are named, so both are."""
    if not names:
        return None
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_network(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    kinds = {type(name) for name in found}
    excluded: list[x509.GeneralName] = []
    if x509.IPAddress not in kinds:
        excluded += [x509.IPAddress(ipaddress.ip_network(every)) for every in ("0.0.0.0/0", "::/0")]
    if x509.DNSName not in kinds:
        excluded.append(x509.DNSName(""))
    return x509.NameConstraints(found, excluded or None)


def _constraints_of(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _holds(limit: x509.GeneralName, name: x509.GeneralName) -> bool:
    """Return whether a name is within a permitted subtree: RFC 5280 4.2.1.10."""
    if isinstance(limit, x509.IPAddress) and isinstance(name, x509.IPAddress):
        net = ipaddress.ip_network(str(limit.value))
        return ipaddress.ip_address(str(name.value)) in net
    if isinstance(limit, x509.DNSName) and isinstance(name, x509.DNSName):
        return f".{name.value.lower()}".endswith(f".{limit.value.lower()}")
    return False


def _make(key: Path, certificate: Path, names: x509.NameConstraints | None) -> None:
    """Make the authority: a key that is root's alone, and a certificate that others may read."""
    private = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"vendorgate on this host since {now:%Y-%m-%d}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
    )
    made = (builder.add_extension(names, critical=True) if names else builder).sign(private, hashes.SHA256())
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    certificate.write_bytes(_pem(made))
    certificate.chmod(0o644)
    new = key.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_bytes(_private(private))
    new.rename(key)  # last: with the key there, the authority is whole


def _name(name: str) -> x509.GeneralName:
    kind, _, value = name.partition(":")
    if kind == "IP":
        return x509.IPAddress(ipaddress.ip_address(value))
    if kind != "DNS" or not 0 < len(value) <= MAX_NAME or not value.isascii() or not value.isprintable():
        raise ValueError(f"`{name[:80]}` is no name to certify")
    return x509.DNSName(value)


def _usage(**said: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: said.get(name, False) for name in names})


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
