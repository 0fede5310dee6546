"""The connection to a server while it is being made."""

import asyncio
import socket
from collections.abc import Callable

from appliance.model import Address
from appliance.relay.end import End


class Upstream:
    """Connects one end."""

    def __init__(self, end: End, within_s: float) -> None:
        self._end, self._within_s = end, within_s
        self._connecting: asyncio.Timeout | None = None

    async def connect(self, server: Address, wanted: Callable[[], bool]) -> None:
        """Give the end a connection to `server`, if it is still wanted then.

        Raises:
            OSError: there is none.
        """
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(self._within_s) as self._connecting:
                try:
                    sock = await dial(server)
                except ConnectionRefusedError:
                    # Perhaps only because of our source port (kernel/nft.py): with another it is the server's word.
                    sock = await dial(server)
            self._connecting = None
            if not wanted():
                sock.close()
                return
            self._end.sock = sock
            await asyncio.get_running_loop().create_connection(self._end.protocol, sock=sock)
        except OSError:
            self._connecting = None
            if sock:
                sock.close()
            raise

    def give_up(self) -> None:
        """Wait no longer."""
        if self._connecting:
            self._connecting.reschedule(asyncio.get_running_loop().time())


async def dial(server: Address) -> socket.socket:
    """Return a connection to a server; OSError if there is none."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, (server.host, server.port))
    except BaseException:
        sock.close()
        raise
    return sock
