"""What does bulk cost: COPY both ways, a gigabyte nobody has to look into, in rows and unread; is a first row delayed?"""

import os
import subprocess
import sys
import time

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import postgres_bin
from tests.bench.bench_rows import ROWS
from tests.bench.bench_scale import reloaded
from tests.bench.machine import report
from tests.bench.meter import paired

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
MIB = int(os.environ.get("BENCH_MIB", "1024"))
PROMISE = "40 MB/s with nothing to mask"
OUT = {
    "COPY of 200,000 rows, nothing to mask": ("copy cells (id, a, b, c) to stdout", ROWS, PROMISE),
    "COPY of 200,000 rows, one column masked": ("copy cells (id, a, b, secret) to stdout", ROWS, "3 us a cell"),
    f"{MIB} MiB in rows nobody looks into": (f"select repeat('x', 1048572) from generate_series(1, {MIB})", MIB, PROMISE),
}
FIRST = "copy (select n, repeat('x', 9000) from generate_series(1, 20000) n) to stdout"  # a row fills the server's buffer
PORT = 7005
UNREAD = """
identities: {{python: {{cgroup: acme.service, exe: "/usr/bin/python3*"}}}}
targets: {{far: {{address: ["{address}"]}}}}
rules:
  - {{id: bulk, who: python, to: far, do: allow, inspect: false}}
"""
# A server that says or hears so many MiB, as its client asks with one letter, and the client.
SERVER = """
import socket, sys
listener, mib, block = socket.create_server((sys.argv[1], int(sys.argv[2]))), int(sys.argv[3]), bytearray(1 << 18)
print("open", flush=True)
while True:
    sock, _ = listener.accept()
    with sock:
        if sock.recv(1) == b"d":
            for _ in range(4 * mib):
                sock.sendall(block)
        else:
            left = mib << 20
            while left:
                left -= sock.recv_into(block)
            sock.sendall(b"k")
"""
CLIENT = """
import socket, sys
sock, mib, block = socket.create_connection((sys.argv[1], int(sys.argv[2]))), int(sys.argv[3]), bytearray(1 << 18)
sock.sendall(sys.argv[4].encode())
if sys.argv[4] == "d":
    left = mib << 20
    while left:
        left -= sock.recv_into(block)
else:
    for _ in range(4 * mib):
        sock.sendall(block)
    assert sock.recv(1) == b"k"
"""


def words(lab: Lab, statement: str) -> list[str]:
    address = f"host={lab.target_ip} dbname=shop user=acme password=secret"
    return [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", address, "-c", statement]


def seconds(lab: Lab, cgroup: str | None, command: list[str], given: bytes | None = None) -> float:
    began = time.perf_counter()
    done = lab.run(command, cgroup=cgroup, input=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began


@pytest.mark.parametrize("what", OUT)
def test_out(bench: tuple[Lab, Appliance], what: str) -> None:
    statement, units, promise = OUT[what]

    def work(cgroup: str | None) -> tuple[float, float]:
        return seconds(bench[0], cgroup, words(bench[0], statement)), units

    paired(what, "s", bench, work, promise, RUNS)


def test_in(bench: tuple[Lab, Appliance]) -> None:
    rows = b"".join(b"%d\t%032x\t%032x\t%032x\n" % (n, n * 7, n * 11, n * 13) for n in range(ROWS))

    def work(cgroup: str | None) -> tuple[float, float]:
        return seconds(bench[0], cgroup, words(bench[0], "copy sink from stdin"), rows), ROWS

    paired("COPY of 200,000 rows to the server", "s", bench, work, PROMISE, RUNS)


def test_first_row(bench: tuple[Lab, Appliance]) -> None:
    """Of 180 MB with a masked column beside it the first row is there as soon as the server says it."""
    lab, _ = bench
    found: dict[str | None, list[float]] = {None: [], "acme.service": []}
    for _ in range(RUNS):
        for cgroup, each in found.items():
            began = time.perf_counter()
            with lab.popen(words(lab, FIRST), cgroup=cgroup, stdout=subprocess.PIPE) as process:
                assert process.stdout
                assert process.stdout.read(1) == b"1"
                each.append((time.perf_counter() - began) * 1000)
                process.kill()
    report("from the start of psql to the first of 20,000 rows", "ms", found[None], found["acme.service"], "not delayed")


@pytest.mark.parametrize("way", ["down", "up"])
def test_unread(bench: tuple[Lab, Appliance], way: str) -> None:
    lab, appliance = bench
    place = [lab.target_ip, str(PORT), str(MIB)]
    reloaded(appliance, "60-unread.yaml", UNREAD.format(address=f"{lab.target_ip}:{PORT}"))
    with lab.popen([sys.executable, "-c", SERVER, *place], where="target", stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == b"open\n"

            def work(cgroup: str | None) -> tuple[float, float]:
                return seconds(lab, cgroup, ["/usr/bin/python3", "-c", CLIENT, *place, way[0]]), MIB

            paired(f"{MIB} MiB {way} a flow passed unread", "s", bench, work, "none stated", RUNS)
        finally:
            server.kill()
            reloaded(appliance, "60-unread.yaml", "rules: []\n")
