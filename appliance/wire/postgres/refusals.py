"""Errors and notices: reading, rewriting and taking data out of them.

Source: PostgreSQL 17 manual, "Error and Notice Message Fields".
"""

import msgspec

from appliance.model import ProtocolError
from appliance.wire.postgres.encodings import Encoding
from appliance.wire.postgres.frames import frame

WITHHELD = "message withheld by vendorgate"

# What a code means, in words of our own: the server's might quote a row. Appendix "PostgreSQL Error Codes".
MEANINGS = {
    b"22001": "value too long",
    b"22003": "numeric value out of range",
    b"22007": "invalid date or time",
    b"22012": "division by zero",
    b"22P02": "invalid text representation",
    b"23502": "a column may not be null",
    b"23503": "a foreign key is violated",
    b"23505": "a unique constraint is violated",
    b"23514": "a check constraint is violated",
    b"25P02": "current transaction is aborted, commands ignored until end of transaction block",
    b"40001": "could not serialize access",
    b"40P01": "deadlock detected",
    b"42501": "permission denied",
    b"42601": "syntax error",
    b"42703": "column does not exist",
    b"42804": "datatype mismatch",
    b"42883": "function or operator does not exist",
    b"42P01": "relation does not exist",
    b"55P03": "lock not available",
    b"57014": "canceling statement",
}

# A statement no version of the grammar takes, so it fails the same way in every state of a transaction.
REFUSED = b"vendorgate refused"

CODES = {  # appendix "PostgreSQL Error Codes"
    "denied": "42501",  # insufficient_privilege
    "cancelled": "57014",  # query_canceled
    "malformed": "08P01",  # protocol_violation
    "failed": "58000",  # system_error
}


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """What a request that was not let through fails with."""

    code: str  # SQLSTATE
    text: str

    @classmethod
    def of(cls, code: str, text: str) -> "Refusal":
        return cls(CODES[code], text)


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The fields of an error or notice that we keep."""

    severity: bytes  # in the server's language
    level: bytes  # in English; empty before server 9.6
    code: bytes
    text: bytes

    @property
    def fatal(self) -> bool:
        return (self.level or self.severity) in {b"FATAL", b"PANIC"}

    def write(self, tag: bytes) -> bytes:
        """Return the frame with these fields and no other."""
        level = b"V" + self.level + b"\0" if self.level else b""
        body = b"S" + self.severity + b"\0" + level + b"C" + self.code + b"\0M" + self.text + b"\0\0"
        return frame(tag, body)


def read(body: bytes) -> Failure:
    """Read an ErrorResponse or NoticeResponse."""
    if not body.endswith(b"\0"):
        raise ProtocolError("an error report without its end")
    severity = level = code = text = b""
    for part in body[:-1].split(b"\0"):
        match part[:1]:
            case b"S":
                severity = part[1:]
            case b"V":
                level = part[1:]
            case b"C":
                code = part[1:]
            case b"M":
                text = part[1:]
    return Failure(severity, level, code, text)


def refused(failure: Failure, refusal: Refusal, encoding: Encoding) -> Failure:
    """Return the server's failure in the words of the refusal."""
    return Failure(failure.severity, failure.level, refusal.code.encode(), encoding.speak(refusal.text))


def withheld(failure: Failure) -> Failure:
    """Return the failure with nothing in it that could come from a row."""
    meaning = MEANINGS.get(failure.code)
    text = f"{meaning} ({WITHHELD})" if meaning else WITHHELD
    return Failure(failure.severity, failure.level, failure.code, text.encode())


def notice(text: str, encoding: Encoding) -> bytes:
    return Failure(b"NOTICE", b"NOTICE", b"00000", encoding.speak(text)).write(b"N")


def fatal(text: str, encoding: Encoding, code: str = "denied") -> bytes:
    return Failure(b"FATAL", b"FATAL", CODES[code].encode(), encoding.speak(text)).write(b"E")
