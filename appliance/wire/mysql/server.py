"""What the server says, in the form the client may see it.

Sources: MySQL 8.4 source documentation, "Connection Phase", "Command Phase", "COM_QUERY Response", "COM_STMT_PREPARE
Response"; MariaDB documentation, "Result Set Packets", "ERR_Packet" (progress reports).

Which part of an answer comes next is `_step`; which request it answers is the queue's. Definitions of columns are
kept until they are whole, rows only if somebody looks into them. This module takes packets apart and ends answers;
what results and prepared statements are made of is results.py.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from appliance.model import Message, ProtocolError, Side
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql import charsets, login, refusals
from appliance.wire.mysql.asked import Request
from appliance.wire.mysql.compression import Stream, pack
from appliance.wire.mysql.ends import Failure, Ok
from appliance.wire.mysql.flow import GRAMMARS, Ledger, Link
from appliance.wire.mysql.packets import FULL, MAX_ANSWER, MAX_ROW, STREAM_OVER, moved, moved_first, packets
from appliance.wire.mysql.results import EOF, ERROR, OK, Results

S = Side.SERVER
MORE_DATA, NEXT_FACTOR = 1, 2
LOGIN = " login"  # word for the answer to a login
MAX_EOF = 8  # bytes; a longer packet that begins with 0xFE is a row
PROGRESS_NUMBER = 0xFFFF
FAST_PASSED = b"\1\3"  # caching_sha2_password: no answer is due


class Answers:
    """The server's direction."""

    def __init__(self, link: Link, ledger: Ledger, client: Stream) -> None:
        self._link, self._ledger, self._client = link, ledger, client
        self._stream = Stream(keep=False)
        self._results = Results(link)
        self._rest = 0  # bytes of a packet that goes down in pieces
        self._continued = False  # the next packet goes on with a row
        self._row = 0  # bytes of that row so far
        self._started = False  # the head of the queue has been answered in part
        self._frame = 1  # number of the next frame to the client
        self._after = 0  # number the server gives its next packet
        self._frames = False  # messages go down in frames

    @property
    def partial(self) -> bool:
        """True while the client has only part of a packet, or of a row."""
        return self._rest > 0 or self._continued

    @property
    def begun(self) -> bool:
        """True while a packet has come in part, and no message was made of it."""
        return self._stream.inbox.left > 0

    @property
    def waits_for_file(self) -> bool:
        """True while the server takes what it is sent for the content of a file."""
        link = self._link
        return self._started and self._results.step == "file" and not (link.file_ended or link.dropping)

    def goes_on(self) -> None:
        """The client has answered a plugin: what the server says next is numbered after that."""
        self._frame = (self._link.frame_client + 1) & 0xFF

    def last(self, failure: Failure) -> bytes:
        """Return an error that nothing follows."""
        link, head = self._link, self._ledger.head
        if link.phase == "greeting" or not link.ready:
            behind = not link.asked and link.phase != "greeting"
            number = link.sequence_client + 1 if behind else self._after
            known = failure if link.capabilities else Failure(failure.number, b"", failure.text)
            return packets(known.write(), number)
        number = self._after + link.shift if self._started else head.sequence if head is not None else 1
        raw = packets(failure.write(), number)
        if not self._stream.algorithm:
            return raw
        frame = self._frame if self._started or head is None else head.frame
        return pack(raw, frame, link.algorithm)

    def add(self, data: bytes) -> None:
        self._stream.add(data)

    def read(self) -> Iterator[Message]:
        """Yield each message that is whole, or the part that is here of one that is not kept."""
        while True:
            for message in self._inner():
                yield self._framed(message) if self._frames else message
            if not self._stream.more():
                return
            self._link.frame_up = self._stream.sequence + 1

    def _framed(self, message: Message) -> Message:
        """Return a message in frames of its own."""
        if not message.raw:
            return message
        raw = pack(message.raw, self._frame, self._link.algorithm)
        self._frame = (self._frame + -(-len(message.raw) // FULL)) & 0xFF
        return replace(message, raw=raw)

    def _inner(self) -> Iterator[Message]:
        inbox = self._stream.inbox
        self._frames = bool(self._stream.algorithm)
        while inbox.left:
            if self._rest:
                yield self._piece(0)
                continue
            header = inbox.header()
            if header is None:
                return
            size, sequence = header
            head = self._ledger.head
            if head is not None and not self._started:
                self._begin(head, sequence)
            if head is not None and self._results.step == "rows":
                if not self._continued and size and inbox.left < 5:
                    return
                if self._continued or not self._ends(size):
                    message = self._rows(size, sequence)
                    if message is None:
                        return
                    if not self._results.ours:
                        yield message
                    continue
            if size > MAX_ANSWER:
                raise ProtocolError(f"the server answers with {size} bytes: the limit is {MAX_ANSWER}")
            if inbox.left < 4 + size:
                return
            self._after = sequence + 1
            yield from self._whole(inbox.take(4 + size), sequence)
            self._frames = bool(self._stream.algorithm) and self._frames

    # -- rows ---------------------------------------------------------------------------------------------------

    def _ends(self, size: int) -> bool:
        """Whether the next packet, where a row may come, is none but the end of rows, or an error."""
        first = self._stream.inbox.first() if size else -1
        if first == -1:
            raise ProtocolError("an empty packet among rows")
        return first == ERROR or (first == EOF and size <= self._longest_end)

    @property
    def _longest_end(self) -> int:
        return FULL - 1 if self._link.deprecates_eof else MAX_EOF

    def _rows(self, size: int, sequence: int) -> Message | None:
        """Take rows, or the part that is here of one that nobody looks into; None if there is none."""
        inbox, results = self._stream.inbox, self._results
        if results.looks:
            message = results.rows(inbox, self._longest_end)
            self._after = results.after if message is not None else self._after
            return message
        end, count = (inbox.at, 0) if self._continued else inbox.run(self._longest_end)
        if count:
            results.counted += count
            self._after = sequence + count
            return Message(S, "row", moved(inbox.take(end - inbox.at), self._link.shift), count=count)
        if size <= STREAM_OVER and inbox.left < 4 + size:
            return None
        count = 0 if self._continued else 1
        self._row = size if count else self._row + size
        if self._row > MAX_ROW:
            raise ProtocolError(f"a row of {self._row} bytes: the limit is {MAX_ROW}")
        results.counted += count
        self._rest, self._continued, self._after = 4 + size, size == FULL, sequence + 1
        piece = self._piece(count)
        return replace(piece, raw=moved_first(piece.raw, self._link.shift))

    def _piece(self, count: int) -> Message:
        inbox = self._stream.inbox
        size = min(self._rest, inbox.left)
        self._rest -= size
        return Message(S, "row", inbox.take(size), count=count)

    # -- whole packets ------------------------------------------------------------------------------------------

    def _begin(self, head: Request, sequence: int) -> None:
        """Turn to the next request, whose answer comes."""
        link = self._link
        self._started = True
        numbered = GRAMMARS[head.kind] != "auth" and not self._stream.algorithm
        link.shift = (head.sequence - sequence) & 0xFF if numbered else 0
        self._frame = head.frame
        self._results.begin(head)

    def _whole(self, raw: bytes, sequence: int) -> Iterator[Message]:
        """Yield what one packet comes to."""
        link, head = self._link, self._ledger.head
        if link.phase == "greeting":
            yield self._greeting(raw)
            return
        if raw[4:5] == b"\xff":
            yield from self._error(head, raw)
            return
        if head is None:
            raise ProtocolError("the server speaks before it was asked")
        if len(raw) == 4:
            raise ProtocolError("an answer without content")
        if GRAMMARS[head.kind] == "auth":
            yield from self._auth(head, raw)
            return
        if self._results.step == "file":
            self._after_file(sequence)
        for found in self._results.packet(head, raw):
            if self._results.step == "file" and len(self._ledger.queue) > 1:
                raise ProtocolError("the server asks for a file after the client went on")
            if isinstance(found, Message):
                yield found
            elif found is None:
                yield from self._turn(head)
            else:
                yield from self._ended(head, found, raw)

    def _greeting(self, raw: bytes) -> Message:
        link = self._link
        if raw[3]:
            raise ProtocolError("packets out of order")
        if raw[4:5] == b"\xff":
            return self._report(raw, refusals.read_failure(raw[4:]))
        offer = login.read_offer(raw[4:])
        raw, gone = login.reduced(raw, offer)
        link.offered, link.withheld = offer.capabilities & ~gone, gone
        link.mariadb, link.plugin, link.key = offer.mariadb, offer.plugin, offer.connection
        link.phase = "login"
        text = offer.version + (f"; not offered to the client: {caps.words(gone)}" if gone else "")
        number = str(int.from_bytes(offer.connection, "little"))
        return Message(S, "greeting", raw, text=text, status=number)

    def _auth(self, head: Request, raw: bytes) -> Iterator[Message]:
        """Read what a plugin says, or that the login is through."""
        link, payload = self._link, raw[4:]
        first, plugin = payload[0], ""
        if first == OK and len(payload) >= 7:
            yield from self._logged_in(head, raw)
            return
        if first in (EOF, NEXT_FACTOR):
            plugin = payload[1:].partition(b"\0")[0].decode("ascii", "replace") or "mysql_old_password"
            if plugin == login.CLEAR_TEXT:
                login.refuse_clear_text(link)
            link.plugin = plugin
        link.asked = not (payload == FAST_PASSED and link.plugin == "caching_sha2_password")
        yield Message(S, "auth", raw, text=plugin)

    def _logged_in(self, head: Request, raw: bytes) -> Iterator[Message]:
        link = self._link
        link.phase, link.ready, link.asked = "command", True, False
        link.charset = link.charset_next
        if head.kind == "change-user":
            link.renew()
        ok = refusals.read_ok(raw[4:], link.capabilities)
        yield from self._ended(head, ok, raw)
        if link.algorithm and not self._stream.algorithm:
            self._stream.compress(link.algorithm)
            self._client.compress(link.algorithm)

    def _after_file(self, sequence: int) -> None:
        """The server answers what it made of a file, whether or not it read it to the end."""
        link = self._link
        if not link.file_ended:
            link.dropping = True  # it reads no more of it: what the client still sends would be taken for commands
        elif not self._stream.algorithm:
            link.shift = (link.sequence_client + 1 - sequence) & 0xFF
        self._frame = (link.frame_client + 1) & 0xFF
        self._results.step = "first"

    # -- ends ---------------------------------------------------------------------------------------------------

    def _ended(self, head: Request, ok: Ok, raw: bytes) -> Iterator[Message]:
        """Yield what an OK or the end of rows comes to."""
        link, results = self._link, self._results
        link.status = ok.status
        if link.upload_refusal is not None:
            if ok.status & caps.MORE_RESULTS:
                raise ProtocolError("results after those of an upload that was refused")
            yield from self._error(head, raw, Failure.of("denied", link.upload_refusal))
            return
        for name, value in ok.variables():
            if name == "character_set_client":
                link.charset = charsets.named(value)
            if head.kind != "inject":
                yield Message(S, "parameter", b"", name=name, status=value)
        if head.redact:
            less = refusals.bare(ok)
            raw = raw if less is ok else packets(less.write(link.capabilities), raw[3])
            ok = less
        raw = moved(raw, link.shift)
        rows, last = results.step == "rows", not ok.status & caps.MORE_RESULTS
        status = f"ROWS {results.counted}" if rows else f"OK {ok.affected}"
        if head.kind == "inject":
            yield results.injected(status)
        else:
            suspended = rows and ok.status & caps.CURSOR_EXISTS and not ok.status & caps.LAST_ROW_SENT
            words = caps.status_words(ok.status, ok.warnings) + (LOGIN if GRAMMARS[head.kind] == "auth" else "")
            info = link.charset.decode(ok.info)
            yield Message(S, "suspended" if suspended else "complete", raw, text=info, status=status, cursor=words)
        if last:
            if head.kind == "reset-connection":
                link.renew()
            yield from self._turn(head)
        else:
            results.another()

    def _error(self, head: Request | None, raw: bytes, own: Failure | None = None) -> Iterator[Message]:
        """Yield what an error comes to."""
        link, failure = self._link, own or refusals.read_failure(raw[4:])
        if head is None:  # the server ends the connection
            yield self._report(raw, failure)
            return
        if failure.number == PROGRESS_NUMBER and own is None:
            if not self._progresses(head):
                raise ProtocolError("a progress report that was not asked for")
            yield from () if head.kind == "inject" else (Message(S, "progress", moved(raw, link.shift)),)
            return
        if self._results.step == "file":
            self._after_file(raw[3])
        refusal, link.upload_refusal = link.upload_refusal, None
        if refusal is not None:
            failure = Failure.of("denied", refusal)
        elif head.redact:
            failure = refusals.withheld(failure)
        if refusal is not None or head.redact:
            raw = packets(failure.write(), raw[3])
        self._results.failed(head)
        words = "ready" + (LOGIN if GRAMMARS[head.kind] == "auth" else "")
        if head.kind == "inject":
            self._results.failure = failure
        elif refusal is not None and link.dropping:  # the client hears of it when it has sent its file to the end
            link.upload_answer = failure.write()
            yield self._report(b"", failure)
        else:
            yield self._report(moved(raw, link.shift), failure, words)
        if head.kind == "change-user":
            link.phase = "command"
        yield from self._turn(head)

    def _progresses(self, head: Request) -> bool:
        agreed = self._link.capabilities & (caps.PROGRESS | (caps.EXTENSION if self._link.mariadb else 0))
        return bool(agreed) and GRAMMARS[head.kind] == "results"

    def _report(self, raw: bytes, failure: Failure, words: str = "ready") -> Message:
        text, state = self._link.charset.decode(failure.text), failure.state.decode("ascii", "replace")
        return Message(S, "error", raw, text=text, name=str(failure.number), status=state, cursor=words)

    def _turn(self, head: Request) -> Iterator[Message]:
        """Note that the head is answered; yield our own answers to refused ones behind it."""
        if head.kind == "inject":
            yield self._results.injected_done()
        queue = self._ledger.queue
        queue.popleft()
        self._started = False
        while queue and queue[0].refusal is not None:
            refused = queue.popleft()
            assert refused.refusal is not None
            self._frame = refused.frame
            raw = packets(refused.refusal, refused.sequence)
            yield self._report(raw, refusals.read_failure(refused.refusal), "refused")
