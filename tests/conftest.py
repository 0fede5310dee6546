"""A real PostgreSQL and a real MariaDB, and the schema the cases of peer/ and evasion/ speak of."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.lab.redis import Redis
from appliance.lab.servers import MariaDB, Postgres
from appliance.model import Address
from appliance.record import read
from tests.ports import free_port

os.umask(0o022)  # a careful root's would keep servers, workers and vendors, who are other users, out of all that is made
SCHEMA = (Path(__file__).parent / "data/shop.sql").read_text()
SHOP_MARIADB = (Path(__file__).parent / "data/shop_mariadb.sql").read_text()


def pytest_sessionfinish() -> None:
    """Close what a reader keeps for the next frame: at exit the interpreter would complain of each."""
    while read._kept_here.open:
        read._kept_here.open.popitem()[1].close()


def reachable(home: Path) -> Path:
    """Let the users that servers run as come to a folder of pytest."""
    for folder in (home, *home.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of"):
            break
    return home


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    home = reachable(tmp_path_factory.mktemp("postgres"))
    with Postgres(home, free_port(), listen="127.0.0.1", settings=(("max_prepared_transactions", "10"),)) as server:
        server.admin("create role acme login password 'secret'; create role tester login superuser password 'secret'")
        server.admin("create database shop owner acme")
        server.admin(SCHEMA, "shop")
        yield server


@pytest.fixture
def server(postgres: Postgres) -> Address:
    return Address("127.0.0.1", postgres.port)


@contextmanager
def maria() -> Iterator[MariaDB]:
    """A MariaDB with a database "shop"; acme, the vendor's role, may do all in it, tester all there is.

    Not below the folders of pytest: another pytest that starts (a driver's own suite) closes those to other users, and
    this server opens files by their full names at any time.
    """
    with tempfile.TemporaryDirectory(prefix="vendorgate-mariadb-") as name:
        Path(name).chmod(0o755)
        with MariaDB(Path(name) / "home", free_port(), listen="127.0.0.1") as server:
            server.admin("create user acme identified by 'secret'; create user tester identified by 'secret'")
            server.admin("grant all on *.* to tester with grant option; create database shop")
            server.admin("grant all on shop.* to acme; grant all on other.* to acme; grant file on *.* to acme")
            server.admin(SHOP_MARIADB.replace(";\n", "$$\n").join(("delimiter $$\n", "")), "shop")
            yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    with maria() as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis; tests begin with it empty, see their conftest."""
    with Redis(tmp_path_factory.mktemp("redis"), free_port()) as server:
        yield server
