"""A program started as if by a shell: what is measured of it begins with itself.

A child inherits the peak of its parent's memory until it runs another program, and the program keeps it: started by a
test run of some hundred megabytes, a fuzzer would be over its limit before it began (getrusage(2), ru_maxrss).
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def fuzz(name: str, home: Path, megabytes: int = 512) -> str:
    """Run the harness on the input NAME for some seconds, on the corpus in `home`. Return what it found, or nothing."""
    words = [sys.executable, "-m", "tests.fuzz.harness", name, str(home / "corpus"), "-max_total_time=5"]
    words += [f"-rss_limit_mb={megabytes}", f"-artifact_prefix={home}/"]
    between = ["sh", "-c", '"$@"; exit $?', "sh", *words]  # not the last word of the shell, so a child of its own
    done = subprocess.run(between, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    inputs = {file.name: file.read_bytes() for file in home.iterdir() if file.is_file()}
    return f"{done.stdout[-3000:]}\n{done.stderr[-1000:]}\n{inputs}" if done.returncode else ""


def changed(data: bytes, changes: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return bytes with each change made: anywhere, so many bytes taken out and others put in."""
    for anywhere, gone, new in changes:
        place = anywhere % (len(data) + 1)
        data = data[:place] + new + data[place + gone :]
    return data
