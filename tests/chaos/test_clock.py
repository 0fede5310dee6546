"""The wall clock jumps, during live traffic: a day ahead, two days back. Hub and workers see it, by a preloaded library; the
host's clock is never touched. Nothing leaks, nothing hangs, records go on, and what is held is not held for ever.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.record.read import read
from tests.chaos.storm import Storm, storm
from tests.evasion.host import Scene, ask, until

pytestmark = pytest.mark.kernel
DAY = 86400
# The hub starts workers by sys.executable with an environment of its own: so that is what preloads.
START = """
import sys
sys.executable = sys.argv.pop(1)
from appliance.cli import main
sys.exit(main(sys.argv[1:]))
"""
WRAP = """#!/bin/sh
LD_PRELOAD={library} CLOCK_OFFSET={offset} exec {python} "$@"
"""


class Clock:
    """The service's clock: `jump` seconds."""

    def __init__(self, home: Path) -> None:
        for folder in (home, *home.parents):
            if folder != Path("/") and folder.stat().st_uid == 0:
                folder.chmod(folder.stat().st_mode | 0o011)
        self._offset, library = home / "offset", home / "clock.so"
        self._offset.write_bytes(bytes(8))
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        self.python = home / "python"
        self.python.write_text(WRAP.format(library=library, offset=self._offset, python=sys.executable))
        self.python.chmod(0o755)
        self.ahead = 0

    def jump(self, seconds: int) -> None:
        self.ahead += seconds
        with self._offset.open("r+b") as file:
            file.write((self.ahead * 10**9).to_bytes(8, "little", signed=True))

    @property
    def command(self) -> list[str]:
        return [str(self.python), "-c", START, str(self.python)]


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def whole(scene: Scene, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    with storm(scene, tmp_path_factory.mktemp("storm"), command=clock.command) as live:
        yield live


@pytest.mark.parametrize("days", [1, -2, 1])
def test_clock_jump(live: Storm, clock: Clock, days: int) -> None:
    clock.jump(days * DAY)
    live.served()
    records = live.appliance.home / "state/records"
    until(lambda: any(abs(frame.time - time.time() - clock.ahead) < 3600 for frame in read(records)), 30)
    assert ask(live.appliance, "/status")["ready"]
