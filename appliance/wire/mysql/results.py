"""Results, prepared statements, and answers to statements of our own: what comes between a request and its end.

Sources: MySQL 8.4 source documentation, "Text Resultset", "Binary Protocol Resultset", "COM_STMT_PREPARE Response",
"COM_STMT_FETCH"; MySQL 8.0 C API manual, "Optional Result Set Metadata" (the flag comes after the number of columns,
as sql-common/client.cc reads it); MariaDB documentation, "Result Set Packets" (MARIADB_CLIENT_CACHE_METADATA).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from appliance.model import Message, ProtocolError, Side, Value
from appliance.wire import Plan
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql import charsets, columns, files, refusals, rows
from appliance.wire.mysql.asked import Request
from appliance.wire.mysql.definition import Definition
from appliance.wire.mysql.ends import Failure, Ok
from appliance.wire.mysql.flow import GRAMMARS, Link, Statement
from appliance.wire.mysql.packets import (
    FULL,
    MAX_COLUMNS,
    MAX_DESCRIBED,
    MAX_INJECTED,
    MAX_MASKED,
    NULL,
    Fields,
    Inbox,
    count,
    joined,
    moved,
    packets,
)

S = Side.SERVER
OK, FILE, EOF, ERROR = 0, 0xFB, 0xFE, 0xFF
EOF_SIZE = 5
INJECTED_CHARSET = "character_set_client"  # a column of a statement of ours that tells the encoding of statements

Step = Literal["first", "columns", "columns-end", "rows", "parameters", "parameters-end", "fields", "file"]
Found = Iterator[Message | Ok | None]


class Results:
    """What comes next in the answer to the head of the queue."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.step: Step = "first"
        self.counted = 0  # rows of this result
        self.after = 0  # number the server gives the packet after the last row taken
        self.failure: Failure | None = None  # of a statement of our own
        self._result = 0  # number of this result
        self._left = 0  # definitions that are still to come
        self._raws: list[bytes] = []  # packets that are kept
        self._size = 0
        self._definitions: list[Definition] = []
        self._reads = columns.Definitions()
        self._statement: Statement | None = None
        self._plan: Plan | None = None
        self._masks: rows.Masks | None = None
        self._binary = self.ours = False
        self._known = True  # the definitions of this result, from whenever they were told
        self._told = True  # they are told with it
        self._then = 0  # columns of a statement whose parameters come first
        self._values: list[Value] = []
        self._injected_size = self._injected_sets = 0

    @property
    def looks(self) -> bool:
        """Whether rows must be whole, because we look into them."""
        return self._masks is not None or self.ours

    # -- turns --------------------------------------------------------------------------------------------------

    def begin(self, head: Request) -> None:
        """Turn to the answer to a request."""
        self._result, self.ours = 0, head.kind == "inject"
        self._binary = head.kind in ("execute", "bulk-execute", "fetch")
        self._statement = self._link.answered(head.name) if self._binary else None
        self._plan = head.plan
        self.another(first=True)
        if GRAMMARS[head.kind] == "rows":
            self._fetched()
        elif GRAMMARS[head.kind] == "fields":
            self.step = "fields"

    def another(self, first: bool = False) -> None:
        """Turn to the next result of the same answer."""
        self.step, self.counted, self._masks = "first", 0, None
        self._result += not first
        self._clear()

    def failed(self, head: Request) -> None:
        """Note that the answer ended with an error."""
        if head.kind == "prepare":
            self._link.last = None
            self._link.preparing -= 1

    def _fetched(self) -> None:
        """Rows of a cursor come without definitions: those of its execution hold."""
        statement = self._statement
        if statement is not None:
            self._plan = self._plan or statement.plan
        known = statement is not None and bool(statement.definitions)
        if self._plan is not None and not known:
            raise ProtocolError("rows that a plan is for come without a description of their columns")
        self._masks = rows.masks(self._plan, statement.definitions if statement else (), True)
        self.step = "rows"

    # -- packets ------------------------------------------------------------------------------------------------

    def packet(self, head: Request, raw: bytes) -> Found:
        """Yield what a packet comes to; an Ok where one ends a result, None where the answer ends without."""
        yield from STEPS[self.step](self, head, raw)

    def _first(self, head: Request, raw: bytes) -> Found:
        link, payload = self._link, raw[4:]
        match GRAMMARS[head.kind]:
            case "text":
                text = payload.decode("utf-8", "replace")
                yield Message(S, "statistics", moved(raw, link.shift), text=text, cursor="ready")
                yield None
            case "prepared":
                yield from self._prepared(head, raw)
            case "results" if payload[0] not in (OK, EOF):
                yield from self._file(head, raw) if payload[0] == FILE else self._counted(raw)
            case "results" | "ok" if payload[0] == OK:
                yield refusals.read_ok(payload, link.capabilities)
            case "ok" if payload[0] == EOF:
                yield self._end(payload)
            case _:
                raise ProtocolError(f"the server answers {payload[0]} to a {head.kind}")

    def _end(self, payload: bytes) -> Ok:
        """Read the end of rows, or of definitions."""
        if len(payload) == EOF_SIZE or not self._link.deprecates_eof:
            return refusals.read_eof(payload)
        return refusals.read_ok(payload, self._link.capabilities)

    def _file(self, head: Request, raw: bytes) -> Found:
        """The server asks for a file: only for the one its statement names."""
        link, name = self._link, raw[5:]
        escapes = not link.status & caps.NO_BACKSLASH_ESCAPES
        if not link.capabilities & caps.LOCAL_FILES or not files.names(head.text, link.charset.decode(name), escapes):
            raise ProtocolError("the server asks the client for a file that its statement does not name")
        self.step = "file"
        link.file, link.dropping, link.file_ended = True, False, False
        yield Message(S, "copy-in", moved(raw, link.shift), text=link.charset.decode(name))

    def _counted(self, raw: bytes) -> Found:
        """Read the number of columns, and whether their definitions follow."""
        link, fields = self._link, Fields(raw, 4)
        number, follow = fields.lenenc(), 1
        if link.capabilities & (caps.OPTIONAL_METADATA | caps.CACHE_METADATA) and fields.left:
            follow = fields.number(1)
        fields.end()
        if not 0 < number <= MAX_COLUMNS or follow > 1:
            raise ProtocolError(f"a result of {number} columns")
        self._keep(raw)
        if follow:
            self._left, self.step = number, "columns"
            return
        known = self._statement.definitions if self._statement is not None else ()
        self._known, self._told = len(known) == number, False
        self._definitions = list(known) if self._known else self._unnamed(number)
        if link.deprecates_eof:
            yield from self._described()
        else:
            self.step = "columns-end"

    def _unnamed(self, number: int) -> list[Definition]:
        return [columns.unnamed(self._result, place) for place in range(number)]

    def _definition(self, head: Request, raw: bytes) -> Found:
        link = self._link
        place = len(self._definitions)
        self._definitions.append(self._reads.read(raw[4:], link.capabilities, link.charset, self._result, place))
        self._keep(raw)
        self._left -= 1
        if self._left:
            return
        if not link.deprecates_eof:
            self.step = "parameters-end" if self.step == "parameters" else "columns-end"
        elif self.step == "parameters":
            yield from self._parameters()
        else:
            yield from self._described()

    def _definitions_end(self, head: Request, raw: bytes) -> Found:
        """Read the EOF after definitions; where it says that a cursor is open, no rows follow it."""
        if len(raw) != 4 + EOF_SIZE or raw[4] != EOF:
            raise ProtocolError("definitions without their end")
        end = refusals.read_eof(raw[4:])
        if self.step == "parameters-end":
            self._keep(raw)
            yield from self._parameters()
        elif end.status & caps.CURSOR_EXISTS and GRAMMARS[head.kind] == "results":
            yield from self._described()
            yield end
        else:
            self._keep(raw)
            yield from self._described()

    def _described(self) -> Found:
        """All is known of the columns of a result, or of a statement."""
        definitions, preparing = tuple(self._definitions), self._then < 0
        statement, places = self._statement, []
        if preparing:
            places = rows.masked(self._plan, definitions)
        else:
            self._masks = rows.masks(self._plan, definitions, self._binary, self._known)
            places = self._masks.places if self._masks is not None else []
        if statement is not None and self._result == 0 and self._known:
            statement.definitions, statement.plan = definitions, self._plan
        first = 0 if preparing else 1  # the number of columns comes before them
        for place in places if self._told else []:
            self._raws[first + place] = self._nullable(first + place, definitions[place])
        raw = moved(b"".join(self._raws), self._link.shift)
        self._raws, self.step = [], "rows"
        if self.ours:
            return
        found = tuple(definition.column for definition in definitions)
        yield Message(S, "describe", raw, columns=found, cursor="ready" if preparing else "")
        if preparing:
            yield None

    # -- prepared statements ------------------------------------------------------------------------------------

    def _prepared(self, head: Request, raw: bytes) -> Found:
        """Read the answer to a COM_STMT_PREPARE."""
        link, fields = self._link, Fields(raw, 4)
        if fields.number(1) != OK:
            raise ProtocolError("the server does not say what it prepared")
        name, number, parameters = str(fields.number(4)), fields.number(2), fields.number(2)
        fields.take(min(3, fields.left))
        follow = fields.number(1) if link.capabilities & caps.OPTIONAL_METADATA and fields.left else 1
        self._statement = link.prepared(name, head.text, parameters)
        link.preparing -= 1
        words = "" if (number or parameters) and follow else "ready"
        unknown = (Value(None),) * parameters
        yield Message(S, "prepared", moved(raw, link.shift), text=head.text, name=name, values=unknown, cursor=words)
        if words:
            yield None
            return
        self._then = number
        if parameters:
            self._left, self.step = parameters, "parameters"
        else:
            self._expect_columns()

    def _parameters(self) -> Found:
        raw = moved(b"".join(self._raws), self._link.shift)
        values = tuple(Value(None, definition.type) for definition in self._definitions)
        yield Message(S, "parameters", raw, values=values, cursor="" if self._then else "ready")
        if self._then:
            self._expect_columns()
        else:
            yield None

    def _expect_columns(self) -> None:
        """Of a statement: its result's columns follow."""
        number = self._then
        self._clear()
        self._left, self._then, self.step = number, -1, "columns"

    # -- what is kept -------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._raws, self._size, self._definitions = [], 0, []
        self._known, self._told, self._then = True, True, 0

    def _keep(self, raw: bytes) -> None:
        self._raws.append(raw)
        self._size += len(raw)
        if self._size > MAX_DESCRIBED:
            raise ProtocolError(f"the definitions of a result are over {MAX_DESCRIBED} bytes")

    def _nullable(self, at: int, definition: Definition) -> bytes:
        raw = self._raws[at]
        return raw[:4] + columns.nullable(raw[4:], definition)

    # -- rows that somebody looks into --------------------------------------------------------------------------

    def rows(self, inbox: Inbox, longest_end: int) -> Message | None:
        """Take the whole rows that are here, masked; None if there are none."""
        out: list[bytes] = []
        number = masked = 0
        data, top = inbox.data, len(inbox.data)
        while top - inbox.at >= 5:
            at = inbox.at
            size, sequence = data[at] | data[at + 1] << 8 | data[at + 2] << 16, data[at + 3]
            if size == 0:
                raise ProtocolError("an empty packet among rows")
            first = data[at + 4]
            if first == ERROR or (first == EOF and size <= longest_end):
                break
            whole = 4 + size if size < FULL else inbox.whole(MAX_MASKED)
            if whole is None or at + whole > top:
                break
            raw = inbox.take(whole)
            number += 1
            self.after = sequence + 1 + (whole - 1) // (FULL + 4)
            if self.ours:
                self._inject_row(joined(raw))
            elif self._masks is not None:
                row, changed = self._masks.row(joined(raw))
                out.append(self._row(raw, row, sequence) if changed else moved(raw, self._link.shift))
                masked += changed
        self.counted += number
        return Message(S, "row", b"".join(out), masked=masked, count=number) if number else None

    def _row(self, raw: bytes, row: bytes, sequence: int) -> bytes:
        """Write a changed row; where it takes fewer packets than before, later ones have other numbers."""
        new = packets(row, sequence + self._link.shift)
        self._link.shift += count(len(row)) - (len(raw) - 1) // (FULL + 4) - 1
        return new

    # -- statements of our own ----------------------------------------------------------------------------------

    def _inject_row(self, payload: bytes) -> None:
        self._injected_size += len(payload)
        if self._injected_size > MAX_INJECTED:
            raise ProtocolError(f"the answer to a statement of our own is over {MAX_INJECTED} bytes")
        fields = Fields(payload)
        for definition in self._definitions:
            if payload[fields.at : fields.at + 1] == bytes((NULL,)):
                fields.at += 1
                self._values.append(Value(None, definition.type))
            else:
                text = charsets.numbered(definition.charset).decode(fields.string())
                self._values.append(Value(text.encode("utf-8", "surrogateescape"), definition.type))
        fields.end()

    def injected(self, status: str) -> Message:
        """Return one result of a statement of our own."""
        found, values = tuple(definition.column for definition in self._definitions), tuple(self._values)
        for column, value in zip(found, values, strict=False):
            if column.name == INJECTED_CHARSET and value.data:
                self._link.charset = charsets.named(value.data.decode("ascii", "replace"))
        name = str(self._injected_sets)
        self._injected_sets += 1
        self._values = []
        return Message(S, "injected", b"", name=name, values=values, columns=found, status=status)

    def injected_done(self) -> Message:
        failure, self.failure = self.failure, None
        self._values, self._injected_size, self._injected_sets = [], 0, 0
        words = caps.status_words(self._link.status, 0)
        if failure is None:
            return Message(S, "injected-done", b"", cursor=words)
        text, state = self._link.charset.decode(failure.text), failure.state.decode("ascii", "replace")
        return Message(S, "injected-done", b"", text=text, name=str(failure.number), status=state, cursor=words)

    def _rows_end(self, head: Request, raw: bytes) -> Found:
        yield self._end(raw[4:])

    def _field(self, head: Request, raw: bytes) -> Found:
        """Read a definition of COM_FIELD_LIST, which tells no number of them, or their end."""
        link = self._link
        if raw[4] == EOF:
            yield self._end(raw[4:])
            return
        definition = columns.read(raw[4:], link.capabilities, link.charset, 0, self.counted)
        self.counted += 1
        yield Message(S, "describe", moved(raw, link.shift), columns=(definition.column,))


STEPS: Mapping[Step, Callable[[Results, Request, bytes], Found]] = {
    "first": Results._first,
    "columns": Results._definition,
    "columns-end": Results._definitions_end,
    "parameters": Results._definition,
    "parameters-end": Results._definitions_end,
    "rows": Results._rows_end,
    "fields": Results._field,
}
