"""The packet engine: judges what is not terminated, packet by packet, before the kernel lets it go.

    python -m appliance.service.engine UID GID CHANNEL RECORDS NAMES CELLS SPEAKERS IMAGES CARRIED

All but the first two are descriptors, inherited. It parses hostile bytes, so it becomes an ordinary user and keeps one
right, CAP_NET_ADMIN: the kernel's queue asks for it. Its raw sockets are made before, and can only send.

With it gone nobody listens to the queue, and the kernel drops what is sent there.
"""

import ctypes
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from appliance.facts.shared import Changes
from appliance.kernel import cells
from appliance.kernel.names import Names
from appliance.kernel.peers import Peers
from appliance.kernel.queues import Queues
from appliance.kernel.speakers import Speakers
from appliance.model import Flow
from appliance.relay.channel import Queueing, Setup
from appliance.service import bare, journal, voice
from appliance.service.ids import Ids
from appliance.service.lanes import Duties, Lanes
from appliance.service.outlet import Outlet
from appliance.service.senders import Senders
from appliance.service.serving import Serving
from appliance.session import Session
from appliance.session.rigid import Rigid

CAP_NET_ADMIN = 12
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


class Engine(Serving):
    """Serves packets."""

    record = "engine"

    def __init__(
        self,
        hub: socket.socket,
        records: int,
        maps: Sequence[int],
        raw: tuple[socket.socket, socket.socket | None],
        *,
        names: int = -1,
        changes: Changes | None = None,
    ) -> None:
        """`maps` are those of speakers, images and carried sockets; `raw` are voice.sockets(); `names` is the table of
        what DNS told, `changes` what tells of changes of catalogues."""
        super().__init__(hub, records, changes)
        self._maps, self._raw, self._names = maps, raw, Names(names)

    def _begun(self) -> Lanes:
        self._lanes = Lanes(
            Duties(
                identify=lambda *found: self._senders.tell(*found),  # noqa: PLW0108  made at `Setup`
                same=lambda *found: self._senders.same(*found),  # noqa: PLW0108
                session=self._session,
                record=self._record,
                ask=self._ask,
                withdraw=self._withdraw,
                cancel=self._cancel,
                incident=self._incident,
                over=self._over,
                learned=lambda flow, told: self._names.learn(flow.process, told.name, told.hosts, told.ttl_s),
            )
        )
        return self._lanes

    def _meet(self, setup: Setup) -> Senders:
        slice, (speakers, *others) = Path(setup.slice), self._maps
        peers = Peers(speakers, slice, *others)
        ids, counts = Ids(setup.worker), self._lanes.counts
        self._senders = Senders(peers, ids, self._incident, self._record, counts, names=self._names.of)
        self._senders.speakers = Speakers(speakers, slice, *others)
        return self._senders

    def _open(self) -> None:
        queueing = self._setup.queue
        assert queueing is not None
        said = voice.Voice(*self._raw, queueing.passing)
        self._lanes.open(Outlet(Queues.open(queueing.number), said, queueing.passing))

    def _queue(self, message: Queueing) -> None:
        self._setup = msgspec.structs.replace(self._setup, queue=message)
        if self._lanes.taking:
            self._lanes.outlet.passing(message.passing)

    def _shut(self) -> None:
        self._lanes.stop()

    def _renew(self) -> None:
        self._lanes.renew()

    def _taken_over(self, text: str, flow: Flow) -> None:
        self._lanes.fail_socket(text, flow.cookie)

    def _session(self, flow: Flow) -> Session:
        kind = Rigid if flow.transport == "tcp" else Session
        return kind(flow, self._rules, self._shared, time.perf_counter)


def main(words: Sequence[str]) -> int:
    """Become the user named, but for one right; then run the engine on inherited descriptors."""
    uid, gid, hub, records, names, common, *maps = map(int, words)
    raw = voice.sockets()
    bare.become(uid, gid, keep=CAP_NET_ADMIN)
    journal.begin(f"engine[{os.getpid()}]")
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # others of our user must not read what is in memory
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)  # stopped when its hub dies, it would never see it

    async def live() -> int:
        changes = Changes(cells.opened(common), secrets.randbits(62))
        return await Engine(socket.socket(fileno=hub), records, maps, raw, names=names, changes=changes).run()

    return uvloop.run(live())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
