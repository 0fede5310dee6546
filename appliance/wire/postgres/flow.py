"""What was sent to the server and is not answered: the queue that gives every answer its request.

Source: PostgreSQL 17 manual, "Message Flow"; for COPY and errors also what the server's main loop does.

Theory of operation. Every request that has an answer enters the queue when it is sent up, never when it is
parsed, so a held or dropped one is not waited for. An answer must be one the head of the queue can have
(ANSWERS); what is not in that table ends the flow. Three rules of the server make the queue more than a list:

- After an error in an extended message it reads on to the next Sync and throws the rest away. So do we; if no
  Sync was sent yet we are `skipping`, and what is sent is not queued.
- While a client copies in, the server swallows Sync and Flush. Clients send Execute and Sync at once, before
  they know that it is a COPY; so when CopyInResponse comes, the Syncs behind it in the queue, up to CopyDone,
  are taken out.
- If that COPY fails, the error does not say whether the server had read those Syncs. Each may still be
  answered by a ReadyForQuery of its own, before the answer to anything later: `slack` counts them.
"""

from collections import deque
from typing import Final, Literal

import msgspec

from appliance.model import Column, ProtocolError
from appliance.wire import Plan
from appliance.wire.postgres.encodings import UTF8, Encoding
from appliance.wire.postgres.frames import MAX_PIPELINE, MAX_STATEMENTS, MAX_TYPES
from appliance.wire.postgres.refusals import Refusal

Kind = Literal[
    "startup", "byte", "query", "function", "parse", "bind", "describe-statement", "describe-portal", "probe",
    "execute", "close", "sync", "copy-end", "inject",
]  # fmt: skip

EXTENDED: Final = frozenset({"parse", "bind", "describe-statement", "describe-portal", "probe", "execute", "close"})

Phase = Literal["", "rows", "out", "in", "both"]

ROWS: dict[str, tuple[str, bool]] = {
    "D": ("row", False),
    "G": ("copy-in", False),
    "H": ("copy-out", False),
    "W": ("copy-both", False),
    "d": ("copy-data", False),
    "c": ("copy-done", False),
}

# kind of the request -> tag of the answer -> (kind of the message, whether the request is done with it).
# ErrorResponse and ReadyForQuery have methods of their own.
ANSWERS: Final[dict[str, dict[int, tuple[str, bool]]]] = {
    kind: {ord(tag): answer for tag, answer in answers.items()}
    for kind, answers in {
        "startup": {"R": ("auth", False), "K": ("key", False), "v": ("negotiate", False)},
        "parse": {"1": ("parse-complete", True)},
        "bind": {"2": ("bind-complete", True)},
        "close": {"3": ("close-complete", True)},
        "describe-statement": {"t": ("parameters", False), "T": ("describe", True), "n": ("no-data", True)},
        "describe-portal": {"T": ("describe", True), "n": ("no-data", True)},
        "probe": {"T": ("describe", True), "n": ("no-data", True)},
        "execute": {**ROWS, "C": ("complete", True), "I": ("empty", True), "s": ("suspended", True)},
        "query": {**ROWS, "T": ("describe", False), "C": ("complete", False), "I": ("empty", False)},
        "function": {"V": ("function-result", False)},
        "inject": {
            "1": ("parse-complete", False),
            "2": ("bind-complete", False),
            "3": ("close-complete", False),
            "T": ("describe", False),
            "n": ("no-data", False),
            "D": ("row", False),
            "C": ("complete", False),
            "I": ("empty", False),
        },
    }.items()
}
NONE: Final[dict[int, tuple[str, bool]]] = {}  # of a kind that has methods of its own for all its answers
RESULTS: Final = frozenset({"query", "execute", "inject", "function"})  # kinds of requests whose answers have phases

# What a tag does to the phase of the result: (phase it needs, phase after it); None: any.
PHASES: Final[dict[int, tuple[tuple[Phase, ...], Phase]]] = {
    ord("T"): (("",), "rows"),
    ord("D"): (("rows",), "rows"),
    ord("G"): (("",), "in"),
    ord("H"): (("",), "out"),
    ord("W"): (("",), "both"),
    ord("d"): (("out", "both"), "out"),
    ord("c"): (("out", "both"), ""),
    ord("C"): (("", "rows", "in"), ""),
    ord("I"): (("",), ""),
    ord("s"): (("rows",), ""),
    ord("V"): (("",), ""),
}


class Described:
    """The columns of a portal, once the server has told them; its Describe and its Execute share it."""

    __slots__ = ("columns",)

    def __init__(self) -> None:
        self.columns: tuple[Column, ...] | None = None


class Request(msgspec.Struct, frozen=True):
    """One thing sent up that has an answer. What changes while it is answered is the Ledger's."""

    kind: Kind
    plan: Plan | None = None
    redact: bool = False
    refusal: Refusal | None = None
    portal: Described | None = None
    name: str = ""  # the statement that is described


# Requests that nothing is attached to are one object: a long pipeline costs a pointer each.
PLAIN: Final[dict[Kind, Request]] = {
    kind: Request(kind)
    for kind in ("startup", "byte", "query", "function", "parse", "bind", "execute", "close", "sync",
    "copy-end", "inject") }  # fmt: skip


class Link:
    """What both directions must know of the connection."""

    def __init__(self) -> None:
        self.encoding: Encoding = UTF8
        self.authenticated = False
        self.ready = False  # the server has taken the startup to its end
        self.transaction = ""  # I, T or E, as the server said last
        self.pending = False  # a request for encryption has no answer yet
        self.key = b""
        self.types: dict[str, tuple[int, ...] | None] = {}  # of prepared statements; None: two were given, or many
        self._typed = 0  # types that are kept

    def defined(self, statement: str, types: tuple[int, ...]) -> None:
        """Keep the parameter types a Parse gives; those of two Parses that differ are not known."""
        given = types if any(types) else ()
        if statement not in self.types and len(self.types) >= MAX_STATEMENTS:
            return
        known = self.types.get(statement, given) if statement else given
        self._keep(statement, given if known == given else None)

    def told(self, statement: str, types: tuple[int, ...]) -> None:
        """Keep the types the server found for a named statement whose Parse gave none."""
        if statement and self.types.get(statement) == ():
            self._keep(statement, types)

    def _keep(self, statement: str, types: tuple[int, ...] | None) -> None:
        self._typed += len(types or ()) - len(self.types.get(statement) or ())
        if types and self._typed > MAX_TYPES:
            self._typed -= len(types)
            types = None
        self.types[statement] = types


class Ledger:
    """The queue, and where the head of it stands."""

    def __init__(self) -> None:
        self.queue: deque[Request] = deque()
        self.skipping = False  # the server throws away what it reads, up to the next Sync
        self.batch = False  # extended messages since the last Sync
        self.unflushed = False  # the server may keep its answers until a Flush
        self.copying = False  # what the client sends is read by a COPY
        self.swallowed = 0  # Syncs that COPY has read
        self.slack = 0  # ReadyForQuery that may come for Syncs we took to be swallowed
        self.phase: Phase = ""
        self.started = False  # the head has been answered in part
        self.failed = False  # the head has had its error; only ReadyForQuery can follow
        self.copy_refusal: Refusal | None = None
        self.stains = 0  # requests in the queue whose errors are redacted
        self.stained = False  # one was sent in this transaction, so its end may still tell of the rows

    @property
    def head(self) -> Request | None:
        return self.queue[0] if self.queue else None

    @property
    def refusal(self) -> Refusal | None:
        """What the next error is to be replaced by."""
        return self.copy_refusal or (self.queue[0].refusal if self.queue else None)

    @property
    def redacts(self) -> bool:
        return self.stained or (bool(self.queue) and self.queue[0].redact)

    # Upward.

    def ask(self, request: Request) -> None:
        """Note a request that was sent up."""
        if self.copying:
            raise ProtocolError(f"a {request.kind} message in the middle of COPY data")
        extended = request.kind in EXTENDED
        if not self.skipping:
            self.batch = self.unflushed = extended
        self._push(request)

    def sync(self) -> None:
        if self.copying:
            self.swallowed += 1
            return
        self.skipping = self.batch = self.unflushed = False
        self._push(PLAIN["sync"])

    def end_copy(self, refusal: Refusal | None) -> None:
        """Note CopyDone or CopyFail; where no COPY reads it the server ignores it."""
        if self.copying:
            self.copying = False
            self.copy_refusal = refusal
        elif self.queue:
            self._push(PLAIN["copy-end"] if refusal is None else Request("copy-end", refusal=refusal))

    def _push(self, request: Request) -> None:
        if self.skipping:
            return
        if len(self.queue) >= MAX_PIPELINE:
            raise ProtocolError(f"more than {MAX_PIPELINE} requests without an answer")
        self.queue.append(request)
        if request.redact:
            self.stains += 1
            self.stained = True

    # Downward.

    def answer(self, tag: int) -> str:
        """Return the kind of message this answer is to the head of the queue."""
        head = self.head
        found = ANSWERS.get(head.kind, NONE).get(tag) if head is not None and not self.failed else None
        if found is None:
            kind = "nothing" if head is None else f"a failed {head.kind}" if self.failed else f"a {head.kind}"
            raise ProtocolError(f"the server answers {chr(tag)!r} to {kind}")
        if head is not None and head.refusal is not None:
            raise ProtocolError(f"the server carried out a refused {head.kind}")
        return found[0]

    def advance(self, tag: int) -> None:
        """Note that the head got this answer, which `answer` has let pass."""
        head = self.queue[0]
        kind = head.kind
        self.started, self.slack = True, 0
        if kind in RESULTS and tag in PHASES:
            self._turn(head, tag)
        if ANSWERS[kind][tag][1]:
            self._pop()

    def _turn(self, head: Request, tag: int) -> None:
        needs, then = PHASES[tag]
        phase = self.phase
        # its columns were told before, or never
        rows = head.kind == "execute" and phase == "" and tag in b"Ds"
        if phase not in needs and not rows:
            raise ProtocolError(f"the server sends {chr(tag)!r} out of place")
        self.phase = phase if tag == ord("d") else then
        if tag == ord("W"):
            self.copying = True
        elif tag == ord("G"):
            self._copy_in(head)
        elif tag == ord("C"):
            if self.copy_refusal is not None:
                raise ProtocolError("the server carried out a refused COPY")
            self.swallowed, self.copying = 0, False

    def _copy_in(self, head: Request) -> None:
        """Take the Syncs the server swallows out of the queue, and the end of the data if it was sent."""
        self.queue.popleft()
        self.copying, self.swallowed = True, 0
        while self.queue and self.copying:
            request = self.queue.popleft()
            if request.kind == "sync":
                self.swallowed += 1
            elif request.kind == "copy-end":
                self.copying = False
                self.copy_refusal = request.refusal
            else:
                raise ProtocolError(f"a {request.kind} message in the middle of COPY data")
        if head.kind == "execute" and not any(r.kind == "sync" for r in self.queue):
            self.batch = True
        self.queue.appendleft(head)

    def fail(self) -> None:
        """Note an error that ends the head of the queue, but not the connection."""
        head = self.head
        if head is None or self.failed:
            raise ProtocolError("the server reports an error of nothing")
        self.slack, self.swallowed, self.copying, self.phase = self.swallowed, 0, False, ""
        self.copy_refusal = None
        if head.kind not in EXTENDED:
            self.started = self.failed = True
            return
        while self.queue and self.queue[0].kind != "sync":
            self._pop()
        self.skipping = not self.queue

    def ready(self, status: str) -> None:
        """Note ReadyForQuery."""
        head = self.head
        if head is not None and (
            head.kind in {"sync", "startup"} or (self.started and head.kind not in EXTENDED)
        ):
            if self.phase:
                raise ProtocolError("the server is ready in the middle of a result")
            self._pop()
        elif self.slack:
            self.slack -= 1
            self.skipping = False
        else:
            raise ProtocolError("the server is ready for no reason")
        if status == "I" and not self.stains:
            self.stained = False

    def _pop(self) -> None:
        queue = self.queue
        while True:
            if queue.popleft().redact:
                self.stains -= 1
            if not queue or queue[0].kind != "copy-end":
                break
        self.started = self.failed = False
        self.phase = ""
