"""What do one statement of MariaDB, one command of Redis, and one request over HTTPS cost, and a masked result of MariaDB?"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.nginx import Nginx
from appliance.lab.redis import Redis
from appliance.lab.servers import MariaDB
from appliance.service.authority import Authority
from tests.bench.meter import paired

RUNS, COUNT = int(os.environ.get("BENCH_RUNS", "5")), int(os.environ.get("BENCH_COUNT", "1000"))
RULES = """
identities: {{acme: {{cgroup: acme.service}}}}
targets:
  maria: {{protocol: mysql, address: ["{ip}:3306"]}}
  cache: {{protocol: redis, address: ["{ip}:6379"]}}
  web: {{protocol: http, address: ["{ip}:81"], tls: {{ca: {ca}}}}}
rules:
  - {{id: hide, to: maria, when: {{column: [shop.cells.secret]}}, do: mask, with: keep-last-4}}
  - {{id: work, who: acme, to: [maria, cache, web], do: allow}}
"""
HEAD = "import sys, time, statistics\nhost, count, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]\n"
LOOP = """
for _ in range(50): one()
spent = []
for _ in range(count):
    begun = time.perf_counter(); one(); spent.append(time.perf_counter() - begun)
print(statistics.median(spent) * 1000)
"""
MARIA = """
import pymysql
db = pymysql.connect(host=host, user="acme", password="secret", database="shop")
cursor = db.cursor()
def one(): cursor.execute("select a from cells where id = 7"); cursor.fetchall()
"""
CACHE = """
import redis
client = redis.Redis(host)
client.set("k", "v" * 100)
def one(): client.get("k")
"""
WEB = """
import http.client, ssl
client = http.client.HTTPSConnection(host, 81, context=ssl.create_default_context(cafile=ca))
def one(): client.request("GET", "/hello"); client.getresponse().read()
"""
ROWS = """
import pymysql
db = pymysql.connect(host=host, user="acme", password="secret", database="shop")
def one():
    cursor = db.cursor(); cursor.execute("select id, a, b, secret from cells"); cursor.fetchall()
one()
begun = time.perf_counter(); one(); print(time.perf_counter() - begun)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Appliance, Path, Path]]:
    """The servers behind the appliance; the certificate a client trusts direct, and the one it trusts through it."""
    home = tmp_path_factory.mktemp("protocols")
    for folder in (home, *home.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with Lab() as lab:
        authority = Authority(home)
        web = home / "web"
        (web / "files").mkdir(parents=True)
        (web / "files/hello").write_text("hello\n")
        pem = home / "server.pem"
        pem.write_text(authority.certify((f"IP:{lab.target_ip}",)))
        rules = {"10.yaml": RULES.format(ip=lab.target_ip, ca=home / "authority.pem")}
        with (
            MariaDB(home / "maria", 3306, netns=lab.target) as maria,
            Redis(home / "redis", 6379, netns=lab.target, listen="*"),
            Nginx(web, 80, lab.target, lab.target_ip, pem),
            Appliance(lab, home / "vg", rules) as appliance,
        ):
            maria.admin("create database shop; create user acme@'%' identified by 'secret'; grant all on shop.* to acme@'%'")
            maria.admin("create table cells (id int primary key) as select seq id, md5(seq) a, md5(seq) b, md5(seq) secret from seq_1_to_50000", "shop")
            ours = home / "ours.pem"
            ours.write_bytes((appliance.home / "state/authority.pem").read_bytes())
            yield lab, appliance, home / "authority.pem", ours


def figure(lab: Lab, cgroup: str | None, code: str, ca: Path) -> float:
    words = [sys.executable, "-c", HEAD + code, lab.target_ip, str(COUNT), str(ca)]
    done = lab.run(words, cgroup=cgroup, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize(
    ("question", "unit", "code", "promise"),
    [
        ("MariaDB: one statement, one client", "ms", MARIA + LOOP, "as PostgreSQL: added 0.10 ms"),
        ("Redis: one GET, one client", "ms", CACHE + LOOP, "none stated"),
        ("HTTPS: one request on a kept connection, TLS on both sides", "ms", WEB + LOOP, "0.20 ms of CPU"),
        ("MariaDB: 50,000 rows x 4 columns, one masked", "s", ROWS, "3 us a cell"),
    ],
)
def test_cost(place: tuple[Lab, Appliance, Path, Path], question: str, unit: str, code: str, promise: str) -> None:
    lab, appliance, theirs, ours = place

    def work(cgroup: str | None) -> tuple[float, float]:
        return figure(lab, cgroup, code, ours if cgroup else theirs), 1 if code is ROWS else COUNT

    paired(question, unit, (lab, appliance), work, promise, RUNS)
