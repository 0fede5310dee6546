"""Frames of RESP2 and RESP3: limits, numbers, taking lines apart, writing.

Source: Redis documentation, "Redis serialization protocol specification"; limits from the server's own sources where
it has one (server.h and networking.c of 7.0).
"""

from collections.abc import Sequence

from appliance.model import ProtocolError

MIB = 1 << 20

MAX_INLINE = 64 * 1024  # bytes of one inline command; PROTO_INLINE_MAX_SIZE of the server
MAX_HEAD = 32  # bytes of a line that holds a length; ours: a 64-bit number has at most 20 digits
MAX_COMMAND = 64 * MIB  # bytes; ours: what one command may cost in memory. The server takes 512 MiB a string
MAX_ARGUMENTS = 262_144  # of one command; ours: about 100 bytes each in memory. The server takes 1,048,576
MAX_SHOWN = 1024  # bytes of one argument that stand in the text of a command; its raw bytes have all
MAX_LINE = 64 * 1024  # bytes of all of them there; ours: each that is no text is written by itself, in four characters
MAX_MASKED = 64 * MIB  # bytes; ours: a string must be whole before it can be masked
MAX_DEPTH = 128  # aggregates inside each other, of a reply that is masked; ours: a script can nest at most as deep
MAX_SMALL = 64 * 1024  # bytes of a reply that is read as a whole for what it says of the connection; ours
MAX_INJECTED = MIB  # bytes of the answer to a command of our own; ours: it names keys of at most MAX_SMALL bytes
MAX_PIPELINE = 131_072  # commands sent and not answered; ours, as of the other protocols
MAX_QUEUED = 131_072  # commands in one transaction; ours
MAX_FEEDS = MIB  # bytes of names of channels whose messages are masked; ours: some ten thousand
MAX_FEED = 16 * 1024  # bytes of one of them; ours: it is read with the beginning of each message, see MAX_SMALL
STREAM_OVER = 64 * 1024  # bytes; ours: a longer line that nobody masks goes down in pieces

CRLF = b"\r\n"
BLANK = b" \t\r\n"


def number(text: bytes | bytearray) -> int | None:
    """Return a number written as both sides write lengths: no sign but "-", no zero in front; None if it is none."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(digits) > 19 or (digits[0] == 0x30 and text != b"0"):
        return None
    return int(text)


def length(data: bytearray, at: int, what: str) -> tuple[int, int] | None:
    """Return the number in the line at `at`, after its first byte, and where the next line begins; None: not whole.

    Raises:
        ProtocolError: the line is too long, is no number, or does not end in CR LF.
    """
    end = data.find(CRLF, at, at + MAX_HEAD)
    if end < 0:
        if len(data) - at >= MAX_HEAD or b"\n" in data[at:]:
            raise ProtocolError(f"the length of {what} is no number")
        return None
    found = number(data[at + 1 : end])
    if found is None:
        raise ProtocolError(f"the length of {what} is no number")
    return found, end + 2


def command(*words: bytes) -> bytes:
    """Write a command."""
    return b"".join((b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)))


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def error(code: str, text: str) -> bytes:
    """Write an error; what would end its line is a space."""
    said = " ".join(f"{code} {text}".split())
    return b"-" + said.encode("utf-8", "backslashreplace") + CRLF


def shown(data: bytes | bytearray) -> str:
    """Return bytes as text: UTF-8, and \\xNN for what is none."""
    return data.decode("utf-8", "backslashreplace")


def words(line: bytes) -> list[bytes] | None:
    """Return the arguments of an inline command, as sdssplitargs of the server; None if a quote is not closed."""
    found: list[bytes] = []
    at, end = 0, len(line)
    while True:
        while at < end and line[at] in BLANK:
            at += 1
        if at == end:
            return found
        word, at = _word(line, at)
        if at < 0:
            return None
        found.append(word)


ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
HEX = frozenset(b"0123456789abcdefABCDEF")


def _word(line: bytes, at: int) -> tuple[bytes, int]:
    """Return the word at `at` and where it ends; -1 if a quote is not closed, or text follows its end."""
    word, end = bytearray(), len(line)
    while at < end and line[at] not in BLANK:
        byte = line[at]
        if byte == 0x22:
            at = _double(line, at + 1, word)
        elif byte == 0x27:
            at = _single(line, at + 1, word)
        else:
            word.append(byte)
            at += 1
            continue
        if at < 0 or (at < end and line[at] not in BLANK):
            return b"", -1
        break
    return bytes(word), at


def _double(line: bytes, at: int, word: bytearray) -> int:
    while at < len(line):
        byte = line[at]
        digits = line[at + 2 : at + 4]
        if byte == 0x5C and line[at + 1 : at + 2] == b"x" and len(digits) == 2 and HEX.issuperset(digits):
            word.append(int(digits, 16))
            at += 4
        elif byte == 0x5C and at + 1 < len(line):
            word.append(ESCAPES.get(line[at + 1], line[at + 1]))
            at += 2
        elif byte == 0x22:
            return at + 1
        else:
            word.append(byte)
            at += 1
    return -1


def _single(line: bytes, at: int, word: bytearray) -> int:
    while at < len(line):
        if line[at : at + 2] == b"\\'":
            word.append(0x27)
            at += 2
        elif line[at] == 0x27:
            return at + 1
        else:
            word.append(line[at])
            at += 1
    return -1


def text(arguments: Sequence[bytes]) -> str:
    """Return a command as a person would type it, long arguments cut, and so many."""
    if sum(map(len, arguments)) <= MAX_LINE:
        return " ".join([_typed(argument) for argument in arguments])
    left = MAX_LINE
    found: list[str] = []
    for argument in arguments:
        left -= min(len(argument), MAX_SHOWN) + 1
        if left < 0:
            return f"{' '.join(found)} ... ({len(arguments)} arguments)"
        found.append(_typed(argument))
    return " ".join(found)


def _typed(argument: bytes) -> str:
    if argument.isalnum() and len(argument) <= MAX_SHOWN:  # of ASCII, most of what commands are made of
        return argument.decode("ascii")
    said = argument[:MAX_SHOWN].decode("utf-8", "surrogateescape")
    more = f"... ({len(argument)} bytes)" if len(argument) > MAX_SHOWN else ""
    quotes = " " in said or '"' in said or "'" in said or "\\" in said
    if said and not quotes and said.isprintable():
        return said + more
    return '"' + "".join(map(_escaped, said)) + '"' + more


def _escaped(char: str) -> str:
    if char.isprintable():
        return "\\" + char if char in '"\\' else char
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    return named or "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
