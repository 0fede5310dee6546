"""What the client says: commands, as arrays of bulk strings or inline.

Source: Redis documentation, "Redis serialization protocol specification"; networking.c of 7.0 (processMultibulkBuffer,
processInlineBuffer). Stricter than the server where its reading of a line depends on its version: a length with a sign
or zeros in front, a line that does not end in CR LF, a control byte in an inline command are a ProtocolError.
"""

from collections.abc import Iterator, Sequence

from appliance.model import Message, ProtocolError, Side, Value
from appliance.wire.inbox import Inbox
from appliance.wire.redis import frames
from appliance.wire.redis.frames import MAX_ARGUMENTS, MAX_COMMAND, MAX_INLINE, MAX_SHOWN

WITHHELD = b"(redacted)"
PASSWORDS = frozenset(b"requirepass masterauth primaryauth tls-key-file-pass tls-client-key-file-pass".split())
"""Settings that are secrets."""

# Of these the second word says what is done; without one, or with an unknown one, the server refuses them.
CONTAINERS = frozenset((
    "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY", "MODULE", "OBJECT", "PUBSUB",
    "SCRIPT", "SLOWLOG", "XGROUP", "XINFO",
))  # fmt: skip


class Requests:
    """The client's direction."""

    def __init__(self) -> None:
        self._inbox = Inbox()
        self._read = 0  # bytes of the command at the head of the inbox that are taken apart
        self._due = 0  # arguments of it still to come
        self._words: list[bytes] = []
        self._looked = 0  # bytes of an inline command without a line end

    def add(self, data: bytes) -> None:
        self._inbox.add(data)

    def read(self) -> Iterator[Message]:
        """Yield each command that is whole."""
        inbox = self._inbox
        while inbox.left:
            array = self._due or inbox.data[inbox.at] == 0x2A
            size = self._array() if array else self._inline()
            if size is None:
                return
            words, self._words, self._read = self._words, [], 0
            yield _message(inbox.take(size), words)
        inbox.rest()

    def _array(self) -> int | None:
        """Take arguments apart; return the size of the command when all are there."""
        inbox = self._inbox
        data, start = inbox.data, inbox.at
        if not self._read:
            head = frames.length(data, start, "a command")
            if head is None:
                return None
            self._due, at = max(head[0], 0), head[1]
            if self._due > MAX_ARGUMENTS:
                raise ProtocolError(f"a command of {self._due} arguments: the limit is {MAX_ARGUMENTS}")
            self._read = at - start
        while self._due:
            at = start + self._read
            if at < len(data) and data[at] != 0x24:
                raise ProtocolError("an argument that is no bulk string")
            head = frames.length(data, at, "an argument")
            if head is None:
                return None
            size, at = head
            if size < 0 or at - start + size > MAX_COMMAND:
                raise ProtocolError(f"an argument of {size} bytes: the limit of a command is {MAX_COMMAND}")
            if len(data) < at + size + 2:
                return None
            if data[at + size : at + size + 2] != frames.CRLF:
                raise ProtocolError("an argument that is longer than its length")
            self._words.append(bytes(data[at : at + size]))
            self._read = at + size + 2 - start
            self._due -= 1
        return self._read

    def _inline(self) -> int | None:
        inbox = self._inbox
        end = inbox.data.find(b"\n", inbox.at + self._looked)
        if end < 0:
            self._looked = inbox.left
            if self._looked > MAX_INLINE:
                raise ProtocolError(f"an inline command of more than {MAX_INLINE} bytes")
            return None
        self._looked = 0
        line = bytes(inbox.data[inbox.at : end])
        if len(line) > MAX_INLINE:
            raise ProtocolError(f"an inline command of more than {MAX_INLINE} bytes")
        line = line.removesuffix(b"\r")
        if any(byte < 0x20 and byte != 0x09 for byte in line):
            raise ProtocolError("a control byte in an inline command")
        words = frames.words(line)
        if words is None:
            raise ProtocolError("an inline command whose quotes do not match")
        self._words = words
        return end + 1 - inbox.at


def name_of(words: Sequence[bytes]) -> str:
    """Return the command in capitals, with its subcommand where it has one."""
    name = frames.shown(words[0][:MAX_SHOWN]).upper()
    if name in CONTAINERS and len(words) > 1:
        name += " " + frames.shown(words[1][:MAX_SHOWN]).upper()
    return name


def _message(raw: bytes, words: list[bytes]) -> Message:
    if not words:
        return Message(Side.CLIENT, "nothing", raw)
    name = name_of(words)
    told = _hidden(name, words)
    return Message(
        Side.CLIENT,
        "command",
        raw,
        text=frames.text(told or words),
        name=name,
        values=tuple([Value(word) for word in words]),
        secret=told is not None,
    )


SECRETIVE = frozenset(("AUTH", "HELLO", "MIGRATE", "CONFIG SET", "ACL SETUSER"))


def _hidden(name: str, words: list[bytes]) -> list[bytes] | None:
    """Return the arguments of a command that carries a secret without it; None: it carries none."""
    if name not in SECRETIVE and not name.startswith("SENTINEL"):
        return None
    match name:
        case "AUTH":
            return [words[0], *(words[1:-1] if len(words) == 3 else ()), WITHHELD]
        case "HELLO":
            return _logins(words)
        case "MIGRATE":
            return _after(words, {b"AUTH": 1, b"AUTH2": 2}, 6)
        case "CONFIG SET":
            pairs = zip(words[2::2], words[3::2], strict=False)
            hidden = [w for key, value in pairs for w in (key, WITHHELD if key.lower() in PASSWORDS else value)]
            return [*words[:2], *hidden] if WITHHELD in hidden else None
        case "ACL SETUSER":
            hidden = [word[:1] + WITHHELD if word[:1] in (b">", b"<", b"#", b"!") else word for word in words]
            return hidden if hidden != words else None
        case _ if name.startswith("SENTINEL"):
            return [*words[:2], WITHHELD]
    return None


def _logins(words: list[bytes]) -> list[bytes] | None:
    """Hide the passwords of HELLO. A name may be spelt AUTH, so what could be a password is one."""
    hidden, places = list(words), [at for at in range(2, len(words)) if words[at].upper() == b"AUTH"]
    for at in places:
        if at + 2 >= len(words):
            return [*hidden[: at + 1], WITHHELD]
        hidden[at + 2] = WITHHELD
    return hidden if places else None


def _after(words: list[bytes], secrets: dict[bytes, int], start: int) -> list[bytes] | None:
    """Hide what stands the number of places in `secrets` after one of its words, or all if there is not so much."""
    at = start
    hidden, found = list(words), False
    while at < len(words):
        after = secrets.get(words[at].upper(), 0)
        if after:
            found = True
            if at + after >= len(words):
                return [*hidden[: at + 1], WITHHELD]
            hidden[at + after] = WITHHELD
        at += after + 1
    return hidden if found else None
