"""What reaches the disk by a call of its own: names in directories, which go apart from what they name."""

import os
from pathlib import Path


def sync_names(directory: Path) -> None:
    """Bring the names in a directory to the disk: of files that are new there, renamed, or gone.

    Raises:
        OSError: it could not be done.

    Source: fsync(2).
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
