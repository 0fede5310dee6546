"""What the settings ask for and cannot have, and what they give up: shown in status for as long as it is so."""

from appliance import config
from appliance.service import launch


def lacks(settings: config.Settings, who: launch.User) -> tuple[str, ...]:
    """Return what the settings ask for and cannot have, and what they give up."""
    found = []
    if settings.existing_connections == "keep":
        found.append("existing_connections: keep cannot be done yet; what was open before the fence is dropped")
    if settings.on_failure == "open":
        found.append("on_failure: open: a stop of the service takes the fence away")
    if who.name == launch.FALLBACK != settings.relay.user:
        found.append(f"relay.user {settings.relay.user} does not exist: workers run as {who.name}, as others may too")
    return tuple(found)
