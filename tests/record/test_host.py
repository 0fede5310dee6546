"""The record of the whole appliance: real flows, real kills, and what verify says of them afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.record.audit.ledger import GRACE_S
from appliance.record.checkpoint import Checkpoints, Said, entries, files
from appliance.record.standalone import source
from appliance.service.keys import signer

pytestmark = pytest.mark.kernel

SERVER = """
import socket, threading
def serve(sock):
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)
listener = socket.create_server(("0.0.0.0", 7))
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
CLIENT = """
import socket, sys
for _ in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], 7), 10) as sock:
        sock.sendall(b"hello")
        print(sock.recv(100).decode())
"""
RULES = """
identities: {{acme: {{cgroup: acme.service, exe: "/usr/bin/python3*"}}}}
targets: {{echo: {{address: ["{v4}:7"]}}}}
rules:
  - {{id: echo, who: acme, to: echo, do: allow, inspect: false}}
  - {{id: others, to: echo, do: block, keep: 90d}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        server = lab.popen([sys.executable, "-c", SERVER], where="target", stdout=subprocess.PIPE)
        assert server.stdout
        server.stdout.readline()
        yield lab


def appliance(lab: Lab, home: Path, **record: object) -> Appliance:
    return Appliance(lab, home, {"10.yaml": RULES.format(v4=lab.target_ip)}, record={"checkpoint": "1s", "sync": "1s", **record})


def hello(lab: Lab, times: int = 1) -> list[str]:
    words = ["/usr/bin/python3", "-c", CLIENT, lab.target_ip, str(times)]
    return lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=60).stdout.split()


def until(what: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def settled(home: Path) -> None:
    """Have the checkpoints say that some minutes have passed, so that all that was counted is due."""
    chain = Checkpoints(home / "state/proof", signer(home / "state"))
    chain.append(Said(), time.time() + GRACE_S + 60)


def test_the_record_is_whole_over_kills_of_worker_and_hub(lab: Lab, tmp_path: Path) -> None:
    with appliance(lab, tmp_path) as here:
        assert hello(lab, 20) == ["hello"] * 20
        os.kill(here.workers()[0], signal.SIGKILL)
        until(lambda: hello(lab, 5) == ["hello"] * 5)
        proof = tmp_path / "state/proof"
        until(lambda: any(one.entry.seals for path in files(proof) for one in entries(path)))
        assert here.process
        here.process.kill()
        here.process.wait()
        here.start()
        until(lambda: hello(lab, 5) == ["hello"] * 5)
        live = here.json("verify")
        assert live["faults"] == []
        here.stop()
        settled(tmp_path)
        done = here.cli("verify")
        assert done.stdout.splitlines()[-2].startswith("whole: "), done.stdout
        report = here.json("verify")
        assert report["faults"] == []
        assert report["flows"] >= 20, "those that the fence had counted at the last checkpoint are there"
        assert report["sessions"] >= 30


def test_a_changed_byte_is_named_by_the_command_and_by_the_one_file(lab: Lab, tmp_path: Path) -> None:
    with appliance(lab, tmp_path) as here:
        assert hello(lab, 3) == ["hello"] * 3
        here.stop()
        path = max((tmp_path / "state/records").iterdir(), key=lambda path: path.stat().st_size)
        data = bytearray(path.read_bytes())
        data[50] ^= 1
        path.write_bytes(data)
        done = here.cli("verify", check=False)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{path}: byte 0: ")
        assert here.cli("verify", "--standalone", str(tmp_path / "verify.py")).stdout == ""
        assert (tmp_path / "verify.py").read_text() == source()
        command = ["/usr/bin/python3", str(tmp_path / "verify.py"), str(tmp_path / "state"), "--json"]
        alone = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert alone.returncode == 1
        assert json.loads(alone.stdout)["faults"] == here.json("verify")["faults"]


def test_a_session_whose_record_was_never_written_is_missed(lab: Lab, tmp_path: Path) -> None:
    """The counters are the fence's, not the relay's: here the checkpoint says one more than there are sessions."""
    with appliance(lab, tmp_path) as here:
        assert hello(lab, 3) == ["hello"] * 3
        proof = tmp_path / "state/proof"
        until(lambda: any(c.flows == 3 for path in files(proof) for one in entries(path) for c in one.entry.counters))
        here.stop()
        chain = Checkpoints(proof, signer(tmp_path / "state"))
        (counter,) = (c for c in chain.counters.values() if c.flows == 3)
        chain.append(Said(counters=(type(counter)(counter.epoch, counter.scope, counter.name, 4),)), time.time() + 3 * GRACE_S)
        chain.append(Said(), time.time() + 5 * GRACE_S)
        done = here.cli("verify", check=False)
        assert done.returncode == 1
        assert "sessions 4 of acme.service are missing: the fence counted 4" in done.stdout


def test_sync_always_passes_traffic_and_records_it(lab: Lab, tmp_path: Path) -> None:
    with appliance(lab, tmp_path, sync="always") as here:
        assert hello(lab, 20) == ["hello"] * 20
        here.stop()
        assert here.json("verify")["whole"]
        assert len(here.json("sessions")) == 20


def test_a_hold_is_placed_listed_and_released_while_the_hub_runs(lab: Lab, tmp_path: Path) -> None:
    with appliance(lab, tmp_path) as here:
        assert hello(lab) == ["hello"]
        until(lambda: here.json("sessions"))
        (session,) = here.json("sessions")
        here.cli("hold", "last", "--reason", "case 1")
        here.cli("hold", "--identity", "acme")
        assert here.json("hold") == {"sessions": [session["id"]], "identities": ["acme"]}
        assert here.cli("release-hold", "other", check=False).returncode == 1
        assert here.cli("release-hold", check=False).returncode == 2
        here.cli("release-hold", session["id"], "--reason", "closed")
        assert here.json("hold")["sessions"] == []
        assert here.cli("hold").stdout == "identity  acme\n"
        assert hello(lab) == ["hello"]
        here.stop()
        deeds = [deed for path in files(tmp_path / "state/proof") for one in entries(path) for deed in one.entry.deeds]
        assert sorted(deed.kind for deed in deeds) == ["hold", "hold", "release", "start", "stop"]
        ours = [deed for deed in deeds if deed.kind in ("hold", "release")]
        assert {deed.by for deed in ours} == {"root"}
        assert [deed.why for deed in ours] == ["case 1", "", "closed"]
        assert here.json("verify")["whole"]
