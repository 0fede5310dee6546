"""When one flow is read from: only while what comes of it can go somewhere, and its vendor has room for it."""

from appliance.model import Flow, Side
from appliance.relay.end import End
from appliance.relay.limits import MAX_READ, Limits
from appliance.relay.outside import Outside
from appliance.relay.session_type import Session

C, S = Side.CLIENT, Side.SERVER


class Valve:
    """Regulates the two ends of a flow by what waits in them and in its session."""

    def __init__(self, flow: Flow, session: Session, client: End, server: End, outside: Outside) -> None:
        self._flow, self._session, self._outside = flow, session, outside
        self._client, self._server = client, server
        self._limits: Limits = outside.limits
        self._unfinished = {C: 0, S: 0}  # bytes since the session last had something to do with them
        self.weight = 0  # what was told of it
        self.closing = False

    def came(self, side: Side, size: int) -> None:
        """So many bytes came."""
        self._unfinished[side] += size

    def used(self, side: Side) -> None:
        """The session had something to do with them."""
        self._unfinished[side] = 0

    def bursts(self, side: Side) -> bool:
        """True if reading on is the only way to the end of a message, and there is no room for it."""
        unfinished = max(self._unfinished[side], self._session.kept)
        if unfinished == 0:
            return False
        return self._crowded(self._client.buffered + self._server.buffered) and unfinished > MAX_READ

    def regulate(self) -> bool:
        """Read, or not, from now on; False if that is to be looked at again soon, for want of memory."""
        client, server = self._client, self._server
        if self.closing:
            client.read(True)
            server.read(True)
            return True
        limits = self._limits
        to_client, to_server, held = client.buffered, server.buffered, self._session.held
        early, late = client.kept, server.kept
        crowded = self._crowded(to_client + to_server + early + late)
        most, may_hold = (0, 0) if crowded else (limits.answers, limits.held)
        client.read(not server.full and to_client <= most and held <= may_hold and not (crowded and early))
        server.read(not client.full and to_server <= most and not (crowded and (to_client or late)))
        return not crowded

    def over(self) -> None:
        """Give back what the flow took: it is no more."""
        self._weigh(0)

    def _crowded(self, buffered: int) -> bool:
        """Weigh what waits here; True if the flow's vendor has more waiting than it may."""
        weight = buffered + self._server.heavy
        if not self.closing:
            weight += self._session.held + max(self._unfinished[C] + self._unfinished[S], self._session.kept)
        return self._weigh(weight if weight > self._limits.unweighed else 0)

    def _weigh(self, weight: int) -> bool:
        if weight == self.weight == 0:
            return False
        more, self.weight = weight - self.weight, weight
        return not self._outside.weigh(self._flow, more) and weight > 0
