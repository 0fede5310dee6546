"""The fence: loads bpf/*.bpf.o, pins them, and tells whether they are in force.

`up` returns when governed processes can reach nothing but the relay and what is direct. From then on no
process of ours is needed: links and maps are pinned. Only `down`, or root by hand, removes it.
"""

import errno
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from appliance.kernel import cgroups, libbpf, load, networks, pins
from appliance.kernel.layout import KEPT, SCOPES, Reason, kept_of
from appliance.kernel.libbpf import Map
from appliance.kernel.load import Load
from appliance.model import Address, HostError

DEFAULT_PORT = 15001
HELD = (
    "settings", "peers", "judge", "scopes", "counters", "lineage", "coverage", "sequences", "images", "carried",
    "events", "found", "namespaces", "speakers", "shares", "passage",
)  # fmt: skip  # fields of Fence
OTHERWISE = {"found": "images"}  # the same map, to write
RELAYS = ("peers", "images", "carried")  # read-only
ENGINE = ("speakers", "images", "carried")  # the same


class Place(msgspec.Struct, frozen=True):
    """Which slice is governed, and where its relay listens."""

    cgroup_root: Path = Path("/sys/fs/cgroup")
    slice: str = "vendor.slice"
    port: int = DEFAULT_PORT  # 0: no relay, nothing that is to be inspected passes

    @property
    def cgroup(self) -> Path:
        return self.cgroup_root / self.slice

    @property
    def instance(self) -> str:
        """One slice, one fence: the name of its pins. A bpf file system takes no dot in names."""
        return self.slice.replace("_", "__").replace(".", "_d").replace("/", "_s")


class Kept(msgspec.Struct, frozen=True):
    """A connection from before the fence, which passes unjudged until the rules deny it."""

    cgroup: str
    client: Address
    server: Address


class Fence(msgspec.Struct, frozen=True):
    """File descriptors of the pinned maps, close-on-exec. Those that relays may inherit are read-only."""

    place: Place
    settings: int
    peers: int
    judge: int
    scopes: int
    counters: int
    lineage: int
    coverage: int
    sequences: int
    images: int
    carried: int
    events: int
    found: int  # the map of images, to write
    namespaces: int
    speakers: int
    shares: int
    passage: int
    kept: tuple[Kept, ...] = ()  # by this `up`

    def close(self) -> None:
        """Let go of the maps; the fence stays."""
        for name in HELD:
            os.close(getattr(self, name))

    def __enter__(self) -> "Fence":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Status(msgspec.Struct, frozen=True):
    """What is in force, as the kernel says, not as we remember."""

    up: bool  # every program is effective on the slice and all below it
    missing: tuple[str, ...]  # programs that are not
    counters: dict[str, int]
    relay_port: int = 0
    revision: int = 0
    cgroups: int = 0  # the slice and those below it
    lacking: tuple[str, ...] = ()  # promises that do not hold, since the kernel did not take a program


def up(place: Place, keep: bool = False) -> Fence:
    """Put the fence in force and return its maps. Once it is, this only brings the settings up to date.

    Acts for the relay of the network namespace that this process is in. With `keep`, connections that governed
    processes have open while there is no fence yet are let by, and told in `Fence.kept`.

    Raises:
        HostError: the host cannot do it; what was in force before still is.
    """
    objects = load.object_directory()
    build = load.build_of(objects)
    kept: tuple[Kept, ...] = ()
    with pins.locked(place.instance) as instance:
        cgroups.create(place.cgroup)
        cgroups.limit(place.cgroup, SCOPES)
        there = pins.current(instance)
        if there is None or load.settings_of(there).build != build or _missing(place, there):
            new = _replace(place, instance, there, objects)
            kept = _adopt(place, new) if keep and there is None else ()
        fence = msgspec.structs.replace(attached(place), kept=kept)
        load.tell(Map(fence.settings), place.cgroup, place.port)
        return fence


def _replace(place: Place, instance: Path, old: Path | None, objects: Path) -> Path:
    new = pins.following(instance)
    try:
        Load(place.cgroup, place.cgroup_root, new, old).put(objects, place.port)
    except BaseException:
        pins.remove(new)
        raise
    for path in pins.loads(instance):
        if path != new:
            pins.remove(path)
    return new


def _adopt(place: Place, new: Path) -> tuple[Kept, ...]:
    """Give what is connected a verdict, in each network namespace; nothing else passes in the meantime."""
    paths = cgroups.governed(place.cgroup)
    return tuple(
        Kept(paths.get(cgroup, ""), client, server)
        for report in _run(place, new, "vg_adopt")
        for cgroup, client, server in map(kept_of, KEPT.iter_unpack(report))
    )


def revoke(place: Place) -> None:
    """End the connections that were direct and are so no longer by the rules in the map.

    Where the kernel cannot, what they send is dropped all the same.
    """
    instance = pins.directory(place.instance)
    there = pins.current(instance) if instance else None
    if there:
        _run(place, there, "vg_revoke")


def answers(place: Place) -> None:
    """Have what comes in looked at, before there are sockets that speak to the packet engine.

    Raises:
        HostError: the fence is not up, or the kernel refuses.
    """
    with pins.locked(place.instance) as instance:
        there = pins.current(instance)
        if there is None:
            pins.remove(instance)
            raise HostError(f"the fence of {place.slice} is not up", "vendorgate fence up")
        load.attach_later(there, load.FENCE, place.cgroup)


def settle(place: Place) -> None:
    """Take to the ledger and the counters what sockets have sent directly since the last time."""
    instance = pins.directory(place.instance)
    there = pins.current(instance) if instance else None
    if there:
        (there / "run_vg_settle").read_bytes()


def _run(place: Place, there: Path, iterator: str) -> list[bytes]:
    """Run an iterator over the sockets of each network namespace of a governed process; return what it wrote."""
    path = there / f"run_{iterator}"
    if not path.exists():
        return []
    return networks.in_each(place.cgroup, path.read_bytes)


def attached(place: Place) -> Fence:
    """Return the maps of the fence that is up.

    Raises:
        HostError: it is not up.
    """
    instance = pins.directory(place.instance)
    there = pins.current(instance) if instance else None
    if there is None:
        raise HostError(f"the fence of {place.slice} is not up", "vendorgate fence up")
    flags = dict.fromkeys((*RELAYS, *ENGINE), libbpf.READ_ONLY)
    paths = {name: there / f"map_{OTHERWISE.get(name, name)}" for name in HELD}
    held: dict[str, Any] = {name: libbpf.opened(path, flags.get(name, 0)) for name, path in paths.items()}
    return Fence(place, **held)


def down(place: Place) -> None:
    """Remove the fence: governed processes are free. Removing one that is not up is fine."""
    if pins.directory(place.instance) is None:
        return
    with pins.locked(place.instance) as instance:
        pins.remove(instance)


def status(place: Place) -> Status:
    """Ask the kernel what is in force for the slice."""
    instance = pins.directory(place.instance)
    there = pins.current(instance) if instance else None
    if there is None:
        return Status(False, (*load.LINEAGE.links, *load.FENCE.links), {})
    missing = _missing(place, there)
    settings = load.settings_of(there)
    settle(place)
    with attached(place) as fence:
        counts = Map(fence.counters)
        counters = {
            reason.name.lower(): counts.lookup_sum(reason.to_bytes(4, sys.byteorder)) for reason in Reason
        }
    below = len(cgroups.governed(place.cgroup))
    lacking = tuple(part.promise for part in load.lacking(there))
    return Status(not missing, missing, counters, settings.relay_port, settings.revision, below, lacking)


def _missing(place: Place, there: Path) -> tuple[str, ...]:
    """Return the programs that are not effective on the slice or on a cgroup below it."""
    parts = [part for part in load.PARTS if part in (load.LINEAGE, load.FENCE) or _has(there, part)]
    names = [name for part in parts for name in part.links if not (there / f"later_{name}").exists()]
    found = {name: _program(there / f"link_{name}") for name in names}
    kinds = {name: kind for part in parts for name, kind in part.kinds.items() if name in found}
    missing = {name for name, program in found.items() if not program}
    for path in cgroups.governed(place.cgroup).values():
        try:
            with load.descriptor(place.cgroup / path) as cgroup:
                ids = {kind: libbpf.effective(cgroup, kind) for kind in set(kinds.values())}
        except FileNotFoundError:
            continue
        missing |= {name for name, kind in kinds.items() if found[name] not in ids[kind]}
    if not place.cgroup.is_dir():
        missing.update(kinds)
    return tuple(name for name in found if name in missing)


def _has(there: Path, part: load.Part) -> bool:
    """Return whether this load has the part: neither refused by the kernel, nor needless."""
    if part.instead and not (there / f"lacks_{part.instead.removesuffix('.bpf.o')}").is_dir():
        return False
    return not (there / f"lacks_{part.name}").is_dir()


def _program(link: Path) -> int:
    """Return the id of the program that a pinned link attaches; 0 if there is no such link."""
    try:
        fd = libbpf.opened(link)
    except HostError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOENT:
            return 0
        raise
    try:
        return libbpf.link_program(fd)
    finally:
        os.close(fd)
