"""Flows that went before anything could be recorded of them: put into the record, with what the kernel still knows.

Each is a session of its own that says so, with the number the fence gave it, so that a missing session can be told from
one that never was (model.Flow.sequence).
"""

import time
from collections.abc import Sequence
from pathlib import Path

from appliance.kernel.peers import Peer, Peers
from appliance.model import Address, Flow, Note
from appliance.record.log import Log
from appliance.record.whose import HUB
from appliance.service.arrivals import hidden
from appliance.service.ids import Ids
from appliance.service.opened import NOWHERE

UNSERVED = "unserved: the client was gone, or the worker was, before it could be judged; nothing of it was passed on"


class Unserved:
    """Writes to the record of one hub."""

    def __init__(self, records: Path, peers: Peers) -> None:
        self._log, self._ids, self._peers = Log(records, "hub"), Ids(HUB), peers

    def note(self, key: tuple[int, int], numbers: Sequence[int]) -> None:
        """Record the flows of a cgroup with these numbers.

        Raises:
            OSError: not all are in the record.
        """
        epoch, scope = key
        wanted = set(numbers)
        known: dict[int, tuple[Address, Peer]] = {
            peer.sequence: (client, peer)
            for client, peer in self._peers.each()
            if (peer.epoch, peer.scope) == key and peer.sequence in wanted
        }
        for number in numbers:
            client, peer = known.get(number, (NOWHERE, Peer(None, NOWHERE, 0, 0)))
            now = time.time()
            process = hidden(peer.process) if peer.process else None
            flow = Flow(self._ids.next(), now, client, peer.server, process, peer.cookie, number, scope, epoch)
            notes = (Note("opened", f"{client} -> {peer.server}"), Note("incident", UNSERVED), Note("closed", UNSERVED))
            self._log.append(flow, notes, now)
        self._log.seal()
