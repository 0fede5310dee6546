"""What one changes of the schema is known to whoever judges the next statement, on any worker."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import Postgres

pytestmark = [pytest.mark.kernel, pytest.mark.peer]

PORT = 5432
FLOWS = 12  # all on one of two workers in one run of two thousand
SHOP = (Path(__file__).parent.parent / "data/shop.sql").read_text()
RULES = """
identities:
  acme: {{cgroup: acme.service}}
  ops: {{cgroup: ops.service}}
targets:
  db: {{protocol: postgres, address: ["{v4}:{port}", "[{v6}]:{port}"]}}
rules:
  - {{id: hide-ssn, who: acme, to: db, when: {{column: [public.users.ssn]}}, do: mask, with: redact}}
  - {{id: free, who: ops, to: db, do: allow}}
  - {{id: work, who: acme, to: db, when: {{effect: [read, session]}}, do: allow}}
"""
AGENT = """
import sys, psycopg
flows = [psycopg.connect(where, autocommit=True) for where in sys.argv[1:]]
for line in sys.stdin:
    print(*sorted({str(flow.execute("select a from seen where id = 1").fetchone()[0]) for flow in flows}), flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def appliance(lab: Lab, tmp_path: Path) -> Iterator[Appliance]:
    home = tmp_path / "pg"
    home.mkdir()
    for folder in (home, *home.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    rules = RULES.format(v4=lab.target_ip, v6=lab.target_ip6, port=PORT)
    with Postgres(home, PORT, netns=lab.target) as server:
        server.admin("create role acme login password 'secret'")
        server.admin("create database shop owner acme")
        server.admin(SHOP + "create view seen as select id, name as a from users;", "shop")
        with Appliance(lab, tmp_path / "vg", {"10-test.yaml": rules}, workers=2) as appliance:
            yield appliance


def test_a_view_that_another_flow_has_replaced_is_masked_on_every_worker(lab: Lab, appliance: Appliance) -> None:
    wheres = [f"host={host} port={PORT} dbname=shop user=acme password=secret" for host in (lab.target_ip, lab.target_ip6)]
    words = [sys.executable, "-c", AGENT, *(wheres[n % 2] for n in range(FLOWS))]
    agent = lab.popen(words, cgroup="acme.service", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with agent:
        assert agent.stdin is not None and agent.stdout is not None
        said = []
        for column in ("name", "ssn", "name", "ssn"):
            change = f"import psycopg; psycopg.connect({wheres[0]!r}, autocommit=True).execute('create or replace view seen as select id, {column} as a from users')"
            done = lab.run([sys.executable, "-c", change], cgroup="ops.service", capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            for _ in range(2):
                print("again", file=agent.stdin, flush=True)
                said.append(agent.stdout.readline().strip())
        agent.stdin.close()
    assert said == ["Ada", "Ada", "[redacted]", "[redacted]"] * 2
