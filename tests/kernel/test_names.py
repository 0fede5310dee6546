"""The table of names in the kernel: for each process, for a time, shared with processes that have no rights."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from appliance.kernel import libbpf
from appliance.kernel.libbpf import Map
from appliance.kernel.names import KEY, LRU_HASH, MAX_HOSTS, ROOM, SECOND, Names, table
from appliance.model import Process

pytestmark = pytest.mark.kernel

AGENT = Process(4711, 12345, "/usr/bin/agent", (), "acme.service", 1000)
HOSTS = ("192.0.2.1", "2001:db8::1")


class Clock:
    """A clock that stands until it is put on."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def fd() -> Iterator[int]:
    number = libbpf.create(LRU_HASH, "vg_test", KEY.size, ROOM, 1024)
    yield number
    os.close(number)


def test_a_name_is_known_to_the_process_that_asked(fd: int) -> None:
    names = Names(fd)
    names.learn(AGENT, "db.internal", HOSTS, 60)
    other, later = Process(4712, 12345, "", (), "", 0), Process(4711, 12346, "", (), "", 0)
    for host in HOSTS:
        assert names.of(AGENT, host) == ("db.internal",)
        assert names.of(other, host) == ()
        assert names.of(later, host) == (), "another process that has its number"
    assert names.of(AGENT, "192.0.2.2") == ()
    assert names.of(None, HOSTS[0]) == ()


def test_a_name_holds_as_long_as_its_answer_said(fd: int) -> None:
    clock = Clock()
    names = Names(fd, clock)
    names.learn(AGENT, "db.internal", HOSTS, 60)
    clock.now += 60 * SECOND - 1
    assert names.of(AGENT, HOSTS[0]) == ("db.internal",)
    clock.now += 1
    assert names.of(AGENT, HOSTS[0]) == ()


def test_an_address_may_have_several_names_the_newest_first(fd: int) -> None:
    clock = Clock()
    names = Names(fd, clock)
    names.learn(AGENT, "a.example", HOSTS, 60)
    names.learn(AGENT, "b.example", HOSTS, 600)
    assert names.of(AGENT, HOSTS[0]) == ("b.example", "a.example")
    names.learn(AGENT, "a.example", HOSTS, 10)
    assert names.of(AGENT, HOSTS[0]) == ("a.example", "b.example")
    clock.now += 60 * SECOND
    assert names.of(AGENT, HOSTS[0]) == ("b.example",)


def test_there_is_room_for_so_many_names_and_the_oldest_goes(fd: int) -> None:
    names = Names(fd)
    told = [f"{'n' * 100}{n:03}.example" for n in range(9)]
    for name in told:
        names.learn(AGENT, name, HOSTS, 600)
    assert names.of(AGENT, HOSTS[0]) == tuple(reversed(told))[:4]


def test_a_vendor_has_a_share_and_drives_out_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = libbpf.create(LRU_HASH, "vg_test", KEY.size, ROOM, 1024)
    try:
        monkeypatch.setattr("appliance.kernel.names.SHARE", 64)
        names = Names(fd)
        names.learn(AGENT, "db.internal", HOSTS, 60)
        for number in range(2000):
            greedy = Process(5000 + number, 1, "", (), f"greedy.service/{number}", 0)
            names.learn(greedy, "a.example", ("198.51.100.1",), 60)
        assert [names.of(AGENT, host) for host in HOSTS] == [("db.internal",)] * 2
        assert names.of(greedy, "198.51.100.1") == ("a.example",)
        assert len(set(Map(fd))) == len(HOSTS) + 64
    finally:
        os.close(fd)


def test_so_many_vendors_are_counted(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.kernel.names.VENDORS", 3)
    names = Names(fd)
    for number in range(9):
        names.learn(Process(5000 + number, 1, "", (), f"{number}.service", 0), "a.example", HOSTS, 60)
        assert len(names._kept) <= 3


def test_only_so_many_addresses_of_one_answer_are_kept(fd: int) -> None:
    names = Names(fd)
    hosts = [f"192.0.2.{n}" for n in range(MAX_HOSTS + 1)]
    names.learn(AGENT, "a.example", hosts, 600)
    assert [bool(names.of(AGENT, host)) for host in hosts] == [True] * MAX_HOSTS + [False]


def test_a_full_table_forgets_and_does_not_fail(fd: int) -> None:
    names = Names(fd)
    for pid in range(5000):
        names.learn(Process(pid, 1, "", (), "", 0), "a.example", HOSTS[:1], 600)
    assert names.of(Process(4999, 1, "", (), "", 0), HOSTS[0]) == ("a.example",)
    assert sum(1 for _ in libbpf.Map(fd)) <= 1024


def test_where_there_is_no_table_nothing_is_known() -> None:
    names = Names(-1)
    names.learn(AGENT, "a.example", HOSTS, 600)
    assert names.of(AGENT, HOSTS[0]) == ()


def test_the_table_is_one_for_a_process() -> None:
    assert table() == table() >= 0


CHILD = """
import os, sys
from appliance.kernel.names import Names
from appliance.model import Process
os.setgroups([]); os.setgid(65534); os.setuid(65534)
agent = Process(4711, 12345, "", (), "", 0)
names = Names(int(sys.argv[1]))
assert names.of(agent, "192.0.2.1") == ("ours.example",), names.of(agent, "192.0.2.1")
names.learn(agent, "theirs.example", ["192.0.2.9"], 60)
"""


def test_a_process_without_rights_reads_and_writes_it(fd: int) -> None:
    names = Names(fd)
    names.learn(AGENT, "ours.example", HOSTS, 600)
    done = subprocess.run([sys.executable, "-c", CHILD, str(fd)], pass_fds=[fd], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert names.of(AGENT, "192.0.2.9") == ("theirs.example",)
