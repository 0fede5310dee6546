"""Sessions as a terminal would have shown them, for asciinema and its player.

Sources: "asciicast v2" and "asciicast v3" in the documentation of asciinema. What is written is the reading of
`show`, each line at its time; held, blocked and answered requests and incidents are markers, so that a player can
jump to them. Text is made harmless before it is coloured: a recording commands no terminal.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import msgspec

from appliance.model import Note
from appliance.record.frame import Frame
from appliance.record.show import Lines, stand_out
from appliance.record.text import line

WIDTH, HEIGHT = 120, 36  # of the terminal; longer lines wrap
IDLE_S = 3.0  # longer pauses are shortened by the player
MAX_SESSIONS = 4_096  # sessions told apart at once; a further one only has its last statement repeated

Event = tuple[float, str, str]


class Header2(msgspec.Struct, frozen=True):
    """The first line of asciicast v2."""

    version: int
    width: int
    height: int
    timestamp: int
    idle_time_limit: float
    title: str
    env: dict[str, str]


class Term(msgspec.Struct, frozen=True):
    """The terminal, in asciicast v3."""

    cols: int
    rows: int
    type: str


class Header3(msgspec.Struct, frozen=True):
    """The first line of asciicast v3."""

    version: int
    term: Term
    timestamp: int
    idle_time_limit: float
    title: str


def v2(frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield asciicast v2, line by line: times are since the begin."""
    encoder = msgspec.json.Encoder()
    begun: float | None = None
    for frame, events in _told(frames):
        if begun is None:
            begun = frame.time
            header = Header2(2, WIDTH, HEIGHT, int(begun), IDLE_S, _title(frame), {"TERM": "xterm-256color"})
            yield encoder.encode(header) + b"\n"
        for code, text in events:
            yield encoder.encode((round(frame.time - begun, 6), code, text)) + b"\n"


def v3(frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield asciicast v3, line by line: times are since the event before."""
    encoder = msgspec.json.Encoder()
    last: float | None = None
    for frame, events in _told(frames):
        if last is None:
            last = frame.time
            term = Term(WIDTH, HEIGHT, "xterm-256color")
            yield encoder.encode(Header3(3, term, int(last), IDLE_S, _title(frame))) + b"\n"
        for code, text in events:
            yield encoder.encode((round(frame.time - last, 6), code, text)) + b"\n"
            last = frame.time


def _told(frames: Iterable[Frame]) -> Iterator[tuple[Frame, list[tuple[str, str]]]]:
    """Yield frames and what a player is told of each. Times never go back: the host's clock may."""
    readers: OrderedDict[str, Lines] = OrderedDict()
    shown = ""
    begun = latest = 0.0
    for frame in frames:
        begun = begun or frame.time
        latest = max(latest, frame.time)
        reader = readers.pop(frame.id, None)
        lines = []
        if reader is None:
            reader = Lines(colour=True)
            lines = reader.heading(frame.flow, frame.note) if frame.flow else []
        elif frame.id != shown:
            lines = ["", f"session   {line(frame.id)}"]
        readers[frame.id] = reader
        if len(readers) > MAX_SESSIONS:
            readers.popitem(last=False)
        shown = frame.id
        lines += reader.of(frame, f"+{latest - begun:.3f}")
        events = [("o", "".join(f"{text}\r\n" for text in lines))]
        mark = _mark(frame.note)
        yield msgspec.structs.replace(frame, time=latest), [*([("m", mark)] if mark else []), *events]


def _mark(note: Note) -> str:
    return line(stand_out(note)) if stand_out(note) else ""


def _title(frame: Frame) -> str:
    who = frame.note.identity or (frame.flow.process.exe if frame.flow and frame.flow.process else "")
    return line(" ".join(part for part in ("vendorgate", frame.id, who) if part))
