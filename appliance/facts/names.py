"""Names of a session that stand for statements: prepared statements, portals and cursors.

Theory of operation. A definition that went up may fail, and what it would have replaced then stays. Until the
server has answered, a later use of the name must be judged as all that it may mean. But between two Syncs the
server skips everything after a failure; so within such a segment a use that is carried out at all means the
last definition before it. Definitions are settled when the server has answered everything (as many
ReadyForQuery as were asked for) and reported no error on the way; after an error all stay possible.

Source: PostgreSQL manual, "Message Flow", extended query and pipelining.
"""

import msgspec

from appliance.facts.sql import Reading

MAX_MEANINGS = 16  # statements one name may stand for; more: unknown
MAX_NAMES = 20_000  # names kept; what a client prepares beyond that is unknown
MAX_TEXTS = 32 << 20  # characters of statements and parameters kept for one flow
MAX_PENDING = 256  # definitions of one name that are not answered; more: unknown. Each use looks at all of them

_NAMEDATALEN = 64  # PostgreSQL cuts longer names silently, in both protocols


class Meaning(msgspec.Struct, frozen=True):
    """What a name stands for."""

    text: str  # of the statement, read anew when it is used
    reading: Reading | None = None  # fixed when it was bound or declared; also that of a text too long to keep
    subject: str = ""
    words: frozenset[str] = frozenset()  # the text and its parameters

    @property
    def size(self) -> int:
        """Characters that are kept for it."""
        return len(self.text) + len(self.subject) + sum(map(len, self.words))


class _Slot:
    __slots__ = ("pending", "settled")

    def __init__(self) -> None:
        self.settled: tuple[Meaning, ...] = ()
        self.pending: list[tuple[int, int, Meaning | None]] = []  # (which in order, segment, None: taken away)

    @property
    def meanings(self) -> dict[int, Meaning]:
        """All it may stand for, by id."""
        return {id(m): m for m in (*self.settled, *(m for _, _, m in self.pending)) if m is not None}


def key(name: str) -> str | None:
    """Return the name as the server keeps it, or None if that is not known."""
    if name.isascii():
        return name[: _NAMEDATALEN - 1]
    return name if len(name.encode(errors="surrogatepass")) < _NAMEDATALEN // 2 else None


class Names:
    """The names of one kind in one session."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._dirty: set[str] = set()  # names with definitions that are not settled
        self._order = 0
        self._cleared: tuple[int, int] | None = None  # order and segment of when all names were last taken away
        self._size = 0
        self.full = False

    def define(self, name: str, meaning: Meaning, segment: int) -> None:
        """Note that a definition went up."""
        cut = key(name)
        if cut is None:
            return
        self._size += meaning.size
        if self._size > MAX_TEXTS or (len(self._slots) >= MAX_NAMES and cut not in self._slots):
            self.full = True
        if not self.full:
            self._order += 1
            self._slots.setdefault(cut, _Slot()).pending.append((self._order, segment, meaning))
            self._dirty.add(cut)

    def forget(self, name: str, segment: int) -> None:
        """Note that a name is taken away."""
        cut = key(name)
        slot = self._slots.get(cut) if cut is not None else None
        if cut is not None and slot is not None and (not slot.pending or slot.pending[-1][1:] != (segment, None)):
            self._order += 1
            slot.pending.append((self._order, segment, None))
            self._dirty.add(cut)

    def forget_all(self, segment: int) -> None:
        """Note that all names are taken away."""
        self._order += 1
        self._cleared = self._order, segment

    def get(self, name: str, segment: int) -> tuple[Meaning, ...]:
        """Return all the name may stand for; nothing if that is not known, or too much."""
        cut = key(name)
        slot = self._slots.get(cut) if cut is not None and not self.full else None
        if slot is None:
            return ()
        order, at, last = slot.pending[-1] if slot.pending else (0, -1, None)
        if self._cleared is not None and self._cleared[0] > order:
            at, last = self._cleared[1], None
        if at == segment:
            return (last,) if last is not None else ()
        if len(slot.pending) > MAX_PENDING:
            return ()
        meanings = tuple(slot.meanings.values()) if slot.pending else slot.settled
        return meanings if len(meanings) <= MAX_MEANINGS else ()

    def settle(self, sure: bool) -> None:
        """Note that all that went up is answered; `sure`: and nothing failed."""
        if self._cleared is not None:
            if sure:
                self._clear(self._cleared[0])
            self._cleared = None
        for name in self._dirty:
            slot = self._slots[name]
            last = slot.pending[-1][2]
            before = slot.settled
            if sure and len(slot.pending) == 1:  # what follows, for the most frequent case
                for meaning in before:
                    if meaning is not last:
                        self._size -= meaning.size
                slot.pending.clear()
                slot.settled = () if last is None else (last,)
                if last is None:
                    del self._slots[name]
                continue
            dropped = slot.meanings
            slot.settled = tuple(dropped.values())[: MAX_MEANINGS + 1]
            if sure:
                slot.settled = () if last is None else (last,)
            for meaning in slot.settled:
                del dropped[id(meaning)]
            self._size -= sum(meaning.size for meaning in dropped.values())
            slot.pending.clear()
            if not slot.settled:
                del self._slots[name]
        self._dirty.clear()

    def _clear(self, order: int) -> None:
        """Take away what was defined before."""
        gone = [name for name, slot in self._slots.items() if not slot.pending or slot.pending[-1][0] < order]
        for name in gone:
            self._size -= sum(meaning.size for meaning in self._slots.pop(name).meanings.values())
        self._dirty.difference_update(gone)
