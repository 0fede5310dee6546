"""What every benchmark prints beside its figures: the machine, the versions, the spread. Rows also go to a file."""

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from appliance import compiled

RESULTS = Path(os.environ.get("BENCH_RESULTS", Path(__file__).parent.parent.parent / "build/bench.jsonl"))


def machine() -> str:
    """Return processor, cores, kernel and Python in one line."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    how = "compiled" if compiled.usable() and not os.environ.get(compiled.PLAIN) else "plain"
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, {how}"


def report(question: str, unit: str, direct: Sequence[float], through: Sequence[float], promise: str) -> None:
    """Print one row: medians, spread, and the ratio of the same work done direct in the same run."""
    compare(question, unit, {"direct": direct, "vendorgate": through}, promise)


def compare(question: str, unit: str, ways: Mapping[str, Sequence[float]], promise: str) -> None:
    """Print one row with several ways to do the same work; the first is what others are held against."""
    base = statistics.median(next(iter(ways.values())))
    print(f"\n{question}\n  {machine()}")
    for name, found in ways.items():
        middle = statistics.median(found)
        spread = f"({min(found):.3f} .. {max(found):.3f}, {len(found)} runs)"
        print(f"  {name:<11} {middle:10.3f} {unit}  {spread}  ratio {middle / base:.3f}, added {middle - base:+.3f}")
    print(f"  promise     {promise}")
    row = {"question": question, "unit": unit, "promise": promise, "machine": machine(), "at": time.time()}
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({**row, "ways": {name: list(found) for name, found in ways.items()}}) + "\n")


def table() -> str:
    """Return what was measured last of each question, as a table."""
    rows = {row["question"]: row for row in map(json.loads, RESULTS.read_text().splitlines())} if RESULTS.exists() else {}
    lines = []
    for row in rows.values():
        ways = [f"{name} {statistics.median(found):.3f}" for name, found in row["ways"].items()]
        lines.append(f"{row['question']:<60} {row['unit']:<6} {'  '.join(ways)}  ({row['promise']})")
    return "\n".join(lines)
