"""A hostile vendor on a running appliance: nothing passes, nobody is named wrongly, nobody else is starved."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from tests.evasion.host import ECHO, HELLO, PYTHON, SECRET, Scene, ask, memory, running, until, workers

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)


@pytest.fixture(scope="module")
def appliance(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running(scene, tmp_path_factory.mktemp("appliance"), unix="any") as appliance:  # what control.sock says itself
        yield appliance


@pytest.fixture(autouse=True)
def served_after(scene: Scene, appliance: Appliance) -> Iterator[None]:
    """Whatever a vendor did, both vendors are served, by the workers that were there before, without a fault."""
    before = workers(appliance)
    yield
    assert scene.hello() == "hello"
    assert scene.hello("other.service") == "hello"
    assert scene.leaked == []
    assert workers(appliance) == before
    assert "Traceback" not in appliance.log.read_text()


PLACES = ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "10.77.0.1", "fd77::1"]


@pytest.mark.parametrize("host", PLACES)
def test_the_relays_port_is_no_door(scene: Scene, host: str) -> None:
    assert "hello" not in scene.hello(port=15001, host=host)


RESETS = """
import socket, struct, sys
for _ in range(300):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.connect((sys.argv[1], 7))
"""


def test_connections_reset_before_they_are_taken_are_no_fault_of_ours(scene: Scene, appliance: Appliance) -> None:
    failed = ask(appliance, "/status")["losses"]["failed"]
    scene.run(RESETS, scene.lab.target_ip)
    time.sleep(1.2)
    assert ask(appliance, "/status")["losses"]["failed"] == failed


FLOOD = """
import socket, sys, time
print(flush=True)
end = time.monotonic() + 4
while time.monotonic() < end:
    socks = []
    for _ in range(200):
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.connect((sys.argv[1], 7))
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            break
        socks.append(sock)
    for sock in socks:
        sock.close()
"""


def test_a_flood_of_connects_names_nobody_wrongly_and_starves_nobody(scene: Scene, appliance: Appliance) -> None:
    refused = ask(appliance, "/status")["losses"]["refused"]
    floods = [scene.start(FLOOD, scene.lab.target_ip) for _ in range(2)]
    said = [scene.hello("other.service", patience=50) for _ in range(6)]  # a busy machine takes what it takes
    for flood in floods:
        flood.communicate()
    assert said == ["hello"] * 6
    time.sleep(1.2)
    status = ask(appliance, "/status")
    assert "no governed process" not in appliance.log.read_text()
    assert status["losses"]["refused"] - refused < 3000  # reset before they were taken; evicted ones were 60,000
    assert status["fence"]["refuse_rate"] > 0


SILENT = """
import socket, sys
socks = []
for _ in range(int(sys.argv[2])):
    sock = socket.socket()
    sock.settimeout(2)
    sock.connect((sys.argv[1], 7))
    socks.append(sock)
print(len(socks), flush=True)
sys.stdin.readline()
"""


def test_many_silent_connections_leave_others_theirs(scene: Scene, appliance: Appliance) -> None:
    silent = scene.start(SILENT, scene.lab.target_ip, "300")
    assert scene.hello("other.service") == "hello"
    silent.communicate("\n")


POUR = """
import socket, sys, time
print(flush=True)
socks = []
for _ in range(40):
    sock = socket.socket()
    sock.connect((sys.argv[1], 7))
    sock.setblocking(False)
    socks.append(sock)
end = time.monotonic() + 3
while time.monotonic() < end:
    for sock in socks:
        try:
            sock.send(b"x" * 262144)
        except BlockingIOError:
            pass
    time.sleep(0.01)
"""


def test_a_client_that_never_reads_costs_little_memory(scene: Scene, appliance: Appliance) -> None:
    before = sum(map(memory, workers(appliance)))
    pour = scene.start(POUR, scene.lab.target_ip)
    time.sleep(2.5)
    assert sum(map(memory, workers(appliance))) - before < 40 * 1.5 * 2**20 + 50 * 2**20
    assert scene.hello("other.service") == "hello"
    pour.communicate()


EXEC = """
import os, socket, sys
sock = socket.create_connection((sys.argv[1], 7), 5)
sock.settimeout(None)  # a time-out makes the descriptor non-blocking, for who inherits it too
os.set_inheritable(sock.fileno(), True)
os.execv("/bin/sh", ["sh", "-c", f"printf hello >&{sock.fileno()}; head -c 5 <&{sock.fileno()}"])
"""
BEFORE = """
import os, sys
os.dup2(1, 2)
os.execv("/usr/bin/bash", ["bash", "-c", f"exec 3<>/dev/tcp/{sys.argv[1]}/7; printf hello >&3; head -c 5 <&3 2>&1"])
"""


def test_exec_after_connect_leaves_the_name_of_who_connected(scene: Scene, appliance: Appliance) -> None:
    assert scene.run(EXEC, scene.lab.target_ip) == "hello"
    until(lambda: ask(appliance, "/sessions?limit=1")[0]["process"]["exe"].startswith("/usr/bin/python3"))


def test_exec_before_connect_gives_the_name_of_what_runs(scene: Scene, appliance: Appliance) -> None:
    assert "hello" not in scene.run(BEFORE, scene.lab.target_ip)
    (session,) = ask(appliance, "/sessions?limit=1")
    assert (session["process"]["exe"], session["identity"]) == ("/usr/bin/bash", "")


PORTS = """
import socket, sys
for _ in range(20):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
        sock.bind(("", 40407))
        sock.settimeout(5)
        sock.connect((sys.argv[1], 7))
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"
print("done")
"""


def test_one_source_port_used_by_two_vendors_in_turn(scene: Scene, appliance: Appliance) -> None:
    for _ in range(2):
        for cgroup in ("acme.service", "other.service"):
            assert scene.run(PORTS, scene.lab.target_ip, cgroup=cgroup) == "done"
            until(lambda: ask(appliance, "/sessions?limit=1")[0]["process"]["argv"][2] == PORTS)
            mine = ask(appliance, "/sessions?limit=20")
            assert {s["process"]["cgroup"] for s in mine} == {cgroup}
            assert {s["identity"] for s in mine} == {cgroup.removesuffix(".service")}


STORM = """
import os, socket, sys
def child(depth):
    pids = []
    for _ in range(3 if depth else 0):
        pid = os.fork()
        if not pid:
            child(depth - 1)
            os._exit(0)
        pids.append(pid)
    if not depth:
        try:
            with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as sock:
                sock.sendall(b"%d" % os.getpid())
                sock.recv(10)
        except OSError:
            pass
    for pid in pids:
        os.waitpid(pid, 0)
child(4)
"""


def test_a_fork_storm_is_named_process_by_process(scene: Scene, appliance: Appliance) -> None:
    scene.run(STORM, scene.lab.target_ip, str(ECHO))
    until(lambda: len({s["process"]["pid"] for s in ask(appliance, "/sessions?limit=81")}) == 81)
    assert {s["identity"] for s in ask(appliance, "/sessions?limit=81")} == {"acme"}
    scene.run(STORM, scene.lab.target_ip, str(SECRET))


NASTY = b"\x1b]0;pwned\x07 \xff\xfe\n\x7f \xe2\x80\xae"


def test_arguments_of_control_characters_and_no_utf8_reach_no_terminal(scene: Scene, appliance: Appliance) -> None:
    assert scene.run(HELLO, scene.lab.target_ip, str(ECHO), NASTY) == "hello"
    until(lambda: len(ask(appliance, "/sessions?limit=1")[0]["process"]["argv"]) == 6)
    for words in (["sessions", "--limit", "1"], ["show", "last"], ["sessions", "--json", "--limit", "1"]):
        said = appliance.cli(*words).stdout
        assert all(c == "\n" or c.isprintable() for c in said), words
    assert "pwned" in json.dumps(appliance.json("sessions", "--limit", "1"))


CONTROL = """
import socket, sys
socks = []
with socket.socket(socket.AF_UNIX) as sock:
    try:
        sock.connect(sys.argv[1])
        sock.sendall(b"POST /approvals/x HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 17\\r\\n\\r\\n{\\"approve\\": true}")
        print(sock.recv(1000).split()[1].decode())
    except OSError as error:
        print(error.errno)
"""


def test_no_vendor_has_a_say_in_control(scene: Scene, appliance: Appliance) -> None:
    path = str(appliance.home / "run/control.sock")
    for folder in appliance.home.parents:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    appliance.home.chmod(0o711)
    assert scene.run(CONTROL, path) == "13"
    assert scene.run(CONTROL, path, rootless=True) == "403"


HOARD = """
import socket, sys
socks = []
for _ in range(400):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(sys.argv[1])
    try:
        sock.sendall(b"GET /status HTTP/1.1\\r\\nX: ")
    except OSError:
        pass
    socks.append(sock)
print(len(socks), flush=True)
sys.stdin.readline()
"""


def test_root_without_capabilities_cannot_keep_reviewers_from_control(scene: Scene, appliance: Appliance) -> None:
    words = scene.words(HOARD, str(appliance.home / "run/control.sock"), rootless=True)
    pipe = subprocess.PIPE
    hoard = scene.lab.popen(words, cgroup="acme.service", stdin=pipe, stdout=pipe, text=True)
    assert hoard.stdout and hoard.stdout.readline() == "400\n"
    assert ask(appliance, "/status")["ready"]
    assert len(os.listdir(f"/proc/{appliance.hub()}/fd")) < 100
    hoard.communicate("\n")


def test_control_takes_no_huge_and_no_slow_request(appliance: Appliance) -> None:
    """From a reviewer's side: what root sends outside the slice is limited too."""
    for data in (b"GET /status HTTP/1.1\r\nX: " + b"x" * 100_000, b"POST /reload HTTP/1.1\r\nContent-Length: 1\r\n"):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(15)
            sock.connect(str(appliance.home / "run/control.sock"))
            assert _said(sock, data)[:12] in (b"", b"HTTP/1.0 400", b"HTTP/1.1 400")
    before = memory(appliance.hub())
    watchers = []
    for _ in range(80):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(appliance.home / "run/control.sock"))
        sock.sendall(b"GET /approvals?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        watchers.append(sock)
    time.sleep(0.5)
    assert sum(b"503" in sock.recv(200) for sock in watchers) == 80 - 64
    assert ask(appliance, "/status")["ready"]
    assert memory(appliance.hub()) - before < 50 * 2**20
    for sock in watchers:
        sock.close()


def _said(sock: socket.socket, data: bytes) -> bytes:
    try:
        sock.sendall(data)
        return sock.recv(100)
    except ConnectionError:
        return b""


KILL = """
import os, signal, sys
for pid in map(int, sys.argv[1:]):
    for number in (signal.SIGSTOP, signal.SIGKILL):
        try:
            os.kill(pid, number)
            print("sent")
        except PermissionError:
            print("no")
"""


def test_a_vendor_of_the_workers_own_user_is_told_of(scene: Scene, appliance: Appliance) -> None:
    """The lab's workers run as nobody because it is told to; a host where they do by chance says so (test_host_luck)."""
    assert scene.run(KILL, str(appliance.hub())) == "no\nno"


def test_bytes_of_a_flow_passed_unread_are_counted(scene: Scene, appliance: Appliance) -> None:
    assert scene.hello() == "hello"
    until(lambda: "5 bytes passed unread" in appliance.cli("show", "last").stdout)


def test_the_interpreter_is_the_one_the_rules_name() -> None:
    assert os.path.realpath(PYTHON).startswith("/usr/bin/python3")
