"""Datagrams that are direct: judged once for a socket and destination, and anew whenever that is not the same."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.lab.hosts import TARGET_IP, TARGET_IP6
from tests.kernel.entry import Entry
from tests.kernel.stage import PORT, Stage

pytestmark = pytest.mark.kernel

DIRECT = [Entry("10.77.0.0/24", "direct", "acme.service", PORT, PORT, 17), Entry("fd77::/64", "direct", "acme.service", PORT, PORT, 17)]
HOSTS = [TARGET_IP, TARGET_IP6, f"::ffff:{TARGET_IP}"]


class Speaker:
    """A vendor's process that sends when told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def say(self, word: int) -> str:
        assert self._process.stdin and self._process.stdout
        print(word, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().strip()


@contextmanager
def speaking(stage: Stage, case: str, host: str) -> Iterator[Speaker]:
    process = stage.start(case, host)
    assert process.stdout and process.stdout.readline() == "ready\n"
    try:
        yield Speaker(process)
    finally:
        process.communicate()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("case", ["slow_datagrams", "slow_connected_datagrams"])
def test_what_was_direct_ends_with_the_rule(stage: Stage, case: str, host: str) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(DIRECT)
    word = PORT if case == "slow_datagrams" else 3
    with speaking(stage, case, host) as speaker:
        assert [speaker.say(word) for _ in range(3)] == ["target"] * 3
        with stage.wire() as frames:
            stage.judge.write([])
            assert [speaker.say(word) for _ in range(3)] == ["errno 1"] * 3
        assert frames == []
        stage.judge.write(DIRECT)
        assert speaker.say(word) == "target"


def test_one_socket_for_what_is_direct_and_what_is_not(stage: Stage) -> None:
    """What was let by lends nothing to what goes elsewhere, however they alternate."""
    stage.lab.cgroup("acme.service")
    stage.judge.write(DIRECT)
    with speaking(stage, "slow_datagrams", TARGET_IP) as speaker, stage.wire() as frames:
        said = [(speaker.say(PORT), speaker.say(PORT + 1)) for _ in range(20)]
    assert said == [("target", "errno 1")] * 20
    assert len(frames) == 20


def test_destinations_that_are_exchanged_are_all_counted(stage: Stage) -> None:
    """A socket that turns from one direct destination to another, more often than the one it keeps is exchanged."""
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("10.77.0.0/24", "direct", "acme.service", PORT, PORT + 1, 17)])
    before = stage.status().counters["pass_datagram"]
    with speaking(stage, "slow_datagrams", TARGET_IP) as speaker, stage.wire() as frames:
        for port in [PORT] * 3 + [PORT + 1] * 20 + [PORT, PORT + 1] * 10:
            assert speaker.say(port) == "target"
    assert len(frames) == 43
    assert stage.status().counters["pass_datagram"] == before + 43


def test_a_listener_on_this_host_is_looked_for_each_time(stage: Stage) -> None:
    """Over lo each is judged by itself: the listener there may be another's by now."""
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("0.0.0.0/0", "direct", "", 1, 65535, 17)])
    with speaking(stage, "slow_datagrams", "127.0.0.1") as speaker:
        assert speaker.say(PORT) == "silence"  # nobody is there
        other = stage.start("serve_datagrams", "127.0.0.1", cgroup="other.service")
        assert other.stdout and other.stdout.readline() == "listening\n"
        assert speaker.say(PORT) == "errno 1"
        other.communicate("\n")
