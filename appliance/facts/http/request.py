"""What one request would do: its target, its header lines, its body. What the keys mean is told in the package."""

from typing import Final
from urllib.parse import parse_qsl, unquote

from appliance.facts import Facts
from appliance.facts.http import documents
from appliance.facts.http.found import Found, Held
from appliance.facts.http.paths import readings

READS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
OVERRIDES: Final = frozenset(("x-http-method-override", "x-http-method", "x-method-override"))
CREDENTIALS: Final = frozenset(("authorization", "proxy-authorization", "cookie"))
FORM: Final = "application/x-www-form-urlencoded"
ASCII: Final = ("iso-8859-1", "iso-8859-15", "latin1", "windows-1252")  # charsets that are UTF-8 as far as ASCII goes
MAX_PAIRS = 1000  # of a query or a form; PHP takes as many
WHY: Final = {"oversize": "the body is too long to be judged whole", "encoded": "the body cannot be opened"}
MORE: Final = "the path, or a part of the body, can be read in more ways than one"
IN_BODY: Final = ("field", "file", "json", "graphql", "sql")
SHOWN = 4096  # characters of a body that a reviewer is shown

READ: Final = frozenset(("read",))
WRITE: Final = frozenset(("write",))
NONE: Final[frozenset[str]] = frozenset()
NO_BODY: Final = Held(texts=("",))
CLOSED: Final = Held(unknown=frozenset(("text", *IN_BODY)))  # a body that is not known


class Target:
    """What the first line of a request says. It is the same for many requests of a flow."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.method, _, target = line.partition(" ")
        self.authority, self.path, query = split(target) if self.method != "CONNECT" else (target, "", "")
        self.asked, whole = pairs(query)
        self.query = frozenset([f"{k}={v}" for k, v in self.asked])
        self.paths, paths_whole = readings(self.path) if self.path else (NONE, True)
        self.texts = [unquote(target), *[v for _, v in self.asked]]
        unknown = set() if paths_whole else {"path"}
        if not whole:
            unknown |= {"query", "sql"}
        if "#" in target:
            unknown |= {"path", "query", "sql"}  # some servers end both there, and some read on
        self.unknown = frozenset(unknown)
        self.overrides = [v.upper() for k, v in self.asked if k.lower() == "_method"]


class Lines:
    """What the header lines of a request say; names come in small letters."""

    def __init__(self, text: str) -> None:
        self.shown: list[str] = []  # for rules and detectors, without the client's credentials
        self.reviewed: list[str] = []  # for a reviewer
        self.content = self.host = ""
        self.methods: list[str] = []  # that they say is the real one
        for line in text.split("\n"):
            if not line:
                continue
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            if name in CREDENTIALS:
                self.reviewed.append(f"{name}: ***")
                continue
            said = f"{name}: {value}"
            self.shown.append(said)
            self.reviewed.append(said)
            if name == "content-type":
                self.content = value
            elif name == "host":
                self.host = value
            elif name == "upgrade":
                if "websocket" in value.lower():
                    self.methods.append("WEBSOCKET")
            elif name in OVERRIDES:
                self.methods.append(value.upper())


def facts(target: Target, host: str, lines: Lines, body: bytes, status: str) -> Facts:
    """Return the facts of a request; `status` says why its body is not known, if it is not."""
    place = target.authority or host
    _, colon, port = place.rpartition(":")
    host = bare(place)
    content = lines.content.partition(";")[0].strip().lower()
    text = text_of(body)
    held = _held(body, text, content, lines.content, target.asked) if not status else CLOSED
    methods = {target.method.upper(), *lines.methods, *target.overrides}
    for name, value in held.fields:
        if name.lower() == "_method":
            methods.add(value.upper())
    fields = [f"{k}={v}" for k, v in held.fields]
    asked = [pair for pair in (*target.query, *fields) if pair[:1] != "$"]  # a name like that would pass for a leaf
    whole = (f"body={text}",) if body and not status else ()
    statements = held.json.union(asked, whole) if asked or whole else held.json
    values = {
        "effect": _effects(methods, held.graphql),
        "method": frozenset(methods),
        "host": frozenset((host,)) if host else NONE,
        "port": frozenset((port,)) if colon and port.isdigit() else NONE,
        "path": target.paths,
        "query": target.query,
        "header": frozenset(lines.shown),
        "content": frozenset((content,)) if content else NONE,
        "field": frozenset(fields),
        "file": frozenset(held.files),
        "json": held.json,
        "graphql": held.graphql,
        "sql": statements,
        "text": frozenset([*target.texts, *lines.shown, *held.texts]),
    }
    unknown = held.unknown | target.unknown if target.unknown else held.unknown
    why = WHY[status] if status else MORE if unknown else ""
    return Facts("http", values, unknown, why, subject=subject(target.line, lines, text, status))


def _held(body: bytes, text: str, content: str, header: str, asked: list[tuple[str, str]]) -> Held:
    """Return what a body says; `asked` are the pairs of the query, which may hold an operation too."""
    if not body and not asked and content != FORM and not content.endswith("json") and "multipart" not in content:
        return NO_BODY
    unknown: set[str] = set() if _is_charset_read(header, body) else {"text", *IN_BODY}
    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    texts = [text]
    if content == FORM:
        posted, whole = pairs(body.decode("latin-1"))
        fields = tuple(posted)
        texts += [value for _, value in posted]  # without escapes, for detectors
        unknown |= set() if whole else {"field", "sql", "text"}
    elif content.startswith("multipart/"):
        form = documents.multipart(body, header)
        fields, files = form.fields, form.files
        texts += form.texts
        unknown |= set() if form.whole else {"field", "file", "graphql", "sql", "text"}
    found, document = documents.leaves(body, content.endswith(("/json", "+json")))
    if not found.whole:
        unknown |= {"json", "graphql", "sql"}
        if b"\\" in body:
            unknown.add("text")
    operations = _operations(document, asked, fields, text if content == "application/graphql" else None)
    if not operations.whole:
        unknown.add("graphql")
    documents.strings(document, texts)
    texts += [leaf.partition(" = ")[2] for leaf in found.values]
    return Held(fields, files, found.values, operations.values, tuple(texts), frozenset(unknown))


def _operations(
    document: object, asked: list[tuple[str, str]], fields: tuple[tuple[str, str], ...], whole: str | None
) -> Found:
    queries = [*asked, *fields]
    if whole is not None:
        queries.append(("query", whole))
    return documents.graphql(document, queries)


def _is_charset_read(header: str, body: bytes) -> bool:
    """Return True if a body is in no other charset than what is read here. A server may know dozens."""
    if not body or ";" not in header:
        return True
    for part in header.split(";")[1:]:
        name, _, value = part.lower().partition("=")
        one = value.strip(" \t\"'")
        if "charset" in name and one not in ("utf-8", "utf8", "us-ascii") and not (one in ASCII and body.isascii()):
            return False
    return True


def split(target: str) -> tuple[str, str, str]:
    """Return authority, path and query of a target in origin or absolute form."""
    scheme, mark, rest = target.partition("://")
    authority = ""
    if mark and "/" not in scheme:
        at = len(rest)
        for found in (rest.find("/"), rest.find("?")):
            at = found if 0 <= found < at else at
        authority, target = rest[:at], rest[at:] or "/"
    path, _, query = target.partition("#")[0].partition("?")
    return authority, path or "/", query


def bare(host: str) -> str:
    """Return the host without its port and the root's dot."""
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name.lower().rstrip(".")


def pairs(text: str) -> tuple[list[tuple[str, str]], bool]:
    """Return names and values of a query or a form, and whether that is all of it. Both `&` and `;` part them."""
    if not text:
        return [], True
    parts = text.count("&") + text.count(";") + 1
    if parts > MAX_PAIRS:
        return [], False
    found = parse_qsl(text, keep_blank_values=True, separator="&")
    if ";" in text:
        found += parse_qsl(text.replace("&", ";"), keep_blank_values=True, separator=";")
    return found, True


def _effects(methods: set[str], graphql: frozenset[str]) -> frozenset[str]:
    if len(methods) == 1 and not graphql and "DELETE" not in methods:
        return WRITE if methods.isdisjoint(READS) else READ
    found = {"read" if method in READS else "write" for method in methods}
    found |= {"write"} if "mutation" in graphql else set()
    return frozenset(found | {"delete"} if "DELETE" in methods else found)


def text_of(body: bytes) -> str:
    """Return a body as text, whatever it says of itself."""
    if not body:
        return ""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")


def subject(line: str, lines: Lines, text: str, status: str) -> str:
    """Return what a reviewer is shown: the request, without the client's credentials."""
    said = "\n".join([line, *lines.reviewed])
    more = f"\n[body: {status}]" if status else "\n[more]" if len(text) > SHOWN else ""
    return f"{said}\n\n{text[:SHOWN]}{more}" if text else said + more
