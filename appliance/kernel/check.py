"""The preflight: what the host must have, tried rather than guessed, and what is lost without it.

Nothing that lasts is changed: programs are loaded and let go, the redirect is tried in a namespace of its
own.
"""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from appliance.kernel import fence, libbpf, load, nft, pins
from appliance.kernel.fence import Place
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.libbpf import Map, Object
from appliance.kernel.load import Part
from appliance.model import HostError

BTF = Path("/sys/kernel/btf/vmlinux")
CAPABILITIES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
NOBODY = 65534
TIMEOUT = 10.0  # seconds for one nft
FENCE = "governed processes cannot be held"
STEERING = "nothing can be inspected; governed processes have no network"
IDENTITY = "rules cannot name processes"


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `promise` is what does not hold while `ok` is false."""

    name: str
    ok: bool
    what: str
    remedy: str = ""
    promise: str = ""


def preflight(place: Place, running: bool = False) -> list[Finding]:
    """Look at everything; never raises. With `running`, the service is up and may hold its port."""
    found = [
        _try("rights", FENCE, "run as root", _rights),
        _try("cgroup", FENCE, "mount cgroup2, or set cgroup_root to where it is", lambda: _cgroup(place)),
        _try("btf", FENCE, "a kernel with CONFIG_DEBUG_INFO_BTF", _btf),
        _try("libbpf", FENCE, "install libbpf1", _libbpf),
        _try("bpf-fs", "the fence does not outlive its loader", "mount -t bpf bpf /sys/fs/bpf", _bpf_fs),
        _try("lineage", IDENTITY, "a kernel of 5.18 or later, with CONFIG_BPF_EVENTS", _lineage),
        _try("fence", FENCE, "a kernel of 5.18 or later, with CONFIG_CGROUP_BPF", _fence),
        *(_try(part.name, part.promise, part.remedy, partial(_part, part)) for part in load.EXTRAS),
        _try("lookup", IDENTITY, "a kernel of 5.19 or later", _lookup),
        _try("redirect", STEERING, "nftables, and CONFIG_NFT_REDIR", lambda: _redirect(place)),
        _try("firewalls", STEERING, "accept what goes out and comes in over lo", _firewalls),
    ]
    if not running:
        found.append(_try("port", STEERING, "another relay.port", lambda: _port(place)))
    return found


def _try(name: str, promise: str, remedy: str, look: Callable[[], str]) -> Finding:
    """Return what `look` says, or what it raises as a finding that is not ok."""
    try:
        return Finding(name, True, look())
    except HostError as error:
        return Finding(name, False, error.what, error.hint or remedy, promise)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Finding(name, False, str(error), remedy, promise)


def _rights() -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            missing = [name for bit, name in CAPABILITIES.items() if not held >> bit & 1]
            if missing:
                raise HostError(f"without {', '.join(missing)}")
    return "all that is needed"


def _cgroup(place: Place) -> str:
    kind = ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        if left.split()[4] == str(place.cgroup_root):
            kind = right.split()[0]
    if kind != "cgroup2":
        raise HostError(f"{place.cgroup_root} is {kind or 'no mount'}, not cgroup2")
    if not os.access(place.cgroup_root, os.W_OK):
        raise HostError(f"{place.cgroup_root} is not writable")
    return f"cgroup2 at {place.cgroup_root}"


def _btf() -> str:
    return f"{BTF}, {BTF.stat().st_size} bytes"


def _libbpf() -> str:
    libbpf.library()
    return "libbpf.so.1"


def _bpf_fs() -> str:
    path = pins.file_system(mount=False)
    if path is None and not pins.PLACES[0].is_dir():
        raise HostError(f"{pins.PLACES[0]} is not there: no bpf file system in this kernel or container")
    return f"mounted at {path}" if path else f"can be mounted at {pins.PLACES[0]}"


def _lineage() -> str:
    with Object(load.object_directory() / "lineage.bpf.o"):
        return f"{', '.join(load.LINEAGE.links)} load"


def _fence() -> str:
    with Object(load.object_directory() / "fence.bpf.o"):
        return f"{', '.join(load.FENCE.links)} load"


def _part(part: Part) -> str:
    """Load one of the parts that not every kernel takes, and nothing more than that."""
    objects = load.object_directory()
    if part.instead:
        with suppress(HostError), Object(objects / part.instead):
            return f"not needed where {part.instead.removesuffix('.bpf.o')} loads"
    with Object(objects / part.file, None, part.kinds if part.unnamed else None):
        return f"{', '.join((*part.links, *part.runs))} load"


def _lookup() -> str:
    """Look up in a map as nobody, as a relay does."""
    with Object(load.object_directory() / "fence.bpf.o") as loaded:
        peers = Map(loaded.map_fd("peers"))
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setgroups([])
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                peers.lookup(bytes(peers.key_size))
                code = 0
            finally:
                os._exit(code)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            raise HostError("a process without rights cannot read a map that it inherits")
    return "a process without rights can read the map of peers"


def _redirect(place: Place) -> str:
    """Put our table into a scratch namespace."""
    script = nft.ruleset(place.port or fence.DEFAULT_PORT, STEER_MARK)
    done = subprocess.run(
        ["unshare", "--net", "nft", "-f", "-"],
        input=script, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    if done.returncode:
        raise HostError(f"nft refuses our table: {done.stderr.strip()}")
    return "nft takes our table"


def _firewalls() -> str:
    """Look for chains of others that drop by default what we redirect over lo."""
    done = subprocess.run(
        ["nft", "-j", "list", "chains"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise HostError(f"nft cannot list chains: {done.stderr.strip()}")
    dropping = list(dropping_chains(done.stdout))
    if dropping:
        raise HostError(f"drop by default what is redirected to the relay: {', '.join(dropping)}")
    return "no chain of others drops output or input by default"


def dropping_chains(listing: str) -> Iterator[str]:
    """Yield the chains of others that drop output or input by default, from `nft -j list chains`."""
    for item in json.loads(listing).get("nftables", []):
        chain = item.get("chain", {})
        ours = chain.get("table") == nft.TABLE and chain.get("family") == "inet"
        if not ours and chain.get("hook") in ("output", "input") and chain.get("policy") == "drop":
            yield f"{chain['family']} {chain['table']} {chain['name']}"


def _port(place: Place) -> str:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, place.port))
            except OSError as error:
                raise HostError(f"{host} port {place.port}: {error.strerror}") from error
    return f"{place.port} is free on 127.0.0.1 and ::1"
