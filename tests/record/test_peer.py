"""What a real PostgreSQL and real clients said, recorded and exported, is PostgreSQL to Wireshark."""

import select
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from appliance.lab.servers import Postgres
from appliance.model import Address, Flow, Note
from appliance.record.index import Index
from appliance.record.log import Log
from appliance.record.session import Filter
from tests.ports import free_port
from tests.record.samples import PSQL, C, S, T, closed, opened
from tests.record.test_pcapng import complaints, export, fields

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not Path("/usr/lib/postgresql").exists(), reason="PostgreSQL is not installed"),
    pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed"),
]
WIRE_PORT = 5432  # in the export; the server in the test has another


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)  # the server is another user
        with Postgres(home / "pg", free_port(), listen="127.0.0.1") as running:
            running.admin("CREATE ROLE acme LOGIN PASSWORD 'secret'")
            yield running


class Tap(threading.Thread):
    """Passes one connection on and notes what was said; the client's messages one by one, secrets without bytes."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.notes: list[Note] = [opened()]
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._asked = bytearray()
        self._greeted = False

    def run(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._port))
        with client, server, self._listener:
            while True:
                ready, _, _ = select.select([client, server], [], [], 20)
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        self.notes.append(closed())
                        return
                    self._note(one is client, data)
                    (server if one is client else client).sendall(data)

    def _note(self, from_client: bool, data: bytes) -> None:
        if not from_client:
            self.notes.append(Note("message", side=S, message="any", raw=data))
            return
        self._asked += data
        while len(self._asked) >= 5:
            start = 1 if self._greeted else 0
            size = start + int.from_bytes(self._asked[start : start + 4], "big")
            if len(self._asked) < size:
                return
            raw = bytes(self._asked[:size])
            del self._asked[:size]
            self._greeted = True
            secret = raw[:1] == b"p"
            self.notes.append(Note("message", side=C, message="auth" if secret else "any", raw=b"" if secret else raw))


def work(port: int) -> None:
    where = f"host=127.0.0.1 port={port} user=acme password=secret dbname=postgres sslmode=disable gssencmode=disable"
    with psycopg.connect(where) as db:
        db.execute("CREATE TEMP TABLE t (id int, name text)")
        with db.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(3000):
                copy.write_row((number, f"name {number}"))
        assert db.execute("SELECT count(*) FROM t WHERE id < %s", (100,)).fetchone() == (100,)
        with db.cursor(binary=True) as cursor:
            assert len(cursor.execute("SELECT * FROM t").fetchall()) == 3000
        with db.cursor() as cursor, cursor.copy("COPY t TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 3000
        with pytest.raises(psycopg.errors.UndefinedTable), db.transaction():
            db.execute("SELECT * FROM none_such")
        with db.pipeline():
            for number in range(20):
                db.execute("SELECT name FROM t WHERE id = %s", (number,), prepare=True)


def test_a_real_session_from_the_log_to_wireshark(server: Postgres, tmp_path: Path) -> None:
    tap = Tap(server.port)
    tap.start()
    work(tap.port)
    tap.join(20)
    assert tap.notes[-1] == closed()
    flow = Flow("peer", T, Address.of("10.0.3.5", 40001), Address.of("10.0.3.2", WIRE_PORT), PSQL)
    logs = tmp_path / "logs"
    logs.mkdir()
    log = Log(logs, "w0", segment_bytes=100_000)
    for number, note in enumerate(tap.notes):
        log.append(flow, [note], T + number / 1000)
    index = Index(tmp_path / "index.sqlite", logs)
    assert index.catch_up().frames == len(tap.notes)
    assert index.sessions(Filter())[0].ended is not None
    path = export(tmp_path / "f.pcapng", index.frames(["peer"]))
    assert complaints(path) == ""
    kinds = [one for line in fields(path, "pgsql.type", only="pgsql") for one in line[0].split(",")]
    assert {"Startup message", "Parse", "Bind", "Execute", "Sync", "Copy data", "Row description"} <= set(kinds)
    assert kinds.count("Data row") == 1 + 3000 + 20
    assert kinds.count("Termination") == 1
    assert b"secret" not in b"".join(one.read_bytes() for one in logs.iterdir())
