"""One MySQL connection: what goes up, and what is said in place of what may not.

A refused request does not reach the server: we answer it with an error, in its turn. That is what a failed statement
is in MySQL: it ends nothing and rolls nothing back, so transaction and session are what they were. What the client
believes the server to have after it (the types of parameters, a statement prepared last) is seen to here.
"""

from collections.abc import Iterator

from appliance.model import Message, ProtocolError, Send, Side
from appliance.wire import Plan
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql import parameters
from appliance.wire.mysql.asked import Request, plain
from appliance.wire.mysql.client import Requests
from appliance.wire.mysql.compression import last_frame, pack, renumber
from appliance.wire.mysql.ends import Failure
from appliance.wire.mysql.flow import Ledger, Link, Statement
from appliance.wire.mysql.packets import FULL, moved, packets
from appliance.wire.mysql.server import Answers

COM_QUERY = b"\3"
NO_ATTRIBUTES = b"\0\1"  # of a query, where there could be some
REFUSED = frozenset({"replication", "unknown"})
EXECUTIONS = frozenset({"execute", "bulk-execute", "fetch"})
NOT_RELAYED = "vendorgate does not relay this command"
NO_STATEMENT = "the prepared statement is not there: vendorgate refused what it needs"


class MySQL:
    """The MySQL protocol, as `wire.Wire` says.

    `allow` and `deny` raise ProtocolError too: for a command in the middle of a file, and for one too many.
    """

    name = "mysql"

    def __init__(self) -> None:
        self._link = Link()
        self._ledger = Ledger()
        self._requests = Requests(self._link)
        self._answers = Answers(self._link, self._ledger, self._requests.stream)

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if side is Side.CLIENT:
            self._requests.add(data)
            return self._requests.read()
        self._answers.add(data)
        return self._answers.read()

    def encrypted(self) -> bytes:
        if self._answers.begun:
            raise ProtocolError("the server goes on in clear text before TLS begins")  # anybody could have said it
        self._link.phase, self._link.encrypted = "login", True
        return self._requests.unread()

    def again(self, message: Message) -> Message:
        return self._requests.again(message)

    # -- up -----------------------------------------------------------------------------------------------------

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        link, kind = self._link, message.kind
        match kind:
            case "startup" | "change-user":
                self._ask(message, plan, redact)
                return [Send(Side.SERVER, link.login[1])]
            case "copy-data" | "copy-done":
                return self._file(message)
            case "tls":
                return [Send(Side.SERVER, message.raw)]
            case "auth":
                self._answers.goes_on()
                return [Send(Side.SERVER, message.raw)]
            case "terminate":
                return self._command(message)
            case "long-data":
                return self._long_data(message)
            case "close":
                self._forget(message.name)
                return self._command(message)
            case _ if kind in REFUSED:
                return self._refuse(message, Failure.of("unknown", link.charset.speak(NOT_RELAYED)))
            case _ if kind in EXECUTIONS:
                return self._execute(message, plan, redact)
        if kind == "prepare":
            link.last_refused = False
        elif kind == "reset":
            statement = link.statement(message.name)
            if statement is not None:
                statement.renew()
        self._ask(message, plan, redact)
        return self._command(message)

    def _long_data(self, message: Message) -> list[Send]:
        """Send long data on, but not for a statement that was not known when it was read."""
        if message.status == "unread":
            return []
        statement = self._link.statement(message.name)
        if statement is not None:
            statement.pending = True
        return self._command(message)

    def _forget(self, number: str) -> None:
        """Note a COM_STMT_CLOSE."""
        link = self._link
        gone = link.statements.pop(number, None)
        if number == "-1" or (gone is not None and gone is link.last):
            link.last = None

    def _ask(self, message: Message, plan: Plan | None, redact: bool) -> None:
        link = self._link
        if self._answers.waits_for_file:
            raise ProtocolError(f"a {message.kind} in the middle of a file")
        text = message.text if message.kind == "prepare" or "infile" in message.text.lower() else ""
        name = message.name if message.kind in EXECUTIONS else ""
        if message.kind in EXECUTIONS:
            statement = link.statement(name)
            text = statement.text if statement is not None else ""
        sequence, frame = self._next(message)
        if plan is None and not (redact or name or text):
            self._ledger.ask(plain(message.kind, sequence, frame))
        else:
            self._ledger.ask(Request(message.kind, plan, redact, name=name, text=text, sequence=sequence, frame=frame))

    def _next(self, message: Message) -> tuple[int, int]:
        """Return the numbers the first packet and the first frame of the answer have for the client."""
        if not self._requests.stream.algorithm:
            return (message.raw[3] + (len(message.raw) - 1) // (FULL + 4) + 1) & 0xFF, 1
        return 1, (last_frame(message.raw) + 1) & 0xFF

    def _command(self, message: Message) -> list[Send]:
        return [Send(Side.SERVER, self._framed(message.raw))]

    def _framed(self, raw: bytes) -> bytes:
        """Return a command in frames numbered from 0, as they are for the server."""
        if not self._requests.stream.algorithm:
            return raw
        raw, self._link.frame_up = renumber(raw, 0)
        return raw

    def _execute(self, message: Message, plan: Plan | None, redact: bool) -> list[Send]:
        """Send an execution, with the types that the server has not had yet; refuse one that lacks what was refused."""
        link = self._link
        statement = link.statement(message.name)
        link.used.pop(id(message.raw), None)
        lost = message.name == "-1" and link.last_refused
        if lost or (statement is not None and self._spoilt(message, statement)):
            return self._refuse(message, Failure.of("no-statement", link.charset.speak(NO_STATEMENT)))
        if message.kind == "fetch" or statement is None:
            self._ask(message, plan, redact)
            return self._command(message)
        statement.pending = False
        payload = self._requests.payload(message.raw)
        given = parameters.given_types(link, statement, payload)
        raw = message.raw
        if given is not None:
            statement.bound = statement.sent = given
        elif statement.bound != statement.sent:
            raw = packets(parameters.typed(link, statement, payload), 0)
            raw = pack(raw, 0, link.algorithm) if self._requests.stream.algorithm else raw
            statement.sent = statement.bound
        self._ask(message, plan, redact)
        return [Send(Side.SERVER, self._framed(raw))]

    def _spoilt(self, message: Message, statement: Statement) -> bool:
        """Return True if an execution would use long data that is not its own: servers have none for bulks."""
        return statement.poisoned or (message.kind == "bulk-execute" and statement.pending)

    def _file(self, message: Message) -> list[Send]:
        """Send a piece of a file on, unless the server reads no more of it."""
        link = self._link
        ends = message.kind == "copy-done"
        if not link.dropping:
            link.file_ended = ends
            return [Send(Side.SERVER, self._numbered(message.raw))]
        link.dropping = not ends
        answer, link.upload_answer = (link.upload_answer, b"") if ends else (b"", link.upload_answer)
        return [Send(Side.CLIENT, self._answered(message, answer))] if answer else []

    def _numbered(self, raw: bytes) -> bytes:
        """Return a piece of a file with the numbers the server expects."""
        link = self._link
        if not self._requests.stream.algorithm:
            return moved(raw, -link.shift)
        raw, link.frame_up = renumber(raw, link.frame_up)
        return raw

    # -- in place of what may not go up -------------------------------------------------------------------------

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        link, kind = self._link, message.kind
        match kind:
            case "startup" | "auth" | "tls":
                return [Send(Side.CLIENT, self.refuse(text))]
            case "close" | "terminate":
                return []
            case "long-data":
                statement = link.statement(message.name)
                if statement is not None:
                    statement.poisoned = True
                elif message.name == "-1":
                    link.last_refused = True
                return []
            case "copy-data" | "copy-done":
                return self._deny_file(message, text)
            case "prepare":
                link.last_refused = True
                link.preparing -= 1
            case "change-user":
                link.phase = "command"
            case "execute" | "bulk-execute":
                self._deny_execution(message)
            case "reset":
                statement = link.statement(message.name)
                if statement is not None:
                    statement.poisoned = statement.poisoned or statement.pending
        return self._refuse(message, Failure.of(code, link.charset.speak(text)))

    def _deny_execution(self, message: Message) -> None:
        """Keep the types of a refused execution: the client takes the server to have them. Its long data is still
        there as well: the next execution would use it."""
        self._link.used.pop(id(message.raw), None)
        statement: Statement | None = self._link.statement(message.name)
        if statement is not None:
            statement.poisoned = statement.poisoned or statement.pending
            given = parameters.given_types(self._link, statement, self._requests.payload(message.raw))
            statement.bound = given or statement.bound

    def _deny_file(self, message: Message, text: str) -> list[Send]:
        """End a file for the server; its answer will be our error."""
        link = self._link
        if link.dropping:
            return self._file(message)
        link.upload_refusal, link.file_ended = link.charset.speak(text), True
        link.dropping = message.kind != "copy-done"
        if not self._requests.stream.algorithm:
            return [Send(Side.SERVER, self._numbered(packets(b"", message.raw[3])))]
        return [Send(Side.SERVER, self._numbered(pack(packets(b"", link.frame_up), 0, link.algorithm)))]

    def _refuse(self, message: Message, failure: Failure) -> list[Send]:
        """Answer a request with an error of ours, in its turn."""
        if self._ledger.queue:
            sequence, frame = self._next(message)
            self._ledger.ask(Request(message.kind, refusal=failure.write(), sequence=sequence, frame=frame))
            return []
        return [Send(Side.CLIENT, self._answered(message, failure.write()))]

    def _answered(self, message: Message, payload: bytes) -> bytes:
        """Return the packet that answers a message."""
        sequence, frame = self._next(message)
        raw = packets(payload, sequence)
        return pack(raw, frame, self._link.algorithm) if self._requests.stream.algorithm else raw

    # -- of our own ---------------------------------------------------------------------------------------------

    def inject(self, statement: str) -> list[Send]:
        if not self.idle:
            raise ValueError("a statement of our own while the connection is not idle")
        link = self._link
        self._ledger.ask(Request("inject"))
        attributes = NO_ATTRIBUTES if link.capabilities & caps.QUERY_ATTRIBUTES else b""
        raw = packets(COM_QUERY + attributes + link.charset.encode(statement), 0)
        framed = self._requests.stream.algorithm
        return [Send(Side.SERVER, self._framed(pack(raw, 0, link.algorithm)) if framed else raw)]

    def settle(self) -> list[Send]:
        return []  # the server answers each command at once

    def notice(self, text: str) -> bytes:
        return b""  # the protocol has none

    def refuse(self, text: str, code: str = "denied") -> bytes:
        # In the middle of a row there is no place for it: its bytes would be taken for data.
        if self._answers.partial:
            return b""
        failure = Failure.of(code, self._link.charset.speak(text))
        return self._answers.last(failure)

    @property
    def idle(self) -> bool:
        link = self._link
        return link.ready and not (self._ledger.queue or link.file or link.dropping or self._answers.partial)

    @property
    def busy(self) -> bool:
        return bool(self._ledger.queue)

    @property
    def cancel_key(self) -> bytes:
        return self._link.key
