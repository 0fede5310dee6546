"""The fence itself is changed under live traffic: replaced, its cgroups made anew. Nothing leaks meanwhile."""

import time
from pathlib import Path

import pytest

from appliance.kernel import fence, pins
from tests.chaos.storm import storm
from tests.evasion.host import Scene, until
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel


def test_upgrade_under_load(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four builds, one after the other, each put in place of the one before while connections are made."""
    with storm(scene, tmp_path) as live:
        inside = Inside(scene.lab.host)
        try:
            place = scene.lab.place()
            instance = pins.directory(place.instance)
            assert instance
            loads = {pins.current(instance)}
            for number in range(4):
                monkeypatch.setattr(fence, "_build", lambda objects, number=number: 1 + number)
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


def test_cgroup_recreated(scene: Scene, tmp_path: Path) -> None:
    """A service is stopped and started: its cgroup has the same name and another id, and is governed from its first packet."""
    with storm(scene, tmp_path) as live:
        path = scene.lab.cgroup("other.service")
        ids = set()
        for _ in range(5):
            live.served("other.service")
            ids.add(path.stat().st_ino)
            until(lambda: not (path / "cgroup.procs").read_text())
            path.rmdir()
            assert scene.hello("other.service", port=8) != "hello"
        assert len(ids) == 5


def test_cgroups_below_come_and_go(scene: Scene, tmp_path: Path) -> None:
    """Many short-lived ones, as a CI runner makes."""
    with storm(scene, tmp_path) as live:
        for number in range(20):
            name = f"acme.service/job-{number}"
            assert scene.hello(name, port=8) != "hello"
            path = scene.lab.cgroup(name)
            until(lambda path=path: not (path / "cgroup.procs").read_text())  # type: ignore[misc]
            path.rmdir()
        live.served()
