"""The whole appliance in a lab: steering, fence, hub, workers, rules, approvals, record, and what stands when they die."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import Postgres, postgres_bin

pytestmark = [pytest.mark.kernel, pytest.mark.peer]

PORT = 5432
SHOP = (Path(__file__).parent.parent / "data/shop.sql").read_text()
RULES = """
identities:
  acme: {{cgroup: acme.service}}
  psql: {{cgroup: acme.service, exe: "/usr/lib/postgresql/*/bin/psql"}}
targets:
  db: {{protocol: postgres, address: ["{v4}:{port}", "[{v6}]:{port}"]}}
rules:
  - {{id: no-destructive, who: acme, to: db, when: {{effect: [drop, truncate]}}, do: block}}
  - {{id: ask-first, who: acme, to: db, when: {{effect: schema}}, do: approve, approvers: {{group: dba, within: 20s}}}}
  - {{id: hide-ssn, to: db, when: {{column: [public.users.ssn]}}, do: mask, with: keep-last-4}}
  - {{id: work, who: acme, to: db, when: {{effect: [read, write, session, copy]}}, do: allow}}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    home = tmp_path_factory.mktemp("pg")
    for folder in (home, *home.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with Postgres(home, PORT, netns=lab.target) as server:
        server.admin("create role acme login password 'secret'")
        server.admin("create database shop owner acme")
        server.admin(SHOP, "shop")
        yield server


@pytest.fixture
def appliance(lab: Lab, server: Postgres, tmp_path: Path) -> Iterator[Appliance]:
    rules = RULES.format(v4=lab.target_ip, v6=lab.target_ip6, port=PORT)
    with Appliance(lab, tmp_path, {"10-test.yaml": rules}) as appliance:
        yield appliance


def psql(lab: Lab, script: str, cgroup: str | None = "acme.service", host: str | None = None) -> "subprocess.CompletedProcess[str]":
    address = f"host={host or lab.target_ip} port={PORT} dbname=shop user=acme password=secret connect_timeout=20"
    words = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", address, "-c", script]
    return lab.run(words, cgroup=cgroup, capture_output=True, text=True, timeout=60)


def last(appliance: Appliance) -> dict[str, object]:
    (session,) = appliance.json("sessions", "--limit", "1")
    return session  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_vendors_psql_is_judged_and_named(lab: Lab, appliance: Appliance, family: str) -> None:
    host = lab.target_ip if family == "v4" else lab.target_ip6
    assert psql(lab, "select ssn from users where id = 1", host=host).stdout.endswith("6789\n")
    done = psql(lab, "drop table orders", host=host)
    assert "denied by vendorgate" in done.stderr
    session = last(appliance)
    process = session["process"]
    assert isinstance(process, dict)
    assert process["exe"].endswith("/psql")
    assert process["argv"][-1] == "drop table orders"
    assert "password=***" in " ".join(process["argv"]), "the record holds a password"
    assert process["cgroup"] == "acme.service"
    assert session["identity"] == "psql"
    assert session["target"] == "db"
    assert session["protocol"] == "postgres"
    assert session["verdicts"]["no-destructive"] == 1  # type: ignore[index]


def test_a_process_outside_the_slice_is_untouched(lab: Lab, appliance: Appliance) -> None:
    before = appliance.json("sessions")
    assert psql(lab, "select ssn from users where id = 1", cgroup=None).stdout == "123-45-6789\n"
    assert appliance.json("sessions") == before


def test_what_no_rule_speaks_of_has_no_network(lab: Lab, appliance: Appliance) -> None:
    assert psql(lab, "select 1", cgroup="stranger.service").returncode == 2
    code = f"import socket; s = socket.create_connection(('{lab.target_ip}', 9), 3); print(s.recv(1))"
    done = lab.run(["/usr/bin/python3", "-c", code], cgroup="acme.service", capture_output=True, text=True, timeout=20)
    assert done.returncode != 0


def test_held_approved_and_recorded(lab: Lab, appliance: Appliance) -> None:
    done: list[subprocess.CompletedProcess[str]] = []
    agent = threading.Thread(target=lambda: done.append(psql(lab, "create table made_by_agent (a int)")))
    agent.start()
    questions: list[dict[str, object]] = []
    until = time.monotonic() + 30
    while not questions and time.monotonic() < until:
        time.sleep(0.1)
        questions = appliance.json("approvals")
    (question,) = questions
    assert question["message"] == "create table made_by_agent (a int)"
    assert question["rule"] == "ask-first"
    assert question["target"] == "db"
    appliance.cli("approve", str(question["id"]))
    agent.join(60)
    assert done[0].returncode == 0, done[0].stderr
    assert "holds this statement for approval" in done[0].stderr
    shown = appliance.cli("show", "last").stdout
    assert "create table made_by_agent" in shown
    assert "approved" in shown


def test_denied_with_a_reason(lab: Lab, appliance: Appliance) -> None:
    done: list[subprocess.CompletedProcess[str]] = []
    agent = threading.Thread(target=lambda: done.append(psql(lab, "create table refused (a int)")))
    agent.start()
    until = time.monotonic() + 30
    while not (questions := appliance.json("approvals")) and time.monotonic() < until:
        time.sleep(0.1)
    appliance.cli("deny", str(questions[0]["id"]), "--reason", "not on a Saturday")
    agent.join(60)
    assert "denied by vendorgate" in done[0].stderr
    assert "not on a Saturday" in appliance.cli("show", "last").stdout


def test_rules_saved_are_rules_in_force_and_a_bad_file_changes_nothing(lab: Lab, appliance: Appliance) -> None:
    revision = appliance.json("status")["rules_revision"]
    appliance.rule("20-more.yaml", "rules:\n  - {id: no-orders, to: db, whne: {table: [public.orders]}, do: block}\n")
    until = time.monotonic() + 30
    while "20-more.yaml:2" not in json.dumps(status := appliance.json("status")):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert status["rules_revision"] == revision
    assert psql(lab, "select count(*) from orders").stdout == "3\n"
    appliance.rule("05-more.yaml", "rules:\n  - {id: no-orders, to: db, when: {table: [public.orders]}, do: block}\n")
    (appliance.home / "rules.d/20-more.yaml").unlink()
    until = time.monotonic() + 30
    while appliance.json("status")["rules_revision"] == revision and time.monotonic() < until:
        time.sleep(0.2)
    assert "denied" in psql(lab, "select count(*) from orders").stderr


def test_the_export_is_clean_in_wireshark(lab: Lab, appliance: Appliance, tmp_path: Path) -> None:
    psql(lab, "select id, ssn from users; drop table users")
    out = tmp_path / "session.pcapng"
    appliance.cli("export", "last", "--format", "pcapng", "-o", str(out))
    assert b"123-45-6789" not in out.read_bytes()
    words = ["tshark", "-r", str(out), "-d", f"tcp.port=={PORT},pgsql", "-T", "fields"]
    bad = subprocess.run([*words, "-Y", "_ws.expert.severity >= 0x600000 || _ws.malformed", "-e", "frame.number"], capture_output=True, text=True)
    assert bad.stdout == ""
    statements = subprocess.run([*words, "-Y", "pgsql.query", "-e", "pgsql.query"], capture_output=True, text=True).stdout
    assert "drop table users" in statements


VICTIMS = ["a relay", "every relay", "the hub", "hub and relays"]


@pytest.mark.parametrize("victim", VICTIMS)
def test_kill_9(lab: Lab, appliance: Appliance, victim: str) -> None:
    """Governed traffic stops or is served by what lives; none goes round; the record keeps what was acknowledged."""
    assert psql(lab, "select count(*) from orders").stdout == "3\n"
    workers, hub = appliance.workers(), appliance.hub()
    assert len(workers) == 2
    doomed = {"a relay": workers[:1], "every relay": workers, "the hub": [hub], "hub and relays": [*workers, hub]}[victim]
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    if hub in doomed:
        assert appliance.process
        appliance.process.wait()
        until = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < until:
            time.sleep(0.05)
        done = psql(lab, "select 'leaked'")
        assert done.returncode == 2
        assert "leaked" not in done.stdout
        status = appliance.json("status")
        assert status["ready"] is False
        assert appliance.cli("status", check=False).returncode == 1
    else:
        until = time.monotonic() + 30
        while psql(lab, "select count(*) from orders").stdout != "3\n":
            assert time.monotonic() < until, appliance.log.read_text()[-3000:]
            time.sleep(0.2)
    assert psql(lab, "select count(*) from orders", cgroup=None).stdout == "3\n"
    if hub in doomed:
        appliance.start()
        assert psql(lab, "select count(*) from orders").stdout == "3\n"
    shown = [appliance.cli("show", str(s["id"])).stdout for s in appliance.json("sessions")]
    assert any("select count(*) from orders" in text for text in shown)


def test_stopped_in_order_the_fence_stays_closed(lab: Lab, appliance: Appliance) -> None:
    appliance.stop()
    assert psql(lab, "select 1").returncode == 2
    assert psql(lab, "select 1", cgroup=None).stdout == "1\n"


def test_fence_down_leaves_nothing_behind(lab: Lab, appliance: Appliance) -> None:
    appliance.stop()
    appliance.cli("fence", "down")
    assert "vendorgate" not in lab.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
    assert appliance.cli("fence", "status", check=False).returncode == 1
    assert psql(lab, "select 1").stdout == "1\n"
    appliance.start()
    assert psql(lab, "select count(*) from orders").stdout == "3\n"


def test_check_on_this_host(appliance: Appliance) -> None:
    done = appliance.cli("check", "--json", check=False)
    findings = json.loads(done.stdout)
    assert done.returncode in (0, 1)
    assert all({"name", "ok", "what", "remedy"} <= f.keys() for f in (findings if isinstance(findings, list) else findings["findings"]))


def test_sigstop_of_a_relay_fails_closed(lab: Lab, appliance: Appliance) -> None:
    for pid in appliance.workers():
        os.kill(pid, signal.SIGSTOP)
    try:
        done = psql(lab, "select 'leaked'")
        assert "leaked" not in done.stdout
    finally:
        for pid in appliance.workers():
            os.kill(pid, signal.SIGCONT)
