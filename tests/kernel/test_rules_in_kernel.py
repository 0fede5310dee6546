"""What the maps answer for real connections: many entries, first match, addresses within addresses, at once."""

import random
import socket
from collections.abc import Iterator

import pytest

from appliance.kernel.libbpf import Map
from appliance.lab.hosts import TARGET_IP
from tests.kernel.entry import Entry
from tests.kernel.stage import PYTHON, Stage

pytestmark = pytest.mark.kernel

MANY = 10_000
# Prints, for each `host port` of stdin, the errno of a connect that does not wait.
KNOCK = """
import socket, sys
for line in sys.stdin:
    host, port = line.split()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setblocking(False)
        print(sock.connect_ex((host, int(port))), flush=True)
"""
REFUSED, UNDER_WAY = 111, 115


def knock(stage: Stage, places: list[tuple[str, int]], cgroup: str = "acme.service") -> list[int]:
    text = "".join(f"{host} {port}\n" for host, port in places)
    words = [PYTHON, "-SEc", KNOCK]
    done = stage.lab.run(words, cgroup=cgroup, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in str(done.stdout).split()]


@pytest.fixture
def routes(stage: Stage) -> Iterator[None]:
    """The host sends everything to the target, so that no answer is for want of a route."""
    for words in (["route", "add", "default", "via", TARGET_IP], ["-6", "route", "add", "default", "via", "fd77::2"]):
        stage.lab.run(["ip", *words])
    yield
    for words in (["route", "del", "default"], ["-6", "route", "del", "default"]):
        stage.lab.run(["ip", *words])


def test_ten_thousand_entries_are_the_first_match(stage: Stage, routes: None) -> None:
    stage.lab.cgroup("acme.service")
    pick = random.Random(1)
    entries = [
        Entry(
            f"10.{pick.randrange(64)}.{pick.randrange(8) * 32}.0/{pick.choice((19, 20, 22, 24, 28))}",
            pick.choice(("deny", "direct")), pick.choice(("", "acme.service", "other.service")),
            low := pick.randrange(1, 100), low + pick.randrange(50), pick.choice((6, 17)),
        )
        for _ in range(MANY)
    ]  # fmt: skip
    stage.judge.write(entries)
    assert len(set(Map(stage.fence.judge))) > MANY / 4
    places = [(f"10.{pick.randrange(64)}.{pick.randrange(8) * 32 + pick.randrange(4)}.{pick.randrange(20)}", pick.randrange(1, 150)) for _ in range(400)]  # fmt: skip
    wanted = [REFUSED if verdict(entries, *place) == "deny" else UNDER_WAY for place in places]
    assert len(set(wanted)) == 2
    assert knock(stage, places) == wanted


def verdict(entries: list[Entry], host: str, port: int) -> str:
    """Answer as the rules do."""
    number = int.from_bytes(socket.inet_aton(host), "big")
    for e in entries:
        network, _, length = e.network.partition("/")
        low = int.from_bytes(socket.inet_aton(network), "big") >> (32 - int(length))
        here = e.cgroup in ("", "acme.service") and e.protocol == 6 and e.low <= port <= e.high
        if here and number >> (32 - int(length)) == low:
            return e.verdict
    return ""


# IPv6 addresses from which something on the way takes an IPv4 one: of 10.1.2.3 each.
INNER = {
    "NAT64": "64:ff9b::a01:203",
    "NAT64, a network of one's own": "64:ff9b:1::a01:203",
    "6to4": "2002:a01:203::1",
    "Teredo": "2001:0:1:2:3:4:f5fe:fdfc",
    "ISATAP": "fd00::5efe:a01:203",
    "ISATAP, global": "fd00::200:5efe:a01:203",
    "IPv4-compatible": "::a01:203",
    "IPv4-translated": "::ffff:0:a01:203",
}


@pytest.mark.parametrize("kind", INNER)
def test_an_address_within_an_address_is_judged_too(stage: Stage, routes: None, kind: str) -> None:
    stage.lab.cgroup("acme.service")
    host = INNER[kind]
    stage.judge.write([Entry("::/0", "direct"), Entry("10.1.2.3/32", "deny"), Entry("0.0.0.0/0", "direct")])
    assert knock(stage, [(host, 80), ("10.1.2.3", 80)]) == [REFUSED, REFUSED]
    stage.judge.write([Entry("::/0", "direct"), Entry("0.0.0.0/0", "direct")])
    assert knock(stage, [(host, 80), ("10.1.2.3", 80)])[0] != REFUSED
    stage.judge.write([Entry("::/0", "deny"), Entry("0.0.0.0/0", "direct")])
    assert knock(stage, [(host, 80)]) == [REFUSED]


def test_direct_to_a_translator_means_direct_to_what_is_behind_it(stage: Stage, routes: None) -> None:
    """What IPv6 calls direct and IPv4 does not is inspected, so steered."""
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("::/0", "direct")])
    before = stage.status().counters["pass_relay"]
    knock(stage, [("64:ff9b::a01:203", 80)])
    assert stage.status().counters["pass_relay"] > before


def test_nor_does_it_lead_past_the_packet_engine(stage: Stage, routes: None) -> None:
    """What IPv6 calls direct and the engine judges over IPv4 is the engine's, so refused where there is none."""
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("::/0", "direct"), Entry("10.1.2.3/32", "queue")])
    assert knock(stage, [("64:ff9b::a01:203", 80), ("10.1.2.3", 80)]) == [REFUSED, REFUSED]


def test_denied_at_once_over_udp_too(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("10.77.0.0/24", "deny", protocol=17)])
    before = stage.status().counters["refuse_rule"]
    assert stage.vendor("datagram", TARGET_IP) == "errno 111"
    assert stage.vendor("connected_datagram", TARGET_IP) == "errno 111"
    assert stage.status().counters["refuse_rule"] == before + 2
