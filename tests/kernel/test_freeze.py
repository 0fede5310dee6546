"""A vendor is stopped, by hand or by a rule, stays stopped whatever becomes of us, and goes on when told to."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.kernel import freezer, unit
from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from tests.kernel.programs import PORT, PYTHON, Seen, wait_for

pytestmark = pytest.mark.kernel

RULES = """
identities:
  acme: {cgroup: acme.service}
  python: {exe: "/usr/bin/python3*"}
  nobody: {exe: /usr/bin/nobody}
  templates: {cgroup: "job@*.service"}
targets:
  db: {protocol: postgres, address: "TARGET:7"}
rules:
  - {id: harsh, who: templates, to: db, do: block, on_incident: freeze}
  - {id: watched, who: acme, to: db, when: {effect: read}, do: allow, on_incident: freeze}
"""
TICKS = "import sys, time\nwhile True: print('tick', flush=True); time.sleep(.05)"
RUBBISH = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n" * 20)
while True: time.sleep(1)
"""


@pytest.fixture(scope="module")
def appliance(rights: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with Lab() as lab:
        code = "import socket, time\ns = socket.create_server(('0.0.0.0', 7))\nprint(1, flush=True)\nk = []\nwhile True: k.append(s.accept())"
        server = lab.popen([sys.executable, "-c", code], where="target", stdout=subprocess.PIPE)
        assert server.stdout and server.stdout.readline()
        rules = RULES.replace("TARGET", lab.target_ip)
        with Appliance(lab, tmp_path_factory.mktemp("appliance"), {"a.yaml": rules}) as appliance:
            yield appliance


@pytest.fixture
def lab(appliance: Appliance) -> Iterator[Lab]:
    yield appliance.lab
    for path in freezer.frozen(appliance.lab.slice_path):
        freezer.do("thaw", appliance.lab.slice_path, path)
    freezer.do("kill", appliance.lab.slice_path, "")


class Ticking:
    """A process that says so for as long as it runs."""

    def __init__(self, lab: Lab, cgroup: str) -> None:
        self.process = lab.popen([PYTHON, "-SEc", TICKS], cgroup=cgroup, stdout=subprocess.PIPE, text=True)
        self.ticks = 0
        threading.Thread(target=self._count, daemon=True).start()
        wait_for(lambda: self.ticks)

    def _count(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for _ in lines:
                self.ticks += 1

    def goes_on(self) -> None:
        before = self.ticks
        wait_for(lambda: self.ticks > before + 1)


def is_frozen(lab: Lab, cgroup: str) -> bool:
    return freezer.is_frozen(lab.slice_path / cgroup)


def test_frozen_by_identity_thawed_and_killed(appliance: Appliance, lab: Lab) -> None:
    mine, other = Ticking(lab, "acme.service/worker"), Ticking(lab, "other.service")
    said = appliance.cli("freeze", "acme", "--reason", "ticket 4711").stdout
    assert said.startswith("frozen by root: acme.service, 1 processes (acme: ticket 4711)")
    assert is_frozen(lab, "acme.service") and not is_frozen(lab, "other.service")
    other.goes_on()
    assert appliance.json("status")["frozen"] == ["acme.service"]
    appliance.cli("thaw", "acme")
    mine.goes_on()
    appliance.cli("freeze", "acme")
    appliance.cli("kill", "acme")
    assert mine.process.wait(30) == -9
    other.goes_on()


def test_it_stays_frozen_when_vendorgate_is_killed_and_started_anew(appliance: Appliance, lab: Lab) -> None:
    mine = Ticking(lab, "acme.service")
    appliance.cli("freeze", "acme")
    assert appliance.process
    appliance.process.kill()
    appliance.process.wait()
    assert is_frozen(lab, "acme.service")
    appliance.start()
    assert appliance.json("status")["frozen"] == ["acme.service"]
    appliance.cli("thaw", "acme")
    mine.goes_on()


def test_an_identity_by_program_freezes_where_it_runs(appliance: Appliance, lab: Lab) -> None:
    mine = Ticking(lab, "acme.service")
    said = appliance.cli("freeze", "python").stdout
    assert "acme.service" in said and is_frozen(lab, "acme.service")
    appliance.cli("thaw", "python")
    mine.goes_on()


def test_a_cgroup_by_its_own_name(appliance: Appliance, lab: Lab) -> None:
    Ticking(lab, "job@1.service")
    Ticking(lab, "job@2.service")
    assert "job@1.service, job@2.service, 2 processes" in appliance.cli("freeze", "job@*.service").stdout
    assert is_frozen(lab, "job@1.service") and is_frozen(lab, "job@2.service")


@pytest.mark.parametrize(("words", "status", "text"), [
    (["freeze", "nobody"], 1, "no process runs as `nobody`"),
    (["freeze", "who.service"], 1, "there is no identity and no cgroup `who.service`"),
    (["freeze"], 2, "names nobody"),
    (["freeze", "acme", "--all"], 2, "names nobody, or both"),
])  # fmt: skip
def test_nobody_is_refused(appliance: Appliance, lab: Lab, words: list[str], status: int, text: str) -> None:
    done = appliance.cli(*words, check=False)
    assert done.returncode == status and text in done.stderr
    assert appliance.json("status")["frozen"] == []


def test_the_slice_itself_only_by_all(appliance: Appliance, lab: Lab) -> None:
    mine = Ticking(lab, "")  # a process of the slice itself
    done = appliance.cli("freeze", "python", check=False)
    assert done.returncode == 1 and "--all" in done.stderr and not is_frozen(lab, "")
    mine.goes_on()
    appliance.cli("freeze", "--all")
    assert is_frozen(lab, "") and appliance.json("status")["frozen"] == [lab.slice]
    appliance.cli("thaw", "--all")
    mine.goes_on()


def test_orders_are_in_the_record(appliance: Appliance, lab: Lab) -> None:
    Ticking(lab, "acme.service")
    seen = Seen(appliance)
    appliance.cli("freeze", "acme", "--reason", "ticket 4712")
    shown = appliance.cli("show", seen.one()["id"]).stdout
    assert "by root" in shown and "ticket 4712" in shown and "acme.service" in shown
    wait_for(lambda: appliance.cli("verify", check=False).returncode == 0)  # once a checkpoint speaks of it


def test_a_block_by_a_rule_freezes_the_unit(appliance: Appliance, lab: Lab) -> None:
    seen = Seen(appliance)
    agent = lab.popen([PYTHON, "-SEc", RUBBISH, lab.target_ip, str(PORT)], cgroup="job@3.service/worker")
    wait_for(lambda: is_frozen(lab, "job@3.service"))
    assert agent.poll() is None
    assert appliance.json("status")["frozen"] == ["job@3.service"]
    shown = [appliance.cli("show", session["id"]).stdout for session in seen.sessions(2)]
    assert any("rule harsh freezes job@3.service/worker: blocked" in text for text in shown)
    assert any("frozen by vendorgate: job@3.service" in text for text in shown)
    assert "frozen by vendorgate: job@3.service" in appliance.log.read_text()


def test_a_broken_protocol_freezes_where_a_rule_says_so(appliance: Appliance, lab: Lab) -> None:
    lab.popen([PYTHON, "-SEc", RUBBISH, lab.target_ip, str(PORT)], cgroup="acme.service", stderr=subprocess.DEVNULL)
    wait_for(lambda: is_frozen(lab, "acme.service"))
    wait_for(lambda: "rule watched" in appliance.log.read_text())


def test_incidents_of_others_freeze_nobody(appliance: Appliance, lab: Lab) -> None:
    incidents = appliance.json("status")["losses"]["incidents"]
    seen = Seen(appliance)
    lab.popen([PYTHON, "-SEc", RUBBISH, lab.target_ip, str(PORT)], cgroup="other.service", stderr=subprocess.DEVNULL)
    seen.sessions()
    assert appliance.json("status")["frozen"] == []
    assert appliance.json("status")["losses"]["incidents"] >= incidents


def test_an_attempt_to_get_round_the_fence_freezes_where_a_rule_says_so(appliance: Appliance, lab: Lab) -> None:
    """No honest agent speaks to the relay itself."""
    code = "import socket, time\ntry: socket.create_connection(('127.0.0.1', 15001))\nexcept OSError: pass\ntime.sleep(60)"
    lab.popen([PYTHON, "-SEc", TICKS], cgroup="job@5.service", stdout=subprocess.DEVNULL)
    lab.popen([PYTHON, "-SEc", code], cgroup="job@4.service")
    wait_for(lambda: is_frozen(lab, "job@4.service"))
    wait_for(lambda: "it tried to get round the fence" in appliance.log.read_text())  # told once it is done
    assert not is_frozen(lab, "job@5.service")


def test_without_cgroup_kill_each_is_killed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Ticking(lab, "acme.service")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "cgroup.kill" and exists(path))
    assert freezer.do("kill", lab.slice_path, "acme.service")
    assert mine.process.wait(30) == -9


def test_what_is_slow_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    Ticking(lab, "acme.service")
    monkeypatch.setattr(freezer, "PATIENCE_S", 0.05)
    monkeypatch.setattr(freezer, "is_frozen", lambda path: False)
    assert not freezer.do("freeze", lab.slice_path, "acme.service")


def test_the_unit_is_what_is_below_the_slices() -> None:
    assert unit.whole("acme.service/worker/1") == "acme.service"
    assert unit.whole("a.slice/a-b.slice/acme.service/x") == "a.slice/a-b.slice/acme.service"
    assert unit.whole("plain") == "plain"
