"""What the settings and the units promise of limits."""

from pathlib import Path

import pytest

from appliance.config.settings import Approvals, Settings
from appliance.service.hub import waiting

UNIT = (Path(__file__).parents[2] / "systemd/vendorgate.service").read_text().splitlines()


@pytest.mark.parametrize(("most", "share"), [(1000, 250), (3, 1), (1, 1)])
def test_identity_share_is_a_quarter_of_the_queue(most: int, share: int) -> None:
    limits = waiting(Settings(approvals=Approvals(max_pending=most, max_pending_per_process=7)))
    assert (limits.process, limits.identity, limits.total) == (7, share, most)


@pytest.mark.parametrize("line", ["RuntimeDirectoryMode=0750", "Delegate=yes", "WatchdogSec=30", "StateDirectoryMode=0700"])
def test_the_unit_says(line: str) -> None:
    assert line in UNIT
