"""Any protocol in datagrams that is not read here: one message each, of kind "datagram", and nothing known of it.

Source: RFC 768. A refused datagram is not sent; the caller may answer it as a closed port would.
"""

from collections.abc import Iterator

from appliance.model import Column, Message, ProtocolError, Send, Side
from appliance.wire import Opening, Plan
from appliance.wire.datagrams import Datagrams

MAX_DATAGRAM = 65_535  # bytes; the length field of RFC 768, header included
MAX_PLANS = 16  # sets of mask rules that datagrams of one flow had; ours: rules for one target are few
MAX_SHOWN = 32  # bytes that stand in the text of a message


class UDP(Datagrams):
    """Datagrams between two addresses, as `wire.Wire` says."""

    name = "udp"

    def __init__(self) -> None:
        self._plans: dict[object, Plan] = {}  # of all datagrams that went up: what comes may answer any; by their rules

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        rules = getattr(plan, "rules", plan)
        if plan is not None and rules != ():
            self._plans[rules] = plan
            if len(self._plans) > MAX_PLANS:
                raise ProtocolError(f"datagrams whose answers are masked in more than {MAX_PLANS} ways")
        return super().allow(message, plan, redact)

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if len(data) > MAX_DATAGRAM:
            raise ProtocolError(f"a datagram over {MAX_DATAGRAM} bytes")
        raw = self.seen(side, data)
        text = f"{len(data)} bytes {raw[:MAX_SHOWN].hex()}".rstrip()
        yield Message(side, "datagram", raw, text=text, masked=int(raw != data))

    def seen(self, side: Side, data: bytes) -> bytes:
        """Return a datagram as the other side may see it."""
        if side is Side.SERVER:
            for plan in self._plans.values():
                data = _masked(data, plan)
        return data


def _masked(data: bytes, plan: Plan) -> bytes:
    """Return a datagram with what detectors find in it masked."""
    cells = plan((Column(""),))
    cell = cells[0] if cells else None
    text = data.decode("latin-1")
    return data if cell is None else (cell(text) or "").encode("latin-1", "replace")


OPENING = Opening(UDP, lambda client, server: False, datagram=UDP)
