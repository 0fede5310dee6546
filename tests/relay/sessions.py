"""Small real sessions, and a relay on loopback around them."""

import asyncio
import functools
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import uvloop

from appliance.model import (
    Address,
    Answered,
    Ask,
    Cancel,
    Close,
    Decision,
    Effect,
    Ended,
    Event,
    Flow,
    Note,
    Process,
    Question,
    Received,
    Send,
    Shut,
    Side,
    Trust,
    Withdraw,
    Woke,
)
from appliance.relay.limits import Limits
from appliance.relay.relay import Duties, Relay

C, S = Side.CLIENT, Side.SERVER
RESET = struct.pack("ii", 1, 0)
LOOKS = 15  # 20 ms apart


class Pass:
    """Lets everything through, noted; keeps half-closes."""

    passing = False
    kept = 0
    trust = Trust()

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.deadline: float | None = None
        self.held = 0
        self.events: list[Event] = []
        self.ended: set[Side] = set()

    def start(self, now: float, wall: float) -> Sequence[Effect]:
        return [Note("opened")]

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        self.events.append(event)
        match event:
            case Received(side, data):
                return [Note("message", side=side, raw=data), Send(side.other, data)]
            case Ended(side, lost):
                self.ended.add(side)
                if lost or len(self.ended) == 2:
                    return [Note("closed"), Close(abort=lost)]
                return [Shut(side.other)]
        return []

    def fail(self, text: str) -> Sequence[Effect]:
        return [Note("closed", text), Send(C, b"ERROR " + text.encode()), Send(S, b"must not go up"), Close()]


class Holds(Pass):
    """Asks about what the client says, and sends it when the answer is yes."""

    waiting: bytes = b""
    number = 0

    def question(self) -> Question:
        decision = Decision("approve", "r")
        return Question(
            f"{self.flow.id}-{self.number}", self.flow, "", "", "", "", self.waiting, decision, 0, 0
        )

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        match event:
            case Received(side, data) if side is C:
                if self.waiting:
                    self.held += len(data)
                    return []
                self.number += 1
                self.waiting = data
                return [Note("asked"), Ask(self.question())]
            case Answered():
                data, self.waiting, self.held = self.waiting, b"", 0
                if event.approved:
                    return [Note("answered"), Send(S, data)]
                return [Note("answered"), Send(C, b"DENIED " + event.reason.encode())]
            case Ended(side) if side is C and self.waiting:
                return [Withdraw(self.question().id, "left"), Close()]
        return super().receive(event, now)


class Wakes(Pass):
    """Wakes after 50 ms and tells the client."""

    def start(self, now: float, wall: float) -> Sequence[Effect]:
        self.began = now
        self.deadline = now + 0.05
        return []

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        if isinstance(event, Woke):
            self.deadline = None
            return [Send(C, f"woke {now - self.began:.3f}".encode())]
        return super().receive(event, now)


class Breaks(Pass):
    """Has a fault: the word `fault` raises."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        if isinstance(event, Received) and b"fault" in event.data:
            raise KeyError("a fault of ours")
        return super().receive(event, now)


class World:
    """A relay that sends every flow to one server, and what it told the outside."""

    def __init__(self, session: type[Pass], server: Address, limits: Limits, *, together: bool = False) -> None:
        """`together`: the notes of many flows are recorded by one call."""
        self.server = server
        self.turns: list[list[str]] = []  # the flows of each such call
        self.sessions: list[Pass] = []
        self.notes: list[Note] = []
        self.questions: list[Question] = []
        self.withdrawn: list[Withdraw] = []
        self.cancels: list[Cancel] = []
        self.incidents: list[str] = []
        self.record_fails: Callable[[Sequence[Note]], bool] = lambda notes: False
        self.refuse = False
        self.unaskable = ""
        self.keep: list[object] = []  # clients a test leaves open
        self.cgroup = "acme.service"
        self._session = session
        self.relay = Relay(
            Duties(
                identify=self.identify,
                session=self.session,
                record=self.record,
                ask=self.ask,
                withdraw=self.withdrawn.append,
                cancel=self.cancels.append,
                incident=lambda flow, text: self.incidents.append(text),
                record_all=self.record_all if together else None,
            ),
            limits,
        )
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.address = listener.getsockname()
        self.relay.listen(listener)

    def identify(self, sock: socket.socket) -> Flow | None:
        if self.refuse:
            return None
        peer = Address.of(*sock.getpeername()[:2])
        process = Process(1, 1, "/bin/x", ("x",), self.cgroup, 0)
        return Flow(f"f{len(self.sessions)}", 0.0, peer, self.server, process)

    def session(self, flow: Flow) -> Pass:
        self.sessions.append(self._session(flow))
        return self.sessions[-1]

    def ask(self, question: Question) -> None:
        if self.unaskable:
            raise ValueError(self.unaskable)
        self.questions.append(question)

    def record(self, flow: Flow, notes: Sequence[Note]) -> None:
        if self.record_fails(notes):
            raise OSError(28, "No space left on device")
        self.notes += notes

    def record_all(self, entries: Sequence[tuple[Flow, Sequence[Note]]]) -> list[Exception | None]:
        self.turns.append([flow.id for flow, _ in entries])
        found: list[Exception | None] = []
        for flow, notes in entries:
            try:
                self.record(flow, notes)
            except Exception as error:
                found.append(error)
            else:
                found.append(None)
        return found

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    def kinds(self) -> list[str]:
        return [note.kind for note in self.notes]


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until it ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def world(  # type: ignore[no-untyped-def]
    session: type[Pass] = Pass, serve: Serve = echo, limits: Limits | None = None, *, together: bool = False
):
    """Yield a World whose flows go to a server that does `serve`; nothing of it is left after."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    here = World(session, Address(host, port), limits or Limits(linger_s=0.3, connect_s=20.0), together=together)
    try:
        yield here
    finally:
        here.relay.stop()
        here.relay.abort()
        await asyncio.wait_for(here.relay.empty(), 20)
        server.close()
        await asyncio.sleep(0.02)


async def until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until `what` holds; fail if it does not in time."""
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.005)


async def still(what: Callable[[], object]) -> None:
    """Wait until `what` stays as it is. Looks are counted, not seconds: a pause of this process is one look."""
    seen, looks = what(), 0
    while looks < LOOKS:
        await asyncio.sleep(0.02)
        now = what()
        seen, looks = now, looks + 1 if now == seen else 0


def looped(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on the loop the service uses."""

    @functools.wraps(test)
    def run(*args: object, **named: object) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test(*args, **named)

        uvloop.run(bounded())

    return run
