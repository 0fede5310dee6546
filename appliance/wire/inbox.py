"""What has come of one direction and is not used up. Knows no protocol."""

MAX_IDLE = 64 * 1024  # bytes used up that an inbox keeps; a flow that sent one large message may be idle for days


class Inbox:
    """Bytes of one direction that are not used up. `data[at:]` is what is left.

    One bytearray, cut once for each piece that arrives: gluing and cutting `bytes` would be quadratic.
    """

    __slots__ = ("at", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self.at = 0

    def add(self, data: bytes) -> None:
        if self.at:
            del self.data[: self.at]
            self.at = 0
        self.data += data

    def rest(self) -> None:
        """For now no more comes: what is used up is given back, if it is much."""
        if self.at > MAX_IDLE and self.at == len(self.data):
            self.data.clear()
            self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        self.at += size
        return bytes(self.data[self.at - size : self.at])
