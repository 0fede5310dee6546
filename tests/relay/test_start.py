"""What the hub says to the C library and to Python before it begins."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from appliance.service import start, tuning
from appliance.service.serving import Serving

HEAP = 64 * 1024 * 1024  # glibc's heaps of threads begin at a multiple of it (HEAP_MAX_SIZE on 64 bits)
CODE = """
import sys, threading
from pathlib import Path
from appliance.service import tuning
if sys.argv[1] == "spare":
    tuning.one_heap()
kept, go, done = [], threading.Barrier(5), threading.Barrier(5)
def work():
    go.wait()
    kept.append([bytes(20_000) for _ in range(50)])
    done.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for one in threads: one.start()
go.wait(); done.wait()
starts = [int(line.split("-")[0], 16) for line in Path("/proc/self/maps").read_text().splitlines() if " rw-p " in line]
print(sum(at % %d == 0 for at in starts))
""".replace("%d", str(HEAP))


def heaps(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


def test_threads_have_one_heap() -> None:
    assert heaps("spare") == 0
    assert heaps("as it comes") > 0, "else the test sees nothing"


def test_threads_give_way_ten_times_as_soon_as_by_themselves() -> None:
    before = sys.getswitchinterval()
    try:
        tuning.give_way()
        assert sys.getswitchinterval() == pytest.approx(tuning.SWITCH_S)
        assert before >= 10 * tuning.SWITCH_S
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize("begins", [start.run, Serving.run])
def test_hub_and_workers_begin_with_that(begins: Callable[..., object]) -> None:
    assert "give_way" in begins.__code__.co_names
