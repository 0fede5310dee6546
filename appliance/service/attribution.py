"""Finding out what executables are, as soon as the kernel tells of them (kernel/events.py), for relays to read.

The kernel tells of each exec in the slice, and of each connect by an image that nobody has found out yet. What was
found is written to the fence's map of images, which outlives this process: a script cannot be found out later. Files
are read in threads, since a file system may be slow, or never answer: a thread that hangs is given up for another, a
few times. What cannot be found is written as unknown when somebody connects, so that nobody waits for it.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable

import msgspec

from appliance.kernel.events import Ring, Told
from appliance.kernel.fence import Fence
from appliance.kernel.finder import Finder
from appliance.kernel.layout import Event, Executed, Image
from appliance.kernel.libbpf import Map
from appliance.kernel.package import UNKNOWN
from appliance.model import HostError

log = logging.getLogger("vendorgate.hub")

THREADS = 2  # one hashes a large file while the other goes on
MAX_QUEUED = 4096  # images; more than the ring holds
HANGS_S = 30.0  # a thread that is at one image as long reads from something that does not answer
MAX_HUNG = 8  # threads given up; then what has to be read is unknown
NOTHING = Image(package=UNKNOWN, script=UNKNOWN)


class Work(msgspec.Struct):
    """What one thread does."""

    who: Executed | None = None
    since: float = 0.0
    hung: bool = False


class Attribution:
    """Reads the ring from `start` to `close`; `carried` is told of sockets that outlived an exec of their holder."""

    def __init__(self, fence: Fence, carried: Callable[[int], None], finder: Finder | None = None) -> None:
        self._images, self._events = Map(fence.found), fence.events
        self._carried, self._finder = carried, finder or Finder()
        self._queue: queue.Queue[Executed | None] = queue.Queue(MAX_QUEUED)
        self._doing: dict[bytes, bool] = {}  # image -> somebody waits: write whatever comes of it
        self._works: list[Work] = []
        self._hung = 0
        self.lost = 0  # images that were not looked for, or not found out

    def start(self) -> None:
        """Take what is in the ring already, and all that comes."""
        self._loop = asyncio.get_running_loop()
        for _ in range(THREADS):
            self._begin()
        self._ring = Ring(self._events, self._told)
        self._loop.add_reader(self._ring.fd, self._read)
        self._read()

    def close(self) -> None:
        """Read no more. Threads end with what they are at; nobody waits for those."""
        self._loop.remove_reader(self._ring.fd)
        self._ring.close()
        for _ in self._works:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)

    def watch(self) -> None:
        """Give up threads that hang. Call it every second."""
        now = self._loop.time()
        for work in self._works:
            if work.who and not work.hung and now - work.since > HANGS_S:
                work.hung = True
                self._hung += 1
                log.error("reading %s takes over %.0f s: given up", work.who.exe, HANGS_S)
                self._finish(work.who, NOTHING)
                if self._hung <= MAX_HUNG:
                    self._begin()
                elif all(one.hung for one in self._works):
                    self._give_up()

    def _give_up(self) -> None:
        """No thread is left: what was not found out before is unknown from here on."""
        log.critical("executables are not looked at any more: start vendorgate anew when files can be read again")
        while not self._queue.empty():
            who = self._queue.get_nowait()
            if who:
                self._finish(who, NOTHING)

    def _begin(self) -> None:
        work = Work()
        self._works = [one for one in self._works if not one.hung] + [work]
        threading.Thread(target=self._run, args=(work,), name="attribution", daemon=True).start()

    def _read(self) -> None:
        try:
            self._ring.consume()
        except HostError as error:
            log.error("%s", error)

    def _told(self, told: Told) -> None:
        who = told.who
        if told.kind is Event.CARRIED:
            self._carried(told.cookie)
            return
        asked = told.kind is Event.CONNECT
        if who.image in self._doing:
            self._doing[who.image] = self._doing[who.image] or asked
            return
        found = self._finder.at_once(who)
        if found:
            self._write(who, found)
            return
        self._doing[who.image] = asked
        if self._queue.full() or all(work.hung for work in self._works):
            self._finish(who, NOTHING)
        else:
            self._queue.put_nowait(who)

    def _finish(self, who: Executed, found: Image) -> None:
        """Write what was found. Nothing found at an exec may still be found for what it forked, when that connects."""
        asked = self._doing.pop(who.image, None)
        if asked is None:
            return  # it was given up
        if not found.sha256:
            self.lost += asked
        if found.sha256 or asked:
            self._write(who, found)

    def _write(self, who: Executed, found: Image) -> None:
        try:
            self._images.update(who.image, found.pack())
        except HostError as error:
            self.lost += 1
            log.error("%s", error)

    # -- in threads ------------------------------------------------------------------------------------------

    def _run(self, work: Work) -> None:
        while not work.hung:
            who = self._queue.get()
            if who is None:
                return
            work.since = self._loop.time()
            work.who = who
            try:
                found = self._finder.find(who)
            except Exception as error:
                log.error("attribution of %s: %s", who.exe, error, exc_info=error)
                found = NOTHING
            work.who = None
            try:
                self._loop.call_soon_threadsafe(self._finish, who, found)
            except RuntimeError:  # the hub has stopped
                return
