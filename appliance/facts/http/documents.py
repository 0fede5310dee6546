"""What is in the body of a request: the leaves of JSON, GraphQL operations, parts of multipart forms.

Source: RFC 8259, RFC 6901 for the idea of a leaf's place; GraphQL specification, October 2021; RFC 7578, RFC 2046.

A JSON document with a name twice in one object has both leaves: servers differ in which they take.
"""

import io
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from multipart import MultipartError, MultipartParser, MultipartPart

from appliance.facts.http.found import UNKNOWN, Form, Found, Pairs

WIDE = (BOM_UTF16_BE, BOM_UTF16_LE, b"\0")  # how JSON begins in UTF-16 and UTF-32: RFC 4627 section 3
MAX_LEAVES = 10_000  # of one document
MAX_DEPTH = 64  # of a document; honest ones have less than ten
MAX_PATH = 4096  # characters of a leaf's path, which each leaf has: 64 long names over 9,000 leaves took 1.1 GB
MAX_TEXT = 256 * 1024  # characters of GraphQL in one request; a token of one or two takes 5 us, so this takes 0.7 s
MAX_PLACES = 512  # paths whose places are remembered; the answers of a service have some dozens
MAX_CALLED = 64  # names of one leaf, where the request gave it others; honest ones have two or three
MAX_PARTS = 200  # of a multipart body
# RFC 2046 section 5.1.1; without quotes a token, RFC 2045 section 5.1: some end it before a `,`, a `/`, a `=`.
BOUNDARY = re.compile(
    r"""boundary=(?:"([0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-])"|([0-9A-Za-z'+_.-]{1,70})(?=[\s;]|$))""",
    re.IGNORECASE,
)
STEP = re.compile(r'\.[^.\[]+|\[[0-9]+\]|\["(?:[^"\\]|\\.)*"\]')  # of paths as `leaves` writes them
CODED_FILE = re.compile(r""";\s*filename\*\s*=\s*utf-8'[\w-]*'([^\s;"'*]*)(?=\s*(?:;|$))""", re.IGNORECASE)  # RFC 8187
LOOSE = re.compile(r'[^\s;=]\s+[^\s;=]|[^\s;=]""|""[^\s;]')  # a value with more behind its end, or a quote within
PLAIN = re.compile(r"[^\W\d][\w-]*")
DOCUMENT, PERSISTED = "documentid", "persistedquery"  # GraphQL over HTTP, appendix on persisted documents; Apollo's
NOTHING = Found()
DECODER = json.JSONDecoder(object_pairs_hook=Pairs, parse_int=str, parse_float=str, parse_constant=str)


def leaves(body: bytes, claimed: bool) -> tuple[Found, Any]:
    """Return the leaves of a JSON document, as policy/leaves.py writes them, and the document.

    `claimed`: it says that it is JSON. Else what cannot be read as JSON has no leaves.
    """
    text = body.strip()
    text = text[3:].lstrip() if text.startswith(BOM_UTF8) else text
    if not claimed and text[:1] not in (b"{", b"[", b'"') and not text.startswith(WIDE):
        return NOTHING, None
    try:
        document = DECODER.decode(text.decode(json.detect_encoding(text), "surrogatepass"))
    except (ValueError, RecursionError):
        return Found(whole=not claimed and text[:1] not in (b"{", b"[")), None
    walk = _Walk()
    try:
        walk.take(document, "$", 0)
    except RecursionError:
        walk.whole = False
    return Found(frozenset(walk.found), whole=walk.whole), document


def encodable(text: str) -> str:
    """Halves of surrogates, which only escapes can say, have no form in UTF-8; servers differ on them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class _Walk:
    """Collects the leaves of a document."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.whole = True

    def take(self, value: Any, path: str, depth: int) -> None:
        """Take the leaves of what is at `path`.

        Raises:
            RecursionError: it is too deep, or has too many.
        """
        if depth > MAX_DEPTH or len(path) > MAX_PATH:
            raise RecursionError
        if isinstance(value, str):
            self._leaf(path, value)
        elif isinstance(value, Pairs):
            for name, inner in value:
                self.take(inner, path + _named(name), depth + 1)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                self.take(inner, f"{path}[{number}]", depth + 1)
        else:
            self._leaf(path, "null" if value is None else "true" if value else "false")

    def _leaf(self, path: str, text: str) -> None:
        if path == "$":
            return
        leaf = f"{path} = {text}"
        known = encodable(leaf)
        self.found.add(known)
        if known != leaf:
            self.whole = False
        if len(self.found) > MAX_LEAVES:
            raise RecursionError


def strings(value: Any, out: list[str], depth: int = 0) -> None:
    """Add the names and strings of a document without their escapes, for detectors."""
    if isinstance(value, str):
        out.append(encodable(value))
    elif isinstance(value, Pairs):
        if depth <= MAX_DEPTH:
            for name, inner in value:
                if name:
                    out.append(encodable(name))
                strings(inner, out, depth + 1)
    elif isinstance(value, list) and depth <= MAX_DEPTH:
        for inner in value:
            strings(inner, out, depth + 1)


def _named(name: str) -> str:
    return f".{name}" if PLAIN.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"


@lru_cache(maxsize=MAX_PLACES)
def places(path: str) -> frozenset[str]:
    """Return the path of a leaf and the paths it is below."""
    steps = STEP.findall(path)
    return frozenset("$" + "".join(steps[: n + 1]) for n in range(len(steps)))


def called(path: str, renamed: frozenset[str]) -> frozenset[str] | None:
    """Return as `places` does, where some names stand in place of others; None: too many to tell."""
    old: dict[str, set[str]] = {}
    for pair in renamed:
        name, _, other = pair.partition("=")
        old.setdefault(f".{name}", set()).add(f".{other}")
    heads, found = {"$"}, set[str]()
    for step in STEP.findall(path):
        heads = {head + one for head in heads for one in (step, *old.get(step, ()))}
        if len(heads) > MAX_CALLED:
            return None
        found |= heads
    return frozenset(found)


def graphql(document: Any, query: list[tuple[str, str]]) -> Found:
    """Return the operations that a JSON body or a query string asks a GraphQL server for.

    Names are taken in any case, as servers in Go do. An operation that is only named, as one the server knows (a
    persisted one), is not known here.
    """
    if document is None and not query:
        return NOTHING
    texts: dict[str, None] = {}
    ones, whole = [document], True
    for name, value in query:
        folded = name.casefold()
        if folded == "query":
            texts[value] = None
        elif folded == "operations":
            # Of a form with files (GraphQL multipart request specification) this field is the document.
            form, inner = leaves(value.encode(), claimed=True)
            ones.append(inner)
            whole = whole and form.whole
        elif folded == DOCUMENT or (folded == "extensions" and PERSISTED in value.casefold()):
            whole = False
    for one in ones:
        for members in _operations_of(one):
            said = [value for name, value in members if name.casefold() == "query" and isinstance(value, str)]
            texts |= dict.fromkeys(said)
            whole = whole and (any(said) or not _is_persisted(members))
    return _found(list(texts), whole)


def _found(texts: list[str], whole: bool) -> Found:
    found: set[str] = set()
    renamed: set[str] = set() if whole else {*UNKNOWN}
    left = MAX_TEXT
    for text in texts:
        if "{" not in text:
            continue  # a parameter of that name that is no GraphQL
        left -= len(text)
        named = _named_in(text) if left >= 0 else Found(whole=False, renamed=UNKNOWN)
        whole = whole and named.whole
        found |= named.values
        renamed |= named.renamed
    return Found(frozenset(found), whole, frozenset(renamed)) if found or not whole else NOTHING


def _is_persisted(members: Pairs) -> bool:
    for name, value in members:
        folded = name.casefold()
        if folded == DOCUMENT:
            return True
        if folded == "extensions" and isinstance(value, Pairs):
            return any(inner.casefold() == PERSISTED for inner, _ in value)
    return False


def _named_in(text: str) -> Found:
    # The grammar takes 0.1 s and 8 MB to load, and most flows never say a word of GraphQL.
    from appliance.facts.http.operations import named  # noqa: PLC0415

    return named(text)


def _operations_of(document: Any) -> list[Pairs]:
    """Return the objects that may hold an operation; in a WebSocket (graphql-transport-ws) it is in `payload`."""
    found: list[Pairs] = []
    for one in document if isinstance(document, list) and not isinstance(document, Pairs) else [document]:
        if isinstance(one, Pairs):
            found.append(one)
            found += [value for name, value in one if name.casefold() == "payload" and isinstance(value, Pairs)]
    return found


def multipart(body: bytes, header: str) -> Form:
    """Read a multipart body by the boundary its header names."""
    match = BOUNDARY.search(header)
    if match is None or header.lower().count("boundary") != 1:
        return Form(whole=False)
    try:
        parser = MultipartParser(
            io.BytesIO(body), match[1] or match[2], len(body), part_limit=MAX_PARTS, strict=True,
            spool_limit=len(body) + 1, memory_limit=len(body) + 1, disk_limit=0,
        )  # fmt: skip
        parts = parser.parts()
    except (MultipartError, ValueError, LookupError):
        return Form(whole=False)
    # One without a name of a file is no file to Go and to aiohttp; browsers send an empty one for none chosen.
    said = (part for part in parts if part.filename is None or (not part.filename and part.raw))
    fields = tuple((part.name, part.raw.decode("utf-8", "replace")) for part in said)
    files = tuple(name for part in parts for name in _files(part))
    texts = tuple(part.raw.decode("utf-8", "replace") for part in parts if part.filename is not None)
    return Form(fields, files, texts, whole=not any(map(_is_coded, parts)))


def _files(part: MultipartPart) -> list[str]:
    """Return the names of its file; many clients say it twice, and servers differ in which they take."""
    plain = [] if part.filename is None else [part.filename]
    return plain + [unquote(name) for name in CODED_FILE.findall(re.sub(r'"[^"]*"', '""', _disposition(part)))]


def _disposition(part: MultipartPart) -> str:
    return next((value for name, value in part.headerlist if name.lower() == "content-disposition"), "")


def _is_coded(part: MultipartPart) -> bool:
    """Return True if a server may read name or value otherwise: coded, or said twice. RFC 7578 section 4.6."""
    said = {name.lower(): value.lower() for name, value in part.headerlist}
    place = said.get("content-disposition", "")
    names = CODED_FILE.sub("", re.sub(r'"[^"]*"', '""', place), count=1)
    words = re.findall(r";\s*([^\s=;]+)\s*=", names)
    return (
        "*" in names
        or "'" in names  # a quote for PHP
        or "=?" in place  # of a coded word, which Tomcat opens: RFC 2047
        or LOOSE.search(names) is not None
        or len(said) != len(part.headerlist)
        or len(words) != len(set(words))
        or part.name == "_charset_"
        or "\\" in place  # a part of the name for some, for others a quote
        or said.get("content-type", "").startswith("multipart/")  # whose parts are files of this one for some
        or "charset" in re.sub(r'charset="?(utf-8|us-ascii)"?', "", said.get("content-type", ""))
        or said.get("content-transfer-encoding", "binary") not in ("7bit", "8bit", "binary")
        or said.get("content-encoding", "identity") != "identity"
    )
