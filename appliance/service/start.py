"""`vendorgate run`: the hub in the foreground, by the settings of a file."""

import resource
import sys
from pathlib import Path

import uvloop

from appliance import config
from appliance.model import ConfigError, HostError
from appliance.service import journal, launch, tuning
from appliance.service.hub import Hub

USUAL = Path("/etc/vendorgate/vendorgate.yaml")
FILES = launch.FILES + 1024  # descriptors; the workers inherit the limit


def run(where: Path) -> int:
    """Run the service by the settings in file `where` until SIGTERM; return the exit status."""
    journal.begin()
    try:
        settings = config.settings(str(where), _text(where))
        _allow_files()
        tuning.one_heap()
        tuning.give_way()

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
