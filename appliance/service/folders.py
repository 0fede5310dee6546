"""Folders opened part by part, for root who writes where somebody else may have put a link.

A project of Docker Compose is often in its vendor's home: a link there, made between an adoption and its release,
would have root write the vendor's text where rules are in force.

Source: openat(2), O_NOFOLLOW; symlink(7); systemd's "unsafe transition" (tmpfiles.d(5)).
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.model import ConfigError

MAX_LINKS = 40  # followed on one path; MAXSYMLINKS of linux/namei.h
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MODE = 0o755


@contextmanager
def opened(root: Path, path: Path, make: bool = False) -> Iterator[int]:
    """Open a folder below `root`; links are followed, within `root`, only where nobody but us or root can make them.

    Raises:
        ConfigError: a link is somebody else's, or there are too many.
        FileNotFoundError: it is not there, and we shall not `make` it.
    """
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    todo, links = list(path.relative_to(root).parts), 0
    try:
        while todo:
            name = todo.pop(0)
            if make:
                _make(name, here)
            at = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(at.st_mode):
                links += 1
                if not _ours(here) or links > MAX_LINKS:
                    what = f"is behind a link `{name}` that others can change"
                    raise ConfigError(str(path), what, "put the folder itself there")
                target = Path(os.readlink(name, dir_fd=here))
                todo = [part for part in target.parts if part != "/"] + todo
                name = str(root) if target.is_absolute() else "."
            following = os.open(name, FOLDER, dir_fd=here)
            os.close(here)
            here = following
        yield here
    finally:
        os.close(here)


def _make(name: str, here: int) -> None:
    try:
        os.mkdir(name, MODE, dir_fd=here)
    except FileExistsError:
        pass


def _ours(folder: int) -> bool:
    """Whether only root, or who we are, can put a link there."""
    at = os.fstat(folder)
    return at.st_uid in (0, os.geteuid()) and not at.st_mode & 0o022
