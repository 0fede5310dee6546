"""What does one inspected and recorded query cost, and how much of pgbench is left with eight clients?"""

import re

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import postgres_bin
from tests.bench.machine import report

RUNS, SECONDS = 5, 4


def pgbench(lab: Lab, cgroup: str | None, clients: int, protocol: str) -> tuple[float, float]:
    """Return (latency in ms, transactions a second)."""
    words = [str(postgres_bin() / "pgbench"), "-n", "-S", "-M", protocol, "-c", str(clients), "-j", "1"]
    words += ["-T", str(SECONDS), "-h", lab.target_ip, "-U", "acme", "shop"]
    done = lab.run(["env", "PGPASSWORD=secret", *words], cgroup=cgroup, capture_output=True, text=True)
    done.check_returncode()
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    assert latency
    assert rate
    return float(latency[1]), float(rate[1])


def test_added_latency_of_one_client(bench: tuple[Lab, Appliance]) -> None:
    lab, _ = bench
    pairs = [(pgbench(lab, None, 1, "prepared")[0], pgbench(lab, "acme.service", 1, "prepared")[0]) for _ in range(RUNS)]
    report("one prepared query, one client", "ms", [a for a, _ in pairs], [b for _, b in pairs], "added 0.10 ms")


def test_throughput_of_eight_clients(bench: tuple[Lab, Appliance]) -> None:
    lab, _ = bench
    for protocol in ("simple", "prepared"):
        pairs = [(pgbench(lab, None, 8, protocol)[1], pgbench(lab, "acme.service", 8, protocol)[1]) for _ in range(RUNS)]
        report(f"pgbench -S, {protocol}, 8 clients", "tps", [a for a, _ in pairs], [b for _, b in pairs], "ratio 0.45")
