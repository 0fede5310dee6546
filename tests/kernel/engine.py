"""A stand-in for the packet engine: takes what is in the queue in a thread and says of each packet what a test wants."""

import select
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from appliance.kernel import nft, table
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.passage import Passage
from appliance.kernel.peers import Peer
from appliance.kernel.queue import OUTPUT, Queued
from appliance.kernel.queues import QUEUE, Queues
from appliance.kernel.speakers import Speakers
from tests.kernel.stage import RELAY, Stage

ACCEPT, DROP = "accept", "drop"


class Seen(NamedTuple):
    """One packet, and who the engine took for its sender."""

    packet: Queued
    speaker: Peer | None


class Engine:
    """In force between `with` and its end; `judge` answers for each packet, `seen` is what has come."""

    def __init__(self, stage: Stage, judge: Callable[[Seen], str | bytes] = lambda seen: ACCEPT, pings: bool = False) -> None:
        self.stage, self.judge, self.seen = stage, judge, list[Seen]()
        self.passage = Passage(stage.fence)
        self.speakers = stage.host(Speakers, stage.fence.speakers, stage.place.cgroup)
        self._pings = pings

    def __enter__(self) -> "Engine":
        self.queue = self.stage.host(Queues.open)
        self.stage.host(table.apply, nft.ruleset, RELAY, STEER_MARK, QUEUE)
        self.mark = self.passage.open(self._pings)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self.queue.fileno(), select.POLLIN)
        while not self._ended.is_set():
            poll.poll(20)
            for packet in self.queue.read():
                self._answer(packet)
            self.queue.flush()

    def _answer(self, packet: Queued) -> None:
        seen = Seen(packet, self.speakers.find(packet.mark))
        self.seen.append(seen)
        said = self.judge(seen)
        if isinstance(said, bytes):
            self.queue.verdict(packet.id, True, self.mark, said)
        else:
            self.queue.verdict(packet.id, said == ACCEPT, self.mark)

    def wait(self, number: int) -> None:
        """Return once so many packets have been sent."""
        until = time.monotonic() + 20
        while sum(one.packet.hook == OUTPUT for one in list(self.seen)) < number:
            assert time.monotonic() < until, self.seen
            time.sleep(0.01)

    def kill(self) -> None:
        """Die: the queue has no listener, and nobody has told the fence."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self.queue.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.passage.shut()
        self.kill()
