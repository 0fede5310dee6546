"""A session played again: the lines of `show`, each when its time comes."""

import math
from collections.abc import Callable, Iterable

from appliance.record.frame import Frame
from appliance.record.show import Lines


def replay(
    frames: Iterable[Frame],
    write: Callable[[str], object],
    sleep: Callable[[float], object],
    *,
    speed: float = 1.0,
    longest: float = math.inf,
    colour: bool = False,
) -> None:
    """Write each line after the pause it came after, divided by `speed`, of at most `longest` seconds.

    `sleep` is given seconds, as time.sleep takes them. Before a line stands the time since the session
    opened. A speed of infinity does not pause.

    Raises:
        ValueError: the speed is not above 0.
    """
    if not speed > 0:
        raise ValueError(f"a speed of {speed}")
    reader = Lines(colour)
    opened: float | None = None
    last = 0.0
    for frame in frames:
        if opened is None:
            opened = last = frame.flow.opened if frame.flow else frame.time
            if frame.flow:
                for text in reader.heading(frame.flow, frame.note):
                    write(text + "\n")
        pause = min((frame.time - last) / speed, longest)
        if pause > 0:
            sleep(pause)
        last = max(last, frame.time)
        for text in reader.of(frame, f"+{frame.time - opened:.3f}"):
            write(text + "\n")
