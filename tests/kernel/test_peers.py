"""Finding the process of an accepted connection, as a relay without rights does it."""

import socket
import subprocess
from pathlib import Path

import pytest

from appliance.kernel import cgroups, layout, original, peers
from appliance.kernel.libbpf import Map
from appliance.kernel.peers import Peers
from appliance.lab.hosts import TARGET_IP, TARGET_IP6
from appliance.model import Address, HostError
from tests.kernel.stage import PORT, PYTHON, RELAY, Stage

pytestmark = pytest.mark.kernel

# bpf(2) by hand, so that it runs under any Python as anybody: BPF_MAP_LOOKUP_ELEM is command 1, and 2 is UPDATE.
RAW = """
import ctypes, os, struct, sys
fd, size = int(sys.argv[1]), int(sys.argv[3])
key, value = ctypes.create_string_buffer(bytes.fromhex(sys.argv[2])), ctypes.create_string_buffer(size)
number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
for command in (1, 2):
    attr = struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    result = libc.syscall(number, command, attr, len(attr))
    print(result, ctypes.get_errno() if result else 0)
print(value.raw.hex())
print(os.getuid(), open("/proc/self/status").read().split("CapEff:")[1].split()[0])
"""


def test_an_unprivileged_process_reads_the_inherited_map_and_cannot_write_it(stage: Stage) -> None:
    assert Path("/proc/sys/kernel/unprivileged_bpf_disabled").read_text().strip() in ("0", "1", "2")
    stage.vendor("connect", TARGET_IP)
    [accepted] = stage.accepted
    key = layout.peer_key(stage.host(peers.netns_cookie), accepted.peer).hex()
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
    words += [PYTHON, "-SEc", RAW, str(stage.fence.peers), key, str(layout.FLOW.size)]
    done = subprocess.run(words, pass_fds=[stage.fence.peers], capture_output=True, text=True, check=True)
    looked_up, written, value, who = done.stdout.splitlines()
    assert looked_up == "0 0"
    assert written == "-1 1"  # EPERM: the file descriptor is read-only
    assert who == "65534 0000000000000000"
    flow = layout.Opened.unpack(bytes.fromhex(value))
    assert flow.to == Address(TARGET_IP, PORT) and accepted.found and flow.cookie == accepted.found.cookie


def test_an_entry_for_another_destination_is_not_taken(stage: Stage) -> None:
    stage.vendor("connect", TARGET_IP)
    [accepted] = stage.accepted
    assert stage.peers.find(accepted.peer, Address(TARGET_IP, PORT))
    assert stage.peers.find(accepted.peer, Address(TARGET_IP, PORT + 1)) is None
    assert stage.peers.find(accepted.peer)


def test_nobody_governed(stage: Stage) -> None:
    assert stage.peers.find(Address("10.77.0.1", 1)) is None
    with stage.host(socket.create_connection, ("127.0.0.1", RELAY)) as sock:
        sock.send(b"x")
        assert sock.recv(10) == b"relay"
    [accepted] = stage.accepted
    assert accepted.found is None and accepted.original in (None, Address("127.0.0.1", RELAY))


def test_another_namespace_has_other_peers(stage: Stage) -> None:
    stage.vendor("connect", TARGET_IP6)
    [accepted] = stage.accepted
    elsewhere = stage.target(Peers, stage.fence.peers, stage.place.cgroup)
    assert elsewhere.find(accepted.peer) is None


def test_a_process_whose_cgroup_is_not_to_be_found_is_unknown(stage: Stage, tmp_path: Path) -> None:
    stage.vendor("connect", TARGET_IP)
    [accepted] = stage.accepted
    found = stage.host(Peers, stage.fence.peers, tmp_path).find(accepted.peer)
    assert found and found.process is None and found.server == Address(TARGET_IP, PORT)


def test_lineage_that_is_missing_is_an_unknown_process(stage: Stage) -> None:
    before = stage.status().counters["unknown_process"]
    lineage = Map(stage.fence.lineage)
    waiting = stage.start("wait", TARGET_IP)
    assert waiting.stdout and waiting.stdout.readline() == "ready\n"
    lineage.delete(waiting.pid.to_bytes(4, "little"))
    assert waiting.communicate("\n")[0] == "relay\n"
    found = stage.accepted[-1].found
    assert found and found.process is None and found.server == Address(TARGET_IP, PORT)
    assert stage.status().counters["unknown_process"] == before + 1


def test_an_entry_of_an_earlier_process_with_that_pid_is_not_believed(stage: Stage) -> None:
    lineage = Map(stage.fence.lineage)
    waiting = stage.start("wait", TARGET_IP)
    assert waiting.stdout and waiting.stdout.readline() == "ready\n"
    key = waiting.pid.to_bytes(4, "little")
    entry = lineage.lookup(key)
    assert entry
    lineage.update(key, (int.from_bytes(entry[:8], "little") - 1).to_bytes(8, "little") + entry[8:])
    assert waiting.communicate("\n")[0] == "relay\n"
    assert stage.accepted[-1].found and stage.accepted[-1].found.process is None


def test_remembered_cgroups_are_limited(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.vendor("connect", TARGET_IP)
    found = stage.host(Peers, stage.fence.peers, stage.place.cgroup)
    monkeypatch.setattr(peers, "MAX_CGROUPS", 2)
    found._paths.update(dict.fromkeys(range(3), ""))
    assert found.find(stage.accepted[0].peer)
    assert found._paths.keys() == cgroups.governed(stage.place.cgroup).keys()


def test_original_of_a_socket_that_was_not_redirected() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as server:
            server.bind((host, 0))
            server.listen()
            with socket.create_connection(server.getsockname()[:2]), server.accept()[0] as sock:
                assert original.original(sock) in (None, Address.of(*server.getsockname()[:2]))


def test_a_map_refuses_keys_of_another_size(stage: Stage) -> None:
    with pytest.raises(ValueError, match="field of 32"):
        Map(stage.fence.peers).lookup(b"short")


def test_what_is_no_map(tmp_path: Path) -> None:
    with open(tmp_path / "x", "w") as file, pytest.raises(HostError, match="shape"):
        Map(file.fileno())
