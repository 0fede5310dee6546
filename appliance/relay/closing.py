"""The close of a connection: what the kernel is told before it, and what it still has of the peer then.

Source: socket(7), SO_LINGER and SO_ATTACH_BPF; tcp(7), SIOCINQ.
"""

import contextlib
import fcntl
import socket
import struct
import termios
from typing import ClassVar

RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST and forgets what was not sent
ATTACH_BPF = 50  # SO_ATTACH_BPF, asm-generic/socket.h


def reset_on_close(sock: socket.socket) -> None:
    """Make the close of `sock` a reset, as the network does for a peer that is not there."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except OSError:
        pass  # closed already


class Frozen:
    """The filter that lets nothing in, where there is one: set once, before the first connection."""

    program: ClassVar[int] = -1


def unread(sock: socket.socket, last: bool = False) -> int:
    """Return how many bytes the kernel took for us that we have not read. After the `last` look it takes no more.

    Without a filter (`Frozen`), what comes between the look and the close is not counted.
    The end of the stream is not counted.
    """
    if last and Frozen.program >= 0:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, ATTACH_BPF, Frozen.program)
    try:
        (waiting,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
    except OSError:
        return 0  # closed already
    return int(waiting)
