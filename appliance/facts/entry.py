"""The catalogue of one database or server, and whether it is still the one that is there.

It is read again once it may be another: after what a flow of any worker has sent (`shared.Changes`), and after a time,
since others change a server too. What changes it is told twice, before it goes up and when it was answered: who reads
in between reads again. Most often the same comes back; then all that was worked out by it stays.
"""

from typing import Generic, TypeVar

from appliance.facts.shared import Shared

MAX_AGE_S = 30.0  # of a catalogue, for what is changed past us
REST = 100  # times what reading it took: a large one takes a server a second, and is read by each worker
RETRY_S = 5.0  # between two flows that read it again for its age alone: the others go on by what there is

C = TypeVar("C")


class Entry(Generic[C]):
    """Mutable; one for all flows of a worker that read by it."""

    def __init__(self, shared: Shared, *names: str, alias: str = "") -> None:
        """`names` are of the server, and of its database where it has a catalogue for each. What another changes that
        has the same `alias` may be this one, at another address."""
        self.catalog: C | None = None
        self.stale = True  # it is to be read again
        self.altered = False  # and is surely another than is known here
        self.version = self.alterations = 0  # counts what may have changed it, and what surely did
        self._digest = b""
        self._read_at = self._asked_at = 0.0
        self._lasts = MAX_AGE_S
        self._shared, changes = shared, shared.changes
        self._cells = changes.cells
        self._may, self._surely = changes.cell("may", *names), changes.cell("surely", *names)
        self._alias = changes.cell("alias", alias)
        self._last, self._last_alias = self._cells[self._may], self._cells[self._alias]
        self._last_surely = self._cells[self._surely]

    def look(self) -> None:
        """See what flows elsewhere have changed."""
        if self._cells[self._may] != self._last or self._cells[self._alias] != self._last_alias:
            self._look()

    def _look(self) -> None:
        self._last, self._last_alias = self._cells[self._may], self._cells[self._alias]
        surely = self._cells[self._surely]  # written before those
        self._changed(surely != self._last_surely)
        self._last_surely = surely

    def change(self, surely: bool, others: bool = True) -> None:
        """Say that it may have been changed; `surely`: what others see of it was. `others`: they might see it."""
        self.look()
        if others:
            self._tell(surely)
        self._changed(surely)

    def _tell(self, surely: bool) -> None:
        changes = self._shared.changes
        if surely:
            changes.mark(self._surely)
            changes.mark(self._alias)
        changes.mark(self._may)
        self._last, self._last_alias = self._cells[self._may], self._cells[self._alias]
        self._last_surely = self._cells[self._surely]

    def _changed(self, surely: bool) -> None:
        self.stale, self.altered = True, self.altered or surely
        self.version += 1
        self.alterations += surely

    @property
    def aged(self) -> bool:
        """True if it is time to read it again, whether something is known to have changed or not."""
        now = self._shared.now
        return now - self._read_at > self._lasts and now - self._asked_at > RETRY_S

    def asking(self) -> None:
        """Note that a flow asks for it."""
        self._asked_at = self._shared.now

    def same(self, digest: bytes) -> bool:
        """Return True if what was read is what there is already."""
        return self.catalog is not None and digest == self._digest

    def put(self, catalog: C | None, version: int, digest: bytes) -> None:
        """Take what was read while it was of a version; what has changed since is not in it."""
        self.look()
        now = self._shared.now
        self.catalog, self._digest, self._read_at = catalog, digest, now
        self._lasts = max(MAX_AGE_S, REST * (now - self._asked_at))
        self.stale = catalog is None or version != self.version
        self.altered = self.altered and self.stale
