"""The fence: loads bpf/*.bpf.o, pins them, and tells whether they are in force.

`up` returns when governed processes can reach nothing but the relay and what is direct. From then on no
process of ours is needed: links and maps are pinned. Only `down`, or root by hand, removes it.
"""

import errno
import hashlib
import os
import sys
import time
from pathlib import Path
from types import TracebackType

import msgspec

from appliance.kernel import cgroups, libbpf, pins
from appliance.kernel.layout import LAYOUT, SCOPES, Reason, Settings
from appliance.kernel.libbpf import Link, Map, Object
from appliance.kernel.peers import netns_cookie
from appliance.model import HostError

OBJECTS = (Path(__file__).parents[2] / "bpf", Path("/usr/lib/vendorgate/bpf"))
ZERO = bytes(4)
DEFAULT_PORT = 15001
SEED_PASSES = 3  # the list is by pid; a parent with a higher one than its child needs another pass

# program -> enum bpf_attach_type, in the order they are attached
ON_CGROUP = {
    "vg_create": 2,
    "vg_post_bind4": 12,
    "vg_post_bind6": 13,
    "vg_setsockopt": 22,
    "vg_connect4": 10,
    "vg_connect6": 11,
    "vg_sendmsg4": 14,
    "vg_sendmsg6": 15,
    "vg_egress": 1,
}
TRACING = ("vg_fork", "vg_exec", "vg_exit")
OF_LINEAGE = ("lineage", "counters", "images", "carried", "events", "seed")
OF_FENCE = ("sockets", "owners", "peers", "judge", "scopes", "coverage", "sequences", "settings")
HELD = (
    "settings", "peers", "judge", "scopes", "counters", "lineage", "coverage", "sequences", "images", "carried",
    "events", "found",
)  # fmt: skip  # fields of Fence
OTHERWISE = {"found": "images"}  # the same map, to write
RELAYS = ("peers", "images", "carried")  # read-only


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


def up(place: Place) -> Fence:
    """Put the fence in force and return its maps. Once it is, this only brings the settings up to date.

    Acts for the relay of the network namespace that this process is in.

    Raises:
        HostError: the host cannot do it; what was in force before still is.
    """
    objects = object_directory()
    build = _build(objects)
    with pins.locked(place.instance) as instance:
        cgroups.create(place.cgroup)
        cgroups.limit(place.cgroup, SCOPES)
        load = pins.current(instance)
        if load is None or _settings(load).build != build or _missing(place, load):
            load = _replace(place, instance, load, objects, build)
        fence = attached(place)
        settings = Settings.unpack(Map(fence.settings).lookup(ZERO) or b"")
        there = cgroups.identifier(place.cgroup)
        told = msgspec.structs.replace(settings, netns=netns_cookie(), relay_port=place.port, slice=there)
        if told != settings:
            Map(fence.settings).update(ZERO, told.pack())
        return fence


def attached(place: Place) -> Fence:
    """Return the maps of the fence that is up.

    Raises:
        HostError: it is not up.
    """
    instance = pins.directory(place.instance)
    load = pins.current(instance) if instance else None
    if load is None:
        raise HostError(f"the fence of {place.slice} is not up", "vendorgate fence up")
    flags = dict.fromkeys(RELAYS, libbpf.READ_ONLY)
    paths = {name: load / f"map_{OTHERWISE.get(name, name)}" for name in HELD}
    return Fence(place, *(libbpf.opened(path, flags.get(name, 0)) for name, path in paths.items()))


def down(place: Place) -> None:
    """Remove the fence: governed processes are free. Removing one that is not up is fine."""
    if pins.directory(place.instance) is None:
        return
    with pins.locked(place.instance) as instance:
        pins.remove(instance)


def status(place: Place) -> Status:
    """Ask the kernel what is in force for the slice."""
    instance = pins.directory(place.instance)
    load = pins.current(instance) if instance else None
    names = (*TRACING, *ON_CGROUP)
    if load is None:
        return Status(False, names, {})
    missing = _missing(place, load)
    settings = _settings(load)
    with attached(place) as fence:
        counts = Map(fence.counters)
        counters = {
            reason.name.lower(): counts.lookup_sum(reason.to_bytes(4, sys.byteorder)) for reason in Reason
        }
    below = len(cgroups.governed(place.cgroup))
    return Status(not missing, missing, counters, settings.relay_port, settings.revision, below)


def object_directory() -> Path:
    """Return where the compiled objects are: a checkout's, or the package's.

    Raises:
        HostError: nowhere.
    """
    for path in OBJECTS:
        if (path / "fence.bpf.o").exists() and (path / "lineage.bpf.o").exists():
            return path
    raise HostError(f"no fence.bpf.o in {OBJECTS[0]} nor {OBJECTS[1]}", "make bpf")


def _build(objects: Path) -> int:
    digest = hashlib.sha256()
    for name in ("lineage.bpf.o", "fence.bpf.o"):
        digest.update((objects / name).read_bytes())
    return int.from_bytes(digest.digest()[:8], "big")


def _settings(load: Path) -> Settings:
    fd = libbpf.opened(load / pins.LAST)
    try:
        return Settings.unpack(Map(fd).lookup(ZERO) or b"")
    finally:
        os.close(fd)


def _missing(place: Place, load: Path) -> tuple[str, ...]:
    """Return the programs that are not effective on the slice or on a cgroup below it."""
    found = {name: _program(load / f"link_{name}") for name in (*TRACING, *ON_CGROUP)}
    missing = {name for name, program in found.items() if not program}
    for path in cgroups.governed(place.cgroup).values():
        try:
            cgroup = os.open(place.cgroup / path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            for name, kind in ON_CGROUP.items():
                if found[name] not in libbpf.effective(cgroup, kind):
                    missing.add(name)
        finally:
            os.close(cgroup)
    if not place.cgroup.is_dir():
        missing.update(ON_CGROUP)
    return tuple(name for name in found if name in missing)


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


def _replace(place: Place, instance: Path, old: Path | None, objects: Path, build: int) -> Path:
    """Load and attach beside what there is, then remove that. With the same layout, sockets keep verdicts."""
    reuse: dict[str, int] = {}
    if old and _settings(old).layout == LAYOUT:
        reuse = {name: libbpf.opened(old / f"map_{name}") for name in (*OF_LINEAGE, *OF_FENCE)}
    new = pins.following(instance)
    try:
        with Object(objects / "lineage.bpf.o", reuse) as lineage:
            shared = {name: lineage.map_fd(name) for name in OF_LINEAGE}
            with Object(objects / "fence.bpf.o", reuse | shared) as fence:
                _tell(Map(fence.map_fd("settings")), place, build)
                _attach(place, new, lineage, fence)
                maps = shared | {name: fence.map_fd(name) for name in OF_FENCE}
                for name, fd in maps.items():  # settings, the mark of a whole load, come last
                    libbpf.pin(fd, new / f"map_{name}")
    except BaseException:
        pins.remove(new)
        raise
    finally:
        for fd in reuse.values():
            os.close(fd)
    for path in pins.loads(instance):
        if path != new:
            pins.remove(path)
    return new


def _tell(settings: Map, place: Place, build: int) -> None:
    """Write the settings before anything is attached. Revision 0 with scope 0: nothing is direct."""
    now = Settings.unpack(settings.lookup(ZERO) or b"")
    told = msgspec.structs.replace(
        now,
        netns=netns_cookie(),
        build=build,
        layout=LAYOUT,
        relay_port=place.port,
        slice=cgroups.identifier(place.cgroup),
        epoch=now.epoch or time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )
    settings.update(ZERO, told.pack())


def _attach(place: Place, new: Path, lineage: Object, fence: Object) -> None:
    """Attach and pin: first who runs what, then those that run already, then the fence."""
    cgroup = os.open(place.cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        Map(lineage.map_fd("governed")).update(ZERO, cgroup.to_bytes(4, sys.byteorder))
    finally:
        os.close(cgroup)
    for name in TRACING:
        _pin(lineage.attach(name), new / f"link_{name}")
    _seed(lineage)
    cgroup = os.open(place.cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in ON_CGROUP:
            _pin(fence.attach_cgroup(name, cgroup), new / f"link_{name}")
    finally:
        os.close(cgroup)


def _seed(lineage: Object) -> None:
    """Take in the processes that run already, parents before children; in the end also those of unknown descent."""
    modes = Map(lineage.map_fd("lineage.bss"))
    for mode in (*[0, 1] * SEED_PASSES, 2):
        modes.update(ZERO, mode.to_bytes(4, sys.byteorder) + ZERO)
        lineage.iterate("vg_seed")
        missing = modes.lookup(ZERO) or b""
        if not int.from_bytes(missing[4:], sys.byteorder):
            return


def _pin(link: Link, path: Path) -> None:
    try:
        link.pin(path)
    finally:
        link.close()
