"""What the checkpoints say, and whether they are whole.

Each entry has the hash of the one before, so the signature of the last vouches for all. Only where that fails is
each looked at, to name the first that is not signed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from appliance.record.audit.primitives import Tools, leaf
from appliance.record.audit.stream import BAD_VALUES, NAME, Bad, Item, field, items, regular

GRACE_S = 120.0  # a flow that was counted may wait this long until its session is recorded
CHECKPOINT, SEAL = b"vendorgate checkpoint 1\0", b"vendorgate seal 2\0"
HEAD = 72  # bytes kept of a head: items (8), hash, root
ANCHOR = re.compile(r"vendorgate checkpoint (\d+) ([0-9a-f]{64})")


class Wanted(NamedTuple):
    """What to check, and against what."""

    since: float = 0.0  # unix seconds
    until: float = float("inf")
    key: bytes = b""  # public; else the one beside the record
    anchors: str = ""  # text with lines that were kept elsewhere
    own: bool = False  # it is to be the record of this host: no export will do


class Sealed(NamedTuple):
    """What a seal says of a segment."""

    format: int
    chain: str
    segment: int
    sequence: int
    items: int
    size: int
    torn: int
    head: bytes
    root: bytes
    first: float
    last: float


SEALED = dict(zip(Sealed._fields, (int, str, int, int, int, int, int, bytes, bytes, float, float)))  # noqa: B905


class Due(NamedTuple):
    """What the fence counted of one cgroup."""

    name: str
    before: int  # flows before the time asked for
    flows: int  # flows that must be in the record


class Ledger:
    """What the checkpoints say; `read` again takes in what was appended meanwhile."""

    def __init__(self, directory: Path, wanted: Wanted, tools: Tools, excerpt: bool) -> None:
        """`excerpt`: it is of an export, frames of other sessions are left out."""
        self._directory, self._wanted, self._tools, self.excerpt = directory, wanted, tools, excerpt
        self._anchors = {int(number): hash for number, hash in ANCHOR.findall(wanted.anchors)}
        self.number, self.hash, self.time = 0, b"", 0.0
        self.first = 0.0  # time of the first entry
        self.seals: dict[str, Sealed] = {}
        self.heads: dict[str, bytearray] = {}  # HEAD bytes for each checkpoint that speaks of the segment
        self.gaps: dict[str, list[bytes]] = {}  # hashes over gaps that retention made
        self.gone: set[str] = set()  # segments that were dropped
        self.deleted = 0  # frames
        self.lost: list[tuple[int, int, list[int]]] = []
        self.unserved: list[tuple[int, int, list[int]]] = []
        self.excused: dict[tuple[int, int], list[tuple[int, int]]] = {}  # first and last flow, around starts
        self.due: dict[tuple[int, int], Due] = {}
        self._noted = 0, ""  # number and hash of the last, from beside the chain
        self._recent: list[tuple[float, tuple[int, int], str, int]] = []
        self._offsets: dict[Path, int] = {}
        self._file, self._place = Path(), 0  # of the last entry
        self._last: tuple[bytes, bytes] = b"", b""  # body and signature of it
        self.key = wanted.key

    def beside(self) -> bytes:
        """Return the public key that is beside the checkpoints; empty if there is none."""
        try:
            return bytes.fromhex(_text(self._directory / "key.pub"))
        except (Bad, ValueError):
            return b""

    def read(self) -> None:
        """Take in all entries, or those appended since the last time.

        Raises:
            Bad: the chain is not whole. All before that place is taken in.
        """
        beside = self._directory / "key.pub"
        text = _text(beside)
        try:
            found = bytes.fromhex(text)
        except ValueError:
            found = b""
        if len(found) != 32 or text != found.hex() + "\n":
            raise Bad(0, "not a public key", None, str(beside))
        self.key = self.key or found
        if self.key != found:
            raise Bad(0, f"this is key {key_name(found)}, not {key_name(self.key)}", None, str(beside))
        latest = self._latest()
        for path in sorted(self._directory.glob("*.checkpoints")):
            self._file = path
            try:
                for item in items(path, self._tools, self._torn, self._offsets.get(path, 0)):
                    self._entry(item)
            except Bad as bad:
                raise bad if bad.file else self._bad(bad.offset, bad.what) from None
        self._signed()
        most = max(latest, 0 if self.excerpt else max(self._anchors, default=0))
        if most > self.number:
            raise self._bad(self._offsets.get(self._file, 0), f"checkpoint {self.number + 1} is missing, up to {most}")
        self._settle(self.time - GRACE_S)

    def _latest(self) -> int:
        """Return the number of the last checkpoint, as it was noted beside the chain; an excerpt has none."""
        path = self._directory / "latest"
        if self.excerpt:
            return 0
        text = _text(path)
        number, _, hash = text.rstrip("\n").partition(" ")
        if not number.isdecimal() or not re.fullmatch("[0-9a-f]{64}", hash) or text != f"{int(number)} {hash}\n":
            raise Bad(0, "not the number and hash of a checkpoint", None, str(path))
        self._noted = int(number), hash
        return int(number)

    def _bad(self, offset: int, what: str, number: int | None = None) -> Bad:
        return Bad(offset, what, self.number + 1 if number is None else number, str(self._file))

    def _torn(self, offset: int, left: int) -> None:
        """An entry may be in the making; that one was cut off shows by `latest`, which is written after it."""
        if left and self.excerpt:
            raise self._bad(offset, f"the file ends after {left} bytes of a checkpoint")

    def _entry(self, item: Item) -> None:
        try:
            outer = self._tools.unpack(item.data[5:])
            last = field(outer, "body", bytes), field(outer, "signature", bytes)
            said = self._tools.unpack(last[0])
            number, previous = field(said, "number", int), field(said, "previous", bytes)
            when, key = field(said, "time", float), field(said, "key", str)
        except BAD_VALUES as error:
            raise self._bad(item.offset, f"not a checkpoint: {error!r}") from None
        if self.number == 0 and self.excerpt:
            self.number, self.hash = number - 1, previous
        if key != key_name(self.key):
            if self.hash or self._wanted.key:
                raise self._bad(item.offset, f"checkpoint {number} is of key {key}, not of {key_name(self.key)}")
            what = f"this is key {key_name(self.key)}, and the checkpoints are of key {key}"
            raise Bad(0, what, None, str(self._directory / "key.pub"))
        if number != self.number + 1:
            raise self._bad(item.offset, f"checkpoint {number} where {self.number + 1} was due")
        if previous != self.hash:
            before = "the one before it was changed" if number > 1 else "it does not begin the chain"
            raise self._bad(item.offset, f"checkpoint {number}: {before}, or it was itself")
        hash = leaf(item.data)
        if self._noted[0] == number and self._noted[1] != hash.hex():
            raise self._bad(item.offset, f"checkpoint {number} is not the one noted in `latest`")
        if self._anchors.get(number, hash.hex()) != hash.hex():
            raise self._bad(item.offset, f"checkpoint {number} is not the one that was kept elsewhere")
        try:
            self._take(said, when)
        except BAD_VALUES as error:
            raise self._bad(item.offset, f"not a checkpoint: {error!r}") from None
        self._last = last
        self.number, self.hash, self.time = number, hash, when
        self.first = self.first or when
        self._place = item.offset
        self._offsets[self._file] = item.offset + len(item.data)

    def _take(self, said: dict[str, Any], when: float) -> None:
        for head in field(said, "heads", list, []):
            place = field(head, "items", int).to_bytes(8, "big")
            both = field(head, "head", bytes) + field(head, "root", bytes)
            if len(both) != HEAD - 8:
                raise ValueError("a hash of another length")
            self.heads.setdefault(_segment(head), bytearray()).extend(place + both)
        for one in field(said, "seals", list, []):
            self._seal(self._tools.unpack(field(one, "body", bytes)))
        for gone in field(said, "deleted", list, []):
            self.deleted += field(gone, "frames", int)
            if field(gone, "gaps", bytes):
                self.gaps.setdefault(_segment(gone), []).append(gone["gaps"])
            else:
                self.gone.add(_segment(gone))
            self.lost += _flows(gone, "lost")
        self.unserved += _flows(said, "unserved")
        for epoch, scope, name, flows in field(said, "counters", list, []):
            self._recent.append((when, (int(epoch), int(scope)), str(name), int(flows)))
        if any(field(deed, "kind", str) == "start" for deed in field(said, "deeds", list, [])):
            self._excuse()
        self._settle(when - GRACE_S)

    def _excuse(self) -> None:
        """A start: what was counted just before it may have had no worker to serve it, so nothing passed of it."""
        for _, key, _, flows in self._recent:
            first = (self.due[key].flows if key in self.due else 0) + 1
            self.excused.setdefault(key, []).append((first, flows))

    def _seal(self, said: Any) -> None:
        found = Sealed(*(field(said, name, kind) for name, kind in SEALED.items()))
        if self.seals.setdefault(_segment(said), found) != found:
            raise ValueError(f"{said['name']} is sealed again with another content")

    def _settle(self, until: float) -> None:
        """Take counts as due that are old enough for their sessions to be recorded."""
        while self._recent and self._recent[0][0] <= until:
            when, key, name, flows = self._recent.pop(0)
            if when <= self._wanted.until:
                before = self.due[key].before if key in self.due else 0
                self.due[key] = Due(name, flows if when < self._wanted.since else before, flows)

    def _signed(self) -> None:
        body, signature = self._last
        if not self.number:
            raise Bad(0, "there are no checkpoints", None, str(self._directory))
        if self._tools.signed(self.key, CHECKPOINT + body, signature):
            return
        for path in sorted(self._directory.glob("*.checkpoints")):
            for item in items(path, self._tools, lambda offset, left: None):
                outer = self._tools.unpack(item.data[5:])
                if not self._tools.signed(self.key, CHECKPOINT + outer["body"], outer["signature"]):
                    name = key_name(self.key)
                    number = self._tools.unpack(outer["body"])["number"]
                    self._file = path
                    raise self._bad(item.offset, f"checkpoint {number} is not signed by key {name}", number)


def key_name(key: bytes) -> str:
    """Return the short name of a public key."""
    return hashlib.sha256(key).hexdigest()[:16]


def _segment(said: Any) -> str:
    name: str = field(said, "name", str)
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a segment")
    return name


def _flows(said: Any, name: str) -> list[tuple[int, int, list[int]]]:
    return [(int(epoch), int(scope), [int(one) for one in runs]) for epoch, scope, runs in field(said, name, list, [])]


def _text(path: Path) -> str:
    try:
        if not regular(path):
            raise ValueError("it is no file")
        return path.read_text()
    except (OSError, ValueError) as error:
        raise Bad(0, f"there is no proof here: {error}", None, str(path)) from None
