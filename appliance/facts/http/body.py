"""What the body of a request says, as each server might take it.

Servers differ in what they take for the type of a body, whether they undo its content coding, and how they read the
names of a form. Where that is a few readings, what all of them say is here; else it is unknown.

Source: RFC 9110 section 8.3; WHATWG, "MIME sniffing", for lists of types; PHP's manual, "Variables From External
Sources"; Rack, `Request#form_data?`, which reads what is posted without a type as a form.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from msgspec.structs import replace

from appliance.facts.http import documents
from appliance.facts.http.found import UNKNOWN, Form, Found, Held, Pairs

FORM: Final = "application/x-www-form-urlencoded"
ASCII: Final = ("iso-8859-1", "iso-8859-15", "latin1", "windows-1252")  # charsets that are UTF-8 as far as ASCII goes
MAX_PAIRS = 1000  # of a query or a form; PHP takes as many
IN_BODY: Final = ("field", "file", "json", "graphql", "sql")
OVERRIDE: Final = frozenset(("_method", "_httpmethod"))  # names whose value is the real method: Rails, Symfony, Laravel
NO_BODY: Final = Held(texts=("",))
NONE: Final[frozenset[str]] = frozenset()
METHOD: Final = frozenset(("method", "effect"))  # what an override changes
LARAVEL: Final = re.compile(r"[/+]json", re.IGNORECASE)


def _spelled(name: str) -> str:
    """Return an expression for a name in JSON, whatever of it is escaped."""
    return "".join([rf"(?:{c}|\\u00(?:{ord(c):02x}|{ord(c.upper()):02x}))" for c in name])


# Where JSON is not read here. In what is too long the wire looks for them.
NAMED: Final = re.compile(f'"(?:{"|".join(map(_spelled, sorted(OVERRIDE)))})"'.encode(), re.IGNORECASE)

CUT = re.compile(r"[;,\s]")  # PHP ends a type at any of these
APART, WORD = re.compile(r"[,()]"), re.compile(r"\w+")
SUMS: Final = frozenset(("count", "sum", "avg", "min", "max"))
QUOTED = re.compile(r'"[^"]*"')
BRACKETS = re.compile(r"\[[^\[\]]*\]")
# Documents that say what JSON could say, to servers that take both; a picture in XML is none.
OTHER = re.compile(r"\b(?:x-)?(?:yaml|xml|cbor|msgpack|messagepack|protobuf|proto|bson|avro|thrift)\b")
PICTURE = re.compile(r"image/|xhtml")


class Type:
    """What the header line about the body says."""

    def __init__(self, header: str, posted: bool) -> None:
        """`posted`: by POST, where a body without a type may be a form."""
        self.header = header
        name = header.partition(";")[0].strip().lower()
        self.media = CUT.split(name, maxsplit=1)[0]
        self.names = frozenset((name, self.media)) - {""}
        self.form = self.media == FORM or (posted and not self.media)
        self.parts = self.media.startswith("multipart/")
        self.json = "json" in self.media
        # Frameworks look for an override in what is posted: in forms, and Laravel in JSON that says so anywhere.
        self.posts = posted and (self.form or self.parts or bool(LARAVEL.search(header)))
        self.other = bool(OTHER.search(self.media)) and not PICTURE.search(self.media)
        self.alone = "," not in header or "," not in QUOTED.sub("", header)  # of a list, some take the last


def held(type: Type, body: bytes, packed: bytes, asked: list[tuple[str, str]]) -> Held:
    """Return what a body says. `packed`: as it came, if it had to be opened; `asked`: the pairs of the query, which
    may hold an operation too."""
    if not body and not packed and not asked:
        return NO_BODY
    found = _one(type, body, asked, meant=True)
    if not packed:
        return found
    # Most servers never undo a coding: what it looks like to them counts as well.
    other = _one(type, packed, [], meant=False)
    return Held(
        fields=found.fields + other.fields,
        files=found.files + other.files,
        json=found.json | other.json,
        graphql=found.graphql | other.graphql,
        texts=found.texts + other.texts,
        unknown=found.unknown | other.unknown,
        methods=found.methods + other.methods,
        renamed=found.renamed | other.renamed,
    )


def closed(type: Type, status: str) -> Held:
    """Return what is said by a body that is not known, which is a "long" one if the wire finds no override in it."""
    asks = type.form or type.parts or not type.media or type.media.endswith(("/json", "+json", "/graphql"))
    unknown = {"text", *IN_BODY}
    if type.posts and status != "long":
        unknown |= METHOD
    return Held(unknown=frozenset(unknown), renamed=UNKNOWN if asks else NONE)


def _one(type: Type, body: bytes, asked: list[tuple[str, str]], meant: bool) -> Held:
    """Return what one reading of a body says. `meant`: its type is about this one."""
    text = text_of(body)
    unknown = {"text", *IN_BODY} if body and not (type.alone and _is_charset_read(type, body)) else set()
    form = _form(type, body, meant)
    if not form.whole:
        unknown |= {"field", "graphql", "sql", "text"}
        unknown |= {"file"} if type.parts else set()
    found, document = documents.leaves(body, claimed=meant and type.json and bool(body))
    if not found.whole:
        unknown |= {"json", "graphql", "sql"}
        if b"\\" in body:
            unknown.add("text")
    if body and type.other:
        unknown |= {"json", "sql"}
    if type.posts and _may_override(type, body, unknown, document):
        unknown |= METHOD
    operations = _operations(document, asked, form.fields, text if type.media == "application/graphql" else None)
    if not operations.whole:
        unknown.add("graphql")
    texts = [text, *form.texts]
    documents.strings(document, texts)
    methods = overrides(form.fields) + overrides(document if isinstance(document, Pairs) else ())
    return Held(
        fields=form.fields,
        files=form.files,
        json=found.values,
        graphql=operations.values,
        texts=tuple(texts),
        unknown=frozenset(unknown),
        methods=methods,
        renamed=operations.renamed,
    )


def _may_override(type: Type, body: bytes, unknown: set[str], document: object) -> bool:
    """Return True if what is posted could name another method where it is not known."""
    if type.form or type.parts:
        return "field" in unknown
    return not _is_charset_read(type, b"") or (document is None and NAMED.search(body) is not None)


def _form(type: Type, body: bytes, meant: bool) -> Form:
    if type.form:
        posted, whole = pairs(body.decode("utf-8", "replace"))
        return Form(tuple(posted), texts=tuple(word for pair in posted for word in pair), whole=whole)
    if type.parts and body and (meant or b"content-disposition" in body.lower()):
        form = documents.multipart(body, type.header)
        return replace(form, fields=(*form.fields, *_otherwise(form.fields)))
    return Form()


def _operations(
    document: object, asked: list[tuple[str, str]], fields: tuple[tuple[str, str], ...], whole: str | None
) -> Found:
    queries = [*asked, *fields]
    if whole is not None:
        queries.append(("query", whole))
    return documents.graphql(document, queries)


def _is_charset_read(type: Type, body: bytes) -> bool:
    """Return True if a body is in no other charset than what is read here. A server may know dozens."""
    if ";" not in type.header:
        return True
    for part in type.header.split(";")[1:]:
        name, _, value = part.lower().partition("=")
        one = value.strip(" \t\"'")
        if "charset" in name and one not in ("utf-8", "utf8", "us-ascii") and not (one in ASCII and body.isascii()):
            return False
    return True


def pairs(text: str) -> tuple[list[tuple[str, str]], bool]:
    """Return names and values of a query or a form, and whether that is all of it. Both `&` and `;` part them.

    A name that PHP or qs reads as another is there by all.
    """
    if not text:
        return [], True
    parts = text.count("&") + text.count(";") + 1
    if parts > MAX_PAIRS:
        return [], False
    found = parse_qsl(text, keep_blank_values=True, separator="&")
    if ";" in text:
        found += parse_qsl(text.replace("&", ";"), keep_blank_values=True, separator=";")
    return found + _otherwise(found), True


def _otherwise(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of a form whose names some servers read otherwise, by those."""
    return [(other, value) for name, value in pairs for other in (_mangled(name), _unwrapped(name)) if other != name]


def _unwrapped(name: str) -> str:
    """Return a name of a form as qs reads it, which Express does by: `[a][b]` is `a[b]`."""
    if not BRACKETS.match(name):
        return name
    parts: list[str] = BRACKETS.findall(name)
    return parts[0][1:-1] + "".join(parts[1:])


def _mangled(name: str) -> str:
    """Return a name of a form as PHP reads it."""
    plain = name.lstrip(" ").partition("\0")[0]
    head, mark, rest = plain.partition("[")
    if mark and "]" not in rest:
        head, mark = f"{head}_", ""
    return head.replace(" ", "_").replace(".", "_") + mark + rest


def overrides(pairs: object) -> tuple[str, ...]:
    """Return what some of the pairs say is the real method."""
    if not isinstance(pairs, list | tuple):
        return ()
    return tuple(value.upper() for name, value in pairs if isinstance(value, str) and name.lower() in OVERRIDE)


def renamed(pairs: list[tuple[str, str]]) -> frozenset[str]:
    """Return the names that a query of PostgREST asks to be answered by others: `select=new:old,max:n.max()`."""
    found: set[str] = set()
    for name, value in pairs:
        if name.lower() == "select":
            for item in APART.split(value):
                new, colon, old = item.partition(":")
                inner, dot, sum = item.rpartition(".")
                if colon and not old.startswith(":"):
                    found |= {f"{new.strip()}={word}" for word in WORD.findall(old)}
                elif dot and sum in SUMS:
                    found |= {f"{sum}={word}" for word in WORD.findall(inner)}
    return frozenset(found)


def text_of(body: bytes) -> str:
    """Return a body as text, whatever it says of itself."""
    if not body:
        return ""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")
