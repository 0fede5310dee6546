"""The text of the table is the test of it; that it works is in test_fence.py."""

import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from appliance.kernel import nft
from appliance.kernel.check import dropping_chains
from appliance.lab.hosts import TARGET_IP, TARGET_IP6, Lab
from appliance.model import HostError
from tests.kernel.stage import PORT, PYTHON, Inside, Stage

GOLDEN = """\
table inet vendorgate
delete table inet vendorgate
table inet vendorgate {
	ct timeout brief {
		protocol tcp
		l3proto inet
		policy = { syn_sent : 1, syn_recv : 5, time_wait : 2, close : 2 }
	}
	chain stale {
		type filter hook output priority -190; policy accept;
		meta mark 0x56470001 meta l4proto tcp ct timeout set "brief"
		meta mark != 0x56470001 tcp flags & (fin | syn | rst | ack) == syn ct direction original ct status dnat \
ct reply proto-src 15001 reject with tcp reset
	}
	chain steer {
		type nat hook output priority -110; policy accept;
		meta mark 0x56470001 meta l4proto tcp redirect to :15001
	}
	chain guard {
		type filter hook postrouting priority 300; policy accept;
		meta mark 0x56470001 oifname != "lo" drop
	}
}
"""

# linux/netlink.h and linux/netfilter/nfnetlink_conntrack.h
NETFILTER, DONE, REQUEST_DUMP, GET, TOLD = 12, 3, 0x301, 0x101, 0x100
ENDED = """
import socket, struct, sys
host, port, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
socks = [socket.create_connection((host, port), 20) for _ in range(200)]
for sock in socks:
    sock.sendall(b"hello")
    sock.recv(100)
print("open", flush=True)
sys.stdin.readline()
for sock in socks:
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
"""


def test_the_table() -> None:
    assert nft.ruleset(15001, 0x56470001) == GOLDEN


def test_the_table_of_a_kernel_without_timeouts() -> None:
    assert "brief" not in nft.ruleset(15001, 0x56470001, brief=False)


def test_the_removal() -> None:
    assert nft.removal() == "table inet vendorgate\ndelete table inet vendorgate\n"


def test_chains_of_others_that_drop() -> None:
    listing = (Path(__file__).parent / "chains.json").read_text()
    assert list(dropping_chains(listing)) == ["ip filter OUTPUT", "inet firewall input"]


@pytest.mark.kernel
def test_applied_replaced_and_removed_leaving_others_alone(lab: Lab) -> None:
    inside = Inside(lab.host)
    inside(nft.apply, "table inet other {\n}\n")
    for port in (1, 2):
        inside(nft.apply, nft.ruleset(port, 1))
    assert inside(nft.present)
    shown = lab.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    assert shown.count("redirect to") == 1 and "redirect to :2" in shown
    for _ in range(2):
        inside(nft.apply, nft.removal())
    assert not inside(nft.present)
    assert "other" in lab.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    with pytest.raises(HostError, match=r"nft -f: .*syntax error"):
        inside(nft.apply, "tabel")
    inside.close()


@pytest.mark.kernel
def test_room_is_a_limit(lab: Lab) -> None:
    """In a namespace of its own a vendor may fill our table; looking at it must cost the hub next to nothing."""
    inside = Inside(lab.host)
    fill = "\n".join(f"add element inet {nft.TABLE} s {{ {', '.join(f'fd00::{n:x}:{i:x}' for i in range(1000))} }}" for n in range(20))
    inside(nft.apply, f"table inet {nft.TABLE} {{\n\tset s {{\n\t\ttype ipv6_addr\n\t}}\n}}\n{fill}\n")
    assert inside(nft.listing) == ""
    inside(nft.apply, nft.ruleset(1, 1))
    assert "redirect to :1" in inside(nft.listing)
    inside(nft.apply, nft.removal())
    inside.close()


def tracked(family: int) -> int:
    """Return how many connections this network namespace tracks, but for what has run out and waits to be swept."""
    count, ended = 0, False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as netlink:
        netlink.settimeout(10)
        netlink.send(struct.pack("=IHHII BBH", 20, GET, REQUEST_DUMP, 1, 0, family, 0, 0))
        while not ended:
            data = netlink.recv(1 << 16)
            while data:
                size, kind = struct.unpack_from("=IH", data)
                count, ended, data = count + (kind == TOLD), kind == DONE, data[(size + 3) & ~3 :]
    return count


@pytest.mark.kernel
@pytest.mark.parametrize(("host", "family"), [(TARGET_IP, socket.AF_INET), (TARGET_IP6, socket.AF_INET6)])
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_what_has_ended_is_soon_gone_from_conntrack(stage: Stage, host: str, family: int, how: str) -> None:
    """The table has room for all of the host, and one vendor may open a thousand connections a second."""
    words = [PYTHON, "-SEc", ENDED, host, str(PORT), how]
    process = stage.lab.popen(words, cgroup="acme.service", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "open\n"
    assert stage.host(tracked, family) >= 100, "are they tracked?"
    process.communicate("\n")
    until = time.monotonic() + 30
    while (left := stage.host(tracked, family)) >= 100 and time.monotonic() < until:
        time.sleep(0.2)
    assert left < 100


def test_without_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="nft is not installed"):
        nft.apply(nft.removal())


def test_an_nft_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = tmp_path / "nft"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 5\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nft, "TIMEOUT", 0.2)
    with pytest.raises(HostError, match="did not end"):
        nft.apply("")
