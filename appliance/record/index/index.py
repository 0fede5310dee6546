"""The index as one object."""

import sqlite3
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from appliance.model import HostError
from appliance.record.frame import BadFrame, Frame, segments
from appliance.record.index import intake, place, search
from appliance.record.index.gone import forget, thin_out
from appliance.record.index.intake import Batch, fill
from appliance.record.index.kept import Kept
from appliance.record.index.schema import Stale, Transaction, connect, remove
from appliance.record.read import OnTorn, extent, gaps, opening
from appliance.record.session import Filter, Session, Tally

_KNOWN = "SELECT begun, offset, sequence, inode FROM files WHERE name = ?"
_PARTS = "SELECT parts.rowid, name FROM parts JOIN files ON number = file WHERE session = ? ORDER BY parts.rowid"
_TALLY = msgspec.json.Decoder(Tally)


class Caught(msgspec.Struct, frozen=True, gc=False):
    """What one catching up found."""

    frames: int  # new ones
    torn: int  # segments that end in the middle of a frame
    bad: tuple[str, ...] = ()  # what was said of segments that could not be read to their end
    rebuilt: bool = False


class Index:
    """The index at `path` over the logs in `directory`. Any thread; calls wait for one another."""

    def __init__(self, path: Path, directory: Path) -> None:
        self._path, self._directory = path, directory
        self._lock = threading.RLock()
        self._db = self._open()
        self._closed = False
        self._kept = Kept()
        self._read: dict[str, tuple[int, int, int]] = {}  # log that is read to its end -> what its file was then

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._db.close()

    def catch_up(self) -> Caught:
        """Take in what was appended to the logs, and forget logs that are gone.

        Others may search meanwhile, and find what was taken in so far.

        Raises:
            HostError: the index cannot be written.
        """
        try:
            return self._catch_up()
        except sqlite3.OperationalError as error:
            raise HostError(f"{self._path}: {error}", "the logs are whole without it") from error
        except (Stale, sqlite3.DatabaseError):
            with self._lock:
                if self._closed:
                    return Caught(0, 0)
                self._db.close()
                remove(self._path)
                self._db = self._open()
                self._read.clear()
            return msgspec.structs.replace(self._catch_up(), rebuilt=True)

    def sessions(self, wanted: Filter) -> list[Session]:
        """Return the sessions that match, the newest first, as of the last catching up."""
        with self._lock:
            asked = search.query(self._db, wanted)
            rows = self._db.execute(asked.sql, asked.values).fetchall() if asked else []
        return [_TALLY.decode(row[0]).session() for row in rows]

    def frames(self, ids: Sequence[str]) -> Iterator[Frame]:
        """Yield the frames of the sessions named, by time; see `frames_of`."""
        return self.frames_of(self.named(ids))

    # Many sessions are handled by their numbers, eight bytes each, in the order in which they began.

    def named(self, ids: Iterable[str]) -> "array[int]":
        """Return the numbers of the sessions of these ids; those that there are not are left out."""
        query = "SELECT number FROM sessions WHERE id = ?"
        with self._lock:
            found = {row[0] for id in ids for row in self._db.execute(query, (id,))}
        return array("q", sorted(found))

    def matching(self, wanted: Filter) -> "array[int]":
        """Return the numbers of the sessions that match."""
        found = array("q", [])
        with self._lock:
            asked = search.query(self._db, wanted, "s.number")
            for (number,) in self._db.execute(asked.sql, asked.values) if asked else ():
                found.append(number)
        found.reverse()
        return found

    def listed(self, numbers: Iterable[int]) -> Iterator[Session]:
        """Yield the sessions of these numbers."""
        for number in numbers:
            with self._lock:
                row = self._db.execute("SELECT tally FROM sessions WHERE number = ?", (number,)).fetchone()
            if row:
                yield _TALLY.decode(row[0]).session()

    def logs(self, numbers: Iterable[int]) -> set[str]:
        """Return the names of the logs that these sessions are in."""
        query = "SELECT name FROM parts JOIN files ON number = file WHERE session = ?"
        found: set[str] = set()
        for number in numbers:
            with self._lock:
                found.update(name for (name,) in self._db.execute(query, (number,)))
        return found

    def frames_of(self, numbers: Iterable[int]) -> Iterator[Frame]:
        """Yield the frames of the sessions of these numbers, by time; what retention dropped is left out.

        Raises:
            BadFrame: a log holds what no worker wrote.
        """
        files = place.Files(self._directory)
        try:
            yield from place.merged(numbers, lambda number: self._session(number, files))
        finally:
            files.close()

    def _session(self, number: int, files: place.Files) -> Iterator[Frame]:
        with self._lock:
            parts = self._db.execute(_PARTS, (number,)).fetchall()
        return place.session(parts, self._offsets, files)

    def _offsets(self, row: int) -> bytes:
        with self._lock:
            found = self._db.execute("SELECT offsets FROM parts WHERE rowid = ?", (row,)).fetchone()
        return bytes(found[0]) if found else b""

    def _open(self) -> sqlite3.Connection:
        try:
            return connect(self._path)
        except sqlite3.OperationalError as error:
            raise HostError(f"{self._path}: {error}") from error
        except (Stale, sqlite3.DatabaseError):
            remove(self._path)
            return connect(self._path)

    def _catch_up(self) -> Caught:
        frames = 0
        torn: set[Path] = set()
        bad: list[str] = []
        present = [Path(one.path) for one in segments(self._directory)]
        self._forget({path.name for path in present})
        for path in present:
            try:
                while got := self._step(path, lambda end: torn.add(end.file)):
                    frames += got
            except FileNotFoundError:
                continue  # dropped by retention; forgotten the next time
            except BadFrame as error:
                bad.append(str(error))
        return Caught(frames, len(torn), tuple(bad))

    def _forget(self, present: set[str]) -> None:
        with self._lock:
            known = [name for (name,) in self._db.execute("SELECT name FROM files")]
            for name in known:
                if name not in present:
                    forget(self._db, name)
                    self._read.pop(name, None)

    def _step(self, path: Path, on_torn: OnTorn) -> int:
        """Take in the next frames of one log; return how many, 0 at its end."""
        status = path.stat()
        mark = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._read.get(path.name) == mark:
            return 0
        with self._lock, Transaction(self._db):
            known = self._db.execute(_KNOWN, (path.name,)).fetchone()
            begun, offset, before, inode = known or (0.0, 0, None, 0)
            size = extent(path)
            if known and status.st_ino != inode:  # packed, or thinned out by retention: the offsets stay
                thin_out(self._db, path.name, status.st_ino, gaps(path))
            if size == offset:
                self._read[path.name] = mark
                return 0
            top, start = opening(path, on_torn)
            if known and (size < offset or top is None or top.begun != begun):
                raise Stale(f"{path} is not what it was")
            if top is None:
                return 0
            batch = Batch(self._db, path, top.format, top.sequence if before is None else before + 1, self._kept)
            try:
                fill(batch, path, max(offset, start), intake.STEP, on_torn)
            except BadFrame:
                if not batch.count:
                    raise  # else the next step meets it again, with what came before it taken in
            batch.save(top.begun, status.st_ino)
        return batch.count
