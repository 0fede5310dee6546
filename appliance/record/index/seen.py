"""A frame as the index looks at it.

The same fields as a Frame's, with the same types; those that come again and again are kept as the bytes they are, and
taken apart once (Kept). So what is no frame is none here either.
"""

import msgspec

from appliance.model import Decision, Flow, Named, NoteKind, Side, Spent

MAX_KEPT = 1_024  # of each: decisions, facts, columns. A program has some tens of each
MAX_BYTES = 4_096  # of one that is kept: all of them together some MB

Pairs = tuple[tuple[str, tuple[str, ...]], ...]
NOTHING = msgspec.Raw(b"")


class Said(msgspec.Struct, frozen=True, gc=False):
    """Of a frame, its note."""

    kind: NoteKind
    text: str = ""
    side: Side | None = None
    message: str = ""
    raw: bytes = b""
    decision: msgspec.Raw = NOTHING
    id: str = ""
    identity: str = ""
    target: str = ""
    protocol: str = ""
    count: int = 0
    masked: int = 0
    masks: tuple[str, ...] = ()
    by: str = ""
    size: int = 0
    facts: msgspec.Raw = NOTHING
    columns: msgspec.Raw = NOTHING
    level: str = ""
    spent: Spent | None = None


class Seen(msgspec.Struct, frozen=True, gc=False):
    """One frame."""

    sequence: int
    time: float
    id: str
    note: Said
    dropped: int = 0
    flow: Flow | None = None
    number: int = 0
    previous: bytes = b""
    salt: bytes = b""


class Ruled(msgspec.Struct, frozen=True, gc=False):
    """What is summed up of a decision."""

    verdict: str
    rule: str
    revision: str


# The fields of a Seen, and of a Said, all at once (msgspec.structs.astuple): a quarter of what one by one takes.
Frames = tuple[int, float, str, Said, int, Flow | None, int, bytes, bytes]
Notes = tuple[
    NoteKind, str, Side | None, str, bytes, msgspec.Raw, str, str, str, str, int, int, tuple[str, ...], str, int,
    msgspec.Raw, msgspec.Raw, str, Spent | None,
]  # fmt: skip

seen = msgspec.msgpack.Decoder(Seen)
decisions = msgspec.msgpack.Decoder(Decision | None)
pairs = msgspec.msgpack.Decoder(Pairs)
columns = msgspec.msgpack.Decoder(tuple[Named, ...])
