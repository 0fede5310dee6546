"""Frames that follow one another, told apart without an object for each: of every frame that is written, two readers
(walk.py, index/) look at little more.

Only what a worker writes on its way, frames, is stepped over here. Whatever else stands there, `parse` has to say.
"""

from appliance.record.frame import HEAD, MARK, MAX_FRAME


def ends(data: bytes, at: int) -> list[int]:
    """Return where each of the frames ends that stand whole, one behind the other, from `at` on."""
    found: list[int] = []
    size, most, head, mark = len(data), MAX_FRAME, HEAD, MARK
    while at + head <= size and data[at] == mark:
        length = data[at + 1] << 24 | data[at + 2] << 16 | data[at + 3] << 8 | data[at + 4]
        at += head + length
        if length > most or at > size:
            break
        found.append(at)
    return found
