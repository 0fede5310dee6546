"""What the fence costs flows that it does not inspect: direct ones in the slice, and all outside it.

One client lives through the whole run, on a processor of its own where there are two, the server on the other. It works in
short windows, in the slice and outside it by turns, with the fence and without; pairs of windows are moments apart, so that
a noisy host is noisy to both. A window's figure is the ninth decile of its batches, of half a millisecond each: those that
nobody else on the host ran into. A row's ratio is the median of the pairs' ratios. Promised: within 3 %.

    no fence  the same program in the same cgroup, before there is a fence
    direct    in the slice, by a rule without conditions: judged in the kernel
    outside   outside the slice, while the fence is up

    connects   open, one byte from the server, which closes first: its ports are many, the client's are not used up
    bytes      256 KiB a send()
    datagrams  of 200 bytes over a connected socket; `named`: over one that is not
    trips      one byte there and one back, over a connection
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from appliance.kernel import fence
from appliance.kernel.judge import Judge
from appliance.lab.hosts import Lab
from tests.bench.machine import compare
from tests.kernel.entry import Entry
from tests.kernel.stage import Inside

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
PAIRS = int(os.environ.get("BENCH_PAIRS", "15"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.25"))  # of one window
SERVER = """
import os, socket, sys, threading
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
def served(port, serve):
    listener = socket.create_server(("", port), backlog=1024)
    def take():
        while True:
            sock, _ = listener.accept()
            serve(sock)
    threading.Thread(target=take, daemon=True).start()
def greet(sock):
    with sock:
        sock.send(b".")
def swallow(sock):
    buffer = bytearray(1 << 20)
    with sock:
        while sock.recv_into(buffer):
            pass
def echo(sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with sock:
        while data := sock.recv(16):
            sock.send(data)
served(7, echo)
served(8, swallow)
served(9, greet)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 9))
buffer = bytearray(2048)
print("listening", flush=True)
while True:
    sock.recv_into(buffer)
"""
CLIENT = """
import json, os, socket, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
host = sys.argv[1]
def tcp(port):
    sock = socket.create_connection((host, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
def connects(_):
    for _ in range(8):
        with socket.create_connection((host, 9)) as sock:
            while sock.recv(16):
                pass
    return 8
def bytes_(sock):
    return sum(sock.send(DATA) for _ in range(8))
def datagrams(sock):
    for _ in range(100):
        sock.send(SMALL)
    return 100
def named(sock):
    for _ in range(100):
        sock.sendto(SMALL, (host, 9))
    return 100
def trips(sock):
    for _ in range(25):
        sock.send(b".")
        sock.recv(16)
    return 25
DATA, SMALL = bytes(1 << 18), b"x" * 200
def udp(connected):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if connected:
        sock.connect((host, 9))
    return sock
WORK = {"connects": (lambda: open(os.devnull), connects), "bytes": (lambda: tcp(8), bytes_), "trips": (lambda: tcp(7), trips),
        "datagrams": (lambda: udp(True), datagrams), "named": (lambda: udp(False), named)}
for line in sys.stdin:
    what, cgroup, seconds = json.loads(line)
    with open(cgroup + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    make, work = WORK[what]
    rates, end = [], time.perf_counter() + seconds
    with make() as sock:
        while (began := time.perf_counter()) < end or not rates:
            done = work(sock)
            rates.append(done / (time.perf_counter() - began))
    print(json.dumps(sorted(rates)[len(rates) * 9 // 10]), flush=True)
"""
UNITS = {
    "connects": ("connections/s", 1.0), "bytes": ("MB/s", 1e6), "datagrams": ("datagrams/s", 1.0),
    "named": ("datagrams/s", 1.0), "trips": ("round trips/s", 1.0),
}  # fmt: skip
Ask = Callable[[str, str], float]  # what, way -> rate


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        server = lab.popen([sys.executable, "-c", SERVER], where="target", stdout=subprocess.PIPE, text=True)
        assert server.stdout and server.stdout.readline()
        yield lab


@pytest.fixture(scope="module")
def ask(lab: Lab) -> Iterator[Ask]:
    """The client: does one kind of work for one window, and says at which rate."""
    outside = lab.cgroup_root / f"{lab.name}-outside"
    outside.mkdir()
    places = {"direct": lab.cgroup("bench.service"), "outside": outside}
    words, pipe = ["/usr/bin/python3", "-SEc", CLIENT, lab.target_ip], subprocess.PIPE
    client = lab.popen(words, stdin=pipe, stdout=pipe, text=True)

    def once(what: str, way: str) -> float:
        assert client.stdin and client.stdout
        client.stdin.write(json.dumps([what, str(places[way]), SECONDS]) + "\n")
        client.stdin.flush()
        return float(json.loads(client.stdout.readline()))

    try:
        yield once
    finally:
        client.communicate()
        outside.rmdir()


@contextmanager
def fenced(lab: Lab, inside: Inside) -> Iterator[None]:
    held = inside(fence.up, lab.place())
    try:
        host = f"{lab.target_ip}/32"
        Judge(held).write([Entry(host, "direct", "bench.service"), Entry(host, "direct", "bench.service", protocol=17)])
        yield
    finally:
        held.close()
        fence.down(lab.place())


@pytest.mark.parametrize("what", UNITS)
def test_fence(lab: Lab, ask: Ask, what: str) -> None:
    inside = Inside(lab.host)
    unit, scale = UNITS[what]
    found: dict[tuple[str, bool], list[float]] = {(way, up): [] for way in ("direct", "outside") for up in (False, True)}

    def each(up: bool) -> None:
        for way in ("direct", "outside"):
            found[way, up].append(ask(what, way) / scale)

    try:
        ask(what, "outside")  # to warm up
        for number in range(PAIRS):
            for up in (False, True) if number % 2 else (True, False):
                if up:
                    with fenced(lab, inside):
                        each(up)
                else:
                    each(up)
    finally:
        inside.close()
    for way in ("direct", "outside"):
        ways = {"no fence": found[way, False], "fence": found[way, True]}
        compare(f"fence: {way}, {what}, {PAIRS} pairs of {SECONDS:g} s", unit, ways, "within 3 %")
        ratio = statistics.median(after / before for before, after in zip(*ways.values(), strict=True))
        print(f"  ratio of the pairs {ratio:.3f}")
