"""Packets of many flows -> what happens in each."""

from collections.abc import Iterator

from appliance.model import Address, Side
from appliance.packet.decode import Packet
from appliance.packet.events import Choices, Happening, Taken


class Tracker:
    """Flows by their ends. Give packets in the order they came, with times that do not go back.

    The counters tell of all flows since the beginning.
    """

    def __init__(self, choices: Choices = Choices()) -> None:  # noqa: B008 - frozen
        self.choices = choices
        self.memory = 0  # bytes kept for all flows
        self.counters: dict[str, int] = {}  # "invalid: REASON", "odd: KIND" -> how many

    def take(self, packet: Packet, now: float, number: int, sender: Side | None = None, partial: bool = False) -> Taken:
        """Take the next packet, and say what became of it.

        `now` is any clock in seconds, `number` names the packet in what comes out. `sender` is who sent it, where the
        caller knows; else the client is who began. `partial`: its checksum was left to the hardware.
        """
        raise NotImplementedError

    def expire(self, now: float) -> list[Happening]:
        """Forget flows and fragments that nothing was heard of for long."""
        raise NotImplementedError

    def end(self, now: float) -> list[Happening]:
        """No more packets come: give what waits (captures only) and end every flow."""
        raise NotImplementedError

    def refuse(self, flow: int, now: float) -> list[Happening]:
        """Refuse all further packets of a flow, until it would be forgotten or begins anew by a SYN."""
        raise NotImplementedError

    def forget(self, flow: int) -> None:
        """Let go of a flow: the next packet of its ends begins another."""
        raise NotImplementedError

    def find(self, transport: str, client: Address, server: Address) -> int:
        """Return the number of the flow between these ends; 0 if there is none."""
        raise NotImplementedError

    def flows(self) -> Iterator[tuple[int, str, Address, Address]]:
        """Yield number, transport, client and server of every flow."""
        raise NotImplementedError
