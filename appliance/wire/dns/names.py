"""Domain names as DNS messages hold them.

Source: RFC 1035 sections 3.1 and 4.1.4, RFC 4343 (case), RFC 3597 (compression only where RFC 1035 has it).

A name here is a tuple of labels as they came. Its text, by which rules know it, has one form: small letters, no dot at
the end, and each byte of a label that is not a plain character as \\DDD, dots among them, so that no label looks like
two. International names stay in the form of the wire, "xn--...".
"""

from appliance.model import ProtocolError

Labels = tuple[bytes, ...]

MAX_NAME = 255  # bytes with all lengths; RFC 1035 section 2.3.4
MAX_LABEL = 63  # bytes; the same
MAX_POINTERS = 16  # one name may follow; ours: honest ones follow one or two
POINTER = 0xC0  # the two high bits of a length that is none


def read(data: bytes, at: int) -> tuple[Labels, int]:
    """Return the name at `at` and where what follows it begins.

    Raises:
        ProtocolError: it is cut short, too long, or its pointers do not lead strictly back.
    """
    labels: list[bytes] = []
    size, end, pointers, start = 1, 0, 0, at
    while True:
        length = _byte(data, at)
        if length >= POINTER:
            target = (length & 0x3F) << 8 | _byte(data, at + 1)
            end, pointers = end or at + 2, pointers + 1
            if target >= start or target < 12 or pointers > MAX_POINTERS:
                raise ProtocolError("a name whose pointers do not lead back")
            at = start = target
            continue
        if length > MAX_LABEL:
            raise ProtocolError("a label of a kind that is not in use")
        if not length:
            return tuple(labels), end or at + 1
        label = data[at + 1 : at + 1 + length]
        size += length + 1
        if len(label) < length or size > MAX_NAME:
            raise ProtocolError("a name that is cut short" if len(label) < length else f"a name over {MAX_NAME} bytes")
        labels.append(label)
        at += 1 + length


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise ProtocolError("a name that is cut short")
    return data[at]


def text(labels: Labels) -> str:
    """Return the one form by which rules know a name."""
    return ".".join(_label(label.lower()) for label in labels) or "."


def _label(label: bytes) -> str:
    if label.isalnum():
        return label.decode("ascii")
    return "".join(chr(c) if 0x21 <= c <= 0x7E and c not in b".\\" else f"\\{c:03}" for c in label)


def key(labels: Labels) -> Labels:
    """Return what two names have in common if they are the `same`."""
    return tuple(label.lower() for label in labels)


def same(one: Labels, other: Labels) -> bool:
    """Compare as DNS does: letters of ASCII in either case are one."""
    return len(one) == len(other) and all(a.lower() == b.lower() for a, b in zip(one, other, strict=True))


def below(name: Labels, zone: Labels) -> bool:
    """Return True if `name` is below `zone`."""
    return len(name) > len(zone) and same(name[len(name) - len(zone) :], zone)


def write(labels: Labels) -> bytes:
    """Return a name without pointers."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


class Writer:
    """A message that is written anew, names compressed as RFC 1035 section 4.1.4 has it."""

    def __init__(self, head: bytes) -> None:
        self.data = bytearray(head)
        self._places: dict[Labels, int] = {}

    def add(self, data: bytes) -> None:
        self.data += data

    def name(self, labels: Labels) -> None:
        """Write a name, its end by a pointer if that has stood before, letter by letter."""
        for at in range(len(labels)):
            place = self._places.get(labels[at:])
            if place is not None:
                self.data += (POINTER << 8 | place).to_bytes(2, "big")
                return
            if len(self.data) < 0x4000:  # what a pointer can say
                self._places[labels[at:]] = len(self.data)
            self.data += bytes((len(labels[at]),)) + labels[at]
        self.data += b"\0"
