"""The way in to the control interface: how many may come at one time, and how long they may say nothing.

Whoever may open the socket could otherwise use up the hub's descriptors and memory with connections that never ask,
and no reviewer would come in. That takes root or a reviewer, but a vendor's agent may be root without capabilities:
what is governed is refused by the interface, and kept to a few connections here.
"""

import asyncio
import socket

from aiohttp import web

from appliance.control.peer import may_be_governed

MAX_GUESTS = 256  # connections at one time; four for each stream that may watch (MAX_WATCHERS)
MAX_GOVERNED = 4  # of them from the governed slice: enough to be told that it has no part here
FIRST_S = 10.0  # for the first request to be complete; a client of ours sends it at once
ACCEPTS = 16  # connections taken in one turn of the loop


class Door:
    """Accepts on `bound` for an aiohttp server, until `close`."""

    def __init__(self, bound: socket.socket, server: web.Server, governed: str) -> None:
        self._bound, self._server, self._slice = bound, server, governed
        self._loop = asyncio.get_running_loop()
        self._governed: set[object] = set()  # connections, by their protocol
        self._silent: dict[object, asyncio.TimerHandle] = {}  # those that have asked nothing yet
        self._entering: dict[object, asyncio.Task[None]] = {}  # connections the server does not know yet
        bound.setblocking(False)
        self._loop.add_reader(bound, self._accept)

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._bound)
        self._bound.close()
        for timer in self._silent.values():
            timer.cancel()

    def spoke(self, protocol: object) -> None:
        """A connection has asked something."""
        timer = self._silent.pop(protocol, None)
        if timer:
            timer.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, _ = self._bound.accept()
            except OSError:  # none is left, or there is no descriptor for it: it stays in the queue
                return
            governed = may_be_governed(sock, self._slice)
            inside = self._server.connections
            self._governed &= {*inside, *self._entering}
            many = len(inside) + len(self._entering) >= MAX_GUESTS
            if many or (governed and len(self._governed) >= MAX_GOVERNED):
                sock.close()
                continue
            protocol = self._server()
            self._silent[protocol] = self._loop.call_later(FIRST_S, self._late, protocol)
            if governed:
                self._governed.add(protocol)
            self._entering[protocol] = self._loop.create_task(self._enter(sock, protocol))

    async def _enter(self, sock: socket.socket, protocol: web.RequestHandler) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, sock=sock)
        except OSError:
            sock.close()
        finally:
            del self._entering[protocol]

    def _late(self, protocol: web.RequestHandler) -> None:
        del self._silent[protocol]
        protocol.force_close()
