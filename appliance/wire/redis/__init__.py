"""Redis protocol, RESP2 and RESP3.

Source: Redis documentation, "Redis serialization protocol specification", and the server of 7.0.
Not handled: TLS (the caller ends it before it feeds us). Refused: commands over MAX_COMMAND bytes, and in a transaction
what changes the form of answers.

Messages of the client: command (its name in capitals in `name`, its arguments in `values`), nothing (an empty one).
Of the server: reply error redirect attribute push replication injected injected-done; `name` is the command that is
answered, `status` the word of a status or error. A long reply comes as several messages.
"""

from appliance.wire import Opening
from appliance.wire.redis.connection import Redis

__all__ = ["OPENING", "Redis", "recognise"]

# First words of inline commands by which the protocol is told; none is a method of HTTP.
INLINE = frozenset(b"AUTH CLIENT COMMAND CONFIG ECHO HELLO INFO PING QUIT SELECT SET".split())
MAX_FIRST = 16  # bytes that tell


def recognise(client: bytes, server: bytes) -> bool | None:
    """Tell from the first bytes of both sides whether this is Redis; None: too few to tell."""
    if server:
        return False
    if client[:1] == b"*":
        digits = client[1:].partition(b"\r")[0]
        return None if len(client) < 3 else digits.isdigit() and len(digits) <= 7
    word = client[:MAX_FIRST].split(maxsplit=1)[0].upper() if client[:MAX_FIRST].strip() else b""
    if word in INLINE and len(client) > len(word):
        return client[len(word) : len(word) + 1] in (b" ", b"\r", b"\n")
    return None if any(known.startswith(word) for known in INLINE) else False


OPENING = Opening(Redis, recognise)
