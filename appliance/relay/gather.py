"""What the flows of one worker have to record in one turn of the loop goes into the record by one write.

Theory of operation. A flow whose session asks for nothing but notes and bytes leaves them here. When all that was
ready to be read in this turn was read, the notes of all flows are recorded together, and only then the bytes of each
are sent. So nothing leaves before its note is in the record, and a flow's own order is kept: before its session is
called again, and before anything else is done to the flow, what it left here is carried out (`now`).

It costs no time: the loop writes to sockets at the end of a turn anyway.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from appliance.model import Effect, Flow, Note, Send

Entry = tuple[Flow, Sequence[Note]]  # the notes of one flow
Book = Callable[[Sequence[Entry]], Sequence[Exception | None]]


class Waiting(Protocol):
    """A flow that has left something."""

    @property
    def noted(self) -> Entry:
        """What is to be recorded."""

    def recorded(self, error: Exception | None) -> None:
        """It is, or why it is not."""


class Gather:
    """`book` records all it is given, and tells for each why it could not be."""

    def __init__(self, book: Book, most: int) -> None:
        """`most` bytes wait for the end of a turn; with more, the turn ends here."""
        self._book, self._most = book, most
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Waiting] = []
        self._size = 0
        self._called = False  # at the end of this turn

    def add(self, one: Waiting, size: int) -> None:
        """Leave what a flow has, of so many bytes. It has nothing here."""
        self._waiting.append(one)
        self._size += size
        if self._size > self._most:
            self.now()
        elif not self._called:
            self._called = True
            self._loop.call_soon(self._turn)

    def now(self) -> None:
        """Record what all flows have left, and have each go on."""
        waiting = self._waiting
        if not waiting:
            return
        self._waiting, self._size = [], 0
        try:
            errors = self._book([one.noted for one in waiting])
        except Exception as fault:
            errors = [fault] * len(waiting)  # none of them is known to be recorded
        for one, error in zip(waiting, errors, strict=True):
            one.recorded(error)

    def _turn(self) -> None:
        self._called = False
        self.now()


def only_told(effects: Sequence[Effect]) -> tuple[list[Note], list[Send], int] | None:
    """Return notes, what is to be sent, and the bytes of both; None if there are no notes, or other things to do."""
    notes: list[Note] = []
    sends: list[Send] = []
    size = 0
    for effect in effects:
        if type(effect) is Note:
            notes.append(effect)
            size += len(effect.raw)
        elif type(effect) is Send:
            sends.append(effect)
            size += len(effect.data)
        else:
            return None
    return (notes, sends, size) if notes else None
