"""A vendor let by for a time, so that there is something to learn from: one file of rules, removed when its time is up.

It is the last of the files, and allows what no rule before it decides: what rules block stays blocked, what they hold
is held, masks apply, and all of it is recorded. The file says until when, and whoever started it removes it; if that
one is killed, the hub does, also one that starts later.
"""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

from appliance.model import ConfigError

NAME = "zz-learning.yaml"
RULE = "learning-open"
MAX_S = 7 * 86400.0  # a week; what is open longer is no more an exception
UNTIL = re.compile(r"^# until (\S+)$", re.MULTILINE)
TEXT = """\
# Written by `vendorgate learn --open`, and removed at its end. Remove it to end it at once.
# until {until}
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
    identities = "" if known else f'identities:\n  {RULE}: {{cgroup: "{who}"}}\n'
    stamp = datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")
    new = path.with_name(f".{NAME}.new")
    new.write_text(TEXT.format(until=stamp, identities=identities, rule=RULE, who=who if known else RULE))
    new.rename(path)
    return path


def end(directory: Path, now: float) -> bool:
    """Remove the file if its time is up, or if it does not say until when; True if it was."""
    path = directory / NAME
    try:
        found = UNTIL.search(path.read_text(errors="replace"))
    except OSError:
        return False
    try:
        if found and datetime.fromisoformat(found[1]).timestamp() > now:
            return False
    except ValueError:
        pass
    path.unlink(missing_ok=True)
    return True
