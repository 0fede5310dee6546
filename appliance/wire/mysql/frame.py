"""A frame of the compressed protocol, as it came."""

import msgspec


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A frame that was taken apart, and where in the stream its content begins and ends."""

    begin: int
    end: int
    raw: bytes
    sequence: int
