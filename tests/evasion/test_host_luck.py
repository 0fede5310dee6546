"""The unlucky host: what dies, hangs, fills up or is swapped under a running appliance. Nothing passes meanwhile."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.kernel import cgroups
from appliance.lab.hosts import Lab
from tests.evasion.host import ECHO, HELLO, SECRET, Scene, alive, ask, running, until, workers

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)


def test_rules_that_are_no_file_are_named_and_hang_nothing(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path, workers=1) as appliance:
        rules = appliance.home / "rules.d"
        bad = rules / "20-bad.yaml"
        kinds = {
            "it is not a regular file": lambda: os.mkfifo(bad),
            "not a regular": bad.mkdir,
            "No such file": lambda: bad.symlink_to("/nonexistent"),
            "regular": lambda: bad.symlink_to("/dev/zero"),
            "not UTF-8": lambda: bad.write_bytes(b"\xff\xfe\x00rules"),
            "over 8388608 bytes": lambda: bad.write_bytes(b"#" * (9 << 20)),
        }
        revision = ask(appliance, "/status")["rules_revision"]
        for what, make in kinds.items():
            make()
            until(lambda what=what: what in ask(appliance, "/status")["rules_error"])
            assert ask(appliance, "/status")["rules_revision"] == revision
            bad.rmdir() if bad.is_dir() and not bad.is_symlink() else bad.unlink()
        until(lambda: ask(appliance, "/status")["rules_error"] == "")
        away = rules.rename(appliance.home / "away")
        until(lambda: "cannot be read" in ask(appliance, "/status")["rules_error"])
        away.rename(rules)
        until(lambda: ask(appliance, "/status")["rules_error"] == "")
        assert scene.hello() == "hello"


def test_fifty_reloads_under_connections(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path) as appliance:
        before = workers(appliance)
        for number in range(50):
            appliance.rule("10-echo.yaml", scene.rules() + f"# {number}\n")
            ask(appliance, "/reload", "POST")
            if number % 10 == 0:
                assert scene.hello() == "hello"
                assert scene.hello(port=SECRET) != "hello"
        until(lambda: ask(appliance, "/status")["coverage"]["workers_ready"] == 2)
        assert workers(appliance) == before


KNOCK = """
import socket, sys, time
print(flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    for port in (8, 7):
        with socket.socket() as sock:
            sock.settimeout(0.3)
            try:
                sock.connect((sys.argv[1], port))
                sock.sendall(b"knock")
                sock.recv(10)
            except OSError:
                pass
"""


def test_no_byte_passes_while_all_is_killed_flushed_and_started(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path) as appliance:
        knock = scene.start(KNOCK, scene.lab.target_ip, "100")
        for victims in ("workers", "flush", "stop", "hub", "start"):
            match victims:
                case "workers":
                    for pid in appliance.workers():
                        os.kill(pid, signal.SIGKILL)
                case "flush":
                    scene.lab.run(["nft", "flush", "ruleset"])
                case "stop":  # one that is still starting would not end with its hub, and keep the port
                    until(lambda: ask(appliance, "/status")["coverage"]["workers_ready"] == 2)
                    for pid in (*appliance.workers(), appliance.hub()):
                        os.kill(pid, signal.SIGSTOP)
                case "hub":
                    assert appliance.process
                    appliance.process.kill()
                    appliance.process.wait()
                case "start":
                    appliance.start()
            time.sleep(0.5)
        knock.kill()
        knock.communicate()
        until(lambda: scene.hello() == "hello")
    assert scene.leaked == []


def test_workers_stopped_when_the_hub_dies_give_up_the_port(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path) as appliance:
        old = workers(appliance)
        for pid in old:
            os.kill(pid, signal.SIGSTOP)
        assert appliance.process
        appliance.process.kill()
        appliance.process.wait()
        appliance.start()
        until(lambda: not any(map(alive, old)))
        assert [scene.hello() for _ in range(4)] == ["hello"] * 4


def test_a_hub_that_was_stopped_does_not_blame_its_workers(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path, workers=1) as appliance:
        before = workers(appliance)
        os.kill(appliance.hub(), signal.SIGSTOP)
        time.sleep(10.5)
        os.kill(appliance.hub(), signal.SIGCONT)
        time.sleep(1.5)
        assert workers(appliance) == before


def table(scene: Scene) -> bytes:
    return bytes(scene.lab.run(["nft", "list", "table", "inet", "vendorgate"], capture_output=True).stdout)


def test_a_table_changed_by_others_is_put_back(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path, workers=1) as appliance:
        changes = ("delete chain inet vendorgate guard", "flush chain inet vendorgate steer", "flush ruleset")
        owned = b"flags owner" in table(scene)
        for words in changes:
            done = scene.lab.run(["nft", *words.split()], stderr=subprocess.DEVNULL)
            assert done.returncode == (1 if owned and words != "flush ruleset" else 0)
            until(lambda: b'oifname != "lo" drop' in table(scene))
            assert scene.hello() == "hello"
        assert appliance.log.read_text().count("removed or changed by others") == (0 if owned else 3)


def test_a_table_that_anybody_may_change_is_put_back(scene: Scene, tmp_path: Path) -> None:
    """As where the kernel knows no owners: another holds the name for a moment, and the hub begins anew."""
    with running(scene, tmp_path, workers=1) as appliance:
        if b"flags owner" in table(scene):
            assert appliance.process
            appliance.process.kill()  # nobody owns it now
            appliance.process.wait()
            assert scene.lab.run(["nft", "flush", "ruleset"]).returncode == 0
            assert table(scene) == b"" and scene.hello() != "hello"
            appliance.start()
        assert b'oifname != "lo" drop' in table(scene)
        assert scene.hello() == "hello"


FILL = """
import socket, sys, time
socks = []
for number in range(1600):
    sock = socket.socket()
    sock.setblocking(False)
    try:
        sock.connect((sys.argv[1], 7))
    except OSError:
        pass
    socks.append(sock)
    if number % 100 == 99:
        time.sleep(0.12)
print("full", flush=True)
sys.stdin.readline()
"""
LEFT = """
import socket, sys
with socket.socket() as sock:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", 20500))
    sock.setblocking(False)
    try:
        sock.connect((sys.argv[1], 7))
    except BlockingIOError:
        print("left")
"""
SAME = HELLO.replace("5) as", "5, ('', 20500)) as")


def test_what_a_vendor_left_in_conntrack_catches_nobody_else(scene: Scene, tmp_path: Path) -> None:
    """Its SYN was not answered, its socket is gone: the same port is somebody else's, and so is what it sends."""
    with running(scene, tmp_path) as appliance:
        for pid in appliance.workers():
            os.kill(pid, signal.SIGSTOP)
        fill = scene.start(FILL, scene.lab.target_ip)
        assert scene.run(LEFT, scene.lab.target_ip, cgroup="third.service") == "left"
        words = scene.words(SAME, scene.lab.target_ip, str(ECHO))
        said = scene.lab.run(words, capture_output=True, text=True, timeout=20).stdout.strip()
        for pid in appliance.workers():
            os.kill(pid, signal.SIGCONT)
        assert said in ("hello", "[Errno 111] Connection refused")
        fill.communicate("\n")
        assert scene.hello() == "hello"
        assert "no governed process" not in appliance.log.read_text()


def test_on_failure_open_opens_at_an_orderly_stop_with_a_loud_mark(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path, workers=1, on_failure="open") as appliance:
        assert any("on_failure: open" in text for text in ask(appliance, "/status")["problems"])
        assert appliance.process
        appliance.process.kill()
        appliance.process.wait()
        assert scene.hello("stranger.service") != "hello"
        appliance.start()
        assert scene.hello("stranger.service") != "hello"
        appliance.stop()
        assert scene.hello("stranger.service") == "hello"
        assert "CRITICAL the fence was opened" in appliance.log.read_text()
        assert "governed processes are FREE" in json.dumps(appliance.json("status")["problems"])
        assert "governed processes are FREE" in appliance.cli("show", "last").stdout
        appliance.start()
        assert "was open until this start" in json.dumps(ask(appliance, "/status")["problems"])
        assert scene.hello("stranger.service") != "hello"
        appliance.process.kill()  # not a stop: what closes the lab is `fence down`
        appliance.process.wait()


def test_on_failure_open_opens_at_a_failed_stop_too(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path, workers=1, on_failure="open") as appliance:
        assert scene.hello("stranger.service") != "hello"
        assert appliance.process
        appliance.cli("fence", "down")  # by others: the hub puts it back, and ends for it
        assert appliance.process.wait(30) == 3
        assert scene.hello("stranger.service") == "hello"
        assert "CRITICAL the fence was opened" in appliance.log.read_text()
        assert "governed processes are FREE" in json.dumps(appliance.json("status")["problems"])
        appliance.start()
        assert scene.hello("stranger.service") != "hello"
        appliance.process.kill()
        appliance.process.wait()


def test_workers_have_a_cgroup_of_their_own_and_what_was_left_in_it_ends(scene: Scene, tmp_path: Path) -> None:
    with running(scene, tmp_path, workers=1) as appliance:
        assert any("no cgroup of their own" in text for text in ask(appliance, "/status")["problems"])
    own = scene.lab.cgroup_root / f"{scene.lab.name}-hub"
    cgroups.create(own)
    try:
        with running(scene, tmp_path, workers=1) as appliance:
            appliance.stop()
            cgroups.move(os.getpid(), own)
            try:
                appliance.start()
            finally:
                cgroups.move(os.getpid(), scene.lab.cgroup_root)
            (pid,) = workers(appliance)
            assert Path(f"/proc/{pid}/cgroup").read_text().splitlines()[-1].startswith(f"0::/{own.name}/relay-")
            assert not any("cgroup" in text for text in ask(appliance, "/status")["problems"])
            assert scene.hello() == "hello"
    finally:
        for path in (*own.glob("*/"), own):
            with suppress(OSError):
                path.rmdir()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_ends_flows_and_a_free_one_serves_again(scene: Scene, tmp_path: Path, small_disk: Path) -> None:
    with running(scene, tmp_path, workers=1, state_dir=str(small_disk / "state")) as appliance:
        assert scene.hello() == "hello"
        until(lambda: len(ask(appliance, "/sessions")) == 1)
        with suppress(OSError), (small_disk / "ballast").open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        until(lambda: scene.hello() != "hello")  # the last page of the segment takes a few more
        until(lambda: ask(appliance, "/status")["losses"]["unrecorded"] > 0)
        (small_disk / "ballast").unlink()
        until(lambda: scene.hello() == "hello")
        assert len(ask(appliance, "/sessions")) >= 2


def test_control_socket_of_a_vendor_in_our_place_is_refused(scene: Scene, tmp_path: Path) -> None:
    """A runtime_dir whose socket is somebody else's: a second hub does not start, the first stays in force."""
    with running(scene, tmp_path, workers=1) as appliance:
        done = appliance.cli("run", check=False)
        assert done.returncode == 3
        assert "another vendorgate is running" in done.stderr
        assert scene.hello() == "hello"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(appliance.home / "run/control.sock"))
