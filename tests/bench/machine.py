"""What every benchmark prints beside its figures: the machine, the versions, the spread."""

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path


def machine() -> str:
    """Return processor, cores, kernel and Python in one line."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {platform.python_version()}"


def report(question: str, unit: str, direct: Sequence[float], through: Sequence[float], promise: str) -> None:
    """Print one row: medians, spread, and the ratio of the same work done direct in the same run."""
    a, b = statistics.median(direct), statistics.median(through)
    print(f"\n{question}\n  {machine()}")
    print(f"  direct      {a:10.3f} {unit}  ({min(direct):.3f} .. {max(direct):.3f}, {len(direct)} runs)")
    print(f"  vendorgate  {b:10.3f} {unit}  ({min(through):.3f} .. {max(through):.3f}, {len(through)} runs)")
    print(f"  ratio       {b / a:10.3f}   added {b - a:+.3f} {unit}   promise: {promise}")
