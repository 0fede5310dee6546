"""What every benchmark prints beside its figures: machine, versions, repeats, median, spread, ratio, processor time.

`compare` and `report` print one row and keep it in build/bench.json (`BENCH_RESULTS` says where else), one document:

    machine   processor, cores, kernel, Python, compiled or plain
    versions  of the peers
    rows      question, unit, promise, at; for each way runs, median, low, high, ratio, added, and where it was
              measured `cpu`: us of processor time a unit by process (client, server, hub, workers, engine)

A question asked again replaces its row. `table` is the same as text.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from appliance import compiled
from appliance.lab.servers import postgres_bin

ROOT = Path(__file__).parent.parent.parent
RESULTS = Path(os.environ.get("BENCH_RESULTS", ROOT / "build/bench.json"))
Costs = Sequence[Mapping[str, float]]  # of each run: process -> us of processor time a unit
PEERS = {
    "openssl": ["openssl", "version"],
    "mariadb": ["mariadbd", "--version"],
    "redis": ["redis-cli", "--version"],
    "nginx": ["nginx", "-v"],
    "pgbouncer": ["pgbouncer", "--version"],
    "haproxy": ["haproxy", "-v"],
    "mitmproxy": [str(ROOT / "build/mitmproxy/bin/mitmdump"), "--version"],
}


@cache
def machine() -> str:
    """Return processor, cores, kernel and Python in one line."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    how = "compiled" if compiled.usable() and not os.environ.get(compiled.PLAIN) else "plain"
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}, {how}"


@cache
def versions() -> Mapping[str, str]:
    """Return the versions of the peers on this host, and which commit of ours it is."""
    said = {name: _said(words) for name, words in {**PEERS, "postgres": [str(postgres_bin() / "postgres"), "-V"]}.items()}
    found = {name: match[0] for name, text in said.items() if (match := re.search(r"\d+(\.\d+)+", text))}
    return {"vendorgate": _said(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]) or "?", **found}


def _said(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def report(
    question: str, unit: str, direct: Sequence[float], through: Sequence[float], promise: str,
    cpu: Mapping[str, Costs] | None = None,
) -> None:  # fmt: skip
    """Print one row of the same work done direct and through, in one run."""
    compare(question, unit, {"direct": direct, "vendorgate": through}, promise, cpu)


def compare(
    question: str, unit: str, ways: Mapping[str, Sequence[float]], promise: str, cpu: Mapping[str, Costs] | None = None
) -> None:
    """Print one row with several ways to do the same work; the first is what others are held against.

    `cpu`: of some of the ways, what each of their runs took of which process.
    """
    base = statistics.median(next(iter(ways.values())))
    row: dict[str, Any] = {"question": question, "unit": unit, "promise": promise, "at": time.time(), "ways": {}}
    for name, found in ways.items():
        row["ways"][name] = _way(found, base)
        if cpu and cpu.get(name):
            row["ways"][name]["cpu"] = _middles(cpu[name])
    print(f"\n{question}\n  {machine()}")
    print("\n".join(_lines(row)))
    _keep(row)


def _way(found: Sequence[float], base: float) -> dict[str, Any]:
    middle = statistics.median(found)
    spread = {"median": middle, "low": min(found), "high": max(found)}
    return {"runs": list(found), **spread, "ratio": middle / base if base else None, "added": middle - base}


def _middles(costs: Costs) -> dict[str, float]:
    names = dict.fromkeys(name for cost in costs for name in cost)
    return {name: statistics.median(cost.get(name, 0.0) for cost in costs) for name in names}


def _lines(row: Mapping[str, Any]) -> list[str]:
    out = []
    for name, way in row["ways"].items():
        spread = f"({way['low']:.3f} .. {way['high']:.3f}, {len(way['runs'])} runs)"
        ratio = f"ratio {way['ratio']:.3f}" if way["ratio"] is not None else "ratio -"
        out.append(f"  {name:<11} {way['median']:10.3f} {row['unit']}  {spread}  {ratio}, added {way['added']:+.3f}")
        if "cpu" in way:
            out.append(f"  {'':<11} us of processor time each: {_cpu(way['cpu'])}")
    return [*out, f"  promise     {row['promise']}"]


def _cpu(cost: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {us:.1f}" for name, us in cost.items())


def _keep(row: Mapping[str, Any]) -> None:
    """Put a row into the document, in the place of one of the same question."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    rows = {one["question"]: one for one in _kept()} | {row["question"]: row}
    document = {"machine": machine(), "versions": dict(versions()), "rows": list(rows.values())}
    new = RESULTS.with_suffix(".new")
    new.write_text(json.dumps(document, indent=1) + "\n")
    new.rename(RESULTS)


def _kept() -> list[dict[str, Any]]:
    return list(json.loads(RESULTS.read_text())["rows"]) if RESULTS.exists() else []


def table() -> str:
    """Return what was measured last of each question, as a table."""
    peers = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines = [machine(), peers, ""]
    for row in _kept():
        lines.append(f"{row['question']}  [{row['unit']}; promise: {row['promise']}]")
        for name, way in row["ways"].items():
            ratio = f"{way['ratio']:8.3f}" if way["ratio"] is not None else f"{'-':>8}"
            spread = f"{way['low']:.3f} .. {way['high']:.3f}"
            cpu = f"  {_cpu(way['cpu'])}" if "cpu" in way else ""
            lines.append(f"  {name:<14} {way['median']:12.3f} {ratio}  {spread:<24} n={len(way['runs'])}{cpu}")
    return "\n".join(lines)
