"""The service in a lab: real fence, steering, hub and workers. What protocols do with it is tests/peer's."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab

pytestmark = pytest.mark.kernel

SERVER = """
import socket, threading
def serve(sock):
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)
listener = socket.create_server(("::", 7), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as sock:
    sock.sendall(b"hello")
    print(sock.recv(100).decode())
"""
RULES = """
identities:
  acme: {{cgroup: acme.service, exe: "/usr/bin/python3*"}}  # more than a cgroup: not for the kernel alone
targets:
  echo: {{address: ["{v4}:7", "[{v6}]:7"]}}
rules:
  - {{id: echo, who: acme, to: echo, do: {do}{inspect}}}
  - {{id: others, to: echo, do: block}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        server = lab.popen([sys.executable, "-c", SERVER], where="target", stdout=subprocess.PIPE)
        assert server.stdout
        server.stdout.readline()
        yield lab


def rules(lab: Lab, do: str = "allow") -> str:
    inspect = ", inspect: false" if do == "allow" else ""
    return RULES.format(v4=lab.target_ip, v6=lab.target_ip6, do=do, inspect=inspect)


@pytest.fixture
def appliance(lab: Lab, tmp_path: Path) -> Iterator[Appliance]:
    with Appliance(lab, tmp_path, {"10-echo.yaml": rules(lab)}) as appliance:
        yield appliance


def say_hello(lab: Lab, host: str | None = None, cgroup: str = "acme.service") -> str:
    words = ["/usr/bin/python3", "-c", CLIENT, host or lab.target_ip, "7"]
    return str(lab.run(words, cgroup=cgroup, capture_output=True, text=True, timeout=30).stdout).strip()


def ask(appliance: Appliance, url: str, method: str = "GET") -> Any:
    connection = http.client.HTTPConnection("vendorgate", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    try:
        connection.sock.connect(str(appliance.home / "run/control.sock"))
        connection.request(method, url)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def until(what: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def pids(appliance: Appliance) -> list[int]:
    """Return the pids of the workers that are ready."""
    workers = ask(appliance, "/status")["workers"]
    return [workers[f"{name}.pid"] for name, state in workers.items() if state == "ready"]


def renewed(appliance: Appliance, before: list[int]) -> bool:
    """True when both workers are ready and none of `before` is among them."""
    now = pids(appliance)
    return len(now) == 2 and not set(now) & set(before)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_flow_is_judged_by_who_opens_it(lab: Lab, appliance: Appliance, family: str) -> None:
    host = lab.target_ip if family == "v4" else lab.target_ip6
    assert say_hello(lab, host) == "hello"
    assert say_hello(lab, host, "other.service") == ""
    newest, first = ask(appliance, "/sessions")
    assert (first["identity"], first["process"]["cgroup"], first["verdicts"]) == ("acme", "acme.service", {"echo": 1})
    assert (newest["process"]["cgroup"], newest["verdicts"]) == ("other.service", {"others": 1})


def test_workers_hold_no_privilege(appliance: Appliance) -> None:
    for pid in pids(appliance):
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == {"65534"}
        assert set(status["Gid"].split()) == {"65534"}
        assert status["Groups"].strip() == ""
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"


def test_workers_cannot_be_read_by_others_of_their_user(appliance: Appliance) -> None:
    pid = pids(appliance)[0]
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", f"/proc/{pid}/environ"]
    assert subprocess.run(words, capture_output=True).returncode != 0


def test_worker_inherits_what_it_is_given_and_no_more(appliance: Appliance) -> None:
    kinds = []
    for fd in Path(f"/proc/{pids(appliance)[0]}/fd").iterdir():
        try:
            kinds.append(os.readlink(fd).split(":")[0].removeprefix("anon_inode"))
        except FileNotFoundError:
            continue
    files = [kind for kind in kinds if kind.startswith("/") and kind != "/dev/null"]
    own = str(appliance.home / "state/begun/worker0.")  # and the segment in it, which the hub has moved
    known = {str(appliance.log), "/memfd"}  # without a name: kernel/cells.py, which all workers share
    assert [file for file in files if file not in known and not file.startswith(own)] == []


def test_workers_have_a_directory_each_and_the_rest_is_roots(lab: Lab, appliance: Appliance) -> None:
    say_hello(lab)
    state = appliance.home / "state"
    assert (state.stat().st_uid, state.stat().st_mode & 0o777) == (0, 0o700)
    records = (state / "records").stat()
    assert (records.st_uid, records.st_gid, records.st_mode & 0o7777) == (0, 0, 0o700)
    assert ((state / "begun").stat().st_uid, (state / "begun").stat().st_mode & 0o7777) == (0, 0o700)
    places = [path.stat() for path in (state / "begun").iterdir()]
    assert {(one.st_uid, one.st_gid, one.st_mode & 0o7777) for one in places} == {(65534, 65534, 0o700)}
    until(lambda: any((state / "records").iterdir()))  # the hub moves them there within a second
    assert {path.stat().st_uid for path in (state / "records").iterdir()} <= {0, 65534}
    assert [(state / name).stat().st_mode & 0o777 for name in ("keys", "proof", "keys/record.key")] == [0o700, 0o700, 0o600]
    assert {path.stat().st_mode & 0o777 for path in (state / "records").iterdir()} == {0o600}
    assert (state / "mask.key").stat().st_mode & 0o777 == 0o600


def test_killed_worker_is_started_again_and_counted(lab: Lab, appliance: Appliance) -> None:
    before = pids(appliance)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: renewed(appliance, before[:1]))
    assert ask(appliance, "/status")["workers"]["worker0.starts"] == 2
    assert all(say_hello(lab) == "hello" for _ in range(6))


def test_stopped_worker_is_killed_and_started_again(lab: Lab, appliance: Appliance) -> None:
    before = pids(appliance)
    os.kill(before[1], signal.SIGSTOP)
    until(lambda: not alive(before[1]), 60)
    until(lambda: renewed(appliance, before[1:]))
    assert say_hello(lab) == "hello"


def test_dead_hub_ends_its_workers(lab: Lab, appliance: Appliance) -> None:
    workers = pids(appliance)
    os.kill(appliance.hub(), signal.SIGKILL)
    until(lambda: not any(map(alive, workers)), 30)
    assert say_hello(lab) == ""
    assert appliance.process
    appliance.process.wait()
    appliance.start()
    assert say_hello(lab) == "hello"


def test_stopped_service_leaves_no_worker_and_no_network(lab: Lab, appliance: Appliance) -> None:
    workers = pids(appliance)
    assert appliance.process
    appliance.process.send_signal(signal.SIGTERM)
    assert appliance.process.wait(60) == 0
    assert not any(map(alive, workers))
    assert say_hello(lab) == ""
    assert not (appliance.home / "run/control.sock").exists() or say_hello(lab) == ""


def test_stop_lets_a_flow_end_by_itself(lab: Lab, appliance: Appliance) -> None:
    slow = CLIENT.replace('sock.sendall(b"hello")', "import time; sock.sendall(b'a'); sock.recv(1); print('open', flush=True); time.sleep(1.5); sock.sendall(b'hello')")
    words = ["/usr/bin/python3", "-c", slow, lab.target_ip, "7"]
    client = lab.popen(words, cgroup="acme.service", stdout=subprocess.PIPE, text=True)
    assert client.stdout
    assert client.stdout.readline() == "open\n"
    appliance.stop()
    assert client.stdout.readline() == "hello\n"


def test_flushed_steering_is_back_and_told(lab: Lab, appliance: Appliance) -> None:
    listing = lab.run(["nft", "list", "table", "inet", "vendorgate"], capture_output=True, text=True).stdout
    owned = "flags owner" in listing  # then no flush takes it (tests/kernel/test_table.py)
    lab.run(["nft", "flush", "ruleset"])
    assert say_hello(lab) in (("hello",) if owned else ("", "hello"))  # dropped, or the table was back already
    until(lambda: say_hello(lab) == "hello")
    assert ask(appliance, "/status")["losses"]["incidents"] == (0 if owned else 1)


def test_fence_taken_away_by_others_is_put_back_and_the_service_ends(lab: Lab, appliance: Appliance) -> None:
    appliance.cli("fence", "down")
    assert appliance.process
    assert appliance.process.wait(60) == 3
    assert appliance.json("fence", "status")["up"]
    assert say_hello(lab) == ""
    assert "the fence was removed by others" in appliance.log.read_text()


@pytest.mark.parametrize("how", ["saved", "SIGHUP", "asked"])
def test_rules_are_taken_up(lab: Lab, appliance: Appliance, how: str) -> None:
    revision = ask(appliance, "/status")["rules_revision"]
    appliance.rule("10-echo.yaml", rules(lab, "block"))
    if how == "SIGHUP":
        os.kill(appliance.hub(), signal.SIGHUP)
    elif how == "asked":
        assert ask(appliance, "/reload", "POST")["revision"] != revision
    until(lambda: ask(appliance, "/status")["rules_revision"] != revision)
    until(lambda: ask(appliance, "/status")["coverage"]["workers_ready"] == 2)
    assert say_hello(lab) == ""


def test_rules_asked_for_are_taken_up_once(lab: Lab, appliance: Appliance) -> None:
    appliance.rule("10-echo.yaml", rules(lab, "block"))
    revision = ask(appliance, "/reload", "POST")["revision"]
    time.sleep(2.5)  # two looks at what was saved
    assert appliance.log.read_text().count(f"rules of revision {revision} are in force") == 1


def test_bad_rules_keep_the_old_and_are_told(lab: Lab, appliance: Appliance) -> None:
    before = ask(appliance, "/status")
    appliance.rule("20-bad.yaml", "rules:\n  - {id: x, dooo: block}\n")
    until(lambda: bool(ask(appliance, "/status")["rules_error"]))
    after = ask(appliance, "/status")
    assert after["rules_revision"] == before["rules_revision"]
    assert "20-bad.yaml:2" in after["rules_error"]
    assert after["rules_error"] in after["problems"][0]
    assert after["ready"] is True
    assert "detail" in ask(appliance, "/reload", "POST")
    assert say_hello(lab) == "hello"
    (appliance.home / "rules.d/20-bad.yaml").unlink()
    until(lambda: ask(appliance, "/status")["rules_error"] == "")


def test_worker_started_later_has_the_rules_in_force(lab: Lab, appliance: Appliance) -> None:
    appliance.rule("10-echo.yaml", rules(lab, "block"))
    assert ask(appliance, "/reload", "POST")
    before = pids(appliance)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: renewed(appliance, before))
    assert say_hello(lab) == ""


def test_connection_to_the_relay_itself_is_refused(lab: Lab, appliance: Appliance) -> None:
    words = ["/usr/bin/python3", "-c", CLIENT, "127.0.0.1", "15001"]
    for cgroup in ("acme.service", None):
        assert lab.run(words, cgroup=cgroup, capture_output=True, text=True, timeout=20).stdout == ""


def start_fails(lab: Lab, home: Path, text: str, **settings: object) -> tuple[int | None, str]:
    appliance = Appliance(lab, home, {"10-echo.yaml": text}, **settings)  # type: ignore[arg-type]
    with appliance.log.open("wb") as log:
        done = lab.run(appliance._words("run"), stdout=log, stderr=log, timeout=60)
    return done.returncode, appliance.log.read_text()


def test_bad_rules_at_the_start_change_nothing(lab: Lab, tmp_path: Path) -> None:
    status, said = start_fails(lab, tmp_path, "rules:\n  - {id: x}\n")
    assert status == 2
    assert "rules.d/10-echo.yaml:2" in said
    assert "Traceback" not in said
    tables = lab.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    assert "vendorgate" not in tables or Path("/sys/fs/bpf").exists()


def test_port_taken_by_others_is_told(lab: Lab, tmp_path: Path) -> None:
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 15009)); print(1, flush=True); time.sleep(60)"
    squatter = lab.popen(["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE)
    assert squatter.stdout
    squatter.stdout.readline()
    status, said = start_fails(lab, tmp_path, rules(lab), relay={"port": 15009, "workers": 1, "user": "nobody"})
    squatter.kill()
    assert status == 3
    assert "listen on 127.0.0.1 port 15009: Address already in use" in said


def test_second_hub_of_one_runtime_dir_is_refused(lab: Lab, appliance: Appliance) -> None:
    done = lab.run(appliance._words("run"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "another vendorgate is running" in done.stderr
    assert say_hello(lab) == "hello"
