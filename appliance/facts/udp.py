"""Follows one flow of datagrams that no protocol here reads.

Keys of `Facts.values` (facts/words/udp.py has the rules' side): size, begins, rate, bytes, unit_rate, unit_bytes; and
`text`, the datagram as UTF-8, for detectors.

As a person types it, a datagram is its bytes in hexadecimal digits; what is no such number is a text in UTF-8.
"""

from appliance.facts import Facts
from appliance.facts.datagram import Reading
from appliance.facts.moved import Moved
from appliance.facts.shared import Shared
from appliance.model import Message, Process, Side

BEGIN = 16  # bytes that `begins` has; RFC 768 leaves the payload to others: ours, the fixed heads of NTP and DHCP fit


class Moves(Moved):
    """What datagrams moved."""


def follow(shared: Shared, process: Process | None) -> "UDP":
    """Return a reader for one flow, as `facts.readers.open` says."""
    return UDP(shared, process, Moves)


class UDP(Reading):
    """Reader of one flow, as `facts.Reader` says."""

    def ask(self, message: Message) -> Facts | None:
        data = typed(message)
        values = {
            "size": frozenset((str(len(data)),)),
            "begins": frozenset((data[:BEGIN].hex(),)),
            "text": frozenset((data.decode("utf-8", "replace"),)),
            **self._volumes(len(data)),
        }
        return Facts("udp", values, subject=message.text)

    def sent(self, message: Message) -> None:
        self._went(len(typed(message)))


def typed(message: Message) -> bytes:
    """Return the bytes of a datagram, of one that a person typed as well."""
    if message.kind != "query" or message.side is Side.SERVER:
        return message.raw
    try:
        return bytes.fromhex(message.text)
    except ValueError:
        return message.text.encode()
