"""Follows one HTTP flow and says what each request would do.

Keys of `Facts.values`: facts/words/http.py; besides them `text`, for detectors: target, header lines but for those that
carry the client's credentials, and the body as it reads when opened.

The handshake of a WebSocket has the method WEBSOCKET besides its own: who may not speak in one need not open one, and
masks for one are in force from its beginning. A message of a client in it is a write by that method, to host and path
of the handshake, with the handshake's header lines; `text` and `json` are its own.

Unknown: of a body that is too long to be judged whole, or in a coding that cannot be opened, all it says; of a path
with more readings than MAX_READINGS, `path`; of a document that says it is JSON and cannot be read as such, `json`.
"""

from urllib.parse import parse_qsl, unquote

import msgspec

from appliance.facts import Copy, Facts
from appliance.facts.http import documents
from appliance.facts.http.paths import readings
from appliance.facts.shared import Shared
from appliance.model import Column, Message

READS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
CREDENTIALS = ("authorization", "proxy-authorization", "cookie")
FORM = "application/x-www-form-urlencoded"
ASCII = ("iso-8859-1", "iso-8859-15", "latin1", "windows-1252")  # charsets that are UTF-8 as far as ASCII goes
MAX_PAIRS = 1000  # of a query or a form; PHP takes as many
WHY = {"oversize": "the body is too long to be judged whole", "encoded": "the body cannot be opened"}
IN_BODY = ("field", "file", "json", "graphql", "sql")
SHOWN = 4096  # characters of a body that a reviewer is shown

SOCKET = ("ws-text", "ws-binary", "ws-control")  # kinds of what a client says in a WebSocket

Lines = list[tuple[str, str]]


def open(shared: Shared, server: str = "", needs_catalog: bool = True) -> "Http":
    """Return a reader, as `facts.readers.open` says."""
    return Http()


class Http:
    """Reader of one flow, as `facts.Reader` says. Requests do not depend on each other."""

    needs_catalog = False

    def ask(self, message: Message) -> Facts | None:
        if message.kind == "query":
            return _typed(message.text)
        if message.kind not in ("request", *SOCKET) or not message.values:
            return None
        lines = _lines(bytes(message.values[0].data or b"").decode("latin-1"))
        body = bytes(message.values[1].data or b"")
        facts = _facts(message.text, message.name, lines, body, message.status)
        return facts if message.kind == "request" else _of_socket(facts, message.text, body)

    def sent(self, message: Message) -> None: ...

    def heard(self, message: Message) -> None: ...

    def wanted(self, facts: Facts | None) -> str:
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        """A leaf of an answer goes by its path and by those it is below: who hides an object hides what is in it."""
        return documents.places(column.name)

    def copy(self, message: Message) -> Copy | None:
        return None


def _of_socket(facts: Facts, line: str, body: bytes) -> Facts:
    """Return the facts of a message in a WebSocket: what the handshake said was judged with the handshake."""
    found, _ = documents.leaves(body, claimed=False)
    texts = frozenset((_text(body), *(leaf.partition(" = ")[2] for leaf in found.values)))
    subject = _subject(line, [], _text(body), "")
    return msgspec.structs.replace(facts, values={**facts.values, "text": texts}, subject=subject)


def _typed(text: str) -> Facts:
    """Read a request as a person types it: `POST https://host/path`, header lines, an empty line, the body."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, _, rest = head.partition("\n")
    method, _, target = first.partition(" ")
    lines = _lines(rest)
    return _facts(f"{method} {target}", dict(lines).get("host", ""), lines, body.encode(), "")


def _lines(text: str) -> Lines:
    found = (line.partition(":") for line in text.split("\n") if line)
    return [(name.lower(), value.strip()) for name, _, value in found]


def _facts(line: str, host: str, lines: Lines, body: bytes, status: str) -> Facts:
    method, _, target = line.partition(" ")
    authority, path, query = _split(target) if method != "CONNECT" else (target, "", "")
    _, colon, port = (authority or host).rpartition(":")
    host = _bare(authority or host)
    asked, asked_whole = _pairs(query)
    header = dict(lines).get("content-type", "")
    content = header.partition(";")[0].strip().lower()
    held = _body(body, content, header, asked) if not status else _Body(unknown=frozenset(("text", *IN_BODY)))
    methods = {method.upper()} | {v.upper() for k, v in lines if k in OVERRIDES}
    methods |= {v.upper() for k, v in (*asked, *held.fields) if k.lower() == "_method"}
    methods |= {"WEBSOCKET" for k, v in lines if k == "upgrade" and "websocket" in v.lower()}
    paths, paths_whole = readings(path) if path else (frozenset[str](), True)
    unknown = set(held.unknown) | (set() if paths_whole else {"path"}) | (set() if asked_whole else {"query", "sql"})
    shown = [f"{k}: {v}" for k, v in lines if k not in CREDENTIALS]
    if "#" in target:
        unknown |= {"path", "query", "sql"}  # some servers end both there, and some read on
    values = {
        "effect": _effects(methods, held.graphql),
        "method": frozenset(methods),
        "host": frozenset((host,)) if host else frozenset(),
        "port": frozenset((port,)) if colon and port.isdigit() else frozenset(),
        "path": paths,
        "query": frozenset(f"{k}={v}" for k, v in asked),
        "header": frozenset(shown),
        "content": frozenset((content,)) if content else frozenset(),
        "field": frozenset(f"{k}={v}" for k, v in held.fields),
        "file": frozenset(held.files),
        "json": held.json,
        "graphql": held.graphql,
        "sql": frozenset((*held.json, *(f"{k}={v}" for k, v in (*asked, *held.fields)), *_whole(body, status))),
        "text": frozenset((unquote(target), *(v for _, v in asked), *shown, *held.texts)),
    }
    why = WHY.get(status, "the path, or a part of the body, can be read in more ways than one" if unknown else "")
    return Facts("http", values, frozenset(unknown), why, subject=_subject(line, lines, _text(body), status))


class _Body(msgspec.Struct, frozen=True):
    """What a body says."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    json: frozenset[str] = frozenset()
    graphql: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()


def _body(body: bytes, content: str, header: str, asked: list[tuple[str, str]]) -> _Body:
    unknown: set[str] = set() if _is_charset_read(header, body) else {"text", *IN_BODY}
    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    texts: tuple[str, ...] = (_text(body),)
    if content == FORM:
        posted, whole = _pairs(body.decode("latin-1"))
        fields = tuple(posted)
        texts = (*texts, *(value for _, value in posted))  # without escapes, for detectors
        unknown |= set() if whole else {"field", "sql", "text"}
    elif content.startswith("multipart/"):
        form = documents.multipart(body, header)
        fields, files, texts = form.fields, form.files, (*texts, *form.texts)
        unknown |= set() if form.whole else {"field", "file", "graphql", "sql", "text"}
    found, document = documents.leaves(body, content.endswith(("/json", "+json")))
    unknown |= set() if found.whole else {"json", "graphql", "sql", *(["text"] if b"\\" in body else [])}
    queries = [*asked, *fields, *([("query", _text(body))] if content == "application/graphql" else [])]
    operations = documents.graphql(document, queries)
    unknown |= set() if operations.whole else {"graphql"}
    texts = (*texts, *documents.strings(document), *(leaf.partition(" = ")[2] for leaf in found.values))
    return _Body(fields, files, found.values, operations.values, texts, frozenset(unknown))


def _whole(body: bytes, status: str) -> tuple[str, ...]:
    """Return the body as the text that it may be in one piece."""
    return (f"body={_text(body)}",) if body and not status else ()


def _is_charset_read(header: str, body: bytes) -> bool:
    """Return True if a body is in no other charset than what is read here. A server may know dozens."""
    parts = (part.lower().partition("=") for part in header.split(";")[1:])
    said = [value.strip(" \t\"'") for name, _, value in parts if "charset" in name]
    return not body or all(one in ("utf-8", "utf8", "us-ascii") or (one in ASCII and body.isascii()) for one in said)


def _split(target: str) -> tuple[str, str, str]:
    """Return authority, path and query of a target in origin or absolute form."""
    scheme, mark, rest = target.partition("://")
    authority = ""
    if mark and "/" not in scheme:
        at = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        authority, target = rest[:at], rest[at:] or "/"
    path, _, query = target.partition("#")[0].partition("?")
    return authority, path or "/", query


def _bare(host: str) -> str:
    """Return the host without its port and the root's dot."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower().rstrip(".")


def _pairs(text: str) -> tuple[list[tuple[str, str]], bool]:
    """Return names and values of a query or a form, and whether that is all of it. Both `&` and `;` part them."""
    parts = text.count("&") + text.count(";") + 1
    if parts > MAX_PAIRS:
        return [], False
    found = parse_qsl(text, keep_blank_values=True, separator="&")
    if ";" in text:
        found += parse_qsl(text.replace("&", ";"), keep_blank_values=True, separator=";")
    return found, True


def _effects(methods: set[str], graphql: frozenset[str]) -> frozenset[str]:
    found = {"read" if method in READS else "write" for method in methods}
    found |= {"write"} if "mutation" in graphql else set()
    return frozenset(found | {"delete"} if "DELETE" in methods else found)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _subject(line: str, lines: Lines, text: str, status: str) -> str:
    """Return what a reviewer is shown: the request, without the client's credentials."""
    shown = [f"{k}: {'***' if k in CREDENTIALS else v}" for k, v in lines]
    more = f"\n[body: {status}]" if status else "\n[more]" if len(text) > SHOWN else ""
    return "\n".join([line, *shown]) + (f"\n\n{text[:SHOWN]}" if text else "") + more
