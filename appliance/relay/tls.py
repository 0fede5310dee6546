"""TLS at the ends of a flow: opened to the server first, and to the client only when the server has proved who it is.

`opened` does both handshakes; what the peers send behind them waits in the layers (layer.py) until they are released.

Source: RFC 8446; Python's ssl module. The server's name is sent and checked by OpenSSL (RFC 6066, RFC 9525).
"""

import asyncio
import hashlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.model import Address, Open, Opened, Side, Trust, Unopened
from appliance.relay import belief
from appliance.relay.belief import Belief, Trusted
from appliance.relay.layer import Layer

MAX_CONTEXTS = 256  # of each kind; each holds the certificates it trusts, about 0.5 MB
MAX_SESSIONS = 1024  # to be resumed with servers
MAX_NAMES = 100  # in one certificate of ours; of the web's servers few have more, the most some 250
FRESH_S = 24 * 3600.0  # that a certificate of ours is shown; it is good for a week (service/authority.py)

REVOKED = b"-----BEGIN X509 CRL-----"  # RFC 7468 section 6: a list of what its authority no longer stands for

K = TypeVar("K")
V = TypeVar("V")
Mint = Callable[[tuple[str, ...]], Awaitable[str]]
"""Given names as in "DNS:db.example" or "IP:10.0.0.1", returns a key and a chain of certificates for them, in PEM."""


class Contexts:
    """The settings of TLS, made once and kept; and sessions to be resumed with servers."""

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._clients: dict[tuple[Trust, tuple[str, ...]], ssl.SSLContext] = {}
        self._trusted: dict[str, Trusted] = {}  # by file
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

    def trusted(self, trust: Trust) -> Trusted:
        """Return what the file says that servers are believed by.

        Raises:
            OSError: it cannot be read.
            ValueError: it is none of certificates.
        """
        found = self._trusted.get(trust.ca)
        if found is None:
            found = _keep(self._trusted, trust.ca, belief.trusted(trust), MAX_CONTEXTS)
        return found

    def doubts(self, believed: Belief, trust: Trust) -> str:
        """Return why a server would not be believed by `trust`; "" if it would."""
        try:
            return belief.doubts(believed, trust, self.trusted(trust))
        except (OSError, ValueError) as error:
            return f"{trust.ca}: {why(error)}"

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
        self._trusted.clear()
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
        by = contexts.trusted(ask.trust)
        up.begin(contexts.upstream(ask.trust, ask.alpn), name, contexts.session(server, name, ask))
        way.flush()
        async with asyncio.timeout(way.within_s):
            secured = await up.done
        names = _proved(secured, ask.trust, name)
        up.belief = belief.believed(secured, ask.trust, ask.name or server.host, by)
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
    kind = "IP" if ":" in name or name.replace(".", "").isdigit() else "DNS"
    own = f"{kind}:{name}"
    if trust.pin:
        digest = hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()
        if digest not in trust.pin:
            raise ValueError(f"its certificate is not the one pinned, but {digest}")
        return (own,)
    certificate = secured.getpeercert() or {}
    found: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())  # type: ignore[assignment]
    names = [f"{KINDS[said]}:{value}" for said, value in found if said in KINDS]
    if len(names) <= MAX_NAMES and any(one.startswith(kind) for one in names):
        return tuple(names)
    # Its name may be in the subject alone, as in older certificates, or one of more than go on one of ours.
    return (own, *names[: MAX_NAMES - 1])


KINDS = {"DNS": "DNS", "IP Address": "IP"}  # as Python calls them, and we


def why(error: Exception) -> str:
    """Say what failed, in few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    reason = getattr(error, "reason", None)  # those of our own have none
    if isinstance(error, ssl.SSLError) and reason:
        return str(reason).lower().replace("_", " ")
    return str(error) or type(error).__name__
