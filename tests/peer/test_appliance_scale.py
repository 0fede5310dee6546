"""What grows with use and what does not: a download of a gibibyte, a thousand TLS connections that say nothing."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.nginx import Nginx
from appliance.service.authority import Authority
from tests.conftest import reachable

pytestmark = [pytest.mark.kernel, pytest.mark.peer, pytest.mark.slow]

GIB = 1 << 30
IDLE = 1000
PER_CONNECTION = 110 * 1024  # bytes; the promise is 50 kB, the rest is room for how memory is handed out
DOWNLOAD = 48 << 20  # bytes a worker may grow by for any download: its buffers, several times over
RULES = """
identities: {{acme: {{cgroup: acme.service}}}}
targets: {{safe: {{protocol: http, address: ["{ip}:81"], tls: {{ca: {ca}}}}}}}
rules:
  - {{id: work, who: acme, to: safe, do: allow, record: metadata}}
"""
IDLERS = """
import resource, socket, ssl, sys
count = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
context = ssl.create_default_context(cafile=sys.argv[1])
socks = [context.wrap_socket(socket.create_connection((sys.argv[2], 81), 60), server_hostname=sys.argv[2]) for _ in range(count)]
print("open", flush=True)
sys.stdin.readline()
for sock in socks[:: count // 20]:
    sock.sendall(b"GET /hello HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n")
    answer = b""
    while b"hello" not in answer:
        piece = sock.recv(4096)
        assert piece
        answer += piece
print("alive", flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def place(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Appliance, Path]]:
    ca = reachable(tmp_path_factory.mktemp("ca"))
    home = reachable(tmp_path_factory.mktemp("web"))
    pem = home / "server.pem"
    pem.write_text(Authority(ca).certify((f"IP:{lab.target_ip}",)))
    (home / "files").mkdir()
    (home / "files/hello").write_text("hello\n")
    with (home / "files/huge").open("wb") as file:
        file.truncate(GIB)
    rules = RULES.format(ip=lab.target_ip, ca=ca / "authority.pem")
    vg = tmp_path_factory.mktemp("vg")
    with Nginx(home, 80, lab.target, lab.target_ip, pem, connections=4 * IDLE), Appliance(lab, vg, {"10.yaml": rules}) as appliance:
        trusted = reachable(tmp_path_factory.mktemp("trusted")) / "authority.pem"
        trusted.write_bytes((appliance.home / "state/authority.pem").read_bytes())
        yield appliance, trusted


def memory(appliance: Appliance) -> int:
    """Return the bytes that the workers have for themselves."""
    total = 0
    for pid in appliance.workers():
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Private_Clean:"))) * 1024
    return total


def get(lab: Lab, trusted: Path, path: str) -> "subprocess.CompletedProcess[str]":
    words = ["curl", "-sS", "--cacert", str(trusted), "-o", "/dev/null", "-w", "%{size_download}", f"https://{lab.target_ip}:81/{path}"]
    return lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=240)


def test_a_gibibyte_passes_in_flat_memory(lab: Lab, place: tuple[Appliance, Path]) -> None:
    appliance, trusted = place
    for _ in range(4):  # each worker has opened a connection
        assert get(lab, trusted, "hello").stdout == "6"
    before = memory(appliance)
    done = get(lab, trusted, "huge")
    assert (done.stdout, done.stderr) == (str(GIB), "")
    assert memory(appliance) - before < DOWNLOAD


def test_a_thousand_idle_connections(lab: Lab, place: tuple[Appliance, Path]) -> None:
    appliance, trusted = place
    before = memory(appliance)
    words = [sys.executable, "-c", IDLERS, str(trusted), lab.target_ip, str(IDLE)]
    idlers = lab.popen(words, cgroup="acme.service", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert idlers.stdout is not None
        assert idlers.stdin is not None
        assert idlers.stdout.readline() == "open\n"
        time.sleep(2)  # what the handshakes left is given back
        assert (memory(appliance) - before) / IDLE < PER_CONNECTION
        idlers.stdin.write("\n")
        idlers.stdin.flush()
        assert idlers.stdout.readline() == "alive\n"
    finally:
        idlers.kill()
        idlers.communicate()
