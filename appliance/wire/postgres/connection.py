"""One PostgreSQL connection: what goes up, and what is sent in place of what may not.

A refused request is not answered by us: a statement that fails in its place goes up, and the error that comes
back is put in our words. So transaction, pipeline and portals are what the server made of an error, always.
The statement is a syntax error (refusals.REFUSED), by Query in place of a Query or FunctionCall, by Parse in
place of any extended message: a Parse fails before it looks at names, so nothing the client has prepared can
stand in for it.
"""

from collections.abc import Iterator
from typing import Final

from appliance.model import Message, Send, Side
from appliance.wire import Plan
from appliance.wire.postgres import frames, refusals
from appliance.wire.postgres.client import Requests
from appliance.wire.postgres.flow import PLAIN, Described, Kind, Ledger, Link, Request
from appliance.wire.postgres.refusals import Refusal
from appliance.wire.postgres.server import Answers

SERVER: Final = Side.SERVER
INJECTED = b"vendorgate injected"  # name of the statement and portal of `inject`

# kind of the message -> kind of the request it is; the others have no answer, or a case of their own
ASKS: Final[dict[str, Kind]] = {
    "startup": "startup",
    "ssl-request": "byte",
    "gss-request": "byte",
    "query": "query",
    "function-call": "function",
    "parse": "parse",
    "bind": "bind",
    "execute": "execute",
    "close": "close",
}


class Postgres:
    """PostgreSQL protocol 3, as `wire.Wire` says.

    `allow` and `deny` raise ProtocolError too: for a request in the middle of COPY data, and for one too
    many.
    """

    name = "postgres"

    def __init__(self) -> None:
        self._link = Link()
        self._ledger = Ledger()
        self._requests = Requests(self._link)
        self._answers = Answers(self._link, self._ledger)
        self._last: Message | None = None  # the last extended message that went up
        self._portal: Described | None = None  # what it described

    @property
    def transaction(self) -> str:
        """I, T or E, as the server said last; empty before it did."""
        return self._link.transaction

    @property
    def redact_all(self) -> bool:
        """Whether every error and notice is redacted, also one that answers nothing."""
        return self._answers.redact_all

    @redact_all.setter
    def redact_all(self, redact: bool) -> None:
        self._answers.redact_all = redact

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if side is Side.CLIENT:
            self._requests.add(data)
            return self._requests.read()
        self._answers.add(data)
        return self._answers.read()

    def encrypted(self) -> bytes:
        return b""  # a client that does not wait for the server's answer is refused

    def again(self, message: Message) -> Message:
        """Return a client's message read anew, in the encoding now in force: for one that had to wait."""
        return self._requests.again(message)

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        kind = message.kind
        send = [Send(SERVER, message.raw)]
        match kind:
            case "execute" if plan is not None:
                return self._execute(message, plan, redact) + send
            case "describe":
                self._describe(message, redact)
                return send
            case "sync":
                self._ledger.sync()
            case "gss-request":
                return self.deny(message, "denied", "")  # what GSSAPI hides no one can judge
            case "flush":
                self._ledger.unflushed = False
                return send
            case "copy-done" | "copy-fail":
                self._ledger.end_copy(None)
            case _ if kind in ASKS:
                self._ask(ASKS[kind], plan, redact)
        self._portal = None
        return send

    def _ask(self, kind: Kind, plan: Plan | None, redact: bool, refusal: Refusal | None = None) -> None:
        plain = plan is None and refusal is None and not redact
        self._ledger.ask(PLAIN[kind] if plain else Request(kind, plan, redact, refusal))

    def _describe(self, message: Message, redact: bool) -> None:
        self._portal, self._last = None, message
        if message.status == "S":
            self._ledger.ask(Request("describe-statement", redact=redact, name=message.name))
        else:
            self._portal = Described()
            self._ledger.ask(
                Request("describe-portal", redact=redact, portal=self._portal, name=message.cursor)
            )

    def _execute(self, message: Message, plan: Plan, redact: bool) -> list[Send]:
        """Note an Execute whose rows are masked; return the Describe that must go before it.

        Only a Describe of the same portal just before it is one to rely on: anything in between may have made
        another portal of that name.
        """
        probe: list[Send] = []
        portal = self._portal
        if portal is None or self._last is None or self._last.cursor != message.cursor:
            portal = Described()
            name = message.raw[5 : message.raw.index(b"\0", 5)]
            self._ledger.ask(Request("probe", redact=redact, portal=portal))
            probe = [Send(Side.SERVER, frames.describe_portal(name))]
        self._ledger.ask(Request("execute", plan, redact, portal=portal))
        self._portal = None
        return probe

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        refusal = Refusal.of(code, text)
        self._portal = None
        match message.kind:
            case "ssl-request" | "gss-request":
                return [Send(Side.CLIENT, self.refuse_gss())]
            case "query" | "function-call":
                self._ask("query", None, False, refusal)
                return [Send(Side.SERVER, frames.query(refusals.REFUSED))]
            case "parse" | "bind" | "describe" | "execute" | "close":
                self._ask("parse", None, False, refusal)
                # The client's own name: like a Parse that fails, "" drops the unnamed statement.
                end = message.raw.index(b"\0", 5)
                name = message.raw[5:end] if message.kind == "parse" else INJECTED
                return [Send(Side.SERVER, frames.parse(name, refusals.REFUSED))]
            case "copy-data" | "copy-done" | "copy-fail":
                self._ledger.end_copy(refusal)
                return [Send(Side.SERVER, frames.frame(b"f", refusals.REFUSED + b"\0"))]
            case "startup" | "auth":
                return [Send(Side.CLIENT, self.refuse(text))]
            case "cancel":
                return []
        raise ValueError(f"a {message.kind} message asks for nothing that could be refused")

    def inject(self, statement: str) -> list[Send]:
        if not self.idle:
            raise ValueError("a statement of our own while the connection is not idle")
        self._ledger.ask(PLAIN["inject"])
        return [Send(Side.SERVER, frames.run(INJECTED, self._link.encoding.encode(statement)))]

    def settle(self) -> list[Send]:
        ledger = self._ledger
        if not (ledger.unflushed and ledger.queue) or ledger.copying:
            return []
        ledger.unflushed = False
        return [Send(Side.SERVER, frames.FLUSH)]

    def refuse_gss(self) -> bytes:
        """Return the answer to a request for encryption that there is none; the client goes on without."""
        self._link.pending = False
        return b"N"

    def notice(self, text: str) -> bytes:
        if not self._link.ready or self._answers.partial:
            return b""
        return refusals.notice(text, self._link.encoding)

    def refuse(self, text: str, code: str = "denied") -> bytes:
        # In the middle of a row there is no place for it: its bytes would be taken for data.
        return b"" if self._answers.partial else refusals.fatal(text, self._link.encoding, code)

    @property
    def idle(self) -> bool:
        ledger = self._ledger
        return self._link.ready and not (
            ledger.queue or ledger.batch or ledger.skipping or self._answers.partial
        )

    @property
    def busy(self) -> bool:
        return bool(self._ledger.queue)

    @property
    def cancel_key(self) -> bytes:
        return self._link.key
