"""The TLS of a flow: being opened, and then open for as long as its server would be believed."""

import asyncio
from collections.abc import Callable, Mapping

from appliance.model import Flow, Open, Opened, Side, Unopened
from appliance.relay import tls
from appliance.relay.end import End
from appliance.relay.layer import Layer
from appliance.relay.outside import Outside
from appliance.relay.room import vendor_of
from appliance.relay.session_type import Session

C, S = Side.CLIENT, Side.SERVER


class Securing:
    """Of one flow. `begin` when the session says so; then `told` is called once, or `broken`."""

    def __init__(
        self,
        flow: Flow,
        session: Session,
        ends: Mapping[Side, End],
        outside: Outside,
        *,
        told: Callable[[Opened | Unopened], None],
        broken: Callable[[Exception], None],
    ) -> None:
        self._flow, self._session, self._ends, self._outside = flow, session, ends, outside
        self._told, self._broken = told, broken
        self._task: asyncio.Task[None] | None = None
        self._layers: dict[Side, Layer] = {}

    def begin(self, ask: Open) -> None:
        """Open both ends; from now on nothing is given to the session until that is done."""
        self._layers = layers = {side: Layer(self._turn) for side in Side}
        for side, end in self._ends.items():
            end.secure(layers[side])
        layers[C].feed(ask.data)
        self._task = asyncio.get_running_loop().create_task(self._open(ask, layers))

    def stop(self) -> None:
        """Give it up."""
        if self._task and not self._task.done():
            self._task.cancel()
            for layer in self._layers.values():
                self._outside.turns.leave(vendor_of(self._flow.process), layer)
            asyncio.get_running_loop().call_soon(self._leave)

    def doubts(self) -> str:
        """Return why the server would not be believed by the rules in force; "" if it would, or need not be."""
        belief = self._layers[S].belief if self._layers else None
        return self._outside.contexts.doubts(belief, self._session.trust) if belief else ""

    async def _open(self, ask: Open, layers: dict[Side, Layer]) -> None:
        try:
            way = tls.Way(self._flow.server, layers, self._flush, self._outside.limits.connect_s)
            result = await tls.opened(ask, way, self._outside.contexts)
        except Exception as error:
            self._broken(error)
            return
        if isinstance(result, Unopened) and result.side is S:
            self._ends[C].secure(None)  # it has said nothing yet: what it is told is told plainly
        self._told(result)
        for end in self._ends.values():
            end.release()

    def _leave(self) -> None:
        """What the ends still say is only being waited for."""
        for layer in self._layers.values():
            layer.leave()
        for end in self._ends.values():
            end.release()

    def _turn(self, layer: Layer) -> None:
        self._outside.turns.wait(vendor_of(self._flow.process), layer)

    def _flush(self) -> None:
        for end in self._ends.values():
            end.flush()
