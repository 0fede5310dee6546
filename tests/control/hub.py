"""A control interface on a real socket, its loop in a thread, over real Approvals; and clients of other users."""

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.control.api import Control
from appliance.control.approvals import Approvals
from appliance.control.desk import Contained, Desk, Order, Reply, Status
from appliance.control.peer import slice_path
from appliance.model import ConfigError, HostError
from appliance.record.export import Export, known
from appliance.record.frame import Frame
from appliance.record.session import Actor, Filter, Session

# The interpreter under the virtual environment: other users can run it, wherever the checkout is.
PYTHON = os.path.realpath("/usr/bin/python3")
CLIENT = """
import http.client, json, socket, sys
path, method, url, body = sys.argv[1:5]
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
try:
    connection.sock.connect(path)
except OSError as error:
    print(json.dumps([0, str(error)])); sys.exit()
connection.request(method, url, body or None)
answer = connection.getresponse()
print(json.dumps([answer.status, json.loads(answer.read())]))
"""


PSQL = Actor(41, "/usr/bin/psql", ("psql", "-c", "select 1"), "acme.service", "postgresql-client-15")


def session(id: str, started: float, ended: float | None = None) -> Session:
    return Session(
        id, started, ended, "acme", PSQL, "orders-db", "postgres", 4, {"reads": 3, "no-drop": 1}, 512
    )


class Hub:
    """The desk of a small hub."""

    def __init__(self, directory: Path, governed: str) -> None:
        self.socket = directory / "run" / "control.sock"
        self.governed = governed
        self.approvals = Approvals("r1")
        self.filters: list[Filter] = []
        self.exports: list[tuple[Export, str]] = []
        self.items = [session("f2", 1_760_000_060.0), session("f1", 1_760_000_000.0, 1_760_000_030.5)]
        self.kept: dict[str, list[Frame]] = {}
        self.bad_rules = ""
        self.pieces: Callable[[], Iterator[bytes]] = lambda: iter([b"one", b"two"])
        self.reloaded: list[str] = []
        self.loop = asyncio.new_event_loop()

    def desk(self) -> Desk:
        return Desk(
            status=lambda: Status(
                ready=True, rules_revision="r1", pending=len(self.approvals.pending(time.time()))
            ),
            sessions=self._sessions,
            session=lambda id: next((item for item in self.items if item.id == id), None),
            frames=lambda id: iter(self.kept[id]),
            approvals=lambda: self.approvals.pending(time.time()),
            question=self.approvals.question,
            answer=self._answer,
            reload=self._reload,
            contain=self._contain,
            export=self._export,
        )

    def call(self, call: Callable[[], Any]) -> Any:
        """Run something on the loop, as the service would."""

        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def _sessions(self, filters: Filter) -> Sequence[Session]:
        self.filters.append(filters)
        return [item for item in self.items if item.id.startswith(filters.id)][: filters.limit]

    def _answer(self, id: str, by: str, groups: frozenset[str], approved: bool, reason: str) -> Reply:
        return self.approvals.answer(id, by, groups, approved=approved, reason=reason, now=time.time())

    def _contain(self, order: Order, by: str) -> Contained:
        if order.who == "nobody":
            raise ConfigError(order.do, "no process runs as `nobody`")
        if order.who == "stuck":
            raise HostError("freeze /sys/fs/cgroup/x: Invalid argument")
        return Contained(order.do, (order.who,), 3, f"{order.do} {order.who} by {by}: {order.reason}")

    def _reload(self, by: str) -> str:
        if self.bad_rules:
            raise ConfigError("rules.d/10.yaml:3", self.bad_rules, "did you mean `action`?")
        self.reloaded.append(by)
        return "r2"

    def _export(self, asked: Export, by: str) -> Iterator[bytes]:
        self.exports.append((asked, by))
        for id in asked.ids:
            if id not in {item.id for item in self.items}:
                raise KeyError(id)
        known(asked.format)
        return self.pieces()


@contextmanager
def running(governed: str = "/no-such.slice", gid: int = -1) -> Iterator[Hub]:
    directory = Path(tempfile.mkdtemp(prefix="vg-control-"))
    directory.chmod(0o755)
    hub = Hub(directory, governed)
    control = Control(hub.desk(), governed)
    thread = threading.Thread(target=hub.loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(control.start(hub.socket, gid), hub.loop).result(10)
        yield hub
    finally:
        asyncio.run_coroutine_threadsafe(control.stop(), hub.loop).result(10)
        # Who connected in the last moment is accepted, and let go, only now.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), hub.loop).result(10)
        hub.loop.call_soon_threadsafe(hub.loop.stop)
        thread.join(10)
        hub.loop.close()
        shutil.rmtree(directory)


def open_connection(path: Path) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(str(path))
    return connection


def ask(hub: Hub, method: str, url: str, body: str | bytes | None = None) -> tuple[int, Any]:
    """Ask as this very process."""
    connection = open_connection(hub.socket)
    try:
        connection.request(method, url, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def ask_as(user: str, hub: Hub, method: str, url: str, body: str = "") -> tuple[int, Any]:
    """Ask as another user, from a process of its own."""
    switch = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={user if user != 'nobody' else 'nogroup'}",
        "--init-groups",
    ]
    return _run([*switch, PYTHON, "-c", CLIENT, str(hub.socket), method, url, body])


def ask_from(cgroup: Path, hub: Hub, method: str, url: str, body: str = "") -> tuple[int, Any]:
    """Ask from a process in `cgroup`."""
    enter = f'echo $$ > "{cgroup}/cgroup.procs" && exec "$@"'
    return _run(["sh", "-c", enter, "sh", PYTHON, "-c", CLIENT, str(hub.socket), method, url, body])


def _run(command: list[str]) -> tuple[int, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd="/")
    assert done.returncode == 0, done.stderr
    status, body = json.loads(done.stdout)
    return status, body


def cgroup_root() -> Path | None:
    """Return where cgroup2 is mounted and may be written."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if " - cgroup2 " in line:
            root = Path(line.split(" ")[4])
            if os.access(root, os.W_OK):
                return root
    return None


@contextmanager
def cgroup(name: str) -> Iterator[tuple[Path, str]]:
    """Make a cgroup with one below it; yields its directory and its path as the kernel writes it."""
    root = cgroup_root()
    assert root is not None
    top = root / name
    below = top / "acme.service"
    below.mkdir(parents=True)
    try:
        yield top, slice_path(top)
    finally:
        for directory in (below, top):
            for _ in range(50):
                try:
                    directory.rmdir()
                    break
                except OSError:  # its last process is still being buried
                    time.sleep(0.02)
