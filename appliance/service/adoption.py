"""What puts an agent under control, as files: planned as a whole, written whole, and undone exactly.

Each adoption is kept below `state_dir`/adopted, with what each file was before; that is written first, so that a crash
in the middle can be undone too. A directory is removed only if it was made here and is empty.
"""

import os
import re
import stat
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from appliance.model import ConfigError, HostError
from appliance.service import folders

KEPT = "adopted"  # in state_dir
MAX_FILE = 1 << 20  # bytes; the longest drop-in we know has 4 KB
Kind = Literal["unit", "user", "container"]


class Before(msgspec.Struct, frozen=True):
    """What a file was."""

    text: str
    mode: int
    uid: int
    gid: int


class File(msgspec.Struct, frozen=True):
    """One file of an adoption."""

    path: str  # below the root of the host
    after: str
    before: Before | None = None  # None: it was not there


class Adoption(msgspec.Struct, frozen=True):
    """Somebody under control, or about to be."""

    kind: Kind
    name: str
    slice: str
    files: tuple[File, ...]
    units: tuple[str, ...] = ()  # of systemd, that begin anew in the slice
    notes: tuple[str, ...] = ()  # what files cannot do
    at: float = 0.0  # unix seconds; 0: planned
    made: tuple[str, ...] = ()  # directories

    @property
    def key(self) -> str:
        """The name of what is kept of it."""
        return f"{self.kind}-{re.sub('[^A-Za-z0-9@:._-]', '_', self.name)}.json"


class Keeper:
    """The adoptions of one host. `root` is where its files begin."""

    def __init__(self, state_dir: Path, root: Path) -> None:
        self._place, self._root = state_dir / KEPT, root

    def all(self) -> list[Adoption]:
        """Return those in force, by name.

        Raises:
            HostError: one cannot be read.
        """
        found = []
        for path in sorted(self._place.glob("*.json")) if self._place.is_dir() else ():
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Adoption))
            except (OSError, msgspec.MsgspecError) as error:
                hint = "restore it, or remove it and its drop-ins"
                raise HostError(f"{path}: cannot be read: {error}", hint) from None
        return found

    def find(self, kind: Kind, name: str) -> Adoption | None:
        return next((one for one in self.all() if (one.kind, one.name) == (kind, name)), None)

    def look(self, path: str) -> Before | None:
        """Return what a file is now.

        Raises:
            ConfigError: it is none that we could put back as it is.
        """
        real = self._root / path
        try:
            with folders.opened(self._root, real.parent) as folder:
                fd = os.open(real.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with open(fd, "rb") as file:
                at = os.fstat(fd)
                if not stat.S_ISREG(at.st_mode):
                    raise ConfigError(f"/{path}", "is no regular file", "move it away")
                data = file.read(MAX_FILE + 1)
            if len(data) > MAX_FILE:
                raise ConfigError(f"/{path}", f"is longer than {MAX_FILE} bytes", "move it away")
            return Before(data.decode(), at.st_mode & 0o777, at.st_uid, at.st_gid)
        except FileNotFoundError:
            return None
        except OSError:
            raise ConfigError(f"/{path}", "is no regular file", "move it away") from None
        except UnicodeDecodeError:
            raise ConfigError(f"/{path}", "is no UTF-8 text", "move it away") from None

    def planned(self, plan: Adoption) -> Adoption:
        """Return the plan with what its files were before anybody was adopted."""
        earlier = {file.path: file for one in self.all() for file in one.files}
        files = tuple(
            File(file.path, file.after, earlier[file.path].before if file.path in earlier else self.look(file.path))
            for file in plan.files
        )
        return msgspec.structs.replace(plan, files=files)

    def adopt(self, plan: Adoption) -> None:
        """Write all files of a plan, or none.

        Raises:
            OSError: one could not be written; all are as they were.
        """
        made = tuple(str(path.relative_to(self._root)) for path in self._missing(plan.files))
        old = self.find(plan.kind, plan.name)
        kept = msgspec.structs.replace(plan, at=time.time(), made=(*made, *(old.made if old else ())))
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        gone = [file for file in old.files if file.path not in {one.path for one in plan.files}] if old else []
        _write(self._place / kept.key, msgspec.json.encode(kept), Before("", 0o600, os.geteuid(), os.getegid()))
        try:
            self._restore(gone)
            for file in kept.files:
                like = file.before or Before("", 0o644, os.geteuid(), os.getegid())
                _write(self._root / file.path, file.after.encode(), like, self._root)
        except (OSError, ConfigError):
            self.release(kept)
            raise

    def release(self, adoption: Adoption) -> None:
        """Put all files back as they were before."""
        others = {file.path for one in self.all() if one.key != adoption.key for file in one.files}
        self._restore(file for file in adoption.files if file.path not in others)
        for path in adoption.made:
            gone = self._root / path
            with suppress(OSError, ConfigError), folders.opened(self._root, gone.parent) as folder:
                os.rmdir(gone.name, dir_fd=folder)  # unless others put something in, or it is gone
        (self._place / adoption.key).unlink(missing_ok=True)
        with suppress(OSError):
            self._place.rmdir()

    def _restore(self, files: Iterable[File]) -> None:
        for file in files:
            real = self._root / file.path
            if file.before is None:
                with suppress(FileNotFoundError, NotADirectoryError), folders.opened(self._root, real.parent) as folder:
                    os.unlink(real.name, dir_fd=folder)
            else:
                _write(real, file.before.text.encode(), file.before, self._root)

    def _missing(self, files: Sequence[File]) -> list[Path]:
        """Return directories that have to be made, the deepest first."""
        found: set[Path] = set()
        for file in files:
            parent = (self._root / file.path).parent
            while not parent.exists():
                found.add(parent)
                parent = parent.parent
        return sorted(found, key=lambda path: len(path.parts), reverse=True)


def _write(path: Path, data: bytes, like: Before, root: Path = Path("/")) -> None:
    """Write a file whole or not at all, with the rights of `like`."""
    with folders.opened(root, path.parent, make=True) as folder:
        new = f".{path.name}.vendorgate"
        with suppress(FileNotFoundError):  # of a crash
            os.unlink(new, dir_fd=folder)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                os.fchown(fd, like.uid, like.gid)
                os.fchmod(fd, like.mode)
                file.flush()
                os.fsync(fd)
            os.rename(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)
            raise
