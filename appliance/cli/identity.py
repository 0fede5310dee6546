"""Who gives a command, for the record."""

import os
import pwd
from pathlib import Path

NOBODY = 0xFFFFFFFF  # loginuid of a process that no login began


def who() -> str:
    """Return who gives the command: the user who logged in, as the kernel knows it, else the one we run as."""
    try:
        login = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        login = NOBODY
    names = [_name(os.getuid()), *([_name(login)] if login != NOBODY else [])]
    return " for ".join(dict.fromkeys(names))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
