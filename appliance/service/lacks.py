"""What the settings ask for and cannot have, and what they give up: shown in status for as long as it is so."""

from contextlib import suppress
from pathlib import Path

from appliance import config
from appliance.kernel.check import firewalls
from appliance.model import HostError
from appliance.service import launch

CAP_SYS_PTRACE = 19  # linux/capability.h


def lacks(settings: config.Settings, who: launch.User) -> tuple[str, ...]:
    """Return what the settings ask for and cannot have, and what they give up."""
    found = []
    if settings.existing_connections == "keep":
        found.append("existing_connections: keep: what was open before the fence passes until a rule denies it")
    if settings.on_failure == "open":
        found.append("on_failure: open: a stop of the service takes the fence away")
    if who.name == launch.FALLBACK != settings.relay.user:
        found.append(f"relay.user {settings.relay.user} does not exist: workers run as {who.name}, as others may too")
    if not may_look():
        found.append("without CAP_SYS_PTRACE: what is in a container or was deleted has no sha256, package and script")
    with suppress(HostError):
        found += [f"the firewall's chain {one} drops what goes to the relay: have it accept lo" for one in firewalls()]
    return tuple(found)


def may_look() -> bool:
    """Return whether we may open /proc/PID/exe of processes of other users."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return bool(held >> CAP_SYS_PTRACE & 1)
