"""What a session asks for at once, as few writes as it takes."""

from collections.abc import Iterator, Sequence

from appliance.model import Effect, Note, Send, Side

C, S = Side.CLIENT, Side.SERVER


def joined(effects: Sequence[Effect]) -> Iterator[Effect]:
    """Yield the effects but for notes, in order; what goes to one side with nothing but notes between is one Send.

    A write of its own for each message of a pipeline costs a system call, and wakes the server for part of it.
    """
    sends: list[Send] = []
    for effect in effects:
        if isinstance(effect, Send):
            sends.append(effect)
        elif not isinstance(effect, Note):
            yield from as_few(sends)
            sends = []
            yield effect
    yield from as_few(sends)


def as_few(sends: list[Send]) -> list[Send]:
    """Return one Send for each side, what goes upstream first; each side's bytes are in the order they were."""
    if len(sends) < 2:
        return sends
    found = []
    for to in (S, C):
        parts = [send.data for send in sends if send.to is to]
        if parts:
            found.append(Send(to, b"".join(parts)))
    return found
