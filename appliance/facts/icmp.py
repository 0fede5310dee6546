"""Follows one flow of ICMP.

Keys of `Facts.values` (facts/words/icmp.py has the rules' side): type, code, size, rate, bytes, unit_rate, unit_bytes;
and `text`, the data as UTF-8, for detectors.

As a person types it a message is its type, code and size: "echo 0 64"; code and size may be left out.
"""

import msgspec

from appliance.facts import Copy, Facts
from appliance.facts.moved import Moved
from appliance.facts.shared import Shared
from appliance.model import Column, Message, Process

HEAD = 8  # bytes before the data
USUAL = 64  # bytes of ping(8)
MAX_TYPED = 65_535  # bytes a person may say it has


class Moves(Moved):
    """What ICMP moved."""


def follow(shared: Shared, process: Process | None) -> "ICMP":
    """Return a reader for one flow, as `facts.readers.open` says."""
    return ICMP(shared, process)


class ICMP:
    """Reader of one flow, as `facts.Reader` says."""

    def __init__(self, shared: Shared, process: Process | None) -> None:
        self.needs_catalog = False
        self._shared, self._process = shared, process
        self._moved = shared.of(Moves)

    def ask(self, message: Message) -> Facts | None:
        message = typed(message) if message.kind == "query" else message
        values = {
            "type": frozenset((message.status,)),
            "code": frozenset((message.name,)),
            "size": frozenset((str(len(message.raw)),)),
            "text": frozenset((message.raw[HEAD:].decode("utf-8", "replace"),)),
            **self._moved.values(self._process, self._shared.now, len(message.raw)),
        }
        return Facts("icmp", values, subject=message.text)

    def sent(self, message: Message) -> None:
        self._moved.add(self._process, self._shared.now, 1, len(message.raw))

    def heard(self, message: Message) -> None:
        self._moved.add(self._process, self._shared.now, 0, len(message.raw))

    def wanted(self, facts: Facts | None) -> str:
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        return frozenset()

    def copy(self, message: Message) -> Copy | None:
        return None


def typed(message: Message) -> Message:
    """Return a message that a person typed as it comes from a wire."""
    kind, code, size = (*message.text.split(), "", "", "")[:3]
    length = min(int(size), MAX_TYPED) if size.isdecimal() else USUAL
    return msgspec.structs.replace(message, kind="datagram", status=kind, name=code or "0", raw=bytes(length))
