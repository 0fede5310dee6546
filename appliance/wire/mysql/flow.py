"""What both directions must know of a connection: what was agreed, what is prepared, what is not answered yet.

Source: MySQL 8.4 source documentation, "Connection Lifecycle", "Command Phase".

Theory of operation. A command begins with sequence number 0, and is answered (or not, if it is of the kinds that are
not) before the next one is, so a queue gives every answer its request. A request enters it when it is sent up, never
when it is read, so a held or dropped one is not waited for. A refused one is answered by us, in its turn: at once if
the server owes nothing, else when all before it is answered. Nothing of it reaches the server, so the session is as
before it; a failed statement leaves a transaction of MySQL as it was, too.

What the client sends depends on what the server said last: in the login and in COM_CHANGE_USER the next packet is an
answer to a plugin, after a request for a file it is the content of one. The sequence number tells commands from
those, and a server that is sent one for the other says "packets out of order" and closes; so does this wire.
"""

from collections import deque
from typing import Literal

from appliance.model import ProtocolError
from appliance.wire import Plan
from appliance.wire.mysql import charsets
from appliance.wire.mysql.asked import Request
from appliance.wire.mysql.capabilities import DEPRECATE_EOF
from appliance.wire.mysql.compression import Algorithm
from appliance.wire.mysql.definition import Definition
from appliance.wire.mysql.packets import MAX_PIPELINE, MAX_STATEMENTS

Phase = Literal["greeting", "login", "tls", "auth", "command", "over"]

# How a request is answered: by a plugin's dialogue, results, a prepared statement, definitions, rows, a text, one OK.
Grammar = Literal["auth", "results", "prepared", "fields", "rows", "text", "ok", "none"]

GRAMMARS: dict[str, Grammar] = {
    "startup": "auth",
    "change-user": "auth",
    "query": "results",
    "execute": "results",
    "bulk-execute": "results",
    "process-info": "results",
    "inject": "results",
    "prepare": "prepared",
    "fetch": "rows",
    "field-list": "fields",
    "statistics": "text",
    **dict.fromkeys(
        ("reset", "reset-connection", "init-db", "create-db", "drop-db", "set-option", "kill", "ping", "debug",
         "refresh", "shutdown"), "ok"),
}  # fmt: skip


Long = dict[int, bytes | None]
"""Long data by the number of the parameter; None: not kept. Under `ANY` it may be of any."""

ANY = -1


class Statement:
    """A prepared statement."""

    __slots__ = (
        "bound", "definitions", "long", "parameters", "pending", "plan", "poisoned", "sent", "text", "types"
    )  # fmt: skip

    def __init__(self, text: str, parameters: int) -> None:
        self.text, self.parameters = text, parameters
        self.types: bytes | None = None  # of the parameters, as given last in what was read
        self.bound: bytes | None = None  # ... in what was sent up or refused
        self.sent: bytes | None = None  # ... in what was sent up
        self.definitions: tuple[Definition, ...] = ()  # of its columns, as told last
        self.long: Long = {}  # long data for the next execution that is read
        self.pending = False  # the server has, or may have, long data that no execution has used
        self.poisoned = False  # it has other long data than the client believes: it cannot be executed
        self.plan: Plan | None = None  # of the execution that opened its cursor

    def renew(self) -> None:
        """Note a COM_STMT_RESET that goes up."""
        self.poisoned = self.pending = False


class Link:
    """One connection."""

    def __init__(self) -> None:
        self.phase: Phase = "greeting"
        self.encrypted = False
        self.asked = False  # a plugin waits for the client's answer
        self.plugin = ""
        self.offered = 0  # capabilities of the server, as the client saw them
        self.withheld = 0  # capabilities of the server that the client does not see
        self.capabilities = 0  # agreed on
        self.tls = (0, 0)  # the same and the charset, as the client's request for TLS has them
        self.again = False  # a command is read for the second time
        self.mariadb = False
        self.charset = charsets.UTF8
        self.charset_next = charsets.UTF8  # once the login or COM_CHANGE_USER is through
        self.key = b""
        self.algorithm: Algorithm = ""  # to be used after the login
        self.ready = False  # the login is through
        self.login: tuple[bytes, bytes] = (b"", b"")  # as shown, and as it came
        self.statements: dict[str, Statement] = {}
        self.last: Statement | None = None  # prepared last, and answered
        self.preparing = 0  # COM_STMT_PREPARE that were read and are neither answered nor refused
        self.stray = False  # long data came for the statement prepared last, before that was known
        self.used: dict[int, Long] = {}  # long data of executions that were read and not decided, by id of their bytes
        self.last_refused = False  # the one prepared last was not sent up
        self.file = False  # the client sends a file
        self.dropping = False  # ... that goes nowhere
        self.file_ended = False  # its end was sent up
        self.upload_refusal: bytes | None = None  # what the client is told in place of the answer to its file
        self.upload_answer = b""  # ... the same, when the answer has come before the end of the file
        self.status = 0  # as the server said last
        self.frame_up = 0  # number of the next frame to the server
        self.frame_client = 0  # number of the last frame of the client that was read
        self.sequence_client = 0  # ... of the last packet
        self.shift = 0  # from the sequence numbers of the server to those the client sees

    @property
    def deprecates_eof(self) -> bool:
        return bool(self.capabilities & DEPRECATE_EOF)

    def statement(self, number: str) -> Statement | None:
        """Return what a request is about; None: not known, or not yet."""
        if number == "-1":
            return None if self.preparing else self.last
        return self.statements.get(number)

    def answered(self, number: str) -> Statement | None:
        """Return what an answer is about: behind it others may have been prepared."""
        return self.last if number == "-1" else self.statements.get(number)

    def prepared(self, number: str, text: str, parameters: int) -> Statement:
        """Keep a statement the server has prepared; what is one too many is not known later."""
        statement = Statement(text, parameters)
        if self.stray:  # it may have been for this one
            statement.long, statement.pending = {ANY: None}, True
        self.last = statement
        if number in self.statements or len(self.statements) < MAX_STATEMENTS:
            self.statements[number] = statement
        return statement

    def renew(self) -> None:
        """Note that the session begins anew."""
        self.statements.clear()
        self.last, self.stray = None, False


class Ledger:
    """The queue."""

    def __init__(self) -> None:
        self.queue: deque[Request] = deque()

    @property
    def head(self) -> Request | None:
        return self.queue[0] if self.queue else None

    def ask(self, request: Request) -> None:
        """Note a request that was sent up, or refused while others were not answered."""
        if len(self.queue) >= MAX_PIPELINE:
            raise ProtocolError(f"more than {MAX_PIPELINE} requests without an answer")
        self.queue.append(request)
