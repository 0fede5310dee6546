"""The mark of a fence that a stop took away (`on_failure: open`): in the journal, in the record, and in a file that
`vendorgate status` reads while no hub runs. The next start says until when it was open.
"""

import logging
import time
from pathlib import Path

import msgspec

from appliance.model import Address, Flow, Note
from appliance.record.log import Log
from appliance.record.whose import HUB
from appliance.service.ids import Ids

log = logging.getLogger("vendorgate.hub")

MARK = "fence-open"  # in state_dir
NOWHERE = Address("0.0.0.0", 0)


class Opened(msgspec.Struct, frozen=True):
    """Since when governed processes are free."""

    since: float  # unix seconds

    def __str__(self) -> str:
        day = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.since))
        return f"the fence was opened at a stop (on_failure: open) at {day} UTC"


def mark(state_dir: Path, records: Path) -> None:
    """Say that the fence is taken away now. Nothing that cannot be written changes that it is."""
    opened = Opened(time.time())
    text = f"{opened}: governed processes are FREE"
    log.critical("%s", text)
    try:
        (state_dir / MARK).write_bytes(msgspec.json.encode(opened))
        flow = Flow(Ids(HUB).next(), opened.since, NOWHERE, NOWHERE, None)
        notes = (Note("opened", "vendorgate itself"), Note("incident", text), Note("closed", text))
        Log(records, "hub").append(flow, notes, opened.since)
    except OSError as error:
        log.critical("the mark of it cannot be written: %s", error)


def found(state_dir: Path) -> Opened | None:
    """Return the mark of the last stop, if it opened the fence."""
    try:
        return msgspec.json.decode((state_dir / MARK).read_bytes(), type=Opened)
    except (OSError, msgspec.MsgspecError):
        return None


def clear(state_dir: Path) -> str:
    """Take the mark away, as the fence is up again; return what is to be said of it."""
    last = found(state_dir)
    (state_dir / MARK).unlink(missing_ok=True)
    if last is None:
        return ""
    text = f"{last}, and was open until this start {time.time() - last.since:.0f} s later"
    log.warning("%s", text)
    return text
