"""Puts a load of the fence in force: the objects of bpf/, attached and pinned, in the place of the load before it.

With the same layout the maps stay and each hook's program is exchanged inside its link, so that packets are counted
once and sockets keep their verdicts. With another layout the new hooks are attached beside the old ones, which then go;
open flows end. Whatever fails, the old load is as it was.

An object that is not `FENCE` or `LINEAGE` may be refused by the kernel. Then a directory `lacks_<object>` stands in the
load for it, and `vendorgate check` names what is not promised without it.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from appliance.kernel import cgroups, libbpf, pins
from appliance.kernel.layout import LAYOUT, Settings
from appliance.kernel.libbpf import Link, Map, Object
from appliance.kernel.peers import netns_cookie
from appliance.model import HostError

OBJECTS = (Path(__file__).parents[2] / "bpf", Path("/usr/lib/vendorgate/bpf"))
ZERO = bytes(4)
SEED_PASSES = 3  # the list is by pid; a parent with a higher one than its child needs another pass


class Part(msgspec.Struct, frozen=True):
    """One object: its programs by how they are attached, and the maps of its own that are pinned."""

    file: str
    slice: dict[str, int] = {}  # program -> enum bpf_attach_type, in the order they are attached to the slice
    later: tuple[str, ...] = ()  # of those, what is attached when it is needed first (`attach_later`)
    root: dict[str, int] = {}  # the same, on the root cgroup
    tracing: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()  # iterators
    over: dict[str, str] = {}  # the same over the values of a map: program -> map
    maps: tuple[str, ...] = ()
    unnamed: bool = False  # libbpf knows no section names for its hooks
    instead: str = ""  # not needed where this part loads
    promise: str = ""  # what does not hold without it
    remedy: str = ""

    @property
    def name(self) -> str:
        return self.file.removesuffix(".bpf.o")

    @property
    def kinds(self) -> dict[str, int]:
        """All programs of cgroups with their attach types."""
        return {**self.slice, **self.root}

    @property
    def links(self) -> tuple[str, ...]:
        return (*self.tracing, *self.slice, *self.root)


LINEAGE = Part(
    "lineage.bpf.o",
    tracing=("vg_fork", "vg_exec", "vg_exit"),
    maps=("lineage", "counters", "images", "carried", "events", "seed"),
)
FENCE = Part(
    "fence.bpf.o",
    slice={
        "vg_create": 2,
        "vg_release": 34,
        "vg_post_bind4": 12,
        "vg_post_bind6": 13,
        "vg_setsockopt": 22,
        "vg_connect4": 10,
        "vg_connect6": 11,
        "vg_sendmsg4": 14,
        "vg_sendmsg6": 15,
        "vg_egress": 1,
        "vg_ingress": 0,
    },
    # It asks something only of sockets that may speak to the packet engine, and a hook that does nothing still takes
    # 0.1 us of each packet.
    later=("vg_ingress",),
    over={"vg_settle": "sockets"},
    # settings, the mark of a whole load, come last
    maps=(
        "sockets", "flows", "owners", "peers", "judge", "scopes", "rates", "namespaces", "coverage", "sequences",
        "passage", "speakers", "slots", "shares", "crowds", "unused", "lingering", "settings",
    ),
)
EXTRAS = (
    Part(
        "revoke.bpf.o", runs=("vg_revoke",),
        promise="a direct flow that the rules deny later is dropped, but its program is not told and hangs",
        remedy="a kernel of 6.5 or later",
    ),
    Part(
        "adopt.bpf.o", runs=("vg_adopt",),
        promise="existing_connections: keep cannot be done; what was open before the fence is dropped",
        remedy="a kernel of 5.18 or later",
    ),
    Part(
        "closed.bpf.o", slice={"vg_closed": 3},
        promise="bytes that the relay never took, since it closed first, show as a difference in the ledger",
        remedy="a kernel of 5.10 or later",
    ),
    Part(
        "unix.bpf.o", slice={"vg_unix_connect": 49, "vg_unix_sendmsg": 50}, maps=("unix_allowed",), unnamed=True,
        promise="`unix:` cannot be enforced: governed processes may speak to any unix socket they can open",
        remedy="a kernel of 6.7 or later; or InaccessiblePaths= in the unit, as in vendor-agent.conf",
    ),
    Part(
        "handed.bpf.o",
        root={
            "vg_handed_connect4": 10,
            "vg_handed_connect6": 11,
            "vg_handed_sendmsg4": 14,
            "vg_handed_sendmsg6": 15,
        },
        promise="a socket handed in from outside the slice can be connected",
        remedy="a kernel of 6.2 or later",
    ),
    Part(
        "lsm.bpf.o",
        tracing=(
            "vg_lsm_receive", "vg_lsm_sendmsg", "vg_lsm_create", "vg_lsm_unix_connect", "vg_lsm_unix_send",
        ),
        maps=("unix_inodes",),
        promise="the first send over a socket handed in from outside, and the first frame of a packet or vsock socket"
        " where the unit's RestrictAddressFamilies= allows one, leaves before its sender is killed; a vendor that wins"
        " a race over its own files may speak to a unix socket that is not on the list",
        remedy="a kernel with CONFIG_BPF_LSM, and `bpf` in its list of security modules (lsm= on its command line)",
    ),
    Part(
        "foreign.bpf.o", tracing=("vg_foreign",), instead="lsm.bpf.o",
        promise="a socket handed in from outside the slice, or a packet socket, can be sent over",
        remedy="a kernel of 5.18 or later",
    ),
)  # fmt: skip
PARTS = (LINEAGE, FENCE, *EXTRAS)


def object_directory() -> Path:
    """Return where the compiled objects are: a checkout's, or the package's.

    Raises:
        HostError: nowhere.
    """
    for path in OBJECTS:
        if all((path / part.file).exists() for part in PARTS):
            return path
    missing = next(part.file for part in PARTS if not (OBJECTS[0] / part.file).exists())
    raise HostError(f"no {missing} in {OBJECTS[0]} nor {OBJECTS[1]}", "make bpf")


def build_of(objects: Path) -> int:
    """Return a number that names these objects."""
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update((objects / part.file).read_bytes())
    return int.from_bytes(digest.digest()[:8], "big")


def settings_of(load: Path) -> Settings:
    """Return what a load was told."""
    fd = libbpf.opened(load / pins.LAST)
    try:
        return Settings.unpack(Map(fd).lookup(ZERO) or b"")
    finally:
        os.close(fd)


def lacking(load: Path) -> tuple[Part, ...]:
    """Return the parts that the kernel did not take when this load was put up."""
    return tuple(part for part in EXTRAS if (load / f"lacks_{part.name}").is_dir())


class Load:
    """One load while it is put up, beside `old` or in its place."""

    def __init__(self, cgroup: Path, root: Path, new: Path, old: Path | None) -> None:
        self._cgroup, self._root, self._new, self._old = cgroup, root, new, old
        self._later = {name for part in PARTS for name in part.later if old is None or (old / f"later_{name}").exists()}
        self._maps: dict[str, int] = {}  # by name, for the parts that follow
        self._undo: list[tuple[int, int]] = []  # link and the program it had

    def put(self, objects: Path, port: int) -> None:
        """Load, attach and pin all parts.

        Raises:
            HostError: the kernel takes no fence; what was attached in the meantime is gone again.
        """
        with ExitStack() as stack:
            self._reuse(stack)
            stack.callback(self._close)
            try:
                for part in PARTS:
                    self._put(stack, part, objects, port)
                self._pin_maps(build_of(objects))
            except BaseException:
                self._back()
                raise

    def _reuse(self, stack: ExitStack) -> None:
        """Take the maps of the old load, when they have the same shape."""
        if self._old is None or settings_of(self._old).layout != LAYOUT:
            self._old = None
            return
        for part in PARTS:
            for name in part.maps:
                path = self._old / f"map_{name}"
                if path.exists():
                    self._maps[name] = libbpf.opened(path)
                    stack.callback(os.close, self._maps[name])

    def _put(self, stack: ExitStack, part: Part, objects: Path, port: int) -> None:
        if part.instead and not (self._new / f"lacks_{part.instead.removesuffix('.bpf.o')}").is_dir():
            return
        kinds = part.kinds if part.unnamed else None
        try:
            loaded = stack.enter_context(Object(objects / part.file, self._maps, kinds))
        except HostError:
            if part not in EXTRAS:
                raise
            self._without(part)
            return
        self._maps |= {name: loaded.map_fd(name) for name in part.maps}
        if part is FENCE:
            tell(Map(self._maps["settings"]), self._cgroup, port)
        if loaded.has_map("governed"):
            with descriptor(self._cgroup) as cgroup:
                Map(loaded.map_fd("governed")).update(ZERO, cgroup.to_bytes(4, sys.byteorder))
        try:
            self._attach(part, loaded)
        except HostError:
            if part not in EXTRAS:
                raise
            self._without(part)
        if part is LINEAGE:
            seed(loaded)

    def _without(self, part: Part) -> None:
        for name in (*(f"link_{name}" for name in part.links), *(f"run_{name}" for name in (*part.runs, *part.over))):
            (self._new / name).unlink(missing_ok=True)
        (self._new / f"lacks_{part.name}").mkdir()

    def _attach(self, part: Part, loaded: Object) -> None:
        for name in part.tracing:
            self._pin(loaded.attach(name), f"link_{name}")
        for name in part.runs:
            self._pin(loaded.attach_iter(name), f"run_{name}")
        for name, values in part.over.items():
            self._pin(loaded.attach_iter(name, values), f"run_{name}")
        for programs, path in ((part.slice, self._cgroup), (part.root, self._root)):
            with descriptor(path) as cgroup:
                for name in programs:
                    if name in self._later:
                        libbpf.pin(loaded.program_fd(name), self._new / f"later_{name}")
                    elif not self._exchange(f"link_{name}", loaded.program_fd(name)):
                        self._pin(loaded.attach_cgroup(name, cgroup), f"link_{name}")

    def _exchange(self, name: str, program: int) -> bool:
        """Put the program into the old load's link, and pin that for the new one. False when that cannot be."""
        if self._old is None or not (self._old / name).exists():
            return False
        link = libbpf.opened(self._old / name)
        try:
            before = libbpf.program_by_id(libbpf.link_program(link))
        except HostError:
            os.close(link)
            return False
        try:
            libbpf.update_link(link, program)
        except HostError:  # its cgroup is gone
            os.close(before)
            os.close(link)
            return False
        self._undo.append((link, before))
        libbpf.pin(link, self._new / name)
        return True

    def _pin_maps(self, build: int) -> None:
        for part in PARTS:
            for name in part.maps:
                if name in self._maps and name != "settings":
                    libbpf.pin(self._maps[name], self._new / f"map_{name}")
        settings = Map(self._maps["settings"])
        told = msgspec.structs.replace(Settings.unpack(settings.lookup(ZERO) or b""), build=build, layout=LAYOUT)
        settings.update(ZERO, told.pack())
        libbpf.pin(settings.fd, self._new / pins.LAST)

    def _back(self) -> None:
        for link, before in self._undo:
            libbpf.update_link(link, before)

    def _close(self) -> None:
        for link, before in self._undo:
            os.close(link)
            os.close(before)

    def _pin(self, link: Link, name: str) -> None:
        try:
            link.pin(self._new / name)
        finally:
            link.close()


def attach_later(load: Path, part: Part, cgroup: Path) -> None:
    """Attach what a load has kept for later; again is fine. From then on it is missed where it is not in force."""
    for name in part.later:
        waiting = load / f"later_{name}"
        if waiting.exists():
            with descriptor(cgroup) as directory, ExitStack() as stack:
                program = libbpf.opened(waiting)
                stack.callback(os.close, program)
                link = libbpf.link_cgroup(program, directory, part.slice[name])
                stack.callback(os.close, link)
                libbpf.pin(link, load / f"link_{name}")
            waiting.unlink()


def tell(settings: Map, cgroup: Path, port: int) -> None:
    """Write the settings before anything is attached. Revision 0 with scope 0: nothing is direct."""
    now = Settings.unpack(settings.lookup(ZERO) or b"")
    told = msgspec.structs.replace(
        now,
        netns=netns_cookie(),
        relay_port=port,
        slice=cgroups.identifier(cgroup),
        epoch=now.epoch or time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )
    if told != now:
        settings.update(ZERO, told.pack())


def seed(lineage: Object) -> None:
    """Take in the processes that run already, parents before children; in the end also those of unknown descent."""
    modes = Map(lineage.map_fd("lineage.bss"))
    for mode in (*[0, 1] * SEED_PASSES, 2):
        modes.update(ZERO, mode.to_bytes(4, sys.byteorder) + ZERO)
        lineage.iterate("vg_seed")
        missing = modes.lookup(ZERO) or b""
        if not int.from_bytes(missing[4:], sys.byteorder):
            return


@contextmanager
def descriptor(path: Path) -> Iterator[int]:
    """Open a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
