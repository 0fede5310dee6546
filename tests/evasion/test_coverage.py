"""The coverage ledger end to end: what it says in status, and what becomes of flows that nobody took."""

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.record.read import read
from tests.evasion.host import ECHO, SECRET, Scene, ask, balanced, running, until

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)


@pytest.fixture(scope="module")
def appliance(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running(scene, tmp_path_factory.mktemp("appliance")) as appliance:
        yield appliance


def line(appliance: Appliance, cgroup: str = "acme.service") -> dict[str, int]:
    found: dict[str, int] = ask(appliance, "/status")["coverage"]["ledger"].get(cgroup, {})
    return found


def numbers(appliance: Appliance) -> dict[tuple[int, int], list[int]]:
    """Return the numbers of all flows in the record, of each cgroup of each epoch."""
    found: dict[tuple[int, int], list[int]] = {}
    for frame in read(appliance.home / "state/records"):
        if frame.note.kind == "opened" and frame.flow and frame.flow.sequence:
            found.setdefault((frame.flow.epoch, frame.flow.scope), []).append(frame.flow.sequence)
    return found


MANY = """
import socket, sys
for number in range(20):
    with socket.create_connection((sys.argv[1], 7), 5) as sock:
        sock.sendall(b"x" * 1000 * number + b"!")
        while sock.recv(65536)[-1:] != b"!":
            pass
print("done")
"""


def test_bytes_and_flows_are_those_that_were_sent(scene: Scene, appliance: Appliance) -> None:
    balanced(appliance)
    before = line(appliance)
    assert scene.run(MANY, scene.lab.target_ip) == "done"
    balanced(appliance)
    after = line(appliance)
    assert after["flows"] - before.get("flows", 0) == 20
    assert after["passed"] - before.get("passed", 0) == after["taken"] - before.get("taken", 0) == 20 + 190_000


def test_status_shows_a_line_for_each_cgroup(scene: Scene, appliance: Appliance) -> None:
    scene.hello("other.service")
    scene.hello("acme.service", SECRET)
    balanced(appliance)
    said = appliance.cli("status").stdout
    titles = next(text for text in said.splitlines() if "passed" in text).split()
    figures = next(text for text in said.splitlines() if "other.service" in text).split()
    assert titles == ["flows", "passed", "taken", "untaken", "lost", "direct", "dropped", "-flows", "-bytes"]
    assert figures[1] == "1" and figures[2] == figures[3] == "5" and figures[-2:] == ["0", "0"]
    coverage = appliance.json("status")["coverage"]
    assert coverage["difference"] == {"flows": 0, "bytes": 0}
    assert coverage["ledger"]["other.service"]["passed"] == 5


def test_every_number_is_in_the_record(scene: Scene, appliance: Appliance) -> None:
    balanced(appliance)
    for key, found in numbers(appliance).items():
        assert sorted(found) == list(range(1, len(found) + 1)), key


OOB = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), 5) as sock:
    sock.send(b"!", socket.MSG_OOB)
    sock.sendall(b"hello")
    said = b""
    while len(said) < 6:
        said += sock.recv(10)
    print(said.decode())
"""


def test_urgent_bytes_are_taken_and_passed_on_as_all_others(scene: Scene, appliance: Appliance) -> None:
    assert scene.run(OOB, scene.lab.target_ip) == "!hello"
    balanced(appliance)


LEFT = """
import socket, sys
sock = socket.socket()
sock.connect((sys.argv[1], 7))
sock.sendall(b"nobody")
print(flush=True)
sys.stdin.readline()
"""


def test_flows_that_nobody_took_are_on_record_as_unserved(tmp_path: Path) -> None:
    """They waited in the listen queues of a hub that was killed: a session each, with its number and who it was."""
    with Lab() as lab, nullcontext(Scene(lab)) as scene, running(scene, tmp_path) as appliance:
        assert scene.hello() == "hello"
        balanced(appliance)
        pids = [appliance.hub(), *appliance.workers()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        left = [scene.start(LEFT, lab.target_ip) for _ in range(3)]
        for pid in pids:
            with suppress(ProcessLookupError):  # a worker dies with its hub
                os.kill(pid, signal.SIGKILL)
        assert appliance.process
        appliance.process.wait()
        appliance.start()
        for process in left:
            process.communicate("\n")
        until(lambda: ask(appliance, "/status")["coverage"]["unserved"] >= 3, 40)
        balanced(appliance)
        frames = list(read(appliance.home / "state/records"))
        ids = {frame.id for frame in frames if frame.note.text.startswith("unserved")}
        noted = [frame.flow for frame in frames if frame.id in ids and frame.flow]
        assert {str(flow.server) for flow in noted} == {f"{lab.target_ip}:{ECHO}"}
        assert {flow.process.argv[2] for flow in noted if flow.process} == {LEFT}
        for key, found in numbers(appliance).items():
            assert sorted(set(found)) == list(range(1, max(found) + 1)), key
        assert "unserved" in appliance.cli("show", noted[0].id).stdout
        done = appliance.cli("verify", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
