"""A request that went up, as the ledger keeps it until it is answered."""

from functools import lru_cache

import msgspec

from appliance.wire import Plan


class Request(msgspec.Struct, frozen=True):
    """One thing sent up that has an answer. What changes while it is answered is of server.py."""

    kind: str
    plan: Plan | None = None
    redact: bool = False
    refusal: bytes | None = None  # the ERR packet that we answer, without header
    name: str = ""  # the statement's number
    text: str = ""  # what is prepared, or may ask for a file
    sequence: int = 1  # the number the answer's first packet has for the client
    frame: int = 1  # ... and its first frame


@lru_cache(maxsize=1024)
def plain(kind: str, sequence: int, frame: int) -> Request:
    """Return a request that nothing is attached to: those of a long pipeline are one object."""
    return Request(kind, sequence=sequence, frame=frame)
