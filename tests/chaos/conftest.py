"""One scene for all storms."""

from collections.abc import Iterator

import pytest

from appliance.lab.hosts import Lab
from tests.evasion.host import Scene


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        yield Scene(lab)
