"""Follows the questions and answers of one DNS flow.

Keys of `Facts.values` (facts/words/dns.py has the rules' side): qname, qtype, qclass, labels, label, length, entropy,
option, size, rate, bytes, unit_rate, unit_bytes; with the answer also answer and rcode; and `text`, the name, or what
the answer tells, for detectors.

As a person types it a question is "TXT www.example.com", or a name alone, which asks for A.
"""

import math
import re
from collections import Counter, OrderedDict

import msgspec

from appliance.facts import Facts
from appliance.facts.datagram import Reading
from appliance.facts.hosts import public
from appliance.facts.moved import Moved
from appliance.facts.shared import Shared
from appliance.facts.words.dns import TYPES
from appliance.model import Learned, Message, Process

MAX_OPEN = 256  # questions of a flow whose facts are kept for their answers; as many as the wire keeps
MAX_KEPT = 8192  # the same of all flows of a worker; ours: 5 kB each with the longest names. A second of questions of 8
# vendors, each as fast as it may; who asks more is not answered, and of the others those whose answers take long
ZONE = 2  # labels at the end of a name that entropy is not of: they are a zone's, nobody tells anything by them
INTERNAL = "internal"  # among `answer`: an address that is not of the public network
MIN_TTL_S, MAX_TTL_S = 60.0, 86_400.0  # how long a name is believed; ours: clients keep what they asked for a while,
# whatever a TTL of 0 says, and a name must not hold for ever
ADDRESS, ELSEWHERE = 1, 2  # types of values of an answer: addresses of what was asked, and of other names
FIXED = 16  # bytes of a question besides its name: header, type and class
# "_8443._https.www.example" tells of www.example (RFC 9460 section 9.1); other such names may be somebody else's, who
# proves something there ("_acme-challenge").
PORT = re.compile(r"_[0-9]+\._https\.(?=.)")
DIGITS = 4  # characters of a byte that is no plain character, in a name's text: \\DDD


class Moves(Moved):
    """What DNS moved."""


class Due:
    """The questions of all flows whose answers are due, the oldest first. Mutable."""

    def __init__(self) -> None:
        self._order: OrderedDict[tuple[int, str], DNS] = OrderedDict()  # by reader and key

    def add(self, reader: "DNS", key: str) -> None:
        self._order[id(reader), key] = reader
        self._order.move_to_end((id(reader), key))
        if len(self._order) > MAX_KEPT:
            (_, oldest), other = self._order.popitem(last=False)
            other.forget(oldest)

    def drop(self, reader: "DNS", key: str) -> None:
        self._order.pop((id(reader), key), None)


def follow(shared: Shared, process: Process | None) -> "DNS":
    """Return a reader for one flow, as `facts.readers.open` says."""
    return DNS(shared, process)


class DNS(Reading):
    """Reader of one flow, as `facts.Reader` says; and it tells what answers do."""

    def __init__(self, shared: Shared, process: Process | None) -> None:
        super().__init__(shared, process, Moves)
        self._due = shared.of(Due)
        self._asked: OrderedDict[str, tuple[Facts, int]] = OrderedDict()  # with the answers that are due

    def ask(self, message: Message) -> Facts | None:
        message = typed(message) if message.kind == "query" else message
        size = len(message.raw) or FIXED + len(message.name) + 2
        labels = [] if message.name == "." else message.name.split(".")
        sizes = [_size(label) for label in labels]
        values = {
            "qname": frozenset((message.name,)),
            "qtype": frozenset((message.status,)),
            "qclass": frozenset((message.cursor,)),
            "labels": frozenset((str(len(labels)),)),
            "label": frozenset((str(max(sizes, default=0)),)),
            "length": frozenset((str(sum(sizes) + len(sizes) + 1),)),
            "entropy": frozenset((str(entropy("".join(labels[:-ZONE]))),)),
            "option": frozenset((value.data or b"").decode() for value in message.values),
            "size": frozenset((str(size),)),
            "text": frozenset((message.name,)),
            **self._volumes(size),
        }
        return Facts("dns", values, subject=message.text)

    def sent(self, message: Message) -> None:
        facts = self.ask(message)
        assert facts is not None
        message = typed(message) if message.kind == "query" else message
        key = f"{message.status} {message.name}"
        self._asked[key] = (facts, self._asked.pop(key, (facts, 0))[1] + 1)
        self._due.add(self, key)
        if len(self._asked) > MAX_OPEN:
            self._due.drop(self, self._asked.popitem(last=False)[0])
        self._went(len(message.raw))

    def forget(self, key: str) -> None:
        """Its answer could not be judged, and is withheld."""
        self._asked.pop(key, None)

    def told(self, message: Message) -> Facts | None:
        """Return what an answer would do: the facts of its question, and what it tells."""
        code, *words = message.text.split(" ", 3)
        key = " ".join(words[:2])
        asked, due = self._asked.pop(key, (None, 0))
        self._due.drop(self, key)
        if message.kind != "answer" or asked is None:
            return None
        if due > 1:
            self._asked[key] = (asked, due - 1)
            self._due.add(self, key)
        texts = [(value.data or b"").decode() for value in message.values]
        told = zip(texts, message.values, strict=True)
        addresses = [text for text, value in told if value.type in (ADDRESS, ELSEWHERE)]
        inside = {INTERNAL} if not all(map(public, addresses)) else set()
        values = {
            **asked.values,
            "answer": frozenset((*texts, *inside)),
            "rcode": frozenset((code,)),
            "text": frozenset((message.name, *texts)),
        }
        return msgspec.structs.replace(asked, values=values, subject=message.text)

    def learned(self, message: Message) -> Learned | None:
        """Return the name an answer gives to addresses."""
        hosts = tuple((value.data or b"").decode() for value in message.values if value.type == ADDRESS)
        if message.kind != "answer" or not hosts:
            return None
        name = message.name
        if message.text.split(" ", 2)[1] == "HTTPS":
            name = PORT.sub("", name)
        return Learned(name, hosts, min(max(float(message.cursor), MIN_TTL_S), MAX_TTL_S))


def typed(message: Message) -> Message:
    """Return a question that a person typed as it comes from a wire."""
    words = message.text.split()
    kind = words[0].upper() if len(words) > 1 and words[0].upper() in TYPES else "A"
    name = (words[-1] if words else ".").lower().rstrip(".") or "."
    return msgspec.structs.replace(message, kind="question", text=f"{kind} {name}", name=name, status=kind, cursor="IN")


def _size(label: str) -> int:
    """Return the bytes of a label from its text, where a byte that is no plain character is four characters."""
    return len(label) - (DIGITS - 1) * label.count("\\")


def entropy(text: str) -> int:
    """Return hundredths of a bit a character, by how often each is there (Shannon)."""
    counts = Counter(text).values()
    bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts)
    return round(100 * bits)
