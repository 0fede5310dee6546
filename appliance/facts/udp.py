"""Follows one flow of datagrams that no protocol here reads.

Keys of `Facts.values` (facts/words/udp.py has the rules' side): size, begins, rate, bytes, unit_rate, unit_bytes; and
`text`, the datagram as UTF-8, for detectors.

As a person types it, a datagram is its bytes in hexadecimal digits; what is no such number is a text in UTF-8.
"""

from appliance.facts import Copy, Facts
from appliance.facts.moved import Moved
from appliance.facts.shared import Shared
from appliance.model import Column, Message, Process, Side

BEGIN = 16  # bytes that `begins` has; RFC 768 leaves the payload to others: ours, the fixed heads of NTP and DHCP fit


class Moves(Moved):
    """What datagrams moved."""


def follow(shared: Shared, process: Process | None) -> "UDP":
    """Return a reader for one flow, as `facts.readers.open` says."""
    return UDP(shared, process)


class UDP:
    """Reader of one flow, as `facts.Reader` says."""

    def __init__(self, shared: Shared, process: Process | None) -> None:
        self.needs_catalog = False
        self._shared, self._process = shared, process
        self._moved = shared.of(Moves)

    def ask(self, message: Message) -> Facts | None:
        data = typed(message)
        values = {
            "size": frozenset((str(len(data)),)),
            "begins": frozenset((data[:BEGIN].hex(),)),
            "text": frozenset((data.decode("utf-8", "replace"),)),
            **self._moved.values(self._process, self._shared.now, len(data)),
        }
        return Facts("udp", values, subject=message.text)

    def sent(self, message: Message) -> None:
        self._moved.add(self._process, self._shared.now, 1, len(typed(message)))

    def heard(self, message: Message) -> None:
        self._moved.add(self._process, self._shared.now, 0, len(message.raw))

    def wanted(self, facts: Facts | None) -> str:
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        return frozenset()

    def copy(self, message: Message) -> Copy | None:
        return None


def typed(message: Message) -> bytes:
    """Return the bytes of a datagram, of one that a person typed as well."""
    if message.kind != "query" or message.side is Side.SERVER:
        return message.raw
    try:
        return bytes.fromhex(message.text)
    except ValueError:
        return message.text.encode()
