"""The TLS of one end, over buffers of its own (`ssl.MemoryBIO`).

So it can begin in the middle of a connection and in any protocol. OpenSSL's buffers never shrink: what comes at once is
given to them by the piece, so that a connection that has moved much holds no more than one that has not.

Source: RFC 8446; Python's ssl module.
"""

import asyncio
import ssl
from collections.abc import Callable

from appliance.relay.belief import Belief

MAX_EARLY = 256 * 1024  # bytes a peer may send before its handshake is done; a hello has a few thousand
MAX_KEPT = 256 * 1024  # bytes inside TLS before both ends are open; what a server says first has some hundred
MAX_BARREN = 256 * 1024  # bytes in a row with nothing inside; a record has 16 KB, a ticket or a key some hundred
USUAL = 8 * 1024  # bytes a server shakes hands with; most chains of certificates have 3,000 to 6,000
HEAVY = 6  # bytes of memory for each one more, for as long as the connection lasts; measured with 86 KB
PIECE = 8 * 1024  # bytes given to OpenSSL at once; with a whole record, 16 KB, a connection keeps 20 KB more


class Layer:
    """The TLS of one end. Until `begin`, and until `release`, it keeps what comes."""

    def __init__(self, turn: "Callable[[Layer], None] | None" = None) -> None:
        """`turn` has it `step` when there is time for a handshake; without it that is at once."""
        self._turn = turn
        self.waits = False  # for its turn
        self.stepped: Callable[[Exception | None], None] | None = None  # called then, with what the peer broke
        self.ended = False  # the peer said that no more comes
        self.belief: Belief | None = None  # why the peer is taken for who it is, once both ends are open
        self.closing: Callable[[ssl.SSLObject], None] | None = None  # called before it is
        self.done: asyncio.Future[ssl.SSLObject] = asyncio.get_running_loop().create_future()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object: ssl.SSLObject | None = None
        self._open: ssl.SSLObject | None = None  # the same, once the handshake is done
        self._before = bytearray()  # what came before it began
        self._plain, self._unsealed = bytearray(), bytearray()
        self._sealed: list[bytes] = []
        self.released = self._closed = self._broken = False
        # It ended, or broke, without the peer's word that it is over (RFC 8446 section 6.1)
        self.torn = False
        self.beyond: Layer | None = None  # that of the flow's other end
        self._barren = 0
        self._shaken = 0  # bytes of the peer's handshake

    def begin(self, context: ssl.SSLContext, name: str = "", session: ssl.SSLSession | None = None) -> None:
        """Start the handshake: as a client that asks for `name`, as a server if that is empty."""
        server = context.protocol is ssl.PROTOCOL_TLS_SERVER
        self._object = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name or None)
        if session is not None:
            self._object.session = session
        self._wait()

    def step(self) -> None:
        """Go on with the handshake, by what has come of it."""
        self.waits = False
        try:
            self._work()
        except Exception as error:
            self._broken = self.torn = True
            if self.stepped is None:
                raise
            self.stepped(error)
        else:
            if self.stepped is not None:
                self.stepped(None)

    def leave(self) -> None:
        """Nobody waits for the handshake any more: its turn need not come."""
        if self.waits:
            self.waits = False
            self.fail(ssl.SSLError("the handshake was given up"))
            if self.stepped is not None:
                self.stepped(None)

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the peer; return what is inside, once released.

        Raises:
            ssl.SSLError: the peer broke off, or broke the protocol, after the handshake.
        """
        if self.ended or self._broken:
            return b""  # RFC 8446 section 6.1: not looked at, and so not kept either
        if self._open is None:
            self._early(data)
            return self._take()
        try:
            plain = self._taken(self._open, data)
        except ssl.SSLError:
            self._broken = self.torn = True
            raise
        if self.released and not self._plain:
            return plain
        self._plain += plain
        return self._take()

    def release(self) -> bytes:
        """Keep nothing back from now on; return what was kept."""
        self.released = True
        return self._take()

    def seal(self, data: bytes) -> None:
        """Write what is to go inside; `take` has the bytes for the peer."""
        secured = self._open
        if secured is None or self._closed:
            return
        if self._unsealed:
            self._unsealed += data
            self._write(secured)
            return
        if len(data) > PIECE:
            self._long(secured, data)
            return
        try:
            secured.write(data)
        except ssl.SSLWantReadError:
            self._unsealed += data

    @property
    def waiting(self) -> int:
        """Bytes that cannot be written, since a server of TLS 1.2 shakes hands anew (RFC 5246 section 7.4.1.1)."""
        return len(self._unsealed)

    @property
    def kept(self) -> int:
        """Bytes of the peer that wait until both ends are open."""
        if self.released:
            return 0
        return len(self._before) + len(self._plain)

    @property
    def heavy(self) -> int:
        """Bytes of memory that the peer's certificates take, beyond the usual."""
        return HEAVY * max(0, self._shaken - USUAL)

    def _long(self, secured: ssl.SSLObject, data: bytes) -> None:
        at, size, view = 0, len(data), memoryview(data)
        while at < size:
            try:
                secured.write(view[at : at + PIECE])
            except ssl.SSLWantReadError:
                self._unsealed += view[at:]
                return
            at += PIECE
            self._sealed.append(self._out.read())

    def _write(self, secured: ssl.SSLObject) -> None:
        """Write what had to wait."""
        waited = bytes(self._unsealed)
        self._unsealed.clear()
        self._long(secured, waited)

    def tear(self) -> None:
        """The peer's connection has ended; without its word, what it said may have been cut short."""
        self.fail(ssl.SSLError("the connection ended in the handshake"))
        self.torn = not self.ended

    def close(self) -> None:
        """Say that no more comes, unless that is not known: the other end then sees the same cut as we do."""
        if self.beyond is not None and self.beyond.torn:
            self._closed = True
        if self._open is None or self._closed:
            return
        self._closed = True
        if self.closing is not None:
            self.closing(self._open)
        try:
            self._open.unwrap()
        except ssl.SSLError:
            pass  # it waits for the peer to say so too, which may take as long as it likes

    def fail(self, error: Exception) -> None:
        """Give the handshake up, if it is not done."""
        if not self.done.done():
            self._broken = True
            self._before.clear()
            self.done.set_exception(error)
            self.done.exception()  # it may be that nobody waits for it

    def take(self) -> bytes:
        """Return the bytes for the peer."""
        data = self._out.read()
        if self._sealed:
            self._sealed.append(data)
            data = b"".join(self._sealed)
            self._sealed.clear()
        return data

    def _take(self) -> bytes:
        if not self.released:
            return b""
        data = bytes(self._plain)
        self._plain.clear()
        return data

    def _early(self, data: bytes) -> None:
        """Keep what comes before the handshake is done, until there is time for it."""
        if self.done.done():
            return  # nobody waits for it any more: it failed, or took too long
        self._before += data
        if len(self._before) > MAX_EARLY:
            self.fail(ssl.SSLError(f"more than {MAX_EARLY} bytes before the handshake is done"))
        elif self._object is not None:
            self._wait()

    def _wait(self) -> None:
        if self._turn is None:
            self.step()
        elif not self.waits:
            self.waits = True
            self._turn(self)

    def _work(self) -> None:
        """Take what came before the handshake is done, or ends it."""
        data = bytes(self._before)
        self._before.clear()
        if not data:
            self._shake()
        for at in range(0, len(data), PIECE):
            self._in.write(data[at : at + PIECE])
            self._shaken += min(PIECE, len(data) - at)
            self._shake()
            if self._open is not None:
                self._plain += self._met(self._read(self._open), PIECE)
                if not self.ended:
                    self._plain += self._taken(self._open, data[at + PIECE :])
                return
            if self.done.done():
                return

    def _taken(self, secured: ssl.SSLObject, data: bytes) -> bytes:
        """Take what comes after it."""
        if len(data) <= PIECE:
            self._in.write(data)
            plain = self._read(secured)
        else:
            view, parts = memoryview(data), list[bytes]()
            for at in range(0, len(data), PIECE):
                self._in.write(view[at : at + PIECE])
                parts.append(self._read(secured))
                if self.ended:
                    break
            plain = b"".join(parts)
        if self._unsealed:
            self._write(secured)
        return self._met(plain, len(data))

    def _met(self, plain: bytes, size: int) -> bytes:
        """Return what was inside `size` bytes, if that is not too little, nor too much.

        Raises:
            ssl.SSLError: it is.
        """
        self._barren = 0 if plain else self._barren + size
        if self._barren > MAX_BARREN:
            raise ssl.SSLError(f"more than {MAX_BARREN} bytes of TLS with nothing inside")
        if not self.released and len(self._plain) + len(plain) > MAX_KEPT:
            raise ssl.SSLError(f"more than {MAX_KEPT} bytes before both ends are open")
        return plain

    def _shake(self) -> None:
        if self._object is None or self.done.done():
            return
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self.fail(error)
            return
        self._open = self._object
        self.done.set_result(self._object)

    def _read(self, secured: ssl.SSLObject) -> bytes:
        """Return what can be read; nothing of it is left in the buffers."""
        parts: list[bytes] = []
        try:
            while not self.ended:
                part = secured.read(min(self._in.pending, PIECE) or PIECE)
                if not part:
                    self.ended = True
                    break
                parts.append(part)
                if not self._in.pending and not secured.pending():
                    break  # else it would raise, which costs more than to look
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True
        return parts[0] if len(parts) == 1 else b"".join(parts)
