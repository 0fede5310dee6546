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
from appliance.record.keeper import Keeper
from appliance.record.retention import Keep, prune
from appliance.service.keys import signer
from tests.ports import free_port
from tests.record.test_verify_cli import config
from tests.wire.tls.test_handshake import leaf

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


def test_redis_mariadb_and_http_in_one_capture(
    redis: Redis, mariadb: MariaDB, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No target names them: protocols are known by their first bytes."""
    file = tmp_path / "all.pcapng"
    (tmp_path / "nginx").mkdir()
    with Nginx(tmp_path / "nginx", free_port()) as nginx, captured(file, redis.port, mariadb.port, nginx.port):
        subprocess.run(["redis-cli", "-p", str(redis.port)], input="SET a 1\nCONFIG GET maxmemory\nGET a\n", text=True,
                       stdout=subprocess.DEVNULL, timeout=60, check=True)  # fmt: skip
        with pymysql.connect(host="127.0.0.1", port=mariadb.port, user="acme", password="secret", database="shop", ssl_disabled=True) as db, db.cursor() as at:
            at.execute("select id, ssn from users")
            assert len(at.fetchall()) == 3
            at.execute("create table made_by_pcap (x int)")
            at.execute("drop table made_by_pcap")
        subprocess.run(["curl", "-s", f"http://127.0.0.1:{nginx.port}/seen"], stdout=subprocess.DEVNULL, timeout=60, check=True)
    found = judged(tmp_path, file, RULES.format(pg=1), capsys, "--who", "acme")
    assert ("block", "no-drop") in {one[:2] for one in verdicts(found, "redis")}
    assert ("all", "GET a") in {one[1:] for one in verdicts(found, "redis")}
    assert ("block", "no-drop", "drop table made_by_pcap") in verdicts(found, "mysql")
    assert ("allow", "all", "select id, ssn from users") in verdicts(found, "mysql")
    assert any(rule == "all" and "/seen" in text for _, rule, text in verdicts(found, "http"))


@contextlib.contextmanager
def tls_server(port: int, pem: Path) -> Iterator[None]:
    words = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(pem), "-key", str(pem), "-www", "-quiet"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until = time.monotonic() + PATIENCE_S
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                assert time.monotonic() < until
                time.sleep(0.05)
            yield
        finally:
            server.kill()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_tells_its_name_its_versions_and_up_to_1_2_its_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    file, pem, port = tmp_path / "tls.pcapng", tmp_path / "leaf.pem", free_port()
    pem.write_text(leaf(("db.example", "other.example")))
    rules = "rules:\n  - {id: name, when: {certificate: other.example}, do: block}\n  - {id: all, do: allow}\n"
    with tls_server(port, pem), captured(file, port):
        subprocess.run(["curl", "-sk", "--tls-max", version, "--resolve", f"db.example:{port}:127.0.0.1", f"https://db.example:{port}/"],
                       stdout=subprocess.DEVNULL, timeout=60, check=True)  # fmt: skip
    found = judged(tmp_path, file, rules, capsys)
    (session,) = [s for s in found["sessions"] if s["judged"] and "TLS to" in s["judged"][0]["text"]]
    first, second = session["judged"]
    assert "TLS to db.example" in first["text"] and "alpn=h2,http/1.1" in first["text"] and "ja4=t1" in first["text"]
    assert (first["verdict"], second["verdict"], second["rule"]) == ("allow", "block", "name")
    if version == "1.2":
        assert "certificate=db.example,other.example" in second["text"] and "version=TLSv1.2" in second["text"]
    else:
        assert second["unknown"] and "version=TLSv1.3" in second["text"], "TLS 1.3 hides it, so it may be"
    assert session["session"]["bytes"] > 500, "what was not read is counted"


def test_an_import_is_a_session_like_any_other(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pg.pcapng"
    with captured(file, postgres.port):
        talk_postgres(postgres.port)
    home = tmp_path / "state"
    home.mkdir()
    found = judged(home, file, RULES.format(pg=postgres.port), capsys, "--who", "acme", "--import", "--reason", "case 1")
    assert found["imported"]
    settings = config(home)

    def said(*words: str) -> str:
        assert main([*settings, *words]) == 0
        return capsys.readouterr().out

    listed = json.loads(said("sessions", "--to", "db", "--json"))
    assert [one["identity"] for one in listed] == ["acme"] and listed[0]["source"] == f"pg.pcapng sha256:{found['sha256']}"
    assert "no-drop" in listed[0]["verdicts"]
    assert "(imported)" in said("sessions")
    assert json.loads(said("sessions", "--sha256", found["sha256"], "--to", "db", "--json"))[0]["id"] == listed[0]["id"]
    shown = said("show", listed[0]["id"])
    assert "imported  pg.pcapng sha256:" in shown and "drop table made_by_pcap" in shown
    assert "drop table made_by_pcap" in said("replay", listed[0]["id"], "--speed", "1000")
    said("export", listed[0]["id"], "--format", "pcapng", "-o", str(tmp_path / "out.pcapng"))
    words = ["tshark", "-r", str(tmp_path / "out.pcapng"), "-d", f"tcp.port=={postgres.port},pgsql", "-T", "fields", "-e", "pgsql.query"]
    queries = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "drop table made_by_pcap" in queries
    assert json.loads(said("verify", "--json"))["whole"]
    report = json.loads(said("whatif", "--rules", str(home / "rules.yaml"), "--json"))
    assert not report["changes"] and report["requests"] >= 4


def test_an_old_capture_is_kept_from_its_import_on(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pg.pcap"
    with captured(file, postgres.port, form="-P"):
        talk_postgres(postgres.port)
    old = tmp_path / "old.pcap"
    subprocess.run(["editcap", "-F", "pcap", "-t", "-94608000", str(file), str(old)], check=True, timeout=60)
    home = tmp_path / "state"
    home.mkdir()
    judged(home, old, RULES.format(pg=postgres.port), capsys, "--import")
    keeper = Keeper(home, signer(home))
    try:
        keeper.round()
        pruned = prune(keeper, Keep(30 * 86400.0, 1 << 30))
        assert pruned.segments == pruned.thinned == 0
        assert prune(keeper, Keep(30 * 86400.0, 1 << 30), time.time() + 31 * 86400).segments == 1
    finally:
        keeper.close()


def test_what_cannot_be_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.yaml").write_text("rules:\n  - {id: all, do: allow}\n")
    words = [*config(tmp_path), "pcap", "--rules", str(tmp_path / "rules.yaml")]
    assert main([*words, "-", "--import"]) == 2
    assert main([*words, str(tmp_path / "none.pcap")]) == 2
    assert main([*words, str(tmp_path)]) == 2
    (tmp_path / "text.pcap").write_text("no capture at all")
    assert main([*words, str(tmp_path / "text.pcap")]) == 2
    assert main([*words, str(tmp_path / "text.pcap"), "--who", "nobody"]) == 2
    assert "is no capture" in capsys.readouterr().err


def test_what_a_person_reads(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pg.pcapng"
    with captured(file, postgres.port):
        talk_postgres(postgres.port)
    (tmp_path / "rules.yaml").write_text(RULES.format(pg=postgres.port))
    assert main([*config(tmp_path), "pcap", str(file), "--rules", str(tmp_path / "rules.yaml"), "--who", "acme"]) == 0
    out = capsys.readouterr().out
    assert "block    no-drop" in out and "approve  dba" in out and "sha256" in out
