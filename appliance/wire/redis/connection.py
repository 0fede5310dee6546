"""One Redis connection: what goes up, and what is sent in place of what may not.

A refused command is not answered by us: a command the server does not know goes up in its place, and the error that
comes back is put in our words. So replies stay in order, and in a transaction the server itself refuses EXEC with
EXECABORT, as after any command it cannot queue. A refused EXEC becomes a DISCARD.

Two refusals are put so that clients go on in a way that can be judged: HELLO as a server without it would refuse it,
and EVALSHA of a script whose text has not come over this connection as a server that does not have it.
"""

import hashlib
from collections.abc import Callable, Iterator

from appliance.model import Message, ProtocolError, Send, Side
from appliance.wire import Plan
from appliance.wire.redis import frames
from appliance.wire.redis.answers import Answers
from appliance.wire.redis.layouts import ALL, LAYOUTS, layout
from appliance.wire.redis.ledger import APART, SORTS, Ledger, Link
from appliance.wire.redis.owed import Kind, Request
from appliance.wire.redis.requests import Requests

REFUSED = frames.command(b"vendorgate.refused")  # no command of any version or module
CODES = {"denied": "NOPERM", "cancelled": "ERR"}
NO_SCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"  # clients then send its text, which can be judged
MAX_SCRIPTS = 1_000  # scripts whose text came over a connection; ours: 40 bytes each
LOADS = {"EVAL": 1, "EVAL_RO": 1, "SCRIPT LOAD": 2}  # which argument is a script
NO_HELLO = b"-ERR unknown command 'HELLO'\r\n"  # as servers before 6 say it: clients then go on without

KINDS: dict[str, Kind] = {
    "MULTI": "multi", "EXEC": "exec", "DISCARD": "discard", "RESET": "reset", "HELLO": "hello", "MONITOR": "monitor",
    "SYNC": "sync", "PSYNC": "sync", "CLIENT ID": "id", "CLIENT REPLY": "reply",
    **{word.upper(): "subscribe" for word in SORTS},
}  # fmt: skip
SECRET = frozenset(("CONFIG GET", "ACL GETUSER", "ACL LIST", "ACL GENPASS"))
"""Commands whose replies hold passwords, or what passwords can be guessed from."""
TURNS: tuple[Kind, ...] = ("multi", "exec", "discard", "reset")  # where a transaction begins or ends
ODD = {*KINDS, *LOADS, "DEBUG", "REPLCONF"}  # commands that are looked into before they go up
PLAIN = {name: Request(name, secret=name in SECRET) for name in {*LAYOUTS, *SECRET} - ODD}
"""What is owed for commands that change nothing of the connection, when nothing of their replies is masked."""


class Redis:
    """RESP2 and RESP3, as `wire.Wire` says.

    `allow` and `deny` raise ProtocolError too: for a command too many, and for one in a replication stream.
    """

    name = "redis"

    def __init__(self) -> None:
        self._link, self._ledger = Link(), Ledger()
        self._requests = Requests()
        self._answers = Answers(self._link, self._ledger)
        self._scripts: set[bytes] = set()  # SHA1 of those whose text came

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if side is Side.CLIENT:
            self._requests.add(data)
            return self._requests.read()
        self._answers.add(data)
        return self._answers.read()

    def encrypted(self) -> bytes:
        return b""  # TLS begins with the connection, before this is asked

    def again(self, message: Message) -> Message:
        return message

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        send = [Send(Side.SERVER, message.raw)]
        if message.kind == "nothing":
            return send
        if self._link.stream:
            return self._in_stream(message)
        plain = PLAIN.get(message.name) if plan is None else None
        if plain is not None:
            self._link.plan = None
            self._ledger.push(plain)
            return send
        words = [value.data or b"" for value in message.values]
        self._read(message.name, words)
        kind = KINDS.get(message.name, "plain")
        if (why := self._unfit(message.name, kind, words, plan)) is not None:
            return self.deny(message, "denied", why)
        if kind in TURNS and len(words) > 1:
            kind = "plain"  # every server refuses it: nothing begins or ends
        self._link.plan = plan
        found = layout(message.name, words) if plan is not None else None
        request = Request(
            message.name,
            kind,
            plan,
            found,
            redact and found is ALL,  # errors of the server's own commands quote nothing that is stored
            secret=message.name in SECRET,
        )
        self._link.watches |= kind == "monitor"
        begin = BEGIN.get(kind)
        if begin is not None:
            return begin(self, request, words, send)
        self._ledger.push(request)
        return send

    def _unfit(self, name: str, kind: Kind, words: list[bytes], plan: Plan | None) -> str | None:
        """Return why a command cannot be passed here whatever the rules say; None if it can."""
        if self._link.open and kind in APART:
            return f"{name} in a transaction is not passed by vendorgate"
        if kind == "exec" and len(words) > 1:
            return "wrong number of arguments for 'exec' command"  # servers before 7 keep the transaction open
        if kind == "sync" and plan is not None:
            return "a replication stream cannot be masked"
        if name == "DEBUG" and words[1:2] and words[1].upper() == b"PROTOCOL":
            return "DEBUG PROTOCOL is not passed by vendorgate"
        if self._link.watches and name not in LAYOUTS and " " not in name:
            return f"{name} beside MONITOR is not passed by vendorgate"  # a script's status may look like a line of it
        if name == "SCRIPT DEBUG" and [word.upper() for word in words[2:]] != [b"NO"]:
            return "SCRIPT DEBUG is not passed by vendorgate"  # what is said to the debugger are no commands
        if name == "REPLCONF" and any(word.upper() in (b"ACK", b"GETACK") for word in words[1::2]):
            return "REPLCONF ACK outside a replication stream is not passed by vendorgate"
        return None

    def _read(self, name: str, words: list[bytes]) -> None:
        """Note that the text of a script came."""
        place = LOADS.get(name, 0)
        if 0 < place < len(words):
            if len(self._scripts) >= MAX_SCRIPTS:
                self._scripts.clear()
            self._scripts.add(hashlib.sha1(words[place], usedforsecurity=False).hexdigest().encode())

    def _in_stream(self, message: Message) -> list[Send]:
        if message.name != "REPLCONF":
            raise ProtocolError(f"{message.name} in a replication stream")
        return [Send(Side.SERVER, message.raw)]

    # -- commands that change the connection ---------------------------------------------------------------------

    def _turn(self, request: Request, words: list[bytes], send: list[Send]) -> list[Send]:
        self._ledger.push(request)
        self._link.turn(request)
        return send

    def _subscribe(self, request: Request, words: list[bytes], send: list[Send]) -> list[Send]:
        word, due = request.name.lower(), len(words) - 1
        subscribe = Request(request.name, "subscribe", request.plan, request.layout, word=word, due=due)
        self._ledger.push(subscribe)
        return send

    def _mode(self, request: Request, words: list[bytes], send: list[Send]) -> list[Send]:
        """CLIENT REPLY: carried out here. Of a form the server refuses it goes up as it is."""
        mode = words[2].upper().decode("ascii", "replace") if len(words) == 3 else ""
        if mode not in ("ON", "OFF", "SKIP"):
            self._ledger.push(Request(request.name))
            return send
        self._ledger.push(Request(request.name, "reply", word=mode))
        return [Send(Side.SERVER, frames.command(b"CLIENT", b"REPLY", b"ON"))]

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        if message.kind == "nothing":
            raise ValueError("a message that asks for nothing cannot be refused")
        if self._link.stream:
            raise ProtocolError(f"{message.name} in a replication stream")
        refusal = frames.error(CODES[code], text)
        if message.name == "EXEC":
            discard = [Send(Side.SERVER, frames.command(b"DISCARD"))]
            return self._turn(Request(message.name, "abort", refusal=refusal), [], discard)
        words = [value.data or b"" for value in message.values]
        self._read(message.name, words)
        if message.name == "HELLO" and code == "denied":
            refusal = NO_HELLO
        elif message.name in ("EVALSHA", "EVALSHA_RO") and len(words) > 1 and words[1].lower() not in self._scripts:
            refusal = NO_SCRIPT
        self._ledger.push(Request(message.name, refusal=refusal))
        return [Send(Side.SERVER, REFUSED)]

    # -- the rest of Wire ----------------------------------------------------------------------------------------

    def inject(self, statement: str) -> list[Send]:
        words = frames.words(statement.encode())
        if not self.idle or not words:
            raise ValueError("a command of our own that is none, or while the connection is not idle")
        self._ledger.push(Request("", "inject"))
        return [Send(Side.SERVER, frames.command(*words))]

    def settle(self) -> list[Send]:
        return []  # the server answers each command when it has carried it out

    def notice(self, text: str) -> bytes:
        return b""  # RESP2 has none, and clients of RESP3 end on a push they do not know

    def refuse(self, text: str, code: str = "denied") -> bytes:
        # In the middle of a reply there is no place for it: its bytes would be taken for data.
        return b"" if self._answers.partial or self._link.stream else frames.error("ERR", text)

    @property
    def idle(self) -> bool:
        return not (self._ledger.queue or self._answers.partial or self._link.open or self._link.stream)

    @property
    def busy(self) -> bool:
        return bool(self._ledger.queue)

    @property
    def cancel_key(self) -> bytes:
        return self._link.id


BEGIN: dict[Kind, Callable[[Redis, Request, list[bytes], list[Send]], list[Send]]] = {
    **dict.fromkeys(TURNS, Redis._turn),
    "subscribe": Redis._subscribe,
    "reply": Redis._mode,
}
