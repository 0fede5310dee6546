"""What would a user otherwise put there? Direct, vendorgate, and beside it pgbouncer, haproxy and mitmproxy.

None of the three judges, masks or records a statement: pgbouncer reads the protocol of PostgreSQL to pool connections,
haproxy copies bytes or, with TLS on both sides, reads requests, mitmproxy reads requests in Python. Time of one request
as the client sees it, and processor time of the middle for each.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import Lab
from appliance.lab.nginx import Nginx
from appliance.lab.servers import postgres_bin
from appliance.service.authority import Authority
from tests.bench.machine import compare

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
COUNT = int(os.environ.get("BENCH_COUNT", "5000"))
MITM = Path(__file__).parent.parent.parent / "build/mitmproxy/bin/mitmdump"
BOUNCER = """
[databases]
shop = host={ip} port=5432 dbname=shop user=acme password=secret
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
auth_type = any
pool_mode = session
ignore_startup_parameters = extra_float_digits
"""
HAPROXY = """
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
{ways}
"""
TCP = "listen db\n  mode tcp\n  bind 127.0.0.1:6433\n  server db {ip}:5432\n"
HTTPS = "listen web\n  mode http\n  bind 127.0.0.1:6443 ssl crt {pem}\n  server web {ip}:81 ssl verify none\n"
RULES = """
identities: {{acme: {{cgroup: acme.service}}}}
targets: {{web: {{protocol: http, address: ["{ip}:81"], tls: {{ca: {ca}}}}}}}
rules: [{{id: work, who: acme, to: web, do: allow}}]
"""
REQUESTS = """
import http.client, ssl, statistics, sys, time
client = http.client.HTTPSConnection(sys.argv[1], int(sys.argv[2]), context=ssl._create_unverified_context())
spent = []
for number in range(int(sys.argv[3])):
    begun = time.perf_counter()
    client.request("GET", "/hello")
    assert client.getresponse().read() == b"hello\\n"
    spent.append(time.perf_counter() - begun)
print(statistics.median(spent) * 1000)
"""


def used(pid: int) -> float:
    """Return the seconds of processor time that a process and all below it have taken."""
    below: dict[int, list[int]] = {}
    times: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        times[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    found, total = [pid], 0
    while found:
        one = found.pop()
        total += times.get(one, 0)
        found += below.get(one, [])
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(lab: Lab, words: list[str], port: int) -> Iterator[int]:
    """Have a program listen on a port of the lab's host; yield its pid."""
    process = lab.popen(words, where="host", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1).close()"
        until = time.monotonic() + 30
        while lab.run([sys.executable, "-c", probe], where="host", capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < until, f"{words[0]} does not listen"
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def taken(work: Callable[[], float], pid: int, count: int) -> tuple[float, float]:
    """Return what `work` says, and the milliseconds of processor time of the middle for each of `count`."""
    before = used(pid) if pid else 0.0
    said = work()
    return said, (used(pid) - before) * 1000 / count if pid else 0.0


def tell(what: str, rows: dict[str, list[tuple[float, float]]], promise: str) -> None:
    costs = {name: [{"middle": cpu * 1000} for _, cpu in found] for name, found in rows.items() if name != "direct"}
    compare(what, "ms", {name: [said for said, _ in found] for name, found in rows.items()}, promise, costs)


def test_postgres(bench: tuple[Lab, Appliance], tmp_path: Path) -> None:
    lab, appliance = bench
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)  # for pgbouncer, which does not run as root
    (tmp_path / "bouncer.ini").write_text(BOUNCER.format(ip=lab.target_ip))
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(ways=TCP.format(ip=lab.target_ip)))

    def query(host: str, port: int, cgroup: str | None) -> float:
        words = [str(postgres_bin() / "pgbench"), "-n", "-S", "-M", "prepared", "-c", "1", "-t", str(COUNT)]
        words += ["-h", host, "-p", str(port), "-U", "acme", "shop"]
        done = lab.run(["env", "PGPASSWORD=secret", *words], cgroup=cgroup, capture_output=True, text=True)
        found = re.search(r"latency average = ([\d.]+) ms", done.stdout)
        assert found, done.stderr
        return float(found[1])

    bouncer = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "pgbouncer", str(tmp_path / "bouncer.ini")]
    assert appliance.process
    with running(lab, bouncer, 6432) as first, running(lab, ["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], 6433) as second:
        ways = {
            "direct": (lab.target_ip, 5432, None, 0),
            "vendorgate": (lab.target_ip, 5432, "acme.service", appliance.process.pid),
            "pgbouncer": ("127.0.0.1", 6432, None, first),
            "haproxy": ("127.0.0.1", 6433, None, second),
        }
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(RUNS):
            for name, (host, port, cgroup, pid) in ways.items():
                rows[name].append(taken(lambda h=host, p=port, c=cgroup: query(h, p, c), pid, COUNT))  # type: ignore[misc]
    tell("beside: one prepared query", rows, "added 0.10 ms")


@pytest.fixture
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Appliance, Path]]:
    home = tmp_path_factory.mktemp("beside")
    for folder in (home, *home.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    with Lab() as lab:
        files = home / "web"
        (files / "files").mkdir(parents=True)
        (files / "files/hello").write_text("hello\n")
        pem = home / "server.pem"
        pem.write_text(Authority(home).certify((f"IP:{lab.target_ip}", "IP:127.0.0.1")))
        rules = {"10.yaml": RULES.format(ip=lab.target_ip, ca=home / "authority.pem")}
        with Nginx(files, 80, lab.target, lab.target_ip, pem), Appliance(lab, home / "vg", rules) as appliance:
            yield lab, appliance, pem


def test_https(web: tuple[Lab, Appliance, Path], tmp_path: Path) -> None:
    lab, appliance, pem = web
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(ways=HTTPS.format(ip=lab.target_ip, pem=pem)))
    mitm = [str(MITM), "-q", "-p", "6444", "--mode", f"reverse:https://{lab.target_ip}:81", "--ssl-insecure"]
    count = max(200, COUNT // 10)

    def request(host: str, port: int, cgroup: str | None) -> float:
        words = [sys.executable, "-c", REQUESTS, host, str(port), str(count)]
        done = lab.run(words, cgroup=cgroup, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return float(done.stdout)

    assert appliance.process
    mitm += ["--set", f"confdir={tmp_path}"]
    with running(lab, ["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], 6443) as first, running(lab, mitm, 6444) as second:
        ways = {
            "direct": (lab.target_ip, 81, None, 0),
            "vendorgate": (lab.target_ip, 81, "acme.service", appliance.process.pid),
            "haproxy": ("127.0.0.1", 6443, None, first),
            "mitmproxy": ("127.0.0.1", 6444, None, second),
        }
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(RUNS):
            for name, (host, port, cgroup, pid) in ways.items():
                rows[name].append(taken(lambda h=host, p=port, c=cgroup: request(h, p, c), pid, count))  # type: ignore[misc]
    tell("beside: one HTTPS request on a kept connection", rows, "0.20 ms of processor time")
