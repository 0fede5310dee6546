"""Servers with TLS, a test's own authority behind their certificates, and the appliance's before its clients."""

import os
import pwd
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.servers import Postgres
from appliance.service.authority import Authority
from tests.conftest import reachable
from tests.ports import free_port

SCHEMA = (Path(__file__).parents[2] / "data/shop.sql").read_text()


@pytest.fixture(scope="session")
def secured(theirs: tuple[Authority, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL that takes TLS, for db.example and 127.0.0.1."""
    home = reachable(tmp_path_factory.mktemp("pgtls"))
    pem = home / "server.pem"
    pem.write_text(theirs[0].certify(("DNS:db.example", "IP:127.0.0.1")))
    files = {"ssl": "on", "ssl_cert_file": str(pem), "ssl_key_file": str(pem), "password_encryption": "md5"}
    pem.chmod(0o600)
    os.chown(pem, *_postgres())
    with Postgres(home / "pg", free_port(), listen="127.0.0.1", settings=tuple(files.items())) as server:
        server.admin("create role acme login password 'secret'")
        server.admin("create database shop owner acme")
        server.admin(SCHEMA, "shop")
        hba = server.home / "data/pg_hba.conf"
        hba.write_text(hba.read_text().replace("scram-sha-256", "md5"))
        server.admin("set password_encryption = 'scram-sha-256'; create role bound login password 'secret'; select pg_reload_conf()")
        yield server


def _postgres() -> tuple[int, int]:
    found = pwd.getpwnam("postgres")
    return found.pw_uid, found.pw_gid


def context(pem: Path) -> ssl.SSLContext:
    """Return what a client uses that trusts one authority."""
    return ssl.create_default_context(cafile=str(pem))
