"""What passes directly is owed to the ledger by its socket, and is there whenever the ledger is read: no packet more or less."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.kernel import coverage, libbpf, pins
from appliance.kernel.coverage import Traffic
from appliance.kernel.layout import SOCKET
from appliance.lab.hosts import TARGET_IP, TARGET_IP6
from tests.kernel.entry import Entry
from tests.kernel.stage import PORT, PYTHON, Stage

pytestmark = pytest.mark.kernel

HOSTS = [TARGET_IP, TARGET_IP6]
PACKET, MOST, NEVER = 1 << 40, 1 << 60, 1 << 63  # VG_OWED_*
HEADERS = {TARGET_IP: 28, TARGET_IP6: 48}  # bytes, of IP and UDP
OPENED = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
"""
NAMED = OPENED + """
for number in sys.stdin:
    for n in range(int(number)):
        sock.sendto(b"x" * 100, (host, port + n % 2))
    print("sent", flush=True)
"""
CONNECTED = OPENED + """
sock.connect((host, port))
for number in sys.stdin:
    for n in range(int(number)):
        sock.send(b"x" * 100)
    print("sent", flush=True)
"""
STREAM = """
import socket, struct, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends by a reset, and no packet is behind that
for number in sys.stdin:
    for n in range(int(number)):
        sock.send(b"x" * 100)
        sock.recv(100)
    print("sent", flush=True)
"""
ALMOST = """
import socket, sys
from appliance.kernel.libbpf import Map
from appliance.kernel.layout import SOCKET
host, port, fd, owed = sys.argv[1], *map(int, sys.argv[2:])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((host, port))
sock.send(b"x" * 100)
sockets, key = Map(fd), sock.fileno().to_bytes(4, sys.byteorder)
before, *rest = SOCKET.unpack(sockets.lookup(key))
sockets.update(key, SOCKET.pack(owed, *rest))
sock.send(b"x" * 100)
after, *_ = SOCKET.unpack(sockets.lookup(key))
print(before, after)
"""


@pytest.fixture
def direct(stage: Stage) -> Stage:
    stage.lab.cgroup("acme.service")
    entries = [Entry(f"{host}/{64 if ':' in host else 24}", "direct", protocol=n) for host in HOSTS for n in (6, 17)]
    stage.judge.write(entries)
    return stage


def account(stage: Stage) -> Traffic:
    return next((a.direct for a in coverage.read(stage.fence) if a.cgroup == "acme.service"), Traffic())


def less(after: Traffic, before: Traffic) -> tuple[int, int]:
    return after.packets - before.packets, after.bytes - before.bytes


@contextmanager
def sending(stage: Stage, program: str, host: str) -> Iterator["subprocess.Popen[str]"]:
    words, pipe = [PYTHON, "-SEc", program, host, str(PORT)], subprocess.PIPE
    process = stage.lab.popen(words, cgroup="acme.service", stdin=pipe, stdout=pipe, text=True)
    with process:
        yield process


def send(process: "subprocess.Popen[str]", number: int) -> None:
    assert process.stdin and process.stdout
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "sent\n"


@pytest.mark.parametrize("program", [NAMED, CONNECTED], ids=["named", "connected"])
@pytest.mark.parametrize("host", HOSTS)
def test_datagrams_are_in_the_ledger_while_their_socket_is_open_and_when_it_is_closed(
    direct: Stage, host: str, program: str
) -> None:
    before, counted = account(direct), direct.status().counters["pass_datagram"]
    with sending(direct, program, host) as process:
        for number, sum_of_all in ((1, 1), (500, 501), (2, 503)):
            send(process, number)
            assert less(account(direct), before) == (sum_of_all, sum_of_all * (100 + HEADERS[host]))
        send(process, 97)
    assert less(account(direct), before) == (600, 600 * (100 + HEADERS[host]))
    assert direct.status().counters["pass_datagram"] - counted == 600


@pytest.mark.parametrize("host", HOSTS)
def test_a_connection_is_in_the_ledger_packet_for_packet(direct: Stage, host: str) -> None:
    before, counted = account(direct), direct.status().counters["pass_direct"]
    with direct.wire() as wire:
        with sending(direct, STREAM, host) as process:
            send(process, 50)
            while_open = less(account(direct), before)[0]
        found = less(account(direct), before)
    assert found == (len(wire), sum(map(len, wire)))
    assert 50 < while_open < found[0]
    assert direct.status().counters["pass_direct"] - counted == found[0]


def test_rules_that_change_lose_no_packet(direct: Stage) -> None:
    before = account(direct)
    with sending(direct, CONNECTED, TARGET_IP) as process:
        for _ in range(5):
            send(process, 100)
            direct.judge.write([Entry(f"{TARGET_IP}/32", "direct", protocol=17)])
        send(process, 100)
        assert less(account(direct), before) == (600, 600 * 128)
        direct.judge.write([Entry(f"{TARGET_IP}/32", "deny", protocol=17)])
    assert less(account(direct), before) == (600, 600 * 128)


def test_a_socket_owes_at_most_so_much(direct: Stage) -> None:
    """VG_OWED_MOST: from there on the ledger gets it, without being read."""
    instance = pins.directory(direct.place.instance)
    there = pins.current(instance) if instance else None
    assert there
    fd = libbpf.opened(there / "map_sockets")
    before = account(direct)
    for packets, left in ((1 << 20, 0), ((1 << 20) - 1, (1 << 20) * PACKET + 128)):
        words = [sys.executable, "-c", ALMOST, TARGET_IP, str(PORT), str(fd), str(packets * PACKET)]
        done = direct.lab.run(
            words, cgroup="acme.service", pass_fds=[fd], cwd=Path(__file__).parents[2], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"0 {left}\n"
    assert SOCKET.size == 64 and MOST == (1 << 20) * PACKET < NEVER
    found = less(account(direct), before)
    assert found == ((1 << 21) + 3, 4 * 128)
