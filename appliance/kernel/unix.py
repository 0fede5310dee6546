"""`unix:` of the settings: which unix sockets governed processes may speak to, besides those of their own vendor.

An entry is a path, a directory with a slash at its end (whatever is below it), or `@` and an abstract name. The
kernel's hook sees what the process writes, so a path is let by in this one form only; bpf/unix.bpf.c says what that
leaves open. Where LSM programs are taken, the socket's file must be on the list too, by its inode.

Source: unix(7), "Address format".
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.kernel import libbpf, pins
from appliance.kernel.fence import Fence
from appliance.kernel.layout import INODE, UNIX, UNIX_ENTRIES, Settings
from appliance.kernel.libbpf import Map
from appliance.kernel.load import ZERO
from appliance.model import HostError

ON = 1  # VG_SET_UNIX
ROOM = 108  # bytes of sun_path
HEAD = 16  # bits of a key before the path
YES = (1).to_bytes(4, "little")


def allow(fence: Fence, listed: Sequence[str] | None) -> None:
    """Let governed processes speak to these unix sockets and no others; None lets them speak to any.

    Raises:
        HostError: this kernel has no such hooks, or the list is too long.
    """
    told = Settings.unpack(Map(fence.settings).lookup(ZERO) or b"")
    path = _pinned(fence, "unix_allowed")
    if path is None:
        if listed is None:
            return
        raise HostError("`unix:` cannot be enforced by this kernel", "a kernel of 6.7 or later; or take `unix:` out")
    if len(listed or ()) > UNIX_ENTRIES:
        raise HostError(f"`unix:` has over {UNIX_ENTRIES} entries", "name directories")
    _fill(path, {key(entry) for entry in listed or ()})
    flags = told.flags & ~ON if listed is None else told.flags | ON
    if flags != told.flags:
        Map(fence.settings).update(ZERO, msgspec.structs.replace(told, flags=flags).pack())
    refresh(fence, listed or ())


def refresh(fence: Fence, listed: Sequence[str]) -> None:
    """Look up the inodes of the list again: a server that starts makes its socket's file anew."""
    path = _pinned(fence, "unix_inodes")
    if path is not None:
        _fill(path, set(inodes(listed)))


def key(entry: str) -> bytes:
    """Return struct vg_unix for an entry."""
    raw = os.fsencode(entry)
    if raw.startswith(b"@"):
        name = b"\0" + raw[1:]
        return UNIX.pack(8 * (UNIX.size - 4), 1, len(name), name, 0)
    size = len(raw) if raw.endswith(b"/") else min(len(raw) + 1, ROOM)
    return UNIX.pack(HEAD + 8 * size, 0, 0, raw, 0)


def inodes(listed: Sequence[str]) -> Iterator[bytes]:
    """Yield struct vg_inode of each socket's file that the list names and that is there."""
    for entry in listed:
        if entry.startswith("@"):
            continue
        paths = Path(entry).rglob("*") if entry.endswith("/") else (Path(entry),)
        with suppress(OSError):
            for path in paths:
                with suppress(OSError):
                    found = path.stat()
                    if stat.S_ISSOCK(found.st_mode):
                        device = os.major(found.st_dev) << 20 | os.minor(found.st_dev)  # MKDEV of linux/kdev_t.h
                        yield INODE.pack(found.st_ino, device, 0)


def _pinned(fence: Fence, name: str) -> Path | None:
    instance = pins.directory(fence.place.instance)
    load = pins.current(instance) if instance else None
    path = load / f"map_{name}" if load else None
    return path if path and path.exists() else None


def _fill(path: Path, wanted: set[bytes]) -> None:
    fd = libbpf.opened(path)
    try:
        there = Map(fd)
        had = set(there)
        for one in wanted - had:
            there.update(one, YES)
        for one in had - wanted:
            there.delete(one)
    finally:
        os.close(fd)
