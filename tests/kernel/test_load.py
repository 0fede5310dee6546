"""How a load takes the place of the one before: without a gap, counted once, or not at all; and what was open before."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.kernel import coverage, fence, libbpf, load, networks, pins
from appliance.kernel.fence import Fence
from appliance.kernel.judge import Judge
from appliance.kernel.passage import Passage
from appliance.lab.hosts import HOST_IP, TARGET_IP, TARGET_IP6
from appliance.model import Address, HostError
from tests.kernel.entry import Entry
from tests.kernel.stage import PORT, Stage

pytestmark = pytest.mark.kernel


def there(stage: Stage) -> Path:
    instance = pins.directory(stage.place.instance)
    found = pins.current(instance) if instance else None
    assert found and instance and pins.loads(instance) == [found]
    return found


def programs(stage: Stage) -> dict[str, int]:
    attached = [name for name in (*load.FENCE.slice, "vg_exec") if name not in load.FENCE.later]
    return {name: fence._program(there(stage) / f"link_{name}") for name in attached}


@pytest.fixture
def fresh(stage: Stage) -> Iterator[Stage]:
    """The fence of this checkout, put up where there was none; again at the end, for whoever comes next."""
    fence.down(stage.place)
    stage.host(fence.up, stage.place).close()
    yield stage
    fence.down(stage.place)
    stage.fence.close()
    stage.raise_fence()


def again(stage: Stage, monkeypatch: pytest.MonkeyPatch, build: int) -> None:
    monkeypatch.setattr(load, "build_of", lambda objects: build)
    stage.host(fence.up, stage.place).close()


def test_programs_are_exchanged_inside_their_links(fresh: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    before, place = programs(fresh), there(fresh)
    first = libbpf.opened(place / "link_vg_egress")
    again(fresh, monkeypatch, 1)
    assert there(fresh) != place
    now = programs(fresh)
    assert all(now[name] != before[name] for name in now)
    assert libbpf.link_program(first) == now["vg_egress"]  # it is the same link
    os.close(first)
    assert fresh.status().up


def account(stage: Stage) -> coverage.Coverage:
    with stage.host(fence.attached, stage.place) as held:
        return next(a for a in coverage.read(held) if a.cgroup == "acme.service")


def test_traffic_under_many_upgrades_is_counted_once(fresh: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.vendor("connect", TARGET_IP)
    before = account(fresh)
    jobs = [fresh.start("stream", TARGET_IP) for _ in range(6)]
    for build in range(1, 6):
        again(fresh, monkeypatch, build)
        jobs.append(fresh.start("stream", TARGET_IP))
    assert [job.communicate()[0] for job in jobs] == ["sent\n"] * 11
    after = account(fresh)
    assert (after.epoch, after.sequence - before.sequence) == (before.epoch, 11)
    assert after.relay.bytes - before.relay.bytes == 1_100_000
    assert after.dropped == before.dropped


def test_a_load_that_fails_leaves_the_old_one(fresh: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    place, before = there(fresh), programs(fresh)
    flow = fresh.start("slow", TARGET_IP)
    assert flow.stdout and flow.stdout.readline() == "relay\n"

    def refuse(self: load.Load, build: int) -> None:
        raise HostError("no room to pin")

    with monkeypatch.context() as patch:
        patch.setattr(load.Load, "_pin_maps", refuse)
        patch.setattr(load, "build_of", lambda objects: 1)
        with pytest.raises(HostError, match="no room"):
            fresh.host(fence.up, fresh.place)
    assert there(fresh) == place and programs(fresh) == before
    assert fresh.status().up
    assert flow.communicate("\n")[0] == "relay\n"
    again(fresh, monkeypatch, 2)  # and the next is tried anew
    assert there(fresh) != place


def test_a_kernel_that_refuses_the_programs_leaves_the_old_load(
    fresh: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place, objects = there(fresh), load.object_directory()
    for part in load.PARTS:
        (tmp_path / part.file).write_bytes((objects / part.file).read_bytes())
    (tmp_path / load.FENCE.file).write_bytes(b"\x7fELF no more")
    monkeypatch.setattr(load, "OBJECTS", (tmp_path,))
    with pytest.raises(HostError, match=r"fence\.bpf\.o"):
        fresh.host(fence.up, fresh.place)
    assert there(fresh) == place and fresh.status().up
    assert fresh.vendor("connect", TARGET_IP) == "relay"


def test_a_part_that_the_kernel_does_not_take_is_told(
    fresh: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    objects = load.object_directory()
    for part in load.PARTS:
        (tmp_path / part.file).write_bytes((objects / part.file).read_bytes())
    (tmp_path / "revoke.bpf.o").write_bytes(b"\x7fELF no more")
    monkeypatch.setattr(load, "OBJECTS", (tmp_path,))
    fresh.host(fence.up, fresh.place).close()
    status = fresh.status()
    assert status.up and any("its program is not told" in promise for promise in status.lacking)
    assert fresh.vendor("connect", TARGET_IP) == "relay"
    monkeypatch.undo()
    fresh.host(fence.up, fresh.place).close()
    assert not any("its program is not told" in promise for promise in fresh.status().lacking)


def test_another_layout_begins_anew(fresh: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.vendor("connect", TARGET_IP)
    before = account(fresh)
    with monkeypatch.context() as patch:
        patch.setattr(load, "LAYOUT", 99)
        patch.setattr(load, "build_of", lambda objects: 1)
        fresh.host(fence.up, fresh.place).close()
        assert fresh.vendor("connect", TARGET_IP) == "relay"
        after = account(fresh)
    assert after.epoch > before.epoch and after.sequence == 1
    assert fresh.status().up


def test_a_link_that_was_detached_is_attached_anew(fresh: Stage) -> None:
    (there(fresh) / "link_vg_connect4").unlink()
    (there(fresh) / "link_vg_handed_connect4").unlink()
    assert set(fresh.status().missing) == {"vg_connect4", "vg_handed_connect4"}
    fresh.host(fence.up, fresh.place).close()
    assert fresh.status().up


def test_what_comes_in_is_looked_at_from_the_first_engine_on(fresh: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def incoming() -> int:
        return fence._program(there(fresh) / "link_vg_ingress")

    again(fresh, monkeypatch, 1)
    assert incoming() == 0 and fresh.status().up
    with fresh.host(fence.attached, fresh.place) as held:
        passage = Passage(held)
        assert passage.open() and passage.open()
        first = incoming()
        with load.descriptor(fresh.lab.cgroup("acme.service")) as cgroup:
            assert libbpf.effective(cgroup, load.FENCE.slice["vg_ingress"]) == (first,)
        passage.shut()  # sockets that were marked for it are there still
    again(fresh, monkeypatch, 2)
    assert incoming() not in (0, first) and fresh.status().up
    (there(fresh) / "link_vg_ingress").unlink()
    assert fresh.status().missing == ("vg_ingress",)
    fresh.host(fence.up, fresh.place).close()
    assert incoming() and fresh.status().up


def test_an_engine_without_a_fence_is_refused(fresh: Stage) -> None:
    with fresh.host(fence.attached, fresh.place) as held:
        fence.down(fresh.place)
        with pytest.raises(HostError, match="not up"):
            Passage(held).open()
    assert pins.directory(fresh.place.instance) is None


# -- existing_connections: keep ------------------------------------------------------------------------------


@pytest.fixture
def before_the_fence(stage: Stage) -> Iterator[Stage]:
    fence.down(stage.place)
    stage.lab.cgroup("acme.service")
    yield stage
    fence.down(stage.place)
    stage.fence.close()
    stage.raise_fence()


def opened(stage: Stage, host: str = TARGET_IP, cgroup: str | None = "acme.service") -> "subprocess.Popen[str]":
    flow = stage.start("slow", host, cgroup=cgroup)
    assert flow.stdout and flow.stdout.readline() == "target\n"
    return flow


def up(stage: Stage, keep: bool) -> Fence:
    return stage.host(lambda: fence.up(stage.place, keep))


def test_what_was_open_is_dropped(before_the_fence: Stage) -> None:
    flow = opened(before_the_fence)
    with up(before_the_fence, False) as held:
        assert held.kept == ()
        assert flow.communicate("\n")[0] == "silence\n"


@pytest.mark.parametrize("host", [TARGET_IP, TARGET_IP6, f"::ffff:{TARGET_IP}"])
def test_what_was_open_is_kept_and_told(before_the_fence: Stage, host: str) -> None:
    stage = before_the_fence
    flow = opened(stage, host)
    with up(stage, True) as held:
        [kept] = held.kept
        assert kept.cgroup == "acme.service"
        assert kept.server == Address.of(host, PORT) and kept.client.port > 0
        assert flow.communicate("\n")[0] == "target\n"
        [mine] = [a for a in coverage.read(held) if a.cgroup == "acme.service"]
        assert mine.kept.flows == 1 and mine.kept.bytes > 0 and mine.direct.bytes == 0
        assert stage.vendor("connect", host) == "relay"
        assert stage.status().counters["pass_kept"] > 0


def test_only_what_is_governed_and_connected_is_kept(before_the_fence: Stage) -> None:
    stage = before_the_fence
    server = stage.start("serve_answer", HOST_IP, 7171)
    assert server.stdout and server.stdout.readline() == "listening\n"
    outside = opened(stage, cgroup=None)
    with up(stage, True) as held:
        assert held.kept == ()
    assert outside.communicate("\n")[0] == "target\n"
    server.communicate("\n")


def test_a_second_up_keeps_nothing_more(before_the_fence: Stage) -> None:
    flow = opened(before_the_fence)
    up(before_the_fence, False).close()
    with up(before_the_fence, True) as held:
        assert held.kept == ()
    assert flow.communicate("\n")[0] == "silence\n"


def test_what_is_kept_ends_when_a_rule_denies_it(before_the_fence: Stage) -> None:
    stage = before_the_fence
    flow, other = opened(stage), opened(stage, TARGET_IP6)
    with up(stage, True) as held:
        judge = Judge(held)
        stage.host(judge.write, [Entry("192.0.2.0/24", "direct"), Entry("10.77.0.0/24", "deny")])
        assert flow.communicate("\n")[0] == "errno 103\n"
        assert other.communicate("\n")[0] == "target\n"


def test_what_is_kept_in_another_namespace(before_the_fence: Stage) -> None:
    """As in a container: its sockets are listed in its own network namespace."""
    stage = before_the_fence
    words = stage.words("slow", TARGET_IP)
    pipe = subprocess.PIPE
    flow = stage.lab.popen(words, where="target", cgroup="acme.service", stdin=pipe, stdout=pipe, text=True)
    assert flow.stdout and flow.stdout.readline() == "target\n"
    with up(stage, True) as held:
        assert [kept.server for kept in held.kept] == [Address(TARGET_IP, PORT)]
        assert flow.communicate("\n")[0] == "target\n"


def test_each_namespace_is_entered_once_and_left_again(stage: Stage) -> None:
    words = ["sleep", "60"]
    sleepers = [stage.lab.popen(words, where=where, cgroup="acme.service") for where in ("target", "target", "host")]
    seen: list[int] = []
    until = threading.Event()
    for _ in range(200):
        seen = stage.host(networks.in_each, stage.place.cgroup, lambda: Path("/proc/thread-self/ns/net").stat().st_ino)
        if len(seen) == 2:
            break
        until.wait(0.05)
    assert len(set(seen)) == len(seen) == 2
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()
