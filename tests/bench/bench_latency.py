"""How long do single queries take, the slowest among them, and how many connections can be set up a second?"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import postgres_bin
from tests.bench.machine import report
from tests.bench.meter import metered, paired

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def pgbench(lab: Lab, cgroup: str | None, *words: str) -> str:
    line = [str(postgres_bin() / "pgbench"), "-n", "-S", "-T", f"{SECONDS:g}", "-h", lab.target_ip, "-U", "acme", *words, "shop"]
    done = lab.run(["env", "PGPASSWORD=secret", *line], cgroup=cgroup, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def latencies(lab: Lab, cgroup: str | None, clients: int, place: Path) -> list[float]:
    """Return the milliseconds of each transaction, sorted."""
    pgbench(lab, cgroup, "-M", "prepared", "-c", str(clients), "-l", f"--log-prefix={place}/log")
    found = []
    for log in place.glob("log.*"):
        found += [int(line.split()[2]) / 1000 for line in log.read_text().splitlines()]
        log.unlink()
    return sorted(found)


@pytest.mark.parametrize("clients", [1, 8])
def test_latency(bench: tuple[Lab, Appliance], tmp_path: Path, clients: int) -> None:
    lab, appliance = bench
    found: dict[str | None, list[list[float]]] = {None: [], "acme.service": []}
    costs: dict[str, list[Mapping[str, float]]] = {"direct": [], "vendorgate": []}

    def work(cgroup: str | None) -> tuple[float, float]:
        found[cgroup].append(latencies(lab, cgroup, clients, tmp_path))
        return 0.0, len(found[cgroup][-1])

    for _ in range(RUNS):
        for way, cgroup in {"direct": None, "vendorgate": "acme.service"}.items():
            costs[way].append(metered(lab, appliance, work, cgroup)[1])
    for name, share in SHARES.items():
        direct, through = ([times[int(len(times) * share)] for times in column] for column in found.values())
        promise = "added 0.10 ms" if (name, clients) == ("p50", 1) else "none stated"
        report(f"a prepared query, {clients} clients, {name}", "ms", direct, through, promise, costs)


def test_connections(bench: tuple[Lab, Appliance]) -> None:
    def work(cgroup: str | None) -> tuple[float, float]:
        found = re.search(r"tps = ([\d.]+)", pgbench(bench[0], cgroup, "-C", "-c", "1"))
        assert found
        return float(found[1]), float(found[1]) * SECONDS

    paired("connections set up, login and one query each", "1/s", bench, work, "none stated", RUNS)
