"""What processes write and read through OpenSSL, taken down by probes in the library: see bpf/observe.bpf.c.

Probes are put into each file that a process of the cgroups runs and that defines one of FUNCTIONS: libssl wherever it
is, or a program that has it built in. Files are reached by /proc/PID/map_files, so it is the very file that runs, in
a container or deleted too. What is built in without symbols is not seen, nor is what a program does before `look`
came upon its library; that of this host is looked at first.

Source: Documentation/trace/uprobetracer.rst; proc(5), /proc/pid/maps and map_files; SSL_read(3ssl), SSL_write(3ssl).
"""

import os
import re
import ssl  # noqa: F401  maps this host's OpenSSL into this process, where `look` comes upon it
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import msgspec

from appliance.kernel import cgroups, symbols
from appliance.kernel.events import Buffer
from appliance.kernel.libbpf import Map, Object
from appliance.kernel.load import object_directory
from appliance.model import HostError

OBJECT = "observe.bpf.o"
FUNCTIONS = {  # -> the programs at its entry and its return
    "SSL_write": ("vg_write", "vg_wrote"),
    "SSL_read": ("vg_read", "vg_had"),
    "SSL_write_ex": ("vg_write_ex", "vg_wrote_ex"),
    "SSL_read_ex": ("vg_read_ex", "vg_had_ex"),
}
COPIED = 16384  # bytes of one call, as in the object
MAX_CALLS = 256  # taken from the ring at once, 4 MiB
MAX_FILES = 64  # with probes; a host has a handful of such libraries
MAX_PROCESSES = 1024  # whose mappings are read at one look
MAX_MAPPINGS = 4 << 20  # bytes of one /proc/PID/maps; the default vm.max_map_count makes about 6 MB
UPROBES = Path("/sys/bus/event_source/devices/uprobe")
LOST = 2  # kinds
EVERYBODY = -1  # whose memory gets the probe
HEAD = struct.Struct("=QQQIIII16s")  # struct plain
ID = struct.Struct("=Q")
PID = struct.Struct("=I")
_CODE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) ([1-9][0-9]*) +(.+)$", re.M)


class Plain(msgspec.Struct, frozen=True, gc=False):
    """One call that wrote or read. `data` may be less than `size`, of which the rest was not copied."""

    when: float  # unix seconds
    pid: int
    name: str  # that the process gives itself
    connection: int  # address of the SSL object: its name within the process
    sent: bool
    size: int
    data: bytes


class File(msgspec.Struct, frozen=True):
    """A file with probes, as the process calls it that was found to run it."""

    path: str
    functions: tuple[str, ...]


class Observer:
    """One observation; its probes go with our process at the latest. Use as a context manager.

    `fd` is readable when there is something to take.
    """

    def __init__(self, groups: Sequence[Path], pid: int = 0) -> None:
        """Observe the processes of cgroups and of all below them; with `pid`, that one of them only.

        Raises:
            HostError: the kernel has no such probes, or does not take ours.
        """
        if not UPROBES.exists():
            raise HostError("this kernel has no probes in user programs", "a kernel with CONFIG_UPROBE_EVENTS")
        path = object_directory() / OBJECT
        if not path.exists():
            raise HostError(f"no {path}", "apt install vendorgate-observe; in a checkout: make bpf")
        self.refused: list[str] = []  # files that take no probe, and why
        self._groups, self._pid = groups, pid
        self._looked: set[tuple[str, str]] = set()  # device and inode
        self._files = 0
        self._taken: list[Plain] = []
        self._booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        with ExitStack() as stack:
            self._object = stack.enter_context(Object(path))
            self._lost = Map(self._object.map_fd("lost"))
            watched = Map(self._object.map_fd("watched"))
            for group in groups:
                watched.update(ID.pack(_identifier(group)), PID.pack(1))
            Map(self._object.map_fd("only")).update(PID.pack(0), PID.pack(pid))
            ring = Buffer(self._object.map_fd("plains"), self._take, MAX_CALLS)
            stack.callback(ring.close)
            self._ring, self.fd = ring, ring.fd
            self._probes = stack.enter_context(ExitStack())
            self._stack = stack.pop_all()

    def look(self) -> list[File]:
        """Put probes where there are none yet; return these files."""
        pids = [self._pid] if self._pid else [pid for group in self._groups for pid in cgroups.processes(group)]
        first = () if self._pid else (os.getpid(),)
        return [file for pid in (*first, *pids[:MAX_PROCESSES]) for file in self._of(pid)]

    def consume(self) -> list[Plain]:
        """Return what there is, the oldest first; there may be more."""
        self._ring.consume()
        taken, self._taken = self._taken, []
        return taken

    def lost(self) -> int:
        """Return how many calls had no room in the kernel."""
        return sum(self._lost.lookup_sum(kind.to_bytes(4, sys.byteorder)) for kind in range(LOST))

    def stop(self) -> None:
        """Take the probes away; what was seen can still be taken."""
        self._probes.close()

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> "Observer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _of(self, pid: int) -> Iterator[File]:
        for code, device, inode, name in _mapped(pid):
            if (device, inode) in self._looked or self._files >= MAX_FILES:
                continue
            self._looked.add((device, inode))
            found = _functions(code)
            if found and self._probe(code, name, found):
                self._files += 1
                yield File(name, tuple(found))

    def _probe(self, code: Path, name: str, found: dict[str, int]) -> bool:
        with ExitStack() as stack:
            try:
                for function, offset in found.items():
                    for program, returning in zip(FUNCTIONS[function], (False, True), strict=True):
                        whom = self._pid or EVERYBODY
                        link = self._object.attach_uprobe(program, code, offset, returning=returning, pid=whom)
                        stack.callback(link.close)
            except HostError as error:  # gone meanwhile, or on a file system that cannot
                self.refused.append(f"{name}: {str(error).splitlines()[0]}")
                return False
            self._probes.push(stack.pop_all())
        return True

    def _take(self, data: bytes) -> None:
        when, connection, size, pid, copied, sent, _zero, name = HEAD.unpack_from(data)
        text = name.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        body = data[HEAD.size : HEAD.size + copied]
        self._taken.append(Plain(self._booted + when / 1e9, pid, text, connection, bool(sent), size, body))


def cgroup_of(pid: int, top: Path) -> str | None:
    """Return the path below `top` of the cgroup of a process, "" for `top` itself; None if it is in none of them.

    Raises:
        HostError: there is no such process.
    """
    if not Path(f"/proc/{pid}").is_dir():
        raise HostError(f"there is no process {pid}", "is it still running?")
    for path in cgroups.governed(top).values():
        try:
            if str(pid) in (top / path / "cgroup.procs").read_text().split():
                return path
        except OSError:  # removed while we looked, or threaded
            continue
    return None


def _identifier(group: Path) -> int:
    try:
        return cgroups.identifier(group)
    except OSError as error:
        raise HostError(f"cgroup {group}: {error.strerror}", "is anything running in it?") from error


def _mapped(pid: int) -> Iterator[tuple[Path, str, str, str]]:
    """Yield the code that a process has mapped: where to open it, device, inode, and its name there."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            text = file.read(MAX_MAPPINGS).decode("utf-8", "backslashreplace")
    except OSError:  # it has ended
        return
    for start, end, device, inode, name in _CODE.findall(text):
        yield Path(f"/proc/{pid}/map_files/{int(start, 16):x}-{int(end, 16):x}"), device, inode, name


def _functions(code: Path) -> dict[str, int]:
    try:
        fd = os.open(code, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return {}
    try:
        return symbols.functions(fd, FUNCTIONS)
    finally:
        os.close(fd)
