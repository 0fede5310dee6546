"""Programs that speak HTTP, plain and in TLS, in a governed cgroup: unchanged, before a real nginx in the target namespace."""

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.nginx import Nginx
from appliance.service.authority import Authority
from tests.conftest import reachable

pytestmark = [pytest.mark.kernel, pytest.mark.peer]

PORT = 80
RULES = """
identities: {{acme: {{cgroup: acme.service}}}}
targets:
  web: {{protocol: http, address: ["{ip}:80"]}}
  safe: {{protocol: http, address: ["{ip}:81"], tls: {{ca: {ca}}}}}
rules:
  - {{id: no-admin, to: [web, safe], when: {{path: "/admin*"}}, do: block}}
  - {{id: mails, to: [web, safe], when: {{detect: [email], }}, do: mask}}
  - {{id: work, who: acme, to: [web, safe], do: allow}}
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reachable(tmp_path_factory.mktemp("webca"))


@pytest.fixture(scope="module")
def nginx(lab: Lab, ca: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    home = reachable(tmp_path_factory.mktemp("web"))
    pem = home / "server.pem"
    pem.write_text(Authority(ca).certify((f"IP:{lab.target_ip}", "DNS:web.example")))
    files = home / "files"
    (files / "admin").mkdir(parents=True)
    (files / "admin/x").write_text("admin\n")
    (files / "hello").write_text("hello\n")
    (files / "people").write_text("ada@example.com\n")
    _repository(home / "work", files / "repo.git")
    _package(files / "simple/vgsample")
    with Nginx(home, PORT, lab.target, lab.target_ip, pem) as server:
        yield server


def _repository(work: Path, bare: Path) -> None:
    """Make a repository that is cloned from plain files."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q", str(work)], check=True)
    (work / "file").write_text("cloned\n")
    subprocess.run([*git, "-C", str(work), "add", "file"], check=True)
    subprocess.run([*git, "-C", str(work), "commit", "-q", "-m", "one"], check=True)
    subprocess.run([*git, "clone", "-q", "--bare", str(work), str(bare)], check=True)
    subprocess.run([*git, "-C", str(bare), "update-server-info"], check=True)


def _package(folder: Path) -> None:
    """Make an index with one wheel."""
    folder.mkdir(parents=True)
    name, info = "vgsample-1.0-py3-none-any.whl", "vgsample-1.0.dist-info"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        wheel.writestr("vgsample.py", "here = True\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: vgsample\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{name}">{name}</a>')


@pytest.fixture(scope="module")
def appliance(lab: Lab, nginx: Nginx, ca: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    home = tmp_path_factory.mktemp("vg")
    rules = RULES.format(ip=lab.target_ip, ca=ca / "authority.pem")
    with Appliance(lab, home, {"10.yaml": rules}) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def trusted(appliance: Appliance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `trust install` would have clients believe."""
    pem = reachable(tmp_path_factory.mktemp("trusted")) / "authority.pem"
    pem.write_bytes((appliance.home / "state/authority.pem").read_bytes())
    return pem


REQUESTS = "import sys, requests; sys.stdout.write(requests.get(sys.argv[1], timeout=20).text)"
HTTPX = "import sys, ssl, httpx; sys.stdout.write(httpx.get(sys.argv[1], timeout=20, verify=ssl.create_default_context()).text)"
AIOHTTP = """
import sys, asyncio, aiohttp
async def main():
    async with aiohttp.ClientSession() as session, session.get(sys.argv[1]) as answer:
        sys.stdout.write(await answer.text())
asyncio.run(main())
"""
NODE = "fetch(process.argv[1]).then(a => a.text()).then(t => process.stdout.write(t)).catch(e => { console.error(e); process.exit(1) })"
CLIENTS = {
    "curl": ["curl", "-sS"],
    "wget": ["wget", "-q", "-O", "-"],
    "requests": [sys.executable, "-c", REQUESTS],
    "httpx": [sys.executable, "-c", HTTPX],
    "aiohttp": [sys.executable, "-c", AIOHTTP],
    "node": ["node", "-e", NODE, "--"],
    "apt": ["/usr/lib/apt/apt-helper", "cat-file"],
}


def env(pem: Path) -> list[str]:
    """Return the words that set what the drop-in of `trust install` sets."""
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "PIP_CERT")
    return ["env", *(f"{name}={pem}" for name in names)]


def run(lab: Lab, pem: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return lab.run([*env(pem), *words], cgroup="acme.service", capture_output=True, text=True, timeout=60, cwd="/")


def urls(lab: Lab) -> dict[str, str]:
    return {"plain": f"http://{lab.target_ip}", "tls": f"https://{lab.target_ip}:81"}


@pytest.mark.parametrize("how", ["plain", "tls"])
@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "apt"])
def test_clients(lab: Lab, appliance: Appliance, trusted: Path, name: str, how: str) -> None:
    words = list(CLIENTS[name])
    if name == "wget":
        words.append(f"--ca-certificate={trusted}")
    done = run(lab, trusted, *words, f"{urls(lab)[how]}/hello")
    assert (done.stdout, done.stderr) == ("hello\n", "")


def test_apt(lab: Lab, appliance: Appliance, trusted: Path, tmp_path: Path) -> None:
    for how, url in urls(lab).items():
        options = ["-o", f"Acquire::https::CaInfo={trusted}", "-o", "APT::Sandbox::User=root"]
        done = run(lab, trusted, "/usr/lib/apt/apt-helper", *options, "download-file", f"{url}/hello", str(tmp_path / how))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / how).read_text() == "hello\n"


@pytest.mark.parametrize("how", ["plain", "tls"])
def test_git(lab: Lab, appliance: Appliance, trusted: Path, tmp_path: Path, how: str) -> None:
    done = run(lab, trusted, "git", "clone", "-q", f"{urls(lab)[how]}/repo.git", str(tmp_path / "clone"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clone/file").read_text() == "cloned\n"


@pytest.mark.parametrize("how", ["plain", "tls"])
def test_pip(lab: Lab, appliance: Appliance, trusted: Path, tmp_path: Path, how: str) -> None:
    words = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "download", "-q", "--no-deps", "--no-cache-dir"]
    words += ["--index-url", f"{urls(lab)[how]}/simple", "--trusted-host", lab.target_ip, "-d", str(tmp_path), "vgsample"]
    if how == "tls":
        words += ["--cert", str(trusted)]
    done = run(lab, trusted, *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "vgsample-1.0-py3-none-any.whl").exists()


@pytest.mark.parametrize("how", ["plain", "tls"])
def test_judged_masked_recorded(lab: Lab, appliance: Appliance, trusted: Path, how: str) -> None:
    url = urls(lab)[how]
    done = run(lab, trusted, "curl", "-sS", f"{url}/people", f"{url}/x/../admin/x", "--path-as-is")
    assert done.stdout.startswith("[redacted]\n"), appliance.cli("show", "last").stdout
    assert '"status": 403' in done.stdout
    (session,) = appliance.json("sessions", "--limit", "1")
    assert session["process"]["exe"] == "/usr/bin/curl"
    assert session["verdicts"] == {"work": 1, "no-admin": 1, "mails": 1}
    har = appliance.home / f"{how}.har"
    appliance.cli("export", session["id"], "--format", "har", "-o", str(har))
    entries = json.loads(har.read_text())["log"]["entries"]
    assert [entry["request"]["url"] for entry in entries] == [f"{url}/people", f"{url}/x/../admin/x"]
    assert [entry["response"]["status"] for entry in entries] == [200, 403]


def test_tls_in_a_capture_is_plain_http_for_tshark(lab: Lab, appliance: Appliance, trusted: Path, tmp_path: Path) -> None:
    run(lab, trusted, "curl", "-sS", f"{urls(lab)['tls']}/hello")
    (session,) = appliance.json("sessions", "--limit", "1")
    capture = tmp_path / "tls.pcapng"
    appliance.cli("export", session["id"], "--format", "pcapng", "-o", str(capture))
    words = ["tshark", "-r", str(capture), "-d", "tcp.port==81,http", "-T", "fields", "-e", "http.request.uri", "-e", "http.response.code", "-e", "_ws.malformed"]
    fields = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert fields == ["/hello", "200"]


def test_a_client_that_pins_fails_closed_and_is_named(lab: Lab, appliance: Appliance, ca: Path) -> None:
    done = run(lab, ca / "authority.pem", "curl", "-sS", f"{urls(lab)['tls']}/hello")
    assert done.returncode == 60
    (session,) = appliance.json("sessions", "--limit", "1")
    shown = appliance.cli("show", session["id"]).stdout
    assert "refuses our certificate" in shown


def test_a_file_of_authorities_that_workers_cannot_read_changes_nothing(lab: Lab, appliance: Appliance, trusted: Path, ca: Path) -> None:
    before = (appliance.home / "rules.d/10.yaml").read_text()
    try:
        appliance.rule("10.yaml", before.replace(str(ca / "authority.pem"), "/nowhere/ca.pem"))
        until = time.monotonic() + 20
        while "/nowhere/ca.pem" not in appliance.log.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)
        assert "the user of the workers must be able to read it" in appliance.log.read_text()
        assert run(lab, trusted, "curl", "-sS", f"{urls(lab)['tls']}/hello").stdout == "hello\n"
    finally:
        appliance.rule("10.yaml", before)
