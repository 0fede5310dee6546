"""What hub and workers say to each other: typed messages over a unix socket pair.

A frame is four bytes of length, most significant first, and that much msgpack of one tagged struct. The hub
does not trust a worker (it parses hostile bytes), nor needs to: a frame over the limit, or that is none
of the listed messages, breaks the channel, and the hub ends that worker.

A broken channel is final for both. A worker without its hub has nobody to ask and no way to learn of new
rules: it stops accepting, denies what is held, ends its flows with an error of their protocol, and exits
(service/worker.py).
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Generic, Literal, TypeVar, cast

import msgspec

from appliance.model import Address, Answered, Question
from appliance.relay.tally import Account

log = logging.getLogger(__name__)

MAX_FRAME = 16 * 1024 * 1024  # bytes; no reviewer judges a larger statement, no rules directory is near it
MAX_BACKLOG = 4 * MAX_FRAME  # bytes written that the other side has not taken: it hangs
MAX_ASKED = 2 * MAX_FRAME  # bytes of questions among them. How many are asked at once is the vendors' choice
HEAD = 4  # bytes of length before each frame


class Setup(msgspec.Struct, frozen=True, tag="setup"):
    """To a worker, first and once: what it needs of the settings."""

    worker: int
    level: Literal["full", "requests", "metadata"]  # of the record
    required: bool  # a flow that cannot be recorded ends
    slice: str  # directory of the governed cgroup
    key: bytes = b""  # of hashed masks
    sync: bool = False  # nothing is forwarded before its record is on the disk
    queue: "Queueing | None" = None  # of the packet engine


class Queueing(msgspec.Struct, frozen=True, tag="queueing"):
    """To the packet engine: where it takes its packets, and how they may leave. In its setup, and when that changes."""

    number: int  # of the kernel's queue
    passing: int  # mark of what may go on: known to nobody else


class Rules(msgspec.Struct, frozen=True, tag="rules"):
    """To a worker: all rule files, and the addresses of the names in them. Checked by the hub before."""

    files: tuple[tuple[str, str], ...]  # name, text
    resolved: dict[str, tuple[str, ...]]
    revision: str = ""


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """To a worker: what became of a question it asked."""

    answered: Answered


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """To a worker: accept no more, end when the flows have ended or `within_s` is over."""

    within_s: float


class Ran(msgspec.Struct, frozen=True, tag="ran"):
    """To a worker: a process that holds the socket became another program. It may be another worker's flow."""

    cookie: int


class Minted(msgspec.Struct, frozen=True, tag="minted"):
    """To a worker: key and certificates it asked for, in PEM; with an `error`, why there are none."""

    id: int
    pem: str = ""
    error: str = ""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """To the hub: the worker judges by `revision` now; with an `error`, still by the one before."""

    revision: str
    error: str = ""


class Asked(msgspec.Struct, frozen=True, tag="asked"):
    """To the hub: a flow waits for this."""

    question: Question


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn"):
    """To the hub: it waits no more."""

    id: str
    reason: str


class Cancelled(msgspec.Struct, frozen=True, tag="cancelled"):
    """To the hub: a cancel request for whatever flow to `server` was given `key`."""

    server: Address
    key: bytes


class Over(msgspec.Struct, frozen=True, tag="over"):
    """To the hub: a flow that asked something is no more; grants for its session are void."""

    flow: str


class Mint(msgspec.Struct, frozen=True, tag="mint"):
    """To the hub: a server has proved to have these names ("DNS:db.example"); a client is to be shown as much."""

    id: int  # of the answer
    names: tuple[str, ...]


class Health(msgspec.Struct, frozen=True, tag="health"):
    """To the hub, every second: counts since the worker started, but `flows`, which is now."""

    flows: int
    accepted: int
    refused: int
    full: int
    unreached: int
    failed: int
    unrecorded: int
    messages: int
    bytes: int
    unattributed: int = 0
    at: float = 0.0  # time.monotonic() before the accounts were taken
    accounts: tuple[Account, ...] = ()  # those that have changed since the last
    figures: dict[str, int] = {}  # of the packet engine: what waits, what was lost, by name


class Recorded(msgspec.Struct, frozen=True, tag="recorded"):
    """To the hub: a flow that the fence numbered is in the record."""

    epoch: int
    scope: int
    sequence: int


class Incident(msgspec.Struct, frozen=True, tag="incident"):
    """To the hub: something operators should see."""

    flow: str  # id; empty: of no flow
    text: str


class Contain(msgspec.Struct, frozen=True, tag="contain"):
    """To the hub: a rule with `on_incident: freeze` was called upon."""

    flow: str
    cgroup: str  # of its process
    rule: str
    why: str


ToWorker = Setup | Rules | Answer | Drain | Ran | Minted | Queueing
ToHub = Ready | Asked | Withdrawn | Cancelled | Over | Health | Incident | Contain | Recorded | Mint
In = TypeVar("In")
Out = TypeVar("Out")


class Channel(asyncio.Protocol, Generic[In, Out]):
    """One end. `receive` gets each message; `lost` is called once, when the channel is broken or closed."""

    def __init__(self, incoming: object, receive: Callable[[In], None], lost: Callable[[str], None]) -> None:
        self._decoder = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._receive, self._lost = receive, lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._why = "closed by the other side"
        self._broken = False

    def send(self, message: Out, most: int = MAX_BACKLOG) -> None:
        """Send `message`, or drop it when the channel is broken.

        Raises:
            ValueError: it is over MAX_FRAME, or with it more than `most` bytes would wait, where that is less than
                what breaks the channel.
        """
        data = self._encoder.encode(message)
        if len(data) > MAX_FRAME:
            what = type(message).__name__
            raise ValueError(f"{what} of {len(data)} bytes is over the limit of {MAX_FRAME}")
        if self._broken or self._transport is None:
            return
        if most < MAX_BACKLOG and self._transport.get_write_buffer_size() + len(data) > most:
            raise ValueError(f"more than {most} bytes wait for the other side")
        self._transport.writelines([len(data).to_bytes(HEAD, "big"), data])
        if self._transport.get_write_buffer_size() > MAX_BACKLOG:
            self._break("the other side takes nothing")

    def close(self) -> None:
        """Close after what was sent."""
        if self._transport and not self._broken:
            self._why = "closed"
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while not self._broken and len(self._buffer) - at >= HEAD:
            size = int.from_bytes(self._buffer[at : at + HEAD], "big")
            if size > MAX_FRAME:
                self._break(f"a frame of {size} bytes is over the limit of {MAX_FRAME}")
                break
            if len(self._buffer) - at - HEAD < size:
                break
            at += HEAD + size
            self._take(memoryview(self._buffer)[at - size : at].tobytes())
        del self._buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken = True
        self._lost(f"{self._why} ({exc})" if exc else self._why)

    def _take(self, frame: bytes) -> None:
        try:
            message = self._decoder.decode(frame)
        except msgspec.MsgspecError as error:
            self._break(f"not a message: {error}")
            return
        try:
            self._receive(message)
        except Exception as error:
            log.exception("channel: %s", error)
            self._break(f"internal error: {type(error).__name__}")

    def _break(self, why: str) -> None:
        self._broken, self._why = True, why
        if self._transport:
            self._transport.abort()


async def hub_end(
    sock: socket.socket, receive: Callable[[ToHub], None], lost: Callable[[str], None]
) -> Channel[ToHub, ToWorker]:
    """Return the hub's end of the channel over `sock`."""
    loop = asyncio.get_running_loop()
    channel: Channel[ToHub, ToWorker] = Channel(ToHub, receive, lost)
    await loop.create_unix_connection(lambda: channel, sock=sock)
    return channel


async def worker_end(
    sock: socket.socket, receive: Callable[[ToWorker], None], lost: Callable[[str], None]
) -> Channel[ToWorker, ToHub]:
    """Return the worker's end of the channel over `sock`."""
    loop = asyncio.get_running_loop()
    channel: Channel[ToWorker, ToHub] = Channel(ToWorker, receive, lost)
    await loop.create_unix_connection(lambda: channel, sock=sock)
    return channel
