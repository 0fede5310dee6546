"""`vendorgate demo`: the main job, on this machine, in network namespaces of its own.

A vendor's agent in vendor.slice/acme.service meets a real PostgreSQL: it reads customers (masked), tries DROP TABLE
(blocked), asks for ALTER TABLE (held, approved, runs); then a MariaDB and a Redis, the same way. Then the appliance is
killed, and the session is exported.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.redis import Redis
from appliance.lab.servers import MariaDB, Postgres, postgres_bin

PORT, MARIA_PORT, REDIS_PORT = 5432, 3306, 6379
SHOP = """
create table customers (id int primary key, name text, email text, ssn text, city text);
insert into customers values
  (1, 'Ada Lovelace',  'ada@example.com',    '123-45-6789', 'London'),
  (2, 'Grace Hopper',  'grace@example.com',  '987-65-4320', 'New York'),
  (3, 'Edsger Dijkstra', 'edsger@example.com', '555-44-3333', 'Rotterdam');
create table orders (id int primary key, customer int references customers, total numeric(10, 2), placed date);
insert into orders select n, 1 + n % 3, n * 9.99, date '2026-01-01' + n from generate_series(1, 50) n;
"""
MARIA = """
create user acme@'%' identified by 'secret';
create database shop;
grant all on shop.* to acme@'%';
create table shop.customers (id int primary key, name varchar(40), ssn varchar(11));
insert into shop.customers values (1, 'Ada Lovelace', '123-45-6789'), (2, 'Grace Hopper', '987-65-4320');
"""
RULES = """\
identities:
  acme: {{cgroup: acme.service}}
targets:
  orders-db: {{protocol: postgres, address: ["{server}:5432"]}}
  shop-db: {{protocol: mysql, address: ["{server}:3306"]}}
  cache: {{protocol: redis, address: ["{server}:6379"]}}
rules:
  - id: no-destructive
    who: acme
    to: orders-db
    when: {{effect: [drop, truncate]}}
    do: block
    reason: destructive statements are not allowed
  - id: schema-needs-a-dba
    to: orders-db
    when: {{effect: schema}}
    do: approve
    approvers: {{group: dba, count: 1, within: 1m}}
  - {{id: hide-ssn, to: orders-db, when: {{column: [public.customers.ssn]}}, do: mask, with: keep-last-4}}
  - {{id: hide-email, to: orders-db, when: {{detect: [email]}}, do: mask, with: redact}}
  - {{id: shop-no-drop, to: shop-db, when: {{effect: drop}}, do: block}}
  - {{id: shop-hide-ssn, to: shop-db, when: {{column: [shop.customers.ssn]}}, do: mask, with: keep-last-4}}
  - {{id: cache-no-flush, to: cache, when: {{effect: flush}}, do: block}}
  - {{id: cache-hide, to: cache, when: {{key: ["session:*"]}}, do: mask}}
  - {{id: other-work, who: acme, to: [shop-db, cache], do: allow}}
  - {{id: work, who: acme, to: orders-db, when: {{effect: [read, write, session]}}, do: allow}}
default: block
"""


class Stage:
    """Prints the steps: what the agent did and saw, what the appliance decided."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty()
        self._step = 0

    def step(self, text: str) -> None:
        self._step += 1
        print(self._paint("1", f"\n{self._step}. {text}"), flush=True)

    def agent(self, text: str) -> None:
        self._lines("36", "agent    ", text)

    def decided(self, text: str) -> None:
        self._lines("33", "appliance", text)

    def _lines(self, colour: str, who: str, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"   {self._paint(colour, who)} | {line}", flush=True)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


class Demo:
    """The lab, the server and the appliance, and what the agent does in it."""

    def __init__(self, lab: Lab, appliance: Appliance, stage: Stage) -> None:
        self.lab, self.appliance, self.stage = lab, appliance, stage

    def words(self, script: str) -> list[str]:
        address = f"host={self.lab.target_ip} port={PORT} dbname=shop user=acme password=secret connect_timeout=5"
        steps = [word for statement in script.split(";") if statement.strip() for word in ("-c", statement.strip())]
        return [str(postgres_bin() / "psql"), "-X", "-P", "footer=off", address, *steps]

    def agent(self, script: str) -> int:
        """Run psql as the vendor's agent, with statements one by one; show what it saw."""
        return self.runs("psql", script, self.words(script))

    def runs(self, program: str, script: str, words: list[str]) -> int:
        """Run a program as the vendor's agent; show what it was told and what it saw."""
        self.stage.agent(f"{program}> {script}")
        out, both = subprocess.PIPE, subprocess.STDOUT
        done = self.lab.run(words, cgroup="acme.service", stdout=out, stderr=both, text=True, timeout=60)
        self.stage.agent(done.stdout)
        return done.returncode

    def maria(self, script: str) -> None:
        address = ["-h", self.lab.target_ip, "-P", str(MARIA_PORT), "-u", "acme", "-psecret", "--skip-ssl", "shop"]
        self.runs("mariadb", script, ["mariadb", "--no-defaults", "--table", "--force", *address, "-e", script])

    def redis(self, script: str) -> None:
        for command in script.split(";"):
            self.runs("redis", command.strip(), ["redis-cli", "-h", self.lab.target_ip, "--raw", *command.split()])

    def judged(self) -> None:
        """Print what was decided in the last session, and about which process."""
        session = self.appliance.json("sessions", "--limit", "1")[0]
        process = session["process"]
        verdicts = ", ".join(f"{rule} x{count}" for rule, count in session["verdicts"].items())
        who = f"{process['exe']} pid {process['pid']} in {process['cgroup']}, as {session['identity']}"
        self.stage.decided(f"{who}: {verdicts}")

    def play(self, out: Path) -> None:
        stage = self.stage
        stage.step("The agent reads customers. Two columns are masked, whatever they are called in the query.")
        self.agent("select id, name, email, ssn from customers order by id; select ssn as city from customers limit 1")
        self.judged()
        stage.step("It tries to drop a table inside its transaction: blocked, and the transaction behaves.")
        work = "begin; update orders set total = 0 where id = 1; drop table orders; select 1; rollback"
        self.agent(f"{work}; select count(*) from orders")
        self.judged()
        stage.step("It asks for a new column: held until a DBA answers.")
        self.held("alter table orders add column note text; select count(note) from orders")
        stage.step("MariaDB: the same words for rules, the same verdicts.")
        self.maria("select name, ssn as town from customers; drop table customers")
        self.judged()
        stage.step("Redis: values are masked by their keys, and nobody empties the cache.")
        self.redis("set session:42 token-of-ada; get session:42; flushall")
        self.judged()
        stage.step("Everything of ours is killed with SIGKILL. The fence stays: the agent has no network, others have.")
        self.killed()
        stage.step("The session, for Wireshark.")
        self.appliance.start()
        id = self.appliance.json("sessions", "--limit", "1", "--to", "orders-db")[0]["id"]
        self.appliance.cli("export", id, "--format", "pcapng", "-o", str(out))
        stage.decided(f"{out}, {out.stat().st_size} bytes; as tshark reads it:")
        stage.decided(_dissect(out))

    def held(self, script: str) -> None:
        self.stage.agent(f"psql> {script}")
        agent = self.lab.popen(
            self.words(script), cgroup="acme.service", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        questions: list[dict[str, str]] = []
        until = time.monotonic() + 20
        while not questions and time.monotonic() < until:
            time.sleep(0.1)
            questions = self.appliance.json("approvals")
        for question in questions:
            asked = f"{question['id']}  rule {question['rule']}: {question['message']}"
            self.stage.decided(f"vendorgate approvals: {asked}")
            self.stage.decided(self.appliance.cli("approve", question["id"]).stdout or "approved")
        self.stage.agent(agent.communicate(timeout=60)[0])
        self.judged()

    def killed(self) -> None:
        for pid in [*self.appliance.workers(), self.appliance.hub()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.appliance.process is not None
        self.appliance.process.wait()
        self.agent("select 1")
        words = self.words("select 'not governed, not touched'")
        done = self.lab.run(words, capture_output=True, text=True, timeout=30)
        self.stage.decided(f"a process outside the slice: {done.stdout.strip().splitlines()[-1]}")


def _dissect(path: Path) -> str:
    words = ["tshark", "-r", str(path), "-d", f"tcp.port=={PORT},pgsql", "-Y", "pgsql"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    return "\n".join([*lines[:8], f"... {len(lines)} packets of PostgreSQL"])


@contextlib.contextmanager
def _built(home: Path) -> Iterator[tuple[Lab, Appliance]]:
    with (
        Lab() as lab,
        Postgres(home / "pg", PORT, netns=lab.target) as server,
        MariaDB(home / "maria", MARIA_PORT, netns=lab.target) as maria,
        Redis(home / "redis", REDIS_PORT, netns=lab.target, listen="*"),
    ):
        maria.admin(MARIA)
        server.admin("create role acme login password 'secret'")
        server.admin("create database shop owner acme")
        server.admin("set role acme;" + SHOP, "shop")
        rules = {"10-demo.yaml": RULES.format(server=lab.target_ip)}
        with Appliance(lab, home / "vendorgate", rules) as appliance:
            yield lab, appliance


def main(out: Path | None = None) -> int:
    """Build the lab, play the steps, tear it down. Returns the exit status."""
    stage = Stage()
    print("Building the lab: two network namespaces, real servers, vendorgate between ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="vendorgate-demo-") as name:
        home = Path(name)
        home.chmod(0o755)
        with _built(home) as (lab, appliance):
            Demo(lab, appliance, stage).play(out or Path.cwd() / "vendorgate-demo.pcapng")
    print("\nThe lab is torn down. The export stays.", flush=True)
    return 0
