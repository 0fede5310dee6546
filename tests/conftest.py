"""A real PostgreSQL, and the schema the cases of peer/ and evasion/ speak of."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.servers import Postgres
from appliance.model import Address
from tests.ports import free_port

SCHEMA = (Path(__file__).parent / "data/shop.sql").read_text()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    home = tmp_path_factory.mktemp("postgres")
    for folder in (home, *home.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of"):
            break
    with Postgres(home, free_port(), listen="127.0.0.1", settings=(("max_prepared_transactions", "10"),)) as server:
        server.admin("create role acme login password 'secret'; create role tester login superuser password 'secret'")
        server.admin("create database shop owner acme")
        server.admin(SCHEMA, "shop")
        yield server


@pytest.fixture
def server(postgres: Postgres) -> Address:
    return Address("127.0.0.1", postgres.port)
