"""The reader of one flow."""

from collections.abc import Sequence

from msgspec.structs import replace

from appliance.facts import Copy, Facts
from appliance.facts.redis.meaning import Meaning
from appliance.facts.redis.reading import MAX_KEY, MAX_SECRET, MAX_TEXT, meaning
from appliance.facts.redis.scripts import Scripts
from appliance.facts.redis.text import quoted, shown, typed
from appliance.facts.shared import Shared
from appliance.model import Column, Message

MAX_ASKED = 64 * 1024  # bytes of a command whose keys the server is asked for; ours: it is sent twice then
MAX_SHAPES = 128  # of one flow; about 2 kB each. Programs repeat a few dozen commands on a few keys
MAX_KEPT = 8_192  # bytes of a command whose shape is kept; with MAX_SHAPES at most 2 MB

Words = Sequence[bytes]
Shape = tuple[object, ...]
_CHANGING = frozenset(("AUTH", "HELLO", "SELECT", "RESET"))
"""Commands that change who the client is, or which database later ones are about."""
_CHANGES = frozenset(name.encode() for name in _CHANGING)
_CANCELS = frozenset(("CLIENT UNBLOCK", "CLIENT KILL"))
_ELSEWHERE = frozenset(("SELECT", "MOVE", "COPY", "SWAPDB", "FLUSHALL"))
"""Commands that a script may have for another database than its connection's."""


def open(shared: Shared, server: str = "", needs_catalog: bool = True) -> "Redis":
    """Return a reader, as `facts.readers.open` says."""
    return Redis(shared, needs_catalog)


class Redis:
    """Reader of one flow, as `facts.Reader` says."""

    def __init__(self, shared: Shared, needs_catalog: bool = True) -> None:
        self.needs_catalog = needs_catalog
        self._scripts = shared.of(Scripts)
        self._user: frozenset[str] = frozenset(("default",))
        self._database: frozenset[str] = frozenset(("0",))
        self._next: tuple[str, str] = ("", "")  # user and database, if what was sent succeeds
        self._tried: frozenset[str] = frozenset()  # users it may be even if that fails
        self._asked: Message | None = None  # the message whose keys the server was asked for
        self._answer: tuple[str, ...] | None = None  # those keys
        self._last: tuple[Message, Facts, Words, Meaning] | None = None
        self._shapes: dict[Shape, Facts] = {}  # facts of the first command of each shape

    def ask(self, message: Message) -> Facts | None:
        if message.kind == "nothing":
            return None
        if self._last is not None and self._last[0] is message:
            return self._last[1]
        words = self._words(message)
        if not words:
            return None
        found = meaning(words, self._scripts)
        facts = self._facts(message, words, found)
        self._last = (message, facts, words, found)
        return facts

    def sent(self, message: Message) -> None:
        words = self._last[2] if self._last is not None and self._last[0] is message else self._words(message)
        if not words or words[0].upper() not in _CHANGES:
            self._last = None
            return
        user, database = _becomes(message, words)
        if (user or database) and message.kind == "query":  # nobody will answer
            self._user = frozenset((user,)) if user else self._user
            self._database = frozenset((database,)) if database else self._database
            self._shapes.clear()
        elif user or database:
            self._next = (user, database)
            self._tried = _tried(words)
        self._last = None

    def heard(self, message: Message) -> None:
        match message.kind:
            case "injected":
                self._answer = tuple(shown(value.data or b"") for value in message.values)
                self._last = None
            case "reply" if message.name in _CHANGING:
                self._become(queued=message.status == "QUEUED")
            case "error" if message.name in _CHANGING:
                self._next = ("", "")
                self._user |= self._tried
                self._shapes.clear()

    def _become(self, queued: bool) -> None:
        """Note that what changes the connection was done, or will be at EXEC, or not."""
        user, database = self._next
        self._next, self._last = ("", ""), None
        self._shapes.clear()
        if user:
            self._user = (self._user if queued else frozenset()) | {user}
        if database:
            self._database = (self._database if queued else frozenset()) | {database}

    def wanted(self, facts: Facts | None) -> str:
        if facts is None or self._last is None or self._last[1] is not facts or not self.needs_catalog:
            return ""
        message, _, words, found = self._last
        if not found.asks or self._asked is message or sum(map(len, words)) > MAX_ASKED:
            return ""
        self._asked, self._answer = message, None
        return " ".join(["COMMAND GETKEYS", *map(quoted, words)])

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        if column.place < 0:
            return frozenset()  # no value of a key
        if "key" in facts.unknown:
            return None
        names = facts.lineage[0] if facts.lineage and facts.lineage[0] is not None else ()
        if len(names) == 1:
            return names[0]
        return names[column.place] if column.place < len(names) else None

    def copy(self, message: Message) -> Copy | None:
        return None

    # -- one command ---------------------------------------------------------------------------------------------

    def _words(self, message: Message) -> Words:
        if message.kind == "query":
            return typed(message.text)
        return [value.data or b"" for value in message.values]

    def _facts(self, message: Message, words: Words, found: Meaning) -> Facts:
        """Return the facts of a command: those of its shape, if one like it came, with its own text."""
        size = sum(map(len, words))
        asks, changes = found.asks, found.name in _CHANGING
        if asks or changes or found.scripts or found.name in _CANCELS or size > MAX_KEPT:
            return self._made(message, words, found, size)
        databases = _databases(found.name, words) or self._about(words)
        # All of what is told but what is empty for all of these, or what `_become` begins anew by.
        shape = (
            found.name, found.keys, found.effect, found.compared, found.copied, found.channels, found.unknown,
            found.why, databases,
        )  # fmt: skip
        base = self._shapes.get(shape)
        if base is None:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            base = self._made(message, words, found, size)
            if MAX_SHAPES:
                self._shapes[shape] = base
            return base
        values = {**base.values, "text": frozenset((_text(words, message, found),))}
        return replace(base, values=values, subject=message.text, shape=base)

    def _made(self, message: Message, words: Words, found: Meaning, size: int) -> Facts:
        keys, unknown, why = found.keys, found.unknown, found.why
        if found.asks and self._asked is message and self._answer is not None:
            keys, unknown = self._answer, unknown - {"key", "count"}
        user, database = _becomes(message, words)
        users = (frozenset((user,)) if user else self._user) | _tried(words)
        all_keys = frozenset(keys)
        limit = MAX_SECRET if message.secret else MAX_TEXT
        long = size > limit
        values = {
            "effect": found.effect,
            "command": found.commands,
            "key": all_keys,
            "compared": found.compared,
            "copied": found.copied,
            "channel": found.channels,
            "script": found.scripts,
            "user": users,
            "database": _databases(found.name, words) or (frozenset((database,)) if database else self._about(words)),
            "count": frozenset((str(len(keys)),)),
            "text": frozenset() if long else frozenset((_text(words, message, found),)),
        }
        if found.scripts and (found.commands & _ELSEWHERE or "command" in unknown):
            unknown |= {"database"}  # of which it is, what follows SELECT in a script is not worked out
        each = found.name == "MGET"
        lineage = tuple(frozenset((key,)) for key in keys) if each else (all_keys,)
        return Facts(
            "redis",
            values,
            unknown | {"text"} if long else unknown,
            why or (f"more than {limit} bytes" if long else ""),
            changes=found.name in _CHANGING,
            subject=f"{message.text}\n{found.more}" if found.more else message.text,
            cancels=_cancels(found.name, words),
            lineage=(lineage,),
        )

    def _about(self, words: Words) -> frozenset[str]:
        """Return the database of the connection, and another that a command names besides."""
        name = words[0].upper()
        if name == b"MOVE" and len(words) == 3:
            return self._database | {_number(words[2])}
        if name == b"COPY" and len(words) > 4:
            named = (words[at + 1] for at in range(3, len(words) - 1) if words[at].upper() == b"DB")
            return self._database.union(map(_number, named))
        return self._database


def _text(words: Words, message: Message, found: Meaning) -> str:
    """Return what detectors look at; of a command with a password the text without it."""
    return message.text if message.secret else " ".join([*map(shown, words), found.more])


def _becomes(message: Message, words: Words) -> tuple[str, str]:
    """Return the user and the database of the connection once a command has succeeded; "" for no change."""
    name = words[0].upper() if words else b""
    if name == b"SELECT" and len(words) == 2:
        return "", _number(words[1])
    if name == b"AUTH" and len(words) in (2, 3):
        return (shown(words[1][:MAX_KEY]) if len(words) == 3 else "default"), ""
    if name == b"RESET":
        return "default", "0"
    if name == b"HELLO" and (named := _hello(words)):
        return named[-1], ""
    return "", ""


def _hello(words: Words) -> list[str]:
    """Return the users HELLO names; it logs in as the last."""
    at, found = 2, []
    while at < len(words):
        word = words[at].upper()
        if word == b"AUTH" and at + 2 < len(words):
            found.append(shown(words[at + 1][:MAX_KEY]))
        at += {b"AUTH": 3, b"SETNAME": 2}.get(word, 1)
    return found


def _tried(words: Words) -> frozenset[str]:
    """Return whom servers before 7 log in even if a HELLO fails, since they do so before they read what follows."""
    hello = words[:1] and words[0].upper() == b"HELLO" and len(words) > 5
    return frozenset(_hello(words)) if hello else frozenset()


def _databases(name: str, words: Words) -> frozenset[str]:
    """Return the databases a command names, where it names some."""
    match name:
        case "FLUSHALL" | "MONITOR" | "SYNC" | "PSYNC" | "SLOWLOG GET" | "REPLICAOF" | "SLAVEOF" | "DEBUG":
            return frozenset(("*",))
        case "SWAPDB":
            return frozenset(map(_number, words[1:3]))
    return frozenset()


def _number(word: bytes) -> str:
    text = shown(word[:20])
    return str(int(text)) if text.isascii() and text.isdigit() else text


def _cancels(name: str, words: Words) -> bytes:
    """Return the id of the client whose wait a command ends."""
    if name == "CLIENT UNBLOCK" and len(words) in (3, 4):
        return words[2]
    if name == "CLIENT KILL" and len(words) == 4 and words[2].upper() == b"ID":
        return words[3]
    return b""
