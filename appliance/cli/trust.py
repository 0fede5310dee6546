"""`vendorgate trust`: have governed programs trust the appliance's authority, and no longer.

What a program believes is in one of many places: the host's store (most of C, Go, curl), a file named by a variable
(Python, Node, git, AWS, libpq), a keystore (Java), a kubeconfig. Variables that replace a store name a bundle of
the host's certificates and ours.

Source: update-ca-certificates(8); systemd.exec(5); the manuals of the programs for their variables.
"""

import base64
import os
import shutil
import subprocess
from pathlib import Path

import click
import msgspec
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from appliance.cli import screen
from appliance.cli.site import No, Site, pass_site
from appliance.model import ConfigError, HostError

CERTIFICATE = "authority.pem"  # in state_dir; service/authority.py makes it
STORE = Path("usr/local/share/ca-certificates/vendorgate.crt")
HOST = Path("etc/ssl/certs/ca-certificates.crt")
OURS = Path("etc/vendorgate/trust")
BUNDLE, ALONE, JAVA = OURS / "bundle.pem", OURS / "authority.pem", OURS / "truststore.p12"
PASSWORD = "changeit"  # what every Java takes for a store that holds no secret
UNIT = "etc/systemd/system/{}.d/vendorgate-trust.conf"
VARIABLES = {
    "SSL_CERT_FILE": BUNDLE,  # OpenSSL, Ruby, Python's ssl, Go
    "REQUESTS_CA_BUNDLE": BUNDLE,
    "CURL_CA_BUNDLE": BUNDLE,
    "GIT_SSL_CAINFO": BUNDLE,
    "AWS_CA_BUNDLE": BUNDLE,
    "PIP_CERT": BUNDLE,
    "NODE_EXTRA_CA_CERTS": ALONE,
    "PGSSLROOTCERT": BUNDLE,
}


class Shown(msgspec.Struct, frozen=True):
    """What there is to trust, and where it is trusted."""

    subject: str
    sha256: str
    until: str
    installed: tuple[str, ...]


@click.group()
def trust() -> None:
    """Have governed programs trust the certificates they are shown.

    vendorgate opens TLS: to the program it proves, with a certificate of its own authority, the names that the server
    has proved. The authority is made when the service is first started; it exists on this host only.

    \b
    vendorgate trust show
    vendorgate trust install acme.service     # the host's store, and a drop-in for the unit
    vendorgate trust kubeconfig ~/.kube/config -o /etc/acme/kubeconfig
    vendorgate trust remove
    """


ROOT = click.option("--root", type=click.Path(path_type=Path), default=Path("/"), hidden=True)


@trust.command()
@ROOT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def show(site: Site, root: Path, as_json: bool) -> None:
    """Print the authority's certificate, its digest, and where it is trusted.

    \b
    vendorgate trust show
    """
    pem = _certificate(site)
    certificate = x509.load_pem_x509_certificate(pem)
    found = [path for path in (STORE, BUNDLE, ALONE, JAVA) if (root / path).exists()]
    units = sorted((root / "etc/systemd/system").glob("*.d/vendorgate-trust.conf"))
    shown = Shown(
        certificate.subject.rfc4514_string(),
        certificate.fingerprint(hashes.SHA256()).hex(),
        certificate.not_valid_after_utc.date().isoformat(),
        (*(f"/{path}" for path in found), *(f"/{unit.relative_to(root)}" for unit in units)),
    )
    if as_json:
        screen.json(shown)
        return
    click.echo(f"{shown.subject}\nSHA-256 {shown.sha256}\nvalid until {shown.until}")
    click.echo("trusted by:" if shown.installed else "trusted by nobody: vendorgate trust install")
    for place in shown.installed:
        click.echo(f"  {place}")
    click.echo(pem.decode(), nl=False)


@trust.command()
@click.argument("units", metavar="[UNIT]...", nargs=-1)
@ROOT
@pass_site
def install(site: Site, units: tuple[str, ...], root: Path) -> None:
    """Put the authority into the host's store, and a drop-in with variables beside each UNIT named.

    A unit takes its variables at its next start. It also gets PGCHANNELBINDING=disable: a login that is bound to the
    server's certificate cannot be opened.

    \b
    vendorgate trust install acme.service
    """
    pem = _certificate(site)
    for unit in units:
        if not unit.endswith((".service", ".scope", ".slice")) or "/" in unit:
            hint = f"write it whole, as in {unit.partition('.')[0]}.service"
            raise ConfigError(unit, "is not the name of a unit", hint)
    _put(root / STORE, pem)
    _refresh(root)
    host = (root / HOST).read_bytes() if (root / HOST).exists() else b""
    _put(root / BUNDLE, host if pem in host else host + pem)
    _put(root / ALONE, pem)
    _put(root / JAVA, _java(pem, host))
    for unit in units:
        _put(root / UNIT.format(unit), drop_in().encode())
    _reload(root, bool(units))
    click.echo(f"trusted by the host's store{''.join(f', {unit}' for unit in units)}")
    if units:
        click.echo(f"take effect when they start again: systemctl restart {' '.join(units)}")


@trust.command()
@ROOT
def remove(root: Path) -> None:
    """Take the authority out of every place where `install` put it.

    \b
    vendorgate trust remove
    """
    drop_ins = sorted((root / "etc/systemd/system").glob("*.d/vendorgate-trust.conf"))
    there = [path for path in (root / STORE, root / OURS, *drop_ins) if path.exists()]
    if not there:
        raise No("it is not installed")
    for path in there:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in drop_ins:
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    _refresh(root)
    _reload(root, bool(drop_ins))
    click.echo(f"removed: {' '.join(f'/{path.relative_to(root)}' for path in there)}")


@trust.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Where the copy goes (0600).")
@pass_site
def kubeconfig(site: Site, source: Path, output: Path) -> None:
    """Write a copy of a kubeconfig whose clusters are trusted by vendorgate's authority alone.

    \b
    vendorgate trust kubeconfig ~/.kube/config -o /etc/acme/kubeconfig
    """
    pem = base64.b64encode(_certificate(site)).decode()
    try:
        document = yaml.safe_load(source.read_text())
        clusters = [entry["cluster"] for entry in document["clusters"]]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        what = f"is no kubeconfig: {type(error).__name__}"
        raise ConfigError(str(source), what, "it has a list `clusters`") from None
    for cluster in clusters:
        for key in ("certificate-authority", "insecure-skip-tls-verify"):
            cluster.pop(key, None)
        cluster["certificate-authority-data"] = pem
    try:  # it may be in a directory of the agent's, and root writes here: not to where a link of its leads
        made = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise ConfigError(str(output), f"cannot be written: {error.strerror}", "name a file, not a link") from None
    with open(made, "w") as file:
        os.fchmod(made, 0o600)
        file.truncate()
        file.write(yaml.safe_dump(document, sort_keys=False))
    click.echo(f"{output}: {len(clusters)} clusters")


def _certificate(site: Site) -> bytes:
    path = site.settings.state_dir / CERTIFICATE
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise HostError(f"{path} is not there", "start the service once: systemctl start vendorgate") from None


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.chmod(0o644)
    new.rename(path)


def environment() -> dict[str, str]:
    """Return the variables by which programs trust the authority."""
    java = f"-Djavax.net.ssl.trustStore=/{JAVA} -Djavax.net.ssl.trustStorePassword={PASSWORD}"
    found = {name: f"/{path}" for name, path in VARIABLES.items()}
    return {**found, "JAVA_TOOL_OPTIONS": java, "PGCHANNELBINDING": "disable"}


def drop_in() -> str:
    """Return what gives a unit these variables."""
    found = environment().items()
    lines = [f"Environment={_quoted(f'{name}={value}')}" for name, value in found]
    head = ["# Written by `vendorgate trust install`; `vendorgate trust remove` removes it.", "[Service]"]
    return "\n".join([*head, *lines, ""])


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text


def _java(pem: bytes, host: bytes) -> bytes:
    """Return a keystore of the host's certificates and ours."""
    found = x509.load_pem_x509_certificates(host) if host else []
    ours = x509.load_pem_x509_certificate(pem)
    named = [pkcs12.PKCS12Certificate(ours, b"vendorgate")]
    named += [pkcs12.PKCS12Certificate(c, b"host-%d" % n) for n, c in enumerate(found) if c != ours]
    sealed = serialization.BestAvailableEncryption(PASSWORD.encode())
    return pkcs12.serialize_java_truststore(named, sealed)


def _refresh(root: Path) -> None:
    """Have the host's store made anew; in another root than this one that is left to whoever boots it."""
    if root != Path("/"):
        return
    try:
        subprocess.run(["update-ca-certificates", "--fresh"], check=True, capture_output=True)
    except FileNotFoundError:
        raise HostError("there is no update-ca-certificates", "apt-get install ca-certificates") from None
    except subprocess.CalledProcessError as error:
        raise HostError(f"update-ca-certificates: {error.stderr.decode(errors='replace').strip()}") from None


def _reload(root: Path, changed: bool) -> None:
    if changed and root == Path("/") and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "daemon-reload"], check=False)
