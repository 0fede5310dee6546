"""One direction of a connection: its bytes in order.

Sources: RFC 9293 3.10.7.4; net/ipv4/tcp_input.c of Linux (tcp_data_queue_ofo, tcp_ofo_queue, tcp_check_urg), which
says what of overlapping segments a receiver keeps:

- What comes in order is kept at once; what was kept is never replaced.
- Of what came too early, a segment inside of another is left out; one that covers others takes their place; of two
  that overlap in part, the bytes that both have are those of the one that begins first. Segments that join are one.
- A FIN counts as one byte behind the last; it is in force when it is reached.

Bytes that were given are kept until they are acknowledged, to see whether they are sent again as they were.

Urgent data: the byte that the pointer marks is out of band for a receiver of Linux that does not ask otherwise, and no
packet tells whether it asks. A capture shows what such a receiver reads; inline the connection is refused. There is one
mark: a later one behind it takes its place, one before it is left out (tcp_check_urg).
"""

from bisect import bisect_right, insort_right

import msgspec

PIECE_COST = 256  # bytes a piece is counted for beside what it brings: objects of Python, so that tiny ones count
PATIENCE = 3  # packets after which what is acknowledged and was not seen is missing: DupThresh of RFC 5681


class Given(msgspec.Struct, frozen=True, gc=False):
    """Bytes in order. `missing` bytes in front of them were never seen."""

    offset: int
    data: bytes
    packets: tuple[int, ...]
    missing: int = 0


class Piece:
    """Bytes that came too early. With `fin` there is a FIN behind them."""

    __slots__ = ("begin", "data", "fin", "order", "packets")

    def __init__(self, begin: int, data: bytes, fin: bool, packet: int, order: int = 0) -> None:
        self.begin, self.data, self.fin, self.packets = begin, bytearray(data), fin, [packet]
        self.order = order  # among the doubtful ones, as they came

    @property
    def end(self) -> int:
        return self.begin + len(self.data)

    @property
    def stop(self) -> int:
        return self.begin + len(self.data) + self.fin


class Half:
    """Offsets count from the first byte. `next` is the first that was not given."""

    def __init__(self) -> None:
        self.origin: int | None = None  # sequence number of offset 0
        self.next = 0
        self.top = 0  # behind the last that was seen
        self.acked = 0  # by the other side
        self.edge: int | None = None  # what the other side takes ends here; None: not known
        self.ended = False  # the FIN was reached
        self.behind = 0  # packets seen since something was acknowledged that was not given
        self.early: list[Piece] = []  # by `begin`, and by `stop` as well: none is inside of another
        # Those that the receiver may not have taken, by `begin`: given when it acknowledges them.
        self.doubtful: list[Piece] = []
        self._doubts = 0  # so many came
        self._history = bytearray()  # given, not acknowledged
        self._base = 0  # offset of its first byte
        self._urgent = -1  # the byte that is marked
        self._waiting = 0  # bytes in `early` and `doubtful`

    @property
    def memory(self) -> int:
        """Bytes kept, and what keeping them costs."""
        return len(self._history) + self._waiting + PIECE_COST * (len(self.early) + len(self.doubtful))

    @property
    def early_bytes(self) -> int:
        return self._waiting

    @property
    def pieces(self) -> int:
        return len(self.early) + len(self.doubtful)

    @property
    def unacked(self) -> int:
        return len(self._history)

    def offset(self, seq: int) -> int:
        """Return the offset of a sequence number: of those it may be, the one nearest to `next`."""
        assert self.origin is not None
        ahead = (seq - self.origin - self.next) & 0xFFFFFFFF
        return self.next + (ahead - 0x1_0000_0000 if ahead >= 0x8000_0000 else ahead)

    def conflicts(self, begin: int, data: bytes, fin: bool) -> bool:
        """Return whether these bytes are not those that were seen there before, as far as they are kept."""
        end = begin + len(data)
        low, high = max(begin, self._base), min(end, self._base + len(self._history))
        if low < high and self._history[low - self._base : high - self._base] != data[low - begin : high - begin]:
            return True
        return any(_differ(piece, begin, data, fin) for piece in self._around(begin, end + fin))

    def take(self, begin: int, data: bytes, fin: bool, packet: int) -> list[Given]:
        """Take a segment that reaches behind `next`; return what is in order by it."""
        self.top = max(self.top, begin + len(data) + fin)
        if begin > self.next:
            self._keep(Piece(begin, data, fin, packet))
            return []
        found: list[tuple[bytes, tuple[int, ...]]] = [(data[self.next - begin :], (packet,))]
        offset = self.next
        self.next = begin + len(data) + fin
        self.ended = fin
        return self._give(offset, found)

    def doubt(self, begin: int, data: bytes, fin: bool, packet: int) -> None:
        """Keep a segment that the receiver may not have taken."""
        self._doubts += 1
        piece = Piece(begin, data, fin, packet, self._doubts)
        self.top = max(self.top, piece.stop)
        insort_right(self.doubtful, piece, key=lambda one: one.begin)
        self._waiting += len(piece.data)

    def mark(self, offset: int) -> None:
        """The byte there is urgent."""
        if offset >= self.next and offset > self._urgent:
            self._urgent = offset

    def acknowledge(self, offset: int) -> list[Given]:
        """The other side has all before `offset`; return what is in order by that."""
        if offset <= self.acked:
            return []
        self.acked = offset
        self._trim()
        given: list[Given] = []
        while self.next < self.acked and (piece := self._believed()) is not None:
            data = bytes(piece.data)[: self.acked - piece.begin]
            given += self.take(piece.begin, data, piece.fin and piece.stop <= self.acked, piece.packets[0])
        if self.doubtful:
            self._settle()
        return given

    def patience(self) -> list[Given]:
        """Another packet was seen: after some, what is acknowledged and was not seen is missing.

        Unless the sender has not gone on behind it: then the acknowledgement may be a lie.
        """
        if self.next >= self.acked or not self.early:
            self.behind = 0
            return []
        self.behind += 1
        return self.skip(self.acked) if self.behind > PATIENCE else []

    def skip(self, limit: int) -> list[Given]:
        """Give up on the bytes before `limit` that were not seen; return what is in order by that."""
        given: list[Given] = []
        while self.next < limit:
            piece = self.early[0] if self.early and self.early[0].begin < limit else None
            target = piece.begin if piece else limit
            missing, self.next = target - self.next, target
            self._history.clear()
            self._base = target
            self.top = max(self.top, target)
            parts = self._give(target, []) if piece else [Given(target, b"", ())]
            given += [msgspec.structs.replace(parts[0], missing=missing), *parts[1:]]
        self.behind = 0
        return given

    def forget(self) -> None:
        """Let go of what was given: it is not compared again."""
        self._base += len(self._history)
        self._history.clear()

    def clear_doubtful(self) -> None:
        self._waiting -= sum(len(piece.data) for piece in self.doubtful)
        self.doubtful = []

    def clear(self) -> None:
        """Let go of all."""
        self.forget()
        self.early, self.doubtful, self._waiting = [], [], 0

    def _around(self, begin: int, stop: int) -> list[Piece]:
        """Return the pieces that have something between."""
        first = bisect_right(self.early, begin, key=lambda piece: piece.stop)
        found = []
        for piece in self.early[first:]:
            if piece.begin >= stop:
                break
            found.append(piece)
        return found

    def _keep(self, new: Piece) -> None:
        """Put a piece among those that came too early, as tcp_data_queue_ofo does."""
        if self.early and self._joins(self.early[-1], new):
            return
        at = bisect_right(self.early, new.begin, key=lambda piece: piece.begin)
        if at:
            left = self.early[at - 1]
            if new.stop <= left.stop:
                return
            if left.begin == new.begin:
                at -= 1  # it covers `left`, and takes its place below
            elif self._joins(left, new):
                self._absorb(at, left.stop)
                return
        self.early.insert(at, new)
        self._waiting += len(new.data)
        self._absorb(at + 1, new.stop)

    def _joins(self, left: Piece, new: Piece) -> bool:
        """Put `new` behind `left` if it follows it."""
        if left.fin or left.end != new.begin:
            return False
        left.data += new.data
        left.fin = new.fin
        left.packets += new.packets
        self._waiting += len(new.data)
        return True

    def _absorb(self, at: int, stop: int) -> None:
        """Remove pieces from `at` on that end before `stop`: another one covers them."""
        last = at
        while last < len(self.early) and self.early[last].stop <= stop:
            self._waiting -= len(self.early[last].data)
            last += 1
        del self.early[at:last]

    def _believed(self) -> Piece | None:
        """Take out a doubtful piece that has the next byte: the last, for the receiver left out the others."""
        here = self._settle()
        if not here:
            return None
        piece = max(here, key=lambda one: one.order)
        del self.doubtful[here.index(piece)]
        self._waiting -= len(piece.data)
        return piece

    def _trim(self) -> None:
        """Let go of what was given and is acknowledged."""
        gone = min(self.acked - self._base, len(self._history))
        if gone > 0:
            del self._history[:gone]
            self._base += gone

    def _settle(self) -> list[Piece]:
        """Let go of doubtful pieces that are given by now, or were replaced; return those that have the next byte.

        Only those that begin before it are looked at, each for no more bytes than it has.
        """
        reached = bisect_right(self.doubtful, self.next, key=lambda piece: piece.begin)
        before = self.doubtful[:reached]
        here = [piece for piece in before if piece.stop > self.next]
        if len(here) < reached:
            self._waiting -= sum(len(p.data) for p in before) - sum(len(p.data) for p in here)
            self.doubtful[:reached] = here
        return here

    def _give(self, offset: int, found: list[tuple[bytes, tuple[int, ...]]]) -> list[Given]:
        """Add to `found` what follows it by now; return it as it is read."""
        used = 0
        while not self.ended and used < len(self.early) and self.early[used].begin <= self.next:
            piece = self.early[used]
            used += 1
            self._waiting -= len(piece.data)
            if piece.stop > self.next:
                found.append((bytes(piece.data[self.next - piece.begin :]), tuple(piece.packets)))
                self.next, self.ended = piece.stop, piece.fin
        del self.early[:used]
        if self.ended:
            self._waiting -= sum(len(piece.data) for piece in self.early)
            self.early = []
        data = b"".join(part for part, _ in found) if len(found) != 1 else found[0][0]
        self._history += data
        self._trim()
        packets = tuple(number for _, numbers in found for number in numbers)
        return self._banded(Given(offset, data, packets))

    def _banded(self, given: Given) -> list[Given]:
        """Leave out the byte that is urgent."""
        cut = self._urgent - given.offset
        if not 0 <= cut < len(given.data):
            return [given]
        before = msgspec.structs.replace(given, data=given.data[:cut])
        return [before, Given(self._urgent + 1, given.data[cut + 1 :], given.packets)]


def _differ(piece: Piece, begin: int, data: bytes, fin: bool) -> bool:
    end = begin + len(data)
    low, high = max(begin, piece.begin), min(end, piece.end)
    if low < high and piece.data[low - piece.begin : high - piece.begin] != data[low - begin : high - begin]:
        return True
    return (fin and piece.begin <= end < piece.end) or (piece.fin and begin <= piece.end < end)
