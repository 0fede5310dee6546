"""Frames of earlier formats in the shape of today: one step for each format number.

Nothing on disk is rewritten: what is sealed must stay as it is. A segment is read as the format its header names.

    1   frames without the hash of the one before, number in the flow, and salt
    2   this version
"""

from collections.abc import Callable

import msgspec

from appliance.record.frame import FORMAT, Frame


def _from_1(frame: Frame) -> Frame:
    """In format 1 these fields were not written, so whatever stands there is not ours."""
    return msgspec.structs.replace(frame, number=0, previous=b"", salt=b"")


STEPS: dict[int, Callable[[Frame], Frame]] = {1: _from_1}  # format -> to the next


def frame(found: Frame, format: int) -> Frame:
    """Return a frame read from a segment of `format` as one of this version."""
    for number in range(format, FORMAT):
        found = STEPS[number](found)
    return found
