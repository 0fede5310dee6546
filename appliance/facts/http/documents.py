"""What is in the body of a request: the leaves of JSON, GraphQL operations, parts of multipart forms.

Source: RFC 8259, RFC 6901 for the idea of a leaf's place; GraphQL specification, October 2021; RFC 7578, RFC 2046.

A JSON document with a name twice in one object has both leaves: servers differ in which they take.
"""

import io
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from graphql import GraphQLError, parse
from graphql.language import FieldNode, FragmentDefinitionNode, OperationDefinitionNode, SelectionSetNode
from multipart import MultipartError, MultipartParser, MultipartPart

WIDE = (BOM_UTF16_BE, BOM_UTF16_LE, b"\0")  # how JSON begins in UTF-16 and UTF-32: RFC 4627 section 3
MAX_LEAVES = 10_000  # of one document
MAX_DEPTH = 64  # of a document, and of a GraphQL selection; honest ones have less than ten
MAX_TOKENS = 20_000  # of one GraphQL document
MAX_PLACES = 4096  # paths whose places are remembered; the answers of a service have some dozens
MAX_PARTS = 200  # of a multipart body
BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046 section 5.1.1
STEP = re.compile(r'\.[^.\[]+|\[[0-9]+\]|\["(?:[^"\\]|\\.)*"\]')  # of paths as `leaves` writes them
PLAIN = re.compile(r"[^\W\d][\w-]*")


class Found(msgspec.Struct, frozen=True):
    """What a document says. `whole`: that is all of it."""

    values: frozenset[str] = frozenset()
    whole: bool = True


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, in order, doubled names kept."""


def leaves(body: bytes, claimed: bool) -> tuple[Found, Any]:
    """Return the leaves of a JSON document, as policy/leaves.py writes them, and the document.

    `claimed`: it says that it is JSON. Else what cannot be read as JSON has no leaves.
    """
    text = body.strip()
    text = text[3:].lstrip() if text.startswith(BOM_UTF8) else text
    if not claimed and text[:1] not in (b"{", b"[") and not text.startswith(WIDE):
        return Found(), None
    try:
        document = json.loads(text, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return Found(whole=not claimed and text[:1] not in (b"{", b"[")), None
    found: set[str] = set()
    whole = True
    try:
        for leaf in _walk(document, "$", 0):
            known = _encodable(leaf)
            found.add(known)
            whole = whole and known == leaf
            if len(found) > MAX_LEAVES:
                return Found(frozenset(found), whole=False), document
    except RecursionError:
        return Found(frozenset(found), whole=False), None
    return Found(frozenset(found), whole), document


def _encodable(text: str) -> str:
    """Halves of surrogates, which only escapes can say, have no form in UTF-8; servers differ on them."""
    return text.encode("utf-8", "replace").decode()


def _walk(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise RecursionError
    if isinstance(value, _Pairs):
        for name, inner in value:
            yield from _walk(inner, path + _named(name), depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}[{number}]", depth + 1)
    elif path != "$":
        yield f"{path} = {_text(value)}"


def strings(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield the names and strings of a document without their escapes, for detectors."""
    if isinstance(value, str):
        yield _encodable(value)
    elif isinstance(value, list) and depth <= MAX_DEPTH:
        for one in value:
            name, inner = one if isinstance(one, tuple) else ("", one)
            if name:
                yield _encodable(name)
            yield from strings(inner, depth + 1)


def _named(name: str) -> str:
    return f".{name}" if PLAIN.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"


def _text(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value


@lru_cache(maxsize=MAX_PLACES)
def places(path: str) -> frozenset[str]:
    """Return the path of a leaf and the paths it is below."""
    steps = STEP.findall(path)
    return frozenset("$" + "".join(steps[: n + 1]) for n in range(len(steps)))


def graphql(document: Any, query: list[tuple[str, str]]) -> Found:
    """Return the operations that a JSON body or a query string asks a GraphQL server for."""
    texts = [value for name, value in query if name == "query"]
    # Of a form with files (GraphQL multipart request specification) the field `operations` is the document.
    sent = [leaves(value.encode(), claimed=True) for name, value in query if name == "operations"]
    for one in _ones([document, *(inner for _, inner in sent)]):
        for members in _operations_of(one):
            texts += [value for name, value in members if name == "query" and isinstance(value, str)]
    found: set[str] = set()
    whole = all(form.whole for form, _ in sent)
    for text in texts:
        if "{" not in text:
            continue  # a parameter of that name that is no GraphQL
        try:
            found |= _operations(text)
        except (GraphQLError, RecursionError):
            whole = False
    return Found(frozenset(found), whole)


def _ones(documents: list[Any]) -> Iterator[Any]:
    """Yield each document, and each of those that come in a list."""
    for one in documents:
        yield from one if isinstance(one, list) and not isinstance(one, _Pairs) else [one]


def _operations_of(document: Any) -> Iterator[_Pairs]:
    """Yield the objects that may hold an operation; in a WebSocket (graphql-transport-ws) it is in `payload`."""
    if isinstance(document, _Pairs):
        yield document
        yield from (value for name, value in document if name == "payload" and isinstance(value, _Pairs))


def _operations(text: str) -> set[str]:
    document = parse(text, no_location=True, max_tokens=MAX_TOKENS)
    parts = {d.name.value: d.selection_set for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    found: set[str] = set()
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            kind = definition.operation.value
            found |= {kind, *(f"{kind}.{name}" for name in _fields(definition.selection_set, parts, 0))}
    return found


def _fields(selected: SelectionSetNode, parts: dict[str, SelectionSetNode], depth: int) -> Iterator[str]:
    """Yield the names at the root, those of fragments included."""
    if depth > MAX_DEPTH:
        raise RecursionError
    for selection in selected.selections:
        if isinstance(selection, FieldNode):
            yield selection.name.value
        elif (inner := getattr(selection, "selection_set", None)) is not None:
            yield from _fields(inner, parts, depth + 1)
        elif selection.name.value in parts:  # type: ignore[attr-defined]
            yield from _fields(parts[selection.name.value], parts, depth + 1)  # type: ignore[attr-defined]


class Form(msgspec.Struct, frozen=True):
    """The parts of a multipart body."""

    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # what is in the files
    whole: bool = True


def multipart(body: bytes, header: str) -> Form:
    """Read a multipart body by the boundary its header names."""
    match = re.search(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', header, re.IGNORECASE)
    if match is None or header.lower().count("boundary") != 1 or not BOUNDARY.fullmatch(match[1] or match[2]):
        return Form(whole=False)
    try:
        parser = MultipartParser(
            io.BytesIO(body), match[1] or match[2], len(body), part_limit=MAX_PARTS, strict=True,
            spool_limit=len(body) + 1, memory_limit=len(body) + 1, disk_limit=0,
        )  # fmt: skip
        parts = parser.parts()
    except (MultipartError, ValueError, LookupError):
        return Form(whole=False)
    fields = tuple((part.name, part.raw.decode("latin-1")) for part in parts if part.filename is None)
    files = tuple(part.filename for part in parts if part.filename is not None)
    texts = tuple(part.raw.decode("utf-8", "replace") for part in parts if part.filename is not None)
    return Form(fields, files, texts, whole=not any(map(_is_coded, parts)))


def _is_coded(part: MultipartPart) -> bool:
    """Return True if a server may read name or value otherwise: coded, or said twice. RFC 7578 section 4.6."""
    said = {name.lower(): value.lower() for name, value in part.headerlist}
    names = re.sub(r'"[^"]*"', "", said.get("content-disposition", ""))
    words = re.findall(r";\s*([^\s=;]+)\s*=", names)
    return (
        "*" in names
        or len(said) != len(part.headerlist)
        or len(words) != len(set(words))
        or part.name == "_charset_"
        or "charset" in re.sub(r'charset="?(utf-8|us-ascii)"?', "", said.get("content-type", ""))
        or said.get("content-transfer-encoding", "binary") not in ("7bit", "8bit", "binary")
        or said.get("content-encoding", "identity") != "identity"
    )
