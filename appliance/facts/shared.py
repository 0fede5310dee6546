"""What the flows of one worker share: one store for each protocol that needs one."""

from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


class Shared:
    """Mutable; one for each worker."""

    def __init__(self) -> None:
        self.now = 0.0  # seconds on the sessions' clock, as of the event that is worked on
        self._stores: dict[Callable[[], object], object] = {}

    def of(self, make: Callable[[], T]) -> T:
        """Return the one store that `make` makes, made when it is first asked for."""
        if make not in self._stores:
            self._stores[make] = make()
        return cast(T, self._stores[make])
