"""A real server of events, long texts and websockets, in a thread: aiohttp on loopback."""

import asyncio
import threading
from types import TracebackType

from aiohttp import WSMsgType, web

from tests.ports import free_port

CARD = "4111 1111 1111 1111"


class Aio:
    """Use as a context manager. `seen` are the messages its websocket took; `go` lets the next event be sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: list[str | bytes] = []
        self.deflate = False  # what the last websocket agreed on
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> "Aio":
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def go(self) -> None:
        self._loop.call_soon_threadsafe(self._go.release)

    async def _main(self) -> None:
        self._loop, self._stop, self._go = asyncio.get_running_loop(), asyncio.Event(), asyncio.Semaphore(0)
        app = web.Application()
        app.add_routes([web.get("/events", self._events), web.get("/long", self._long), web.get("/ws", self._ws)])
        runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send an event each time `go` says so."""
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for number in range(3):
            await asyncio.wait_for(self._go.acquire(), 20)
            await answer.write(b'id: %d\ndata: {"ssn": "123-45-6789", "card": "4111 1111' % number)
            await answer.write(b' 1111 1111"}\n\n')
        return answer

    async def _long(self, request: web.Request) -> web.StreamResponse:
        """Send 12 MB of text without saying how much, a card number across borders of chunks in it."""
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        for number in range(192):
            await answer.write(b"word and word\n" * 4680 + CARD[: number % 20].encode())
            await answer.write(CARD[number % 20 :].encode() + b"\n")
        return answer

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        """Answer each message with itself."""
        socket = web.WebSocketResponse(protocols=("chat",))
        await socket.prepare(request)
        self.deflate = bool(socket.compress)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.seen.append(message.data)
                await socket.send_str(message.data if message.data != "tell" else f"card {CARD}")
            elif message.type is WSMsgType.BINARY:
                self.seen.append(message.data)
                await socket.send_bytes(message.data)
        return socket
