"""The fence itself is changed under live traffic: replaced, its cgroups made anew. Nothing leaks meanwhile."""

import time

import pytest

from appliance.kernel import fence, load, pins
from tests.chaos.storm import Storm
from tests.evasion.host import Scene, until
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel


def test_upgrade_under_load(scene: Scene, live: Storm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four builds, one after the other, each put in place of the one before while connections are made."""
    inside = Inside(scene.lab.host)
    try:
        place = scene.lab.place()
        instance = pins.directory(place.instance)
        assert instance
        loads = {pins.current(instance)}
        for number in range(4):
            monkeypatch.setattr(load, "build_of", lambda objects, number=number: 1 + number)
            inside(fence.up, place).close()
            loads.add(pins.current(instance))
            assert fence.status(place).up
            time.sleep(0.1)
        assert len(loads) == 5
        live.served()
        monkeypatch.undo()
        inside(fence.up, place).close()
    finally:
        inside.close()
    live.served()


def test_cgroup_recreated(scene: Scene, live: Storm) -> None:
    """A service is stopped and started: its cgroup has the same name and another id, and is governed from its first packet."""
    path = scene.lab.cgroup("other.service")
    ids = set()
    for _ in range(5):
        live.served("other.service")
        ids.add(path.stat().st_ino)
        until(lambda: not (path / "cgroup.procs").read_text())
        path.rmdir()
        assert scene.hello("other.service", port=8) != "hello"
    assert len(ids) == 5


def test_cgroups_below_come_and_go(scene: Scene, live: Storm) -> None:
    """Many short-lived ones, as a CI runner makes."""
    for number in range(20):
        name = f"acme.service/job-{number}"
        assert scene.hello(name, port=8) != "hello"
        path = scene.lab.cgroup(name)
        until(lambda path=path: not (path / "cgroup.procs").read_text())  # type: ignore[misc]
        path.rmdir()
    live.served()
