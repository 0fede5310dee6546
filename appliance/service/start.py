"""`vendorgate run`: the hub in the foreground, by the settings of a file."""

import ctypes
import resource
import sys
from pathlib import Path

import uvloop

from appliance import config
from appliance.model import ConfigError, HostError
from appliance.service import journal, launch
from appliance.service.hub import Hub

USUAL = Path("/etc/vendorgate/vendorgate.yaml")
FILES = launch.FILES + 1024  # descriptors; the workers inherit the limit
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # mallopt(3); the last is in glibc's malloc.h alone
HEAPS = 1  # of the C library: threads of one interpreter take turns, and each heap of their own kept 3 to 6 MB
GIVEN_BACK = 256 * 1024  # bytes of a buffer that is the kernel's again when it is freed; the record is read in more
TRIMMED = 1024 * 1024  # bytes free at the heap's end that are given back; naming one threshold ends glibc's own guess


def run(where: Path) -> int:
    """Run the service by the settings in file `where` until SIGTERM; return the exit status."""
    journal.begin()
    try:
        settings = config.settings(str(where), _text(where))
        _allow_files()
        _spare_memory()

        async def live() -> None:
            await Hub(settings).run()

        uvloop.run(live())
    except ConfigError as error:
        print(f"vendorgate: {error}", file=sys.stderr)
        return 2
    except HostError as error:
        print(f"vendorgate: {error}", file=sys.stderr)
        return 3
    return 0


def _text(where: Path) -> str:
    """Return the settings; no file at the usual place means all defaults."""
    if where == USUAL and not where.exists():
        return ""
    try:
        return where.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(where), f"cannot be read: {error}") from None


def _allow_files() -> None:
    """Let us, and so the workers, have descriptors for all flows, as far as the host lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _spare_memory() -> None:
    """Have one heap for all threads, and large buffers given back: 17 MB less after a minute of work."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and one heap
    if mallopt is not None:
        for parameter, value in ((M_ARENA_MAX, HEAPS), (M_MMAP_THRESHOLD, GIVEN_BACK), (M_TRIM_THRESHOLD, TRIMMED)):
            mallopt(parameter, value)
