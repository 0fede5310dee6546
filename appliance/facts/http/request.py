"""What one request would do: its target, its header lines, its body. What the keys mean is told in the package."""

from typing import Final
from urllib.parse import unquote

from appliance.facts import Facts
from appliance.facts.http.body import METHOD, NONE, Type, closed, held, overrides, pairs, renamed, text_of
from appliance.facts.http.documents import encodable
from appliance.facts.http.hosts import forms
from appliance.facts.http.paths import readings

HEAD: Final = "HEAD"
READS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
OVERRIDES: Final = frozenset(("x-http-method-override", "x-http-method", "x-method-override"))
REWRITES: Final = frozenset(("x-original-url", "x-rewrite-url"))  # for IIS and some frameworks the real path
CREDENTIALS: Final = frozenset(("authorization", "proxy-authorization", "cookie"))
LONG: Final = "the body is too long to be judged whole"
WHY: Final = {"oversize": LONG, "long": LONG, "encoded": "the body cannot be opened"}
MORE: Final = "the path, or a part of the body, can be read in more ways than one"
SHOWN = 4096  # characters of a body that a reviewer is shown

READ: Final = frozenset(("read",))
WRITE: Final = frozenset(("write",))


class Target:
    """What the first line of a request says. It is the same for many requests of a flow."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.method, _, target = line.partition(" ")
        self.authority, self.path, query = split(target) if self.method != "CONNECT" else (target, "", "")
        self.asked, whole = pairs(query)
        self.query = frozenset([f"{k}={v}" for k, v in self.asked])
        self.paths, paths_whole = readings(self.path) if self.path else (NONE, True)
        self.texts = [unquote(target), *[word for pair in self.asked for word in pair]]
        if len(self.paths) > 1:
            self.texts += map(encodable, self.paths)
        unknown = set() if paths_whole else {"path"}
        if not whole:
            unknown |= {"query", "sql", *METHOD}
        if "#" in target:
            unknown |= {"path", "query", "sql", *METHOD}  # some servers end both there, and some read on
        self.unknown = frozenset(unknown)
        self.overrides = overrides(self.asked)
        self.renamed = renamed(self.asked)


class Lines:
    """What the header lines of a request say; names come in small letters."""

    def __init__(self, text: str) -> None:
        self.shown: list[str] = []  # for rules and detectors, without the client's credentials
        self.reviewed: list[str] = []  # for a reviewer
        self.content = self.host = ""
        self.methods: list[str] = []  # that they say is the real one
        self.paths: list[str] = []  # likewise
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
            read = name
            if "_" in name:
                read = name.replace("_", "-")  # for what is run as CGI is, and WSGI, these are one
                self.shown.append(f"{read}: {value}")
            if name == "content-type":
                self.content = value
            elif name == "host":
                self.host = value
            elif name == "upgrade":
                if "websocket" in value.lower():
                    self.methods.append("WEBSOCKET")
            elif read in OVERRIDES:
                self.methods.append(value.upper())
            elif read in REWRITES:
                self.paths.append(split(value)[1])


def facts(target: Target, host: str, lines: Lines, body: bytes, status: str, *, packed: bytes = b"") -> Facts:
    """Return the facts of a request; `status` says why its body is not known, if it is not.

    `packed` is the body as it came, if it had to be opened.
    """
    place = target.authority or host
    _, colon, port = place.rpartition(":")
    type = Type(lines.content, target.method.upper() == "POST")
    said = held(type, body, packed, target.asked) if not status else closed(type, status)
    methods = frozenset((target.method.upper(), *lines.methods, *target.overrides, *said.methods))
    fields = [f"{k}={v}" for k, v in said.fields]
    asked = [pair for pair in (*target.query, *fields) if pair[:1] != "$"]  # a name like that would pass for a leaf
    text = text_of(body)
    whole = [f"body={one}" for one in (text, text_of(packed)) if one and not status]
    statements = said.json.union(asked, whole) if asked or whole else said.json
    paths, unknown = _paths(target, lines) if lines.paths else (target.paths, target.unknown)
    if said.unknown:
        unknown |= said.unknown
    values = {
        "effect": _effects(methods, said.graphql),
        "method": methods,
        "host": forms(place),
        "port": frozenset((port,)) if colon and port.isdigit() else NONE,
        "path": paths,
        "query": target.query,
        "header": frozenset(lines.shown),
        "content": type.names,
        "field": frozenset(fields),
        "file": frozenset(said.files),
        "json": said.json,
        "graphql": said.graphql,
        "sql": statements,
        "renamed": said.renamed | target.renamed if target.renamed else said.renamed,
        "text": frozenset([*target.texts, *lines.shown, *said.texts]),
    }
    why = WHY[status] if status else MORE if unknown else ""
    # What is asked as HEAD by another name may be answered without the body that its answer tells of.
    changes = HEAD in methods and target.method.upper() != HEAD
    return Facts("http", values, unknown, why, changes, subject=subject(target.line, lines, text, status))


def _paths(target: Target, lines: Lines) -> tuple[frozenset[str], frozenset[str]]:
    """Return the forms of the path, those that header lines say are the real one among them, and what is not known."""
    paths, unknown = target.paths, target.unknown
    for path in lines.paths:
        found, whole = readings(path)
        paths, unknown = paths | found, unknown if whole else unknown | {"path"}
    return paths, unknown


def split(target: str) -> tuple[str, str, str]:
    """Return authority, path and query of a target in origin or absolute form."""
    scheme, mark, rest = target.partition("://")
    authority = ""
    if mark and "/" not in scheme:
        at = len(rest)
        for found in (rest.find("/"), rest.find("?"), rest.find("#")):
            at = found if 0 <= found < at else at
        authority, target = rest[:at], rest[at:] or "/"
    path, _, query = target.partition("#")[0].partition("?")
    return authority, path or "/", query


def _effects(methods: frozenset[str], graphql: frozenset[str]) -> frozenset[str]:
    if len(methods) == 1 and not graphql and "DELETE" not in methods:
        return WRITE if methods.isdisjoint(READS) else READ
    found = {"read" if method in READS else "write" for method in methods}
    found |= {"write"} if "mutation" in graphql else set()
    return frozenset(found | {"delete"} if "DELETE" in methods else found)


def subject(line: str, lines: Lines, text: str, status: str) -> str:
    """Return what a reviewer is shown: the request, without the client's credentials."""
    said = "\n".join([line, *lines.reviewed])
    more = f"\n[body: {status}]" if status else "\n[more]" if len(text) > SHOWN else ""
    return f"{said}\n\n{text[:SHOWN]}{more}" if text else said + more
