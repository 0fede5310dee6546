"""A vendor let by for a time, so that there is something to learn from: one file of rules, removed when its time is up.

It is the last of the files, and allows what no rule before it decides: what rules block stays blocked, what they hold
is held, masks apply, and all of it is recorded. The file says until when and of which process it is; that one removes
it, and once it is gone, however it ended, the hub does, also one that starts later.
"""

import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from appliance.model import ConfigError
from appliance.service.proposing import flow

NAME = "zz-learning.yaml"
RULE = "learning-open"
MAX_S = 7 * 86400.0  # a week; what is open longer is no more an exception
UNTIL = re.compile(r"^# until (\S+), by process (\d+) of (\d+)$", re.MULTILINE)
STARTED = 19  # field of /proc/PID/stat behind the name: ticks since the boot; no later process is taken for it
TEXT = """\
# Written by `vendorgate learn --open`, and removed at its end. Remove it to end it at once.
# until {until}, by process {pid} of {started}
{identities}rules:
  # It does nothing, but since it names a table, catalogues are read, and what is learned has whole names.
  - {{id: {rule}-names, who: {who}, when: {{table: vendorgate.none}}, do: block, shadow: true}}
  - id: {rule}
    who: {who}
    do: allow
    reason: let by and recorded while rules are learned
"""


def put(directory: Path, who: str, known: bool, until: float) -> Path:
    """Let an identity by, or if it is not `known` as one, a cgroup below the slice; return the file.

    Raises:
        ConfigError: somebody is let by already, or for too long.
    """
    path = directory / NAME
    if path.exists():
        raise ConfigError(str(path), "is there already: somebody is learning", "wait for its end, or remove it")
    if until > time.time() + MAX_S:
        what = f"is over {MAX_S / 86400:g} days"
        raise ConfigError("--for", what, "open for less, and learn from the record: --since")
    identities = "" if known else f"identities:\n  {RULE}: {flow({'cgroup': who})}\n"
    stamp = datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")
    new = path.with_name(f".{NAME}.new")
    text = TEXT.format(
        until=stamp, pid=os.getpid(), started=_started(os.getpid()), identities=identities, rule=RULE,
        who=flow(who) if known else RULE,
    )  # fmt: skip
    try:
        new.write_text(text)
        new.rename(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    return path


def end(directory: Path, now: float) -> bool:
    """Remove the file if its time is up, its process gone, or if it does not say so; True if it was."""
    path = directory / NAME
    try:
        found = UNTIL.search(path.read_text(errors="replace"))
    except OSError:
        return False
    try:
        ours = found and _started(int(found[2])) == int(found[3]) > 0
        if found and ours and now < datetime.fromisoformat(found[1]).timestamp() <= now + MAX_S:
            return False
    except ValueError:
        pass
    path.unlink(missing_ok=True)
    return True


def _started(pid: int) -> int:
    """Return when a process began, 0 if it is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[STARTED])
    except (OSError, ValueError, IndexError):
        return 0
