"""The account of a cgroup says what left it, by which way, byte for byte where a relay can be held against it."""

import time

import pytest

from appliance.kernel import coverage, nft
from appliance.kernel.coverage import KEY, Coverage, Traffic
from appliance.kernel.layout import LEDGER, Reason
from appliance.kernel.libbpf import Map
from appliance.lab.hosts import TARGET_IP, TARGET_IP6
from appliance.model import HostError
from tests.kernel.entry import Entry
from tests.kernel.stage import RELAY, Stage

pytestmark = pytest.mark.kernel


def account(stage: Stage, cgroup: str = "acme.service") -> Coverage:
    stage.lab.cgroup(cgroup)
    return next((a for a in coverage.read(stage.fence) if a.cgroup == cgroup), Coverage(0, cgroup, 0, 0))


def test_flows_to_the_relay_are_numbered_without_a_hole(stage: Stage) -> None:
    first = account(stage).sequence
    for host in (TARGET_IP, TARGET_IP6, TARGET_IP, f"::ffff:{TARGET_IP}"):
        stage.vendor("connect", host)
    stage.vendor("connect", TARGET_IP, cgroup="third.service")
    found = [a.found for a in stage.arrived(5) if a.found]
    mine = account(stage)
    assert [f.sequence for f in found[:4]] == [first + n for n in (1, 2, 3, 4)]
    assert {f.scope for f in found[:4]} == {mine.id} and {f.epoch for f in found} == {mine.epoch}
    assert mine.sequence == first + 4 and mine.relay.flows == mine.sequence
    third = account(stage, "third.service")
    assert (found[4].scope, found[4].sequence) == (third.id, third.sequence)
    assert 0 < mine.epoch < time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_flow_that_is_refused_or_denied_gets_no_number(stage: Stage) -> None:
    before = account(stage)
    stage.judge.write([Entry(f"{TARGET_IP}/32", "deny")])
    assert stage.vendor("connect", TARGET_IP) == "errno 111"
    stage.judge.write([Entry(f"{TARGET_IP}/32", "direct")])
    assert stage.vendor("connect", TARGET_IP) == "target"
    after = account(stage)
    assert after.sequence == before.sequence
    assert after.dropped.flows == before.dropped.flows + 1
    assert after.reasons["refuse_rule"] == before.reasons.get("refuse_rule", 0) + 1
    assert after.direct.flows == before.direct.flows + 1 and after.direct.bytes > before.direct.bytes


def test_bytes_to_the_relay_are_those_of_the_stream(stage: Stage) -> None:
    before = account(stage)
    assert stage.vendor("stream", TARGET_IP) == "sent"
    assert stage.vendor("connect", TARGET_IP) == "relay"
    assert stage.vendor("fast_open", TARGET_IP) == "relay"
    after = account(stage)
    assert after.relay.bytes - before.relay.bytes == 100_000 + 2 * len(b"hello")
    assert after.relay.flows - before.relay.flows == 3
    assert after.relay.packets > before.relay.packets


LOSSY = f"""table inet lossy {{
 chain in {{
  type filter hook input priority 0; policy accept;
  tcp dport {RELAY} tcp flags & syn == 0 numgen random mod 6 == 0 counter drop
 }}
}}
"""


def test_bytes_that_are_sent_again_count_once(stage: Stage) -> None:
    before = account(stage)
    stage.host(nft.apply, LOSSY)
    try:
        jobs = [stage.start("stream", TARGET_IP) for _ in range(6)]
        said = [job.communicate()[0] for job in jobs]
        lost = stage.lab.run(["nft", "list", "table", "inet", "lossy"], capture_output=True, text=True).stdout
    finally:
        stage.host(nft.apply, "delete table inet lossy\n")
    assert said == ["sent\n"] * 6 and "packets 0 " not in lost
    after = account(stage)
    assert after.relay.bytes - before.relay.bytes == 600_000
    assert after.sequence - before.sequence == 6


def test_drops_count_with_their_reason(stage: Stage) -> None:
    before = account(stage)
    assert stage.vendor("connected_datagram", TARGET_IP) == "errno 1"
    assert stage.vendor("udp_lite", TARGET_IP) == "errno 93"
    after = account(stage)
    assert after.dropped.packets == before.dropped.packets + 1
    assert after.dropped.bytes == before.dropped.bytes + 20 + 8 + len(b"hello")
    for reason in ("drop_datagram", "refuse_socket"):
        assert after.reasons[reason] == before.reasons.get(reason, 0) + 1
    assert after.sent == before.sent


def test_all_that_passed_adds_up() -> None:
    one = Traffic(1, 2, 3)
    mine = Coverage(1, "a", 2, 3, direct=one, relay=one, engine=one, inside=one, kept=one, dropped=Traffic(9, 9, 9))
    assert mine.sent == Traffic(5, 10, 15)


def test_cgroups_that_are_gone_are_handed_over_when_the_map_is_half_full(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stage.lab.cgroup("brief.service")
    stage.vendor("connect", TARGET_IP, cgroup="brief.service")
    number = account(stage, "brief.service").id
    path.rmdir()
    assert coverage.retire(stage.fence) == ()
    assert next(a for a in coverage.read(stage.fence) if a.id == number).cgroup is None
    monkeypatch.setattr(coverage, "ROOM", 0)
    [last] = [a for a in coverage.retire(stage.fence) if a.id == number]
    assert (last.sequence, last.relay.flows) == (1, 1)
    assert all(a.id != number for a in coverage.read(stage.fence))
    assert account(stage).id  # those that live stay


def test_without_room_to_count_there_is_no_network(stage: Stage) -> None:
    sequences = Map(stage.fence.sequences)
    invented = [KEY.pack(1 << 50 | n) for n in range(LEDGER)]
    stage.lab.cgroup("late.service")
    try:
        for key in invented:
            try:
                sequences.update(key, bytes(8))
            except HostError:
                break
        assert stage.vendor("connect", TARGET_IP, cgroup="late.service") == "errno 111"
        assert stage.vendor("connect", TARGET_IP) == "relay"
    finally:
        for key in invented:
            sequences.delete(key)
    assert stage.vendor("connect", TARGET_IP, cgroup="late.service") == "relay"
    assert account(stage, "late.service").reasons[Reason.REFUSE_LEDGER.name.lower()] == 1


def test_counts_of_many_processes_at_once_are_exact(stage: Stage) -> None:
    before = account(stage)
    jobs = [stage.start("stream", TARGET_IP) for _ in range(8)]
    assert {job.communicate()[0] for job in jobs} == {"sent\n"}
    after = account(stage)
    assert after.relay.bytes - before.relay.bytes == 800_000
    assert after.sequence - before.sequence == 8
