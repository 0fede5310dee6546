"""What the flows of one worker share: one store for each protocol that needs one; and what all workers do."""

from collections.abc import Callable
from typing import Final, TypeVar, cast
from zlib import crc32

T = TypeVar("T")

CELL: Final = 8  # bytes of a cell
ALONE: Final = 64  # cells of a process that has none in common with others


class Changes:
    """Cells in memory of all workers: who changes what others know writes into its cell a value that none had before.

    So whoever sees another value than last time looks again. It is there before the change goes up, whoever judges
    what comes next. Two names may have one cell: then somebody looks in vain.
    """

    def __init__(self, cells: memoryview | None = None, begin: int = 0) -> None:
        """`cells` hold unsigned numbers of CELL bytes; those from `begin` on are of this process alone."""
        self.cells = memoryview(bytearray(CELL * ALONE)).cast("Q") if cells is None else cells
        self._value = begin

    def cell(self, *names: str) -> int:
        """Return the place of what is called so."""
        return crc32("\0".join(names).encode("utf-8", "surrogateescape")) % len(self.cells)

    def mark(self, cell: int) -> None:
        """Say that it is being changed, or was."""
        self._value += 1
        self.cells[cell] = self._value


class Shared:
    """Mutable; one for each worker."""

    def __init__(self, changes: Changes | None = None) -> None:
        self.now = 0.0  # seconds on the sessions' clock, as of the event that is worked on
        self.changes = Changes() if changes is None else changes
        self._stores: dict[Callable[[], object], object] = {}

    def of(self, make: Callable[[], T]) -> T:
        """Return the one store that `make` makes, made when it is first asked for."""
        if make not in self._stores:
            self._stores[make] = make()
        return cast(T, self._stores[make])
