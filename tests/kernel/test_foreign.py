"""Sockets that were opened outside the slice and are used in it: EVASION row 20."""

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.hosts import TARGET_IP, TARGET_IP6
from tests.evasion.field import attacks
from tests.evasion.wire import Wire
from tests.kernel.stage import PORT, PYTHON, Stage, vendor

pytestmark = pytest.mark.kernel


@pytest.fixture
def door(stage: Stage) -> Iterator[tuple[Path, socket.socket]]:
    """A unix socket of somebody outside the slice, who hands sockets to whoever calls."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name, socket.socket(socket.AF_UNIX) as sock:
        Path(name).chmod(0o755)
        sock.bind(f"{name}/door")
        sock.listen()
        sock.settimeout(20)
        yield Path(name) / "door", sock


def take(stage: Stage, door: Path) -> "subprocess.Popen[str]":
    words = [PYTHON, "-SE", str(vendor()), "handed", str(door), str(PORT)]
    pipe = subprocess.PIPE
    return stage.lab.popen(words, cgroup="acme.service", stdout=pipe, stderr=pipe, text=True)  # type: ignore[no-any-return]


def hand(stage: Stage, door: tuple[Path, socket.socket], given: socket.socket, what: str) -> "subprocess.Popen[str]":
    taker = take(stage, door[0])
    with door[1].accept()[0] as caller:
        socket.send_fds(caller, [what.encode()], [given.fileno()])
    return taker


def payloads(wire: list[bytes]) -> int:
    return sum(b"first" in packet or b"second" in packet for packet in wire)


@pytest.mark.parametrize("host", [TARGET_IP, TARGET_IP6])
def test_a_fresh_socket_cannot_be_connected(stage: Stage, door: tuple[Path, socket.socket], host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with stage.wire() as wire, stage.host(socket.socket, family) as given:
        assert hand(stage, door, given, f"connect {host}").communicate()[0] == "errno 1\n"
    assert wire == []
    assert stage.status().counters["refuse_foreign"] > 0


def test_a_datagram_socket_cannot_send_to_anywhere(stage: Stage, door: tuple[Path, socket.socket]) -> None:
    with stage.wire() as wire, stage.host(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as given:
        assert hand(stage, door, given, f"sendto {TARGET_IP}").communicate()[0] == "errno 1\n"
    assert wire == []


def test_who_sends_over_a_connected_one_is_killed(stage: Stage, door: tuple[Path, socket.socket]) -> None:
    """Without LSM programs the first send is made by then; with them there is none."""
    before = stage.status().counters
    with stage.wire() as wire, stage.host(socket.create_connection, (TARGET_IP, PORT)) as given:
        taker = hand(stage, door, given, "send")
        out, _ = taker.communicate()
    after = stage.status()
    if any("first send" in text for text in after.lacking):
        assert taker.returncode == -9 and out == ""
        assert payloads(wire) <= 1 and after.counters["kill_foreign"] == before["kill_foreign"] + 1
    else:
        assert payloads(wire) == 0 and after.counters["refuse_foreign"] > before["refuse_foreign"]


def test_an_inherited_one_is_as_foreign(stage: Stage) -> None:
    with stage.host(socket.create_connection, (TARGET_IP, PORT)) as given:
        code = f"import os, time; os.write({given.fileno()}, b'first'); time.sleep(0.1); os.write({given.fileno()}, b'second')"
        taker = stage.lab.popen([PYTHON, "-SEc", code], cgroup="acme.service", pass_fds=[given.fileno()])
        with stage.wire() as wire:
            assert taker.wait(20) != 0
    assert payloads(wire) <= 1


FRAMES = ["packet", "packet_raw", "packet_other"]
OPTIONS = ["packet_bypass", "packet_raw_bypass", "packet_ring"]


@pytest.fixture(scope="module")
def frames(module_stage: Stage) -> Iterator[Wire]:
    wire = Wire(module_stage.lab)
    yield wire
    wire.close()


def as_root(stage: Stage, case: str) -> "subprocess.CompletedProcess[str]":
    words = [PYTHON, "-SE", str(attacks()), "root", f"{case}@{TARGET_IP}@{PORT}"]
    return stage.lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=60)  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", FRAMES)
def test_root_that_sends_frames_is_killed(stage: Stage, frames: Wire, case: str) -> None:
    """A unit with CAP_NET_RAW is named by `check`; where nothing sees its frames, the first is its last."""
    frames.frames()
    before = stage.status().counters["kill_foreign"]
    done = as_root(stage, case)
    status = stage.status()
    if any("first send" in text for text in status.lacking):
        assert done.returncode == -9 and status.counters["kill_foreign"] == before + 1
        assert len(frames.frames()) <= 1
    else:
        assert done.stdout == "errno 97\n" and frames.frames() == []


@pytest.mark.parametrize("case", OPTIONS)
def test_root_gets_no_way_past_the_queues(stage: Stage, frames: Wire, case: str) -> None:
    """PACKET_QDISC_BYPASS and rings are set up by socket options, which are refused."""
    frames.frames()
    done = as_root(stage, case)
    assert done.returncode == 0 and done.stdout.startswith("errno")
    assert frames.frames() == []


def test_root_gets_no_xdp(stage: Stage) -> None:
    """Such a socket sends nothing before it is given memory, by SOL_XDP, XDP_UMEM_REG (linux/if_xdp.h)."""
    code = (
        "import socket\n"
        "try:\n"
        "    socket.socket(44, socket.SOCK_RAW).setsockopt(283, 4, bytes(32))\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
    )
    done = stage.lab.run([PYTHON, "-SEc", code], cgroup="acme.service", capture_output=True, text=True, timeout=30)
    assert done.stdout in ("1\n", "97\n")  # refused; or the kernel has none, or LSM programs refuse the family


def test_unix_sockets_from_outside_are_how_services_get_their_journal(stage: Stage) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = f"import os; os.write({theirs.fileno()}, b'to the journal')"
        taker = stage.lab.popen([PYTHON, "-SEc", code], cgroup="acme.service", pass_fds=[theirs.fileno()])
        assert taker.wait(20) == 0
        assert ours.recv(100) == b"to the journal"


def test_sockets_of_the_slice_may_go_from_hand_to_hand_in_it(stage: Stage) -> None:
    code = (
        "import os, socket, sys\n"
        f"sock = socket.create_connection(('{TARGET_IP}', {PORT}))\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    open(sys.argv[1] + '/other.service/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "    sock.sendall(b'x'); print(sock.recv(10).decode(), flush=True); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    stage.lab.cgroup("other.service")
    words = [PYTHON, "-SEc", code, str(stage.place.cgroup)]
    done = stage.lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=30)
    assert done.stdout == "relay\n", done.stderr


def test_others_on_the_host_pass_sockets_as_they_like(stage: Stage) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, stage.host(socket.create_connection, (TARGET_IP, PORT)) as given:
        code = f"import os; os.write({given.fileno()}, b'x'); os.write({given.fileno()}, b'y')"
        words = stage.lab.words([PYTHON, "-SEc", code])
        child = subprocess.Popen(words, pass_fds=[given.fileno()])
        assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 0
        child.returncode = 0
