"""What a drop-in of systemd takes from a unit, taken from one command: the ways round the fence by way of others.

A service manager, a container engine or a reviewer's socket would act outside the slice on its behalf; root without
capabilities still owns the files of cgroups, and would move itself out; a terminal shared with a shell outside takes
what is typed into it from anybody; families of sockets that no hook of the slice sees. `conceal` while we may mount,
`bind` last: what is taken then is taken for good, from all that the command starts.

Source: mount_namespaces(7); ioctl_tty(2), TIOCSTI and TIOCLINUX; seccomp(2); systemd.exec(5), InaccessiblePaths=;
include/uapi/linux/{audit,seccomp,bpf_common}.h; io_uring(7): what goes through a ring passes no filter.
"""

import ctypes
import errno
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.model import HostError

HIDDEN = (
    "/run/dbus", "/run/docker.sock", "/run/containerd", "/run/crio", "/run/k3s", "/run/podman", "/run/libvirt",
    "/run/incus", "/var/lib/incus", "/run/lxd", "/var/lib/lxd", "/var/snap/lxd", "/run/snapd.socket",
    "/run/snapd-snap.socket", "/run/user", "/run/systemd/private", "/run/systemd/resolve/io.systemd.Resolve",
    "/run/nscd", "/run/vendorgate", "/run/vendorgate-bpf", "/sys/fs/bpf", "/etc/vendorgate/rules.d",
    "/etc/vendorgate/vendorgate.yaml", "/var/lib/vendorgate",
)  # fmt: skip
MOUNTS = Path("/proc/self/mountinfo")
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
PR_SET_SECCOMP, FILTER = 22, 2

TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # typing into a terminal, and pasting
FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink: without capabilities it only reads
X32 = 0x40000000  # of numbers of calls, on x86-64: another table
CALLS = {  # machine -> AUDIT_ARCH, ioctl, socket, socketpair
    "x86_64": (0xC000003E, 16, 41, 53),
    "aarch64": (0xC00000B7, 29, 198, 199),
}
IO_URING_SETUP = 425  # on both
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER, ARCH, FIRST, SECOND = 0, 4, 16, 24  # offsets in seccomp_data; of arguments the lower half

_libc = ctypes.CDLL(None, use_errno=True)


def conceal(more: Iterable[Path] = ()) -> None:
    """Hide what would act outside the slice, and `more`, from this process and its children; cgroups are read-only.

    Raises:
        HostError: the kernel refuses it. The caller must end.
    """
    if _libc.unshare(CLONE_NEWNS):
        raise HostError(f"a mount namespace for the command: {os.strerror(ctypes.get_errno())}", "run it as root")
    _mount("none", "/", "", MS_REC | MS_SLAVE)
    for path in _cgroup2():
        _mount("none", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for path in (*HIDDEN, *map(str, more)):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            _mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=000,size=4k")
        else:
            _mount("/dev/null", path, "", MS_BIND)


def bind() -> None:
    """Take calls that would act outside; no_new_privs is set already.

    Raises:
        HostError: the kernel refuses it. The caller must end.
    """
    code = b"".join(program(os.uname().machine))
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer)))
    if _libc.prctl(PR_SET_SECCOMP, FILTER, head, 0, 0):
        raise HostError(f"a filter of calls for the command: {os.strerror(ctypes.get_errno())}", "is seccomp built in?")


def program(machine: str) -> Iterator[bytes]:
    """Yield the filter. What it refuses fails with what a kernel without it would say.

    Raises:
        HostError: calls of this machine are not known.
    """
    if machine not in CALLS:
        raise HostError(f"calls of {machine} are not known", f"exec works on {' and '.join(CALLS)}")
    arch, ioctl, *sockets = CALLS[machine]
    yield from (_code(LOAD, ARCH), _code(EQUAL, arch, 1, 0), _code(RETURN, ERRNO | errno.ENOSYS))
    yield from (_code(LOAD, NUMBER), _code(AT_LEAST, X32, 0, 1), _code(RETURN, ERRNO | errno.ENOSYS))
    yield from (_code(EQUAL, IO_URING_SETUP, 0, 1), _code(RETURN, ERRNO | errno.EPERM))
    yield from (_code(EQUAL, ioctl, 0, 5), _code(LOAD, SECOND), _code(EQUAL, TIOCSTI, 1, 0))
    yield from (_code(EQUAL, TIOCLINUX, 0, 1), _code(RETURN, ERRNO | errno.EPERM), _code(RETURN, ALLOW))
    left = len(FAMILIES)
    yield from (_code(EQUAL, sockets[0], 1, 0), _code(EQUAL, sockets[1], 0, left + 2), _code(LOAD, FIRST))
    yield from (_code(EQUAL, family, left - n, 0) for n, family in enumerate(FAMILIES))
    yield from (_code(RETURN, ERRNO | errno.EAFNOSUPPORT), _code(RETURN, ALLOW))


def _code(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def _cgroup2() -> Iterator[str]:
    """Yield where cgroups are mounted."""
    for line in MOUNTS.read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), left.split()[4])


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()):
        why = os.strerror(ctypes.get_errno())
        raise HostError(f"hide {target} from the command: {why}", "run it as root, outside a container")
