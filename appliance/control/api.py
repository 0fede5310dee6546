"""The control interface: HTTP over a unix socket.

    GET  /status                     one Status
    GET  /sessions?who=&to=&verdict=&since=&until=&limit=&id=    fields of record.session.Filter
    GET  /sessions/ID                one session
    GET  /sessions/ID/frames         its frames as in a segment of the record (record/frame.py), streamed
    GET  /approvals                  a list of Held; with ?watch=1 a line of JSON for each change, without end
    GET  /approvals/ID               one Held, its message whole
    POST /approvals/ID               {"approve": true, "reason": "..."} -> Reply
    POST /reload                     {"revision": "..."}; only root, or the user the hub runs as
    POST /contain                    Order -> Contained: freeze, thaw, kill, observe; only the first by others than
                                     root and the hub's user
    GET  /export?id=..&format=..     the file, streamed; without id the fields of Filter say which sessions. Further
                                     redact=.., bundle=1, reason=.. (record.export.Export)

Errors are problem documents (RFC 9457). Who asks is what the kernel says of the socket's peer (peer.py),
never what the request says. What is asked is done by the callables of `Desk`; nothing here decides.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import MultiMapping

from appliance.control.desk import Answer, Change, Desk, Held, Order, Reloaded, Reply
from appliance.control.door import Door
from appliance.control.peer import Peer, Refused, identify
from appliance.model import ConfigError, HostError
from appliance.record.export import Export
from appliance.record.frame import Frame, pack
from appliance.record.session import Filter

MAX_BODY = 16 * 1024  # bytes of a request; an answer with the longest reason has 4 KB
MAX_LIMIT = 10_000  # sessions in one list; a page nobody reads to its end
MAX_TIME = 253_402_300_799  # unix seconds: the end of the year 9999, as far as calendars go
PIECE = 64 * 1024  # bytes of frames sent at once; each costs a change of threads
MAX_WATCHERS = 64  # streams at one time; each reviewer's console has one
LOOKERS = 4  # threads that ask the host who a peer is; the user database may be on the network
WATCH_S = 0.2  # how soon a reviewer sees a new question
BEAT_S = 15.0  # an empty line this often shows either end that the other is gone
STOP_S = 5.0  # a stop of the service may not wait long for a slow reader
MAX_PATH = 107  # bytes of a socket's path; sun_path in unix(7)

log = logging.getLogger("vendorgate.control")
# What is no HTTP is answered; the journal must not be filled with it.
log.addFilter(lambda line: not (line.exc_info and isinstance(line.exc_info[1], HttpProcessingError)))
Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]
PEER: web.RequestKey[Peer] = web.RequestKey("peer", Peer)


class Problem(Exception):
    """An error answer."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail = status, title, detail


class Control:
    """The interface on its socket: `await start()`, later `await stop()`."""

    def __init__(self, desk: Desk, governed: str) -> None:
        self._desk, self._governed = desk, governed
        self._reader = ThreadPoolExecutor(1, "control")  # one at a time: the index is one SQLite connection
        self._watchers = 0
        self._stopping = False
        # Not the loop's own threads: whoever asks without end must not keep the hub's chores from one.
        self._lookers = ThreadPoolExecutor(LOOKERS, "peers")
        self._actors = ThreadPoolExecutor(1, "contain")  # one order at a time; the kernel may take seconds
        self._runner: web.AppRunner | None = None
        self._door: Door | None = None

    async def start(self, path: Path, gid: int = -1) -> None:
        """Listen at `path`, for root and the group `gid`.

        Raises:
            HostError: the socket cannot be made, or another hub listens there.
        """
        bound = bind(path, gid)
        self._runner = web.AppRunner(
            self._app(), access_log=None, handle_signals=False, shutdown_timeout=STOP_S, logger=log
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._door = Door(bound, self._runner.server, self._governed)

    async def stop(self) -> None:
        """Close the socket; watches end, an export has STOP_S to finish."""
        self._stopping = True
        if self._door:
            self._door.close()
        if self._runner:
            await self._runner.cleanup()
        for threads in (self._reader, self._lookers, self._actors):
            threads.shutdown(wait=False, cancel_futures=True)

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[problems, self._known], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/status", self._status),
                web.get("/sessions", self._sessions),
                web.get("/sessions/{id}", self._session),
                web.get("/sessions/{id}/frames", self._frames),
                web.get("/approvals", self._approvals),
                web.get("/approvals/{id}", self._question),
                web.post("/approvals/{id}", self._answer),
                web.post("/reload", self._reload),
                web.post("/contain", self._contain),
                web.get("/export", self._export),
            ]
        )
        return app

    @web.middleware
    async def _known(self, request: web.Request, handler: Serve) -> web.StreamResponse:
        """Look at the peer at every request: a process may have been moved since it connected."""
        if self._door:
            self._door.spoke(request.protocol)
        transport = request.get_extra_info("socket")
        if transport is None:
            raise Problem(403, "refused", "the connection is gone")
        try:
            # A descriptor of its own, as the thread may outlive the connection; a thread, as the user
            # database of the host may be on the network.
            with socket.socket(fileno=os.dup(transport.fileno())) as connection:
                look = asyncio.get_running_loop().run_in_executor
                request[PEER] = await look(self._lookers, identify, connection, self._governed)
        except (Refused, OSError) as error:
            raise Problem(403, "refused", str(error)) from None
        return await handler(request)

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._desk.status())

    async def _sessions(self, request: web.Request) -> web.Response:
        wanted = _filter(dict(request.query))
        if not 1 <= wanted.limit <= MAX_LIMIT:
            raise Problem(400, "bad filter", f"limit is from 1 to {MAX_LIMIT}")
        return _json(await self._read(lambda: list(self._desk.sessions(wanted))))

    async def _session(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        found = await self._read(lambda: self._desk.session(id))
        if found is None:
            raise Problem(404, "no such session", f"no session `{id}`")
        return _json(found)

    async def _approvals(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") != "1":
            return _json(list(self._desk.approvals()))
        if self._watchers >= MAX_WATCHERS:
            raise Problem(503, "too many watchers", f"{MAX_WATCHERS} are watching already")
        self._watchers += 1
        try:
            return await self._watch(request)
        finally:
            self._watchers -= 1

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        seen: dict[str, Held] = {}
        beat = asyncio.get_running_loop().time() + BEAT_S
        while not self._stopping:
            current = {question.id: question for question in self._desk.approvals()}
            lines = b"".join(msgspec.json.encode(change) + b"\n" for change in changes(seen, current))
            seen = current
            now = asyncio.get_running_loop().time()
            if lines or now >= beat:
                beat = now + BEAT_S
                try:
                    await response.write(lines or b"\n")
                except (ConnectionError, RuntimeError):
                    return response
            if request.transport is None or request.transport.is_closing():
                return response
            await asyncio.sleep(WATCH_S)
        return response

    async def _question(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        question = self._desk.question(id)
        if question is None:
            raise Problem(404, "no such question", f"no question `{id}` is waiting")
        return _json(question)

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read(), type=Answer)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Problem(400, "bad answer", str(error)) from None
        peer = request[PEER]
        reply = self._desk.answer(request.match_info["id"], peer.user, peer.groups, body.approve, body.reason)
        status = {"absent": 404, "forbidden": 403, "repeated": 409, "unavailable": 503}.get(reply.result)
        if status:
            raise Problem(status, reply.result, reply.text)
        return _json(Reply(reply.result, reply.text))

    async def _reload(self, request: web.Request) -> web.Response:
        peer = request[PEER]
        if peer.uid not in (0, os.geteuid()):
            raise Problem(403, "forbidden", f"only root reloads the rules; this is {peer.user}")
        try:
            revision = self._desk.reload(peer.user)
        except ConfigError as error:
            raise Problem(422, "bad configuration", str(error)) from None
        return _json(Reloaded(revision))

    async def _contain(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=Order)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Problem(400, "bad order", str(error)) from None
        peer = request[PEER]
        if order.do != "freeze" and peer.uid not in (0, os.geteuid()):
            raise Problem(403, "forbidden", f"only root may {order.do}; this is {peer.user}")
        act = asyncio.get_running_loop().run_in_executor
        try:
            return _json(await act(self._actors, self._desk.contain, order, peer.user))
        except ConfigError as error:
            raise Problem(404, "nobody", str(error)) from None
        except HostError as error:
            raise Problem(500, "the host cannot do it", str(error)) from None

    async def _export(self, request: web.Request) -> web.StreamResponse:
        asked, peer = _asked(request.query), request[PEER]
        by = f"{peer.user} (uid {peer.uid})"
        return await self._stream(request, await self._read(lambda: self._desk.export(asked, by)))

    async def _frames(self, request: web.Request) -> web.StreamResponse:
        id = request.match_info["id"]
        frames = await self._read(lambda: self._desk.frames(id))
        return await self._stream(request, packed(frames))

    async def _stream(self, request: web.Request, pieces: Iterator[bytes]) -> web.StreamResponse:
        """Send what `pieces` yields. Errors before the first are an answer; later ones break the stream."""
        piece = await self._read(lambda: next(pieces, None))
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        while piece is not None:
            if piece:
                await response.write(piece)
            piece = await self._read(lambda: next(pieces, None))
        await response.write_eof()
        return response

    async def _read(self, call: Callable[[], Any]) -> Any:
        """Run a call that reads files off the loop."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, call)
        except ConfigError as error:
            raise Problem(400, "bad request", str(error)) from None
        except KeyError as error:
            raise Problem(404, "no such session", f"no session `{error.args[0]}`") from None
        except HostError as error:
            raise Problem(503, "unavailable", str(error)) from None


def _asked(query: MultiMapping[str]) -> Export:
    """Return the export that a query asks for."""
    given = {name: value for name, value in query.items() if name in Filter.__struct_fields__ and name != "id"}
    ids = tuple(query.getall("id", []))
    if not ids and not given and query.get("all") != "1":
        raise Problem(400, "nothing to export", "name sessions, ?id=, or say what they are found by, or ?all=1")
    return Export(
        ids=ids,
        wanted=_filter({"limit": "0", **given}),
        format=query.get("format", "pcapng"),
        bundle=query.get("bundle") == "1",
        redact=tuple(query.getall("redact", [])),
        reason=query.get("reason", ""),
    )


def _filter(given: Mapping[str, str]) -> Filter:
    """Return the filter that a query says."""
    try:
        wanted = msgspec.convert(given, Filter, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, "bad filter", str(error)) from None
    if not all(moment is None or 0 <= moment <= MAX_TIME for moment in (wanted.since, wanted.until)):
        raise Problem(400, "bad filter", f"times are from 0 to {MAX_TIME}")
    return wanted


def packed(frames: Iterator[Frame]) -> Iterator[bytes]:
    """Yield frames as bytes, many small ones at once."""
    piece = bytearray()
    for frame in frames:
        piece += pack(frame)
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def changes(seen: dict[str, Held], current: dict[str, Held]) -> Iterator[Change]:
    """Yield what happened between two looks at the questions."""
    for id in seen.keys() - current.keys():
        yield Change("gone", id)
    for id, question in current.items():
        if id not in seen:
            yield Change("asked", id, question)
        elif seen[id].approved_by != question.approved_by:
            yield Change("vote", id, question)


@web.middleware
async def problems(request: web.Request, handler: Serve) -> web.StreamResponse:
    """Say every error as application/problem+json; what is our own fault is only named here, and logged."""
    try:
        return await handler(request)
    except Problem as problem:
        response = _problem(problem.status, problem.title, problem.detail)
        if problem.title == "refused":
            response.force_close()
        return response
    except web.HTTPException as error:
        return _problem(error.status, error.reason, error.text or error.reason)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        request.app.logger.exception("%s %s", request.method, request.path)
        return _problem(500, "internal error", "see the journal of vendorgate")


def bind(path: Path, gid: int = -1) -> socket.socket:
    """Return a listening socket at `path`, mode 0660, in a directory of mode 0750 if that is its own."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise HostError(
            f"{path}: a socket's path has at most {MAX_PATH} bytes", "choose a shorter runtime_dir"
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if all(name == path.name for name in os.listdir(path.parent)):
            # It is ours alone. One that is not (`runtime_dir: /run`) keeps its mode, or the host would break.
            os.chown(path.parent, -1, gid)
            path.parent.chmod(0o750)
        _remove_stale(path)
        os.fchmod(bound.fileno(), 0o660)  # the mode bind gives, so that there is no moment open to others
        bound.bind(str(path))
        os.chown(path, -1, gid)
        path.chmod(0o660)  # whatever the umask took
        bound.listen()
    except OSError as error:
        bound.close()
        raise HostError(
            f"control socket {path}: {error.strerror}", "can the service write runtime_dir?"
        ) from error
    except HostError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    """Remove the socket of a hub that is no more."""
    if not path.is_socket():
        return  # bind says what is wrong with anything else
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise HostError(
        f"control socket {path}: another vendorgate is running", "stop it, or use another runtime_dir"
    )


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


class _Problem(msgspec.Struct, frozen=True):
    title: str
    status: int
    detail: str


def _problem(status: int, title: str, detail: str) -> web.Response:
    body = msgspec.json.encode(_Problem(title, status, detail))
    return web.Response(status=status, body=body, content_type="application/problem+json")
