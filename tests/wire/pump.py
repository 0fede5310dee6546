"""A tiny relay that drives the wire between a real client and a real server, one thread a connection."""

import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

import msgspec

from appliance.model import Address, Message, ProtocolError, Side
from appliance.wire import Plan
from appliance.wire.detect import open as open_wire

Judge = Callable[[Message], "Verdict"]


class Verdict(msgspec.Struct, frozen=True):
    """What to do with one message of the client."""

    deny: str = ""
    code: str = "denied"
    plan: Plan | None = None
    redact: bool = False
    inject: str = ""  # run before the message
    notice: str = ""  # said to the client before the message


ALLOW = Verdict()


class Pump:
    """Listens on loopback and relays to the server; `judge` decides every message of a client."""

    def __init__(self, server: Address, judge: Judge = lambda message: ALLOW, piece: int = 1 << 16) -> None:
        self._server, self._judge, self._piece = server, judge, piece
        self.messages: list[Message] = []
        self.errors: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._stop = False

    def __enter__(self) -> "Pump":
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self._stop:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            client.settimeout(None)
            server = socket.create_connection((self._server.host, self._server.port))
            self._start(self._relay, {Side.CLIENT: client, Side.SERVER: server})

    def _relay(self, ends: dict[Side, socket.socket]) -> None:
        wire = open_wire("")
        held: deque[Message] = deque()
        injected = asked = False
        try:
            while not self._stop:
                ready, _, _ = select.select(list(ends.values()), [], [], 0.05)
                for side in [side for side, end in ends.items() if end in ready]:
                    data = ends[side].recv(self._piece)
                    if not data:
                        return
                    for message in wire.feed(side, data):
                        self.messages.append(message)
                        if side is Side.CLIENT:
                            held.append(message)
                        else:
                            injected = injected and message.kind != "injected-done"
                            ends[Side.CLIENT].sendall(message.raw)
                while held and not injected:
                    verdict = self._judge(held[0])
                    if verdict.inject and not asked:
                        if not wire.idle:
                            break
                        injected = asked = True
                        sends = wire.inject(verdict.inject)
                    else:
                        asked = False
                        message = held.popleft()
                        if verdict.notice:
                            ends[Side.CLIENT].sendall(wire.notice(verdict.notice))
                        sends = (wire.deny(message, verdict.code, verdict.deny) if verdict.deny
                                 else wire.allow(message, verdict.plan, verdict.redact))  # fmt: skip
                    for send in sends:
                        ends[send.to].sendall(send.data)
        except ProtocolError as error:
            self.errors.append(str(error))
            ends[Side.CLIENT].sendall(wire.refuse(str(error)))
        except OSError:
            pass
        finally:
            for end in ends.values():
                end.close()
