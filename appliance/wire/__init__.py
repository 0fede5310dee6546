"""Bytes <-> messages, one protocol one module. No I/O, no clock, no rules.

A wire is one connection of one protocol, both directions. It parses, keeps the protocol's state, and carries
out on the wire what the session decided about a client's message: pass it (`allow`) or let it fail as the
server would have failed it (`deny`). Answers of the server come out of `feed` already in the form the client
may see: masked as the plan of the request said, answers to what we injected taken out, refusals in our own
words.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from appliance.model import Column, Message, Send, Side

Cell = Callable[[str], str | None]
"""Masks one value in its text form. Returns the same object when nothing is to be masked; None is NULL."""

Plan = Callable[[tuple[Column, ...]], Sequence[Cell | None] | None]
"""Given the columns of a result: a cell per column (None: leave it), or None to leave the whole result."""


class Opening(msgspec.Struct, frozen=True):
    """How connections of a protocol begin: OPENING of its module here.

    `recognise` tells the protocol from the first bytes of client and server: yes, no, or None for too few. Of protocols
    spoken in datagrams `first` tells it from the first of the client, and `ports` are those where nothing else is.
    """

    make: Callable[[], "Wire"]
    recognise: Callable[[bytes, bytes], bool | None]
    datagram: Callable[[], "Wire"] | None = None  # one for datagrams; None: not spoken in them
    first: Callable[[bytes], bool] | None = None
    ports: tuple[int, ...] = ()


class Wire(Protocol):
    """One connection of one protocol, both directions.

    Kinds of messages that mean the same in every protocol: "startup" is the login and "cancel" a connection's only
    request, to take back what another one waits for: denied, they end their connection; "tls", of either side, is
    where TLS begins; "redirect" sends the client to the server in its `name` ("host:port"); "tunnel", of the server, is
    where the connection becomes one to the place in its `name`, whose first bytes are its value; "error", "notice",
    "complete" and "suspended" end a run of answers in the record; "row" and "copy-data" are counted there; "injected"
    and "injected-done" answer `inject`.

    A wire that reads other messages while one has begun says in `kept` how many bytes of that it has.
    """

    name: str

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        """Yield each message that `data` completes, in wire order. No data of the server: it will send no more.

        Messages of the client have not been sent on: the caller gives each, in order, to `allow` or `deny`,
        or drops it. What the wire answers by itself comes among them, as a message of the server. Messages of the
        server are to be sent on as their `raw` says (which may be empty).

        Raises:
            ProtocolError: the bytes cannot be this protocol, or exceed a limit.
        """

    def encrypted(self) -> bytes:
        """TLS begins behind the last message, of kind "tls": what is fed from now on is inside it.

        Returns the client's bytes that were fed already and belong to TLS.
        """

    def again(self, message: Message) -> Message:
        """Return a client's message that had to wait, read anew by what is now in force (its encoding)."""

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        """Return what to send so that `message` reaches the server.

        `plan` masks the rows it brings back; `redact` takes data out of errors and notices that answer it.
        """

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        """Return what to send so that `message` fails with `text`, connection and state living on.

        `code` is the protocol-neutral cause: "denied" or "cancelled".
        """

    def inject(self, statement: str) -> list[Send]:
        """Return what to send to run one statement of our own.

        Its answer comes as a message of kind "injected" for each result, then one of kind "injected-done".

        Only while `idle`.
        """

    def settle(self) -> list[Send]:
        """Return what makes the server answer what it was sent so far, if it would otherwise wait."""

    def notice(self, text: str) -> bytes:
        """Return a notice to the waiting client; empty where the protocol has none, or not at this time."""

    def refuse(self, text: str, code: str = "denied") -> bytes:
        """Return a last error for the client before the connection is closed.

        `code` is the cause: "denied", "malformed" (a peer broke the protocol) or "failed" (we cannot go on).
        """

    @property
    def idle(self) -> bool:
        """True when the server owes no answer and the next request may be anything."""

    @property
    def busy(self) -> bool:
        """True while the server owes an answer to something sent."""

    @property
    def cancel_key(self) -> bytes:
        """What a cancel request for this connection carries; empty if not known."""
