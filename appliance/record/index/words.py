"""What a session is found by: names of some kind, and texts as they are compared."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from appliance.model import Process
from appliance.record.session import Tally

MAX_TEXT = 8_192  # characters of a text that are kept together; a longer one is found by its words, piece by piece
MAX_PIECES = 64  # of one text; beyond its first 500,000 characters it is in the record only
OVERLAP = 64  # characters of a piece that begin the next, so that few words are cut
FACTS = {"table": "table", "effect": "effect"}  # key of facts -> kind of name


def of_process(process: Process) -> Iterator[tuple[str, str]]:
    """Yield the names a process is found by."""
    for image in _images(process):
        for path in (image.exe, image.script):
            if path:
                yield ("exe", fit(path))
                yield ("exe", fit(PurePosixPath(path).name))
        for digest in (image.sha256, image.script_sha256):
            if digest:
                yield ("sha256", digest)
        if image.package:
            yield ("package", fit(image.package))
        for place in (image.cgroup, image.unit, image.container):
            if place:
                yield ("who", fit(place))


def _images(process: Process | None) -> Iterator[Process]:
    while process:
        yield process
        process = process.became


def of_tally(tally: Tally) -> Iterator[tuple[str, str]]:
    """Yield the names that are known of a session once all its frames are summed up."""
    if tally.server:
        yield ("to", tally.server)
        yield ("to", tally.server.rpartition(":")[0].strip("[]"))
    for verdict, rules in tally.verdicts.items():
        yield ("verdict", verdict)
        for rule in rules:
            yield ("rule", rule)


def pieces(text: str) -> Iterator[str]:
    """Yield a text as it is kept: all of it, or piece by piece."""
    for number in range(MAX_PIECES):
        start = number * (MAX_TEXT - OVERLAP)
        if start and start + OVERLAP >= len(text):
            return
        yield fit(squeezed(text[start : start + MAX_TEXT]))


def squeezed(text: str) -> str:
    """Return a text as statements are compared: one space wherever there is any, no semicolon at the end."""
    return " ".join(text.split()).rstrip("; ")


def fit(text: str) -> str:
    """Return a text that SQLite takes: no lone surrogates, and no NUL, at which its functions would stop."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\0")
