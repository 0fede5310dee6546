"""The running hub, spoken to over its control socket (control/api.py)."""

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from appliance.cli.site import No
from appliance.control.desk import Answer, Change, Contained, Held, Order, Reloaded, Reply, Status
from appliance.model import ConfigError, HostError
from appliance.record.export import Export
from appliance.record.frame import HEAD, MARK, MAX_FRAME, Frame
from appliance.record.session import Filter, Session

PATIENCE_S = 60.0  # for an answer; a list of sessions out of a cold index takes seconds
PIECE = 64 * 1024
MAX_QUERY = 8_000  # characters; the hub takes a line of 8,190
T = TypeVar("T")


class Down(HostError):
    """There is no hub to speak to."""


class Hub:
    """The hub of one host. Each question is a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_up(self) -> bool:
        """Tell whether somebody listens."""
        try:
            self._connect(PATIENCE_S).close()
        except Down:
            return False
        return True

    def status(self) -> Status:
        return self._get("/status", Status)

    def sessions(self, wanted: Filter) -> Sequence[Session]:
        return self._get(f"/sessions?{urlencode(_fields(wanted))}", list[Session])

    def frames(self, id: str) -> Iterator[Frame]:
        yield from _frames(self._ask("GET", f"/sessions/{quote(id, safe='')}/frames"))

    def export(self, asked: Export) -> Iterator[bytes]:
        # A bundle is written to disk on the other side, file by file, before the first byte of each comes.
        answer = self._ask("GET", f"/export?{_query(asked)}", patience=None if asked.bundle else PATIENCE_S)
        try:
            with answer:
                while piece := answer.read(PIECE):
                    yield piece
        except (OSError, http.client.HTTPException) as error:
            raise HostError("the export broke off", "see the journal of vendorgate") from error

    def approvals(self) -> list[Held]:
        return self._get("/approvals", list[Held])

    def watch(self) -> Iterator[Change]:
        """Yield changes as they come; ends when the hub stops."""
        answer = self._ask("GET", "/approvals?watch=1", patience=None)
        try:
            with answer:
                for line in iter(answer.readline, b""):
                    if line.strip():
                        yield msgspec.json.decode(line, type=Change)
        except (OSError, http.client.HTTPException):
            return

    def question(self, id: str) -> Held:
        """Return a question with its whole message."""
        return self._get(f"/approvals/{quote(id, safe='')}", Held)

    def answer(self, id: str, approve: bool, reason: str) -> Reply:
        body = msgspec.json.encode(Answer(approve, reason))
        return _decode(self._ask("POST", f"/approvals/{quote(id, safe='')}", body), Reply)

    def contain(self, order: Order) -> Contained:
        return _decode(self._ask("POST", "/contain", msgspec.json.encode(order)), Contained)

    def reload(self) -> str:
        return _decode(self._ask("POST", "/reload"), Reloaded).revision

    def _get(self, url: str, type: type[T]) -> T:
        return _decode(self._ask("GET", url), type)

    def _ask(
        self, method: str, url: str, body: bytes | None = None, patience: float | None = PATIENCE_S
    ) -> http.client.HTTPResponse:
        """Return an answer that is no error.

        Raises:
            Down: nobody listens.
            No, ConfigError, HostError: what the hub said.
        """
        connection = http.client.HTTPConnection("vendorgate")
        connection.sock = self._connect(patience)
        try:
            connection.request(method, url, body, {"Connection": "close"})  # it closes with its answer
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise HostError(f"{self._path}: no answer: {error}", "see the journal of vendorgate") from error
        if answer.status >= 400:
            _raise(answer.status, answer.read())
        return answer

    def _connect(self, patience: float | None) -> socket.socket:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        end.settimeout(patience)
        try:
            end.connect(str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            end.close()
            raise Down(f"vendorgate is not running ({self._path})", "systemctl start vendorgate") from None
        except PermissionError:
            end.close()
            hint = "use root, or an account in the group of that socket"
            raise HostError(f"{self._path}: permission denied", hint) from None
        except OSError as error:
            end.close()
            raise HostError(f"{self._path}: {error.strerror or error}") from None
        return end


def _fields(wanted: Filter) -> list[tuple[str, str]]:
    given = msgspec.structs.asdict(wanted).items()
    return [(name, str(value)) for name, value in given if value not in ("", None)]


def _query(asked: Export) -> str:
    words = [("id", id) for id in asked.ids] or [*_fields(asked.wanted), ("all", "1")]
    words += [("format", asked.format), *(("redact", word) for word in asked.redact)]
    words += [("bundle", "1")] if asked.bundle else []
    words += [("reason", asked.reason)] if asked.reason else []
    query = urlencode(words)
    if len(query) > MAX_QUERY:
        raise ConfigError("export", f"{len(asked.ids)} sessions are too many to name", "say what they are found by")
    return query


def _raise(status: int, body: bytes) -> None:
    try:
        problem: dict[str, Any] = json.loads(body)
        text = str(problem.get("detail") or problem.get("title"))
    except ValueError:
        text = f"the hub answered {status}"
    if status in (403, 404, 409):
        raise No(text)
    if status in (400, 422):
        what, _, hint = text.partition("\nhint: ")
        where, colon, rest = what.partition(": ")
        raise ConfigError(where, rest, hint) if colon else ConfigError("vendorgate", what, hint)
    raise HostError(text)


def _decode(answer: http.client.HTTPResponse, type: type[T]) -> T:
    try:
        with answer:
            return msgspec.json.decode(answer.read(), type=type)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise HostError(f"the hub's answer cannot be read: {error}", "is it of another version?") from error


def _frames(answer: http.client.HTTPResponse) -> Iterator[Frame]:
    """Yield frames as they stand in a segment: a mark, a length, a msgpack map."""
    decoder = msgspec.msgpack.Decoder(Frame)
    try:
        with answer:
            while head := answer.read(HEAD):
                size = int.from_bytes(head[1:], "big")
                if len(head) < HEAD or head[0] != MARK or size > MAX_FRAME:
                    raise HostError("the hub's answer cannot be read", "is it of another version?")
                yield decoder.decode(answer.read(size))
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise HostError("the session broke off", "see the journal of vendorgate") from error
