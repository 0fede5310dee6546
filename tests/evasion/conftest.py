"""A database of its own for the corner cases; a field of its own for the ways round; and what of them is not tried."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.hosts import Lab
from appliance.lab.servers import Postgres
from tests.evasion import field, rows
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


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[field.Field]:
    """One appliance for all rows of the table of ways round."""
    with Lab() as lab, field.field(field.opened(lab), tmp_path_factory.mktemp("rows"), unix=[field.LENT]) as ground:
        yield ground
    field.forget()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if any("test_row" in report.nodeid for report in terminalreporter.getreports("passed")):
        terminalreporter.section("ways round that are not tried here")
        for line in rows.summary():
            terminalreporter.line(line)
