"""Follows the connections of QUIC over one pair of addresses.

Keys of `Facts.values` (facts/words/quic.py has the rules' side): sni, alpn, hello, size, rate, bytes, unit_rate,
unit_bytes. A datagram that is no hello may be of any connection that was allowed: it has the names of all of them.
Without one, whom it is for is not known. What is inside is never known.

As a person types it a hello is the server's name.
"""

from appliance.facts import Facts
from appliance.facts.datagram import Reading
from appliance.facts.moved import Moved
from appliance.facts.shared import Shared
from appliance.model import Message, Process

NO_NAME = "-"
MAX_NAMES = 64  # of one flow; ours: behind it nothing more is known of whom its datagrams are for
USUAL = 1200  # bytes of a datagram with a hello; RFC 9000 section 14.1
SAID = ("sni", "alpn", "hello")
UNKNOWN = frozenset(("text", *SAID))


class Moves(Moved):
    """What QUIC moved."""


def follow(shared: Shared, process: Process | None) -> "QUIC":
    """Return a reader for one flow, as `facts.readers.open` says."""
    return QUIC(shared, process)


class QUIC(Reading):
    """Reader of one flow, as `facts.Reader` says."""

    def __init__(self, shared: Shared, process: Process | None) -> None:
        super().__init__(shared, process, Moves)
        self._said: dict[str, frozenset[str]] = {}  # by the hellos that went up
        self._full = False

    def ask(self, message: Message) -> Facts | None:
        if message.kind == "partial":
            return None  # it goes nowhere
        size = len(message.raw) or USUAL
        hello = message.kind in ("hello", "query")
        said = _hello(message) if hello else self._said
        known = hello or (bool(said) and not self._full and message.kind == "datagram")
        values = {
            "size": frozenset((str(size),)),
            **(said if known else {}),
            **self._volumes(size),
        }
        unknown = frozenset(("text",)) if known else UNKNOWN
        why = "QUIC is not opened" if known else "whom it is for is not known"
        return Facts("quic", values, unknown, why, subject=message.text)

    def sent(self, message: Message) -> None:
        if message.kind == "hello":
            for key, values in _hello(message).items():
                self._said[key] = self._said.get(key, frozenset()) | values
                self._full = self._full or len(self._said[key]) > MAX_NAMES
        if message.kind != "partial":
            self._went(len(message.raw))


def _hello(message: Message) -> dict[str, frozenset[str]]:
    if message.kind == "query":
        return {"sni": frozenset((message.text.strip().lower() or NO_NAME,)), "hello": frozenset(("plain",))}
    return {
        "sni": frozenset((message.name or NO_NAME,)),
        "alpn": frozenset((value.data or b"").decode() for value in message.values),
        "hello": frozenset((message.status,)),
    }
