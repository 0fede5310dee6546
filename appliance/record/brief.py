"""Of a frame, what ties it to the one before, and what says how long it is kept: all that the hub's rounds look at."""

import msgspec


class Numbered(msgspec.Struct, frozen=True, gc=False):
    """Of a flow, what the fence calls it."""

    sequence: int = 0
    scope: int = 0
    epoch: int = 0


class Ruled(msgspec.Struct, frozen=True, gc=False):
    """Of a decision, whose it is."""

    rule: str = ""


class Told(msgspec.Struct, frozen=True, gc=False):
    """Of a note, whom and which rules it names."""

    decision: Ruled | None = None
    identity: str = ""
    masks: tuple[str, ...] = ()


class Brief(msgspec.Struct, frozen=True, gc=False):
    """Of a frame, what says how long it is kept."""

    time: float
    id: str
    note: Told
    flow: Numbered | None = None


class Link(msgspec.Struct, frozen=True, gc=False):
    """Of a frame, what ties it to the one before."""

    sequence: int
    time: float
    previous: bytes = b""


class Both(msgspec.Struct, frozen=True, gc=False):
    """A link and a brief in one."""

    sequence: int
    time: float
    id: str
    note: Told
    flow: Numbered | None = None
    previous: bytes = b""


# The fields of a Both, and of a Told, all at once (msgspec.structs.astuple): a quarter of what one by one takes.
Boths = tuple[int, float, str, Told, Numbered | None, bytes]
Tolds = tuple[Ruled | None, str, tuple[str, ...]]

briefs = msgspec.msgpack.Decoder(Brief)
links = msgspec.msgpack.Decoder(Link)
boths = msgspec.msgpack.Decoder(Both)
