"""Sessions handed over: to Wireshark (pcapng), programs (JSON lines), players (asciicast) and browsers (HAR).

Every format is made from frames as they come, and holds no more of them than it must. None knows a protocol.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import msgspec

from appliance.model import ConfigError, Decision, Flow, Named, NoteKind, Spent
from appliance.record import cast, har
from appliance.record import pcapng as capture
from appliance.record.frame import Frame
from appliance.record.session import Filter
from appliance.record.text import readable


class Line(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One note as JSON. Bytes are base64; what is empty is left out."""

    session: str
    sequence: int
    time: float  # unix seconds
    kind: NoteKind
    side: str = ""
    message: str = ""
    text: str = ""
    raw: bytes = b""
    raw_text: str = ""  # what can be read of `raw`; a dot for each run of other bytes
    dropped: int = 0
    count: int = 0
    masked: int = 0
    masks: tuple[str, ...] = ()
    decision: Decision | None = None
    id: str = ""
    by: str = ""
    identity: str = ""
    target: str = ""
    protocol: str = ""
    flow: Flow | None = None
    number: int = 0  # among the notes of its session; 0: the record does not tell
    size: int = 0  # bytes it tells of that are not in `raw`
    level: str = ""
    facts: dict[str, tuple[str, ...]] = {}
    columns: tuple[Named, ...] = ()
    spent: Spent | None = None


class Export(msgspec.Struct, frozen=True):
    """What is asked for."""

    ids: tuple[str, ...] = ()  # sessions; else those that `wanted` finds
    wanted: Filter = Filter(limit=0)
    format: str = "pcapng"
    bundle: bool = False  # all formats, with what is needed to read and prove them (bundle.py)
    redact: tuple[str, ...] = ()  # what is taken out
    reason: str = ""  # goes into the record, with who it was and what


def pcapng(frames: Iterable[Frame], out: BinaryIO) -> int:
    """Write a capture of the sessions; return its size in bytes.

    Raises:
        OSError: `out` cannot take it.
    """
    return _put(capture.blocks(frames), out)


def jsonl(frames: Iterable[Frame], out: BinaryIO) -> int:
    """Write one JSON object a note; return the size in bytes."""
    return _put(lines(frames), out)


def lines(frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield one JSON object a note, each with its line end."""
    encoder = msgspec.json.Encoder()
    for frame in frames:
        yield encoder.encode(_line(frame)) + b"\n"


FORMATS: dict[str, Callable[[Iterable[Frame]], Iterator[bytes]]] = {
    "pcapng": capture.blocks,
    "jsonl": lines,
    "asciicast": cast.v2,
    "asciicast-v3": cast.v3,
    "har": har.blocks,
}


def known(format: str) -> None:
    """
    Raises:
        ConfigError: sessions cannot be written so.
    """
    if format not in FORMATS:
        raise ConfigError("format", f"`{format}` is not known", f"one of {', '.join(FORMATS)}")


def _line(frame: Frame) -> Line:
    note = frame.note
    return Line(
        session=frame.id,
        sequence=frame.sequence,
        time=frame.time,
        kind=note.kind,
        side=note.side.value if note.side else "",
        message=note.message,
        text=note.text,
        raw=note.raw,
        raw_text=readable(note.raw),
        dropped=frame.dropped,
        count=note.count,
        masked=note.masked,
        masks=note.masks,
        decision=note.decision,
        id=note.id,
        by=note.by,
        identity=note.identity,
        target=note.target,
        protocol=note.protocol,
        flow=frame.flow,
        number=frame.number,
        size=note.size,
        level=note.level,
        facts=dict(note.facts),
        columns=note.columns,
        spent=note.spent,
    )


def _put(pieces: Iterable[bytes], out: BinaryIO) -> int:
    size = 0
    for piece in pieces:
        out.write(piece)
        size += len(piece)
    return size
