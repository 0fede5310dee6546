"""The worker process: sockets, sessions and the record of one core. Holds no privilege (launch.py).

    python -m appliance.service.worker UID GID CHANNEL DOOR FROZEN NAMES CELLS PEERS IMAGES CARRIED RECORDS LISTENER...

All but the first two are descriptors, inherited. What it has in common with the packet engine is in serving.py.
"""

import ctypes
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path

import uvloop

from appliance.facts.shared import Changes
from appliance.kernel import cells
from appliance.kernel.names import Names
from appliance.kernel.peers import Peers
from appliance.model import Address, Flow
from appliance.relay.channel import (
    Setup,
)
from appliance.relay.closing import Frozen
from appliance.relay.relay import Duties, Relay
from appliance.service import bare, journal
from appliance.service.arrivals import Arrivals
from appliance.service.door import Door
from appliance.service.ids import Ids
from appliance.service.serving import Serving
from appliance.session import Session

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


class Worker(Serving):
    """Serves connections."""

    record = "worker"

    def __init__(
        self,
        ends: Sequence[socket.socket],
        maps: Sequence[int],
        records: int,
        listeners: Sequence[socket.socket],
        *,
        names: int = -1,
        changes: Changes | None = None,
    ) -> None:
        """`ends` are those of the channel and of the door; `maps` are the fence's, in the order of fence.RELAYS;
        `names` is the table of what DNS told, `changes` what tells of changes of catalogues."""
        hub, self._doorway = ends
        super().__init__(hub, records, changes)
        self._listeners, self._maps, self._names = listeners, maps, Names(names)

    def _begun(self) -> Relay:
        relay = self._taking = Relay(self._duties())
        self._door = Door(self._doorway, relay.listen, relay.leave)
        return relay

    def _meet(self, setup: Setup) -> Arrivals:
        peers = Peers(self._maps[0], Path(setup.slice), *self._maps[1:])
        told = self._names.of
        return Arrivals(peers, Ids(setup.worker), self._incident, self._record, self._relay.counts, names=told)

    def _open(self) -> None:
        for sock in self._listeners:
            self._taking.listen(sock)
        self._door.open()

    def _shut(self) -> None:
        self._door.close()
        self._taking.stop()

    def _renew(self) -> None:
        self._taking.renew()

    def _duties(self) -> Duties:
        return Duties(
            identify=self._identify,
            session=lambda flow: Session(flow, self._rules, self._shared, time.perf_counter),
            record=self._record,
            record_all=self._record_all,
            ask=self._ask,
            withdraw=self._withdraw,
            cancel=self._cancel,
            incident=self._incident,
            over=self._over,
            missed=self._missed,
            mint=self._mint,
            learned=lambda flow, told: self._names.learn(flow.process, told.name, told.hosts, told.ttl_s),
            gate=lambda: self._syncer.gate if self._syncer else None,
        )

    def _identify(self, sock: socket.socket) -> Flow | Awaitable[Flow | None] | None:
        return self._arrivals.identify(sock)

    def _missed(self, sock: socket.socket, client: Address) -> Flow | None:
        return self._arrivals.missed(sock, client)


def main(words: Sequence[str]) -> int:
    """Become the user named, for good; then run a worker on inherited descriptors."""
    uid, gid, hub, door, Frozen.program, names, common, peers, images, carried, records, *listeners = map(int, words)
    bare.become(uid, gid)  # before what follows: the kernel resets both at a change of user
    journal.begin(f"worker[{os.getpid()}]")
    # Others of our user must not read what is in memory: masked values, questions, rules.
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    # A worker that is stopped when its hub dies would never see it, and keep its part of the listening port.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
    ends, sockets = ([socket.socket(fileno=number) for number in some] for some in ((hub, door), listeners))

    async def live() -> int:
        changes = Changes(cells.opened(common), secrets.randbits(62))
        return await Worker(ends, (peers, images, carried), records, sockets, names=names, changes=changes).run()

    return uvloop.run(live())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
