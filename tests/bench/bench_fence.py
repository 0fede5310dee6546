"""What the fence costs flows that it does not inspect: direct ones in the slice, and all outside it.

Runs without and with the fence take turns, pair by pair, so that a noisy host is noisy to both; the figure is the median of
the pairs' ratios. Promised: within 3 %.

    none      the same program in the same cgroup, before there is a fence
    direct    in the slice, by a rule without conditions: judged in the kernel
    outside   outside the slice, while the fence is up
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
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
SECONDS = float(os.environ.get("BENCH_SECONDS", "1.0"))  # of one run
SERVER = """
import socket, threading
def take(listener):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=swallow, args=(sock,), daemon=True).start()
def swallow(sock):
    with sock:
        try:
            sock.send(b".")
            buffer = bytearray(1 << 20)
            while sock.recv_into(buffer):
                pass
        except OSError:
            pass
def datagrams():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 7))
    buffer = bytearray(2048)
    while True:
        sock.recv_into(buffer)
listener = socket.create_server(("", 7), backlog=1024)
threading.Thread(target=datagrams, daemon=True).start()
print("listening", flush=True)
take(listener)
"""
CLIENT = """
import json, socket, sys, time
what, host, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
count, end = 0, time.perf_counter() + seconds
began = time.perf_counter()
if what == "connects":
    while time.perf_counter() < end:
        with socket.create_connection((host, 7)) as sock:
            sock.recv(1)
        count += 1
elif what == "bytes":
    data = bytes(1 << 18)
    with socket.create_connection((host, 7)) as sock:
        while time.perf_counter() < end:
            count += sock.send(data)
elif what == "datagrams":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, 7))
        while time.perf_counter() < end:
            for _ in range(100):
                try:
                    sock.send(b"x" * 200)
                except ConnectionRefusedError:
                    pass
            count += 100
print(json.dumps(count / (time.perf_counter() - began)))
"""
UNITS = {"connects": ("connections/s", 1.0), "bytes": ("MB/s", 1e6), "datagrams": ("datagrams/s", 1.0)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        server = lab.popen([sys.executable, "-c", SERVER], where="target", stdout=subprocess.PIPE, text=True)
        assert server.stdout and server.stdout.readline()
        yield lab


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


def once(lab: Lab, what: str, cgroup: str | None) -> float:
    words = ["/usr/bin/python3", "-SEc", CLIENT, what, lab.target_ip, str(SECONDS)]
    done = lab.run(words, cgroup=cgroup, capture_output=True, text=True, timeout=60 + 10 * SECONDS)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout))


@pytest.mark.parametrize("way", ["direct", "outside"])
@pytest.mark.parametrize("what", UNITS)
def test_fence(lab: Lab, what: str, way: str) -> None:
    cgroup = "bench.service" if way == "direct" else None
    lab.cgroup("bench.service")
    inside = Inside(lab.host)
    pairs: list[tuple[float, float]] = []
    try:
        once(lab, what, cgroup)  # to warm up
        for number in range(PAIRS):
            found = {}
            for fence_up in (False, True) if number % 2 else (True, False):
                if fence_up:
                    with fenced(lab, inside):
                        found[fence_up] = once(lab, what, cgroup)
                else:
                    found[fence_up] = once(lab, what, cgroup)
            pairs.append((found[False], found[True]))
    finally:
        inside.close()
    unit, scale = UNITS[what]
    ways = {"no fence": [one / scale for one, _ in pairs], "fence": [other / scale for _, other in pairs]}
    compare(f"fence: {way}, {what}, {PAIRS} pairs of {SECONDS:g} s", unit, ways, "within 3 %")
    print(f"  ratio of the pairs {statistics.median(other / one for one, other in pairs):.3f}")
