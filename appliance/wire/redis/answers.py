"""What the server says, in the form the client may see it.

Source: Redis documentation, "Redis serialization protocol specification", "Redis Pub/Sub", "Transactions", "HELLO",
"CLIENT REPLY", "MONITOR"; networking.c, pubsub.c and multi.c of 7.0.
"""

from collections.abc import Iterator

import msgspec

from appliance.model import Message, ProtocolError, Side, Value
from appliance.wire.inbox import Inbox
from appliance.wire.redis import frames, passed, replies, tags
from appliance.wire.redis.beginnings import BEGINS_STREAM, MOVED, PUSHED, TAGS, is_line
from appliance.wire.redis.frames import CRLF, MAX_INJECTED, MAX_MASKED, MAX_QUEUED, MAX_SMALL
from appliance.wire.redis.layouts import ALL, LAYOUTS, NOTHING
from appliance.wire.redis.ledger import APART, SORTS, Ledger, Link
from appliance.wire.redis.owed import Request
from appliance.wire.redis.replies import Each, Masked
from appliance.wire.redis.short import short
from appliance.wire.redis.small import Tree, first, whole


class Answers:
    """The server's direction."""

    def __init__(self, link: Link, ledger: Ledger) -> None:
        self._link, self._ledger = link, ledger
        self._inbox = Inbox()
        self._reader: passed.Passed | Masked | Each | None = None  # of the value in the middle of which we are
        self._kind = ""  # of the message it is
        self._of: Request | None = None  # what it answers
        self._status = ""
        self._began = False  # part of it has gone down
        self._looked = 0  # bytes of a line without its end

    @property
    def partial(self) -> bool:
        """True while the client has only part of a message."""
        return self._began

    def add(self, data: bytes) -> None:
        self._inbox.add(data)

    def read(self) -> Iterator[Message]:
        """Yield each message that is whole, or the part that is here of one that is not kept."""
        inbox = self._inbox
        while inbox.left:
            reader = self._reader
            if self._link.stream:
                yield Message(Side.SERVER, "replication", inbox.take(inbox.left))
            elif reader is not None:
                yield from self._more(reader)
                if self._reader is not None:
                    return
            elif (said := short(inbox, self._link, self._ledger.head)) is not None:
                self._answered()
                yield said
            else:
                messages = list(self._begin())
                yield from messages
                if not messages and self._reader is None and not self._link.stream:
                    return
        inbox.rest()

    # -- a value in the middle of which we are -------------------------------------------------------------------

    def _read(self, reader: passed.Passed | Masked | Each, kind: str, of: Request | None) -> None:
        self._reader, self._kind, self._of, self._began = reader, kind, of, False

    def _more(self, reader: passed.Passed | Masked | Each) -> Iterator[Message]:
        raw, masked = reader.read(self._inbox)
        done = reader.done
        of, kind = self._of, self._kind
        if raw or done:
            if of is not None and self._silent(of):
                raw = b""
            self._began = bool(raw) and not done
            status, self._status = self._status, ""
            name, secret = (of.name, of.secret) if of is not None else ("", False)
            yield Message(Side.SERVER, kind, raw, name=name, status=status, masked=masked, secret=secret)
        if done:
            self._reader = None
            if of is not None and kind != "attribute":
                self._answered()

    def _silent(self, request: Request) -> bool:
        """Whether the client asked to get no reply to this."""
        link = self._link
        return request.kind != "inject" and (link.muted or link.skip)

    def _answered(self) -> None:
        """Note that the head of the queue has its reply."""
        request = self._ledger.pop()
        if request.kind != "inject":
            self._link.skip = False

    def _reading(self, request: Request) -> passed.Passed | Masked:
        if request.masks:
            return Masked(request.plan, request.layout or NOTHING, request.redact, self._link.resp)
        return passed.Passed()

    # -- where a value begins ------------------------------------------------------------------------------------

    def _begin(self) -> Iterator[Message]:
        """Read what can be told at once, or begin to read the value that comes; nothing if too little is there."""
        data, at = self._inbox.data, self._inbox.at
        tag, head = data[at], self._ledger.head
        if tag == tags.PUSH or (tag == tags.ARRAY and self._may_push(head)):
            yield from self._pushed(tag, head)
        elif self._link.monitor is not None and tag == tags.STATUS and is_line(data, at) is not False:
            if is_line(data, at):
                self._read(self._reading(self._link.monitor), "push", None)
        elif head is None:
            if tag != tags.ERROR:
                raise ProtocolError("the server speaks before it was asked")
            yield from self._failed(None)
        elif tag == tags.ATTRIBUTE and head.kind != "inject":
            yield from self._attribute(head)
        else:
            yield from self._reply(tag, head)

    def _may_push(self, head: Request | None) -> bool:
        """Whether an array could be something else than a reply: in RESP2 there is no type for it."""
        return self._link.resp == 2 and (self._link.subscribed or (head is not None and head.kind == "subscribe"))

    def _reply(self, tag: int, head: Request) -> Iterator[Message]:
        if head.kind == "inject":
            yield from self._injected()
        elif head.kind == "sync" and tag == 0x0A:
            yield Message(Side.SERVER, "reply", self._inbox.take(1))  # it keeps a replica that waits awake
        elif tag in (tags.ERROR, tags.FAILURE):
            yield from self._failed(head)
        elif head.refusal and head.kind != "abort":
            raise ProtocolError(f"the server carried out a refused {head.name}")
        elif self._link.queued is not None and head.kind not in ("exec", "discard", "reset", "abort"):
            yield from self._queues(head)
        elif head.kind in READERS:
            if tag not in TAGS.get(head.kind, (tags.STATUS,)):
                raise ProtocolError(f"the server answers {chr(tag)!r} to {head.name}")
            yield from READERS[head.kind](self, head)
        elif head.kind == "subscribe":
            raise ProtocolError(f"the server answers a {head.name} with no confirmation")
        else:
            data, at = self._inbox.data, self._inbox.at
            if tag == tags.STATUS and (end := data.find(CRLF, at, at + MAX_SMALL)) > 0:
                self._status = frames.shown(data[at + 1 : end])
                if self._status == "QUEUED" and head.name in LAYOUTS and head.layout is not ALL:
                    raise ProtocolError(f"the server queues a {head.name} outside a transaction")
            self._read(self._reading(head), "reply", head)

    def _line(self) -> bytes | None:
        """Return the line that comes, without its end, or None if it is not whole. It is not taken."""
        data, at = self._inbox.data, self._inbox.at
        end = data.find(CRLF, at + self._looked)
        self._looked = max(0, self._inbox.left - 1) if end < 0 else 0
        if self._looked > MAX_MASKED:
            raise ProtocolError(f"a line of more than {MAX_MASKED} bytes")
        return None if end < 0 else bytes(data[at:end])

    def _error(self) -> tuple[bytes, bytes] | None:
        """Take the error that comes, if it is whole: what it says, and its bytes."""
        if self._inbox.data[self._inbox.at] == tags.FAILURE:
            found = self._whole(MAX_MASKED)
            return None if found is None else (found[0] if isinstance(found[0], bytes) else b"", found[1])
        line = self._line()
        return None if line is None else (line[1:], self._inbox.take(len(line) + 2))

    def _say(self, kind: str, raw: bytes, of: Request | None, status: str = "", text: str = "") -> Message:
        """Return the message for what answers the head of the queue, which it takes off."""
        if of is not None:
            raw = b"" if self._silent(of) else raw
            self._answered()
        name, secret = (of.name, of.secret) if of is not None else ("", False)
        return Message(Side.SERVER, kind, raw, text=text, name=name, status=status, secret=secret)

    def _failed(self, head: Request | None) -> Iterator[Message]:
        """Read an error."""
        found = self._error()
        if found is None:
            return
        said, raw = found
        if head is not None:
            if head.refusal:
                raw, said = head.refusal, head.refusal[1:-2]
            elif head.redact:
                said = replies.withheld(said)
                raw = b"-" + said + CRLF
            self._link.failed(head)
        text = frames.shown(said[:MAX_SMALL])
        moved = MOVED.match(text) if head is None or not head.refusal else None
        message = self._say("redirect" if moved else "error", raw, head, text.partition(" ")[0], text)
        yield msgspec.structs.replace(message, name=moved[1]) if moved else message

    def _queues(self, head: Request) -> Iterator[Message]:
        """Read that a command waits for EXEC."""
        line = self._line()
        if line is None:
            return
        if line == b"+QUEUED" and head.kind not in APART:
            assert self._link.queued is not None
            if len(self._link.queued) >= MAX_QUEUED:
                raise ProtocolError(f"more than {MAX_QUEUED} commands in a transaction")
            self._link.queued.append(head)
        elif head.name != "QUIT":
            raise ProtocolError(f"the server answers a {head.name} in a transaction with no +QUEUED")
        self._inbox.at += len(line) + 2
        yield self._say("reply", line + CRLF, head, frames.shown(line[1:]))

    def _attribute(self, head: Request) -> Iterator[Message]:
        if head.masks:
            self._read(Masked(head.plan, NOTHING, head.redact, self._link.resp, attribute=True), "attribute", head)
            return
        found = passed.head(self._inbox.data, self._inbox.at)
        if found is not None:
            raw = self._inbox.take(found[1] - self._inbox.at)
            self._read(passed.Passed(2 * max(found[0], 0)), "attribute", head)
            yield Message(Side.SERVER, "attribute", b"" if self._silent(head) else raw)

    # -- what comes unasked --------------------------------------------------------------------------------------

    def _pushed(self, tag: int, head: Request | None) -> Iterator[Message]:
        found = first(self._inbox.data, self._inbox.at)
        if found is None:
            return
        word = found[0].decode("ascii", "replace")
        if word in SORTS and (tag == tags.PUSH or self._link.subscribed or (head is not None and head.word == word)):
            yield from self._confirmed(word)
        elif tag == tags.PUSH or (word in PUSHED and self._link.subscribed):
            plan = self._link.masks(PUSHED.get(word, ""), found[1])
            self._read(Masked(plan, NOTHING, False, self._link.resp) if plan else passed.Passed(), "push", None)
        elif head is None:
            raise ProtocolError("the server speaks before it was asked")
        else:
            yield from self._reply(tag, head)

    def _confirmed(self, word: str) -> Iterator[Message]:
        """Read that a subscription begins or ends."""
        inbox = self._inbox
        found = whole(inbox.data, inbox.at, MAX_MASKED)
        if found is None:
            return
        tree, end = found
        if not (isinstance(tree, list) and len(tree) == 3 and isinstance(tree[2], int)):
            raise ProtocolError(f"the server says {word} in a form that is none")
        raw = inbox.take(end - inbox.at)
        channel = tree[1] if isinstance(tree[1], bytes) else b""
        if self._ledger.confirm(self._link, word, channel, tree[2]):
            self._answered()
        yield Message(Side.SERVER, "push", raw, name=frames.shown(channel), status=word)

    # -- replies that change the connection ----------------------------------------------------------------------

    def _whole(self, limit: int = MAX_SMALL) -> tuple[Tree, bytes] | None:
        """Take the value that comes, if it is whole."""
        inbox = self._inbox
        found = whole(inbox.data, inbox.at, limit)
        if found is None:
            return None
        return found[0], inbox.take(found[1] - inbox.at)

    def _multi(self, head: Request) -> Iterator[Message]:
        line = self._line()
        if line is not None:
            self._link.queued = []
            yield self._plain(head, line)

    def _plain(self, head: Request, line: bytes) -> Message:
        if line != (b"+RESET" if head.kind == "reset" else b"+OK"):
            raise ProtocolError(f"the server answers {frames.shown(line[:40])!r} to {head.name}")
        self._inbox.at += len(line) + 2
        return self._say("reply", line + CRLF, head, frames.shown(line[1:]))

    def _exec(self, head: Request) -> Iterator[Message]:
        yield from ()
        queued, self._link.queued = self._link.queued, None
        data, at = self._inbox.data, self._inbox.at
        size = passed.head(data, at) if data[at] == tags.ARRAY else (-1, 0)
        if size is None:
            self._link.queued = queued
        elif queued is None:
            raise ProtocolError("the server answers EXEC with no transaction open")
        elif size[0] < 0:
            self._read(passed.Passed(), "reply", head)  # nothing was done: what it watched has changed
        elif any(request.masks for request in queued):
            self._read(Each([self._reading(request) for request in queued]), "reply", self._both(head, queued))
        elif size[0] != len(queued):
            raise ProtocolError(f"{len(queued)} commands of a transaction have {size[0]} replies")
        else:
            self._read(passed.Passed(), "reply", self._both(head, queued))

    def _both(self, head: Request, queued: list[Request]) -> Request:
        """A reply of EXEC is a secret if one in it is."""
        return Request(head.name, "exec", secret=True) if any(request.secret for request in queued) else head

    def _discard(self, head: Request) -> Iterator[Message]:
        line = self._line()
        if line is not None:
            self._link.queued = None
            if head.kind == "abort" and line == b"+OK":  # its transaction is gone, as after any EXEC that fails
                self._inbox.at += len(line) + 2
                said = b"-EXECABORT Transaction discarded because of: " + head.refusal[1:]
                yield self._say("error", said, head, "EXECABORT", frames.shown(said[1:-2]))
            else:
                yield self._plain(head, line)

    def _reset(self, head: Request) -> Iterator[Message]:
        line = self._line()
        if line is not None:
            self._link.reset()
            yield self._plain(head, line)

    def _hello(self, head: Request) -> Iterator[Message]:
        tag = self._inbox.data[self._inbox.at]
        found = self._whole()
        if found is not None:
            tree, raw = found
            if not isinstance(tree, list) or tree[:1] != [b"server"]:
                raise ProtocolError("the server answers HELLO with something else")
            self._link.resp = 3 if tag == tags.MAP else 2
            told = dict(zip(map(str, tree[::2]), tree[1::2], strict=False))
            self._known(told.get(str(b"id")))
            yield self._say("reply", raw, head, str(self._link.resp))

    def _client_id(self, head: Request) -> Iterator[Message]:
        found = self._whole()
        if found is not None:
            self._known(found[0])
            yield self._say("reply", found[1], head)

    def _known(self, id: Tree) -> None:
        if isinstance(id, int):
            self._link.id = str(id).encode()

    def _mode(self, head: Request) -> Iterator[Message]:
        line = self._line()
        if line is not None:
            link = self._link
            message = self._plain(head, line)
            if head.word == "ON":
                link.muted = False
                message = Message(Side.SERVER, "reply", line + CRLF, name=head.name, status=message.status)
            else:
                link.muted = link.muted or head.word == "OFF"
                link.skip = head.word == "SKIP"
                message = Message(Side.SERVER, "reply", b"", name=head.name, status=message.status)
            yield message

    def _monitor(self, head: Request) -> Iterator[Message]:
        line = self._line()
        if line is not None:
            self._link.monitor = head
            yield self._plain(head, line)

    def _sync(self, head: Request) -> Iterator[Message]:
        line = self._line()
        if line is not None:
            if BEGINS_STREAM.match(line):
                if len(self._ledger.queue) > 1:
                    raise ProtocolError("commands behind one that turns the connection into a stream")
                self._ledger.pop()
                self._link.stream = True
            else:
                yield self._plain(head, line)

    def _injected(self) -> Iterator[Message]:
        """Read the answer to a command of our own: its strings, or the code of its error."""
        found = self._whole(MAX_INJECTED)
        if found is None:
            return
        tree, raw = found
        self._answered()
        if raw[0] == tags.ERROR:
            text = frames.shown(raw[1:-2])
            yield Message(Side.SERVER, "injected-done", b"", text=text, status=text.split(" ")[0])
            return
        values = tree if isinstance(tree, list) else [tree]
        yield Message(Side.SERVER, "injected", b"", values=tuple(Value(v) for v in values if isinstance(v, bytes)))
        yield Message(Side.SERVER, "injected-done", b"")


READERS = {
    "multi": Answers._multi,
    "exec": Answers._exec,
    "discard": Answers._discard,
    "abort": Answers._discard,
    "reset": Answers._reset,
    "hello": Answers._hello,
    "id": Answers._client_id,
    "reply": Answers._mode,
    "monitor": Answers._monitor,
    "sync": Answers._sync,
}
