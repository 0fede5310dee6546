"""Rows 37 to 54 of the table of ways round: what is on this host, what came before, and what changes under a flow.

Zero bytes come over the wire; the errno is a courtesy.
"""

import socket
import time
from pathlib import Path

import pytest

from appliance.kernel import fence, pins
from appliance.lab.hosts import TARGET_IP, TARGET_IP6
from tests.evasion.field import BOTH, DIRECT, LATER, NOBODY, USERNS, V4, V6, Field, arrive, stay
from tests.evasion.host import ECHO, ask
from tests.evasion.wire import MARK, payload

pytestmark = pytest.mark.kernel
GROUPS = ((socket.AF_INET, "234.86.71.77"), (socket.AF_INET6, "ff15::5645:4e44:4f52"))  # as attacks.py has them
UNITS = Path(__file__).parents[2] / "systemd"


def test_row_37_datagrams_larger_than_a_queue_shows(ground: Field) -> None:
    arrive(ground, ("udp_large",), BOTH)
    stay(ground, ("udp_large",), port=9, says=LATER)


def test_row_38_fragments(ground: Field) -> None:
    stay(ground, ("udp_large", "udp_segments", "udp_corked"), port=9, says=LATER)


def test_row_42_metadata_broadcast_multicast(ground: Field) -> None:
    stay(ground, ("tcp", "udp"), ("169.254.169.254", "fd00:ec2::254"), port=80, says=LATER)
    arrive(ground, ("multicast",), ("224.0.0.251", "ff02::fb"), 5353)
    stay(ground, ("multicast",), ("224.0.0.251", "239.1.2.3", "ff02::fb", "ff15::1"), port=5353, says=LATER)
    stay(ground, ("broadcast",), V4, says="101 |1 |13 |sent ")  # what is sent, the packet engine refuses


def test_row_42_what_the_kernel_announces(ground: Field) -> None:
    """Who joins a group has the kernel say its address, and those of sources, to the wire: bytes of the vendor's choice."""
    stay(ground, ("join", "join_group", "join_source"), port=9, says="errno 1")
    stay(ground, ("anycast",), V6, port=9, says="errno 1")
    time.sleep(1.5)  # reports are sent after a random while, up to a second (RFC 3376, 5.1)
    groups = [socket.inet_pton(family, group) for family, group in GROUPS]
    assert not any(group in frame for frame in ground.leaked() for group in groups)


def test_row_45_the_pins_and_the_cgroup_of_the_fence(ground: Field) -> None:
    """Only root may: what root takes away is put back (service tests)."""
    directory = pins.directory(ground.lab.place().instance)
    assert directory
    load = pins.current(directory)
    assert load
    code = "import os, sys\nfor path in sys.argv[1:]:\n for do in (os.unlink, os.rmdir):\n  try:\n   do(path)\n   print('done', path)\n  except OSError:\n   pass"
    paths = [str(path) for path in (*load.iterdir(), ground.lab.slice_path / "acme.service", ground.lab.slice_path)]
    assert ground.scene.run(code, *paths) == ""
    assert fence.status(ground.lab.place()).missing == ()


def test_row_50_bpf_of_the_vendors_own(ground: Field) -> None:
    stay(ground, ("bpf",), V4, (NOBODY, USERNS), says="1 1")


def test_row_51_before_and_after_boot() -> None:
    """The fence comes before the slice, and the slice before what is in it; a stop of the unit leaves the fence."""
    unit, group, vendor = ((UNITS / name).read_text() for name in ("vendorgate-fence.service", "vendor.slice", "vendor-agent.conf"))
    assert "Before=vendor.slice" in unit and "ExecStop=" not in unit.replace("# No ExecStop", "") and "RemainAfterExit=yes" in unit
    assert "Requires=vendorgate-fence.service" in group and "After=vendorgate-fence.service" in group
    assert "Slice=vendor.slice" in vendor and "Requires=vendor.slice" in vendor


def test_row_53_a_socket_used_for_another_destination(ground: Field) -> None:
    """Where it is direct first, then where nothing may go."""
    ground.leaked()
    cases = [f"{case}@{host}@8" for case in ("elsewhere", "disconnected", "reconnected") for host in BOTH]
    for case in cases:
        said = ground.attack([case], cgroup="direct.service")
        assert not any(MARK in payload(frame) and b"\0\x08" in frame[36:60] for frame in ground.leaked()), said
    assert ground.attack([f"udp_connected@{TARGET_IP}@7"], cgroup="direct.service") != {}
    assert any(MARK in frame for frame in ground.leaked()), "what is direct passes"


@pytest.mark.parametrize("host", BOTH)
@pytest.mark.parametrize("case", ["steady", "steady_datagram"])
def test_row_54_a_flow_from_before_a_change_of_rules(ground: Field, case: str, host: str) -> None:
    flow = ground.start(f"{case}@{host}@{ECHO}", cgroup="direct.service")
    assert flow.stdout and flow.stdout.readline()
    assert any(MARK in frame for frame in ground.leaked())
    file = ground.appliance.home / "rules.d/05-direct.yaml"
    file.unlink()
    ask(ground.appliance, "/reload", "POST")
    try:
        ground.leaked()
        said = flow.communicate("\n")[0]
        assert not any(MARK in frame for frame in ground.leaked()), said
    finally:
        ground.appliance.rule(file.name, DIRECT.format(v4=TARGET_IP, v6=TARGET_IP6))
        ask(ground.appliance, "/reload", "POST")
