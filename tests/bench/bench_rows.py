"""What does a masked result of 200,000 rows x 5 columns cost, and one with nothing to mask?"""

import os
import time

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import postgres_bin
from tests.bench.meter import paired

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
ROWS = 200_000


def seconds(lab: Lab, cgroup: str | None, statement: str) -> float:
    address = f"host={lab.target_ip} dbname=shop user=acme password=secret"
    words = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", "-o", "/dev/null", address, "-c", statement]
    started = time.perf_counter()
    lab.run(words, cgroup=cgroup, capture_output=True).check_returncode()
    return time.perf_counter() - started


def test_rows(bench: tuple[Lab, Appliance]) -> None:
    for what, statement in {
        "200,000 rows, one column masked": "select id, a, b, c, secret from cells",
        "200,000 rows, nothing to mask": "select id, a, b, c from cells",
    }.items():

        def work(cgroup: str | None, statement: str = statement) -> tuple[float, float]:
            return seconds(bench[0], cgroup, statement), ROWS

        paired(what, "s", bench, work, "3 us a cell; 40 MB/s with nothing to mask", RUNS)
