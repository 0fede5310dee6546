"""One session as lines to read: who, where to, each statement, what was decided and why, what was masked."""

from collections.abc import Callable, Iterable

from appliance.model import Flow, Note, Process, Side
from appliance.record.frame import Frame
from appliance.record.text import amount, because, clean, command, line, readable, stamp

PREVIEW = 160  # bytes of an answer that are shown; two lines of a terminal
RED, GREEN, YELLOW, BLUE, DIM = "31", "32", "33", "34", "2"
COLOURS = {"allow": GREEN, "block": RED, "approve": YELLOW}
MARGIN = " " * 13


def show(frames: Iterable[Frame], write: Callable[[str], object], colour: bool = False) -> None:
    """Write a session line by line, each with its line end, times of day in UTC."""
    reader = Lines(colour)
    first = True
    for frame in frames:
        if first and frame.flow:
            for text in reader.heading(frame.flow, frame.note):
                write(text + "\n")
        first = False
        for text in reader.of(frame, stamp(frame.time)[11:-1]):
            write(text + "\n")


def _who(process: Process) -> list[tuple[str, str]]:
    """Return what is known of a process, by name."""
    package = f", package {process.package}" if process.package else ""
    digest = f" (sha256 {process.script_sha256})" if process.script_sha256 else ""
    found = [
        ("process", f"{process.pid} {process.exe}, uid {process.uid}{package}"),
        ("command", command(process)),
        ("script", f"{process.script}{digest}"),
        ("sha256", process.sha256),
        ("cgroup", process.cgroup),
        ("unit", process.unit),
        ("container", process.container),
        ("parents", " < ".join(process.parents)),
    ]
    if process.became:
        found.append(("became", f"{process.became.exe}: {command(process.became)}"))
    return found


def stand_out(note: Note) -> str:
    """Return, in a few words, what in a session one would jump to; empty for the rest."""
    if note.kind in ("decision", "asked") and note.decision:
        word = "held" if note.kind == "asked" else note.decision.verdict
        return f"{word} {note.decision.rule}" if word != "allow" else ""
    if note.kind == "answered":
        return f"answered by {note.by or 'nobody'}"
    return "incident" if note.kind == "incident" else f"masked by {', '.join(note.masks)}" if note.masked else ""


def _held(note: Note) -> str:
    return f" (after {note.spent.hold:.1f} s)" if note.spent and note.spent.hold else ""


class Lines:
    """Frames of one session, in order, to lines. Colours are ANSI codes; the text itself can hold none."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour
        self._said = ""  # text of the last message, which the decision on it need not repeat

    def heading(self, flow: Flow, note: Note) -> list[str]:
        """Return who it is and where to."""
        found = [("session", f"{flow.id}, opened {stamp(flow.opened)}")]
        process = flow.process
        if process is None:
            found.append(("process", "" if flow.source else "not known"))
        else:
            found += _who(process)
        server = f"{note.target} {flow.server}".strip()
        found += [
            ("identity", note.identity),
            ("target", server + (f" ({note.protocol})" if note.protocol else "")),
            ("from", str(flow.client)),
            ("imported", flow.source),
        ]
        return [f"{name:<9} {line(value)}" for name, value in found if value] + [""]

    def of(self, frame: Frame, when: str) -> list[str]:
        """Return the lines of one frame; `when` stands before the first."""
        note = frame.note
        match note.kind:
            case "message":
                texts = self._message(frame)
            case "decision" | "asked" if note.decision:
                texts = self._decision(note, note.decision.verdict)
            case "answered":
                texts = self._marked("=", YELLOW, "answered", f"by {note.by or 'nobody'}: {note.text}{_held(note)}")
            case "incident":
                texts = self._marked("!", RED, "incident", note.text)
            case _:
                texts = self._marked("-", DIM, note.kind, note.text)
        if note.kind not in ("decision", "asked"):
            self._said = note.text
        first, *others = texts
        return [f"{self._paint(DIM, f'{when:<{len(MARGIN)}}')}{first}", *(MARGIN + other for other in others)]

    def _message(self, frame: Frame) -> list[str]:
        note = frame.note
        if note.side is Side.CLIENT:
            texts = self._marked(">", BLUE, note.message, note.text)
            return texts + ([f"  {frame.dropped:,} bytes not recorded"] if frame.dropped else [])
        facts = [amount(frame.size, "byte")]
        if note.count:
            facts.append(amount(note.count, "row"))
        if note.masked:
            facts.append(f"{amount(note.masked, 'cell')} masked by {', '.join(note.masks) or 'a rule'}")
        if note.spent and note.spent.upstream:
            facts.append(f"{note.spent.upstream * 1000:.1f} ms")
        texts = self._marked("<", "", note.message, f"{note.text} ({', '.join(facts)})".lstrip())
        preview = readable(note.raw[:PREVIEW])
        more = " ..." if len(note.raw) > PREVIEW else ""
        return texts + ([self._paint(DIM, f"  {preview}{more}")] if preview else [])

    def _decision(self, note: Note, verdict: str) -> list[str]:
        assert note.decision
        word = "held" if note.kind == "asked" else verdict
        texts = self._marked("=", COLOURS[verdict], word, f"{because(note.decision)} [{note.id}]")
        if note.text and note.text != self._said:
            texts += [f"  {text}" for text in clean(note.text).split("\n")]
        return texts

    def _marked(self, mark: str, colour: str, word: str, text: str) -> list[str]:
        first, *others = clean(text).split("\n")
        head = f"{mark} {self._paint(colour, line(word))}"
        return [f"{head} {first}".rstrip(), *(f"  {other}" for other in others)]

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text
