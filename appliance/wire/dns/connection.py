"""DNS between one client and one server, in datagrams or over a connection.

An answer goes down only if it answers a question that went up: same number, name, type and class. In datagrams what
does not is dropped, as a resolver would (RFC 5452), and so is what is malformed: anybody may have sent it. Over a
connection only the server can, and its flow ends.
"""

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from appliance.model import Column, Message, ProtocolError, Send, Side, Value
from appliance.wire import Plan
from appliance.wire.datagrams import Datagrams
from appliance.wire.dns import message as messages
from appliance.wire.dns import names, rewrite
from appliance.wire.dns.message import HEAD, OPCODE, QR, RA, RD, Parsed, Question, parse
from appliance.wire.dns.numbers import (
    AXFR,
    BLOCKED,
    EDE,
    IXFR,
    NXDOMAIN,
    OPT,
    REFUSED,
    SERVFAIL,
    class_name,
    code_name,
    option_name,
    type_name,
)
from appliance.wire.inbox import Inbox

MAX_OPEN = 256  # questions of one flow without an answer; ours: servers leave some 100 on a connection waiting
MAX_SHOWN = 20  # records that stand in the text of an answer; ours
MAX_REASON = 200  # bytes of the text in a refusal; ours: with the longest name it stays below 512, RFC 1035's datagram
EDNS_SIZE = 1232  # bytes of UDP we say we take; DNS flag day 2020
CODES = {"denied": REFUSED, "refused": REFUSED, "nxdomain": NXDOMAIN, "cancelled": SERVFAIL}
TRANSFERS = (AXFR, IXFR)


class _Open(msgspec.Struct, frozen=True):
    """A question that went up, `times` of it."""

    question: Question
    plan: Plan | None
    times: int = 1


class DNS(Datagrams):
    """DNS in datagrams, as `wire.Wire` says."""

    name = "dns"

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, str, int, int], _Open] = OrderedDict()

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        if side is Side.CLIENT:
            yield self._asks(data, data)
            return
        try:
            yield self._answers(data, data)
        except ProtocolError as error:
            yield Message(Side.SERVER, "stray", b"", text=f"an answer that is dropped: {error}")

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        found = parse(self._inner(message.raw))
        assert found.question is not None
        if found.question.type in TRANSFERS:
            return self.deny(message, "refused", "transfers of zones are not passed by vendorgate")
        key = _key(found.id, found.question)
        before = self._open.pop(key, None)
        self._open[key] = _Open(found.question, plan, before.times + 1 if before else 1)
        if len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)
        return [Send(Side.SERVER, message.raw)]

    def deny(self, message: Message, code: str, text: str) -> list[Send]:
        return [Send(Side.CLIENT, self._outer(refusal(self._inner(message.raw), CODES[code], text)))]

    def withheld(self, message: Message, code: str, text: str) -> Message:
        """Return an answer that the client may not see, as a refusal of what it asked."""
        raw = self._outer(refusal(self._inner(message.raw), CODES[code], text))
        return msgspec.structs.replace(message, raw=raw, text=text, values=(), cursor="")

    # -- one message ---------------------------------------------------------------------------------------------

    def _asks(self, data: bytes, raw: bytes) -> Message:
        found = parse(data)
        if found.answers or found.question is None:
            raise ProtocolError("a client that answers")
        question = found.question
        edns = found.edns
        options = messages.options(edns) if edns is not None else []
        name, kind = names.text(question.name), type_name(question.type)
        return Message(
            Side.CLIENT,
            "question",
            raw,
            text=f"{kind} {name}" if question.class_ == 1 else f"{kind} {name} {class_name(question.class_)}",
            name=name,
            cursor=class_name(question.class_),
            status=kind,
            values=tuple(Value(option_name(number).encode()) for number, _ in options),
        )

    def _answers(self, data: bytes, raw: bytes) -> Message:
        found = parse(data)
        if not found.answers:
            raise ProtocolError("a server that asks")
        entry = self._asked(found)
        asked = entry.question
        found = msgspec.structs.replace(found, question=asked)
        records, ttl = messages.chain(data, found)
        addresses = [host for record in records for host in messages.hosts(record)]
        # What is beside the chain is told too: a client may look at it, and a tunnel's other end can.
        mine = {id(record) for record in records}
        beside = [r for r in found.records if r.section == 0 and not (id(r) in mine and messages.hosts(r))]
        # There are clients that take any address in an answer (musl), or what comes with it, whatever name it is of.
        others = [host for r in found.records if id(r) not in mine for host in messages.hosts(r)]
        first = [record for record in found.records if record.section == 0][:MAX_SHOWN]
        shown = [f"{type_name(record.type)} {messages.shown(data, record)}" for record in first]
        opens = rewrite.hides(found)
        message = Message(
            Side.SERVER,
            "answer",
            self._outer(rewrite.opened(data, found)) if opens else raw,
            text=" ".join([code_name(found.code), type_name(asked.type), names.text(asked.name), *shown]),
            name=names.text(asked.name),
            cursor=str(ttl),
            values=(
                *(Value(host.encode(), 1) for host in addresses),
                *(Value(messages.shown(data, record).encode(), 0) for record in beside),
                *(Value(host.encode(), 2) for host in others),
            ),
        )
        if entry.plan is not None and _masked(message, entry.plan):
            return msgspec.structs.replace(self.withheld(message, "refused", "masked by vendorgate"), masked=1)
        return message

    def _asked(self, found: Parsed) -> _Open:
        """Return the question that is answered, and count the answer.

        Raises:
            ProtocolError: nobody asked.
        """
        if found.question is None:  # as servers do that could not read it
            keys = [key for key in self._open if key[0] == found.id]
        else:
            keys = [_key(found.id, found.question)]
        for key in keys:
            entry = self._open.pop(key, None)
            if entry is not None:
                if entry.times > 1:
                    self._open[key] = _Open(entry.question, entry.plan, entry.times - 1)
                return entry
        raise ProtocolError("an answer to what was not asked")

    def _inner(self, raw: bytes) -> bytes:
        return raw

    def _outer(self, data: bytes) -> bytes:
        return data


class DNSStream(DNS):
    """DNS over a connection: each message behind its length (RFC 1035 section 4.2.2, RFC 7766)."""

    def __init__(self) -> None:
        super().__init__()
        self._inboxes = {side: Inbox() for side in Side}

    def feed(self, side: Side, data: bytes) -> Iterator[Message]:
        inbox = self._inboxes[side]
        inbox.add(data)
        while inbox.left >= 2:
            size = int.from_bytes(inbox.data[inbox.at : inbox.at + 2], "big")
            if size < HEAD:
                raise ProtocolError("a DNS message that is too short")
            if inbox.left < size + 2:
                return
            raw = inbox.take(size + 2)
            yield self._asks(raw[2:], raw) if side is Side.CLIENT else self._answers(raw[2:], raw)

    def allow(self, message: Message, plan: Plan | None = None, redact: bool = False) -> list[Send]:
        if len(self._open) >= MAX_OPEN:
            raise ProtocolError(f"more than {MAX_OPEN} questions without an answer")
        return super().allow(message, plan, redact)

    def _inner(self, raw: bytes) -> bytes:
        return raw[2:]

    def _outer(self, data: bytes) -> bytes:
        return len(data).to_bytes(2, "big") + data

    @property
    def idle(self) -> bool:
        return not self._open

    @property
    def busy(self) -> bool:
        return bool(self._open)


def _masked(message: Message, plan: Plan) -> bool:
    """Return True if a mask would change something in an answer. There is no half of a record: it goes as a whole."""
    cells = plan((Column(""),))
    cell = cells[0] if cells else None
    texts = [(value.data or b"").decode() for value in message.values]
    return cell is not None and any(cell(text) is not text for text in texts)


def _key(id_: int, question: Question) -> tuple[int, str, int, int]:
    return id_, names.text(question.name), question.type, question.class_


def refusal(data: bytes, code: int, text: str) -> bytes:
    """Return the answer that refuses the question in `data`, itself a question or the answer to it."""
    found = parse(data)
    edns = found.edns
    flags = QR | (found.flags & (OPCODE | RD)) | RA | code
    head = data[:2] + flags.to_bytes(2, "big") + b"\0\1\0\0\0\0" + (b"\0\1" if edns is not None else b"\0\0")
    question = found.question
    if question is None:
        return head[:4] + bytes(8)
    asked = names.write(question.name) + question.type.to_bytes(2, "big") + question.class_.to_bytes(2, "big")
    if edns is None:
        return head + asked
    why = BLOCKED.to_bytes(2, "big") + text.encode()[:MAX_REASON]
    option = EDE.to_bytes(2, "big") + len(why).to_bytes(2, "big") + why
    opt = b"\0" + OPT.to_bytes(2, "big") + EDNS_SIZE.to_bytes(2, "big") + bytes(4)
    return head + asked + opt + len(option).to_bytes(2, "big") + option
