"""TLS that MySQL turns to inside its handshake: opened, judged, masked and recorded like anything else."""

import asyncio
import contextlib
import itertools
import os
import pwd
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pymysql
import pytest

from appliance.lab.servers import MariaDB
from appliance.model import Address, Flow, Note
from appliance.relay.gate import Gate as Door
from appliance.service.authority import Authority
from appliance.wire.mysql import capabilities as caps
from tests.conftest import SHOP_MARIADB
from tests.gate import Gate
from tests.ports import free_port

pytestmark = pytest.mark.peer
RULES = """
rules:
  - {id: no-drop, when: {effect: drop}, do: block}
  - {id: hide, when: {column: [shop.users.ssn]}, do: mask, with: keep-last-4}
  - {id: rest, do: allow}
"""
Pair = tuple[Authority, Path]


@pytest.fixture(scope="module")
def sealed(theirs: Pair) -> Iterator[MariaDB]:
    """A MariaDB that takes TLS, for db.example and 127.0.0.1."""
    with tempfile.TemporaryDirectory(prefix="vendorgate-mariadb-") as name, contextlib.ExitStack() as stack:
        home = Path(name)
        home.chmod(0o755)
        pem = home / "server.pem"
        pem.write_text(theirs[0].certify(("DNS:db.example", "IP:127.0.0.1")))
        pem.chmod(0o600)
        if not os.geteuid():
            os.chown(pem, pwd.getpwnam("mysql").pw_uid, -1)
        files = (("ssl-cert", str(pem)), ("ssl-key", str(pem)))
        server = stack.enter_context(MariaDB(home / "home", free_port(), listen="127.0.0.1", settings=files))
        server.admin("create user acme identified by 'secret'; create user sealed identified by 'secret' require ssl")
        server.admin("create database shop; grant all on shop.* to acme, sealed")
        server.admin("delimiter $$\n" + SHOP_MARIADB.replace(";\n", "$$\n"), "shop")
        yield server


@pytest.fixture
def gate(sealed: MariaDB, theirs: Pair, ours: Pair) -> Iterator[Gate]:
    trust = f"{{ca: {theirs[1]}, name: db.example}}"
    with Gate(Address("127.0.0.1", sealed.port), RULES, protocol="mysql", tls=trust) as gate:
        gate.authority = ours[0]
        yield gate


def client(gate: Gate, script: str, *words: str, user: str = "acme") -> subprocess.CompletedProcess[str]:
    where = ["-h127.0.0.1", f"-P{gate.port}", f"-u{user}", "-psecret", "--batch", "--skip-column-names", "--force"]
    command = ["mariadb", "--no-defaults", *where, *words, "shop"]
    return subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [[], ["--compress"]])
def test_mariadb_in_tls(gate: Gate, ours: Pair, words: list[str]) -> None:
    trust = ["--ssl", "--ssl-verify-server-cert", f"--ssl-ca={ours[1]}"]
    script = "select variable_value <> '' from information_schema.session_status where variable_name = 'ssl_cipher';"
    done = client(gate, script + "select ssn from users where id = 1; drop table users;", *trust, *words, user="sealed")
    assert done.stdout == "1\n*******6789\n"
    assert "ERROR 1142" in done.stderr
    assert {"startup", "query"} <= {note.message for note in gate.of("message")}


def test_a_client_without_tls_goes_on_without(gate: Gate) -> None:
    assert client(gate, "select 1;", "--skip-ssl").stdout == "1\n"
    assert "1045" in client(gate, "select 1;", "--skip-ssl", user="sealed").stderr


def test_pymysql_in_tls(gate: Gate, ours: Pair) -> None:
    trust = ssl.create_default_context(cafile=str(ours[1]))
    trust.check_hostname = False
    given = {"host": "127.0.0.1", "port": gate.port, "user": "sealed", "password": "secret", "database": "shop"}
    with pymysql.connect(**given, ssl=trust) as db, db.cursor() as cursor:
        cursor.execute("select id, ssn from users order by id")
        assert cursor.fetchall()[0] == (1, "*******6789")
    assert not any(b"secret" in note.raw for note in gate.of("message"))


class Twofold(pymysql.connections.Connection):  # type: ignore[misc]
    """Asks for TLS with a capability that it logs in without."""

    packets = 0

    def write_packet(self, payload: bytes) -> None:
        self.packets += 1
        if self.packets == 1:
            flags = int.from_bytes(payload[:4], "little") | caps.MULTI_STATEMENTS
            payload = flags.to_bytes(4, "little") + payload[4:]
        super().write_packet(payload)


def test_capabilities_of_the_request_for_tls_are_those_of_the_login(sealed: MariaDB, gate: Gate, theirs: Pair, ours: Pair) -> None:
    def joined(port: int, trusted: Path) -> Twofold:
        trust = ssl.create_default_context(cafile=str(trusted))
        trust.check_hostname = False
        return Twofold(host="127.0.0.1", port=port, user="sealed", password="secret", database="shop", ssl=trust)

    with joined(sealed.port, theirs[1]) as db, db.cursor() as cursor:
        cursor.execute("select 1; select 2")  # which a login without that capability does not allow
    with pytest.raises(pymysql.MySQLError, match="other capabilities than it asked for TLS with"):
        joined(gate.port, ours[1])


def waiting_for_the_disk(gate: Gate) -> None:
    """Have each record take 20 ms to be on the disk, as with `record.sync: always`."""

    async def begin() -> None:
        door, duties, frames = Door(lambda: None), gate._relay._duties, itertools.count(1)

        def record(flow: Flow, notes: Sequence[Note]) -> None:
            duties.record(flow, notes)
            frame = next(frames)
            door.recorded(frame)
            gate._loop.call_later(0.02, door.opened, frame)

        gate._relay._duties = msgspec.structs.replace(duties, record=record, gate=lambda: door)

    asyncio.run_coroutine_threadsafe(begin(), gate._loop).result(20)


def test_tls_begins_behind_the_request_for_it_that_waits_for_the_disk(gate: Gate, ours: Pair) -> None:
    waiting_for_the_disk(gate)
    trust = ["--ssl", "--ssl-verify-server-cert", f"--ssl-ca={ours[1]}"]
    assert client(gate, "select ssn from users where id = 1;", *trust, user="sealed").stdout == "*******6789\n"


def test_a_client_that_does_not_trust_us(gate: Gate, theirs: Pair) -> None:
    done = client(gate, "select 1;", "--ssl", "--ssl-verify-server-cert", f"--ssl-ca={theirs[1]}", user="sealed")
    assert done.stdout == ""
    assert "certificate" in done.stderr.lower() or "ssl" in done.stderr.lower()
