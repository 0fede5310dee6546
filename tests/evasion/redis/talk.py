"""A client that says exactly what a test wants, and reads what comes."""

import socket
from types import TracebackType
from typing import Any

from tests.wire.redis.dialogues import cmd


class Failed(str):
    """An error of the server."""


class Pushed(list[Any]):
    """Something unasked."""


class Talk:
    """One connection. Use as a context manager."""

    def __init__(self, port: int, resp3: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.settimeout(20)
        self._file = self.socket.makefile("rb")
        if resp3:
            self.call("HELLO", "3")

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self.socket.close()

    def call(self, *words: str | bytes) -> Any:
        """Send a command; return what answers it."""
        self.send(cmd(*words))
        return self.read()

    def line(self, text: str) -> Any:
        """Send a command written with spaces; return what answers it."""
        return self.call(*text.split())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def raw_line(self) -> bytes:
        """Return what comes up to the end of a line."""
        return self._file.readline()

    def read(self) -> Any:
        """Return the next value: text, number, None, list, dict or Failed; EOFError at the end."""
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        tag, said = line[:1], line[1:-2].decode("utf-8", "backslashreplace")
        if tag in b"+(,":
            return said
        if tag == b":":
            return int(said)
        if tag == b"-":
            return Failed(said)
        if tag == b"#":
            return said == "t"
        if tag == b"_" or said == "-1":
            return None
        size = int(said)
        if tag in b"$=!":
            return self._file.read(size + 2)[:-2].decode("utf-8", "backslashreplace")
        if tag == b"%":
            return {self.read(): self.read() for _ in range(size)}
        assert tag in b"*~>", line
        values = [self.read() for _ in range(size)]
        return Pushed(values) if tag == b">" else values
