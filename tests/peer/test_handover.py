"""A restart and a crash under load: who connects meanwhile waits and is served, who is connected is told, nothing leaks."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.kernel import nft
from appliance.lab.hosts import Lab
from appliance.lab.servers import Postgres, postgres_bin
from appliance.service import handover
from appliance.service.handover import Handover
from tests.chaos.storm import TRIES
from tests.evasion.host import Scene, until
from tests.evasion.wire import MARK, Wire
from tests.peer.supervisor import Supervised, Supervisor
from tests.ports import free_port

pytestmark = [pytest.mark.kernel, pytest.mark.peer]

DB = """
targets:
  db: {{protocol: postgres, address: ["{ip}:5432"]}}
rules:
  - {{id: db, who: acme-psql, to: db, do: allow}}
identities:
  acme-psql: {{cgroup: acme.service, exe: "/usr/lib/postgresql/*/bin/psql"}}
"""
# New connections without end, from a few threads: each says who it is and wants that back. Errors are named.
LOAD = """
import collections, json, select, socket, sys, threading
said, over = collections.Counter(), threading.Event()
def work(number):
    while not over.is_set():
        try:
            with socket.create_connection((sys.argv[1], 7), 60) as sock:
                name = b"%d of %d" % (sock.getsockname()[1], number)
                sock.sendall(name)
                said["served" if sock.recv(100) == name else "cut short"] += 1
        except OSError as error:
            said[type(error).__name__] += 1
threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
for thread in threads:
    thread.start()
print(flush=True)
for line in sys.stdin:
    print(json.dumps(said), flush=True)
over.set()
for thread in threads:
    thread.join()
print(json.dumps(said), flush=True)
"""


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)


@pytest.fixture(scope="module")
def server(scene: Scene) -> Iterator[Postgres]:
    # Not below the folders of pytest, which another one that starts closes to other users.
    with tempfile.TemporaryDirectory(prefix="vendorgate-postgres-") as name:
        Path(name).chmod(0o755)
        with Postgres(Path(name) / "home", 5432, netns=scene.lab.target) as server:
            server.admin("create role acme login password 'secret'")
            yield server


@pytest.fixture
def supervised(scene: Scene, tmp_path: Path) -> Iterator[Supervised]:
    supervisor = Supervisor(tmp_path / "notify")
    rules = {"10-echo.yaml": scene.rules(), "20-db.yaml": DB.format(ip=scene.lab.target_ip)}
    appliance = Supervised(scene.lab, tmp_path, rules, relay={"port": 15001, "workers": 2, "user": "nobody", "drain": "1s"})
    appliance.supervisor = supervisor
    try:
        with appliance:
            yield appliance
    finally:
        supervisor.close()


class Load:
    """The vendor's program; `served` is how many connections it had."""

    def __init__(self, scene: Scene) -> None:
        self._process = scene.start(LOAD, scene.lab.target_ip)

    def said(self) -> dict[str, int]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]

    @property
    def served(self) -> int:
        return self.said().get("served", 0)

    def goes_on(self) -> None:
        """Wait until it was served more often."""
        before = self.served
        until(lambda: self.served > before + 20, 60)

    def end(self) -> dict[str, int]:
        out, _ = self._process.communicate(timeout=90)
        return json.loads(out.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.fixture
def load(scene: Scene, supervised: Supervised) -> Load:
    until(lambda: scene.hello() == "hello", 40)
    return Load(scene)


def owned(lab: Lab) -> bool:
    """Whether somebody holds the table: then others may not change it."""
    done = lab.run(["nft", "add", "chain", "inet", nft.TABLE, "mine"], capture_output=True, text=True)
    if done.returncode == 0:
        lab.run(["nft", "delete", "chain", "inet", nft.TABLE, "mine"])
    return done.returncode != 0


def test_restarts_under_load_refuse_nobody_and_leak_nothing(scene: Scene, supervised: Supervised, load: Load) -> None:
    wire, keeper = Wire(scene.lab), supervised.supervisor
    tries = scene.start(TRIES, scene.lab.target_ip, scene.lab.target_ip6)
    try:
        kept = keeper.names
        listeners = [name for name in kept if name.startswith("listen-15001-")]
        assert len(listeners) == 4
        for _ in range(2):
            load.goes_on()
            supervised.send(signal.SIGTERM)
            assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in keeper.said)
            before = load.served
            assert not owned(scene.lab) or any(name.startswith("steering-") for name in kept)
            supervised.start()
            load.goes_on()
            assert load.served > before
            assert keeper.names == kept  # the same, taken over
        said = load.end()
        assert set(said) == {"served"}, said
        assert not [frame for frame in wire.frames() if MARK in frame]
        assert scene.leaked == []
    finally:
        tries.communicate("\n", 60)
        wire.close()


def test_a_crash_of_the_hub_under_load_refuses_nobody(scene: Scene, supervised: Supervised, load: Load) -> None:
    load.goes_on()
    supervised.send(signal.SIGKILL)
    supervised.start()
    load.goes_on()
    said = load.end()
    # Those that a worker had taken when its hub died are ended; nobody is refused, and nobody waits in vain.
    assert set(said) <= {"served", "cut short", "ConnectionResetError", "BrokenPipeError"}, said


def test_a_live_session_is_told_when_the_drain_is_over(scene: Scene, supervised: Supervised, server: Postgres) -> None:
    address = f"host={scene.lab.target_ip} dbname=postgres user=acme password=secret sslmode=disable"
    words = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", address]
    pipe = subprocess.PIPE
    psql = scene.lab.popen(words, cgroup="acme.service", user="nobody", stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    psql.stdin.write("select 'begun';\n")
    psql.stdin.flush()
    assert psql.stdout.readline() == "begun\n"
    begun = time.monotonic()
    supervised.send(signal.SIGTERM)
    assert time.monotonic() - begun >= 1.0  # the drain that the settings name
    _, error = psql.communicate("select 'too late';\n", 60)
    assert "vendorgate is stopping" in error, error
    supervised.start()
    done = scene.lab.run([*words, "-c", "select 'again'"], cgroup="acme.service", user="nobody", capture_output=True, text=True)
    assert done.stdout == "again\n", done.stderr


def test_a_session_that_ends_within_the_drain_notices_nothing(scene: Scene, supervised: Supervised, server: Postgres) -> None:
    config = json.loads(supervised.config.read_text())
    config["relay"]["drain"] = "60s"
    supervised.send(signal.SIGTERM)
    supervised.config.write_text(json.dumps(config))
    supervised.start()
    address = f"host={scene.lab.target_ip} dbname=postgres user=acme password=secret sslmode=disable"
    words = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", address]
    pipe = subprocess.PIPE
    psql = scene.lab.popen(words, cgroup="acme.service", user="nobody", stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    psql.stdin.write("select 'one';\n")
    psql.stdin.flush()
    assert psql.stdout.readline() == "one\n"
    assert supervised.process
    supervised.process.send_signal(signal.SIGTERM)
    until(lambda: "STOPPING=1" in supervised.supervisor.said, 30)
    out, error = psql.communicate("select 'two';\n", 60)
    assert (out, error) == ("two\n", "")
    supervised.process.wait(60)
    supervised.start()


def test_fewer_workers_serve_the_queues_of_more(scene: Scene, supervised: Supervised) -> None:
    config = json.loads(supervised.config.read_text())
    for workers in (1, 3):
        supervised.send(signal.SIGTERM)
        config["relay"]["workers"] = workers
        supervised.config.write_text(json.dumps(config))
        load = Load(scene)
        supervised.start()
        load.goes_on()
        assert set(load.end()) == {"served"}
    assert len([name for name in supervised.supervisor.names if name.startswith("listen-")]) == 6


def test_another_port_is_listened_on_and_the_old_one_is_not_kept(scene: Scene, supervised: Supervised) -> None:
    config = json.loads(supervised.config.read_text())
    supervised.send(signal.SIGTERM)
    config["relay"]["port"] = 15002
    supervised.config.write_text(json.dumps(config))
    supervised.start()
    until(lambda: scene.hello() == "hello", 40)
    names = supervised.supervisor.names
    assert {name.split("-")[1] for name in names if name.startswith("listen-")} == {"15002"}
    assert len([name for name in names if name.startswith("steering-")]) <= 1


def test_a_flushed_table_is_put_anew(scene: Scene, supervised: Supervised) -> None:
    supervised.send(signal.SIGTERM)
    supervised.supervisor.forget()  # as after systemctl stop
    scene.lab.run(["nft", "flush", "ruleset"])
    supervised.start()
    assert scene.hello() == "hello"
    assert owned(scene.lab) == any(name.startswith("steering-") for name in supervised.supervisor.names)


CONTAINER = """
import socket, sys
print(flush=True)
for line in sys.stdin:
    try:
        with socket.create_connection((sys.argv[1], 7), 60) as sock:
            sock.sendall(b"hello")
            print(sock.recv(100).decode(), flush=True)
    except OSError as error:
        print(error, flush=True)
"""


def test_a_container_waits_as_well(scene: Scene, supervised: Supervised) -> None:
    name = f"{scene.lab.name}-box"
    ip = ["ip", "-n", scene.lab.host]
    with Box(scene.lab, name):
        words = ["nsenter", f"--net=/run/netns/{name}", "/usr/bin/python3", "-SEc", CONTAINER, scene.lab.target_ip]
        pipe = subprocess.PIPE
        process = scene.lab.popen(words, cgroup="acme.service", stdin=pipe, stdout=pipe, text=True)
        assert process.stdout and process.stdin and ip
        process.stdout.readline()

        def asks() -> None:
            process.stdin.write("\n")
            process.stdin.flush()

        def hears() -> str:
            return str(process.stdout.readline()).strip()

        def served() -> bool:
            asks()
            return hears() == "hello"

        until(served, 40)
        assert any(name.startswith("inside-") for name in supervised.supervisor.names)
        supervised.send(signal.SIGTERM)
        asks()
        supervised.start()
        assert hears() == "hello"
        process.communicate()
    until(lambda: not any(name.startswith("inside-") for name in supervised.supervisor.names), 60)


class Box:
    """A network namespace behind the lab's host, as a container's is."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self._name = lab, name

    def __enter__(self) -> "Box":
        host, box = self._lab.host, self._name
        for words in (
            ["netns", "add", box],
            ["link", "add", "box0", "netns", host, "type", "veth", "peer", "name", "eth0", "netns", box],
            ["-n", host, "addr", "add", "10.78.0.1/24", "dev", "box0"],
            ["-n", host, "link", "set", "box0", "up"],
            ["-n", box, "addr", "add", "10.78.0.2/24", "dev", "eth0"],
            ["-n", box, "link", "set", "eth0", "up"],
            ["-n", box, "link", "set", "lo", "up"],
            ["-n", box, "route", "add", "default", "via", "10.78.0.1"],
        ):
            subprocess.run(["ip", *words], check=True)
        return self

    def __exit__(self, *_: Any) -> None:
        subprocess.run(["ip", "netns", "delete", self._name], check=False)


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_what_is_not_for_us_is_not_taken() -> None:
    for environ in (
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "listen-1-0-4"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(handover.MOST + 1)},
        {},
    ):
        left = dict(environ)
        assert Handover(left).names == []
        assert left == {}


def test_without_a_manager_nothing_is_kept_and_nothing_fails() -> None:
    alone = Handover({})
    assert not alone.keeps
    with socket.create_server(("127.0.0.1", 0)) as sock:
        alone.keep("x", sock)
    alone.drop_all("x")
    alone.tell("READY=1")
    alone.close()


def test_barrier_s_a_manager_that_does_not_answer_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "BARRIER_S", 0.1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf, socket.create_server(("127.0.0.1", 0)) as sock:
        deaf.bind(str(tmp_path / "notify"))
        mute = Handover({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        mute.keep("steering-x", sock)
        mute.drop_all("steering")
        said = [deaf.recv(4096) for _ in range(3)]
    assert [one.partition(b"=")[0] for one in said] == [b"FDSTORE", b"FDSTOREREMOVE", b"BARRIER"]


def test_what_is_no_listener_of_the_port_is_let_go(tmp_path: Path) -> None:
    keeper = Supervisor(tmp_path / "notify")
    port = free_port()
    try:
        ours = Handover({"NOTIFY_SOCKET": str(keeper.path)})
        with socket.create_server(("127.0.0.1", 0)) as other, socket.socket() as idle:
            ours.keep(f"listen-{port}-0-4", other)
            ours.keep(f"listen-{port}-1-4", idle)
            until(lambda: len(keeper.names) == 2)
            ours._given = {f"listen-{port}-0-4": os.dup(other.fileno()), f"listen-{port}-1-4": os.dup(idle.fileno())}
            found = handover.listeners(ours, port, 2)
        assert [[sock.getsockname()[1] for sock in sockets if sock.family == socket.AF_INET] for sockets in found] == [[port], [port]]
        for sock in (sock for sockets in found for sock in sockets):
            sock.close()
    finally:
        keeper.close()
