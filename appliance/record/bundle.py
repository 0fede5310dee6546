"""Sessions with all that is needed to read and to prove them, as one archive.

    README.txt                what is in it
    manifest.json             every other file: name, size, SHA-256; who made it, when, of what
    manifest.sig              the signature of the host's key over it
    sessions.json             as `vendorgate sessions --json`
    sessions.pcapng .jsonl    as `vendorgate export`
    casts/ID.cast             one for each session, of the first MAX_CASTS
    approvals.jsonl           who was asked, and answered
    rules/REVISION/           the files of every revision that decided
    verify.py proof/ records/ the proof (excerpt.py); not in a redacted bundle, as the frames are in it as they were

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header". A file's size stands before it, so each
is written to disk first, and memory holds no more than a piece of it.
"""

import hashlib
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from appliance.record.packed import Signed

CONTEXT = b"vendorgate bundle 1\0"  # keeps the signature to its purpose
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
MAX_CASTS = 1_000  # recordings a person could look through; more are one export of their own
PIECE = 1 << 18  # bytes read and given out at a time
BLOCK = 512  # bytes; all of a tar is a multiple of it

README = """What some vendors' agents did over the network, as vendorgate recorded it.

sessions.json     the list of sessions
sessions.pcapng   for Wireshark: each message as its client had it, with who it was and each verdict in comments
sessions.jsonl    the same for programs, one note a line; bytes are base64
sessions.har      HTTP for browsers; without entries where none was spoken
casts/            for asciinema and its player
approvals.jsonl   what was held for a reviewer, and who answered
rules/            the rules that decided, by revision
manifest.json     every file here with its SHA-256, signed in manifest.sig

{proof}
"""
PROVEN = """proof/, records/  the record itself with its seals: of other sessions only hashes

Check it on any machine with Python 3.9 or later:  python3 verify.py .
Compare the key it names with that of the host, given to you another way; so take verify.py too, if others had this in
their hands: any host writes it by `vendorgate verify --standalone verify.py`."""
REDACTED = """This bundle is redacted: {what}.
So it has no proof in it: the sealed record has what was taken out. The manifest is signed all the same."""


class Member(msgspec.Struct, frozen=True):
    """One file; `parts` can be read once."""

    name: str
    parts: Iterator[bytes]


class Listed(msgspec.Struct, frozen=True):
    """One file in the manifest."""

    name: str
    size: int
    sha256: str


class About(msgspec.Struct, frozen=True):
    """What a bundle is of."""

    by: str  # who exported it
    ids: tuple[str, ...] = ()  # sessions, where they were named
    filter: str = ""  # else what they were found by
    redact: tuple[str, ...] = ()
    host: str = ""
    version: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """All of a bundle but itself."""

    bundle: int  # number of this layout
    made: float  # unix seconds
    about: About
    key: str  # name of the key that signs
    files: tuple[Listed, ...]


class Vouched(msgspec.Struct, frozen=True):
    """What is signed of a manifest."""

    sha256: bytes


Sign = Callable[[Vouched], Signed]


def readme(redact: tuple[str, ...]) -> bytes:
    """Return the text of README.txt."""
    return README.format(proof=REDACTED.format(what=", ".join(redact)) if redact else PROVEN).encode()


def archive(members: Iterable[Member], about: About, key: str, sign: Sign, spool: Path) -> Iterator[bytes]:
    """Yield the archive, piece by piece; an empty piece says that work goes on. `spool` is a directory to write in.

    All is below one directory, named by the time.

    Raises, while it is read:
        OSError: a file cannot be read, or `spool` not be written.
        BadFrame: a log holds what no worker wrote.
    """
    made = int(time.time())
    below = time.strftime("vendorgate-export-%Y%m%dT%H%M%SZ", time.gmtime(made))
    listed: list[Listed] = []
    for member in members:
        with tempfile.TemporaryFile(dir=spool) as file:
            digest, size = hashlib.sha256(), 0
            for part in member.parts:
                for start in range(0, len(part), PIECE):
                    piece = part[start : start + PIECE]
                    digest.update(piece)
                    size += file.write(piece)
                    yield b""
            listed.append(Listed(member.name, size, digest.hexdigest()))
            file.seek(0)
            yield head(f"{below}/{member.name}", size, made)
            while piece := file.read(PIECE):
                yield piece
            yield bytes(-size % BLOCK)
    manifest = Manifest(1, time.time(), about, key, tuple(listed))
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    signed = msgspec.msgpack.encode(sign(Vouched(hashlib.sha256(text).digest())))
    for name, data in ((MANIFEST, text), (SIGNATURE, signed)):
        yield head(f"{below}/{name}", len(data), made) + data + bytes(-len(data) % BLOCK)
    yield bytes(2 * BLOCK)


def head(name: str, size: int, made: int) -> bytes:
    """Return what stands before a file in a tar."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, made, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)
