"""Whose packets are in which of the engine's queues, and what operators see of one that is full."""

import os
import struct
import sys
from collections.abc import Iterator

import pytest

from appliance.kernel import libbpf, pins
from appliance.kernel.libbpf import Map
from appliance.kernel.queue import Queue
from appliance.kernel.queues import QUEUE
from appliance.kernel.speakers import vendors
from appliance.lab.hosts import TARGET_IP
from appliance.service.overflow import Overflow
from tests.kernel.engine import Engine
from tests.kernel.stage import Stage

pytestmark = pytest.mark.kernel

CROWD = struct.Struct("=Q")  # how many numbers of speakers are counted in a queue


@pytest.fixture
def crowds(stage: Stage) -> Iterator[Map]:
    """How many sockets have their packets in each queue: all as many, until the test says otherwise."""
    instance = pins.directory(stage.place.instance)
    there = pins.current(instance) if instance else None
    assert there
    crowds = Map(libbpf.opened(there / "map_crowds"))
    before = {key: crowds.lookup(key) for key in crowds}
    for key in before:
        crowds.update(key, CROWD.pack(1000))
    yield crowds
    for key, count in before.items():
        crowds.update(key, count or b"")
    os.close(crowds.fd)


def crowd(crowds: Map, turn: int, count: int) -> None:
    crowds.update(turn.to_bytes(4, sys.byteorder), CROWD.pack(count))


def test_each_vendor_has_a_queue_and_more_vendors_than_queues_share_the_emptiest(stage: Stage, crowds: Map) -> None:
    for name in ("first.service", "second.service", "third.service", "first.service/child"):
        stage.lab.cgroup(name)
    for turn, count in ((7, 0), (9, 1), (11, 1)):
        crowd(crowds, turn, count)
    with Engine(stage) as engine:
        for name in ("first.service", "first.service/child", "first.service", "second.service", "third.service"):
            assert stage.vendor("datagram", TARGET_IP, cgroup=name) == "target"
        queues = [one.packet.id >> 32 for one in engine.seen]
        assert queues == [QUEUE + 7] * 6 + [QUEUE + 9] * 2 + [QUEUE + 11] * 2, "out and in"
        found = vendors(stage.fence.shares, stage.place.cgroup)
        assert [found[turn] for turn in (7, 9, 11)] == [["first.service"], ["second.service"], ["third.service"]]


def test_who_overflows_a_queue_is_counted_and_named_once_a_while(
    stage: Stage, crowds: Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.lab.cgroup("greedy.service")
    crowd(crowds, 3, 0)
    said: list[str] = []
    with Engine(stage) as engine:
        engine.kill()  # its queues are opened anew here, one of them with room for two
        overflow = Overflow(stage.fence.shares, stage.place.cgroup, said.append)
        with stage.host(Queue.open, QUEUE + 3, 1 << 20, 2):
            for sent, expected in ((2, 0), (3, 1), (1, 1)):
                for _ in range(sent):
                    stage.vendor("fire", TARGET_IP, cgroup="greedy.service")
                stage.host(overflow.look)
                assert len(said) == expected, said
            assert overflow.total == 4
            assert said[0].startswith("greedy.service: packets are dropped, its queue is full")
            monkeypatch.setattr("appliance.service.overflow.AGAIN_S", 0)
            stage.vendor("fire", TARGET_IP, cgroup="greedy.service")
            stage.host(overflow.look)
            assert len(said) == 2
        stage.host(overflow.look)  # no queue is there
        with stage.host(Queue.open, QUEUE + 3, 1 << 20, 1):  # and another, which counts from nothing
            for _ in range(3):
                stage.vendor("fire", TARGET_IP, cgroup="greedy.service")
            stage.host(overflow.look)
        assert overflow.total == 7
