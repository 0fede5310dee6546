"""CONNECT through a real proxy: what is inside is judged as if it had been connected to."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.facts.readers import Shared
from appliance.lab.nginx import Nginx
from appliance.lab.redis import Redis
from appliance.model import Address, Flow
from appliance.record.frame import Frame
from appliance.service.authority import Authority
from appliance.service.whatif import Again, Counts, Report
from appliance.session.ground import NO_PROXY
from tests.conftest import reachable
from tests.gate import Gate
from tests.peer.tls.conftest import context
from tests.peer.tls.test_tls import echo
from tests.ports import free_port

pytestmark = pytest.mark.peer

CONFIG = "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 20\nPidFile \"{home}/pid\"\nLogFile \"{home}/log\"\n"
RULES = """
rules:
  - {id: ways, to: db, when: {method: CONNECT}, do: allow}
  - {id: no-admin, to: web, when: {path: "/admin*"}, do: block}
  - {id: hide, to: web, when: {json: "$..ssn"}, do: mask, with: keep-last-4}
  - {id: pages, to: web, do: allow}
  - {id: keys, to: cache, when: {effect: [read, session]}, do: allow}
"""
TARGETS = """
targets:
  web: {{protocol: http, address: ["localhost:{plain}", "localhost:{secure}"], tls: {{ca: {ca}}}}}
  cache: {{protocol: redis, address: "localhost:{redis}"}}
"""


@pytest.fixture(scope="module")
def nginx(theirs: tuple[Authority, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    home = reachable(tmp_path_factory.mktemp("nginx"))
    (home / "files").mkdir()
    (home / "files/hello").write_text("hello\n")
    (home / "files/people").write_text('{"ssn": "123-45-6789"}')
    pem = home / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:localhost",)))
    with Nginx(home, free_port(), pem=pem) as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(reachable(tmp_path_factory.mktemp("redis")), free_port()) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    home, port = tmp_path_factory.mktemp("proxy"), free_port()
    (home / "conf").write_text(CONFIG.format(port=port, home=home))
    program = shutil.which("tinyproxy")
    assert program, "the package tinyproxy-bin is missing: make lab-packages"
    process = subprocess.Popen([program, "-d", "-c", str(home / "conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield Address("127.0.0.1", port)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def gate(
    proxy: Address, nginx: Nginx, redis: Redis, theirs: tuple[Authority, Path], ours: tuple[Authority, Path]
) -> Iterator[Gate]:
    more = TARGETS.format(plain=nginx.port, secure=nginx.port + 1, redis=redis.port, ca=theirs[1])
    with Gate(proxy, RULES, protocol="http", more=more) as gate:
        gate.authority = ours[0]
        yield gate


def curl(gate: Gate, ours: tuple[Authority, Path], url: str) -> str:
    words = ["curl", "-sS", "--proxytunnel", "-x", f"http://127.0.0.1:{gate.port}", "--cacert", str(ours[1]), "-w", " %{http_code}"]
    done = subprocess.run([*words, url], capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin"})
    return done.stdout + done.stderr


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_requests_inside_are_judged_and_masked(gate: Gate, ours: tuple[Authority, Path], nginx: Nginx, scheme: str) -> None:
    at = f"{scheme}://localhost:{nginx.port + (scheme == 'https')}"
    assert curl(gate, ours, f"{at}/hello") == "hello\n 200"
    assert curl(gate, ours, f"{at}/people") == '{"ssn": "*******6789"} 200'
    before = nginx.log.read_text()
    refused = curl(gate, ours, f"{at}/admin/users")
    assert refused.endswith(" 403")
    assert "denied by vendorgate" in refused
    assert nginx.log.read_text() == before
    assert [(verdict, rule) for verdict, rule, _ in gate.verdicts()][-2:] == [("allow", "ways"), ("block", "no-admin")]
    entered = next(note for note in gate.of("message") if note.message == "tunnel" and note.target)
    assert (entered.target, entered.protocol) == ("web", "http")


# what is asked for -> why it is refused
REFUSED = {
    "other.example:80": "no target has the name",
    "127.0.0.1:9": "no rule allows a connection to",
    "[::1]:9": "no rule allows a connection to",
}


@pytest.mark.parametrize("where", REFUSED)
def test_what_no_rule_allows_is_not_opened(gate: Gate, where: str) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), 20) as sock:
        sock.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 403 ")
    (decision,) = (note.decision for note in gate.of("decision") if note.decision and note.decision.verdict == "block")
    assert decision.reason.startswith(REFUSED[where])


def test_another_protocol_inside_in_its_own_words(gate: Gate, redis: Redis) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), 20) as sock:
        sock.sendall(f"CONNECT localhost:{redis.port} HTTP/1.1\r\nHost: localhost:{redis.port}\r\n\r\n".encode())
        assert sock.recv(4096).startswith(b"HTTP/1.0 200 ")
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        assert sock.recv(4096) == b"$-1\r\n"
        sock.sendall(b"*1\r\n$8\r\nFLUSHALL\r\n")
        assert sock.recv(4096).startswith(b"-NOPERM denied by vendorgate")
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        assert sock.recv(4096) == b"$-1\r\n"


def test_rules_that_change_meet_what_is_inside(gate: Gate, redis: Redis) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), 20) as sock:
        sock.sendall(f"CONNECT localhost:{redis.port} HTTP/1.1\r\nHost: localhost:{redis.port}\r\n\r\n".encode())
        assert sock.recv(4096).startswith(b"HTTP/1.0 200 ")
        gate.reload(RULES.replace("[read, session]", "session"))
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        assert sock.recv(4096).startswith(b"-NOPERM denied by vendorgate")


def test_a_proxy_spoken_to_in_tls_opens_nothing(theirs: tuple[Authority, Path], ours: tuple[Authority, Path], tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    pem.write_text(theirs[0].certify(("DNS:proxy.example",)))
    listener, heard = echo(pem)
    rules = "rules: [{id: all, to: db, do: allow}]"
    address = Address("127.0.0.1", listener.getsockname()[1])
    with listener, Gate(address, rules, protocol="http", tls=f"{{ca: {theirs[1]}}}") as gate:
        gate.authority = ours[0]
        with socket.create_connection(("127.0.0.1", gate.port), 20) as raw:
            with context(ours[1]).wrap_socket(raw, server_hostname="proxy.example") as sock:
                sock.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
                assert sock.recv(4096).startswith(b"HTTP/1.1 403 ")
        assert heard == []


def connected(gate: Gate, where: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", gate.port), 20)
    sock.sendall(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n\r\n".encode())
    return sock


LOOPBACK = "rules: [{id: ways, to: db, when: {method: CONNECT}, do: allow}, {id: no, to: 127.0.0.0/8, do: block}, {id: all, do: allow}]"
# what leads to 127.0.0.1 here, or behind a translator or tunnel on the way
CARRIED = (
    "127.0.0.1", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]", "[::ffff:0.0.0.0]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]", "[::127.0.0.1]", "[fe80::5efe:127.0.0.1]", "[2001:0:102:304::80ff:fffe]",
)  # fmt: skip


@pytest.mark.parametrize("where", CARRIED)
def test_an_address_is_judged_by_all_it_stands_for(proxy: Address, redis: Redis, where: str) -> None:
    rules = LOOPBACK.replace("to: db", f'to: "{proxy}"')
    with Gate(proxy, rules, protocol="http") as gate, connected(gate, f"{where}:{redis.port}") as sock:
        assert sock.recv(4096).startswith(b"HTTP/1.1 403 ")
        (decision,) = (note.decision for note in gate.of("decision") if note.decision)
        assert decision.reason.startswith("no rule allows a connection to")


@pytest.mark.parametrize("way", ["{id: ways, to: db, do: allow}", "{id: ways, to: db, when: {effect: write}, do: allow}"])
def test_only_what_the_rules_call_a_proxy_opens_a_tunnel(proxy: Address, redis: Redis, way: str) -> None:
    """A server of the vendor's own could answer 200 and keep what is then judged by the rules for another."""
    rules = f"rules: [{way}, {{id: keys, to: 127.0.0.1/32, do: allow}}]"
    with Gate(proxy, rules, protocol="http") as gate:
        with connected(gate, f"127.0.0.1:{redis.port}") as sock:
            assert sock.recv(4096).startswith(b"HTTP/1.1 403 ")
        (decision,) = (note.decision for note in gate.of("decision") if note.decision)
        assert (decision.rule, decision.reason) == ("ways", NO_PROXY)
        gate.reload(rules.replace("do: allow", "when: {method: CONNECT}, do: allow", 1).replace("when: {effect: write}, ", ""))
        with connected(gate, f"127.0.0.1:{redis.port}") as sock:
            assert sock.recv(4096).startswith(b"HTTP/1.0 200 ")


class Known(Gate):
    """Names are known to have several addresses."""

    @staticmethod
    def resolve(name: str) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"] if name == "localhost" else [name]


# addresses beside the name in its target -> a place that is blocked: neither hides an address of the name
BLOCKED = {"10.0.0.0/8": "127.0.0.0/8", "192.0.2.1": "127.0.0.1/32", "192.0.2.2": "127.0.0.9/32"}


@pytest.mark.parametrize("beside", BLOCKED)
def test_a_name_is_judged_by_all_its_addresses(proxy: Address, redis: Redis, beside: str) -> None:
    rules = f'rules: [{{id: ways, to: "{proxy}", when: {{method: CONNECT}}, do: allow}}, {{id: no, to: {BLOCKED[beside]}, do: block}}, {{id: all, do: allow}}]'
    more = f'targets:\n  cache: {{protocol: redis, address: ["{beside}:{redis.port}", "localhost:{redis.port}"]}}\n'
    with Known(proxy, rules, protocol="http", more=more) as gate, connected(gate, f"localhost:{redis.port}") as sock:
        assert sock.recv(4096).startswith(b"HTTP/1.1 403 ")
        gate.reload(rules.replace(BLOCKED[beside], "198.51.100.0/24"))
        with connected(gate, f"localhost:{redis.port}") as other:
            assert other.recv(4096).startswith(b"HTTP/1.0 200 ")


def test_inside_tls_no_host_but_the_one_that_was_asked_of_the_proxy(
    gate: Gate, ours: tuple[Authority, Path], nginx: Nginx
) -> None:
    """The hello may name anybody: it is the name given to the proxy that the server has to prove."""
    with connected(gate, f"localhost:{nginx.port + 1}") as raw:
        assert raw.recv(4096).startswith(b"HTTP/1.0 200 ")
        secure = context(ours[1])
        secure.check_hostname = False
        with secure.wrap_socket(raw, server_hostname="evil.example") as sock:
            sock.sendall(b"GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 403 ")
            sock.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")


def judged_again(gate: Gate, rules: str) -> Report:
    """Judge what was noted so far by other rules."""
    counts, shared = Counts("r2"), Shared()
    policy = gate.compile(rules)
    for id in sorted({id for id, _ in list(gate.notes)}):
        notes = [note for other, note in list(gate.notes) if other == id]
        flow = Flow(id, 1.0, Address("127.0.0.1", 40000), gate.server, gate.process)
        again = Again(policy, counts, shared)
        for number, note in enumerate(notes, 1):
            again.take(Frame(number, 1.0 + number, id, note, flow=flow if number == 1 else None))
        again.end()
    return counts.report()


# other rules -> what they would change of one request to open a way, two of HTTP in it, and two of Redis in another
CHANGED = {
    RULES: [],
    RULES.replace("/admin*", "/hello"): [("newly blocked", "no-admin", 1)],
    RULES.replace("[read, session]", "session"): [("newly blocked", "default", 1)],
    RULES.replace("to: cache, when: {effect: [read, session]}, do: allow", "to: cache, do: block"): [("newly blocked", "", 1)],
}


@pytest.mark.parametrize("rules", CHANGED, ids=["same", "path", "effect", "place"])
def test_what_was_said_inside_is_judged_again_as_that(
    gate: Gate, ours: tuple[Authority, Path], nginx: Nginx, redis: Redis, rules: str
) -> None:
    assert curl(gate, ours, f"https://localhost:{nginx.port + 1}/hello") == "hello\n 200"
    with connected(gate, f"localhost:{redis.port}") as sock:
        assert sock.recv(4096).startswith(b"HTTP/1.0 200 ")
        sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        assert sock.recv(4096) == b"$-1\r\n"
    report = judged_again(gate, rules)
    assert [(one.change, one.rule, one.count) for one in report.changes] == CHANGED[rules]
