"""Every touch of the host as a field of one struct: the service takes this, a test passes its own."""

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.kernel import cgroups, check, fence
from appliance.kernel.check import Finding
from appliance.kernel.fence import Fence, Place, Status
from appliance.kernel.judge import Judge
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.nft import apply, present, removal, ruleset
from appliance.kernel.original import original
from appliance.kernel.peers import Peers
from appliance.model import Address


class Host(msgspec.Struct, frozen=True):
    """What the service asks of a host. `steer` puts our nft table in force, `unsteer` takes it away."""

    up: Callable[[Place], Fence] = fence.up
    attached: Callable[[Place], Fence] = fence.attached
    down: Callable[[Place], None] = fence.down
    status: Callable[[Place], Status] = fence.status
    judge: Callable[[Fence], Judge] = Judge
    peers: Callable[[int, Path], Peers] = Peers
    original: Callable[[socket.socket], Address | None] = original
    nft: Callable[[str], None] = apply  # one script, applied whole or not at all
    steered: Callable[[], bool] = present
    preflight: Callable[[Place], list[Finding]] = check.preflight
    move: Callable[[int, Path], None] = cgroups.move

    def steer(self, place: Place) -> None:
        self.nft(ruleset(place.port, STEER_MARK))

    def unsteer(self) -> None:
        self.nft(removal())
