"""Where workers begin their segments: each in a directory of its own, from where the hub takes them into the record.

    state_dir/begun/      root's, 0700: no worker comes beside its own
        worker0.1f0a52c8/ its user's, 0700, handed to that one process by descriptor, and to nobody else

Workers run as one user, so owner and name of a file do not say which of them wrote it; its place does. What is no
segment called by its worker is refused. The rest is moved, and its worker goes on writing by the descriptor that it
has; by a name nobody can open it for writing any more. What a hub that was killed had not moved, the next one moves.
"""

import logging
import os
import secrets
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from appliance.record.disk import sync_names
from appliance.record.frame import NAME

log = logging.getLogger(__name__)

BEGUN = "begun"  # in state_dir
MAX_LOOKED = 1_000  # entries of one worker at a time; it begins one segment in some minutes
MAX_TOLD = 100  # refusals that are told; a worker could go on


class Begun:
    """Of one state directory. Any thread; calls wait for one another."""

    def __init__(self, records: Path, tell: Callable[[str], object] = log.error) -> None:
        """`records` is where segments go; `tell` gets what was refused."""
        self._records, self._top, self._tell = records, records.parent / BEGUN, tell
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._places: dict[str, int] = {}  # worker -> its directory

    def place(self, worker: str, uid: int, gid: int) -> int:
        """Return a descriptor of a new directory for a worker that is about to start; it stays ours.

        Raises:
            OSError: there is none.
        """
        self._top.mkdir(mode=0o700, exist_ok=True)
        name = f"{worker}.{secrets.token_hex(4)}"
        with self._lock:
            for before in self._top.glob(f"{worker}.*"):
                with suppress(OSError):  # something is left in it
                    before.rmdir()
            (self._top / name).mkdir(mode=0o700)
            fd = os.open(self._top / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            os.fchown(fd, uid, gid)
            if worker in self._places:
                os.close(self._places[worker])
            self._places[worker] = fd
        return fd

    def take(self) -> None:
        """Take what was begun into the record.

        Raises:
            OSError: something could not be taken; it stays where it is.
        """
        with self._lock:
            for name in sorted(os.listdir(self._top)) if self._top.is_dir() else ():
                self._take(name)

    def close(self) -> None:
        """Close the descriptors."""
        while self._places:
            os.close(self._places.popitem()[1])

    def _take(self, directory: str) -> None:
        worker = directory.partition(".")[0]
        place = os.open(self._top / directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            names = os.listdir(place)[:MAX_LOOKED]
            taken = [name for name in names if self._linked(worker, place, name)]
            if taken:
                sync_names(self._records)  # before the name that is on the disk goes
            for name in taken:
                os.unlink(name, dir_fd=place)
        finally:
            os.close(place)

    def _linked(self, worker: str, place: int, name: str) -> bool:
        """Give a segment its name in the record; return whether it has it."""
        try:
            there, whose = os.stat(name, dir_fd=place, follow_symlinks=False), os.fstat(place).st_uid
        except FileNotFoundError:
            return False  # a write that failed was taken back
        named, path = NAME.fullmatch(name), self._records / name
        if not named or named[1] != worker or not stat.S_ISREG(there.st_mode) or there.st_uid != whose:
            self._refuse(worker, place, name, "it is no segment of its own")
            return False
        try:
            os.link(name, path, src_dir_fd=place, follow_symlinks=False)
            ours = True
        except FileExistsError:
            ours = False  # moved before, and not to its end; or another
        linked = path.lstat()
        if linked.st_ino == there.st_ino and stat.S_ISREG(linked.st_mode):
            return True
        if ours:
            path.unlink()  # it was exchanged while we looked
        self._refuse(worker, -1, name, "there is another of that name")
        return False

    def _refuse(self, worker: str, place: int, name: str, why: str) -> None:
        """Say it once, and remove it where `place` is given."""
        with suppress(OSError):  # a directory: it leads nowhere, and is not looked into
            if place >= 0:
                os.unlink(name, dir_fd=place)
        what = f"{worker} began {name!r}, which is not taken into the record: {why}"
        if what not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(what)
            self._tell(what)
