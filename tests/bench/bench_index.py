"""How long does a search among a million sessions take, and making the index anew?"""

import time
from pathlib import Path

from appliance.record.index import Index
from appliance.record.session import Filter
from tests.bench.machine import compare
from tests.record.samples import T
from tests.record.synthetic import EVERY_S, RARE, write_sessions

SESSIONS = 1_000_000
REPEATS = 5
SEARCHES = {
    "the newest 100": Filter(limit=100),
    "--who vendor7": Filter(who="vendor7", limit=100),
    "--who 'vendor*' --verdict block": Filter(who="vendor*", verdict="block", limit=100),
    "--table orders": Filter(table="orders", limit=100),
    "--table 'archive_*'": Filter(table="archive_*", limit=100),
    "--text 4711": Filter(text="4711", limit=100),
    "--text 'select orders'": Filter(text="select orders", limit=100),
    "--statement 'drop table *'": Filter(statement="drop table *", limit=100),
    "--statement '*able archive*'": Filter(statement="*able archive*", limit=100),
    "--since of the last hour": Filter(since=T + SESSIONS * EVERY_S - 3600, limit=100),
    "common, and never together": Filter(who="vendor1", exe="/opt/vendor2/bin/agent", limit=100),
}


def test_a_million_sessions(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    write_sessions(logs, SESSIONS)
    size = sum(one.stat().st_size for one in logs.iterdir())
    index = Index(tmp_path / "index.sqlite", logs)
    began = time.perf_counter()
    frames = index.catch_up().frames
    took = time.perf_counter() - began
    own = sum(one.stat().st_size for one in tmp_path.glob("index.sqlite*"))
    print(f"{SESSIONS:,} sessions, {frames:,} frames, {size / 1e9:.2f} GB of logs, one session in {RARE} drops a table")
    compare("index: made anew of a million sessions", "frames/s", {"index": [frames / took]}, "none stated")
    compare("index: on disk beside the record", "GB", {"record": [size / 1e9], "index": [own / 1e9]}, "none stated")
    for what, wanted in SEARCHES.items():
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            found = len(index.sessions(wanted))
            times.append((time.perf_counter() - began) * 1000)
        print(f"\n{found} found", end="")
        compare(f"index: {what}", "ms", {"search": times}, "none stated")
    index.close()
