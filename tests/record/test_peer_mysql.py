"""What a real MariaDB and real clients said through the gate, recorded and exported, is MySQL to Wireshark."""

import shutil
import subprocess
import time
from pathlib import Path

import pymysql
import pytest

from appliance.lab.servers import MariaDB
from appliance.model import Address, Flow, Note
from appliance.record.index import Index
from appliance.record.log import Log
from appliance.record.session import Filter
from tests.gate import Gate
from tests.record.samples import PSQL, T
from tests.record.test_pcapng import complaints, export, fields
from tests.wire.mysql.build import binary_row, execute, query, string
from tests.wire.mysql.speak import WANTED, Speaker

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not shutil.which("mariadbd"), reason="MariaDB is not installed"),
    pytest.mark.skipif(not shutil.which("tshark"), reason="tshark is not installed"),
]
WIRE_PORT = 3306  # in the export; the server in the test has another
RULES = """
rules:
  - {id: no-drop, when: {effect: drop}, do: block}
  - {id: hide, when: {column: [shop.users.ssn]}, do: mask, with: keep-last-4}
  - {id: rest, do: allow}
"""


def recorded(gate: Gate, flow: str) -> list[Note]:
    """Return what was noted of a flow, once it is over."""
    until = time.monotonic() + 20
    while not any(id == flow and note.kind == "closed" for id, note in list(gate.notes)):
        assert time.monotonic() < until
        time.sleep(0.01)
    return [note for id, note in gate.notes if id == flow]


def capture(notes: list[Note], folder: Path) -> tuple[Path, bytes]:
    """Return the export of what was noted of one flow, and all bytes of its record."""
    flow = Flow("peer", T, Address.of("10.0.3.5", 40001), Address.of("10.0.3.2", WIRE_PORT), PSQL)
    logs = folder / "logs"
    logs.mkdir()
    log = Log(logs, "w0", segment_bytes=100_000)
    for number, note in enumerate(notes):
        log.append(flow, [note], T + number / 1000)
    index = Index(folder / "index.sqlite", logs)
    assert index.catch_up().frames == len(notes)
    assert index.sessions(Filter())[0].ended is not None
    path = export(folder / "f.pcapng", index.frames(["peer"]))
    return path, b"".join(one.read_bytes() for one in logs.iterdir())


def test_a_driver_from_the_log_to_wireshark(mariadb: MariaDB, tmp_path: Path) -> None:
    with Gate(Address("127.0.0.1", mariadb.port), RULES, protocol="mysql") as gate:
        given = {"user": "acme", "password": "secret", "database": "shop"}
        db = pymysql.connect(host="127.0.0.1", port=gate.port, **given)
        with db.cursor() as cursor:
            cursor.execute("create temporary table t (id int, name text)")
            cursor.execute("insert into t values (%s, %s)", (1, "x" * 20_000))
            cursor.execute("select a.id, b.note from orders a, orders b, orders c, orders d, orders e, orders f, t")
            assert len(cursor.fetchall()) == 3**6
            cursor.execute("select id, ssn from users order by id")
            assert cursor.fetchall()[0] == (1, "*******6789")
            for text in ("insert into orders (id) values (1)", "drop table users"):
                with pytest.raises(pymysql.err.MySQLError):
                    cursor.execute(text)
            db.commit()
        db.close()
        path, raw = capture(recorded(gate, "0001"), tmp_path)
    assert complaints(path) == ""
    commands = [one for line in fields(path, "mysql.command", only="mysql.command") for one in line[0].split(",")]
    assert commands.count("3") >= 8
    assert commands[-1] == "1"
    users = [line for line in fields(path, "mysql.user", only="mysql.login_request") if line != [""]]
    assert users == [["acme"]]
    codes = [one for line in fields(path, "mysql.error_code", only="mysql.error_code") for one in line[0].split(",")]
    assert codes == ["1062", "1142"]
    assert b"123-45-6789" not in raw
    assert b"*******6789" in raw


def test_prepared_statements_in_wireshark(mariadb: MariaDB, tmp_path: Path) -> None:
    with Gate(Address("127.0.0.1", mariadb.port), RULES, protocol="mysql") as gate:
        with Speaker(gate.port, WANTED, user="acme") as db:
            number = db.prepare("select id, ssn from users where id = ?")
            for _ in range(3):
                answers = db.ask(execute(number, b"\0", bytes([3, 0]), b"\1\0\0\0"))
                assert binary_row(b"\1\0\0\0", string(b"*******6789")) in answers
            db.ask(query("select 1"))
            db.say(b"\1\0\0\0\1")
        path, raw = capture(recorded(gate, "0001"), tmp_path)
    assert complaints(path) == ""
    commands = [one for line in fields(path, "mysql.command", only="mysql.command") for one in line[0].split(",")]
    assert commands == ["22", "23", "23", "23", "3", "1"]
    assert b"123-45-6789" not in raw


def test_a_compressed_session_in_wireshark(mariadb: MariaDB, tmp_path: Path) -> None:
    """Frames are recorded as frames: those of rows that were masked are compressed anew.

    Wireshark 4.0 reads the frames, but takes the end of a result in one for malformed, in a capture of the network too
    (as it takes the content of LOAD DATA LOCAL for commands). So what is asked of it here is the rest.
    """
    with Gate(Address("127.0.0.1", mariadb.port), RULES, protocol="mysql") as gate:
        where = ["-h127.0.0.1", f"-P{gate.port}", "-uacme", "-psecret", "--compress", "--batch"]
        script = "select id, ssn, repeat('x', 2000) from users; drop table users; select 2;"
        done = subprocess.run(
            ["mariadb", "--no-defaults", *where, "--force", "shop"], input=script, capture_output=True, text=True, timeout=30
        )
        assert "*******6789" in done.stdout
        assert "1142" in done.stderr
        path, raw = capture(recorded(gate, "0001"), tmp_path)
    assert [line for line in complaints(path).splitlines() if "MySQL" not in line] == []
    assert b"123-45-6789" not in raw
    lengths = [line[0] for line in fields(path, "mysql.compressed_packet_length", only="mysql.compressed_packet_length")]
    assert lengths
