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
            yield from _written(sends)
            sends = []
            yield effect
    yield from _written(sends)


def _written(sends: list[Send]) -> Iterator[Send]:
    if len(sends) < 2:
        yield from sends
        return
    for to in (S, C):
        parts = [send.data for send in sends if send.to is to]
        if parts:
            yield Send(to, b"".join(parts))
