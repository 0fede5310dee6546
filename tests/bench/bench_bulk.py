"""What does bulk cost: COPY without and with a masked column, and a gigabyte nobody has to look into?"""

import os
import time

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import postgres_bin
from tests.bench.machine import report

RUNS = int(os.environ.get("BENCH_RUNS", "3"))
MIB = int(os.environ.get("BENCH_MIB", "1024"))
WORK = {
    "COPY of 200,000 rows, nothing to mask": ("copy cells (id, a, b, c) to stdout", "40 MB/s"),
    "COPY of 200,000 rows, one column masked": ("copy cells (id, a, b, secret) to stdout", "3 us a cell"),
    f"{MIB} MiB in rows nobody looks into": (f"select repeat('x', 1048572) from generate_series(1, {MIB})", "40 MB/s"),
}


def seconds(lab: Lab, cgroup: str | None, statement: str) -> float:
    address = f"host={lab.target_ip} dbname=shop user=acme password=secret"
    began = time.perf_counter()
    words = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", "-v", "FETCH_COUNT=0", "-o", "/dev/null", address, "-c", statement]
    done = lab.run(words, cgroup=cgroup, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began


@pytest.mark.parametrize("what", WORK)
def test_bulk(bench: tuple[Lab, Appliance], what: str) -> None:
    lab, _ = bench
    statement, promise = WORK[what]
    pairs = [(seconds(lab, None, statement), seconds(lab, "acme.service", statement)) for _ in range(RUNS)]
    report(what, "s", [a for a, _ in pairs], [b for _, b in pairs], promise)
