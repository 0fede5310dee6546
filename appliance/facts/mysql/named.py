"""Statements prepared with a name of SQL: PREPARE name FROM 'text'.

A text that prepares may fail before it comes to that, or be no SQL to the server, and then the name stands for what it
stood for before. So until the server has answered all that was asked a name is all it may be; and when something
fails, what was prepared since then is not known.
"""

from collections.abc import Iterator, Sequence

from appliance.facts.mysql.reading import Step
from appliance.facts.mysql.statements import MAX_STATEMENTS, MAX_TEXTS, Statement
from appliance.facts.mysql.world import World

MAX_SAME = 8  # statements that a name may be; one more: it is not known


class Named:
    """Mutable; one for each flow."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[Statement, ...]] = {}  # what each name may be, the last one last
        self._recent: set[str] = set()  # names that were prepared, and not all is answered since
        self.open = 0  # requests that are not answered, or more
        self._size = 0

    def get(self, name: str) -> tuple[Statement, ...]:
        """Return what the name may be, none if that is not known."""
        return self._all.get(name, ())

    def runs(self, steps: Sequence[Step], world: World) -> Iterator[tuple[str, tuple[Statement, ...]]]:
        """Yield the name of each EXECUTE in a text and what it may be; none if that is not known.

        What the text itself has prepared is just that: it goes no further when something fails.
        """
        inside: dict[str, tuple[Statement, ...]] = {}
        for step in steps:
            if step.verb == "execute":
                yield step.name, inside.get(step.name, self.get(step.name))
            else:
                inside[step.name] = (Statement(step.text, world),) if step.text is not None else ()

    def ran(self, steps: Sequence[Step], world: World) -> None:
        """Note what a text that went up does with names."""
        for step in steps:
            if step.verb == "prepare":
                self.define(step.name, step.text, world)
            elif step.verb == "deallocate":
                self.undefine(step.name)

    def define(self, name: str, text: str | None, world: World) -> None:
        """Note PREPARE; None: of a text that is not known."""
        before = self.get(name)
        self.undefine(name)
        if text is None or len(before) >= MAX_SAME or len(self._all) >= MAX_STATEMENTS:
            return
        found = (*before, Statement(text, world))
        size = sum(len(statement.text) for statement in found)
        if self._size + size <= MAX_TEXTS:
            self._all[name] = found
            self._size += size
            self._recent.add(name)

    def undefine(self, name: str) -> None:
        self._size -= sum(len(statement.text) for statement in self._all.pop(name, ()))

    def forget(self) -> None:
        """Note that no name is known."""
        self._all.clear()
        self._recent.clear()
        self._size = 0

    def sent(self) -> None:
        """Note a request that will be answered."""
        self.open += 1

    def answered(self, failed: bool) -> None:
        """Note the end of an answer."""
        self.open = max(0, self.open - 1)
        if failed:
            for name in self._recent:
                self.undefine(name)
        elif self.open:
            return
        else:
            for name in self._recent & self._all.keys():
                self._size -= sum(len(statement.text) for statement in self._all[name][:-1])
                self._all[name] = self._all[name][-1:]
        self._recent.clear()
