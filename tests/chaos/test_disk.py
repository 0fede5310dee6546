"""The disk of the record is full, during live traffic: flows end, nothing leaks, and with room again all is served."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.storm import Storm, storm
from tests.evasion.host import Scene, ask, until

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    disk = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture(scope="module")
def whole(scene: Scene, disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    with storm(scene, tmp_path_factory.mktemp("storm"), state_dir=str(disk / "state")) as live:
        yield live


def test_disk_full(scene: Scene, live: Storm, disk: Path) -> None:
    with suppress(OSError), (disk / "ballast").open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    until(lambda: scene.hello() != "hello", 30)
    until(lambda: ask(live.appliance, "/status")["losses"]["unrecorded"] > 0, 30)
    (disk / "ballast").unlink()
    live.served()
