"""Only whole segments that nobody writes to are dropped, the oldest first."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.record.frame import segments
from appliance.record.log import Log
from appliance.record.retention import YOUNG_S, Pruned, prune
from tests.record.samples import T, closed, flow, opened, rows

ROOT = Path(__file__).parents[2]
DAY = 86_400.0
ALL = 1 << 40  # bytes


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Five sealed segments of equal size, a day between them; the last was written at T + 4 days."""
    log = Log(tmp_path, "w0")
    for day in range(5):
        log.append(flow(), [rows(bytes(1000))], T + day * DAY)
        path = segments(tmp_path)[-1].path
        log.seal()
        os.utime(path, (T + day * DAY, T + day * DAY))
    return tmp_path


def size(directory: Path) -> int:
    return sum(os.stat(s.path).st_size for s in segments(directory))


def test_by_age(days: Path) -> None:
    before, gone = size(days), sum(os.stat(s.path).st_size for s in segments(days)[:3])
    assert prune(days, 2.5 * DAY, ALL, T + 5 * DAY) == Pruned(3, gone, before - gone)
    assert [s.number for s in segments(days)] == [int((T + d * DAY) * 1000) for d in (3, 4)]


def test_by_bytes_the_oldest_first(days: Path) -> None:
    one = os.stat(segments(days)[4].path).st_size
    assert prune(days, 100 * DAY, 2 * one, T + 5 * DAY).segments == 3
    assert [s.number for s in segments(days)] == [int((T + d * DAY) * 1000) for d in (3, 4)]


def test_nothing_to_drop(days: Path) -> None:
    assert prune(days, 100 * DAY, ALL, T + 5 * DAY).segments == 0
    assert len(segments(days)) == 5


def test_an_open_segment_is_left(tmp_path: Path) -> None:
    log = Log(tmp_path, "w0")
    log.append(flow(), [opened()], T)
    os.utime(segments(tmp_path)[0].path, (T, T))
    assert prune(tmp_path, DAY, 0, T + 5 * DAY).segments == 0
    log.seal()
    assert prune(tmp_path, DAY, 0, T + 5 * DAY).segments == 1


def test_young_segments_are_left(days: Path) -> None:
    assert YOUNG_S == 60
    assert prune(days, 0, 0, T + 4 * DAY + YOUNG_S - 1).segments == 4
    assert prune(days, 0, 0, T + 4 * DAY + YOUNG_S + 1).segments == 1


KILLED = """
import os, sys, time
from pathlib import Path
from appliance.record.log import Log
from tests.record.samples import T, flow, opened
log = Log(Path(sys.argv[1]), "w0")
log.append(flow(), [opened()], T)
os.write(1, b"ready\\n")
time.sleep(60)
"""


def test_the_segment_of_a_killed_worker_is_no_longer_open(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout and child.stdout.readline()
    os.utime(segments(tmp_path)[0].path, (T, T))
    assert prune(tmp_path, DAY, ALL, T + 5 * DAY).segments == 0
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert prune(tmp_path, DAY, ALL, T + 5 * DAY).segments == 1


def test_other_files_are_left(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"x")
    assert prune(tmp_path, 0, 0, T + 1e9) == Pruned(0, 0, 0)
    assert (tmp_path / "index.sqlite").exists()


def test_closed_flows_are_no_reason_to_keep(days: Path) -> None:
    Log(days, "w1").append(flow(), [closed()], T)
    assert prune(days, 0, ALL, T + 5 * DAY).segments == 5
