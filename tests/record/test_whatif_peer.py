"""What real servers and clients said, recorded by the real log, judged again by the command."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from appliance.cli import main
from appliance.lab.nginx import Nginx
from appliance.lab.redis import Redis
from appliance.lab.servers import MariaDB, Postgres
from appliance.model import Address, Flow
from appliance.record.log import Level, Log
from tests.gate import Gate
from tests.ports import free_port
from tests.record.samples import PSQL, T
from tests.record.test_verify_cli import config

pytestmark = pytest.mark.peer
PATIENCE_S = 30.0


def recorded(gate: Gate, home: Path, level: Level = "full") -> None:
    """Write what was noted of all flows, once they are over, as a worker does."""
    until = time.monotonic() + PATIENCE_S
    while {id for id, _ in gate.notes} - {id for id, note in list(gate.notes) if note.kind == "closed"}:
        assert time.monotonic() < until
        time.sleep(0.01)
    (home / "records").mkdir(parents=True)
    log = Log(home / "records", "worker0", level)
    for number, (id, note) in enumerate(gate.notes):
        flow = Flow(f"s{id}", T, Address.of("10.0.3.5", 40000 + int(id)), gate.server, PSQL)
        log.append(flow, [note], T + number / 1000)
    log.seal()


def whatif(gate: Gate, home: Path, rules: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    head = HEAD.format(address=gate.server, protocol=gate._protocol)
    (home / "new.d").mkdir()
    (home / "new.d" / "10.yaml").write_text(head + rules)
    assert main([*config(home), "whatif", "--rules", str(home / "new.d"), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


HEAD = """
identities:
  acme: {{cgroup: acme.service}}
targets:
  db: {{protocol: {protocol}, address: ["{address}"]}}
"""


def changed(report: dict[str, Any]) -> set[tuple[str, str, int]]:
    return {(c["change"], c["rule"], c["count"]) for c in report["changes"]}


def texts(report: dict[str, Any], change: str) -> list[str]:
    return [one["text"] for c in report["changes"] if c["change"] == change for one in c["examples"]]


def dial(gate: Gate) -> "psycopg.Connection[Any]":
    return psycopg.connect(host="127.0.0.1", port=gate.port, user="acme", dbname="shop", password="secret", autocommit=True)


ASKED = """rules:
  - {id: hide, when: {column: [public.users.ssn]}, do: mask, with: redact}
  - {id: no-drop, when: {effect: drop}, do: block}
  - {id: dba, when: {effect: schema}, do: approve, approvers: {group: dba}}
  - {id: all, do: allow}
"""
ALL = "rules:\n  - {id: all, do: allow}\n"


@pytest.mark.parametrize("before", [ALL, ASKED.replace("  - {id: dba, when: {effect: schema}, do: approve, approvers: {group: dba}}\n", "")])
def test_postgres(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: str) -> None:
    with Gate(Address("127.0.0.1", postgres.port), before) as gate:
        with dial(gate) as db:
            assert db.execute("select id, ssn from users where id = %s", (1,)).fetchone() is not None
            assert db.execute("select number from user_list where id = 1", prepare=True).fetchone() is not None
            db.execute("create table made_by_whatif (x int)")
            try:
                db.execute("drop table made_by_whatif")
            except psycopg.errors.InsufficientPrivilege:
                postgres.admin("drop table made_by_whatif", "shop")
        recorded(gate, tmp_path)
        report = whatif(gate, tmp_path, ASKED, capsys)
    assert report["sessions"] == 1 and report["unjudged"] == []
    # Rules that name no table have no catalogue asked for: that the view reads users was not known then.
    made = {("newly held", "dba", 1)}
    assert changed(report) == (made | {("newly blocked", "no-drop", 1), ("newly masked", "hide", 1)} if before == ALL else made)
    assert texts(report, "newly held") == ["create table made_by_whatif (x int)"]


def test_postgres_where_only_metadata_was_kept(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Gate(Address("127.0.0.1", postgres.port), ASKED.replace("redact", "hash")) as gate:
        with dial(gate) as db:
            db.execute("select id, ssn from users").fetchall()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute("drop table users")
        recorded(gate, tmp_path, "metadata")
        report = whatif(gate, tmp_path, ALL, capsys)
        assert changed(report) == {("newly allowed", "all", 1), ("no longer masked", "hide", 1)}
        (tmp_path / "new.d" / "10.yaml").unlink()
        (tmp_path / "new.d").rmdir()
        report = whatif(gate, tmp_path, "rules:\n  - {id: ghost, when: {application: ghost}, do: block}\n  - {id: all, do: allow}\n", capsys)
    assert "rule ghost asks for application" in report["unjudged"][0]["why"]


def test_mariadb(mariadb: MariaDB, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ASKED.replace("public.users", "shop.users")
    with Gate(Address("127.0.0.1", mariadb.port), ALL, protocol="mysql") as gate:
        with pymysql.connect(host="127.0.0.1", port=gate.port, user="acme", password="secret", database="shop") as db, db.cursor() as at:
            at.execute("select id, ssn from users")
            assert len(at.fetchall()) == 3
            at.execute("create table made_by_whatif (x int)")
            at.execute("drop table made_by_whatif")
        recorded(gate, tmp_path)
        report = whatif(gate, tmp_path, asked, capsys)
    assert {("newly blocked", "no-drop", 1), ("newly held", "dba", 1)} <= changed(report)
    assert texts(report, "newly blocked") == ["drop table made_by_whatif"]
    masked = [c for c in report["changes"] if c["change"] == "newly masked"]
    assert masked or any("masks could change" in gap["why"] for gap in report["unjudged"])


def test_redis(redis: Redis, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    redis.admin("SET", "user:1", "Ada")
    with Gate(Address("127.0.0.1", redis.port), ALL, protocol="redis") as gate:
        words = ["redis-cli", "-p", str(gate.port)]
        done = subprocess.run(words, input="GET user:1\nCONFIG GET maxmemory\nGET other\n", capture_output=True, text=True, timeout=60, check=True)
        assert "Ada" in done.stdout
        recorded(gate, tmp_path)
        report = whatif(gate, tmp_path, "rules:\n  - {id: hide, when: {key: \"user:*\"}, do: mask}\n"
                        "  - {id: no-config, when: {effect: config}, do: block}\n  - {id: all, do: allow}\n", capsys)  # fmt: skip
    assert changed(report) >= {("newly blocked", "no-config", 1), ("newly masked", "hide", 1)}


def test_http(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nginx").mkdir()
    with Nginx(tmp_path / "nginx", free_port()) as nginx, Gate(Address("127.0.0.1", nginx.port), ALL, protocol="http") as gate:
        subprocess.run(["curl", "-s", f"http://127.0.0.1:{gate.port}/seen", f"http://127.0.0.1:{gate.port}/admin/x"],
                       capture_output=True, timeout=60, check=True)  # fmt: skip
        recorded(gate, tmp_path)
        report = whatif(gate, tmp_path, "rules:\n  - {id: no-admin, when: {path: /admin/*}, do: block}\n  - {id: all, do: allow}\n", capsys)
    assert changed(report) == {("newly blocked", "no-admin", 1)} and report["requests"] == 2


def test_what_a_person_reads(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Gate(Address("127.0.0.1", postgres.port), ALL) as gate:
        with dial(gate) as db:
            db.execute("select 1 /* \x1b[2J */")
        recorded(gate, tmp_path)
        rules = tmp_path / "new.yaml"
        rules.write_text(HEAD.format(address=gate.server, protocol="postgres") + "rules:\n  - {id: none, when: {effect: read}, do: block}\n")
    assert main([*config(tmp_path), "whatif", "--rules", str(rules)]) == 0
    said = capsys.readouterr().out
    assert "newly blocked" in said and "judged again" in said and "\x1b[2J" not in said
    assert main([*config(tmp_path), "whatif", "--rules", str(rules), "--who", "nobody"]) == 0
    assert "0 requests of 0 sessions" in capsys.readouterr().out


def test_rules_that_are_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "bad.yaml").write_text("rules:\n  - {id: x, do: alow}\n")
    assert main([*config(tmp_path), "whatif", "--rules", str(tmp_path / "bad.yaml")]) == 2
    assert "alow" in capsys.readouterr().err
