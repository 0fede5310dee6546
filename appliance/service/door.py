"""How a worker that runs is given listening sockets: a datagram of a unix socket pair for each, with the descriptors.

The channel carries no descriptors (uvloop), and what a worker inherits at its start cannot know of the containers to
come. `+NUMBER` with sockets: listen there; `-NUMBER`: no more, so that the namespace they hold can go.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence

MAX_SOCKETS = 2  # of one namespace: IPv4 and IPv6
MAX_WORDS = 64  # bytes of one message


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends, neither of which waits."""
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return socket.socketpair(socket.AF_UNIX, kind)


def tell(door: socket.socket, number: int, sockets: Sequence[socket.socket]) -> bool:
    """Give a worker the sockets of a namespace, or with none, have it let go of them. False: it takes nothing now."""
    try:
        if sockets:
            socket.send_fds(door, [b"+%d" % number], [sock.fileno() for sock in sockets])
        else:
            door.send(b"-%d" % number)
    except OSError:  # full, or its worker is gone
        return False
    return True


class Door:
    """A worker's end. Nothing is listened on before `open`."""

    def __init__(
        self, sock: socket.socket, listen: Callable[[socket.socket], None], leave: Callable[[socket.socket], None]
    ) -> None:
        self._sock, self._listen, self._leave = sock, listen, leave
        self._held: dict[int, list[socket.socket]] = {}

    def open(self) -> None:
        """Take what comes, and what has come."""
        asyncio.get_running_loop().add_reader(self._sock, self._ready)

    def close(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._sock)

    def _ready(self) -> None:
        while True:
            try:
                words, fds, _flags, _from = socket.recv_fds(self._sock, MAX_WORDS, MAX_SOCKETS)
            except BlockingIOError:
                return
            except OSError:
                words, fds = b"", []
            if not words:  # the hub is gone: its channel says so too
                self.close()
                return
            self._take(words, [socket.socket(fileno=fd) for fd in fds])

    def _take(self, words: bytes, sockets: list[socket.socket]) -> None:
        number = int(words[1:])
        for sock in self._held.pop(number, []):
            self._leave(sock)
        if sockets:
            self._held[number] = sockets
            for sock in sockets:
                self._listen(sock)
