"""How many connections a second can be set up, plain and TLS, and what does one that stays cost in memory?

Each connection is made, asks once and ends. Through the appliance one of TLS is two handshakes: with the server, which
must prove who it is, and with the client, by a certificate of ours that is made once a name.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.nginx import Nginx
from appliance.service.authority import Authority
from tests.bench.bench_beside import HAPROXY, HTTPS, MITM, running, taken, tell
from tests.bench.machine import report
from tests.bench.meter import paired, resident

RUNS, COUNT = int(os.environ.get("BENCH_RUNS", "5")), int(os.environ.get("BENCH_COUNT", "1000"))
IDLE = 400  # connections that stay
MOVED = 1 << 20  # bytes that each of them has brought down
RULES = """
identities: {{acme: {{cgroup: acme.service}}}}
targets:
  plain: {{protocol: http, address: ["{ip}:80"]}}
  web: {{protocol: http, address: ["{ip}:81"], tls: {{ca: {ca}}}}}
rules: [{{id: work, who: acme, to: [plain, web], do: allow}}]
"""
Place = tuple[Lab, Appliance, Path, Path]
HEAD = """
import socket, ssl, sys, time
host, port, count, ca, kind, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5], sys.argv[6]
context = ssl.create_default_context(cafile=ca) if ca else ssl._create_unverified_context()
session = None
def opened():
    sock = socket.create_connection((host, port), 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock if kind == "plain" else context.wrap_socket(sock, server_hostname=host, session=session)
def asked(sock, how):
    sock.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: {how}\\r\\n\\r\\n".encode())
    data = sock.recv(65536)
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    assert b" 200 " in head[:20], data
    left = int(head.lower().partition(b"content-length:")[2].split()[0]) - len(body)
    while left > 0: left -= len(sock.recv(65536))
"""
MAKE = """
def one():
    global session
    with opened() as sock:
        asked(sock, "close")
        session = sock.session if kind == "resumed" else None
for _ in range(20): one()
begun = time.perf_counter()
for _ in range(count): one()
print(count / (time.perf_counter() - begun))
"""
KEEP = """
kept = [opened() for _ in range(count)]
for sock in kept: asked(sock, "keep-alive")
print("kept", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The lab, the appliance, and where the certificates are that a client trusts direct, and through it."""
    home = tmp_path_factory.mktemp("setup")
    for folder in (home, *home.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with Lab() as lab:
        authority, web, pem = Authority(home), home / "web", home / "server.pem"
        (web / "files").mkdir(parents=True)
        (web / "files/hello").write_text("hello\n")
        (web / "files/long").write_bytes(bytes(MOVED))
        pem.write_text(authority.certify((f"IP:{lab.target_ip}", "IP:127.0.0.1")))
        rules = {"10.yaml": RULES.format(ip=lab.target_ip, ca=home / "authority.pem")}
        with (
            Nginx(web, 80, lab.target, lab.target_ip, pem, connections=2048),
            Appliance(lab, home / "vg", rules) as appliance,
        ):
            ours = home / "ours.pem"
            ours.write_bytes((appliance.home / "state/authority.pem").read_bytes())
            yield lab, appliance, home, ours


def words(code: str, host: str, port: int, count: int, *more: str) -> list[str]:
    return [sys.executable, "-c", HEAD + code, host, str(port), str(count), *more]


def rate(lab: Lab, cgroup: str | None, line: list[str]) -> float:
    done = lab.run(line, cgroup=cgroup, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("plain", "connections: TCP, one request each"),
        ("tls", "connections: TLS on both sides, one request each"),
        ("resumed", "connections: TLS resumed by the client, one request each"),
    ],
)
def test_rate(place: Place, kind: str, what: str) -> None:
    lab, appliance, home, ours = place

    def work(cgroup: str | None) -> tuple[float, float]:
        ca = ours if cgroup else home / "authority.pem"
        line = words(MAKE, lab.target_ip, 80 if kind == "plain" else 81, COUNT, str(ca), kind, "/hello")
        return rate(lab, cgroup, line), COUNT

    paired(what, "/s", (lab, appliance), work, "none stated", RUNS)


def test_beside(place: Place, tmp_path: Path) -> None:
    """The same by what a user would otherwise put there."""
    lab, appliance, home, _ = place
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(ways=HTTPS.format(ip=lab.target_ip, pem=home / "server.pem")))
    mitm = [str(MITM), "-q", "-p", "6444", "--mode", f"reverse:https://{lab.target_ip}:81", "--ssl-insecure"]
    mitm += ["--set", f"confdir={tmp_path}"]
    count = max(100, COUNT // 10)
    assert appliance.process
    with running(lab, ["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], 6443) as first, running(lab, mitm, 6444) as second:
        ways = {
            "direct": (lab.target_ip, 81, None, 0),
            "vendorgate": (lab.target_ip, 81, "acme.service", appliance.process.pid),
            "haproxy": ("127.0.0.1", 6443, None, first),
            "mitmproxy": ("127.0.0.1", 6444, None, second),
        }
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(RUNS):
            for name, (host, port, cgroup, pid) in ways.items():
                line = words(MAKE, host, port, count, "", "tls", "/hello")

                def once(cgroup: str | None = cgroup, line: list[str] = line) -> float:
                    return 1000 / rate(lab, cgroup, line)

                rows[name].append(taken(once, pid, count))
    tell("beside: one connection of TLS with one request", rows, "none stated")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/hello", "memory: a TLS connection that asked once and stays"),
        ("/long", "memory: a TLS connection that brought down 1 MiB and stays"),
    ],
)
def test_memory(place: Place, path: str, what: str) -> None:
    lab, appliance, _, ours = place
    found = []
    for _ in range(RUNS):
        appliance.stop()
        appliance.start()  # what another run has freed would be used again
        with kept(lab, ours, 20, path):
            pass  # what all connections share is made
        before = resident(appliance.workers())
        with kept(lab, ours, IDLE, path):
            found.append((resident(appliance.workers()) - before) * 1000 / IDLE)
    report(what, "KB", [0.0], found, "50 KB")


@contextmanager
def kept(lab: Lab, ca: Path, count: int, path: str) -> Iterator[None]:
    """Have a client hold connections, each of which has asked once."""
    line = words(KEEP, lab.target_ip, 81, count, str(ca), "tls", path)
    client = lab.popen(line, cgroup="acme.service", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout and client.stdout.readline() == "kept\n"
        yield
    finally:
        client.communicate("\n")
