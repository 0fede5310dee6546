"""All queues of the packet engine, read in turns: none can keep the others waiting.

Which one takes a packet is told by the mark of its socket (bpf/speakers.h): each vendor's go to one, which no other has
while there are not more vendors than queues. One that sends more than can be judged fills that, and the kernel drops
what more it sends; of each turn the others have their part. A rate would not do: what a packet costs the engine differs
by a hundred, so one that protects would stop honest bulk.
"""

import select
from collections.abc import Sequence
from types import TracebackType

import msgspec

from appliance.kernel.layout import QUEUES
from appliance.kernel.queue import BATCH, MARK_NS, Losses, Queue, Queued, now

QUEUE = 5647  # the first of ours, of the 65,536 of a network namespace; xtables and nft name them


class Queues:
    """As one `Queue`: `fileno`, `read`, `verdict`, `flush`, `losses`."""

    def __init__(self, queues: Sequence[Queue]) -> None:
        """They have consecutive numbers."""
        self._queues, self._first = queues, queues[0].number
        self._by_fileno = {queue.fileno(): queue for queue in queues}
        self._spoken = set[Queue]()
        self._all_read = 0  # ns since boot
        self._poll = select.epoll()
        for fileno in self._by_fileno:
            self._poll.register(fileno, select.EPOLLIN)

    @classmethod
    def open(cls, first: int = QUEUE) -> "Queues":
        """Bind them all.

        Raises:
            HostError: as Queue.open().
        """
        queues: list[Queue] = []
        try:
            for number in range(first, first + QUEUES):
                queues.append(Queue.open(number))
            return cls(queues)
        except BaseException:
            for queue in queues:
                queue.close()
            raise

    def fileno(self) -> int:
        return self._poll.fileno()

    def read(self, most: int = BATCH) -> list[Queued]:
        """Return packets that have come: of each queue where some wait, the same part of `most`.

        To be called now and then though nothing comes: how old a packet may be is known from when its queue was read.
        """
        if now() - self._all_read > MARK_NS:
            self._all_read, ready = now(), self._queues
        else:
            ready = [self._by_fileno[fileno] for fileno, _ in self._poll.poll(0)]
        part = max(1, most // max(1, len(ready)))
        return [packet for queue in ready for packet in queue.read(part)]

    def verdict(
        self,
        id: int,
        accept: bool,
        mark: int | None = None,
        data: bytes | None = None,
        connmark: int | None = None,
    ) -> None:
        queue = self._queues[(id >> 32) - self._first]
        self._spoken.add(queue)
        queue.verdict(id, accept, mark, data, connmark)

    def flush(self) -> None:
        for queue in self._spoken:
            queue.flush()
        self._spoken.clear()

    @property
    def losses(self) -> Losses:
        each = [msgspec.structs.astuple(queue.losses) for queue in self._queues]
        return Losses(*map(sum, zip(*each, strict=True)))

    def close(self) -> None:
        self._poll.close()
        for queue in self._queues:
            queue.close()

    def __enter__(self) -> "Queues":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
