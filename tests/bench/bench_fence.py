"""What the fence costs flows that it does not inspect: direct ones in the slice, and all outside it.

One client lives through the whole run, on a processor of its own where there are two, the server on the other. It works in
short windows, in the slice and outside it by turns; rounds of windows are moments apart, so that a noisy host is noisy to all
of one. A window's figure is the ninth decile of its batches, of half a millisecond each: those that nobody else on the host
ran into. What is said of a row is the median over the rounds. Promised: within 3 %.

    no fence    the same program in the same cgroup, without a fence
    bare hooks  the fence's hooks where the fence has them, with programs that do nothing (bare.bpf.c): what no fence by these
                hooks can be below
    fence       direct: in the slice, by a rule without conditions, judged in the kernel; outside: while the fence is up

    connects   open, one byte from the server, which closes first: its ports are many, the client's are not used up
    bytes      256 KiB a send()
    trips      one byte there and one back, over a connection
    asks       a datagram of 60 bytes there and back, as of a name server
    datagrams  of 200 bytes, as many as can be sent, over a connected socket; `named`: over one that is not
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest

from appliance.kernel import fence, load
from appliance.kernel.judge import Judge
from appliance.kernel.libbpf import Object
from appliance.lab.hosts import Lab
from tests.bench.machine import compare
from tests.kernel.entry import Entry
from tests.kernel.stage import Inside

pytestmark = [pytest.mark.kernel, pytest.mark.slow]
ROUNDS = int(os.environ.get("BENCH_PAIRS", "31"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.1"))  # of one window
PASSED = ("fence", "closed", "handed")  # objects whose hooks flows pass
BARE = Path(__file__).with_name("bare.bpf.c")
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
def udp(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", port))
    return sock
def answer(sock):
    while True:
        sock.sendto(*sock.recvfrom(2048))
threading.Thread(target=answer, args=(udp(7),), daemon=True).start()
sink, buffer = udp(9), bytearray(2048)
print("listening", flush=True)
while True:
    sink.recv_into(buffer)
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
    for _ in range(8):
        sock.sendall(DATA)
    return 8
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
def asks(sock):
    for _ in range(25):
        sock.send(QUESTION)
        sock.recv(100)
    return 25
DATA, SMALL, QUESTION = bytes(1 << 18), b"x" * 200, b"?" * 60
def udp(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if port:
        sock.connect((host, port))
    return sock
WORK = {"connects": (lambda: open(os.devnull), connects), "bytes": (lambda: tcp(8), bytes_), "trips": (lambda: tcp(7), trips),
        "asks": (lambda: udp(7), asks), "datagrams": (lambda: udp(9), datagrams), "named": (lambda: udp(0), named)}
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
    "connects": ("connections/s", 1.0), "bytes": ("MB/s", 1e6 / (1 << 18)), "trips": ("round trips/s", 1.0), "asks": ("answers/s", 1.0),
    "datagrams": ("datagrams/s", 1.0), "named": ("datagrams/s", 1.0),
}  # fmt: skip
PLACES = ("direct", "outside")
Ask = Callable[[str, str], float]  # what, place -> rate
Found = dict[tuple[str, str], dict[str, list[float]]]  # what and place -> way -> rate of each round


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

    def once(what: str, place: str) -> float:
        assert client.stdin and client.stdout
        client.stdin.write(json.dumps([what, str(places[place]), SECONDS]) + "\n")
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


@contextmanager
def hooked(lab: Lab, bare: Path) -> Iterator[None]:
    """The hooks alone, but for those that the fence attaches when it needs them."""
    with ExitStack() as stack:
        loaded = stack.enter_context(Object(bare))
        for part in (part for part in load.PARTS if part.name in PASSED):
            for programs, path in ((part.slice, lab.slice_path), (part.root, lab.cgroup_root)):
                cgroup = stack.enter_context(load.descriptor(path))
                for name in programs.keys() - part.later:
                    stack.callback(loaded.attach_cgroup(name, cgroup).close)
        stack.callback(loaded.attach("vg_foreign").close)
        yield


@pytest.fixture(scope="module")
def found(lab: Lab, ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Found:
    inside, bare = Inside(lab.host), tmp_path_factory.mktemp("bench") / "bare.bpf.o"
    words = f"clang -O2 -g -target bpf -I {load.object_directory()} -c {BARE} -o {bare}"
    subprocess.run(words.split(), check=True)
    ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "no fence": nullcontext, "bare hooks": lambda: hooked(lab, bare), "fence": lambda: fenced(lab, inside),
    }  # fmt: skip
    found: Found = {(what, place): {way: [] for way in ways} for what in UNITS for place in PLACES}
    try:
        for number in range(ROUNDS):
            for way in (list(ways), list(ways)[::-1])[number % 2]:
                with ways[way]():
                    ask("datagrams", "outside")  # to warm up
                    for what, place in found:
                        found[what, place][way].append(ask(what, place) / UNITS[what][1])
    finally:
        inside.close()
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", UNITS)
def test_fence(found: Found, what: str, place: str) -> None:
    unit, scale = UNITS[what]
    ways = found[what, place]
    compare(f"fence: {place}, {what}, {ROUNDS} rounds of {SECONDS:g} s", unit, ways, "within 3 %")
    for way in ("bare hooks", "fence"):
        pairs = list(zip(ways["no fence"], ways[way], strict=True))
        ratio = statistics.median(after / before for before, after in pairs)
        added = statistics.median(1e9 / (after * scale) - 1e9 / (before * scale) for before, after in pairs)
        print(f"  {way:<11} ratio of the rounds {ratio:.3f}, {added:+.0f} ns each")
