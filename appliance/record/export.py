"""Sessions handed over: to Wireshark (pcapng) and to programs (JSON, one object a line)."""

from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import msgspec

from appliance.model import Decision, Flow, NoteKind
from appliance.record import pcapng as capture
from appliance.record.frame import Frame
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


def pcapng(frames: Iterable[Frame], out: BinaryIO) -> int:
    """Write a capture of the sessions; return its size in bytes.

    Raises:
        ValueError: the first frame of a session does not say whose it is.
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


FORMATS: dict[str, Callable[[Iterable[Frame]], Iterator[bytes]]] = {"pcapng": capture.blocks, "jsonl": lines}


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
    )


def _put(pieces: Iterable[bytes], out: BinaryIO) -> int:
    size = 0
    for piece in pieces:
        out.write(piece)
        size += len(piece)
    return size
