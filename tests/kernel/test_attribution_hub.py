"""The hub's part of attribution when something goes wrong: lost lineage, lost images, files that do not answer."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.kernel import fence
from appliance.kernel.events import Told
from appliance.kernel.fence import Fence
from appliance.kernel.finder import Finder
from appliance.kernel.layout import EVENT, IMAGE_KEY, PROCESS, Event, Executed, Image
from appliance.kernel.libbpf import Map
from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.service import attribution
from appliance.service.attribution import NOTHING, Attribution
from tests.kernel.programs import PORT, Seen, compiled, copied, wait_for

pytestmark = pytest.mark.kernel

CARRIED = 1024  # VG_CARRIED of bpf/vendorgate.h
RULES = """
identities:
  connects: {exe: "**/storm"}
  handed: {exe: "**/storm-handed"}
targets:
  echo: {address: "TARGET:7"}
  web: {protocol: http, address: "TARGET:8"}
rules:
  - {id: asks, to: web, when: {method: POST}, do: approve, approvers: {group: root}}
  - {id: no-handed, who: handed, to: echo, do: block}
  - {id: passes, who: connects, to: echo, do: allow, inspect: false}
default: allow
"""
SERVER = """
import socket, threading
def serve(sock):
    with sock:
        while sock.recv(65536):
            pass
def listen(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
listeners = [socket.create_server(("0.0.0.0", port)) for port in (7, 8)]
threads = [threading.Thread(target=listen, args=(listener,)) for listener in listeners]
for thread in threads:
    thread.start()
print("listening", flush=True)
"""
KEEPS = r"""
import os, resource, socket, sys
_, host, at, others = sys.argv
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept = socket.create_connection((host, 8))
os.dup2(kept.fileno(), int(at))
decoys = [socket.socket() for _ in range(int(others))]
for decoy in decoys:
    decoy.getsockopt(socket.SOL_SOCKET, 57, 8)  # SO_COOKIE: from now on it has one
    decoy.set_inheritable(True)
said = r"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n"
os.execv("/bin/bash", ["bash", "-c", f"printf '{said}' >&{at}; read -u {at}"])
"""


@pytest.fixture(scope="module")
def storm() -> Iterator[Path]:
    with compiled() as program:
        yield program


@pytest.fixture(scope="module")
def appliance(rights: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with Lab() as lab:
        server = lab.popen([sys.executable, "-c", SERVER], where="target", stdout=subprocess.PIPE)
        assert server.stdout and server.stdout.readline()
        rules = RULES.replace("TARGET", lab.target_ip)
        with Appliance(lab, tmp_path_factory.mktemp("appliance"), {"a.yaml": rules}, workers=1) as appliance:
            yield appliance


@pytest.fixture
def maps(appliance: Appliance) -> Iterator[Fence]:
    with fence.attached(appliance.lab.place()) as maps:
        yield maps


def started(lab: Lab, *words: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return lab.popen([*words], cgroup="acme.service", stdin=pipe, stdout=pipe, text=True)


def test_a_process_without_lineage_is_denied_whatever_the_default(
    appliance: Appliance, maps: Fence, storm: Path
) -> None:
    seen = Seen(appliance)
    agent = started(appliance.lab, str(storm), "later", appliance.lab.target_ip, str(PORT), "word")
    wait_for(lambda: os.readlink(f"/proc/{agent.pid}/exe") == str(storm))
    Map(maps.lineage).delete(agent.pid.to_bytes(4, sys.byteorder))
    agent.communicate("x", timeout=30)
    session = seen.one()
    assert session["process"] is None and session["verdicts"] == {"default": 1}
    shown = appliance.cli("show", session["id"]).stdout
    assert "which process opened it could not be told" in shown
    assert appliance.json("status")["losses"]["unknown_process"] == 1


def test_an_image_that_was_driven_out_is_found_out_again(appliance: Appliance, maps: Fence, storm: Path) -> None:
    seen = Seen(appliance)
    agent = started(appliance.lab, str(storm), "later", appliance.lab.target_ip, str(PORT), "word")
    images, lineage = Map(maps.found), Map(maps.lineage)
    who = lambda: Executed.unpack(lineage.lookup(agent.pid.to_bytes(4, sys.byteorder)) or bytes(PROCESS.size))  # noqa: E731
    wait_for(lambda: who().exe == str(storm) and images.lookup(who().image))
    images.delete(who().image)
    assert agent.stdin
    agent.stdin.write("x")
    agent.stdin.flush()
    assert len(seen.one()["process"]["sha256"]) == 64
    agent.kill()
    agent.communicate()


def test_a_flow_ends_when_its_process_becomes_what_a_rule_speaks_of(
    appliance: Appliance, storm: Path
) -> None:
    other = copied(storm, "storm-handed")
    seen = Seen(appliance)
    agent = started(appliance.lab, str(storm), "keep", appliance.lab.target_ip, str(PORT), "word", str(other))
    assert agent.stdout and agent.stdout.readline().split()[1] == "keep"
    wait_for(lambda: "passes" in (seen.sessions()[0]["verdicts"]))
    assert agent.stdin
    agent.stdin.write("x")
    agent.stdin.flush()
    assert agent.wait(30) == 0  # its socket was closed by us
    shown = appliance.cli("show", seen.one()["id"]).stdout
    assert f"what connected as {storm} is now {other}" in shown
    agent.communicate()


@pytest.mark.parametrize(("at", "others"), [(9, 0), (5000, 0), (9, 2 * CARRIED)], ids=["plain", "far", "among many"])
def test_who_is_asked_sees_what_took_the_place_of_who_connected(appliance: Appliance, at: int, others: int) -> None:
    agent = started(appliance.lab, sys.executable, "-c", KEEPS, appliance.lab.target_ip, str(at), str(others))
    wait_for(lambda: appliance.json("approvals"))
    (question,) = appliance.json("approvals")
    process = question["process"]
    assert (process["argv"][1], process["became"]["argv"][:2]) == ("-c", ["bash", "-c"])
    shown = appliance.cli("approvals").stdout
    assert f"is now     {os.path.realpath('/bin/bash')}: bash -c" in shown
    assert appliance.cli("deny", question["id"]).returncode == 0
    agent.kill()
    agent.communicate()


def told(kind: Event, number: int, exe: str = "/bin/true") -> Told:
    return Told(kind, 0, Executed(1, 2, 1, 0, 0, 0, 0, number, 0, 0, 7, exe, "/", (exe,), ()))


class Slow(Finder):
    """Reads files of a file system that does not answer until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.at: list[str] = []

    def find(self, who: Executed) -> Image:
        self.at.append(who.exe)
        if who.exe == "/broken":
            raise RuntimeError("a fault of ours")
        if who.exe in ("/hangs", "/gone"):
            self.let.wait(30)
        return Image() if who.exe == "/gone" else Image("ab" * 32)


class Desk:
    """An attribution with a finder of the test's, and no ring to read but what the test says."""

    def __init__(self, maps: Fence) -> None:
        self.finder = Slow()
        self.carried: list[int] = []
        self.work = Attribution(maps, self.carried.append, self.finder)
        self.work._loop = asyncio.get_running_loop()
        self.images = Map(maps.found)

    def image(self, number: int) -> Image | None:
        data = self.images.lookup(IMAGE_KEY.pack(number, 7, 0))
        return Image.unpack(data) if data else None

    async def has(self, number: int) -> Image:
        until = time.monotonic() + 20
        while (found := self.image(number)) is None:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        return found


def test_what_cannot_be_read_is_unknown_when_somebody_connects(maps: Fence) -> None:
    async def run() -> None:
        desk = Desk(maps)
        desk.work._begin()
        desk.work._told(told(Event.EXEC, 1, "/broken"))
        desk.work._told(told(Event.CONNECT, 2, "/broken"))
        desk.work._told(told(Event.EXEC, 3))
        assert (await desk.has(3)).sha256 == "ab" * 32
        assert await desk.has(2) == NOTHING
        assert desk.image(1) is None  # what it forked may still be looked at, when it connects
        assert desk.work.lost == 1

    asyncio.run(run())


def test_a_connect_while_it_is_looked_at_is_answered_too(maps: Fence) -> None:
    async def run() -> None:
        desk = Desk(maps)
        desk.work._begin()
        desk.work._told(told(Event.EXEC, 11, "/gone"))
        wait_for(lambda: desk.finder.at)
        desk.work._told(told(Event.CONNECT, 11, "/gone"))
        desk.finder.let.set()
        assert await desk.has(11) == Image()
        assert desk.finder.at == ["/gone"]

    asyncio.run(run())


def test_a_thread_that_hangs_is_given_up_for_another(maps: Fence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "HANGS_S", 0.0)

    async def run() -> None:
        desk = Desk(maps)
        desk.work._begin()
        desk.work._told(told(Event.CONNECT, 21, "/hangs"))
        desk.work._told(told(Event.CONNECT, 22))
        until = time.monotonic() + 20
        while desk.image(21) is None and time.monotonic() < until:
            desk.work.watch()
            await asyncio.sleep(0.02)
        assert desk.image(21) == NOTHING
        monkeypatch.setattr(attribution, "HANGS_S", 60.0)
        await desk.has(22)
        desk.finder.let.set()

    asyncio.run(run())


def test_when_no_thread_is_left_all_is_unknown_at_once(maps: Fence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "MAX_HUNG", 0)
    monkeypatch.setattr(attribution, "HANGS_S", 0.0)

    async def run() -> None:
        desk = Desk(maps)
        desk.work._begin()
        desk.work._told(told(Event.CONNECT, 31, "/hangs"))
        desk.work._told(told(Event.CONNECT, 32))
        until = time.monotonic() + 20
        while desk.image(32) is None and time.monotonic() < until:
            desk.work.watch()
            await asyncio.sleep(0.02)
        desk.work._told(told(Event.CONNECT, 33))
        assert desk.image(31) == desk.image(32) == desk.image(33) == NOTHING
        desk.finder.let.set()

    asyncio.run(run())


def test_the_queue_is_limited_and_what_is_over_is_unknown(maps: Fence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "MAX_QUEUED", 2)

    async def run() -> None:
        desk = Desk(maps)
        desk.work._works.append(attribution.Work())  # one that never comes round
        for number in (41, 42, 43):
            desk.work._told(told(Event.CONNECT, number))
        assert desk.image(43) == NOTHING and desk.image(42) is None and desk.work.lost == 1

    asyncio.run(run())


def test_a_carried_socket_is_told_of(maps: Fence) -> None:
    async def run() -> None:
        desk = Desk(maps)
        desk.work._told(msgspec.structs.replace(told(Event.CARRIED, 51), cookie=99))
        assert desk.carried == [99] and desk.image(51) is None

    asyncio.run(run())


def test_an_event_is_read() -> None:
    whole = PROCESS.pack(5, 42, 1, 0, 0, 5, 8, 99, 7, 6, 3, 2, 42, b"/bin/sh", b"/tmp", b"sh\0x\0", 0, 0, b"")
    front = whole[: EVENT.size - 16]
    made = Told.unpack(EVENT.pack(2, 0, 77, front))
    assert (made.kind, made.cookie, made.who.exe, made.who.cwd, made.who.argv) == (Event.CARRIED, 77, "/bin/sh", "/tmp", ("sh", "x"))
    assert (made.who.changed, made.who.executed, made.who.parents) == (3 * 10**9 + 2, 7, ())
