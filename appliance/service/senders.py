"""Whose each flow of packets is, told by the mark of the socket that sent the first: as arrivals.py for connections."""

from collections.abc import Awaitable

import msgspec

from appliance.kernel.speakers import Speakers
from appliance.model import Address, Flow
from appliance.service.arrivals import Arrivals


class Senders(Arrivals):
    """Identifies flows of packets, and knows the newest of each socket."""

    speakers: Speakers  # set before the first flow; the peers of `Arrivals` are over the same map

    def tell(self, mark: int, transport: str, client: Address, server: Address) -> Flow | Awaitable[Flow | None] | None:
        """Return the flow that a packet from `client` begins; None: nobody's, and nothing of it may pass."""
        peer = self.speakers.find(mark)
        if peer is None:
            return None
        return self._known(client, msgspec.structs.replace(peer, server=server, transport=transport))

    def over(self, flow: Flow) -> None:
        if self._flows.get(flow.cookie) is flow:
            super().over(flow)
