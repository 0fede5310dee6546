"""Prepared statements of one session, by the numbers of the protocol, and what they were made under.

Answers to COM_STMT_PREPARE come in the order of the requests; an error answers one too. But other requests have errors
as well, so a number is bound to the text the answer repeats, and what else was asked for is forgotten then.
"""

from collections import deque

from appliance.facts import Facts
from appliance.facts.mysql.reading import Reading
from appliance.facts.mysql.world import World

MAX_STATEMENTS = 16_382  # max_prepared_stmt_count of both servers, by default
MAX_TEXTS = 16_777_216  # characters of all texts kept
MAX_PENDING = 1_000  # prepared and not answered; the wire has at most as many requests under way

LAST = "-1"


class Statement:
    """A prepared statement; not `whole`: its text was not read."""

    __slots__ = ("ran", "read", "text", "whole", "world")

    def __init__(self, text: str, world: World, whole: bool = True) -> None:
        self.text, self.world, self.whole = text, world, whole
        self.ran: Facts | None = None  # of the execution whose rows are fetched
        self.read: tuple[World, Reading] | None = None  # what it meant last, and in which world


class Statements:
    """Mutable; one for each session."""

    def __init__(self) -> None:
        self._numbered: dict[str, Statement] = {}
        self._pending: deque[Statement] = deque(maxlen=MAX_PENDING)
        self._last: Statement | None = None  # prepared last, answered or not
        self._size = 0

    def preparing(self, text: str, world: World, whole: bool = True) -> None:
        """Note a text that goes up to be prepared."""
        self._last = Statement(text, world, whole)
        self._pending.append(self._last)

    def prepared(self, number: str, text: str) -> None:
        """Note the number the server gave the next text."""
        while self._pending:
            found = self._pending.popleft()
            if found.text == text:
                self._keep(self._numbered, number, found)
                return
        self._numbered.pop(number, None)

    def failed(self) -> None:
        """Note an error: it may answer what was to be prepared."""
        if len(self._pending) == 1:
            self._pending.clear()

    def get(self, number: str) -> Statement | None:
        """Return the statement of a number; "-1" is the one prepared last."""
        return self._last if number == LAST else self._numbered.get(number)

    def forget(self, number: str) -> None:
        found = self._numbered.pop(number, None)
        self._size -= len(found.text) if found is not None else 0

    def _keep(self, kept: dict[str, Statement], name: str, statement: Statement) -> None:
        old = kept.pop(name, None)
        self._size += len(statement.text) - (len(old.text) if old is not None else 0)
        if len(kept) >= MAX_STATEMENTS or self._size > MAX_TEXTS:
            self._size -= len(statement.text)
            return  # one too many is not known later, so refused
        kept[name] = statement
