"""What has come of one direction and is not used up. Knows no protocol."""


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

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        self.at += size
        return bytes(self.data[self.at - size : self.at])
