"""The packet engine in the whole appliance, in a lab: datagrams and connections that nobody terminates, by rules."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.nginx import Nginx
from tests.conftest import reachable

pytestmark = [pytest.mark.kernel, pytest.mark.peer]

ECHO, WEB = 7007, 8080
PYTHON = "/usr/bin/python3"
RULES = """
identities:
  acme: {{cgroup: acme.service}}
  loud: {{cgroup: loud.service}}
targets:
  echo: {{protocol: udp, address: ["{v4}:{echo}", "[{v6}]:{echo}"]}}
  web: {{protocol: http, mode: packet, address: ["{v4}:{web}"]}}
  pings: {{protocol: icmp, address: ["{v4}"]}}
rules:
  - {{id: no-secrets, to: echo, when: {{begins: "534543*"}}, do: block}}
  - {{id: ask, to: echo, when: {{begins: "41534b*"}}, do: approve, approvers: {{group: dba, within: 60s}}}}
  - {{id: small, who: acme, to: echo, when: {{size: {{lt: 1000}}}}, do: allow}}
  - {{id: loud, who: loud, to: echo, do: allow}}
  - {{id: no-delete, to: web, when: {{method: DELETE}}, do: block}}
  - {{id: put-asks, to: web, when: {{method: PUT}}, do: approve, approvers: {{group: dba, within: 60s}}}}
  - {{id: cards, to: web, when: {{detect: [credit_card]}}, do: mask, with: keep-last-4}}
  - {{id: read, who: acme, to: web, when: {{method: [GET, HEAD]}}, do: allow}}
  - {{id: ping, who: acme, to: pings, do: allow}}
"""
SERVE = """
import socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, client = sock.recvfrom(65536)
    print(data.decode("latin-1"), flush=True)
    sock.sendto(data.upper(), client)
"""
SAY = """
import socket, sys
host, port, text = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(float(sys.argv[4]) if len(sys.argv) > 4 else 20)
try:
    sock.connect((host, port))
    sock.send(text)
    print(sock.recv(65536).decode())
except OSError as error:
    print(type(error).__name__, error.errno)
"""
# Leaves at once: who sent it is known all the same.
FIRE = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))"

# Sends as fast as it can, over so many sockets that none has to wait for a verdict, until it is told to end.
FLOOD = """
import select, socket, sys
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(200)]
for sock in socks:
    sock.setblocking(False)
rounds = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for sock in socks:
        try:
            sock.sendto(b"loud", (sys.argv[1], int(sys.argv[2])))
        except OSError:
            pass
    rounds += 1
    if rounds == 50:
        print("flooding", flush=True)
"""

# Datagrams one after the other, each once and from a socket of its own; tells how many were answered.
ASK = """
import socket, sys
answered = 0
for number in range(int(sys.argv[3])):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.sendto(b"q%d" % number, (sys.argv[1], int(sys.argv[2])))
        answered += sock.recv(100) == b"Q%d" % number
print(answered)
"""

# Sends, and is gone.
LATE = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) & 0x7fff, flush=True)
sock.sendto(sys.argv[3].encode(), (sys.argv[1], int(sys.argv[2])))
"""

PING = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
sock.settimeout(15)
sock.connect((sys.argv[1], 0))
sock.send(bytes((8, 0, 0, 0, 0, 0, 0, 1)) + b"hello")
print("pong" if sock.recv(100)[8:] == b"hello" else "what?")
"""

# From one port, over a socket that has a certain number (0: any) for the engine; tells which, and what came.
FROM = """
import socket, sys, time
want, until = int(sys.argv[3]), time.monotonic() + 30
while time.monotonic() < until:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) & 0x7fff
    if want in (0, number):
        break
    sock.close()
sock.settimeout(20)
sock.bind(("0.0.0.0", 40111))
sock.connect((sys.argv[1], int(sys.argv[2])))
print(number, flush=True)
try:
    sock.send(b"from a port")
    print(sock.recv(100).decode())
except OSError as error:
    print(error.errno)
"""

# Asks once, and again when it is told to.
TALK = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
for _ in range(2):
    try:
        sock.sendall(b"HEAD /page HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n")
        print("answered" if sock.recv(9999) else "closed", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
    sys.stdin.readline()
"""


# Each request once: a packet that was dropped would be sent again only after 0.2 s, and then in what is not a file's.
FILES = """
import os, socket, sys, tempfile
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
for number in range(3):
    with tempfile.TemporaryFile() as file:
        file.write(b"HEAD /page HTTP/1.1\\r\\nHost: web%d\\r\\n\\r\\n" % number)
        file.flush()
        os.sendfile(sock.fileno(), file.fileno(), 0, 100)
        print("answered" if sock.recv(9999).startswith(b"HTTP/1.1 200") else "what?", flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


class Echo:
    """A server of UDP in the target's namespace; `seen` is what has reached it."""

    def __init__(self, lab: Lab) -> None:
        self._process = lab.popen([PYTHON, "-c", SERVE, str(ECHO)], where="target", stdout=subprocess.PIPE, text=True)
        assert self._process.stdout.readline() == "ready\n"
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.seen.append(line.rstrip("\n"))


@pytest.fixture(scope="module")
def echo(lab: Lab) -> Echo:
    return Echo(lab)


@pytest.fixture(scope="module")
def web(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(reachable(tmp_path_factory.mktemp("web")), WEB, netns=lab.target, listen=lab.target_ip) as web:
        (web.files / "cards.json").write_text('{"card": "4111111111111111", "who": "x"}')
        (web.files / "page").write_text("a page\n" * 500)
        yield web


@pytest.fixture(scope="module")
def appliance(lab: Lab, echo: Echo, web: Nginx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    rules = RULES.format(v4=lab.target_ip, v6=lab.target_ip6, echo=ECHO, web=WEB)
    home = tmp_path_factory.mktemp("appliance")
    with Appliance(lab, home, {"10-test.yaml": rules}, workers=1) as appliance:
        yield appliance


def say(lab: Lab, text: str, *, host: str = "", cgroup: str | None = "acme.service", code: str = SAY, wait: float = 20) -> str:
    words = [PYTHON, "-c", code, host or lab.target_ip, str(ECHO), text, str(wait)]
    return lab.run(words, cgroup=cgroup, capture_output=True, text=True, timeout=60).stdout.strip()


def curl(lab: Lab, path: str, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = ["curl", "-s", "-S", "-m", "30", *words, f"http://{lab.target_ip}:{WEB}/{path}"]
    return lab.run(argv, cgroup="acme.service", capture_output=True, text=True, timeout=60)


def until(what: Callable[[], object], why: Callable[[], object] = lambda: "", within: float = 30.0) -> None:
    end = time.monotonic() + within
    while not what():
        assert time.monotonic() < end, why()
        time.sleep(0.1)


def sessions(appliance: Appliance, target: str) -> list[dict[str, object]]:
    return [one for one in appliance.json("sessions") if one["target"] == target]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_datagram_is_judged_and_its_process_named(lab: Lab, appliance: Appliance, echo: Echo, family: str) -> None:
    host = lab.target_ip if family == "v4" else lab.target_ip6
    assert say(lab, f"hello {family}", host=host) == f"HELLO {family.upper()}"
    assert say(lab, f"SECRET {family}", host=host).startswith("ConnectionRefusedError")
    assert f"hello {family}" in echo.seen
    assert f"SECRET {family}" not in echo.seen
    until(lambda: len(sessions(appliance, "echo")) >= 2)
    found = sessions(appliance, "echo")
    assert {tuple(one["verdicts"]) for one in found[:2]} == {("small",), ("no-secrets",)}
    process = found[0]["process"]
    assert isinstance(process, dict)
    assert process["cgroup"] == "acme.service"
    assert process["argv"][-2] in {f"hello {family}", f"SECRET {family}"}
    assert found[0]["identity"] == "acme"


def test_who_is_gone_at_once_is_named(lab: Lab, appliance: Appliance, echo: Echo) -> None:
    say(lab, "fire and forget", code=FIRE)
    until(lambda: "fire and forget" in echo.seen, lambda: appliance.log.read_text()[-3000:])
    until(lambda: any("fire and forget" in one["process"]["argv"] for one in sessions(appliance, "echo")))


def test_what_no_rule_allows_is_refused(lab: Lab, appliance: Appliance, echo: Echo) -> None:
    assert say(lab, "stranger", cgroup="other.service").startswith(("ConnectionRefused", "PermissionError", "OSError"))
    assert "stranger" not in echo.seen
    assert say(lab, "free", cgroup=None) == "FREE"


def test_a_datagram_waits_for_a_reviewer(lab: Lab, appliance: Appliance, echo: Echo) -> None:
    for text, verdict, expected in (("ASK yes", "approve", "ASK YES"), ("ASK no", "deny", "ConnectionRefusedError 111")):
        said: list[str] = []
        agent = threading.Thread(target=lambda text=text, said=said: said.append(say(lab, text)))
        agent.start()
        until(lambda: appliance.json("approvals"))
        (question,) = appliance.json("approvals")
        assert text not in echo.seen
        appliance.cli(verdict, str(question["id"]))
        agent.join(30)
        assert said == [expected]
    assert "ASK yes" in echo.seen
    assert "ASK no" not in echo.seen


def test_a_connection_is_judged_packet_by_packet(lab: Lab, appliance: Appliance, web: Nginx) -> None:
    assert curl(lab, "page").stdout == "a page\n" * 500
    assert curl(lab, "cards.json").stdout == '{"card": "************1111", "who": "x"}'
    done = curl(lab, "page", "-X", "DELETE")
    assert done.returncode in (52, 56), done.stderr  # empty reply, or reset
    assert "DELETE" not in web.log.read_text()
    until(lambda: len(sessions(appliance, "web")) >= 3)
    verdicts = [one["verdicts"] for one in sessions(appliance, "web")]
    assert any("no-delete" in one for one in verdicts)
    record = "".join(appliance.cli("show", str(one["id"])).stdout for one in sessions(appliance, "web"))
    assert "4111111111111111" not in record


def test_a_request_waits_for_a_reviewer_in_the_kernel(lab: Lab, appliance: Appliance, web: Nginx) -> None:
    done: list[subprocess.CompletedProcess[str]] = []
    agent = threading.Thread(target=lambda: done.append(curl(lab, "page", "-X", "PUT", "-d", "x=1", "-H", "Expect:")))
    agent.start()
    until(lambda: appliance.json("approvals"))
    assert "PUT" not in web.log.read_text()
    (question,) = appliance.json("approvals")
    appliance.cli("approve", str(question["id"]))
    agent.join(30)
    assert done[0].returncode == 0, done[0].stderr
    until(lambda: "PUT" in web.log.read_text())


def test_what_a_client_sends_out_of_a_file_is_passed_at_once(lab: Lab, appliance: Appliance, web: Nginx) -> None:
    """Its pages may change behind the engine, so the fence passes a copy only: the engine gives the one it judged."""
    before = appliance.json("status")["engine"]["lost"]
    words = [PYTHON, "-c", FILES, lab.target_ip, str(WEB)]
    done = lab.run(words, cgroup="acme.service", user="nobody", capture_output=True, text=True, timeout=60)
    assert done.stdout == "answered\n" * 3, done.stderr
    assert appliance.json("status")["engine"]["lost"] == before


def test_ping(lab: Lab, appliance: Appliance) -> None:
    lab.run(["sh", "-c", "echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range"])
    words = [PYTHON, "-c", PING, lab.target_ip]
    done = lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=30)
    assert done.stdout == "pong\n", done.stderr
    done = lab.run(words, cgroup="other.service", capture_output=True, text=True, timeout=30)
    assert "pong" not in done.stdout
    until(lambda: any(one["verdicts"] == {"ping": 1} for one in sessions(appliance, "pings")))


def test_status_shows_the_engine(lab: Lab, appliance: Appliance) -> None:
    engine = appliance.json("status")["engine"]
    assert (engine["state"], engine["starts"], engine["lost"]) == ("ready", 1, 0)
    assert "engine" in appliance.cli("status").stdout
    pid = engine["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 1 << 12
    assert fields["Uid"].split()[0] != "0"


def test_kill_9_of_the_engine_is_a_drop_until_it_is_back(lab: Lab, appliance: Appliance, echo: Echo) -> None:
    talk = lab.popen([PYTHON, "-c", TALK, lab.target_ip, str(WEB)], cgroup="acme.service", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert talk.stdout.readline() == "answered\n"
    before = appliance.json("status")["engine"]["pid"]
    os.kill(before, signal.SIGSTOP)  # hung: nothing passes
    try:
        assert say(lab, "hung", wait=1).startswith("TimeoutError")
    finally:
        os.kill(before, signal.SIGKILL)
    until(lambda: appliance.json("status")["engine"].get("pid") not in (0, before), within=30)
    until(lambda: say(lab, "back", wait=2) == "BACK", lambda: appliance.log.read_text()[-3000:])
    assert "hung" not in echo.seen
    talk.stdin.write("\n")
    talk.stdin.flush()
    assert talk.stdout.readline() == "ConnectionResetError\n", "a connection whose beginning the engine did not see"
    assert appliance.json("status")["engine"]["starts"] == 2


def test_it_is_started_when_rules_need_it_and_ends_with_its_hub(tmp_path: Path) -> None:
    with Lab() as lab:  # the other one has an appliance
        starts_and_ends(lab, Echo(lab), tmp_path)


def starts_and_ends(lab: Lab, echo: Echo, home: Path) -> None:
    web = f'targets:\n  web: {{protocol: http, address: ["{lab.target_ip}:{WEB}"]}}\nrules:\n  - {{id: read, to: web, do: allow}}\n'
    with Appliance(lab, home, {"10-web.yaml": web}, workers=1) as appliance:
        assert appliance.json("status")["engine"] == {}
        assert say(lab, "too soon").startswith(("ConnectionRefused", "PermissionError", "OSError"))
        more = f'targets:\n  echo: {{protocol: udp, address: ["{lab.target_ip}:{ECHO}"]}}\nrules:\n  - {{id: say, to: echo, do: allow}}\n'
        appliance.rule("20-echo.yaml", more)
        until(lambda: appliance.json("status")["engine"].get("state") == "ready", lambda: appliance.log.read_text()[-3000:])
        until(lambda: say(lab, "soon", wait=2) == "SOON", lambda: appliance.log.read_text()[-3000:])
        engine = appliance.json("status")["engine"]["pid"]
        os.kill(appliance.hub(), signal.SIGKILL)
        until(lambda: not Path(f"/proc/{engine}").exists())
        assert not say(lab, "leaked", wait=2).startswith("LEAKED")
        assert "leaked" not in echo.seen
        assert "too soon" not in echo.seen
        assert appliance.process is not None
        appliance.process.wait()
        appliance.start()
        until(lambda: say(lab, "again", wait=2) == "AGAIN", lambda: appliance.log.read_text()[-3000:])


def test_who_gets_number_and_port_of_a_closed_socket_is_not_taken_for_it(lab: Lab, echo: Echo, appliance: Appliance) -> None:
    """The flow of the first lives for a while: what the second sends is not of it."""
    number, text = say(lab, "0", code=FROM).split("\n", 1)
    assert text == "FROM A PORT"
    assert say(lab, number, code=FROM, cgroup="other.service").split() == [number, "111"]
    assert echo.seen.count("from a port") == 1


def test_what_waited_too_long_is_not_named_by_who_has_its_number_since(lab: Lab, echo: Echo, appliance: Appliance) -> None:
    """The engine hangs while a number passes from one who may not send to one who may: nobody knows whose the datagram is."""
    engine = appliance.json("status")["engine"]["pid"]
    os.kill(engine, signal.SIGSTOP)
    try:
        number = say(lab, "stolen", code=LATE, cgroup="other.service")
        words = [PYTHON, "-c", FROM, lab.target_ip, str(ECHO), number]
        heir = lab.popen(words, cgroup="acme.service", stdout=subprocess.PIPE, text=True)
        assert heir.stdout.readline() == f"{number}\n"
    finally:
        os.kill(engine, signal.SIGCONT)
    assert heir.stdout.read() in ("111\n", "FROM A PORT\n"), "how long the engine hung decides which"
    until(lambda: say(lab, "behind it", wait=2) == "BEHIND IT")
    assert "stolen" not in echo.seen


def test_a_vendor_that_floods_hurts_only_itself(lab: Lab, appliance: Appliance, echo: Echo, web: Nginx) -> None:
    """Each vendor has its own queue: others' packets are neither dropped nor kept waiting, and operators see who it is."""
    words, pipe = [PYTHON, "-c", FLOOD, lab.target_ip, str(ECHO)], subprocess.PIPE
    flood = lab.popen(words, cgroup="loud.service", stdin=pipe, stdout=pipe, text=True)
    try:
        assert flood.stdout.readline() == "flooding\n"
        assert say(lab, "20", code=ASK) == "20"
        assert [curl(lab, "page").stdout for _ in range(3)] == ["a page\n" * 500] * 3
        until(lambda: appliance.json("status")["engine"]["overflowed"])
        until(lambda: "incident: loud.service: packets are dropped, its queue is full" in appliance.log.read_text())
        assert "acme.service: packets are dropped" not in appliance.log.read_text()
        assert appliance.json("status")["losses"]["overflowed"] > 0
    finally:
        flood.communicate("\n")
