"""The fence as the settings want it: put up by the hub and by `vendorgate fence up`, and what is to be said of it."""

import logging

from appliance import config
from appliance.kernel import fence, needs, table, unix
from appliance.kernel.fence import Fence, Kept, Place
from appliance.model import HostError

log = logging.getLogger("vendorgate.hub")

MOST = 20  # connections named one by one in the journal; a host may have thousands


def place(settings: config.Settings) -> Place:
    """Return what the settings say is governed."""
    return Place(settings.cgroup_root, settings.slice, settings.relay.port)


def put_up(settings: config.Settings) -> Fence:
    """Put the fence up, or bring the one that is up to what the settings say.

    Raises:
        HostError: the host cannot do it; what was in force before still is.
    """
    needs.cgroup2(settings.cgroup_root)
    try:
        up = fence.up(place(settings), settings.existing_connections == "keep")
    except HostError as error:
        raise error if error.hint else HostError(error.what, needs.remedy()) from error
    try:
        unix.allow(up, settings.unix)
    except BaseException:
        up.close()
        raise
    for line in told(up.kept):
        log.warning("%s", line)
    return up


def take_down(settings: config.Settings) -> str:
    """Remove the fence, and the steering that nothing marks packets for any more; return what stays, and why."""
    fence.down(place(settings))
    try:
        table.remove()
    except HostError as error:  # a hub runs, which holds the table and will put the fence back
        return str(error)
    return ""


def told(kept: tuple[Kept, ...]) -> list[str]:
    """Return what the journal says of connections that are kept."""
    said = "kept from before the fence, unjudged"
    lines = [f"{said}: {one.cgroup or '(the slice)'}, {one.client} to {one.server}" for one in kept[:MOST]]
    return lines + ([f"{said}: {len(kept) - MOST} more"] if len(kept) > MOST else [])
