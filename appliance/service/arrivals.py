"""Whose each accepted connection is, told apart from the rest of a worker: the kernel's word, waited for if need be.

What takes files to know of an executable is found out by the hub (attribution.py), mostly between its exec and its
first connect. A connection that comes sooner waits here, for a bounded time; then it goes on, and what is not known is
unknown to the rules. A connection whose process is not known at all is denied, and recorded.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from appliance.kernel.original import original
from appliance.kernel.peers import Peer, Peers, netns_of
from appliance.model import Address, Decision, Flow, Note, Process
from appliance.relay.room import Room, vendor_of
from appliance.relay.tally import Counts
from appliance.service.ids import Ids
from appliance.service.reaction import EXEC
from appliance.service.secrets import hide

FIND_S = 2.0  # to hash the largest executables there are (1 GB) on a quiet machine
LOOK_S = 0.002  # between two looks; doubled each time, up to
LOOK_MAX_S = 0.05
MAX_WAITING = 1024  # connections; the rest does not wait. A cgroup may open 1,000 a second (VG_RATE)
SHARE = 0.5  # of these that one vendor may have alone: one that runs large files again and again is not to have all
# Connections of which the kernel said that their process became another program, and that are not taken yet, or by
# another worker: as many as one takes (relay/limits.py). It keeps 1,024 such programs (VG_CARRIED).
MAX_UNMET = 16384
NOBODY = "which process opened it could not be told"
UNTOLD = "another program, and which could not be told"
GONE = "the client was gone before it was taken; nothing of it was passed on"


class Arrivals:
    """Identifies connections of one worker, and knows their flows by the kernel's socket."""

    def __init__(
        self,
        peers: Peers,
        ids: Ids,
        incident: Callable[[Flow | None, str], None],
        record: Callable[[Flow, Sequence[Note]], None],
        counts: Counts,
        *,
        names: Callable[[Process | None, str], tuple[str, ...]] = lambda process, host: (),
    ) -> None:
        """`names` tells those that DNS gave to an address, for a process."""
        self._peers, self._ids, self._incident, self._record = peers, ids, incident, record
        self._counts, self._names = counts, names
        self._flows: dict[int, Flow] = {}  # by cookie
        self._unmet: dict[int, None] = {}  # cookies of such
        self._denied: dict[Address, Flow] = {}  # until the relay asks for them, at once
        self._waiting = Room(MAX_WAITING, SHARE)

    def identify(self, sock: socket.socket) -> Flow | Awaitable[Flow | None] | None:
        """Return whose connection this is; None when no governed process opened it, or it is aimed at us."""
        try:
            host, port = sock.getpeername()[:2]
        except OSError:
            return None  # its client reset it before we took it
        ours = Address.of(*sock.getsockname()[:2])
        client, meant = Address.of(host, port), original(sock)
        if meant is None or meant == ours:
            self._incident(None, f"{client} connected to the relay itself: refused")
            return None
        peer = self._peers.find(client, meant, netns_of(sock))
        if peer is None:
            self._incident(None, f"{client} to {meant} was opened by no governed process: refused")
            return None
        return self._known(client, peer)

    def missed(self, sock: socket.socket, client: Address) -> Flow | None:
        """Return the flow of a connection that was refused, on record; None if it is none of the fence's."""
        denied = self._denied.pop(client, None)
        if denied:
            return denied
        try:
            sock.getpeername()
        except OSError:
            meant = original(sock)
            peer = self._peers.find(client, meant, netns_of(sock)) if meant else None
            flow = self._flow_of(client, peer) if peer else None
            if flow:
                opened = Note("opened", f"{flow.client} -> {flow.server}")
                self._record(flow, (opened, Note("incident", GONE), Note("closed", GONE)))
            return flow
        return None

    def ran(self, cookie: int) -> tuple[Flow, Flow, str] | None:
        """Note that the process of a flow became another program, and kept it; return the flow before and after.

        After has no process if it could not be told which. None: it is no flow of ours, or this is known.
        """
        flow = self._flows.get(cookie)
        if flow is None or flow.process is None:
            self._meet_later(cookie)
            return None
        became = self._peers.became(cookie, flow.process.cgroup)
        if became is None:  # so many others have done the same that the kernel has it no more
            after, now = msgspec.structs.replace(flow, process=None), UNTOLD
        elif flow.process.became == hidden(became):
            return None
        else:
            process = msgspec.structs.replace(flow.process, became=hidden(became))
            after, now = msgspec.structs.replace(flow, process=process), became.exe
            self._flows[cookie] = after
        text = f"what connected as {flow.process.exe} is now {now}"
        self._record(flow, (Note("incident", text, message=EXEC),))
        self._incident(flow, text)
        return flow, after, text

    def latest(self, flow: Flow) -> Flow:
        """Return a flow with what holds its socket now, which `ran` may not have been told of yet."""
        became = self._peers.became(flow.cookie, flow.process.cgroup) if flow.process else None
        if flow.process is None or became is None:
            known = self._flows.get(flow.cookie)
            return known if known and known.id == flow.id else flow
        process = msgspec.structs.replace(flow.process, became=hidden(became))
        return msgspec.structs.replace(flow, process=process)

    def over(self, flow: Flow) -> None:
        """Forget a flow that is no more."""
        self._flows.pop(flow.cookie, None)

    async def _later(self, client: Address, peer: Peer) -> Flow | None:
        loop = asyncio.get_running_loop()
        until, pause, whose = loop.time() + FIND_S, LOOK_S, vendor_of(peer.process)
        self._waiting.take(whose, 1)
        try:
            while peer.image and loop.time() < until:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LOOK_MAX_S)
                peer = self._peers.again(peer)
        finally:
            self._waiting.take(whose, -1)
        return self._flow(client, peer)

    def _flow(self, client: Address, peer: Peer) -> Flow | None:
        self._counts.unattributed += bool(peer.image)
        flow = self._flow_of(client, peer)
        if flow.process is None or (peer.cookie in self._unmet and flow.process.became is None):
            self._deny(flow)
            return None
        self._flows[peer.cookie] = flow
        return flow

    def _meet_later(self, cookie: int) -> None:
        if len(self._unmet) >= MAX_UNMET:
            del self._unmet[next(iter(self._unmet))]
        self._unmet[cookie] = None

    def _known(self, client: Address, peer: Peer) -> Flow | Awaitable[Flow | None] | None:
        """Return the flow of a peer, later if what it runs is being found out."""
        if peer.image and self._waiting.allows(vendor_of(peer.process)):
            return self._later(client, peer)
        return self._flow(client, peer)

    def _flow_of(self, client: Address, peer: Peer) -> Flow:
        process = hidden(peer.process) if peer.process else None
        counted = (peer.cookie, peer.sequence, peer.scope, peer.epoch, peer.transport)
        names = self._names(process, peer.server.host)
        return Flow(self._ids.next(), time.time(), client, peer.server, process, *counted, names=names)

    def _deny(self, flow: Flow) -> None:
        """Record a flow that no rule can be asked about: lineage was lost, or its cgroup is gone."""
        text = f"{flow.client} -> {flow.server}"
        decision = Decision("block", "default", reason=NOBODY, unknown=NOBODY)
        denied = Note("decision", f"connect to {flow.server}", decision=decision, id=f"{flow.id}-1")
        self._record(flow, (Note("opened", text), denied, Note("closed", NOBODY, message="abort")))
        self._denied[flow.client] = flow
        self._incident(flow, f"{text}: {NOBODY}: refused")


def hidden(process: Process) -> Process:
    """Return a process without the passwords of its command line, and of what it became."""
    became = hidden(process.became) if process.became else None
    return msgspec.structs.replace(process, argv=hide(process.argv), became=became)
