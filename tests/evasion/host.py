"""The whole appliance with a server that echoes and one that no rule speaks of, and programs of a hostile vendor.

Each vendor program runs under the system's Python in the governed slice, as nobody unless said otherwise.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab

PYTHON = "/usr/bin/python3"
ECHO, SECRET = 7, 8  # ports: one that rules pass to, one that no rule speaks of
ROOTLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"]  # uid 0, no capability
RULES = """
identities:
  acme: {{cgroup: acme.service, exe: "/usr/bin/python3*"}}
  other: {{cgroup: other.service, exe: "/usr/bin/python3*"}}
targets:
  echo: {{address: ["{v4}:7", "[{v6}]:7"]}}
rules:
  - {{id: echo, who: [acme, other], to: echo, do: allow, inspect: false}}
"""
SERVER = """
import socket, sys, threading
def echo(sock):
    try:
        with sock:
            while data := sock.recv(65536):
                sock.sendall(data)
    except OSError:
        pass
def secret(sock):
    with sock:
        sock.settimeout(2)
        try:
            print("LEAK", sock.recv(100), flush=True)
        except OSError:
            pass
def serve(port, what):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    while True:
        threading.Thread(target=what, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=serve, args=(8, secret), daemon=True).start()
print("listening", flush=True)
serve(7, echo)
"""
HELLO = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as sock:
        sock.sendall(b"hello")
        print(sock.recv(100).decode())
except OSError as error:
    print(error)
"""


class Scene:
    """A lab with both servers; `leaked` is what came to the one nobody may reach."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.leaked = lab, list[str]()
        self._server = lab.popen([sys.executable, "-c", SERVER], where="target", stdout=subprocess.PIPE, text=True)
        assert self._server.stdout
        self._server.stdout.readline()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        self.leaked.extend(self._server.stdout)

    def rules(self) -> str:
        return RULES.format(v4=self.lab.target_ip, v6=self.lab.target_ip6)

    def words(self, code: str, *arguments: str | bytes, rootless: bool = False) -> list[Any]:
        return [*(ROOTLESS if rootless else ()), PYTHON, "-SEc", code, *arguments]

    def run(self, code: str, *arguments: str | bytes, cgroup: str = "acme.service", rootless: bool = False) -> str:
        """Run a vendor's program to its end and return what it printed."""
        user = None if rootless else "nobody"
        words = self.words(code, *arguments, rootless=rootless)
        done = self.lab.run(words, cgroup=cgroup, user=user, capture_output=True, text=True, timeout=60)
        assert not done.stderr, done.stderr
        return str(done.stdout).strip()

    def start(self, code: str, *arguments: str, cgroup: str = "acme.service") -> "subprocess.Popen[str]":
        """Start one that prints a line when it has begun."""
        pipe = subprocess.PIPE
        words = self.words(code, *arguments)
        process = self.lab.popen(words, cgroup=cgroup, user="nobody", stdin=pipe, stdout=pipe, text=True)
        assert process.stdout
        process.stdout.readline()
        return process

    def hello(self, cgroup: str = "acme.service", port: int = ECHO, host: str | None = None, patience: int = 5) -> str:
        return self.run(HELLO.replace("5) as", f"{patience}) as"), host or self.lab.target_ip, str(port), cgroup=cgroup)


@contextmanager
def running(scene: Scene, home: Path, **settings: object) -> Iterator[Appliance]:
    with Appliance(scene.lab, home, {"10-echo.yaml": scene.rules()}, **settings) as appliance:  # type: ignore[arg-type]
        yield appliance
        assert scene.leaked == []
        if appliance.process and appliance.process.poll() is None:
            balanced(appliance)


def balanced(appliance: Appliance, seconds: float = 60.0) -> None:
    """Wait until the ledger was looked at after now, and nothing is missing in it: no byte, no flow."""
    now = end = time.monotonic()
    while True:
        said = ask(appliance, "/status")["coverage"]
        wrong = {name: line for name, line in said["ledger"].items() if line["holes"] or astray(line)}
        if said["looked"] > now and not wrong and said["difference"] == {"flows": 0, "bytes": 0}:
            return
        assert time.monotonic() < end + seconds, (said["difference"], wrong)
        time.sleep(0.1)


def astray(line: dict[str, int]) -> int:
    """Return the bytes of a line of the ledger that nobody has, or has yet."""
    return max(0, line["passed"] - line["taken"] - line["untaken"] - line["lost"])


def ask(appliance: Appliance, url: str, method: str = "GET") -> Any:
    """Ask the hub as root, from outside the slice."""
    connection = http.client.HTTPConnection("vendorgate", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(str(appliance.home / "run/control.sock"))  # waits while the queue of the door is full
        connection.sock.settimeout(10)
        connection.request(method, url)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def workers(appliance: Appliance) -> list[int]:
    """Return the pids of the workers, once they run: one that is to be started again has 0, to kill which is to kill us."""
    found: list[int] = []

    def running() -> bool:
        found[:] = [pid for name, pid in ask(appliance, "/status")["workers"].items() if name.endswith(".pid")]
        return bool(found) and all(found)

    until(running)
    return found


def until(what: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def memory(pid: int) -> int:
    """Return the resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
