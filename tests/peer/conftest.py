"""The two authorities of TLS: the servers' own, and the appliance's."""

from pathlib import Path

import pytest

from appliance.service.authority import Authority
from tests.conftest import reachable


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Path]:
    """The authority of the servers, and its certificate."""
    home = reachable(tmp_path_factory.mktemp("theirs"))
    return Authority(home), home / "authority.pem"


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Path]:
    """The appliance's authority, and its certificate."""
    home = reachable(tmp_path_factory.mktemp("ours"))
    return Authority(home), home / "authority.pem"
