"""What the packet engine judges: all of it comes to the queue, in both directions, and nothing passes without its mark."""

import contextlib
import socket
import sys
import time

import pytest

from appliance.kernel import coverage, nft
from appliance.kernel.layout import LINGER, QUEUE_DIRECT, SCOPES, SHARE, SHARED, STEER_MARK
from appliance.kernel.libbpf import Map
from appliance.kernel.queue import INPUT, OUTPUT
from appliance.lab.hosts import HOST_IP, TARGET_IP, TARGET_IP6
from appliance.model import HostError
from appliance.packet.build import rebuild
from appliance.packet.decode import decode
from tests.kernel.engine import ACCEPT, DROP, Engine, Seen
from tests.kernel.entry import Entry
from tests.kernel.stage import PORT, Stage

pytestmark = pytest.mark.kernel

HOSTS = [TARGET_IP, TARGET_IP6, f"::ffff:{TARGET_IP}"]
PACKETS = [Entry("10.77.0.0/24", "queue", "acme.service"), Entry("fd77::/64", "queue", "acme.service")]


def telling(frames: list[bytes]) -> list[bytes]:
    """Return the frames but those with which the kernel ends connections of earlier tests: TCP without SYN and without data."""

    def is_end(frame: bytes) -> bool:
        at, length = (20, frame[2:4]) if frame[0] >> 4 == 4 else (40, frame[4:6])
        if frame[9 if at == 20 else 6] != 6 or frame[at + 13] & 2:
            return False
        return int.from_bytes(length, "big") + (40 if at == 40 else 0) == at + (frame[at + 12] >> 4) * 4

    return [frame for frame in frames if not is_end(frame)]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("case", ["datagram", "connected_datagram"])
def test_a_datagram_and_its_answer_are_judged(stage: Stage, case: str, host: str) -> None:
    with Engine(stage) as engine:
        assert stage.vendor(case, host) == "target"
    assert [one.packet.hook for one in engine.seen] == [OUTPUT, INPUT]
    for one in engine.seen:
        assert one.speaker and one.speaker.process and one.speaker.process.argv[3] == case
        assert one.speaker.process.cgroup == "acme.service"
    assert engine.seen[0].packet.data.endswith(b"hello") and engine.seen[1].packet.data.endswith(b"target")


@pytest.mark.parametrize("host", HOSTS)
def test_tcp_in_packets(stage: Stage, host: str) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(PACKETS)
    with Engine(stage) as engine:
        assert stage.vendor("connect", host) == "target"
        assert stage.accepted == []  # not by the relay
    assert {one.packet.hook for one in engine.seen} == {INPUT, OUTPUT}
    assert all(one.speaker and one.speaker.process and one.speaker.process.argv[3] == "connect" for one in engine.seen)


@pytest.mark.parametrize("case", ["datagram", "connected_datagram", "connect"])
def test_what_is_dropped_never_arrives(stage: Stage, case: str) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(PACKETS)
    with Engine(stage, lambda seen: DROP), stage.wire() as frames:
        assert stage.vendor(case, TARGET_IP) == "silence"
    assert telling(frames) == []


def test_without_an_engine_all_is_refused_as_before(stage: Stage) -> None:
    assert stage.vendor("datagram", TARGET_IP) == "errno 1"


def test_a_dead_engine_is_silence(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    with Engine(stage) as engine, stage.wire() as frames:
        engine.kill()
        assert stage.vendor("datagram", TARGET_IP) == "silence"
        assert stage.vendor("connected_datagram", TARGET_IP) == "silence"
    assert telling(frames) == []


def test_a_flushed_table_is_no_way_round(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(PACKETS)
    with Engine(stage) as engine, stage.wire() as frames:
        stage.host(nft.apply, nft.removal())
        for case in ("datagram", "connected_datagram", "connect"):
            assert stage.vendor(case, TARGET_IP) in ("silence", "errno 1"), case
        assert engine.seen == []
    assert telling(frames) == []
    assert stage.status().counters["drop_engine"] > 0


def test_direct_and_judged_over_one_socket(stage: Stage) -> None:
    """Whatever the order: what is direct never waits for the engine, what is not always does."""
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("10.77.0.0/24", "direct", "acme.service", PORT, PORT, 17)])
    with Engine(stage) as engine:
        process = stage.start("slow_datagrams", TARGET_IP)
        assert process.stdin and process.stdout and process.stdout.readline() == "ready\n"
        for port in (PORT, PORT + 1, PORT, PORT, PORT + 1, PORT + 1):
            before = len(engine.seen)
            print(port, file=process.stdin, flush=True)
            assert process.stdout.readline() == "target\n", port
            assert len(engine.seen) - before == (0 if port == PORT else 2)
        process.communicate()


def test_the_ledger_counts_what_the_engine_let_by(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(PACKETS)

    def account() -> coverage.Coverage:
        return next(a for a in coverage.read(stage.fence) if a.cgroup == "acme.service")

    stage.vendor("datagram", TARGET_IP)
    before = account()
    with Engine(stage) as engine:
        stage.vendor("datagram", TARGET_IP), stage.vendor("connect", TARGET_IP)
    after = account()
    out = [one.packet for one in engine.seen if one.packet.hook == OUTPUT]
    assert after.engine.packets - before.engine.packets == len(out)
    assert after.engine.bytes - before.engine.bytes == sum(len(packet.data) for packet in out)
    assert after.engine.flows - before.engine.flows == 1
    assert after.dropped == before.dropped


def test_a_number_is_of_one_socket_until_long_after_it_is_closed(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    with Engine(stage) as engine:
        jobs = [stage.start("datagram", TARGET_IP) for _ in range(40)]
        pids = {job.pid for job in jobs}
        assert [job.communicate()[0] for job in jobs] == ["target\n"] * 40
    # Datagrams: of a connection that an earlier test has left, the kernel may send the end again.
    sent = [one for one in engine.seen if one.packet.hook == OUTPUT and one.packet.data[9] == socket.IPPROTO_UDP]
    assert {one.speaker.process.pid for one in sent if one.speaker and one.speaker.process} == pids
    assert len({one.packet.mark for one in sent}) == 40


def test_processes_that_are_gone_before_their_datagram_is_read(stage: Stage) -> None:
    stage.lab.cgroup("acme.service"), stage.lab.cgroup("other.service")
    with Engine(stage) as engine:
        jobs = [stage.start("fire", TARGET_IP, cgroup=name) for _ in range(30) for name in ("acme.service", "other.service")]
        for job in jobs:
            job.communicate()
        engine.wait(60)
    sent = [one.speaker.process for one in engine.seen if one.packet.hook == OUTPUT and one.speaker and one.speaker.process]
    assert {process.pid: process.cgroup for process in sent} == {
        job.pid: ("acme.service", "other.service")[i % 2] for i, job in enumerate(jobs)
    }
    assert all(process.argv[3] == "fire" and process.exe.startswith("/usr/bin/python3") for process in sent)


def test_marks_of_a_control_message_name_nobody_else_and_let_nothing_by(stage: Stage) -> None:
    """As root in the slice, with every right."""
    with Engine(stage) as engine, stage.wire() as frames:
        victim = stage.start("slow_datagrams", TARGET_IP, cgroup="other.service")
        assert victim.stdin and victim.stdout and victim.stdout.readline() == "ready\n"
        print(PORT, file=victim.stdin, flush=True)
        assert victim.stdout.readline() == "target\n"
        theirs = engine.seen[0].packet.mark
        before, forged = len(engine.seen), engine.passage.forged
        frames_before = stage.status().counters["pass_engine"]
        process = stage.start("marks", TARGET_IP)
        guesses = [0, 1, STEER_MARK, engine.mark ^ 1, 0xFFFFFFFF]
        assert process.communicate("".join(f"{mark}\n" for mark in guesses))[0] == "silence\n"
        assert len(engine.seen) == before
        assert stage.status().counters["pass_engine"] == frames_before
        assert engine.passage.forged == forged + 3  # nftables itself drops the one it knows
        process = stage.start("marks", TARGET_IP)
        assert process.communicate(f"{theirs}\n{theirs | QUEUE_DIRECT}\n")[0] == "target\n"
        engine.wait(3)
        for sent in [one for one in engine.seen[before:] if one.packet.hook == OUTPUT]:
            assert sent.packet.mark != theirs
            assert sent.speaker and sent.speaker.process and sent.speaker.process.pid == process.pid
        victim.communicate()
    assert sum(b"forged" in frame for frame in frames) == 2


def test_the_mark_that_lets_by_is_not_shown(stage: Stage) -> None:
    with Engine(stage):
        assert stage.vendor("seen_mark", TARGET_IP) == "target"


def test_several_datagrams_in_one_are_not_let_by_as_one(stage: Stage) -> None:
    with Engine(stage) as engine, stage.wire() as frames:
        assert stage.vendor("segments", TARGET_IP) == "silence"
        assert engine.queue.losses.several == 1
    assert telling(frames) == []


@pytest.mark.parametrize("host", [TARGET_IP, TARGET_IP6])
def test_ping_where_rules_speak_of_it(stage: Stage, host: str) -> None:
    assert stage.vendor("echo", host) == "errno 93"
    with Engine(stage) as engine:
        assert stage.vendor("echo", host) == "errno 93"
        assert engine.seen == []
    with Engine(stage, pings=True) as engine:
        assert stage.vendor("echo", host) == "hello"
        assert [one.packet.hook for one in engine.seen] == [OUTPUT, INPUT]
        assert all(one.speaker and one.speaker.process and one.speaker.process.argv[3] == "echo" for one in engine.seen)
    with Engine(stage, lambda seen: DROP, pings=True):
        assert stage.vendor("echo", host) == "silence"


def test_ping_that_a_rule_denies_in_the_kernel(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("10.77.0.0/24", "deny", protocol=1)])
    with Engine(stage, pings=True):
        assert stage.vendor("echo", TARGET_IP) == "silence"


def test_what_nobody_asked_for_does_not_come_in(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    with Engine(stage):
        before = stage.status().counters["drop_answer"]
        process = stage.start("receive", HOST_IP)
        assert process.stdout and process.stdout.readline() == "listening\n"
        assert stage.vendor("datagram", HOST_IP, cgroup=None) == "silence"
        assert process.communicate()[0] == "silence\n"
        assert stage.status().counters["drop_answer"] > before
        stage.judge.write([Entry("10.77.0.0/24", "direct", "acme.service", protocol=17)])
        process = stage.start("receive", HOST_IP)
        assert process.stdout and process.stdout.readline() == "listening\n"
        assert stage.vendor("datagram", HOST_IP, cgroup=None) == "silence"  # it does not answer
        assert process.communicate()[0] == "hello\n"


def test_answers_that_are_not_tracked_do_not_come_in(stage: Stage) -> None:
    """Another firewall may take DNS out of the tracking of connections, or change their marks."""
    rules = "table inet other { chain raw { type filter hook prerouting priority -300; meta l4proto udp notrack; }; }"
    with Engine(stage):
        stage.host(nft.apply, rules)
        try:
            assert stage.vendor("datagram", TARGET_IP) == "silence"
        finally:
            stage.host(nft.apply, "delete table inet other")
        assert stage.vendor("datagram", TARGET_IP) == "target"


def test_who_is_given_the_port_of_a_closed_socket_is_not_taken_for_it(stage: Stage) -> None:
    """Neither another vendor nor somebody outside the slice, whose packets are nobody's business."""
    with Engine(stage) as engine:
        for cgroup in ("acme.service", "other.service", None):
            assert stage.vendor("from_port", TARGET_IP, cgroup=cgroup) == "target"
    sent = [(one.speaker.process.cgroup, one.packet.hook) for one in engine.seen if one.speaker and one.speaker.process]
    assert sent == [("acme.service", OUTPUT), ("acme.service", INPUT), ("other.service", OUTPUT), ("other.service", INPUT)]
    assert len(engine.seen) == 4


def test_sockets_that_share_a_port_are_told_apart(stage: Stage) -> None:
    stage.lab.cgroup("acme.service"), stage.lab.cgroup("other.service")
    with Engine(stage) as engine:
        jobs = []
        for cgroup in ("acme.service", "other.service"):
            jobs.append(stage.start("shared_datagrams", TARGET_IP, cgroup=cgroup))
            assert jobs[-1].stdout and jobs[-1].stdout.readline() == "ready\n"
        for job in jobs:
            assert job.communicate("\n")[0] == "sent\n"
        engine.wait(2)
    found = [one.speaker.process.pid for one in engine.seen if one.packet.hook == OUTPUT and one.speaker and one.speaker.process]
    assert found == [job.pid for job in jobs]


def test_share_is_a_limit_and_leaves_others_theirs(stage: Stage) -> None:
    for name in ("greedy.service", "greedy.service/child", "other.service"):
        stage.lab.cgroup(name)
    with Engine(stage, lambda seen: DROP):
        process = stage.start("many", TARGET_IP, cgroup="greedy.service")
        assert process.stdout and int(process.stdout.readline()) == SHARE
        assert stage.vendor("datagram", TARGET_IP, cgroup="greedy.service") == "errno 1"
        assert stage.vendor("datagram", TARGET_IP, cgroup="greedy.service/child") == "errno 1"
        assert stage.vendor("datagram", TARGET_IP, cgroup="other.service") == "silence"
        process.communicate()


def test_sockets_that_are_closed_take_nothing_from_the_share(stage: Stage) -> None:
    """A resolver makes one for each question: numbers of closed ones are given out again, of those in use LINGER later."""
    stage.lab.cgroup("busy.service")
    with Engine(stage):
        assert stage.vendor("one_by_one", TARGET_IP, cgroup="busy.service") == "target"
        process = stage.start("many", TARGET_IP, cgroup="busy.service")
        assert process.stdout and int(process.stdout.readline()) > SHARE // 2
        process.communicate()
        end = time.monotonic() + LINGER + 30
        while stage.vendor("datagram", TARGET_IP, cgroup="busy.service") != "target":
            assert time.monotonic() < end


def test_vendors_that_are_gone_take_nothing_from_those_that_come(stage: Stage) -> None:
    """Each start of a unit makes another cgroup; the map of shares has room for SCOPES of them."""
    shares = Map(stage.fence.shares)
    with Engine(stage):
        assert stage.vendor("datagram", TARGET_IP, cgroup="first.service") == "target"
        with contextlib.suppress(HostError):
            for gone in range(1 << 40, (1 << 40) + SCOPES):
                shares.update(gone.to_bytes(8, sys.byteorder), bytes(SHARED.size))
        assert stage.vendor("datagram", TARGET_IP, cgroup="next.service") == "errno 1"
        stage.judge.refresh()
        assert len(set(shares)) < 100
        assert stage.vendor("datagram", TARGET_IP, cgroup="next.service") == "target"
        assert stage.vendor("datagram", TARGET_IP, cgroup="first.service") == "target"


def test_another_mark_is_drawn_and_the_old_one_lets_nothing_by(stage: Stage) -> None:
    with Engine(stage) as engine:
        old = engine.mark
        assert engine.passage.open() != old and engine.passage.mark != old
        assert stage.vendor("datagram", TARGET_IP) == "silence"
        engine.mark = engine.passage.mark
        assert stage.vendor("datagram", TARGET_IP) == "target"


def test_tcp_in_packets_is_cut_when_a_rule_denies_it(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(PACKETS)
    with Engine(stage):
        flow = stage.start("slow", TARGET_IP)
        assert flow.stdout and flow.stdout.readline() == "target\n"
        stage.host(stage.judge.write, [Entry("10.77.0.0/24", "deny", "acme.service")])
        assert flow.communicate("\n")[0] == "errno 103\n"


def test_one_socket_of_tcp_by_turns(stage: Stage) -> None:
    """In packets, then direct, and the other way round."""
    for first, second in (("queue", "direct"), ("direct", "queue"), ("queue", "inspect")):
        stage.lab.cgroup("acme.service")
        entries = [Entry("10.77.0.0/24", first, "acme.service", PORT, PORT)]
        stage.judge.write([*entries, Entry("10.77.0.0/24", second, "acme.service", PORT + 1, PORT + 1)])
        with Engine(stage) as engine:
            said = "relay" if second == "inspect" else "target"
            assert stage.vendor("reconnect", TARGET_IP) == f"target {said}"
        assert engine.seen


@pytest.mark.parametrize("case", ["send_file", "splice_datagram", "zero_copy"])
def test_pages_that_may_change_behind_the_engine_do_not_pass(stage: Stage, case: str) -> None:
    """The engine judges a copy: what leaves must be that, so the engine gives it back, or nothing leaves."""
    stage.lab.cgroup("acme.service")
    stage.judge.write(PACKETS)
    with Engine(stage), stage.wire() as frames:
        before = stage.status().counters["drop_shared"]
        assert stage.vendor(case, TARGET_IP) == "silence"
        assert stage.status().counters["drop_shared"] > before
    assert not any(b"hello" in frame for frame in frames)
    with Engine(stage, copied):
        assert stage.vendor(case, TARGET_IP) == "target"


def copied(seen: Seen) -> str | bytes:
    packet = decode(seen.packet.data)
    return rebuild(packet, packet.payload) if seen.packet.hook == OUTPUT and packet.payload else ACCEPT
