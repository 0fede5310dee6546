"""Containers below the slice, as podman and nspawn make them: a network of their own, on a wire; and user namespaces too.

A real psql in a container is judged, masked and named like one outside; before the relay listens inside it, it has no
network; and when it has gone, nothing of it stays.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from appliance.lab.appliance import Appliance
from appliance.lab.hosts import NAMESPACES, Lab
from appliance.lab.servers import Postgres, postgres_bin
from tests.evasion.host import ask, balanced, until
from tests.evasion.wire import Wire
from tests.peer.test_appliance import PORT, RULES, SHOP

pytestmark = [pytest.mark.kernel, pytest.mark.peer]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        words = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
        lab.run(["sh", "-c", words])
        lab.run(["ip", "route", "add", "10.99.0.0/16", "via", lab.host_ip], where="target")
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


@pytest.fixture(scope="module")
def appliance(lab: Lab, server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    rules = RULES.format(v4=lab.target_ip, v6=lab.target_ip6, port=PORT)
    with Appliance(lab, tmp_path_factory.mktemp("appliance"), {"10-test.yaml": rules}) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def wire(lab: Lab) -> Iterator[Wire]:
    wire = Wire(lab)
    yield wire
    wire.close()


class Container:
    """A namespace on a wire to the lab's host, which forwards: without the fence, the way is open."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.lab, self.name = lab, f"{lab.name}-box{number}"
        self.ip = f"10.99.{number}.2"
        run("ip", "netns", "add", self.name)
        run("ip", "-n", lab.host, "link", "add", f"box{number}", "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "-n", lab.host, "addr", "add", f"10.99.{number}.1/24", "dev", f"box{number}")
        run("ip", "-n", lab.host, "link", "set", f"box{number}", "up")
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "-n", self.name, "addr", "add", f"{self.ip}/24", "dev", "eth0")
        run("ip", "-n", self.name, "link", "set", "eth0", "up")
        run("ip", "-n", self.name, "route", "add", "default", "via", f"10.99.{number}.1")

    def words(self, argv: list[str], cgroup: str | None) -> list[str]:
        words = ["nsenter", f"--net={NAMESPACES / self.name}", *argv]
        if cgroup is not None:
            enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
            words = ["sh", "-c", enter, str(self.lab.cgroup(cgroup)), *words]
        return words

    def run(self, *argv: str, cgroup: str | None = "acme.service/box") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.words(list(argv), cgroup), capture_output=True, text=True, timeout=60, check=False)

    def psql(self, script: str, cgroup: str | None = "acme.service/box", host: str = "") -> "subprocess.CompletedProcess[str]":
        address = f"host={host or self.lab.target_ip} port={PORT} dbname=shop user=acme password=secret connect_timeout=20"
        return self.run(str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", address, "-c", script, cgroup=cgroup)

    def start(self, cgroup: str = "acme.service/box") -> "subprocess.Popen[str]":
        """Start what keeps a container there: a process that waits."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.words(["sh", "-c", "echo; read x"], cgroup), stdin=pipe, stdout=pipe, text=True)


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


@contextmanager
def container(lab: Lab, number: int) -> Iterator[Container]:
    box = Container(lab, number)
    try:
        yield box
    finally:
        for pid in run("ip", "netns", "pids", box.name).split():
            with suppress(ProcessLookupError):  # its last words were being said
                os.kill(int(pid), 9)
        run("ip", "netns", "delete", box.name)


@contextmanager
def running(box: Container, cgroup: str = "acme.service/box") -> Iterator[None]:
    """A container with a process in it, that is served."""
    process = box.start(cgroup)
    try:
        until(lambda: box.psql("select 1").stdout == "1\n", 30)
        yield
    finally:
        process.communicate("\n", timeout=20)


def test_a_psql_in_a_container_is_judged_masked_and_named(lab: Lab, appliance: Appliance) -> None:
    with container(lab, 1) as box:
        assert box.psql("select 1", cgroup=None).stdout == "1\n", "outside the slice the way is open"
        with running(box):
            assert box.psql("select ssn from users where id = 1").stdout.endswith("6789\n")
            assert box.psql("select ssn from users where id = 1").stdout != "123-45-6789\n"
            assert "denied by vendorgate" in box.psql("drop table orders").stderr
            (session,) = appliance.json("sessions", "--limit", "1")
            assert session["process"]["cgroup"] == "acme.service/box"
            assert session["process"]["exe"].endswith("/psql")
            assert session["identity"] in ("", "acme", "psql")


def test_before_the_relay_listens_inside_nothing_passes(lab: Lab, appliance: Appliance, wire: Wire) -> None:
    """Whatever moment it is: the first connects of a container are refused, never let by."""
    wire.frames()
    for number in range(2, 5):
        with container(lab, number) as box:
            said = [box.psql("select 'leaked'", cgroup="stranger.service") for _ in range(5)]
            assert all("leaked" not in done.stdout for done in said)
    assert [frame for frame in wire.frames() if b"\x0a\x63" in frame[26:30]] == []


def test_nothing_else_leaves_a_container(lab: Lab, appliance: Appliance, wire: Wire) -> None:
    code = f"""
import socket
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    for to in (("{lab.target_ip}", 8), ("127.0.0.1", 15001), ("127.0.0.1", {PORT})):
        try:
            with socket.socket(socket.AF_INET, kind) as sock:
                sock.settimeout(1)
                sock.connect(to)
                sock.sendall(b"VENDORGATE-EVASION")
                print("sent", to, sock.recv(10))
        except OSError:
            pass
"""
    with container(lab, 5) as box, running(box):
        wire.frames()
        assert "VENDORGATE" not in box.run("/usr/bin/python3", "-SEc", code).stdout
        assert not any(b"VENDORGATE-EVASION" in frame for frame in wire.frames())


def test_the_table_of_a_container_is_put_back(lab: Lab, appliance: Appliance) -> None:
    with container(lab, 6) as box, running(box):
        run("ip", "netns", "exec", box.name, "nft", "flush", "ruleset")
        until(lambda: "redirect to" in run("ip", "netns", "exec", box.name, "nft", "list", "ruleset"))
        until(lambda: box.psql("select count(*) from orders").stdout == "3\n")


def test_a_worker_that_starts_later_serves_containers_too(lab: Lab, appliance: Appliance) -> None:
    with container(lab, 7) as box, running(box):
        for pid in appliance.workers():
            os.kill(pid, 9)
        until(lambda: box.psql("select count(*) from orders").stdout == "3\n", 40)


def test_what_is_gone_is_let_go(lab: Lab, appliance: Appliance) -> None:
    """The listeners would keep the namespace for ever."""
    with container(lab, 8) as box, running(box):
        pass
    until(lambda: ask(appliance, "/status")["coverage"]["containers"] == 0, 30)
    until(lambda: "box8" not in run("ip", "-n", lab.host, "link", "show"), 30)  # the wire goes with its other end


USERNS = """
import ctypes, os, sys
uid, gid = os.getuid(), os.getgid()
assert ctypes.CDLL(None).unshare(0x10000000 | 0x40000000) == 0
for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
    open(f"/proc/self/{name}", "w").write(text)
print(flush=True)
sys.stdin.readline()
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_user_namespace_of_the_vendors_own_is_served_when_it_has_a_wire(lab: Lab, appliance: Appliance) -> None:
    address = f"host={lab.target_ip} port={PORT} dbname=shop user=acme password=secret connect_timeout=20"
    psql = [str(postgres_bin() / "psql"), "-X", "-q", "-A", "-t", address, "-c", "select ssn from users where id = 1"]
    pipe = subprocess.PIPE
    words = ["/usr/bin/python3", "-SEc", USERNS, *psql]
    process = lab.popen(words, cgroup="acme.service", user="nobody", stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout and process.stdout.readline() == "\n"
    inside = f"/proc/{process.pid}/ns/net"
    until(lambda: "redirect to" in run("nsenter", f"--net={inside}", "nft", "list", "ruleset"), 30)
    run("ip", "-n", lab.host, "link", "add", "rootless", "type", "veth", "peer", "name", "eth0", "netns", str(process.pid))
    run("ip", "-n", lab.host, "addr", "add", "10.99.9.1/24", "dev", "rootless")
    run("ip", "-n", lab.host, "link", "set", "rootless", "up")
    for words in ("link set lo up", "addr add 10.99.9.2/24 dev eth0", "link set eth0 up", "route add default via 10.99.9.1"):
        run("nsenter", f"--net={inside}", "ip", *words.split())
    out, error = process.communicate("\n", timeout=30)
    assert out.strip().endswith("6789") and "123-45" not in out, error


def test_one_vendor_is_served_in_so_many_namespaces_and_no_more() -> None:
    from appliance.kernel.layout import NAMESPACES as MOST
    from appliance.service import nested

    assert nested.SHARE * 8 <= MOST


def test_the_ledger_of_containers_balances(lab: Lab, appliance: Appliance) -> None:
    with container(lab, 10) as box, running(box):
        balanced(appliance)
        assert ask(appliance, "/status")["coverage"]["ledger"]["acme.service/box"]["flows"] > 0
