"""Rows 20 to 35 of the table of ways round: sockets and bytes by way of others, options of a socket, ports.

Zero bytes come over the wire; the errno is a courtesy.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.kernel import cgroups
from appliance.lab.hosts import HOST_IP, TARGET_IP
from tests.evasion.field import BOTH, NOBODY, USERNS, V4, Field, arrive, stay
from tests.evasion.host import ECHO, SECRET
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel
RELAY = 15001
REFUSED = "errno"


@pytest.fixture(scope="module")
def outside(ground: Field) -> Iterator[Inside]:
    """A thread of this process, which is not governed, on the host's side."""
    inside = Inside(ground.lab.host)
    yield inside
    inside.close()


@contextmanager
def victim(ground: Field) -> Iterator[tuple[int, int]]:
    """A process outside the slice, of another user, with a connection to the target: its pid and the descriptor."""
    code = f"import socket, sys; s = socket.create_connection(('{TARGET_IP}', {ECHO})); print(s.fileno(), flush=True); sys.stdin.readline()"
    words = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", "/usr/bin/python3", "-SEc", code]
    process = ground.lab.popen(words, stdin=-1, stdout=-1, text=True)
    assert process.stdout
    yield process.pid, int(process.stdout.readline())
    process.communicate("\n")


def test_row_21_descriptors_and_memory_of_a_process_outside(ground: Field) -> None:
    with victim(ground) as (pid, fd):
        stay(ground, [f"{case}" for case in ("take_descriptor", "trace", "write_memory")], (str(pid),), (NOBODY, USERNS), port=fd)


def test_row_22_leaving_the_slice(ground: Field) -> None:
    """Also into a cgroup of the vendor's own outside it: the kernel asks for rights to what is above both."""
    other = ground.lab.cgroup_root / f"{ground.lab.name}-left"
    cgroups.create(other)
    try:
        os.chown(other / "cgroup.procs", 65534, 65534)
        stay(ground, ("leave",), (str(ground.lab.cgroup_root), str(other)), (NOBODY, USERNS))
    finally:
        other.rmdir()


def test_row_23_a_socket_from_inside_used_outside(ground: Field) -> None:
    """Moved out by root: what was opened inside stays governed."""
    left = ground.start(f"later@{TARGET_IP}@{SECRET}")
    assert left.stdout and left.stdout.readline() == "ready\n"
    cgroups.move(left.pid, ground.lab.cgroup_root)
    ground.leaked()
    assert left.communicate("\n")[0].startswith(REFUSED)
    assert ground.leaked() == []


def test_row_24_a_network_of_ones_own(ground: Field) -> None:
    stay(ground, ("own_network",))
    stay(ground, ("slirp",), V4, says="b'errno")


MARKS = ("marked_0", "marked_7", "marked_steer", "marked_after")


def test_row_28_marks(ground: Field) -> None:
    stay(ground, MARKS)


def test_row_29_marks_of_one_message(ground: Field) -> None:
    arrive(ground, ("message_0", "message_datagram"), BOTH)
    stay(ground, ("message_0", "message_7", "message_datagram"))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", HOST_IP, "::1", "::"])
def test_row_30_the_relays_port(ground: Field, host: str) -> None:
    stay(ground, ("reuse_port",), (host,), port=RELAY)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_row_30_the_relays_port_given_by_the_kernel(ground: Field, host: str) -> None:
    """A range of one port: no hook of bind is asked when the kernel chooses. Nobody's connection comes to it."""
    thief = ground.start(f"port_range@{host}@{RELAY}")
    assert thief.stdout
    said = thief.stdout.readline()
    for cgroup in ("acme.service", "other.service"):
        ground.scene.hello(cgroup)
    assert "took" not in said + thief.communicate()[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "10.77.0.1", "fd77::1"])
def test_row_31_straight_to_the_relay(ground: Field, host: str) -> None:
    stay(ground, ("tcp",), (host,), port=RELAY, says="errno|silence")


@contextmanager
def forwarder(outside: Inside, host: str) -> Iterator[int]:
    """A proxy of this host, outside the slice, that sends to the target what it is sent."""
    door: socket.socket = outside(create, host)
    thread = threading.Thread(target=forward, args=(door, outside), daemon=True)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        door.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        door.close()


def create(host: str) -> socket.socket:
    return socket.create_server((host, 0), family=family_of(host))


def family_of(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def forward(door: socket.socket, outside: Inside) -> None:
    while True:
        try:
            sock, _ = door.accept()
        except OSError:  # shut: the test is over
            return
        with sock:
            sock.settimeout(2)
            try:
                said = sock.recv(1000)
            except OSError:
                continue
            if said:
                outside(send_on, said)


def send_on(said: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(said, (TARGET_IP, SECRET))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", HOST_IP])
def test_row_32_a_proxy_on_this_host(ground: Field, outside: Inside, host: str) -> None:
    with forwarder(outside, host) as port:
        arrive(ground, ("tcp",), (host,), port)
        stay(ground, ("tcp",), (host,), port=port)


UNIT = Path(__file__).parents[2] / "systemd/vendor-agent.conf"


def test_row_34_vsock(ground: Field) -> None:
    """No hook of a cgroup is asked about these families: the unit of the vendor forbids them."""
    assert "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n" in UNIT.read_text()
    stay(ground, ("vsock",), V4, (NOBODY, USERNS))


def test_row_35_netlink(ground: Field) -> None:
    """What a vendor without rights says to the kernel changes nothing of the way."""
    assert "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n" in UNIT.read_text()
    stay(ground, ("netlink",), V4, (NOBODY, USERNS))
