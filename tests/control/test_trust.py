"""Trusting the appliance's authority: what is put where, what programs then believe, and that all of it goes again."""

import base64
import json
import os
import ssl
import subprocess
from pathlib import Path

import pytest
import yaml

from appliance.cli import main
from appliance.cli.trust import ALONE, BUNDLE, HOST, JAVA, OURS, STORE, UNIT, VARIABLES
from appliance.service.authority import Authority


@pytest.fixture
def up(tmp_path: Path) -> list[str]:
    """A state directory with an authority, and the words that name it."""
    state = tmp_path / "state"
    state.mkdir()
    Authority(state)
    config = tmp_path / "vendorgate.yaml"
    config.write_text(f"state_dir: {state}\n")
    return ["--config", str(config), "trust"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Another root, whose host trusts one certificate."""
    other = tmp_path / "other"
    other.mkdir()
    Authority(other)
    there = tmp_path / "root"
    (there / HOST).parent.mkdir(parents=True)
    (there / HOST).write_bytes((other / "authority.pem").read_bytes())
    return there


def test_show(up: list[str], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*up, "show", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("CN=vendorgate on this host since ")
    assert "trusted by nobody" in out
    assert main([*up, "install", "acme.service", "--root", str(root)]) == 0
    capsys.readouterr()
    assert main([*up, "show", "--root", str(root), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["installed"] == [f"/{path}" for path in (STORE, BUNDLE, ALONE, JAVA, UNIT.format("acme.service"))]
    assert len(shown["sha256"]) == 64


def test_what_is_installed_is_believed(up: list[str], root: Path, tmp_path: Path) -> None:
    assert main([*up, "install", "acme.service", "--root", str(root)]) == 0
    leaf = tmp_path / "leaf.pem"
    leaf.write_text(Authority(tmp_path / "state").certify(("DNS:web.example",)))
    for path in (STORE, BUNDLE, ALONE):
        words = ["openssl", "verify", "-no-CApath", "-no-CAstore", "-CAfile", str(root / path), "-verify_hostname", "web.example", str(leaf)]
        assert subprocess.run(words, capture_output=True, text=True).stdout == f"{leaf}: OK\n"
    assert len(ssl.create_default_context(cafile=str(root / BUNDLE)).get_ca_certs()) == 2  # the host's too
    words = ["openssl", "pkcs12", "-in", str(root / JAVA), "-nokeys", "-passin", "pass:changeit"]
    assert subprocess.run(words, capture_output=True, text=True).stdout.count("BEGIN CERTIFICATE") == 2


def test_the_drop_in(up: list[str], root: Path) -> None:
    assert main([*up, "install", "acme.service", "b.service", "--root", str(root)]) == 0
    for unit in ("acme.service", "b.service"):
        text = (root / UNIT.format(unit)).read_text()
        assert all(f"Environment={name}=/{path}\n" in text for name, path in VARIABLES.items())
        assert "Environment=PGCHANNELBINDING=disable" in text
        assert "-Djavax.net.ssl.trustStore=/etc/vendorgate/trust/truststore.p12" in text


def test_twice_is_once(up: list[str], root: Path) -> None:
    for _ in range(2):
        assert main([*up, "install", "--root", str(root)]) == 0
        (root / HOST).write_bytes((root / BUNDLE).read_bytes())  # as update-ca-certificates would
    assert len(ssl.create_default_context(cafile=str(root / BUNDLE)).get_ca_certs()) == 2


def test_removed_is_gone(up: list[str], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path for path in root.rglob("*") if path.is_file())
    assert main([*up, "install", "acme.service", "--root", str(root)]) == 0
    assert main([*up, "remove", "--root", str(root)]) == 0
    assert sorted(path for path in root.rglob("*") if path.is_file()) == before
    capsys.readouterr()
    assert main([*up, "remove", "--root", str(root)]) == 1
    assert capsys.readouterr().err == "it is not installed\n"


def test_a_name_that_is_no_unit(up: list[str], root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*up, "install", "acme", "--root", str(root)]) == 2
    assert capsys.readouterr().err == "acme: is not the name of a unit\nhint: write it whole, as in acme.service\n"


def test_before_the_first_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "vendorgate.yaml"
    config.write_text(f"state_dir: {tmp_path}\n")
    assert main(["--config", str(config), "trust", "show"]) == 3
    assert "hint: start the service once" in capsys.readouterr().err


def test_kubeconfig(up: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, copy = tmp_path / "config", tmp_path / "copy"
    clusters = [
        {"name": "a", "cluster": {"server": "https://k:6443", "certificate-authority": "/x"}},
        {"name": "b", "cluster": {"server": "https://l:6443", "insecure-skip-tls-verify": True, "certificate-authority-data": "eA=="}},
    ]
    source.write_text(yaml.safe_dump({"kind": "Config", "clusters": clusters, "users": [{"name": "u", "user": {"token": "t"}}]}))
    assert main([*up, "kubeconfig", str(source), "-o", str(copy)]) == 0
    made = yaml.safe_load(copy.read_text())
    pem = base64.b64encode((tmp_path / "state/authority.pem").read_bytes()).decode()
    assert [entry["cluster"] for entry in made["clusters"]] == [
        {"server": "https://k:6443", "certificate-authority-data": pem},
        {"server": "https://l:6443", "certificate-authority-data": pem},
    ]
    assert made["users"] == [{"name": "u", "user": {"token": "t"}}]
    assert os.stat(copy).st_mode & 0o777 == 0o600
    source.write_text("[]")
    assert main([*up, "kubeconfig", str(source), "-o", str(copy)]) == 2
    assert "is no kubeconfig" in capsys.readouterr().err


def test_kubeconfig_is_not_written_through_a_link(up: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its place may be a directory of the agent's, and it is root who writes."""
    source, other, link = tmp_path / "config", tmp_path / "shadow", tmp_path / "link"
    source.write_text(yaml.safe_dump({"clusters": [{"name": "a", "cluster": {"server": "https://k"}}]}))
    other.write_text("root's")
    other.chmod(0o644)
    link.symlink_to(other)
    assert main([*up, "kubeconfig", str(source), "-o", str(link)]) == 2
    assert "name a file, not a link" in capsys.readouterr().err
    assert (other.read_text(), other.stat().st_mode & 0o777) == ("root's", 0o644)
    assert main([*up, "kubeconfig", str(source), "-o", str(other)]) == 0
    assert (yaml.safe_load(other.read_text())["clusters"][0]["name"], other.stat().st_mode & 0o777) == ("a", 0o600)


def test_what_programs_are_to_trust_is_open_to_adopted_units() -> None:
    """The drop-in closes what is the appliance's own, and not the folder that its variables name."""
    drop_in = (Path(__file__).parents[2] / "systemd/vendor-agent.conf").read_text()
    (line,) = (line for line in drop_in.splitlines() if line.startswith("InaccessiblePaths="))
    closed = [Path(word.lstrip("-")) for word in line.partition("=")[2].split()]
    assert Path("/etc/vendorgate/rules.d") in closed
    assert not any((Path("/") / OURS).is_relative_to(path) for path in closed)


# -- the authority itself -------------------------------------------------------------------------------------------


def test_the_key_is_roots_alone_and_lasts(tmp_path: Path) -> None:
    Authority(tmp_path)
    key = tmp_path / "keys/authority.key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    before = (tmp_path / "authority.pem").read_bytes()
    Authority(tmp_path)
    assert (tmp_path / "authority.pem").read_bytes() == before


def test_a_leaf_is_not_for_the_authoritys_key(tmp_path: Path) -> None:
    pem = Authority(tmp_path).certify(("DNS:a.example", "IP:10.0.0.1", "DNS:*.b.example"))
    (tmp_path / "leaf.pem").write_text(pem)
    words = ["openssl", "x509", "-noout", "-text", "-in", str(tmp_path / "leaf.pem")]
    text = subprocess.run(words, capture_output=True, text=True).stdout
    assert "DNS:a.example, IP Address:10.0.0.1, DNS:*.b.example" in text
    assert "CA:FALSE" in text
    assert (tmp_path / "keys/authority.key").read_text() not in pem


@pytest.mark.parametrize("names", [(), ("DNS:",), ("X:a",), ("IP:a",), ("DNS:a\n",), ("DNS:\xe9",), tuple(["DNS:a"] * 101)])
def test_what_is_not_certified(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):
        Authority(tmp_path).certify(names)


def test_a_key_that_does_not_fit(tmp_path: Path) -> None:
    from appliance.model import HostError

    Authority(tmp_path)
    (tmp_path / "other").mkdir()
    Authority(tmp_path / "other")
    (tmp_path / "keys/authority.key").write_bytes((tmp_path / "other/keys/authority.key").read_bytes())
    with pytest.raises(HostError, match="do not fit"):
        Authority(tmp_path)


LIMITED = [
    (("corp.example",), "DNS:db.corp.example", True),
    (("corp.example",), "DNS:corp.example", True),
    (("corp.example",), "DNS:*.corp.example", True),
    (("corp.example",), "DNS:evilcorp.example", False),
    (("corp.example",), "IP:10.0.0.1", False),
    (("10.0.0.0/8",), "IP:10.1.2.3", True),
    (("10.0.0.0/8",), "IP:11.0.0.1", False),
    (("10.0.0.0/8",), "DNS:corp.example", False),
    (("fd00::/8", "corp.example"), "IP:fd00::1", True),
]


@pytest.mark.parametrize(("names", "asked", "within"), LIMITED)
def test_an_authority_for_some_names(tmp_path: Path, names: tuple[str, ...], asked: str, within: bool) -> None:
    """Openssl is the judge: a leaf within is believed, and one made outside with the same key is not."""
    limited = Authority(tmp_path, names)
    if within:
        pem = limited.certify((asked,))
    else:
        with pytest.raises(ValueError, match=r"authority\.names"):
            limited.certify((asked,))
        limited._permitted = None  # a stolen key does not ask
        pem = limited.certify((asked,))
    (tmp_path / "leaf.pem").write_text(pem[pem.index("-----BEGIN CERT") :])
    words = ["openssl", "verify", "-CAfile", str(tmp_path / "authority.pem"), str(tmp_path / "leaf.pem")]
    said = subprocess.run(words, capture_output=True, text=True)
    assert (said.returncode == 0) is within, said.stdout + said.stderr
    if not within:
        assert "permitted subtree violation" in said.stderr or "excluded subtree violation" in said.stderr


def test_an_authority_keeps_to_what_it_was_made_for(tmp_path: Path) -> None:
    from appliance.model import HostError

    Authority(tmp_path, ("corp.example",))
    Authority(tmp_path, ("corp.example",))
    with pytest.raises(HostError, match=r"for other names than authority\.names says"):
        Authority(tmp_path)


def test_of_a_servers_names_those_within_are_certified(tmp_path: Path) -> None:
    pem = Authority(tmp_path, ("corp.example",)).certify(("DNS:cdn.example", "DNS:web.corp.example"))
    (tmp_path / "leaf.pem").write_text(pem)
    words = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(tmp_path / "leaf.pem")]
    assert subprocess.run(words, capture_output=True, text=True).stdout.split("\n")[1].strip() == "DNS:web.corp.example"
