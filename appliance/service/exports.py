"""Exports of recorded sessions: by the hub for whoever may ask it, or by root from the files.

Nobody is refused, and each is on record before its first byte leaves: who, which sessions, in what form, with what
taken out (`Deed` in record/checkpoint.py).
"""

import hashlib
import re
import socket
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import msgspec

from appliance.model import ConfigError, HostError
from appliance.record import bundle, excerpt
from appliance.record.bundle import About, Member
from appliance.record.checkpoint import KEY, Deed
from appliance.record.export import FORMATS, Export, known
from appliance.record.frame import Frame
from appliance.record.index import Index
from appliance.record.keeper import PROOF
from appliance.record.packed import Signed
from appliance.record.redact import named
from appliance.record.session import Filter, Session
from appliance.record.signing import Signer
from appliance.service.redaction import Redaction, redaction
from appliance.service.rulebook import KEPT

MAX_TOLD = 1_000  # sessions named in the record of an export; of more, how many and a hash over all
MAX_REASON = 500  # characters; it stays in the checkpoints for ever
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a session; another, of a worker that was taken over, is no name of a file
TRAILS = ("approvals*.jsonl", "asked*.jsonl")  # in state_dir (questions.py)

Note = Callable[[Deed], object]


class Exports:
    """Of one state directory. What is yielded is read as it is asked for."""

    def __init__(
        self, state_dir: Path, index: Index, signer: Signer, note: Note, patterns: Callable[[], Mapping[str, str]]
    ) -> None:
        """`note` puts a deed on record, OSError if it cannot; `patterns` are detectors of the rules in force."""
        self._state_dir, self._index, self._signer = state_dir, index, signer
        self._note, self._patterns = note, patterns

    def open(self, asked: Export, by: str) -> Iterator[bytes]:
        """Return the export, piece by piece; an empty piece says that work goes on. No session: no piece.

        Raises:
            ConfigError: what is asked for cannot be.
            KeyError: a session that is named is not there.
            HostError: it cannot be put on record.
        """
        if not asked.bundle:
            known(asked.format)
        if len(asked.reason) > MAX_REASON:
            raise ConfigError("--reason", f"longer than {MAX_REASON} characters")
        hiding = redaction(asked.redact, self._patterns()) if asked.redact else None
        numbers = self._numbers(asked)
        if not numbers:
            return iter(())
        try:
            self._note(self._deed(asked, by, numbers))
        except OSError as error:
            raise HostError(f"the export cannot be put on record: {error}", "free some space in state_dir") from None
        if asked.bundle:
            about = self._about(asked, by, hiding)
            members = self._members(asked, numbers, hiding)
            return bundle.archive(members, about, self._signer.name, self._sign, self._state_dir)
        return FORMATS[asked.format](self._frames(numbers, hiding))

    def _numbers(self, asked: Export) -> "array[int]":
        if not asked.ids:
            return self._index.matching(asked.wanted)
        for id in asked.ids:
            if not self._index.named([id]):
                raise KeyError(id)
        return self._index.named(asked.ids)

    def _frames(self, numbers: Iterable[int], hiding: Redaction | None) -> Iterator[Frame]:
        frames = self._index.frames_of(numbers)
        return hiding.frames(frames) if hiding else frames

    def _sign(self, value: bundle.Vouched) -> Signed:
        return self._signer.sign(bundle.CONTEXT, value)

    # -- on record -----------------------------------------------------------------------------------------------

    def _deed(self, asked: Export, by: str, numbers: "array[int]") -> Deed:
        ids, count, digest = [], 0, hashlib.sha256()
        for session in self._index.listed(numbers):
            digest.update(session.id.encode() + b"\n")
            count += 1
            if count <= MAX_TOLD:
                ids.append(session.id)
        text = f"{'bundle' if asked.bundle else asked.format} of {count} sessions"
        if count > MAX_TOLD:
            text += f", the first {MAX_TOLD} named, SHA-256 of all ids {digest.hexdigest()}"
        if not asked.ids:
            text += f"; found by {_said(asked.wanted) or 'nothing: all'}"
        if asked.redact:
            text += f"; without {', '.join(asked.redact)}"
        return Deed("export", by, asked.reason, tuple(ids), (), text)

    def _about(self, asked: Export, by: str, hiding: Redaction | None) -> About:
        found = "" if asked.ids else _said(asked.wanted)
        found = hiding.text(found) if hiding else found
        return About(by, asked.ids, found, asked.redact, socket.gethostname(), version("vendorgate"))

    # -- what is in a bundle -------------------------------------------------------------------------------------

    def _members(self, asked: Export, numbers: "array[int]", hiding: Redaction | None) -> Iterator[Member]:
        yield Member("README.txt", iter([bundle.readme(asked.redact)]))
        yield Member("sessions.json", _array(self._sessions(numbers, hiding)))
        for name in ("pcapng", "jsonl", "har"):
            yield Member(f"sessions.{name}", FORMATS[name](self._frames(numbers, hiding)))
        for number, session in zip(numbers, islice(self._index.listed(numbers), bundle.MAX_CASTS), strict=False):
            cast = FORMATS["asciicast"](self._frames([number], hiding))
            yield Member(f"casts/{session.id if ID.fullmatch(session.id) else number}.cast", cast)
        ids = frozenset(session.id for session in self._index.listed(numbers))
        yield Member("approvals.jsonl", self._approvals(ids, hiding))
        yield from self._rules(numbers)
        if hiding:  # the key all the same, for the manifest; not the sealed frames
            yield Member(f"{PROOF}/{KEY}", iter([(self._state_dir / PROOF / KEY).read_bytes()]))
            return
        for member in excerpt.members(self._state_dir, ids, self._index.logs(numbers)):
            yield Member(member.name, member.parts)

    def _sessions(self, numbers: Iterable[int], hiding: Redaction | None) -> Iterator[Session]:
        for session in self._index.listed(numbers):
            yield named(session, hiding.text) if hiding else session

    def _approvals(self, ids: frozenset[str], hiding: Redaction | None) -> Iterator[bytes]:
        """Yield the lines of the trails that are about these sessions."""
        for pattern in TRAILS:
            for path in sorted(self._state_dir.glob(pattern)):
                with path.open("rb") as file:
                    for line in file:
                        try:
                            entry = msgspec.json.decode(line, type=dict[str, str | float])
                        except msgspec.DecodeError:
                            continue  # what a crash left of a line
                        if entry.get("flow") in ids:
                            yield msgspec.json.encode(_hidden(entry, hiding)) + b"\n"

    def _rules(self, numbers: Iterable[int]) -> Iterator[Member]:
        """Yield the files of the revisions that decided; one that is not kept any more is left out."""
        revisions = {revision for session in self._index.listed(numbers) for revision in session.revisions}
        for revision in sorted(revisions):
            place = self._state_dir / KEPT / revision
            if revision.isalnum() and place.is_dir():
                for path in sorted(place.iterdir()):
                    yield Member(f"{KEPT}/{revision}/{path.name}", iter([path.read_bytes()]))


def _hidden(entry: Mapping[str, str | float], hiding: Redaction | None) -> Mapping[str, str | float]:
    if hiding is None:
        return entry
    return {name: hiding.text(value) if isinstance(value, str) else value for name, value in entry.items()}


def _said(wanted: Filter) -> str:
    """Return a filter as it is written on a command line."""
    usual = Filter(limit=0)
    given = {name: value for name, value in msgspec.structs.asdict(wanted).items() if value != getattr(usual, name)}
    return " ".join(f"--{name} {_word(value)}" for name, value in given.items())


def _word(value: str | float) -> str:
    return value if isinstance(value, str) else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))


def _array(values: Iterable[msgspec.Struct]) -> Iterator[bytes]:
    """Yield a JSON array, element by element."""
    before = b"[\n"
    for value in values:
        yield before + msgspec.json.encode(value)
        before = b",\n"
    yield b"\n]\n" if before != b"[\n" else b"[]\n"
