"""What wires of datagrams have in common: every datagram is one message, and nothing waits for an answer.

There is no connection to keep alive, so a refused datagram is simply not sent; a protocol that can say no to its
client (DNS) does so in `deny`.
"""

from appliance.model import Message, Send, Side
from appliance.wire import Plan


class Datagrams:
    """All of `wire.Wire` but `name` and `feed`, for a protocol without a connection."""

    def encrypted(self) -> bytes:
        return b""

    def again(self, message: Message) -> Message:
        return message

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        return [Send(Side.SERVER, message.raw)]

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        return []

    def inject(self, statement: str) -> list[Send]:
        raise ValueError("a datagram of our own has nobody to answer it to")

    def settle(self) -> list[Send]:
        return []

    def notice(self, text: str) -> bytes:
        return b""

    def refuse(self, text: str, code: str = "denied") -> bytes:
        return b""

    @property
    def idle(self) -> bool:
        return True

    @property
    def busy(self) -> bool:
        return False

    @property
    def cancel_key(self) -> bytes:
        return b""
