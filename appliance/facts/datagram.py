"""What the readers of datagrams have in common: they count what a process moves, and look nothing up at the server."""

from appliance.facts import Copy, Facts
from appliance.facts.moved import Moved
from appliance.facts.shared import Shared
from appliance.model import Column, Message, Process


class Reading:
    """The part of a `facts.Reader` that does not depend on the protocol; `moved` is the protocol's own count."""

    def __init__(self, shared: Shared, process: Process | None, moved: type[Moved]) -> None:
        self.needs_catalog = False
        self._shared, self._process = shared, process
        self._moved = shared.of(moved)

    def heard(self, message: Message) -> None:
        self._moved.add(self._process, self._shared.now, 0, len(message.raw))

    def wanted(self, facts: Facts | None) -> str:
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        return frozenset()

    def copy(self, message: Message) -> Copy | None:
        return None

    def _volumes(self, size: int) -> dict[str, frozenset[str]]:
        """Return the facts of what was moved of late, with a message of `size` bytes that is about to be sent."""
        return self._moved.values(self._process, self._shared.now, size)

    def _went(self, size: int) -> None:
        """Note that a message of `size` bytes was sent."""
        self._moved.add(self._process, self._shared.now, 1, size)
