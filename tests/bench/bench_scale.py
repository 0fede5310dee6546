"""Does it bear many: rows under a detector, idle connections, rules; and how soon is it ready, and takes up new rules?"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from tests.bench.bench_rows import seconds
from tests.bench.machine import compare, report

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
CHURN_S = float(os.environ.get("BENCH_CHURN_S", "120"))
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
kept = []
for _ in range(count):
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


def resident(pids: Sequence[int]) -> float:
    """Return the resident MB of processes."""
    page = resource.getpagesize()
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids) / 1e6


def until_in_force(appliance: Appliance, other_than: str) -> None:
    """Wait until every worker judges by other rules than those."""
    until = time.monotonic() + 60
    while True:
        found = appliance.json("status")
        if found["rules_revision"] != other_than and found["coverage"]["workers_ready"] == found["coverage"]["workers"]:
            return
        assert time.monotonic() < until, found
        time.sleep(0.01)


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
    statement = "select id, a, b, c from cells"
    reloaded(appliance, "50.yaml", DETECTOR)
    try:
        pairs = [(seconds(lab, None, statement), seconds(lab, "acme.service", statement)) for _ in range(RUNS)]
    finally:
        reloaded(appliance, "50.yaml", "rules: []\n")
    report("200,000 rows under a detector that finds nothing", "s", *map(list, zip(*pairs, strict=True)), "none stated")


@pytest.mark.parametrize("count", [1000, 9_900])  # MAX_RULES is 10,000 with those there are
def test_rules(bench: tuple[Lab, Appliance], count: int) -> None:
    lab, appliance = bench
    statement = "select count(*) from cells where id < 10"
    few = [seconds(lab, "acme.service", statement) for _ in range(RUNS)]
    spent = [reloaded(appliance, "50.yaml", many(count))]
    try:
        most = [seconds(lab, "acme.service", statement) for _ in range(RUNS)]
    finally:
        spent.append(reloaded(appliance, "50.yaml", "rules: []\n"))
    compare(f"one session with {count} rules more", "s", {"few": few, "many": most}, "none stated")
    compare(f"reload to {count} rules more, and back", "s", {"to": spent[:1], "back": spent[1:]}, "0.2 s for 1,000")


def test_ready(bench: tuple[Lab, Appliance]) -> None:
    _, appliance = bench
    found = []
    for _ in range(RUNS):
        appliance.stop()
        began = time.perf_counter()
        appliance.start()
        found.append(time.perf_counter() - began)
    compare("from start to ready", "s", {"vendorgate": found}, "1 s")


@pytest.mark.parametrize("count", [1000, 2000])  # of 10,000 by one vendor some were refused
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
        words = [sys.executable, "-c", IDLE, lab.target_ip, str(port), str(count)]
        client = lab.popen(words, cgroup="acme.service", **pipe)
        try:
            assert client.stdout
            assert client.stdout.readline() == b"open\n"
            took = (resident(pids) - before) * 1000 / count
        finally:
            client.kill()
            client.wait()
    finally:
        server.kill()
        server.wait()
        reloaded(appliance, "50.yaml", "rules: []\n")
    compare(f"{count} idle connections, memory of the workers for each", "kB", {"vendorgate": [took]}, "50 kB with TLS")


def test_memory_over_churn(bench: tuple[Lab, Appliance]) -> None:
    """Sessions come and go; what the workers hold after a third of the time is what they hold at its end."""
    lab, appliance = bench
    pids, found, began = appliance.workers(), [], time.monotonic()
    while time.monotonic() < began + CHURN_S:
        seconds(lab, "acme.service", f"select count(*) from cells where id < {len(found)}")
        found.append(resident(pids))
    third = len(found) // 3
    ways = {"after a third": found[third : third + 1], "at the end": found[-1:]}
    compare(f"memory of the workers in {CHURN_S:g} s of churn", "MB", ways, "60 MB a worker; it does not grow")
