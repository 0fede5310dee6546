"""How much of a message is kept: what its rules say, and of an answer what the rules of its request say.

An answer may belong to any request that was sent since the server last owed none. So it is kept as the strictest
of their levels says; the level of a request without one is that of the settings, which is not known here, so beside
`requests` it counts as the strictest there is.
"""

STRICT = ("full", "requests", "metadata")  # each keeps less than the one before


class Levels:
    """The levels of the requests under way on one flow."""

    def __init__(self) -> None:
        self._under_way: set[str] = set()
        self.joint = ""  # of all that is under way

    def judged(self, level: str, idle: bool) -> None:
        """A request of this level comes; `idle`: the server owes nothing, so what was under way is over."""
        if idle:
            self._under_way.clear()
            self._under_way.add(level)
            self.joint = level  # which is what `strictest` says of one
            return
        if level not in self._under_way:
            self._under_way.add(level)
            self.joint = strictest(self._under_way)


def strictest(levels: set[str]) -> str:
    """Return the level that keeps nothing that one of `levels` would not keep; "" stands for any."""
    said = levels - {""}
    most = max(said, key=STRICT.index, default="")
    if "" not in levels or most == "metadata":
        return most
    return "metadata" if most == "requests" else ""
