"""Follows one flow of ICMP.

Keys of `Facts.values` (facts/words/icmp.py has the rules' side): type, code, size, rate, bytes, unit_rate, unit_bytes;
and `text`, the data as UTF-8, for detectors.

As a person types it a message is its type, code and size: "echo 0 64"; code and size may be left out.
"""

import msgspec

from appliance.facts import Facts
from appliance.facts.datagram import Reading
from appliance.facts.moved import Moved
from appliance.facts.shared import Shared
from appliance.model import Message, Process

HEAD = 8  # bytes before the data
USUAL = 64  # bytes of ping(8)
MAX_TYPED = 65_535  # bytes a person may say it has


class Moves(Moved):
    """What ICMP moved."""


def follow(shared: Shared, process: Process | None) -> "ICMP":
    """Return a reader for one flow, as `facts.readers.open` says."""
    return ICMP(shared, process, Moves)


class ICMP(Reading):
    """Reader of one flow, as `facts.Reader` says."""

    def ask(self, message: Message) -> Facts | None:
        message = typed(message) if message.kind == "query" else message
        values = {
            "type": frozenset((message.status,)),
            "code": frozenset((message.name,)),
            "size": frozenset((str(len(message.raw)),)),
            "text": frozenset((message.raw[HEAD:].decode("utf-8", "replace"),)),
            **self._volumes(len(message.raw)),
        }
        return Facts("icmp", values, subject=message.text)

    def sent(self, message: Message) -> None:
        self._went(len(message.raw))


def typed(message: Message) -> Message:
    """Return a message that a person typed as it comes from a wire."""
    kind, code, size = (*message.text.split(), "", "", "")[:3]
    length = min(int(size), MAX_TYPED) if size.isdecimal() else USUAL
    return msgspec.structs.replace(message, kind="datagram", status=kind, name=code or "0", raw=bytes(length))
