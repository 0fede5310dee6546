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
from typing import Any

import msgspec

from appliance.kernel import fence, libbpf, load, needs, nft, pins, queueable
from appliance.kernel.fence import Place
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.libbpf import Map, Object
from appliance.kernel.load import Part
from appliance.model import HostError

BTF = Path("/sys/kernel/btf/vmlinux")
NOBODY = 65534
TIMEOUT = 10.0  # seconds for one nft
LOOKS = 3  # at the chains; a table that goes at the same moment spoils one
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
        _try("queue", queueable.PROMISE, queueable.REMEDY, lambda: queueable.look(place.port or fence.DEFAULT_PORT)),
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
    if missing := needs.missing():
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
    if dropping := firewalls():
        raise HostError(f"drop by default what is redirected to the relay: {', '.join(dropping)}")
    return "no chain of others drops what goes over lo by default"


def firewalls() -> list[str]:
    """Return the chains of others that drop by default what we redirect over lo.

    Raises:
        HostError: nft does not tell.
    """
    words = ["nft", "-j", "list", "ruleset"]
    for _ in range(LOOKS):
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise HostError(f"nft cannot list chains: {error}", "apt-get install nftables") from None
        if done.returncode:
            raise HostError(f"nft cannot list chains: {done.stderr.strip()}")
        with suppress(ValueError):  # a table went while nft was listing it: what it prints ends there
            return list(dropping_chains(done.stdout))
    raise HostError("nft cannot list chains: it prints no whole JSON")


def dropping_chains(listing: str) -> Iterator[str]:
    """Yield the chains of others that drop output or input by default, from `nft -j list ruleset`.

    A table that accepts lo somewhere, as firewalls do first of all, is not in our way.
    """
    items = json.loads(listing).get("nftables", [])
    open_ = {(rule.get("family"), rule.get("table"), hook) for item in items if (rule := item.get("rule"))
             for hook, key in (("input", "iif"), ("output", "oif")) if _accepts_lo(rule, key)}  # fmt: skip
    for item in items:
        chain = item.get("chain", {})
        ours = chain.get("table") == nft.TABLE and chain.get("family") == "inet"
        accepts = (chain.get("family"), chain.get("table"), chain.get("hook")) in open_
        if not (ours or accepts) and chain.get("hook") in ("output", "input") and chain.get("policy") == "drop":
            yield f"{chain['family']} {chain['table']} {chain['name']}"


def _accepts_lo(rule: Any, key: str) -> bool:
    """Return whether a rule accepts all that comes from, or goes to, lo."""
    said = [part for part in rule.get("expr", ()) if "counter" not in part and "comment" not in part]
    if len(said) != 2 or "accept" not in said[1]:
        return False
    match = said[0].get("match") or {}
    met = (match.get("left") or {}).get("meta") or {}
    return match.get("op") == "==" and met.get("key") in (key, f"{key}name") and match.get("right") == "lo"


def _port(place: Place) -> str:
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, place.port))
            except OSError as error:
                raise HostError(f"{host} port {place.port}: {error.strerror}") from error
    return f"{place.port} is free on 127.0.0.1 and ::1"
