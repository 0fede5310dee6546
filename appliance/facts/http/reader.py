"""The reader of one flow. Requests do not depend on each other, so one that was read before is not read again.

What is kept is kept by all that its facts are made of, so nothing that is said can come to stand for something else;
and for this flow alone, as requests carry credentials. A request that came again has a shape of its own
(facts/shapes.py): its verdict is found once.
"""

import msgspec

from appliance.facts import Copy, Facts
from appliance.facts.http import documents
from appliance.facts.http.body import NONE, text_of
from appliance.facts.http.found import UNKNOWN
from appliance.facts.http.request import Lines, Target, facts, subject
from appliance.facts.shared import Shared
from appliance.model import Column, Message

ASKS = frozenset(("request", "ws-text", "ws-binary", "ws-control"))  # the last three in a WebSocket
MAX_KEPT = 16  # requests of a flow, and their first lines; programs that poll repeat a few. About 5 kB each
MAX_RENAMED = 1000  # names of a WebSocket that stand in place of others; with more none is known
MAX_KEPT_SIZE = 2048  # bytes of one; browsers' and SDKs' heads have some 500 to 1,500


def open(shared: Shared, server: str = "", needs_catalog: bool = True) -> "Http":
    """Return a reader, as `facts.readers.open` says."""
    return Http()


class Http:
    """Reader of one flow, as `facts.Reader` says."""

    def __init__(self) -> None:
        self.needs_catalog = False
        self._kept: dict[tuple[str, str, str, bytes, bytes], Facts] = {}
        self._targets: dict[str, Target] = {}
        self._renamed = NONE  # by messages of a WebSocket

    def ask(self, message: Message) -> Facts | None:
        if message.kind == "query":
            return _typed(message.text)
        if message.kind not in ASKS or not message.values:
            return None
        lines, body = message.values[0].data or b"", message.values[1].data or b""
        if message.kind != "request":
            found = self._read(message, lines, body)
            self._renamed |= found.values["renamed"]  # what is asked in a WebSocket may be answered for long
            self._renamed = self._renamed if len(self._renamed) <= MAX_RENAMED else UNKNOWN
            return _of_socket(found, message.text, body)
        if len(message.values) > 2 or len(lines) + len(body) + len(message.text) > MAX_KEPT_SIZE:
            return self._read(message, lines, body)
        return self._known(message, lines, body)

    def _known(self, message: Message, lines: bytes, body: bytes) -> Facts:
        """Return what was found when the same was asked before."""
        key = (message.text, message.name, message.status, lines, body)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            found = self._kept[key] = self._read(message, lines, body)
        elif found.shape is None:
            found = self._kept[key] = msgspec.structs.replace(found, shape=found)
        return found

    def _read(self, message: Message, lines: bytes, body: bytes) -> Facts:
        said = Lines(lines.decode("latin-1"))
        packed = (message.values[2].data or b"") if len(message.values) > 2 else b""
        return facts(self._target(message.text), message.name, said, body, message.status, packed=packed)

    def _target(self, line: str) -> Target:
        found = self._targets.get(line)
        if found is None:
            found = Target(line)
            if len(line) <= MAX_KEPT_SIZE:
                if len(self._targets) >= MAX_KEPT:
                    self._targets.clear()
                self._targets[line] = found
        return found

    def sent(self, message: Message) -> None: ...

    def heard(self, message: Message) -> None: ...

    def wanted(self, facts: Facts | None) -> str:
        return ""

    def origins(self, facts: Facts, column: Column) -> frozenset[str] | None:
        """A leaf of an answer goes by its path and by those it is below: who hides an object hides what is in it."""
        renamed = facts.values.get("renamed", NONE) | self._renamed
        if not renamed or not column.name:
            return documents.places(column.name)
        return None if "?" in renamed else documents.called(column.name, renamed)

    def copy(self, message: Message) -> Copy | None:
        return None


def _of_socket(found: Facts, line: str, body: bytes) -> Facts:
    """Return the facts of a message in a WebSocket: what the handshake said was judged with the handshake."""
    text = text_of(body)
    _, document = documents.leaves(body, claimed=False)
    texts = [text]
    documents.strings(document, texts)
    values = {**found.values, "text": frozenset(texts)}
    return msgspec.structs.replace(found, values=values, subject=subject(line, Lines(""), text, ""))


def _typed(text: str) -> Facts:
    """Read a request as a person types it: `POST https://host/path`, header lines, an empty line, the body."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, _, rest = head.partition("\n")
    method, _, target = first.partition(" ")
    lines = Lines(rest)
    return facts(Target(f"{method} {target}"), lines.host, lines, body.encode(), "")
