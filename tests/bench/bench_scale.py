"""Does it bear many: rows under a detector, idle connections, rules; and how soon is it ready, and takes up new rules?"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from tests.bench.bench_query import SECONDS, pgbench
from tests.bench.bench_rows import ROWS, seconds
from tests.bench.machine import compare
from tests.bench.meter import metered, paired, resident

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
IDLE_A_SECOND = 500  # new connections of one vendor: half of what the fence lets one open (VG_RATE, 1000)
DETECTOR = """
rules:
  - {id: emails, to: db, when: {detect: [email]}, do: mask, with: redact}
"""
# Connections of PostgreSQL that said hello to a server that never answers, and wait.
IDLE = """
import resource, socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
hello = b"\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f"  # SSLRequest
kept, rate, began = [], float(sys.argv[4]), time.monotonic()
for number in range(count):
    time.sleep(max(0.0, began + number / rate - time.monotonic()))
    kept.append(socket.create_connection((host, port)))
    kept[-1].sendall(hello)
print("open", flush=True)
sys.stdin.read()
"""
SILENT = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
async def wait(reader, writer):
    await reader.read()
    writer.close()
async def main():
    async with await asyncio.start_server(wait, sys.argv[1], int(sys.argv[2]), backlog=4096) as server:
        print("open", flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


def many(count: int) -> str:
    """Return rules that do not match, each about a table of its own."""
    lines = [f"  - {{id: r{n}, to: db, when: {{table: [public.t{n}]}}, do: block}}" for n in range(count)]
    return "rules:\n" + "\n".join(lines) + "\n"


def until_in_force(appliance: Appliance, other_than: str) -> None:
    """Wait until every worker judges by other rules than those."""
    until = time.monotonic() + 60
    while True:
        found = appliance.json("status")
        if found["rules_revision"] != other_than and found["coverage"]["workers_ready"] == found["coverage"]["workers"]:
            return
        assert time.monotonic() < until, found
        time.sleep(0.01)


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and close what leads to it."""
    process.kill()
    process.communicate()


def until_served(appliance: Appliance, count: int) -> None:
    """Wait until so many connections are with the workers, or fail with what was lost."""
    until = time.monotonic() + 120
    while True:
        found = appliance.json("status")
        if sum(figure for name, figure in found["workers"].items() if name.endswith(".flows")) >= count:
            return
        assert time.monotonic() < until, found
        time.sleep(0.2)


def reloaded(appliance: Appliance, name: str, text: str) -> float:
    """Put a file of rules in force; return the seconds that the command took, at whose end they are."""
    before = appliance.json("status")["rules_revision"]
    appliance.rule(name, text)
    began = time.perf_counter()
    appliance.cli("reload", check=False)  # that the files were taken up meanwhile is as good
    spent = time.perf_counter() - began
    until_in_force(appliance, before)
    return spent


def test_rows_under_a_detector(bench: tuple[Lab, Appliance]) -> None:
    lab, appliance = bench
    reloaded(appliance, "50.yaml", DETECTOR)

    def work(cgroup: str | None) -> tuple[float, float]:
        return seconds(lab, cgroup, "select id, a, b, c from cells"), ROWS

    try:
        paired("200,000 rows under a detector that finds nothing", "s", bench, work, "none stated", RUNS)
    finally:
        reloaded(appliance, "50.yaml", "rules: []\n")


@pytest.mark.parametrize("count", [1000, 9_900])  # MAX_RULES is 10,000 with those there are
def test_rules(bench: tuple[Lab, Appliance], count: int) -> None:
    """A query that none of many rules is about, judged by all of them; and how soon they are in force."""
    lab, appliance = bench
    found: dict[str, list[tuple[float, Mapping[str, float]]]] = {"few": [], "many": []}
    spent: dict[str, list[float]] = {"to": [], "back": []}

    def work(cgroup: str | None) -> tuple[float, float]:
        latency, rate = pgbench(lab, cgroup, 1, "prepared")
        return latency, rate * SECONDS

    for _ in range(RUNS):
        found["few"].append(metered(lab, appliance, work, "acme.service"))
        spent["to"].append(reloaded(appliance, "50.yaml", many(count)))
        try:
            found["many"].append(metered(lab, appliance, work, "acme.service"))
        finally:
            spent["back"].append(reloaded(appliance, "50.yaml", "rules: []\n"))
    figures = {name: [figure for figure, _ in each] for name, each in found.items()}
    costs = {name: [cost for _, cost in each] for name, each in found.items()}
    compare(f"one prepared query, one client, with {count} rules more", "ms", figures, "none stated", costs)
    compare(f"reload to {count} rules more, and back", "s", spent, "0.2 s for 1,000")


def test_ready(bench: tuple[Lab, Appliance]) -> None:
    _, appliance = bench
    found = []
    for _ in range(RUNS):
        appliance.stop()
        began = time.perf_counter()
        appliance.start()
        found.append(time.perf_counter() - began)
    compare("from start to ready", "s", {"vendorgate": found}, "1 s")


@pytest.mark.parametrize("count", [1000, 10_000])
def test_idle_connections(bench: tuple[Lab, Appliance], count: int) -> None:
    lab, appliance = bench
    port = 7000 + count % 997
    rules = f"targets: {{silent: {{protocol: postgres, address: ['{lab.target_ip}:{port}']}}}}\n"
    reloaded(appliance, "50.yaml", rules + "rules:\n  - {id: silent, who: acme, to: silent, do: allow}\n")
    pids = appliance.workers()
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = lab.popen([sys.executable, "-c", SILENT, lab.target_ip, str(port)], where="target", stdout=subprocess.PIPE)
    try:
        assert server.stdout
        assert server.stdout.readline() == b"open\n"
        before = resident(pids)
        words = [sys.executable, "-c", IDLE, lab.target_ip, str(port), str(count), str(IDLE_A_SECOND)]
        client = lab.popen(words, cgroup="acme.service", **pipe)
        try:
            assert client.stdout
            assert client.stdout.readline() == b"open\n"
            until_served(appliance, count)
            took = (resident(pids) - before) * 1000 / count
        finally:
            ended(client)
    finally:
        ended(server)
        reloaded(appliance, "50.yaml", "rules: []\n")
    compare(f"{count} idle connections, memory of the workers for each", "kB", {"vendorgate": [took]}, "50 kB with TLS")
