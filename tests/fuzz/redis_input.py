"""One input of the fuzzing of the Redis wire, and the inputs it starts from.

An input is a list of steps: a byte that says whose bytes they are and what becomes of the client's commands, two bytes
of length, the bytes. Three things must hold whatever the bytes: nothing but ProtocolError is raised; what was allowed
goes up as it came; no string of a reply goes down that the plan of its command masks.
"""

import re

from appliance.model import Column, Message, ProtocolError, Send
from appliance.wire import Cell
from appliance.wire.redis import Redis
from tests.fuzz.wire_input import DENY, FROM_SERVER, INJECT, NOTICE, REDACT, SECRET, step, steps
from tests.wire.redis.dialogues import BROKEN, DIALOGUES, C, S, bulk, cmd, many, strings
from tests.wire.redis.test_masks import REPLIES

CHANGED = {"CLIENT REPLY", "EXEC", "SYNC", "PSYNC", "DEBUG", "REPLCONF"}  # of these another may go up in their place
LINE = re.compile(rb"[-+:,(#](?:(?!\r\n).)*", re.DOTALL)  # the server's own words


def everything(columns: tuple[Column, ...]) -> list[Cell | None]:
    """A plan that masks every string of every reply."""
    return [lambda text: "#"] * len(columns)


def corpus() -> list[bytes]:
    """Return every dialogue as it is, with every command refused, and with a secret in its strings."""
    found = []
    for dialogue in DIALOGUES.values():
        for flags in (0, DENY, REDACT | NOTICE, INJECT):
            raw = [(side, data.replace(bulk("v"), bulk(SECRET)) if side is S else data) for side, data, _ in dialogue]
            found.append(b"".join(step(side, data, flags) for side, data in raw))
    found += [step(C, data[:60_000]) for data in BROKEN.values()]
    for words, reply in REPLIES:
        found.append(step(C, cmd("HELLO", "3") + cmd(*words)) + step(S, b"%0\r\n" + reply.replace(bulk("value"), bulk(SECRET))))
    secret = many("*", bulk(SECRET), strings(SECRET, None), many("%", bulk("k"), bulk(SECRET)))
    return [*found, step(C, cmd("EVAL", "x", "0")) + step(S, secret), step(C, cmd("MULTI") + cmd("GET", "k") + cmd("EXEC"))]


def run(data: bytes) -> None:
    """Play one input."""
    wire = Redis()
    try:
        for flags, piece in steps(data):
            side = S if flags & FROM_SERVER else C
            for message in wire.feed(side, piece):
                assert message.side is side
                if side is S:
                    check(message)
                elif flags & DENY and message.kind == "command":
                    wire.deny(message, "denied", "no")
                else:
                    sends = wire.allow(message, everything, bool(flags & REDACT))
                    changed = message.name in CHANGED or sends[0].data.startswith(b"*1\r\n$18\r\nvendorgate.refused")
                    assert changed or sends == [Send(S, message.raw)]
            if flags & NOTICE:
                assert wire.notice("wait") == b""
                assert wire.settle() == []
            if flags & INJECT and wire.idle:
                wire.inject("COMMAND GETKEYS X")
            assert not (wire.idle and wire.busy)
    except ProtocolError:
        wire.refuse("protocol violation")


def check(message: Message) -> None:
    """HELLO tells of the server, whatever is masked."""
    if message.kind == "reply" and message.name != "HELLO":
        assert SECRET not in LINE.sub(b"", message.raw), message
