"""A MariaDB with something to lose, and gates before it."""

from collections.abc import Iterator

import pytest

from appliance.lab.servers import MariaDB
from tests.evasion.mysql.line import ASKER, READER, WRITER, Line, address
from tests.gate import Gate

MORE = """
create table victim (id int); create table `select` (id int); insert into `select` values (7);
create view shop.seen as select id, ssn as number from users;
create table other.orders (x varchar(20));
create definer = tester sql security definer view other.lent as select ssn from shop.users;
create user guest identified by 'secret'; grant select on other.* to guest;
"""


@pytest.fixture(scope="session")
def shop(mariadb: MariaDB) -> MariaDB:
    mariadb.admin(MORE, "shop")
    return mariadb


def opened(shop: MariaDB, rules: str) -> Iterator[Gate]:
    with Gate(address(shop), rules, protocol="mysql") as gate:
        yield gate


@pytest.fixture(scope="module")
def reader(shop: MariaDB) -> Iterator[Gate]:
    yield from opened(shop, READER)


@pytest.fixture(scope="module")
def writer(shop: MariaDB) -> Iterator[Gate]:
    yield from opened(shop, WRITER)


@pytest.fixture(scope="module")
def asker(shop: MariaDB) -> Iterator[Gate]:
    yield from opened(shop, ASKER)


@pytest.fixture
def line(reader: Gate) -> Iterator[Line]:
    with Line(reader.port) as line:
        yield line


@pytest.fixture
def free(writer: Gate) -> Iterator[Line]:
    with Line(writer.port) as line:
        yield line
