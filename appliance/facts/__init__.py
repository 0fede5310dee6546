"""What a message would do, as sets of words. Knows no bytes, no rules.

A `Reader` follows one flow: it sees every message of both sides in order and keeps what is needed to say what
the next one would do (settings, prepared statements, the catalogue). Keys of `Facts.values` are the words
rules use in `when`; each protocol's module documents its own.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

import msgspec

from appliance.model import Column, Message

Stage = Literal["prepares", "begins", "continues"]
"""Where in its life a request is: an approval is asked where it begins. One that only prepares waits for
that; one that continues (Execute of a bound portal) rides on the approval of its beginning."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What one message would do.

    A key in `unknown` may have more values than `values` shows, for the reason in `why`.
    """

    protocol: str
    values: Mapping[str, frozenset[str]]
    unknown: frozenset[str] = frozenset()
    why: str = ""
    changes: bool = False  # may change how later messages are to be read: they wait until it is answered
    stage: Stage = "begins"
    subject: str = ""  # the message with its parameters, for the reviewer and the record
    cancels: bytes = b""  # it takes back what waits on the flow whose wire has this `cancel_key`
    lineage: tuple[tuple[frozenset[str] | None, ...] | None, ...] = ()
    """For each result it brings back, for each place in it, the names a rule may call the column by, where the
    text tells that and not the server. None: not known."""
    opaque: bool = False  # another protocol may be spoken inside, of which nothing is known
    shape: "Facts | None" = None
    """Facts of one shape, which is one object, differ in `subject` and in the key `text` only."""


def letters(values: Iterable[frozenset[str]]) -> int:
    """Return how many characters values of facts have, by which what is kept of them is limited."""
    return sum(len(word) for found in values for word in found)


class Copy(msgspec.Struct, frozen=True, gc=False):
    """What a bulk copy out of the server sends. If that is not known, `format` is empty."""

    columns: tuple[Column, ...]  # empty: not known
    format: str = "text"
    delimiter: str = "\t"
    quote: str = ""
    escape: str = ""
    null: str = "\\N"
    header: bool = False


class Reader(Protocol):
    """Follows one flow of one protocol.

    Besides what its wire yields it takes a client's message of kind "query" that has only a `text`: a request as a
    person would type it, from a test of rules or `rules explain`.
    """

    needs_catalog: bool
    """Rules name relations or columns: it matters which ones the words of a message really mean."""

    def ask(self, message: Message) -> Facts | None:
        """Return what a client's message would do, or None if it carries no request of its own."""

    def sent(self, message: Message) -> None:
        """Note that a client's message went up."""

    def heard(self, message: Message) -> None:
        """Note an answer of the server, the answers to `wanted` included (kind "injected")."""

    def wanted(self, facts: Facts | None) -> str:
        """Return a statement of our own to run before a request with these facts is judged; empty for none.

        Asked only while the wire is idle. Its answer comes through `heard`; the request is then asked about
        again.
        """

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        """Return the names a rule may call this column by, of the answer to a request with these facts
        ("schema.table.column", base tables of a view included), or None if where it comes from is not known."""

    def copy(self, message: Message) -> Copy | None:
        """Return how a bulk copy out of the server, asked for by a message, sends its data; None if there is none."""
