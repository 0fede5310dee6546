"""A session played again: the lines of `show`, each when its time comes, and what a key does meanwhile."""

import math
from collections.abc import Callable, Iterable

from appliance.record.frame import Frame
from appliance.record.show import Lines, stand_out

PAUSE, NEXT, FASTER, SLOWER, QUIT = " ", "n", "+", "-", "q"
PAUSED = "-- paused: space goes on, n the next verdict, any other key one line, q ends --"
LEAST, MOST = 1 / 64, 1024.0  # speeds that keys lead to

Wait = Callable[[float | None], str | None]
"""Waits so many seconds (None: without end) or until a key, which it returns. Nothing when the time is over."""


class Player:
    """Plays frames of one session. `write` takes text for the screen."""

    def __init__(
        self, write: Callable[[str], object], wait: Wait, *, speed: float, longest: float, colour: bool
    ) -> None:
        if not speed > 0:
            raise ValueError(f"a speed of {speed}")
        self._write, self._wait, self._speed, self._longest = write, wait, speed, longest
        self._reader = Lines(colour)
        self._paused = self._seeking = self._quit = False

    def play(self, frames: Iterable[Frame]) -> None:
        """Write each line after the pause it came after. Before a line stands the time since the session opened."""
        opened: float | None = None
        last = 0.0
        for frame in frames:
            if opened is None:
                opened = last = frame.flow.opened if frame.flow else frame.time
                for text in self._reader.heading(frame.flow, frame.note) if frame.flow else ():
                    self._write(text + "\n")
            self._rest(frame.time - last)
            if self._quit:
                return
            last = max(last, frame.time)
            for text in self._reader.of(frame, f"+{frame.time - opened:.3f}"):
                self._write(text + "\n")
            if self._seeking and stand_out(frame.note):
                self._seeking, self._paused = False, True

    def _rest(self, seconds: float) -> None:
        """Wait before a line, as long as it takes or as keys say."""
        if self._seeking:
            return
        if not self._paused:
            pause = min(seconds / self._speed, self._longest)
            if pause > 0:
                self._key(self._wait(pause) or "")
        while self._paused and not (self._seeking or self._quit):
            self._write(PAUSED)
            key = self._wait(None) or QUIT  # nobody is there any more who could press one
            self._write("\r\x1b[K")
            if key == PAUSE:
                self._paused = False
            else:
                self._key(key)
                if key not in (NEXT, FASTER, SLOWER, QUIT):
                    return  # one line further

    def _key(self, key: str) -> None:
        match key:
            case "q" | "Q":
                self._quit = True
            case "n" | "N":
                self._seeking, self._paused = True, False
            case " ":
                self._paused = True
            case "+":
                self._speed = min(self._speed * 2, MOST)
            case "-":
                self._speed = max(self._speed / 2, LEAST)


def replay(
    frames: Iterable[Frame],
    write: Callable[[str], object],
    wait: Wait,
    *,
    speed: float = 1.0,
    longest: float = math.inf,
    colour: bool = False,
) -> None:
    """Play a session, pauses divided by `speed`, of at most `longest` seconds. Infinite speed does not pause.

    Raises:
        ValueError: the speed is not above 0.
    """
    Player(write, wait, speed=speed, longest=longest, colour=colour).play(frames)
