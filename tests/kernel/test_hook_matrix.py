"""Which hook sees which traffic, as the kernel counts its runs, and that none of it reaches the far side.

The table is the host's hook matrix. Each kind is tried three times: with all hooks; without cgroup/sock_create, as if a
protocol had slipped past its allow-list; and with cgroup_skb/egress alone, the lock that must hold when all else is gone.
What comes over the wire is captured in the target's namespace.
"""

import ctypes
import os
from collections.abc import Iterator
from ctypes import byref, c_uint32

import pytest

from appliance.kernel import fence, libbpf, load, pins
from appliance.lab.hosts import TARGET_IP, TARGET_IP6
from tests.evasion.field import attacks
from tests.evasion.wire import Wire
from tests.kernel.stage import PORT, PYTHON, Stage

pytestmark = pytest.mark.kernel

V4, V6 = TARGET_IP, TARGET_IP6
COLUMNS = {
    "vg_create": "sc", "vg_connect4": "c4", "vg_connect6": "c6", "vg_sendmsg4": "s4", "vg_sendmsg6": "s6", "vg_egress": "eg",
}  # fmt: skip
INFO = 216  # bytes of struct bpf_prog_info up to recursion_misses
RUNS = 200  # offset of run_cnt

# What is tried and where to; the hooks that run when all are there; those that run when sock_create is not.
MATRIX = {
    "TCP": ("tcp", V4, "sc c4 eg", "c4 eg"),
    "TCP over IPv6": ("tcp", V6, "sc c6 eg", "c6 eg"),
    "TCP to a mapped address": ("mapped_tcp", V4, "sc c6 eg", "c6 eg"),
    "TCP fast open": ("fast_open", V4, "sc c4 eg", "c4 eg"),
    "TCP fast open to a mapped address": ("mapped_fast_open", V4, "sc c6 eg", "c6 eg"),
    "TCP_FASTOPEN_CONNECT": ("fast_open_connect", V4, "sc c4 eg", "c4 eg"),
    "MPTCP": ("mptcp", V4, "sc", "c4 eg"),
    "UDP": ("udp", V4, "sc s4", "s4"),
    "UDP over IPv6": ("udp", V6, "sc s6", "s6"),
    "UDP to a mapped address": ("mapped_udp", V4, "sc s4", "s4"),
    "UDP connected": ("udp_connected", V4, "sc c4 eg", "c4 eg"),
    "UDP connected over IPv6": ("udp_connected", V6, "sc c6 eg", "c6 eg"),
    "UDP corked": ("udp_corked", V4, None, None),  # in pieces: the first is refused or held, by the kernel's version
    "UDP-Lite": ("udp_lite", V4, "sc", "eg"),
    "UDP-Lite over IPv6": ("udp_lite", V6, "sc", "eg"),
    "ping socket": ("ping", V4, "sc", "eg"),
    "ping socket over IPv6": ("ping", V6, "sc", "eg"),
    "raw": ("raw_icmp", V4, "sc", "eg"),
    "raw, another protocol": ("raw_253", V4, "sc", "eg"),
    # Past sock_create, it is cgroup/setsockopt that refuses the option; it sees many of the others too and has no column.
    "raw, own header": ("header_syn", V4, "sc", ""),
    "raw, own header, no SYN": ("header_ack", V4, "sc", ""),
    "SCTP": ("sctp", V4, "sc", None),
    "DCCP": ("dccp", V4, "sc", None),
    "io_uring": ("uring", V4, "sc c4 eg", "c4 eg"),
    "io_uring, in a worker": ("uring_async", V4, "sc c4 eg", "c4 eg"),
    "io_uring, polled": ("uring_poll", V4, "sc c4 eg", "c4 eg"),
    "bound to a device": ("bound_25", V4, "sc c4 eg", "c4 eg"),
    "bound to a device, fast open": ("bound_fast_open_62", V6, "sc c6 eg", "c6 eg"),
    "another namespace": ("own_network", V4, "sc c4", "c4"),
    "vsock": ("vsock", V4, "", ""),
    "netlink": ("netlink", V4, "", ""),
}
NO_PACKET = {"vsock", "netlink", "another namespace"}  # of IP leaves: another family, or no route from there
NOT_HOSTED = ("errno 93", "errno 94", "errno 97")  # no such protocol, type or family in this kernel


@pytest.fixture(scope="module")
def wire(module_stage: Stage) -> Iterator[Wire]:
    wire = Wire(module_stage.lab)
    yield wire
    wire.close()


@pytest.fixture(scope="module", autouse=True)
def counted() -> Iterator[None]:
    """Have the kernel count runs, for as long as this descriptor is open (BPF_ENABLE_STATS)."""
    fd = libbpf.library().bpf_enable_stats(0)
    assert fd >= 0
    yield
    os.close(fd)


def programs(stage: Stage) -> dict[str, int]:
    """Return the attached programs of the table's columns: name -> id."""
    instance = pins.directory(stage.place.instance)
    there = pins.current(instance) if instance else None
    assert there
    return {name: found for name in COLUMNS if (found := fence._program(there / f"link_{name}"))}


def runs(ids: dict[str, int]) -> dict[str, int]:
    """Return how often each ran."""
    found = {}
    for name, number in ids.items():
        fd = libbpf.program_by_id(number)
        info, size = ctypes.create_string_buffer(INFO), c_uint32(INFO)
        assert libbpf.library().bpf_obj_get_info_by_fd(fd, info, byref(size)) == 0
        found[name] = int.from_bytes(info.raw[RUNS : RUNS + 8], "little")
        os.close(fd)
    return found


def tried(stage: Stage, wire: Wire, kind: str) -> tuple[str, set[str]]:
    """Try one kind as root without capabilities to spare; return what it said and the hooks that ran."""
    case, host, *_ = MATRIX[kind]
    wire.frames()
    ids = programs(stage)
    before = runs(ids)
    words = [PYTHON, "-SE", str(attacks()), "root", f"{case}@{host}@{PORT}"]
    done = stage.lab.run(words, cgroup="acme.service", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    ran = {COLUMNS[name] for name, count in runs(ids).items() if count > before[name]}
    leaked = wire.frames()
    assert leaked == [], (kind, leaked[0][:80])
    return str(done.stdout).strip().rpartition("\n")[2], ran


@pytest.mark.parametrize("kind", MATRIX)
def test_with_all_hooks(stage: Stage, wire: Wire, kind: str) -> None:
    said, ran = tried(stage, wire, kind)
    hooks = MATRIX[kind][2]
    if hooks is not None and not (said in NOT_HOSTED and ran == set()):
        assert ran == set(hooks.split()), said


def take_away(stage: Stage, names: tuple[str, ...]) -> None:
    """Detach programs, as nobody but root can."""
    instance = pins.directory(stage.place.instance)
    there = pins.current(instance) if instance else None
    assert there
    for name in names:
        (there / f"link_{name}").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def past_the_allow_list(module_stage: Stage) -> Iterator[None]:
    take_away(module_stage, ("vg_create",))
    yield
    module_stage.host(fence.up, module_stage.place).close()


@pytest.mark.parametrize("kind", MATRIX)
def test_when_a_protocol_slips_past_the_allow_list(stage: Stage, wire: Wire, past_the_allow_list: None, kind: str) -> None:
    said, ran = tried(stage, wire, kind)
    hooks = MATRIX[kind][3]
    if hooks is not None and said not in NOT_HOSTED:
        assert ran == set(hooks.split()), said


@pytest.fixture(scope="module")
def with_the_lock_alone(past_the_allow_list: None, module_stage: Stage) -> None:
    others = [name for part in load.PARTS for name in (*part.slice, *part.root) if name != "vg_egress"]
    take_away(module_stage, tuple(others))


@pytest.mark.parametrize("kind", MATRIX)
def test_with_the_lock_alone(stage: Stage, wire: Wire, with_the_lock_alone: None, kind: str) -> None:
    assert programs(stage).keys() == {"vg_egress"}
    said, ran = tried(stage, wire, kind)
    if kind not in NO_PACKET and said not in NOT_HOSTED:
        assert ran == {"eg"}, said
