"""TLS at the ends of a flow: opened to the server first, and to the client only when the server has proved who it is.

A `Layer` is the TLS of one end, over buffers of its own (`ssl.MemoryBIO`), so that it can begin in the middle of a
connection and in any protocol. `opened` does both handshakes; what the peers send behind them waits in the layers until
they are released.

Source: RFC 8446; Python's ssl module. The server's name is sent and checked by OpenSSL (RFC 6066, RFC 9525).
"""

import asyncio
import contextlib
import hashlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.model import Address, Open, Opened, Side, Trust, Unopened

MAX_EARLY = 256 * 1024  # bytes a peer may send before its handshake is done; a hello has a few thousand
MAX_KEPT = 256 * 1024  # bytes inside TLS before both ends are open; what a server says first has some hundred
MAX_BARREN = 256 * 1024  # bytes in a row with nothing inside; a record has 16 KB, a ticket or a key some hundred
MAX_CONTEXTS = 256  # of each kind; each holds the certificates it trusts, about 0.5 MB
MAX_SESSIONS = 1024  # to be resumed with servers
FRESH_S = 24 * 3600.0  # that a certificate of ours is shown; it is good for a week (service/authority.py)

REVOKED = b"-----BEGIN X509 CRL-----"  # RFC 7468 section 6: a list of what its authority no longer stands for

K = TypeVar("K")
V = TypeVar("V")
Mint = Callable[[tuple[str, ...]], Awaitable[str]]
"""Given names as in "DNS:db.example" or "IP:10.0.0.1", returns a key and a chain of certificates for them, in PEM."""


class Layer:
    """The TLS of one end. Until `begin`, and until `release`, it keeps what comes."""

    def __init__(self) -> None:
        self.ended = False  # the peer said that no more comes
        self.closing: Callable[[ssl.SSLObject], None] = lambda secured: None  # called before it is
        self.done: asyncio.Future[ssl.SSLObject] = asyncio.get_running_loop().create_future()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object: ssl.SSLObject | None = None
        self._plain, self._unsealed = bytearray(), bytearray()
        self.released = self._closed = self._broken = False
        self.torn = False  # the connection ended without the peer's word that it is over (RFC 8446 section 6.1)
        self.beyond: Layer | None = None  # that of the flow's other end
        self._barren = 0

    def begin(self, context: ssl.SSLContext, name: str = "", session: ssl.SSLSession | None = None) -> None:
        """Start the handshake: as a client that asks for `name`, as a server if that is empty."""
        server = context.protocol is ssl.PROTOCOL_TLS_SERVER
        self._object = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name or None)
        if session is not None:
            self._object.session = session
        self._run()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the peer; return what is inside, once released.

        Raises:
            ssl.SSLError: the peer broke off, or broke the protocol, after the handshake.
        """
        if self.ended or self._broken:
            return b""  # RFC 8446 section 6.1: not looked at, and so not kept either
        self._in.write(data)
        if self._in.pending > MAX_EARLY and not self.done.done():
            self.fail(ssl.SSLError(f"more than {MAX_EARLY} bytes before the handshake is done"))
        before = len(self._plain)
        try:
            self._run()
            self._barren = 0 if len(self._plain) > before or not self.done.done() else self._barren + len(data)
            if self._barren > MAX_BARREN and not self._broken:
                raise ssl.SSLError(f"more than {MAX_BARREN} bytes of TLS with nothing inside")
            if not self.released and len(self._plain) > MAX_KEPT:
                raise ssl.SSLError(f"more than {MAX_KEPT} bytes before both ends are open")
        except ssl.SSLError:
            self._broken = True
            raise
        return self._take()

    def release(self) -> bytes:
        """Keep nothing back from now on; return what was kept."""
        self.released = True
        return self._take()

    def seal(self, data: bytes) -> None:
        """Write what is to go inside; `take` has the bytes for the peer."""
        if self._object is not None and self.done.done() and not (self._closed or self.done.exception()):
            self._unsealed += data
            self._write(self._object)

    @property
    def waiting(self) -> int:
        """Bytes that cannot be written, since a server of TLS 1.2 shakes hands anew (RFC 5246 section 7.4.1.1)."""
        return len(self._unsealed)

    def _write(self, secured: ssl.SSLObject) -> None:
        if self._unsealed:
            with contextlib.suppress(ssl.SSLWantReadError):
                secured.write(bytes(self._unsealed))
                self._unsealed.clear()

    def tear(self) -> None:
        """The peer's connection has ended; without its word, what it said may have been cut short."""
        self.fail(ssl.SSLError("the connection ended in the handshake"))
        self.torn = not self.ended

    def close(self) -> None:
        """Say that no more comes, unless that is not known: the other end then sees the same cut as we do."""
        if self.beyond is not None and self.beyond.torn:
            self._closed = True
        if self._object is None or self._closed or not self.done.done() or self.done.exception():
            return
        self._closed = True
        self.closing(self._object)
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass  # it waits for the peer to say so too, which may take as long as it likes

    def fail(self, error: Exception) -> None:
        """Give the handshake up, if it is not done."""
        if not self.done.done():
            self._broken = True
            self.done.set_exception(error)
            self.done.exception()  # it may be that nobody waits for it

    def take(self) -> bytes:
        """Return the bytes for the peer."""
        return self._out.read()

    def _take(self) -> bytes:
        if not self.released:
            return b""
        data = bytes(self._plain)
        self._plain.clear()
        return data

    def _run(self) -> None:
        if self._object is None or (self.done.done() and self.done.exception()):
            return
        if not self.done.done():
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                return
            except (ssl.SSLError, ssl.CertificateError) as error:
                self.fail(error)
                return
            self.done.set_result(self._object)
        self._read(self._object)
        self._write(self._object)

    def _read(self, secured: ssl.SSLObject) -> None:
        try:
            while not self.ended:
                piece = secured.read(256 * 1024)
                if not piece:
                    self.ended = True
                self._plain += piece
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self.ended = True



class Contexts:
    """The settings of TLS, made once and kept; and sessions to be resumed with servers."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._clients: dict[tuple[Trust, tuple[str, ...]], ssl.SSLContext] = {}
        self._servers: dict[tuple[tuple[str, ...], str], tuple[float, ssl.SSLContext]] = {}
        self._sessions: dict[tuple[Address, str, Trust, tuple[str, ...]], tuple[ssl.SSLContext, ssl.SSLSession]] = {}

    def upstream(self, trust: Trust, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """Return what a server is met with.

        Raises:
            OSError: a file that is named cannot be read.
        """
        found = self._clients.get((trust, alpn))
        if found is None:
            found = _keep(self._clients, (trust, alpn), met_with(trust, alpn), MAX_CONTEXTS)
        return found

    async def downstream(self, names: tuple[str, ...], alpn: str) -> ssl.SSLContext:
        """Return what a client is met with: a certificate for the names the server proved to have."""
        made, found = self._servers.get((names, alpn), (0.0, None))
        if found is None or time.monotonic() - made > FRESH_S:
            pem = await self._mint(names)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.options |= ssl.OP_NO_RENEGOTIATION
            _load(context, pem.encode())
            if alpn:
                context.set_alpn_protocols([alpn])
            _keep(self._servers, (names, alpn), (time.monotonic(), context), MAX_CONTEXTS)
            return context
        return found

    def renew(self) -> None:
        """Read what is named in files again from now on."""
        self._clients.clear()
        self._sessions.clear()

    def session(self, server: Address, name: str, ask: Open) -> ssl.SSLSession | None:
        context, session = self._sessions.pop((server, name, ask.trust, ask.alpn), (None, None))
        return session if context is self._clients.get((ask.trust, ask.alpn)) else None

    def resume(self, server: Address, name: str, ask: Open, secured: ssl.SSLObject) -> None:
        """Keep a session for the next connection to the same server under the same settings.

        Not one of before `renew`: its server was believed by what was in the files then.
        """
        if secured.session is not None and secured.context is self._clients.get((ask.trust, ask.alpn)):
            kept = (secured.context, secured.session)
            _keep(self._sessions, (server, name, ask.trust, ask.alpn), kept, MAX_SESSIONS)


def met_with(trust: Trust, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """Return new settings for a server.

    Raises:
        OSError: a file that is named cannot be read, or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trust.pin:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # `_proved` looks at the pin, once
        context.options |= ssl.OP_NO_RENEGOTIATION
    elif trust.ca:
        context.load_verify_locations(trust.ca)
        if REVOKED in Path(trust.ca).read_bytes():
            # OpenSSL has read the list with the certificates. It is to be current: one that is late refuses all.
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if trust.present:
        context.load_cert_chain(trust.present)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load key and certificates, which Python takes from files only: one that is in memory and has no name."""
    file = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(file, pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


def _keep(kept: dict[K, V], key: K, value: V, most: int) -> V:
    if len(kept) >= most and key not in kept:
        del kept[next(iter(kept))]
    kept[key] = value
    return value


class Way(msgspec.Struct, frozen=True):
    """What TLS is opened on."""

    server: Address
    layers: Mapping[Side, Layer]
    flush: Callable[[], None]  # whenever a layer may have bytes for its peer
    within_s: float  # for each handshake


async def opened(ask: Open, way: Way, contexts: Contexts) -> Opened | Unopened:
    """Do both handshakes."""
    server, up, down = way.server, way.layers[Side.SERVER], way.layers[Side.CLIENT]
    name = ask.trust.name or ask.name or server.host
    up.beyond, down.beyond = down, up
    try:
        up.begin(contexts.upstream(ask.trust, ask.alpn), name, contexts.session(server, name, ask))
        way.flush()
        async with asyncio.timeout(way.within_s):
            secured = await up.done
        names = _proved(secured, ask.trust, name)
    except (OSError, ValueError) as error:
        return Unopened(Side.SERVER, why(error))
    alpn = secured.selected_alpn_protocol() or ""
    try:
        async with asyncio.timeout(way.within_s):
            down.begin(await contexts.downstream(names, alpn))
            way.flush()
            await down.done
    except (OSError, ValueError) as error:
        return Unopened(Side.CLIENT, why(error))
    up.closing = lambda secured: contexts.resume(server, name, ask, secured)
    return Opened(name, secured.version() or "", alpn)


def _proved(secured: ssl.SSLObject, trust: Trust, name: str) -> tuple[str, ...]:
    """Return the names the server has proved to have.

    Raises:
        ValueError: its certificate is not the one that is pinned.
    """
    if trust.pin:
        digest = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        if digest not in trust.pin:
            raise ValueError(f"its certificate is not the one pinned, but {digest}")
        return (f"IP:{name}" if ":" in name or name.replace(".", "").isdigit() else f"DNS:{name}",)
    certificate = secured.getpeercert() or {}
    found: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())  # type: ignore[assignment]
    return tuple(f"{'IP' if kind.startswith('IP') else kind}:{value}" for kind, value in found if kind in KINDS)


KINDS = ("DNS", "IP Address")


def why(error: Exception) -> str:
    """Say what failed, in few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    reason = getattr(error, "reason", None)  # those of our own have none
    if isinstance(error, ssl.SSLError) and reason:
        return str(reason).lower().replace("_", " ")
    return str(error) or type(error).__name__
