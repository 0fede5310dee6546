"""The verifier as a program of its own."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from appliance.record.audit.check import Report, check
from appliance.record.audit.ledger import Wanted
from appliance.record.audit.primitives import PLAIN

SHOW_S = 0.5  # between two lines of progress


def summary(report: Report) -> dict[str, object]:
    """Return what was found as one JSON object."""
    return {
        "whole": report.whole,
        "key": report.key,
        "checkpoints": report.checkpoints,
        "segments": report.segments,
        "frames": report.frames,
        "sessions": report.sessions,
        "flows": report.flows,
        "deleted": report.deleted,
        "uncovered": report.uncovered,
        "faults": [fault._asdict() for fault in report.faults],
        "notes": report.notes,
    }


def describe(report: Report) -> str:
    """Return what was found in words, the first bad place first."""
    lines = [str(fault) for fault in report.faults]
    lines += [f"note: {note}" for note in report.notes]
    counts = f"{report.checkpoints} checkpoints, {report.segments} segments, {report.frames} frames"
    flows = f"{report.sessions} sessions, {report.flows} of them by the numbers of the fence"
    gone = f"; {report.deleted} frames were deleted, and the checkpoints say so" if report.deleted else ""
    verdict = "whole" if report.whole else f"NOT WHOLE: {len(report.faults)} bad places, the first is above all"
    lines += [f"{verdict}: {counts}, {flows}{gone}", f"checked with key {report.key}"]
    return "\n".join(map(_harmless, lines))


def _harmless(line: str) -> str:
    """Return a line for a terminal: names of cgroups and what a bad file holds may be meant to command it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def moment(text: str) -> float:
    """Return unix seconds of a time, in seconds or as 2026-11-21T10:00:00Z."""
    try:
        return float(text)
    except ValueError:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()  # noqa: UP017


def key(text: str) -> bytes:
    """Return a public key, given in hex or by its file."""
    return bytes.fromhex(Path(text).read_text() if Path(text).exists() else text)


class Screen:
    """Progress on a terminal."""

    def __init__(self) -> None:
        self._next, self._shown = time.monotonic() + SHOW_S, False

    def __call__(self, done: int, size: int, name: str) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or (now < self._next and name):
            return
        self._next = now + SHOW_S
        if name:
            print(f"\r\033[K{100 * done // max(size, 1):3d} %  {name}", end="", file=sys.stderr, flush=True)
            self._shown = True
        elif self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Check the directory named on the command line."""
    words = argparse.ArgumentParser(description="Checks a record of vendorgate.")
    words.add_argument("directory", type=Path, help="with records/ and proof/: an export, or a state directory")
    words.add_argument("--key", type=key, default=b"", help="the public key, in hex or a file, from elsewhere")
    words.add_argument("--anchors", type=Path, help="a file with lines `vendorgate checkpoint ...` kept elsewhere")
    words.add_argument("--from", dest="since", type=moment, default=0.0, help="unix seconds, or 2026-11-21T10:00:00Z")
    words.add_argument("--to", dest="until", type=moment, default=float("inf"))
    words.add_argument("--json", action="store_true")
    given = words.parse_args()
    try:
        anchors = given.anchors.read_text(errors="replace") if given.anchors else ""
        report = check(given.directory, Wanted(given.since, given.until, given.key, anchors), PLAIN, Screen())
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    print(json.dumps(summary(report), indent=2) if given.json else describe(report))
    return 0 if report.whole else 1


if __name__ == "__main__":
    sys.exit(main())
