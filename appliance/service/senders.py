"""Whose each flow of packets is, told by the mark of the socket that sent the first: as arrivals.py for connections."""

from collections.abc import Awaitable
from typing import Any

import msgspec

from appliance.kernel.layout import LINGER
from appliance.kernel.peers import Peer
from appliance.kernel.speakers import Speakers
from appliance.model import Address, Flow
from appliance.service.arrivals import Arrivals


class Senders(Arrivals):
    """Identifies flows of packets. A socket may have many; all of them are its process's."""

    speakers: Speakers  # set before the first flow; the peers of `Arrivals` are over the same map

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._live: dict[int, dict[str, Flow]] = {}  # by cookie, then by id

    def tell(
        self, mark: int, transport: str, client: Address, server: Address, since: int
    ) -> Flow | Awaitable[Flow | None] | None:
        """Return the flow that a packet from `client` begins, sent after `since` (`Queued`).

        None: nobody's, and nothing of it may pass; or it may be older than the socket that has its number now. That was
        made LINGER after the one before was closed.
        """
        peer = self.speakers.find(mark)
        if peer is None or since < peer.opened_ns - LINGER * 10**9:
            return None
        return self._known(client, msgspec.structs.replace(peer, server=server, transport=transport))

    def same(self, flow: Flow, mark: int) -> bool:
        """Return True if the socket that has this mark now is the one whose flow this is, and not one made since.

        A connection that another socket makes begins by itself, and so is another flow.
        """
        return flow.transport == "tcp" or self.speakers.cookie(mark) == flow.cookie

    def over(self, flow: Flow) -> None:
        live = self._live.get(flow.cookie, {})
        live.pop(flow.id, None)
        if not live:
            self._live.pop(flow.cookie, None)
            super().over(flow)

    def _flow(self, client: Address, peer: Peer) -> Flow | None:
        flow = super()._flow(client, peer)
        if flow is not None:
            self._live.setdefault(flow.cookie, {})[flow.id] = flow
        return flow

    def _deny(self, flow: Flow) -> None:
        super()._deny(flow)
        self._denied.clear()  # nobody asks for them: there is no connection to account for
