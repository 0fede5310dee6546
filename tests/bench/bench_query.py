"""What does one inspected and recorded query cost, and how much of pgbench is left with eight clients?"""

import os
import re

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import postgres_bin
from tests.bench.meter import paired

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))


def pgbench(lab: Lab, cgroup: str | None, clients: int, protocol: str) -> tuple[float, float]:
    """Return (latency in ms, transactions a second)."""
    words = [str(postgres_bin() / "pgbench"), "-n", "-S", "-M", protocol, "-c", str(clients), "-j", "1"]
    words += ["-T", f"{SECONDS:g}", "-h", lab.target_ip, "-U", "acme", "shop"]
    done = lab.run(["env", "PGPASSWORD=secret", *words], cgroup=cgroup, capture_output=True, text=True)
    done.check_returncode()
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    assert latency
    assert rate
    return float(latency[1]), float(rate[1])


def test_added_latency_of_one_client(bench: tuple[Lab, Appliance]) -> None:
    def work(cgroup: str | None) -> tuple[float, float]:
        latency, rate = pgbench(bench[0], cgroup, 1, "prepared")
        return latency, rate * SECONDS

    paired("one prepared query, one client", "ms", bench, work, "added 0.10 ms", RUNS)


def test_throughput_of_eight_clients(bench: tuple[Lab, Appliance]) -> None:
    for protocol in ("simple", "prepared"):

        def work(cgroup: str | None, protocol: str = protocol) -> tuple[float, float]:
            _, rate = pgbench(bench[0], cgroup, 8, protocol)
            return rate, rate * SECONDS

        paired(f"pgbench -S, {protocol}, 8 clients", "tps", bench, work, "ratio 0.45", RUNS)
