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
MAX_TEXTS = 32 << 20  # characters of statements kept for one flow

_NAMEDATALEN = 64  # PostgreSQL cuts longer names silently, in both protocols


class Meaning(msgspec.Struct, frozen=True):
    """What a name stands for."""

    text: str  # of the statement, read anew when it is used
    reading: Reading | None = None  # fixed when it was bound or declared; also that of a text too long to keep
    subject: str = ""
    words: frozenset[str] = frozenset()  # the text and its parameters


class _Slot:
    __slots__ = ("pending", "settled")

    def __init__(self) -> None:
        self.settled: tuple[Meaning, ...] = ()
        self.pending: list[tuple[int, Meaning | None]] = []  # (segment, None: taken away)


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
        self._size = 0
        self.full = False

    def define(self, name: str, meaning: Meaning, segment: int) -> None:
        """Note that a definition went up."""
        cut = key(name)
        if cut is None:
            return
        self._size += len(meaning.text) + len(meaning.subject)
        if self._size > MAX_TEXTS or (len(self._slots) >= MAX_NAMES and cut not in self._slots):
            self.full = True
        if not self.full:
            self._slots.setdefault(cut, _Slot()).pending.append((segment, meaning))
            self._dirty.add(cut)

    def forget(self, name: str, segment: int) -> None:
        """Note that a name is taken away."""
        cut = key(name)
        if cut is not None and cut in self._slots:
            self._slots[cut].pending.append((segment, None))
            self._dirty.add(cut)

    def forget_all(self, segment: int) -> None:
        """Note that all names are taken away."""
        for slot in self._slots.values():
            slot.pending.append((segment, None))
        self._dirty.update(self._slots)

    def get(self, name: str, segment: int) -> tuple[Meaning, ...]:
        """Return all the name may stand for; nothing if that is not known, or too much."""
        cut = key(name)
        slot = self._slots.get(cut) if cut is not None and not self.full else None
        if slot is None:
            return ()
        if slot.pending and slot.pending[-1][0] == segment:
            last = slot.pending[-1][1]
            return (last,) if last is not None else ()
        if not slot.pending:
            meanings = slot.settled
        else:
            seen = {id(m): m for m in (*slot.settled, *(m for _, m in slot.pending)) if m is not None}
            meanings = tuple(seen.values())
        return meanings if len(meanings) <= MAX_MEANINGS else ()

    def settle(self, sure: bool) -> None:
        """Note that all that went up is answered; `sure`: and nothing failed."""
        for name in self._dirty:
            slot = self._slots[name]
            last = slot.pending[-1][1]
            before = slot.settled
            if sure and len(slot.pending) == 1:  # what follows, for the most frequent case
                for meaning in before:
                    if meaning is not last:
                        self._size -= len(meaning.text) + len(meaning.subject)
                slot.pending.clear()
                slot.settled = () if last is None else (last,)
                if last is None:
                    del self._slots[name]
                continue
            if sure:
                slot.settled = () if last is None else (last,)
            else:
                seen = {id(m): m for m in (*before, *(m for _, m in slot.pending)) if m is not None}
                slot.settled = tuple(seen.values())[: MAX_MEANINGS + 1]
            dropped = {id(m): m for m in (*before, *(m for _, m in slot.pending)) if m is not None}
            for meaning in slot.settled:
                del dropped[id(meaning)]
            self._size -= sum(len(m.text) + len(m.subject) for m in dropped.values())
            slot.pending.clear()
            if not slot.settled:
                del self._slots[name]
        self._dirty.clear()
