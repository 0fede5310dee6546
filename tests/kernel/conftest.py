"""The stage of the kernel tests. Without root, namespaces and BPF they skip, and CI fails if they skip there."""

import os
from collections.abc import Iterator

import pytest

from appliance.kernel import fence, load
from appliance.lab.hosts import Lab
from appliance.model import HostError
from tests.kernel.stage import Stage


@pytest.fixture(scope="session")
def rights() -> None:
    if os.geteuid():
        pytest.skip("needs root")
    try:
        load.object_directory()
    except HostError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def lab(rights: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def module_stage(lab: Lab) -> Iterator[Stage]:
    stage = Stage(lab)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()
        fence.down(stage.place)


@pytest.fixture
def stage(module_stage: Stage) -> Iterator[Stage]:
    """The module's stage with nothing seen yet; no rules and the steering restored afterwards."""
    module_stage.accepted.clear()
    module_stage.reached.clear()
    yield module_stage
    module_stage.judge.write(())
    module_stage.steer()
