"""One storm for each file: every test does its harm to it and looks; the proof of the whole is taken at the end."""

from collections.abc import Iterator

import pytest

from appliance.lab.hosts import Lab
from tests.chaos.storm import Storm, storm
from tests.evasion.host import Scene


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)


@pytest.fixture(scope="module")
def whole(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storm]:
    with storm(scene, tmp_path_factory.mktemp("storm")) as live:
        yield live


@pytest.fixture
def live(whole: Storm) -> Iterator[Storm]:
    whole.served()
    yield whole
    whole.check()
