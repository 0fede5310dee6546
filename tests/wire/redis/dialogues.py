"""Dialogues of a client and a Redis, as data: who speaks, the bytes, the kinds of message they are.

Replies are as a server of 7.0 writes them. Everything is allowed and nothing masked.
"""

from appliance.model import Side

C, S = Side.CLIENT, Side.SERVER
Step = tuple[Side, bytes, str]


def cmd(*words: str | bytes) -> bytes:
    """Write a command."""
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(map(bulk, raw))


def bulk(data: str | bytes | None) -> bytes:
    if data is None:
        return b"$-1\r\n"
    raw = data.encode() if isinstance(data, str) else data
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def many(mark: str, *values: bytes) -> bytes:
    """Write an aggregate: `*` array, `~` set, `>` push, `%` map, `|` attribute."""
    size = len(values) // 2 if mark in "%|" else len(values)
    return f"{mark}{size}\r\n".encode() + b"".join(values)


def strings(*values: str | bytes | None) -> bytes:
    return many("*", *map(bulk, values))


OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
HELLO_3 = many(
    "%", bulk("server"), bulk("redis"), bulk("version"), bulk("7.0.15"), bulk("proto"), b":3\r\n", bulk("id"), b":42\r\n",
    bulk("mode"), bulk("standalone"), bulk("role"), bulk("master"), bulk("modules"), b"*0\r\n",
)  # fmt: skip
HELLO_2 = b"*14\r\n" + HELLO_3.partition(b"\r\n")[2].replace(b":3\r\n", b":2\r\n")


def told(word: str, channel: str | None, count: int, mark: str = "*") -> bytes:
    """Write the confirmation of a subscription."""
    return many(mark, bulk(word), bulk(channel), b":%d\r\n" % count)


def message(mark: str = "*", *words: str) -> bytes:
    return many(mark, *map(bulk, words or ("message", "news", "hello")))


TO_3: list[Step] = [(C, cmd("HELLO", "3"), "command"), (S, HELLO_3, "reply")]
SUBSCRIBED: list[Step] = [(C, cmd("SUBSCRIBE", "news"), "command"), (S, told("subscribe", "news", 1), "push")]

DIALOGUES: dict[str, list[Step]] = {
    "ping": [(C, cmd("PING"), "command"), (S, b"+PONG\r\n", "reply")],
    "inline": [(C, b"PING\r\n", "command"), (S, b"+PONG\r\n", "reply")],
    "inline with line feed only": [(C, b"SET k 'a b' \n", "command"), (S, OK, "reply")],
    "empty lines": [(C, b"\r\n\n*0\r\n*-1\r\nPING\r\n", "nothing nothing nothing nothing command"), (S, b"+PONG\r\n", "reply")],
    "get": [(C, cmd("GET", "k"), "command"), (S, bulk("v"), "reply")],
    "get of nothing": [(C, cmd("GET", "k"), "command"), (S, b"$-1\r\n", "reply")],
    "get of an empty string": [(C, cmd("GET", ""), "command"), (S, b"$0\r\n\r\n", "reply")],
    "binary": [(C, cmd("SET", b"\0\r\n\xff", b"*1\r\n$4\r\n"), "command"), (S, OK, "reply")],
    "an error": [(C, cmd("INCR", "k"), "command"), (S, b"-ERR value is not an integer or out of range\r\n", "error")],
    "pipeline": [
        (C, cmd("SET", "a", "1") + cmd("INCR", "a") + cmd("LPUSH", "a", "x") + b"GET a\r\n", "command command command command"),
        (S, OK + b":2\r\n-WRONGTYPE no\r\n" + bulk("2"), "reply reply error reply"),
    ],
    "nested": [(C, cmd("COMMAND", "INFO", "GET"), "command"), (S, many("*", many("*", bulk("get"), b":2\r\n", many("*"), b"*-1\r\n")), "reply")],
    "hello 3": [*TO_3, (C, cmd("GET", "k"), "command"), (S, b"_\r\n", "reply")],
    "hello 2": [(C, cmd("hello", "2"), "command"), (S, HELLO_2, "reply")],
    "hello refused": [(C, cmd("HELLO", "4"), "command"), (S, b"-NOPROTO unsupported protocol version\r\n", "error")],
    "types of resp3": [
        *TO_3,
        (C, cmd("DEBUG", "RESTART") + cmd("A") + cmd("B") + cmd("C") + cmd("D") + cmd("E"), "command command command command command command"),
        (S, b",3.14\r\n#t\r\n(12345678901234567890\r\n=7\r\ntxt:abc\r\n", "reply reply reply reply"),
        (S, many("~", bulk("a"), b",inf\r\n") + many("%", bulk("k"), many("*", b"_\r\n", b"#f\r\n")), "reply reply"),
    ],
    "blob error": [*TO_3, (C, cmd("X"), "command"), (S, b"!8\r\nERR oops\r\n", "error")],
    "streamed string": [*TO_3, (C, cmd("X"), "command"), (S, b"$?\r\n;4\r\nHell\r\n;1\r\no\r\n;0\r\n", "reply")],
    "streamed aggregates": [
        *TO_3,
        (C, cmd("X") + cmd("Y"), "command command"),
        (S, b"*?\r\n:1\r\n" + many("*", b":2\r\n", b":3\r\n") + b".\r\n", "reply"),
        (S, b"%?\r\n+a\r\n*?\r\n.\r\n+b\r\n:2\r\n.\r\n", "reply"),
    ],
    "attribute": [
        *TO_3,
        (C, cmd("X"), "command"),
        (S, many("|", b"+ttl\r\n", b":360\r\n") + many("*", b":1\r\n", many("|", b"+a\r\n", b"*0\r\n") + b":2\r\n"), "attribute reply"),
    ],
    "push between replies": [
        *TO_3,
        (S, many(">", bulk("invalidate"), strings("k")), "push"),
        (C, cmd("GET", "k"), "command"),
        (S, many(">", bulk("invalidate"), b"_\r\n") + bulk("v"), "push reply"),
    ],
    "transaction": [
        (C, cmd("MULTI") + cmd("SET", "k", "v") + cmd("GET", "k") + cmd("EXEC") + cmd("PING"), "command command command command command"),
        (S, OK + QUEUED + QUEUED + many("*", OK, bulk("v")) + b"+PONG\r\n", "reply reply reply reply reply"),
    ],
    "transaction with an error inside": [
        (C, cmd("MULTI") + cmd("SET", "k"), "command command"),
        (S, OK + b"-ERR wrong number of arguments for 'set' command\r\n", "reply error"),
        (C, cmd("EXEC"), "command"),
        (S, b"-EXECABORT Transaction discarded because of previous errors.\r\n", "error"),
        (C, cmd("GET", "k"), "command"),
        (S, bulk("v"), "reply"),
    ],
    "transaction that failed to watch": [
        (C, cmd("WATCH", "k") + cmd("MULTI") + cmd("GET", "k") + cmd("EXEC"), "command command command command"),
        (S, OK + OK + QUEUED + b"*-1\r\n", "reply reply reply reply"),
        (C, cmd("GET", "k"), "command"),
        (S, bulk("v"), "reply"),
    ],
    "transaction discarded": [
        (C, cmd("MULTI") + cmd("GET", "k") + cmd("DISCARD") + cmd("GET", "k"), "command command command command"),
        (S, OK + QUEUED + OK + bulk("v"), "reply reply reply reply"),
    ],
    "transaction inside another": [
        (C, cmd("MULTI") + cmd("MULTI") + cmd("WATCH", "k") + cmd("GET", "k") + cmd("EXEC"), "command command command command command"),
        (S, OK + b"-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n", "reply error error"),
        (S, QUEUED + many("*", bulk("v")), "reply reply"),
    ],
    "transaction reset": [
        (C, cmd("MULTI") + cmd("GET", "k") + cmd("RESET") + cmd("GET", "k"), "command command command command"),
        (S, OK + QUEUED + b"+RESET\r\n" + bulk("v"), "reply reply reply reply"),
    ],
    "empty transaction": [(C, cmd("MULTI") + cmd("EXEC"), "command command"), (S, OK + b"*0\r\n", "reply reply")],
    "end without a beginning": [
        (C, cmd("EXEC") + cmd("DISCARD") + cmd("PING"), "command command command"),
        (S, b"-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n+PONG\r\n", "error error reply"),
    ],
    "subscribe": [
        *SUBSCRIBED,
        (S, message(), "push"),
        (C, cmd("PING"), "command"),
        (S, message() + strings("pong", ""), "push reply"),
        (C, cmd("GET", "k"), "command"),
        (S, b"-ERR Can't execute 'get': only (P|S)SUBSCRIBE are allowed in this context\r\n", "error"),
        (C, cmd("UNSUBSCRIBE"), "command"),
        (S, message() + told("unsubscribe", "news", 0), "push push"),
        (C, cmd("LRANGE", "k", "0", "-1"), "command"),
        (S, strings("message", "a", "b"), "reply"),
    ],
    "subscribe to several": [
        (C, cmd("SUBSCRIBE", "a", "b", "a") + cmd("PSUBSCRIBE", "*") + cmd("UNSUBSCRIBE") + cmd("PUNSUBSCRIBE") + cmd("PING"), "command command command command command"),
        (S, told("subscribe", "a", 1) + told("subscribe", "b", 2) + told("subscribe", "a", 2) + told("psubscribe", "*", 3), "push push push push"),
        (S, told("unsubscribe", "a", 2) + told("unsubscribe", "b", 1), "push push"),
        (S, message("*", "pmessage", "*", "c", "x") + told("punsubscribe", "*", 0) + b"+PONG\r\n", "push push reply"),
    ],
    "unsubscribe from nothing": [
        (C, cmd("UNSUBSCRIBE") + cmd("UNSUBSCRIBE", "a", "b") + cmd("PING"), "command command command"),
        (S, told("unsubscribe", None, 0) + told("unsubscribe", "a", 0) + told("unsubscribe", "b", 0) + b"+PONG\r\n", "push push push reply"),
    ],
    "sharded subscribe": [
        (C, cmd("SSUBSCRIBE", "s") + cmd("SUBSCRIBE", "a") + cmd("SUNSUBSCRIBE") + cmd("UNSUBSCRIBE", "a"), "command command command command"),
        (S, told("ssubscribe", "s", 1) + message("*", "smessage", "s", "x") + told("subscribe", "a", 1), "push push push"),
        (S, told("sunsubscribe", "s", 0) + told("unsubscribe", "a", 0), "push push"),
    ],
    "subscription ended by the server": [
        (C, cmd("SSUBSCRIBE", "s"), "command"),
        (S, told("ssubscribe", "s", 1) + told("sunsubscribe", "s", 0), "push push"),
        (C, cmd("GET", "k"), "command"),
        (S, bulk("v"), "reply"),
    ],
    "subscribe refused": [(C, cmd("SUBSCRIBE", "a", "b") + cmd("PING"), "command command"), (S, b"-NOPERM no\r\n+PONG\r\n", "error reply")],
    "subscribe in resp3": [
        *TO_3,
        (C, cmd("SUBSCRIBE", "news") + cmd("LRANGE", "k", "0", "-1"), "command command"),
        (S, told("subscribe", "news", 1, ">") + strings("subscribe", "x"), "push reply"),
        (S, message(">"), "push"),
        (C, cmd("GET", "k") + cmd("UNSUBSCRIBE") + cmd("GET", "k"), "command command command"),
        (S, message(">") + bulk("v") + message(">") + told("unsubscribe", "news", 0, ">") + bulk("v"), "push reply push push reply"),
    ],
    "monitor": [
        (C, cmd("MONITOR"), "command"),
        (S, OK + b'+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"\r\n', "reply push"),
        (C, cmd("PING") + cmd("RESET"), "command command"),
        (S, b'+PONG\r\n+1339518084.1 [0 lua] "x"\r\n+RESET\r\n', "reply push reply"),
        (C, cmd("GET", "k"), "command"),
        (S, bulk("v"), "reply"),
    ],
    "replica": [
        (C, cmd("PING") + cmd("REPLCONF", "listening-port", "1") + cmd("PSYNC", "?", "-1"), "command command command"),
        (S, b"+PONG\r\n" + OK + b"\n\n+FULLRESYNC 0123 0\r\n$5\r\nREDIS", "reply reply reply reply replication"),
        (C, cmd("REPLCONF", "ACK", "1"), "command"),
        (S, cmd("SET", "k", "v"), "replication"),
    ],
    "sync refused": [(C, cmd("SYNC"), "command"), (S, b"-NOPERM no\r\n", "error"), (C, cmd("PING"), "command"), (S, b"+PONG\r\n", "reply")],
    "tracking": [
        *TO_3,
        (C, cmd("CLIENT", "TRACKING", "ON") + cmd("CLIENT", "ID"), "command command"),
        (S, OK + b":42\r\n", "reply reply"),
    ],
    "the server is full": [(S, b"-ERR max number of clients reached\r\n", "error")],
    "quit": [(C, cmd("QUIT"), "command"), (S, OK, "reply")],
    "a long reply": [(C, cmd("GET", "k"), "command"), (S, bulk("x" * 5000), "reply")],
}

BROKEN: dict[str, bytes] = {
    "an argument that is no bulk string": b"*1\r\n:1\r\n",
    "a count that is no number": b"*x\r\n",
    "a count with a sign": b"*+1\r\n",
    "a count with a zero in front": b"*01\r\n",
    "a count with a space": b"* 1\r\n",
    "a count ended by line feed": b"*1\n$4\nPING\n",
    "a count without an end": b"*" + b"1" * 40,
    "too many arguments": b"*262145\r\n",
    "a length below zero": b"*1\r\n$-1\r\n",
    "a length that is no number": b"*1\r\n$4x\r\nPING\r\n",
    "an argument longer than its length": b"*1\r\n$3\r\nPING\r\n",
    "an argument over the limit": b"*2\r\n$3\r\nSET\r\n$67108865\r\n",
    "an inline command whose quotes do not match": b'SET k "v\r\n',
    "text behind a quote": b'SET "k"v x\r\n',
    "a zero byte in an inline command": b"GET a\0b\r\n",
    "a vertical tab in an inline command": b"GET\x0ba\r\n",
    "a carriage return in an inline command": b"GET a\rFLUSHALL\r\n",
    "an inline command over the limit": b"GET " + b"x" * 65_536,
}
"""What no client may send."""
