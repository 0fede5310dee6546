"""The checkpoints: an append-only chain of signed entries that says what the record held, and when.

    proof/                     beside the records
        NUMBER.checkpoints     entries; NUMBER is that of the first. Another file is begun at FILE_BYTES
        latest                 number and hash of the last entry, so that one cut off is missed
        key.pub                the public key, in hex
        lock                   taken to append
        reserve                room on the disk that is given up when there is no other

An entry is an item as in a segment: its map is a `Signed` whose body is an `Entry`. Its hash is that of an item
(chain.py), each has the hash of the one before, and each file begins with all that still stands (`Standing`).

What is appended is on the disk when `append` returns. Any process with the key may append; one at a time.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from appliance.model import HostError
from appliance.record.chain import HASH, leaf, plain
from appliance.record.disk import sync_names
from appliance.record.frame import HEAD, UNREADABLE, BadFrame
from appliance.record.packed import Signed
from appliance.record.seal import Head
from appliance.record.signing import CHECKPOINT, KEY_BYTES, Signer

SUFFIX = ".checkpoints"
LATEST, KEY, LOCK, RESERVE = "latest", "key.pub", "lock", "reserve"
RESERVE_BYTES = 4 << 20  # some thousand tombstones, and what the catalog takes for them
FILE_BYTES = 4 << 20  # a start reads the last file


class Counter(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How many flows of one governed cgroup the fence has sent to be inspected."""

    epoch: int  # which load of the fence counted
    scope: int  # id of the cgroup
    name: str  # path of the cgroup
    flows: int


class Lost(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Numbers of flows of one cgroup of which nothing is kept any more."""

    epoch: int
    scope: int
    runs: tuple[int, ...]  # how many are not meant, how many are, and so on, from 1


class Deleted(msgspec.Struct, frozen=True, gc=False):
    """Frames taken from a sealed segment: its tombstone. The seal still holds, by the hashes that stay."""

    name: str  # of the segment
    gaps: bytes  # hash over the gaps (first item, how many: 8 bytes each) that it has from then on; empty: all is gone
    frames: int
    sessions: int
    identities: dict[str, int]  # whose -> how many sessions
    first: float  # time of the first and the last of these frames, unix seconds
    last: float
    by: str
    why: str
    lost: tuple[Lost, ...] = ()


class Deed(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What somebody did with the record."""

    kind: str  # start | stop | hold | release | export | import
    by: str
    why: str = ""
    ids: tuple[str, ...] = ()  # sessions
    identities: tuple[str, ...] = ()
    text: str = ""  # format and redactions of an export


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What was said before and is still so."""

    held_ids: tuple[str, ...] = ()
    held_identities: tuple[str, ...] = ()
    counters: tuple[Counter, ...] = ()


class Entry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One checkpoint."""

    number: int
    time: float  # unix seconds
    previous: bytes  # hash of the entry before; empty: it is the first
    key: str  # name of the key that signs
    revision: str = ""  # of the rules
    standing: Standing | None = None
    heads: tuple[Head, ...] = ()  # open segments that have grown
    seals: tuple[Signed, ...] = ()  # segments that are done: `Seal`
    counters: tuple[Counter, ...] = ()  # those that have changed
    deleted: tuple[Deleted, ...] = ()
    unserved: tuple[Lost, ...] = ()  # flows that were counted, and went before anything could be recorded of them
    deeds: tuple[Deed, ...] = ()


class Said(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a caller has to say in the next entry."""

    revision: str = ""
    heads: tuple[Head, ...] = ()
    seals: tuple[Signed, ...] = ()
    counters: tuple[Counter, ...] = ()
    deleted: tuple[Deleted, ...] = ()
    unserved: tuple[Lost, ...] = ()
    deeds: tuple[Deed, ...] = ()


class Written(msgspec.Struct, frozen=True, gc=False):
    """An entry as it is on disk."""

    entry: Entry
    hash: bytes
    data: bytes  # the whole item

    @property
    def line(self) -> str:
        """The line that is kept elsewhere: enough to tell later that the chain was rewritten."""
        return f"vendorgate checkpoint {self.entry.number} {self.hash.hex()} {self.entry.time:.3f} key {self.entry.key}"


_entries = msgspec.msgpack.Decoder(Entry)
_signed = msgspec.msgpack.Decoder(Signed)


class Checkpoints:
    """The chain below one directory, to append to. One thread at a time."""

    def __init__(self, directory: Path, signer: Signer) -> None:
        """Find its end; begin it where there is none.

        Raises:
            HostError: it was signed by another key, or cannot be read.
        """
        self._directory, self._signer = directory, signer
        self._number, self._hash = 0, b""
        self._file: Path | None = None
        self._size = 0  # of it, as far as it is known
        self._ids: set[str] = set()
        self._identities: set[str] = set()
        self._counters: dict[tuple[int, int], Counter] = {}
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            _claim(directory / KEY, signer)
            with self._locked():
                self._whole()
        except (OSError, BadFrame) as error:
            raise HostError(f"the checkpoints in {directory}: {error}", "`vendorgate verify` says more") from error

    @property
    def number(self) -> int:
        """Of the last entry; 0: there is none."""
        return self._number

    @property
    def held(self) -> tuple[frozenset[str], frozenset[str]]:
        """Sessions and identities under legal hold, as of the last entry that was read or written."""
        return frozenset(self._ids), frozenset(self._identities)

    @property
    def counters(self) -> Mapping[tuple[int, int], Counter]:
        return self._counters

    def append(self, said: Said, now: float | None = None) -> Written:
        """Add one entry; it is on the disk when this returns.

        Raises:
            OSError: it is not there.
        """
        with self._locked():
            fresh = self._file is None or self._size == 0 or self._size >= FILE_BYTES
            entry = Entry(
                number=self._number + 1,
                time=time.time() if now is None else now,
                previous=self._hash,
                key=self._signer.name,
                standing=self._standing() if fresh else None,
                **{field: getattr(said, field) for field in said.__struct_fields__},
            )
            body = msgspec.msgpack.encode(self._signer.sign(CHECKPOINT, entry))
            item = b"\xc6" + len(body).to_bytes(HEAD - 1, "big") + body
            self._roomy(lambda: self._put(item, fresh))
            written = Written(entry, leaf(item), item)
            self._take(written)
            self._roomy(lambda: _latest(self._directory, entry.number, written.hash))
            return written

    def refresh(self) -> None:
        """Take in what other processes appended."""
        with self._locked():
            pass

    def _whole(self) -> None:
        """Refuse to go on with a chain that has lost its end: what is written next would hide it."""
        path = self._directory / LATEST
        if not path.exists() and self._number == 0:
            _latest(self._directory, 0, bytes(HASH))
            sync_names(self._directory)
        number = path.read_text().partition(" ")[0] if path.exists() else "none"
        if not number.isdecimal() or int(number) > self._number:
            what = f"the checkpoints in {self._directory} end with {self._number}, and `{LATEST}` says {number}"
            raise HostError(what, "keep proof and records for whoever looks into it, and move both aside to go on")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            self._catch_up()
            yield
        finally:
            os.close(fd)

    def _catch_up(self) -> None:
        """Read what is new; at first only the last file, and cut off what a crash left of an entry there."""
        for path in files(self._directory)[-2:] if self._file is None else files(self._directory):
            if self._file is None or path > self._file:
                self._file, self._size = path, 0
            if path == self._file:
                self._read()

    def _read(self) -> None:
        assert self._file
        if self._file.stat().st_size == self._size:
            return
        for written in entries(self._file, self._size):
            entry = written.entry
            if self._number and (entry.number != self._number + 1 or entry.previous != self._hash):
                raise BadFrame(self._file, self._size, f"entry {entry.number} does not follow {self._number}")
            self._take(written)
            self._size += len(written.data)
        if self._file.stat().st_size > self._size:
            os.truncate(self._file, self._size)

    def reserve(self) -> None:
        """Keep some of the disk for tombstones: on a full one, dropping must still be told before it is done."""
        path = self._directory / RESERVE
        if path.exists():
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError:
            path.unlink()  # there is no room: it is tried again
        finally:
            os.close(fd)

    def _roomy(self, do: Callable[[], None]) -> None:
        """Do what needs room, if need be with what is kept aside."""
        try:
            do()
        except OSError as error:
            if error.errno != errno.ENOSPC or not (self._directory / RESERVE).exists():
                raise
            (self._directory / RESERVE).unlink()
            do()

    def _put(self, item: bytes, fresh: bool) -> None:
        path = self._directory / f"{self._number + 1:012d}{SUFFIX}" if fresh or not self._file else self._file
        size = 0 if fresh else self._size
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.write(fd, item) != len(item):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(fd)
            if fresh:
                sync_names(self._directory)
        except OSError:
            os.ftruncate(fd, size)
            raise
        finally:
            os.close(fd)
        self._file, self._size = path, size + len(item)

    def _take(self, written: Written) -> None:
        entry = written.entry
        self._number, self._hash = entry.number, written.hash
        if entry.standing:
            self._ids = set(entry.standing.held_ids)
            self._identities = set(entry.standing.held_identities)
            self._counters = {(c.epoch, c.scope): c for c in entry.standing.counters}
        self._counters.update({(c.epoch, c.scope): c for c in entry.counters})
        newest = max((epoch for epoch, _ in self._counters), default=0)  # a fence that is gone counts no more
        self._counters = {key: c for key, c in self._counters.items() if key[0] == newest}
        for deed in entry.deeds:
            if deed.kind == "hold":
                self._ids.update(deed.ids)
                self._identities.update(deed.identities)
            elif deed.kind == "release":
                self._ids.difference_update(deed.ids)
                self._identities.difference_update(deed.identities)

    def _standing(self) -> Standing:
        counters = tuple(self._counters[key] for key in sorted(self._counters))
        return Standing(tuple(sorted(self._ids)), tuple(sorted(self._identities)), counters)


def files(directory: Path) -> list[Path]:
    """Return the files of checkpoints, in order."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def entries(path: Path, start: int = 0) -> Iterator[Written]:
    """Yield the entries of one file from byte `start`, as far as they are whole.

    Raises:
        BadFrame: what is there is none.
    """
    with path.open("rb") as file:
        for item in plain(path, file, start):
            try:
                entry = _entries.decode(_signed.decode(item.body).body)
            except UNREADABLE as error:
                raise BadFrame(path, item.start, f"not a checkpoint: {error}") from None
            yield Written(entry, leaf(item.data), item.data)


def _claim(path: Path, signer: Signer) -> None:
    """Put the public key beside what it signs; another that is there already is not replaced."""
    try:
        found = bytes.fromhex(path.read_text())
    except FileNotFoundError:
        found = b""
        if files(path.parent):
            raise HostError(f"{path} is gone", "bring it back from a backup, or move the directory aside") from None
    except ValueError:
        found = b"?"
    if found and found != signer.public:
        what = f"{path.parent} was signed by another key than ours, {signer.name}"
        raise HostError(what, "bring keys/record.key back from a backup, or move that directory aside")
    if not found:
        assert len(signer.public) == KEY_BYTES
        path.write_text(signer.public.hex() + "\n")
        sync_names(path.parent)


def _latest(directory: Path, number: int, hash: bytes) -> None:
    """Name the last entry. What a crash leaves is the one before, which is still in the chain."""
    new = directory / f"{LATEST}.new"
    with new.open("w") as file:
        file.write(f"{number} {hash.hex()}\n")
        file.flush()
        os.fdatasync(file.fileno())
    new.rename(directory / LATEST)

