"""Single keys from a terminal, whose mode is put back whatever becomes of us.

A child waits for our end, by a pipe that only we hold open, and puts the mode back: so even after SIGKILL the shell
has the terminal it had.
"""

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from typing import Any

from appliance.record.replay import Wait


@contextlib.contextmanager
def keys(terminal: int) -> Iterator[Wait]:
    """Have keys come one by one from a terminal; yields what waits for them."""
    before = termios.tcgetattr(terminal)
    with _guard(terminal, before):
        # The shell has its own mode while we are stopped (Ctrl-Z).
        resumed = signal.signal(signal.SIGCONT, lambda *_: _single(terminal))
        try:
            _single(terminal)
            yield lambda seconds: _wait(terminal, seconds)
        finally:
            signal.signal(signal.SIGCONT, resumed)


def _single(terminal: int) -> None:
    tty.setcbreak(terminal, termios.TCSANOW)  # Ctrl-C and Ctrl-Z still do what they do


def _wait(terminal: int, seconds: float | None) -> str | None:
    """Return the key pressed within `seconds`; a key that sends several characters is one, and means nothing."""
    ready, _, _ = select.select([terminal], [], [], seconds)
    if not ready:
        return None
    pressed = os.read(terminal, 64).decode("utf-8", "replace")
    return None if not pressed else pressed if len(pressed) == 1 else "\x1b"


@contextlib.contextmanager
def _guard(terminal: int, before: list[Any]) -> Iterator[None]:
    """Put the mode back at our end, however it comes."""
    reading, writing = os.pipe()
    # What a terminal sends to all its programs is not for the child; and so it may set the mode from the background.
    open_to = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.close(writing)
            os.read(reading, 1)  # ends when the pipe is closed
            termios.tcsetattr(terminal, termios.TCSANOW, before)
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, open_to)
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        os.waitpid(child, 0)
