"""A database of its own for the corner cases: the shop, and what only they need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.servers import Postgres
from tests.evasion.talk import READER, WRITER, address
from tests.gate import Gate

EXTRA = (Path(__file__).parent / "corner.sql").read_text()


@pytest.fixture(scope="session")
def corner(postgres: Postgres) -> Postgres:
    """The server, with the database `corner` on it."""
    schema = (Path(__file__).parents[1] / "data/shop.sql").read_text()
    postgres.admin("create database corner owner acme")
    postgres.admin(schema + EXTRA, "corner")
    return postgres


@pytest.fixture(scope="module")
def reader(corner: Postgres) -> Iterator[Gate]:
    with Gate(address(corner.port), READER) as gate:
        yield gate


@pytest.fixture(scope="module")
def writer(corner: Postgres) -> Iterator[Gate]:
    with Gate(address(corner.port), WRITER) as gate:
        yield gate
