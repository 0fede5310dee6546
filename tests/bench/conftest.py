"""The lab the benchmarks share: a real PostgreSQL in the target namespace, the appliance in the host's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.servers import Postgres, postgres_bin
from tests.bench.machine import table

RULES = """
identities: {{acme: {{cgroup: acme.service}}}}
targets: {{db: {{protocol: postgres, address: ["{address}"]}}}}
rules:
  - {{id: no-drop, to: db, when: {{effect: [drop, truncate]}}, do: block}}
  - {{id: hide, to: db, when: {{column: [public.cells.secret]}}, do: mask, with: keep-last-4}}
  - {{id: work, who: acme, to: db, when: {{effect: [read, write, session, copy]}}, do: allow}}
"""


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Appliance]]:
    home = tmp_path_factory.mktemp("bench")
    for folder in (home, *home.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with Lab() as lab, Postgres(home / "pg", 5432, netns=lab.target) as server:
        server.admin("create role acme login password 'secret'")
        server.admin("create database shop owner acme")
        server.admin("set role acme; create table cells as select n as id, md5(n::text) a, md5(n::text) b, md5(n::text) c,"
                     " md5(n::text) secret from generate_series(1, 200000) n;"
                     " create unlogged table sink (id int, a text, b text, c text)", "shop")
        words = [str(postgres_bin() / "pgbench"), "-i", "-q", "-s", "10", "-h", str(server.home), "-U", "acme", "shop"]
        lab.run(words, where="target", capture_output=True).check_returncode()
        with Appliance(lab, home / "vg", {"10.yaml": RULES.format(address=f"{lab.target_ip}:5432")}) as appliance:
            yield lab, appliance


def pytest_sessionfinish() -> None:
    """End a run with one table of all there is a figure of."""
    print(f"\n\n{table()}")
