"""Others change the firewall under us, during live traffic: nothing leaks, it is put back, the neighbour sees nothing."""

import time

import pytest

from tests.chaos.storm import Storm
from tests.evasion.host import Scene, until

pytestmark = pytest.mark.kernel


def nft(scene: Scene, script: str) -> None:
    done = scene.lab.run(["nft", "-f", "-"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def table(scene: Scene) -> str:
    return str(scene.lab.run(["nft", "list", "table", "inet", "vendorgate"], capture_output=True, text=True).stdout)


def restored(live: Storm) -> None:
    until(lambda: "redirect to" in table(live.scene), 20)
    live.served()


def test_flush_ruleset(scene: Scene, live: Storm) -> None:
    for _ in range(3):
        nft(scene, "flush ruleset")
        restored(live)
    assert "removed or changed by others" in live.appliance.log.read_text() or "redirect to" in table(scene)


BRIDGE = """
table ip churn {
    chain prerouting { type nat hook prerouting priority -100; policy accept; }
    chain output { type nat hook output priority -100; policy accept; }
    chain postrouting { type nat hook postrouting priority 100; policy accept; ip saddr 172.17.0.0/16 masquerade; }
    chain forward { type filter hook forward priority 0; policy accept; }
    chain filter { type filter hook output priority 0; policy accept; ct state established,related accept; }
}
"""


def test_base_chain_churn(scene: Scene, live: Storm) -> None:
    """As container engines do at each start: base chains come and go, with NAT of their own, many times a second."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        nft(scene, BRIDGE)
        nft(scene, "delete table ip churn")
    live.served()


def test_a_firewall_that_drops_by_default_is_no_way_round(scene: Scene, live: Storm) -> None:
    """A reload that first drops all, then flushes, then puts its own in place."""
    nft(scene, "flush ruleset")
    nft(
        scene,
        "table inet filter { chain output { type filter hook output priority 0; policy accept; oifname lo accept; }; }",
    )
    restored(live)
    nft(scene, "delete table inet filter")
    live.served()
