"""What leaves the slice, and what does not: the table of traffic of two namespaces."""

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from appliance.kernel import cgroups, fence, judge, libbpf, load, nft, pins
from appliance.kernel.layout import FLOW, PEERS, PREFIXES, RATE, SCOPES, peer_key
from appliance.kernel.libbpf import Map
from appliance.lab.hosts import HOST_IP, TARGET_IP, TARGET_IP6
from appliance.model import Address, HostError
from tests.kernel.entry import Entry
from tests.kernel.stage import PORT, RELAY, Stage

pytestmark = pytest.mark.kernel

TO4, TO6 = Address(TARGET_IP, PORT), Address(TARGET_IP6, PORT)

# What is tried, where to, and where the relay is told that it was going.
STEERED = {
    "tcp v4": ("connect", TARGET_IP, PORT, TO4),
    "tcp v6": ("connect", TARGET_IP6, PORT, TO6),
    "mapped": ("connect", f"::ffff:{TARGET_IP}", PORT, TO4),
    "fast open v4": ("fast_open", TARGET_IP, PORT, TO4),
    "fast open v6": ("fast_open", TARGET_IP6, PORT, TO6),
    "fast open mapped": ("fast_open", f"::ffff:{TARGET_IP}", PORT, TO4),
    "fast open connect": ("fast_open_connect", TARGET_IP, PORT, TO4),
    "bound to a device v4": ("bound_device", TARGET_IP, PORT, TO4),
    "bound to a device v6": ("bound_device", TARGET_IP6, PORT, TO6),
    "bound to a device, fast open": ("bound_device_fast_open", TARGET_IP, PORT, TO4),
    "bound to a device, fast open v6": ("bound_device_fast_open", TARGET_IP6, PORT, TO6),
    "loopback v4": ("connect", "127.0.0.1", PORT, Address("127.0.0.1", PORT)),
    "loopback v6": ("connect", "::1", PORT, Address("::1", PORT)),
    "zero v4": ("connect", "0.0.0.0", PORT, Address("127.0.0.1", PORT)),
    "zero v6": ("connect", "::", PORT, Address("::1", PORT)),
    "zero mapped": ("connect", "::ffff:0.0.0.0", PORT, Address("127.0.0.1", PORT)),
    "own address": ("connect", HOST_IP, PORT, Address(HOST_IP, PORT)),
    "forked, no exec": ("fork_connect", TARGET_IP, PORT, TO4),
}


@pytest.mark.parametrize("case", STEERED)
def test_tcp_is_taken_to_the_relay(stage: Stage, case: str) -> None:
    what, host, port, to = STEERED[case]
    with stage.wire() as wire:
        assert stage.vendor(what, host, port) == "relay"
    assert wire == [] and stage.reached == []
    [accepted] = stage.accepted
    assert accepted.original == to
    assert accepted.found and accepted.found.server == to
    assert accepted.found.process and accepted.found.process.cgroup == "acme.service"


# What is tried, where to, and what the process sees. Nothing of it may reach the wire or the relay.
REFUSED = {
    "udp v4": ("datagram", TARGET_IP, PORT, "errno 1"),
    "udp v6": ("datagram", TARGET_IP6, PORT, "errno 1"),
    "udp mapped": ("datagram", f"::ffff:{TARGET_IP}", PORT, "errno 1"),
    "udp connected": ("connected_datagram", TARGET_IP, PORT, "errno 1"),
    "udp loopback": ("datagram", "127.0.0.1", PORT, "errno 1"),
    "udp-lite": ("udp_lite", TARGET_IP, PORT, "errno 93"),
    "udp-lite v6": ("udp_lite", TARGET_IP6, PORT, "errno 93"),
    "mptcp": ("mptcp", TARGET_IP, PORT, "errno 93"),
    "raw": ("raw", TARGET_IP, PORT, "errno 1"),
    "raw v6": ("raw", TARGET_IP6, PORT, "errno 1"),
    "ping socket": ("ping", TARGET_IP, PORT, "errno 93"),
    "source route": ("source_route", TARGET_IP, PORT, "errno 1"),
    "a mark of its own": ("marked", TARGET_IP, PORT, "errno 1"),
    "link-local": ("link_local", "-", PORT, "errno 111"),
    "the relay's port": ("connect", "127.0.0.1", RELAY, "errno 111"),
    "the relay's port v6": ("connect", "::1", RELAY, "errno 111"),
    "the relay's port mapped": ("connect", "::ffff:127.0.0.1", RELAY, "errno 111"),
    "the relay's port by zero": ("connect", "0.0.0.0", RELAY, "errno 111"),
    "holding the relay's port": ("bind_relay", "127.0.0.2", RELAY, "errno 98"),
    "holding the relay's port v6": ("bind_relay", "::", RELAY, "errno 98"),
    "another namespace": ("other_namespace", TARGET_IP, PORT, "errno 111"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_all_else_stays_in(stage: Stage, case: str) -> None:
    what, host, port, said = REFUSED[case]
    with stage.wire() as wire:
        assert stage.vendor(what, host, port) == said
    assert wire == [] and stage.reached == [] and stage.accepted == []


def test_binding_to_a_device_mid_flow_does_nothing(stage: Stage) -> None:
    with stage.wire() as wire:
        assert stage.vendor("rebound", TARGET_IP) == "relayrelay"
    assert wire == []


def test_as_an_unprivileged_user(stage: Stage) -> None:
    assert stage.vendor("bound_device", TARGET_IP, user="nobody") == "relay"
    assert stage.accepted[0].found
    process = stage.accepted[0].found.process
    assert process and process.uid == 65534


def test_ungoverned_traffic_is_untouched(stage: Stage) -> None:
    for case, host in (("connect", TARGET_IP), ("connect", TARGET_IP6), ("datagram", TARGET_IP), ("bound_device", TARGET_IP)):
        assert stage.vendor(case, host, cgroup=None) == "target"
    assert stage.vendor("raw", TARGET_IP, cgroup=None) == "created"
    assert stage.accepted == []


def test_a_call_from_outside_is_not_answered(stage: Stage) -> None:
    server = stage.start("serve", HOST_IP, 8008)
    assert server.stdout and server.stdout.readline() == "listening\n"
    assert stage.vendor("connect", HOST_IP, 8008, cgroup=None) == "silence"
    server.kill()
    server.communicate()


def test_two_flows_from_one_source_port_are_told_apart(stage: Stage) -> None:
    assert stage.vendor("shared_port", TARGET_IP) == "relay relay"
    found = [a.found for a in stage.accepted]
    assert [f and f.server for f in found] == [TO4, Address(TARGET_IP, PORT + 1)]
    assert len({a.peer.port for a in stage.accepted}) == 2  # address translation chose another
    assert len({f.cookie for f in found if f}) == 2


def test_deny_is_answered_at_once(stage: Stage) -> None:
    stage.judge.write([Entry("10.77.0.0/24", "deny", low=PORT, high=PORT), Entry("::/0", "deny", protocol=17)])
    started = time.monotonic()
    assert stage.vendor("connect", TARGET_IP) == "errno 111"
    assert stage.vendor("connect", f"::ffff:{TARGET_IP}") == "errno 111"
    assert stage.vendor("connected_datagram", TARGET_IP6) == "errno 111"
    assert time.monotonic() - started < 20, "a SYN that is dropped is sent again for minutes"
    assert stage.vendor("connect", TARGET_IP, PORT + 1) == "relay"
    assert stage.vendor("connect", TARGET_IP6) == "relay"


def test_direct_goes_direct_and_nothing_else(stage: Stage) -> None:
    stage.lab.cgroup("acme.service"), stage.lab.cgroup("other.service")
    stage.judge.write([
        Entry(f"{TARGET_IP}/32", "direct", "acme.service", PORT, PORT),
        Entry(f"{TARGET_IP6}/128", "direct", "acme.service", PORT, PORT, 17),
    ])  # fmt: skip
    assert stage.vendor("connect", TARGET_IP) == "target"
    assert stage.vendor("connect", f"::ffff:{TARGET_IP}") == "target"
    assert stage.vendor("datagram", TARGET_IP6) == "target"
    assert stage.accepted == []
    assert stage.vendor("datagram", TARGET_IP) == "errno 1"
    assert stage.vendor("connect", TARGET_IP6) == "relay"
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct", protocol=17)])
    assert stage.vendor("datagram", TARGET_IP) == "target"
    assert stage.vendor("source_route_datagram", TARGET_IP) == "errno 1"
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct", "acme.service", PORT, PORT)])
    assert stage.vendor("connect", TARGET_IP, PORT + 1) == "relay"
    assert stage.vendor("connect", TARGET_IP, cgroup="other.service") == "relay"


def test_a_socket_judged_direct_is_judged_again(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct", low=PORT, high=PORT)])
    assert stage.vendor("reconnect", TARGET_IP) == "target relay"
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct", low=PORT + 1, high=PORT + 1)])
    assert stage.vendor("reconnect", TARGET_IP) == "relay target"


def test_a_cgroup_nobody_knows_is_inspected_until_refresh(stage: Stage) -> None:
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct")])
    assert stage.vendor("connect", TARGET_IP, cgroup="new.service") == "relay"
    assert stage.judge.refresh() >= 1
    assert stage.vendor("connect", TARGET_IP, cgroup="new.service") == "target"
    stage.lab.cgroup("new.service").rmdir()
    assert stage.judge.refresh() == 1


def test_more_prefixes_than_the_map_holds_change_nothing(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct")])
    many = [Entry(f"{i >> 16}.{i >> 8 & 255}.{i & 255}.0/24", "deny") for i in range(1 << 16, (1 << 16) + PREFIXES + 1)]
    with pytest.raises(HostError, match=r"No space|too long"):
        stage.judge.write(many)
    assert stage.vendor("connect", TARGET_IP) == "target"
    assert stage.judge.write([]) > 0
    assert list(Map(stage.fence.judge)) == []


def test_more_cgroups_than_the_map_holds_are_inspected(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cgroups.governed(stage.place.cgroup)
    invented = {i: f"x/{i}" for i in range(1 << 40, (1 << 40) + SCOPES)}
    monkeypatch.setattr(cgroups, "governed", lambda top: invented | real)
    with pytest.raises(HostError, match="too long"):
        stage.judge.write([Entry(f"{TARGET_IP}/32", "direct")])
    assert stage.vendor("connect", TARGET_IP) == "relay"
    monkeypatch.undo()
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct")])
    assert stage.vendor("connect", TARGET_IP) == "target"


def test_more_peers_than_the_map_holds_forget_the_oldest(stage: Stage) -> None:
    instance = pins.directory(stage.place.instance)
    load = pins.current(instance) if instance else None
    assert load
    fd = libbpf.opened(load / "map_peers")
    for port in range(1, PEERS * 2):
        Map(fd).update(peer_key(0, Address("192.0.2.1", port)), bytes(FLOW.size))
    assert len(list(Map(fd))) <= PEERS
    os.close(fd)
    assert stage.vendor("connect", TARGET_IP) == "relay"
    assert stage.accepted[0].found


def test_rules_that_no_longer_say_direct_cut_the_flow(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct")])
    flow = stage.start("slow", TARGET_IP)
    assert flow.stdout and flow.stdout.readline() == "target\n"
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct", low=PORT, high=PORT)])  # still direct
    before = stage.status().counters["drop_revoked"]
    stage.judge.write([])
    assert flow.communicate("\n")[0] == "errno 103\n"  # ECONNABORTED, not a silence
    assert stage.status().counters["drop_revoked"] == before + 1


def test_a_flow_that_is_not_cut_is_dropped(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the kernel has no bpf_sock_destroy()."""
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct")])
    flow = stage.start("slow", TARGET_IP)
    assert flow.stdout and flow.stdout.readline() == "target\n"
    monkeypatch.setattr(judge, "revoke", lambda place: None)
    stage.judge.write([])
    with stage.wire() as wire:
        assert flow.communicate("\n")[0] == "silence\n"
    assert wire == []


def test_flushed_rules_mid_flow_drop(stage: Stage) -> None:
    flow = stage.start("slow", TARGET_IP)
    assert flow.stdout and flow.stdout.readline() == "relay\n"
    assert stage.host(nft.present)
    subprocess.run(["nsenter", f"--net=/run/netns/{stage.lab.host}", "nft", "flush", "ruleset"], check=True)
    assert not stage.host(nft.present)
    with stage.wire() as wire:
        assert flow.communicate("\n")[0] == "silence\n"
        assert stage.vendor("connect", TARGET_IP) == "silence"
    assert wire == [] and stage.reached == []
    assert stage.status().counters["drop_not_relay"] > 0
    stage.steer()
    assert stage.vendor("connect", TARGET_IP) == "relay"


LOADER = """
import sys, time
from pathlib import Path
from appliance.kernel import fence
held = fence.up(fence.Place(Path(sys.argv[1]), sys.argv[2]))
print("up", flush=True)
time.sleep(60)
"""


def test_the_fence_outlives_its_loader(stage: Stage) -> None:
    fence.down(stage.place)
    assert stage.vendor("connect", TARGET_IP) == "target"
    place = stage.place
    loader = stage.lab.popen(
        [sys.executable, "-c", LOADER, str(place.cgroup_root), place.slice],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert loader.stdout and loader.stdout.readline() == "up\n"
    loader.kill()
    loader.communicate()
    with stage.wire() as wire:
        assert stage.vendor("connect", TARGET_IP) == "relay"
        assert stage.vendor("datagram", TARGET_IP) == "errno 1"
    assert wire == []
    assert stage.status().up


def test_up_twice_keeps_what_is_there(stage: Stage) -> None:
    instance = pins.directory(stage.place.instance)
    assert instance
    before = pins.current(instance)
    with stage.host(fence.up, stage.place):
        assert pins.current(instance) == before and pins.loads(instance) == [before]


def test_another_build_replaces_it_without_a_gap_and_flows_live(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence.down(stage.place)
    stage.host(fence.up, stage.place).close()
    instance = pins.directory(stage.place.instance)
    assert instance
    flow = stage.start("slow", TARGET_IP)
    assert flow.stdout and flow.stdout.readline() == "relay\n"
    before = pins.current(instance)
    monkeypatch.setattr(load, "build_of", lambda objects: 1)
    with stage.host(fence.up, stage.place):
        assert pins.current(instance) != before and len(pins.loads(instance)) == 1
    assert flow.communicate("\n")[0] == "relay\n"
    assert stage.status().up


def test_status_is_what_the_kernel_says(stage: Stage) -> None:
    fence.down(stage.place)
    stage.host(fence.up, stage.place).close()
    assert stage.status().up and stage.status().relay_port == RELAY
    instance = pins.directory(stage.place.instance)
    load = pins.current(instance) if instance else None
    assert load
    (load / "link_vg_egress").unlink()
    assert stage.status().missing == ("vg_egress",) and not stage.status().up
    stage.host(fence.up, stage.place).close()
    assert stage.status().up


def test_a_slice_made_anew_is_governed_after_up(stage: Stage) -> None:
    place = msgspec.structs.replace(stage.place, slice=f"{stage.place.slice}/again.slice")
    stage.host(fence.up, place).close()
    assert stage.host(fence.status, place).up
    place.cgroup.rmdir()
    assert not stage.host(fence.status, place).up
    stage.host(fence.up, place).close()
    assert stage.host(fence.status, place).up
    fence.down(place)
    place.cgroup.rmdir()


def test_down_removes_all_and_twice_is_fine(stage: Stage) -> None:
    place = msgspec.structs.replace(stage.place, slice=f"{stage.place.slice}/down.slice")
    stage.host(fence.up, place).close()
    fence.down(place)
    fence.down(place)
    assert pins.directory(place.instance) is None
    assert fence.status(place).missing
    with pytest.raises(HostError, match="is not up"):
        fence.attached(place)
    place.cgroup.rmdir()


def test_a_relay_that_is_away_is_a_refusal(stage: Stage) -> None:
    with stage.host(socket.socket) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    stage.host(nft.apply, nft.ruleset(port, 0x56470001))
    other = msgspec.structs.replace(stage.place, port=port)
    stage.host(fence.up, other).close()
    try:
        assert stage.vendor("connect", TARGET_IP) == "errno 111"
    finally:
        stage.host(fence.up, stage.place).close()


def test_rate_is_a_limit_of_a_vendor_whatever_cgroups_it_makes(stage: Stage) -> None:
    vendor = cgroups.identifier(stage.lab.cgroup("acme.service"))
    stage.lab.cgroup("acme.service/child")
    instance = pins.directory(stage.place.instance)
    there = pins.current(instance) if instance else None
    assert there
    rates = libbpf.opened(there / "map_rates")

    def said(cgroup: str) -> set[str]:
        """Return what connects get while the vendor has had its share of this second, or of the next."""
        found = set()
        for ahead in (0, 0, 1, 0, 1, 0):
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 10**9 + ahead
            Map(rates).update(vendor.to_bytes(8, sys.byteorder), struct.pack("=QQ", now, RATE))
            found.add(stage.vendor("connect", TARGET_IP, cgroup=cgroup))
        return found

    assert "errno 111" in said("acme.service") and "errno 111" in said("acme.service/child")
    assert said("other.service") == {"relay"}
    Map(rates).delete(vendor.to_bytes(8, sys.byteorder))
    os.close(rates)
