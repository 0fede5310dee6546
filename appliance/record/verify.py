"""Whether the record is whole: audit/ with fast primitives. See FORMAT.md for what is checked."""

from pathlib import Path

import msgspec
import zstandard

from appliance.record.audit.check import Fault, Progress, Report, check
from appliance.record.audit.ledger import Wanted
from appliance.record.audit.primitives import Tools
from appliance.record.audit.program import describe, summary
from appliance.record.frame import UNREADABLE
from appliance.record.packed import inflated
from appliance.record.signing import checks

__all__ = ["Fault", "Progress", "Report", "Wanted", "describe", "summary", "verify"]


def _inflate(data: bytes) -> bytes:
    try:
        return inflated(data, zstandard.ZstdDecompressor())
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _unpack(data: bytes) -> object:
    try:
        return msgspec.msgpack.decode(data)
    except (*UNREADABLE, TypeError) as error:
        raise ValueError(str(error)) from None


FAST = Tools(_unpack, checks, _inflate)


def verify(
    root: Path, wanted: Wanted | None = None, progress: Progress = lambda done, size, name: None
) -> Report:
    """Check the record below `root`: a state directory, or an unpacked bundle. Flat in memory.

    A hub may work on it meanwhile. Raises:
        OSError: something may not be read.
    """
    return check(root, wanted or Wanted(), FAST, progress)
