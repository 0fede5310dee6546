"""Captures that dumpcap made of real servers and clients, judged, imported and handed over."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from appliance.cli import main
from appliance.lab.nginx import Nginx
from appliance.lab.redis import Redis
from appliance.lab.servers import MariaDB, Postgres
from tests.ports import free_port
from tests.record.test_verify_cli import config

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not shutil.which("dumpcap"), reason="dumpcap is not installed"),
]
PATIENCE_S = 30.0
RULES = """
identities:
  acme: {{cgroup: acme.service}}
targets:
  db: {{protocol: postgres, address: ["127.0.0.1:{pg}"]}}
rules:
  - {{id: no-drop, who: acme, when: {{effect: [drop, config, flush]}}, do: block, reason: not yours}}
  - {{id: dba, when: {{effect: schema}}, do: approve, approvers: {{group: dba}}}}
  - {{id: hide, to: db, when: {{column: [public.users.ssn]}}, do: mask, with: redact}}
  - {{id: all, do: allow}}
"""


@contextlib.contextmanager
def captured(path: Path, *ports: int, form: str = "-n") -> Iterator[None]:
    """Capture on loopback what these ports say meanwhile, whole."""
    marker = free_port()
    filter = " or ".join(f"port {port}" for port in (*ports, marker))
    words = ["dumpcap", "-q", form, "-i", "lo", "-w", str(path), "-f", filter]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as dumpcap:
        try:
            _until_there(path, marker, b"it begins")
            yield
            _until_there(path, marker, b"it is over")
        finally:
            dumpcap.send_signal(signal.SIGINT)
            dumpcap.wait(PATIENCE_S)


def _until_there(path: Path, port: int, mark: bytes) -> None:
    """Send datagrams until one is in the file: what was said before is there too."""
    deadline = time.monotonic() + PATIENCE_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while not path.exists() or mark not in path.read_bytes():
            assert time.monotonic() < deadline, "dumpcap writes nothing"
            sock.sendto(mark, ("127.0.0.1", port))
            time.sleep(0.05)


def judged(home: Path, file: Path, rules: str, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    (home / "rules.yaml").write_text(rules)
    assert main([*config(home), "pcap", str(file), "--rules", str(home / "rules.yaml"), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def verdicts(found: dict[str, Any], protocol: str) -> list[tuple[str, str, str]]:
    return [(j["verdict"], j["rule"], j.get("text", "")) for s in found["sessions"] if s["session"]["protocol"] == protocol for j in s["judged"]]


def talk_postgres(port: int) -> None:
    with psycopg.connect(host="127.0.0.1", port=port, user="acme", dbname="shop", password="secret", autocommit=True, sslmode="disable") as db:
        assert db.execute("select id, ssn from users where id = %s", (1,)).fetchone() is not None
        db.execute("create table made_by_pcap (x int)")
        db.execute("drop table made_by_pcap")


@pytest.mark.parametrize("form", ["-n", "-P"])
def test_postgres(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    file = tmp_path / "pg.capture"
    with captured(file, postgres.port, form=form):
        talk_postgres(postgres.port)
    found = judged(tmp_path, file, RULES.format(pg=postgres.port), capsys, "--who", "acme")
    said = verdicts(found, "postgres")
    assert ("block", "no-drop", "drop table made_by_pcap") in said
    assert ("approve", "dba", "create table made_by_pcap (x int)") in said
    (session,) = [s["session"] for s in found["sessions"] if s["session"]["protocol"] == "postgres"]
    assert session["target"] == "db" and session["identity"] == "acme"
    assert session["masked"] == 2, "whose column a cell is, only the catalogue tells: all of users is hidden"
    assert found["sha256"] and not found["cut"] and session["ended"] is not None
