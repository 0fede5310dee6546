"""Programs that ask for names, and what can be done with the answers: dig, getent, a stub, curl, QUIC, ping, ntpdig, a tunnel."""

import base64
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.nginx import Nginx
from appliance.service.authority import Authority

pytestmark = [pytest.mark.kernel, pytest.mark.peer]

PYTHON = "/usr/bin/python3"
PATIENCE = 20.0  # seconds for what must come
WEB, QUIC, BUDGET = 80, 443, 8000
RULES = """
identities:
  acme: {{cgroup: acme.service}}
  loud: {{cgroup: loud.service}}
targets:
  resolver: {{protocol: dns, address: ["{v4}:53"]}}
  stub: {{protocol: dns, address: ["127.0.0.53:53"]}}
  far: {{protocol: dns, address: ["[{v6}]:53"]}}
  moving: {{protocol: http, address: ["localhost:{web}"]}}
  safe: {{protocol: http, address: ["{v4}:{tls}"], tls: {{ca: {ca}}}}}
  fast: {{protocol: quic, address: ["{v4}:{quic}"]}}
  clock: {{protocol: udp, address: ["{v4}:123"]}}
  near: {{protocol: icmp, address: ["{v4}"]}}
rules:
  - {{id: evil, to: [resolver, stub], when: {{qname: "*.evil.example"}}, do: block}}
  - {{id: gone, to: [resolver, stub], when: {{qname: "*.gone.example"}}, do: block, reply: nxdomain}}
  - {{id: rebinding, to: resolver, when: {{answer: internal, qname: "rebind.example"}}, do: block}}
  - {{id: budget, to: far, when: {{unit_bytes: {{gt: {budget}}}}}, do: block}}
  - {{id: names, to: [resolver, stub, far], when: {{qclass: IN}}, do: allow}}
  - {{id: web, who: acme, to: [moving, safe], do: allow}}
  - {{id: fast, who: acme, to: fast, when: {{sni: "*.fast.example"}}, do: allow}}
  - {{id: time, who: acme, to: clock, when: {{size: 48, begins: ["1b*", "23*", "e3*"]}}, do: allow}}
  - {{id: ping, who: acme, to: near, when: {{type: echo, size: {{le: 64}}}}, do: allow}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


class Server:
    """A program that has said "ready" and then says what it saw, a line each."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process, self.seen = process, []  # type: ignore[var-annotated]
        out: IO[str] | None = process.stdout
        assert out is not None
        assert out.readline() == "ready\n"
        threading.Thread(target=lambda: self.seen.extend(iter(out.readline, "")), daemon=True).start()


def serve(lab: Lab, code: str, *words: str, python: str = PYTHON) -> Server:
    return Server(lab.popen([python, "-c", code, *words], where="target", stdout=subprocess.PIPE, text=True))


def dnsmasq(lab: Lab, where: str, *words: str) -> None:
    """Start a real resolver, and wait until it answers."""
    usual = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root", "--pid-file="]
    process = lab.popen(["dnsmasq", *usual, *words], where=where, stderr=subprocess.DEVNULL)
    host = next(word.partition("=")[2] for word in words if word.startswith("--listen-address="))
    ask = ["dig", "+time=1", "+tries=1", f"@{host}", "version.bind", "TXT", "CH"]
    wait(lambda: process.poll() is None and lab.run(ask, where=where, capture_output=True).returncode == 0)


def wait(what: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def resolver(lab: Lab) -> None:
    texts = [f"--txt-record=long.example,{'x' * 200},{n:0200}" for n in range(12)]
    dnsmasq(
        lab, "target", f"--listen-address={lab.target_ip}", "--local=/example/",
        f"--host-record=web.example,{lab.target_ip}", f"--host-record=x.evil.example,{lab.target_ip}",
        f"--host-record=rebind.example,{lab.target_ip}", f"--host-record=a.gone.example,{lab.target_ip}",
        "--host-record=away.example,192.0.2.77", f"--address=/localhost/{lab.target_ip}", "--cname=alias.example,web.example", *texts,
    )  # fmt: skip
    dnsmasq(lab, "host", "--listen-address=127.0.0.53", f"--server={lab.target_ip}")


@pytest.fixture(scope="module")
def ca() -> Iterator[Path]:
    """A folder that others may read: not below those of pytest, which another pytest that starts closes to them."""
    with tempfile.TemporaryDirectory(prefix="vendorgate-dns-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def web(lab: Lab, ca: Path) -> Iterator[Nginx]:
    home = ca / "web"
    home.mkdir()
    pem = home / "server.pem"
    pem.write_text(Authority(ca).certify(("DNS:web.example",)))
    with Nginx(home, WEB, lab.target, lab.target_ip, pem) as server:
        (server.files / "page").write_text("a page\n")
        yield server


@pytest.fixture(scope="module")
def appliance(lab: Lab, resolver: None, web: Nginx, ca: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    rules = RULES.format(
        v4=lab.target_ip, v6=lab.target_ip6, web=WEB, tls=WEB + 1, quic=QUIC, ca=ca / "authority.pem", budget=BUDGET
    )
    with Appliance(lab, tmp_path_factory.mktemp("dnsvg"), {"10.yaml": rules}, workers=1) as appliance:
        yield appliance


def governed(lab: Lab, *words: str, cgroup: str = "acme.service", patience: float = 60) -> "subprocess.CompletedProcess[str]":
    return lab.run(list(words), cgroup=cgroup, capture_output=True, text=True, timeout=patience)


def dig(lab: Lab, *words: str, server: str = "") -> str:
    done = governed(lab, "dig", "+time=5", "+tries=2", f"@{server or lab.target_ip}", *words)
    return done.stdout + done.stderr


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_dig_is_answered(appliance: Appliance, lab: Lab, way: str) -> None:
    said = dig(lab, way, "alias.example")
    assert "status: NOERROR" in said
    assert lab.target_ip in said


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
@pytest.mark.parametrize(("name", "status"), [("x.evil.example", "REFUSED"), ("X.EVIL.Example", "REFUSED"), ("a.gone.example", "NXDOMAIN")])
def test_dig_is_refused_as_the_rule_says(appliance: Appliance, lab: Lab, way: str, name: str, status: str) -> None:
    said = dig(lab, way, name)
    assert f"status: {status}" in said
    assert "denied by vendorgate (decision" in said
    assert lab.target_ip not in said.partition("ANSWER SECTION")[2].partition("SERVER:")[0]


@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_an_answer_that_leads_inside_is_withheld(appliance: Appliance, lab: Lab, way: str) -> None:
    assert "status: REFUSED" in dig(lab, way, "rebind.example")


def test_a_long_answer_is_cut_and_comes_over_tcp(appliance: Appliance, lab: Lab) -> None:
    said = dig(lab, "+noedns", "long.example", "TXT")
    assert "status: NOERROR" in said
    assert "Truncated, retrying in TCP mode" in said
    assert said.count("xxxxx") >= 12


def test_a_server_that_no_rule_names_is_not_asked(appliance: Appliance, lab: Lab) -> None:
    assert "status: NOERROR" not in dig(lab, "web.example", server="192.0.2.53")


def test_a_stub_on_the_host_is_no_way_round(appliance: Appliance, lab: Lab) -> None:
    """It runs outside the slice and asks for whom it will: it is the question to it that is judged."""
    assert lab.target_ip in dig(lab, "+short", "web.example", server="127.0.0.53")
    assert "status: REFUSED" in dig(lab, "x.evil.example", server="127.0.0.53")


def test_getent_and_its_resolver_of_the_c_library(appliance: Appliance, lab: Lab, tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {lab.target_ip}\noptions timeout:5 attempts:2\n")
    code = f"mount --bind {conf} /etc/resolv.conf && exec getent ahostsv4 $0"
    found = governed(lab, "unshare", "-m", "sh", "-c", code, "web.example")
    assert lab.target_ip in found.stdout, found.stderr
    assert governed(lab, "unshare", "-m", "sh", "-c", code, "a.gone.example").returncode == 2, "there is no such name"
    assert governed(lab, "unshare", "-m", "sh", "-c", code, "x.evil.example").returncode == 2


def test_what_was_asked_and_refused_is_on_record(appliance: Appliance, lab: Lab) -> None:
    dig(lab, "kept.evil.example")
    wait(lambda: any("evil" in s["verdicts"] for s in appliance.json("sessions") if s["target"] == "resolver"))


# -- what the names are good for ----------------------------------------------------------------------------------

ASK = """
import socket, sys
def ask(server, name):
    labels = b"".join(bytes((len(l),)) + l.encode() for l in name.split(".")) + bytes(1)
    stream = len(sys.argv) > 4
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    sock.settimeout(15)
    sock.connect((server, 53))
    data = bytes((0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + labels + bytes((0, 1, 0, 1))
    sock.sendall((len(data).to_bytes(2, "big") if stream else b"") + data)
    answer = sock.recv(512)
    while stream and len(answer) < 2 + int.from_bytes(answer[:2], "big"):
        answer += sock.recv(512)
    return socket.inet_ntoa(answer[-4:])
server, name, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
host = ask(server, name) if name != "-" else server
"""
GET = ASK + """
try:
    sock = socket.create_connection((host, port), 15)
    sock.sendall(b"GET /page HTTP/1.1\\r\\nhost: " + host.encode() + b"\\r\\n\\r\\n")
    print(sock.recv(4096).decode())
except OSError as error:
    print("refused", error)
"""
NAMELESS = ASK + """
import ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
try:
    with context.wrap_socket(socket.create_connection((host, port), 15)) as sock:
        sock.sendall(b"GET /page HTTP/1.1\\r\\nhost: web.example\\r\\n\\r\\n")
        print(sock.recv(4096).decode())
except OSError as error:
    print("refused", error)
"""


@pytest.mark.parametrize("over", [(), ("tcp",)], ids=["udp", "tcp"])
def test_a_target_by_name_is_where_dns_said_to_the_process(appliance: Appliance, lab: Lab, over: tuple[str, ...]) -> None:
    assert "200 OK" in governed(lab, PYTHON, "-c", GET, lab.target_ip, "localhost", str(WEB), *over).stdout
    assert "200 OK" not in governed(lab, PYTHON, "-c", GET, lab.target_ip, "-", str(WEB)).stdout, "who did not ask"
    other = governed(lab, PYTHON, "-c", GET, lab.target_ip, "web.example", str(WEB)).stdout
    assert "200 OK" not in other, "who was told another name"


def test_tls_that_names_no_server_is_with_the_one_dns_named(appliance: Appliance, lab: Lab) -> None:
    assert "200 OK" in governed(lab, PYTHON, "-c", NAMELESS, lab.target_ip, "web.example", str(WEB + 1)).stdout
    asked_nobody = governed(lab, PYTHON, "-c", NAMELESS, lab.target_ip, "-", str(WEB + 1)).stdout
    assert "refused" in asked_nobody, "its certificate is not for its address"


# -- everything else ----------------------------------------------------------------------------------------------

TUNNEL_END = """
import socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    data, client = sock.recvfrom(65536)
    answer = data[:2] + bytes((0x81, 0x80)) + data[4:6] + bytes((0, 1)) + bytes(4) + data[12:]
    answer += bytes((0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, 101, 100)) + bytes(100)
    sock.sendto(answer, client)
    print(len(data) + len(answer), flush=True)
"""
TUNNEL = """
import os, socket, sys
for n, data in enumerate(sys.argv[2:]):
    if os.fork():
        os.wait()
        continue
    labels = b"".join(bytes((len(l),)) + l.encode() for l in (data, "t", "example")) + bytes(1)
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.settimeout(15)
    sock.connect((sys.argv[1], 53))
    sock.send(n.to_bytes(2, "big") + bytes((1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + labels + bytes((0, 16, 0, 1)))
    print("answered" if sock.recv(4096)[3] & 15 == 0 else "refused", flush=True)
    os._exit(0)
"""


def test_a_tunnel_is_stopped_within_its_bytes_though_each_question_has_a_process_of_its_own(appliance: Appliance, lab: Lab) -> None:
    end = serve(lab, TUNNEL_END, lab.target_ip6)
    some = random.Random(7)
    pieces = [base64.b32encode(some.randbytes(35)).decode().strip("=").lower() for _ in range(80)]
    said = governed(lab, PYTHON, "-c", TUNNEL, lab.target_ip6, *pieces, cgroup="loud.service").stdout.split()
    assert len(said) == len(pieces)
    assert said == sorted(said), "first it works, then it does not"
    answered = said.count("answered")
    wait(lambda: len(end.seen) == answered)
    carried = sum(map(int, end.seen))
    assert 0 < answered < len(pieces)
    assert BUDGET / 2 < carried <= BUDGET + 300, "the last answer may be beyond it"


CLIENT = """
import asyncio, ssl, sys
from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration
async def main():
    settings = QuicConfiguration(is_client=True, alpn_protocols=["echo", *sys.argv[5:]], server_name=sys.argv[3], verify_mode=ssl.CERT_NONE)
    settings.idle_timeout = float(sys.argv[4])
    async with connect(sys.argv[1], int(sys.argv[2]), configuration=settings) as client:
        reader, writer = await client.create_stream()
        writer.write(b"hello")
        writer.write_eof()
        print((await reader.read()).decode())
asyncio.run(main())
"""
ECHO = """
import asyncio, sys
from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration
async def echo(reader, writer):
    data = await reader.read()
    print(len(data), flush=True)
    writer.write(data.upper())
    writer.write_eof()
async def main():
    settings = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    settings.load_cert_chain(sys.argv[3], sys.argv[3])
    await serve(sys.argv[1], int(sys.argv[2]), configuration=settings, stream_handler=lambda r, w: asyncio.ensure_future(echo(r, w)))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_quic_is_judged_by_the_name_in_its_hello_and_what_is_refused_goes_back_to_tcp(
    appliance: Appliance, lab: Lab, web: Nginx
) -> None:
    server = serve(lab, ECHO, lab.target_ip, str(QUIC), str(web.home / "server.pem"), python=sys.executable)
    good = governed(lab, sys.executable, "-c", CLIENT, lab.target_ip, str(QUIC), "a.fast.example", "30")
    assert "HELLO" in good.stdout, good.stderr[-2000:]
    more = [f"{n:0100}" for n in range(14)]  # a hello in two datagrams
    long = governed(lab, sys.executable, "-c", CLIENT, lab.target_ip, str(QUIC), "b.fast.example", "30", *more)
    assert "HELLO" in long.stdout, long.stderr[-2000:]
    wait(lambda: len(server.seen) == 2)
    seen = len(server.seen)
    bad = governed(lab, sys.executable, "-c", CLIENT, lab.target_ip, str(QUIC), "other.example", "2")
    assert "HELLO" not in bad.stdout
    assert len(server.seen) == seen
    trusted = appliance.home / "state/authority.pem"
    page = governed(
        lab, "curl", "-sS", "--cacert", str(trusted), "--resolve", f"web.example:{WEB + 1}:{lab.target_ip}",
        f"https://web.example:{WEB + 1}/page",
    )  # fmt: skip
    assert page.stdout == "a page\n", page.stderr


def test_ping_as_its_rule_says(appliance: Appliance, lab: Lab) -> None:
    groups = "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range"  # as hosts with systemd have it
    assert lab.run(["sh", "-c", groups]).returncode == 0
    one = ["ping", "-n", "-c", "1", "-W", "10"]
    assert governed(lab, *one, lab.target_ip).returncode == 0
    assert governed(lab, "ping", "-n", "-c", "1", "-W", "2", "-s", "1000", lab.target_ip).returncode != 0
    assert governed(lab, "ping", "-n", "-c", "1", "-W", "2", lab.target_ip6).returncode != 0, "no rule is about it"


CLOCK = """
import socket, struct, sys, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 123))
print("ready", flush=True)
while True:
    data, client = sock.recvfrom(1024)
    now = struct.pack(">II", int(time.time()) + 2208988800, 0)
    sock.sendto(bytes((0x24, 1, 6, 0xEC)) + bytes(8) + b"LOCL" + now + data[40:48] + now + now, client)
    print(len(data), flush=True)
"""


def test_a_clock_is_asked_by_a_real_client_and_nothing_else_goes_there(appliance: Appliance, lab: Lab) -> None:
    server = serve(lab, CLOCK, lab.target_ip)
    asked = governed(lab, "ntpdig", "-t", "10", lab.target_ip)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    wait(lambda: server.seen)
    seen = len(server.seen)
    say = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'secret' * 8, (sys.argv[1], 123))"
    governed(lab, PYTHON, "-c", say, lab.target_ip)
    assert governed(lab, "ntpdig", "-t", "10", lab.target_ip).returncode == 0
    wait(lambda: len(server.seen) > seen)
    assert set(server.seen) == {"48\n"}
    wait(lambda: any("default" in s["verdicts"] for s in appliance.json("sessions") if s["target"] == "clock"))
