"""What the way through the packet engine's queue costs, beside the same traffic with no queue.

Runs with and without the queue take turns, pair by pair, under the same fence and table, so that a noisy host is noisy to
both; the figures are medians, the ratio that of the pairs. The listener accepts all it is given and looks at nothing: what
reading and judging cost is of each protocol. It is a process of its own, as the engine is; both ends of the wire, the
sender and the listener share the machine's cores.

Promised for TCP: 5 Gbit/s, or 0.6 of the same run with no queue.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.kernel import fence, nft, table
from appliance.kernel.judge import Judge
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.passage import Passage
from appliance.kernel.queues import QUEUE
from appliance.lab.hosts import Lab
from tests.bench.machine import compare
from tests.kernel.entry import Entry
from tests.kernel.stage import RELAY, Inside

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
PAIRS = int(os.environ.get("BENCH_PAIRS", "9"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "1.0"))  # of one run
ENGINE = """
import resource, select, sys
from appliance.kernel.queues import Queues
queue, mark = Queues.open(), int(sys.argv[1])
print("ready", flush=True)
poll = select.poll()
poll.register(queue.fileno(), select.POLLIN)
poll.register(0, select.POLLIN)
packets = 0
while True:
    ready = dict(poll.poll())
    while found := queue.read():
        packets += len(found)
        for packet in found:
            queue.verdict(packet.id, True, mark)
        queue.flush()
    if 0 in ready:
        break
used = resource.getrusage(resource.RUSAGE_SELF)
print(packets, used.ru_utime + used.ru_stime, queue.losses.total, flush=True)
"""
SERVER = """
import socket, threading
def swallow(sock):
    with sock:
        buffer = bytearray(1 << 20)
        while sock.recv_into(buffer):
            pass
def datagrams():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
    sock.bind(("", 7))
    while True:
        data, peer = sock.recvfrom(2048)
        sock.sendto(data, peer)
listener = socket.create_server(("", 7), backlog=128)
threading.Thread(target=datagrams, daemon=True).start()
print("listening", flush=True)
while True:
    threading.Thread(target=swallow, args=(listener.accept()[0],), daemon=True).start()
"""
CLIENT = """
import json, socket, sys, time
what, host, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
count, spent = 0, []
began = time.perf_counter()
end = began + seconds
if what == "stream":
    data = bytes(1 << 18)
    with socket.create_connection((host, 7)) as sock:
        while time.perf_counter() < end:
            count += sock.send(data)
else:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, 7))
        sock.settimeout(10)
        ahead = 64 if what == "datagrams" else 1
        for _ in range(ahead):
            sock.send(b"x" * 200)
        while time.perf_counter() < end:
            sent = time.perf_counter()
            sock.send(b"x" * 200)
            sock.recv(2048)
            spent.append(time.perf_counter() - sent)
            count += 1
rate = count / (time.perf_counter() - began)
spent.sort()
print(json.dumps([rate, spent[len(spent) // 2] * 1e6 if spent else 0.0]))
"""
PROMISES = {"stream": "5 Gbit/s, or 0.6"}
UNITS = {"stream": ("Gbit/s", 8e-9), "datagrams": ("round trips/s, 64 ahead", 1.0), "turns": ("round trips/s, one at a time", 1.0)}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        server = lab.popen([sys.executable, "-c", SERVER], where="target", stdout=subprocess.PIPE, text=True)
        assert server.stdout and server.stdout.readline()
        lab.cgroup("bench.service")
        yield lab


@contextmanager
def fenced(lab: Lab) -> Iterator[tuple[Judge, Passage]]:
    """The fence and the whole table are in force, whichever way the traffic goes."""
    inside = Inside(lab.host)
    held = inside(fence.up, lab.place())
    try:
        inside(table.apply, nft.ruleset, RELAY, STEER_MARK, QUEUE)
        yield Judge(held), Passage(held)
    finally:
        inside(nft.apply, nft.removal())
        held.close()
        fence.down(lab.place())
        inside.close()


def direct(lab: Lab, judge: Judge, what: str) -> tuple[float, float]:
    host = f"{lab.target_ip}/32"
    judge.write([Entry(host, "direct", "bench.service"), Entry(host, "direct", "bench.service", protocol=17)])
    return once(lab, what)


def queued(lab: Lab, judge: Judge, passage: Passage, what: str) -> tuple[float, float, float]:
    """Return the rate, the median time of a turn and the listener's CPU a packet, in us."""
    judge.write([Entry(f"{lab.target_ip}/32", "queue", "bench.service")])
    words, pipe = [sys.executable, "-c", ENGINE, str(passage.open())], subprocess.PIPE
    engine = lab.popen(words, stdin=pipe, stdout=pipe, text=True, cwd=os.getcwd())
    assert engine.stdout and engine.stdout.readline() == "ready\n"
    try:
        rate, turn = once(lab, what)
    finally:
        passage.shut()
        said, _ = engine.communicate("\n")
    packets, cpu, lost = said.split()
    assert int(lost) == 0
    return rate, turn, float(cpu) / max(1, int(packets)) * 1e6


def once(lab: Lab, what: str) -> tuple[float, float]:
    words = ["/usr/bin/python3", "-SEc", CLIENT, what, lab.target_ip, str(SECONDS)]
    done = lab.run(words, cgroup="bench.service", capture_output=True, text=True, timeout=60 + 10 * SECONDS)
    assert done.returncode == 0, done.stderr
    rate, turn = json.loads(done.stdout)
    return float(rate), float(turn)


@pytest.mark.parametrize("what", UNITS)
def test_queue(lab: Lab, what: str) -> None:
    pairs: list[tuple[tuple[float, float], tuple[float, float, float]]] = []
    with fenced(lab) as (judge, passage):
        direct(lab, judge, what)  # to warm up
        for number in range(PAIRS):
            if number % 2:
                with_queue = queued(lab, judge, passage, what)
                pairs.append((direct(lab, judge, what), with_queue))
            else:
                without = direct(lab, judge, what)
                pairs.append((without, queued(lab, judge, passage, what)))
    unit, scale = UNITS[what]
    ways = {"no queue": [one[0] * scale for one, _ in pairs], "queue": [other[0] * scale for _, other in pairs]}
    costs = {"queue": [{"engine": other[2]} for _, other in pairs]}  # a packet, whatever the figure counts
    compare(f"queue: {what}, {PAIRS} pairs of {SECONDS:g} s", unit, ways, PROMISES.get(what, "none stated"), costs)
    print(f"  ratio of the pairs {statistics.median(other[0] / one[0] for one, other in pairs):.3f}")
    if what == "turns":
        ways = {"no queue": [one[1] for one, _ in pairs], "queue": [other[1] for _, other in pairs]}
        compare("queue: one turn", "us", ways, "none stated")
