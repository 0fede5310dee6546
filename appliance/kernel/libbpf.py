"""A thin layer over the system's libbpf.so.1: load objects, attach, pin, and read and write maps.

Source: libbpf 1.x, libbpf.h and bpf.h; linux/bpf.h. libbpf returns -errno or NULL and sets errno; what it
prints is kept for the error. Importing this needs no library: it is opened at the first call.
"""

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from ctypes import byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from types import TracebackType

from appliance.model import HostError

ANY = 0  # BPF_ANY
READ_ONLY = 1 << 3  # BPF_F_RDONLY
QUERY_EFFECTIVE = 1  # BPF_F_QUERY_EFFECTIVE
MAX_PROGRAMS = 256  # of one type; 64 a cgroup (BPF_CGROUP_MAX_PROGS) and those of the cgroups above
LOG_LINE = 1 << 20  # bytes of one message of libbpf's log; that of the verifier comes as one
LOG_LINES = 40  # kept for an error: the verifier's last words come last
WARN = 0  # LIBBPF_WARN

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_log: list[str] = []


def _keep(level: int, form: bytes, arguments: int) -> int:
    """Keep warnings. A va_list is a pointer, or passed by one, wherever libbpf runs."""
    if level == WARN:
        line = ctypes.create_string_buffer(LOG_LINE)
        ctypes.CDLL(None).vsnprintf(line, c_size_t(LOG_LINE), form, c_void_p(arguments))
        _log.extend(line.value.decode(errors="replace").splitlines())
        del _log[:-LOG_LINES]
    return 0


_print = _PRINT(_keep)


class _Info(ctypes.Structure):
    """The head of struct bpf_link_info."""

    _fields_ = (("type", c_uint32), ("id", c_uint32), ("program", c_uint32), ("rest", ctypes.c_byte * 116))


class _MapInfo(ctypes.Structure):
    """The head of struct bpf_map_info."""

    _fields_ = tuple(
        (name, c_uint32) for name in ("type", "id", "key_size", "value_size", "max_entries", "flags")
    )


class _GetOptions(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("flags", c_uint32), ("pad", c_uint32))


class _IterOptions(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("info", c_void_p), ("length", c_uint32), ("pad", c_uint32))


_POINTERS = {
    "bpf_object__open_file": (c_char_p, c_void_p),
    "bpf_object__find_program_by_name": (c_void_p, c_char_p),
    "bpf_object__find_map_by_name": (c_void_p, c_char_p),
    "bpf_program__attach": (c_void_p,),
    "bpf_program__attach_cgroup": (c_void_p, c_int),
    "bpf_program__attach_iter": (c_void_p, c_void_p),
    "bpf_program__attach_uprobe": (c_void_p, c_bool, c_int, c_char_p, c_size_t),
    "ring_buffer__new": (c_int, c_void_p, c_void_p, c_void_p),
}
_NUMBERS = {
    "bpf_object__load": (c_void_p,),
    "bpf_map__fd": (c_void_p,),
    "bpf_map__reuse_fd": (c_void_p, c_int),
    "bpf_link__fd": (c_void_p,),
    "bpf_link__pin": (c_void_p, c_char_p),
    "bpf_link__destroy": (c_void_p,),
    "bpf_link_create": (c_int, c_int, c_int, c_void_p),
    "bpf_link_update": (c_int, c_int, c_void_p),
    "bpf_program__fd": (c_void_p,),
    "bpf_program__set_expected_attach_type": (c_void_p, c_int),
    "bpf_prog_get_fd_by_id": (c_uint32,),
    "bpf_iter_create": (c_int,),
    "bpf_obj_pin": (c_int, c_char_p),
    "bpf_obj_get_opts": (c_char_p, c_void_p),
    "bpf_obj_get_info_by_fd": (c_int, c_void_p, c_void_p),
    "bpf_prog_query": (c_int, c_int, c_uint32, c_void_p, c_void_p, c_void_p),
    "bpf_map_create": (c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p),
    "bpf_map_lookup_elem": (c_int, c_void_p, c_void_p),
    "bpf_map_update_elem": (c_int, c_void_p, c_void_p, c_uint64),
    "bpf_map_delete_elem": (c_int, c_void_p),
    "bpf_map_get_next_key": (c_int, c_void_p, c_void_p),
    "libbpf_num_possible_cpus": (),
    "ring_buffer__consume": (c_void_p,),
    "ring_buffer__epoll_fd": (c_void_p,),
}


@cache
def library() -> ctypes.CDLL:
    """Return libbpf with its types declared.

    Raises:
        HostError: it is not installed, or older than 1.0.
    """
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
        for name, arguments in {**_POINTERS, **_NUMBERS}.items():
            function = getattr(lib, name)
            function.argtypes = arguments
            function.restype = c_void_p if name in _POINTERS else c_int
        lib.bpf_object__close.argtypes, lib.bpf_object__close.restype = (c_void_p,), None
        lib.ring_buffer__free.argtypes, lib.ring_buffer__free.restype = (c_void_p,), None
        lib.libbpf_set_print.argtypes, lib.libbpf_set_print.restype = (_PRINT,), c_void_p
    except (OSError, AttributeError) as error:
        raise HostError(f"libbpf cannot be used: {error}", "install libbpf1 (1.0 or later)") from error
    lib.libbpf_set_print(_print)
    return lib


def _check(value: int | None, what: str) -> int:
    """Return `value`, or raise what libbpf and the kernel said."""
    if value is not None and value >= 0:
        return value
    number = -value if value else ctypes.get_errno()
    said = "\n".join(_log)
    _log.clear()
    error = HostError(f"{what}: {os.strerror(number)}" + (f"\n{said}" if said else ""))
    error.__cause__ = OSError(number, os.strerror(number))
    raise error


class Map:
    """A map by its file descriptor, which the caller owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        info, size = _MapInfo(), c_uint32(ctypes.sizeof(_MapInfo))
        _check(library().bpf_obj_get_info_by_fd(fd, byref(info), byref(size)), "read a map's shape")
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size

    def lookup(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        return self._lookup(key, self.value_size)

    def lookup_sum(self, key: bytes) -> int:
        """Return the sum of a per-cpu map's 64-bit values."""
        columns = self.lookup_columns(key)
        return columns[0] if columns else 0

    def lookup_columns(self, key: bytes) -> tuple[int, ...] | None:
        """Return the sum of each of the 64-bit fields of a per-cpu map's value, or None."""
        cpus = _check(library().libbpf_num_possible_cpus(), "count processors")
        value = self._lookup(key, self.value_size * cpus)
        if value is None:
            return None
        fields, width = memoryview(value).cast("Q"), self.value_size // 8
        return tuple(sum(fields[i::width]) for i in range(width))

    def _lookup(self, key: bytes, size: int) -> bytes | None:
        self._sized(key, self.key_size)
        value = ctypes.create_string_buffer(size)
        result = library().bpf_map_lookup_elem(self.fd, key, value)
        if result < 0 and ctypes.get_errno() == errno.ENOENT:
            return None
        _check(result, "look up in a map")
        return value.raw

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        self._sized(key, self.key_size)
        self._sized(value, self.value_size)
        _check(library().bpf_map_update_elem(self.fd, key, value, flags), "write to a map")

    def delete(self, key: bytes) -> None:
        """Delete what may be there."""
        self._sized(key, self.key_size)
        result = library().bpf_map_delete_elem(self.fd, key)
        if result < 0 and ctypes.get_errno() != errno.ENOENT:
            _check(result, "delete from a map")

    def __iter__(self) -> Iterator[bytes]:
        """Yield each key; what is added or deleted meanwhile may be missed."""
        key, following = None, ctypes.create_string_buffer(self.key_size)
        while library().bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            yield key

    @staticmethod
    def _sized(data: bytes, size: int) -> None:
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes for a field of {size}")


class Link:
    """A program that is attached: until closed, or for ever once pinned."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    @property
    def fd(self) -> int:
        return int(library().bpf_link__fd(self._pointer))

    def pin(self, path: Path) -> None:
        _check(library().bpf_link__pin(self._pointer, os.fsencode(path)), f"pin {path}")

    def close(self) -> None:
        """Let go; a pinned link stays attached."""
        library().bpf_link__destroy(self._pointer)


class Object:
    """A compiled object (.bpf.o), loaded. Its programs and maps live while it, a link or a pin holds them."""

    def __init__(
        self, path: Path, reuse: Mapping[str, int] | None = None, kinds: Mapping[str, int] | None = None
    ) -> None:
        """Load `path`; the maps named in `reuse` are those of the file descriptors given.

        `kinds` are the attach types of programs whose section libbpf knows no name for.

        Raises:
            HostError: with libbpf's and the verifier's last words.
        """
        self.path, lib = path, library()
        _log.clear()
        self._pointer = _check(lib.bpf_object__open_file(os.fsencode(path), None), f"open {path}")
        try:
            for name, fd in (reuse or {}).items():
                found = lib.bpf_object__find_map_by_name(self._pointer, name.encode())
                if found:
                    _check(lib.bpf_map__reuse_fd(found, fd), f"reuse map {name} in {path}")
            for name, kind in (kinds or {}).items():
                _check(lib.bpf_program__set_expected_attach_type(self._program(name), kind), f"type of {name}")
            _check(lib.bpf_object__load(self._pointer), f"load {path}")
        except HostError:
            self.close()
            raise

    def map_fd(self, name: str) -> int:
        """Return the map's file descriptor, which this object owns."""
        pointer = _check(library().bpf_object__find_map_by_name(self._pointer, name.encode()), f"map {name}")
        return _check(library().bpf_map__fd(pointer), f"map {name}")

    def has_map(self, name: str) -> bool:
        return bool(library().bpf_object__find_map_by_name(self._pointer, name.encode()))

    def attach(self, program: str) -> Link:
        """Attach a tracing program where its section says."""
        return Link(_check(library().bpf_program__attach(self._program(program)), f"attach {program}"))

    def attach_cgroup(self, program: str, cgroup: int) -> Link:
        """Attach a program to the cgroup open as `cgroup`."""
        pointer = library().bpf_program__attach_cgroup(self._program(program), cgroup)
        return Link(_check(pointer, f"attach {program} to the cgroup"))

    def attach_uprobe(self, program: str, path: Path, offset: int, *, returning: bool, pid: int) -> Link:
        """Attach a program to the function at `offset` of a file, or to its return, in one process or all (-1)."""
        function = self._program(program)
        pointer = library().bpf_program__attach_uprobe(function, returning, pid, os.fsencode(path), offset)
        return Link(_check(pointer, f"attach {program} to {path}"))

    def program_fd(self, program: str) -> int:
        """Return the program's file descriptor, which this object owns."""
        return _check(library().bpf_program__fd(self._program(program)), f"program {program}")

    def attach_iter(self, program: str, over: str = "") -> Link:
        """Make an iterator. Pinned, it runs whenever the pin is read, in the namespace of who opens it.

        `over` names the map whose values it is over, where it is over those.
        """
        which = c_uint32(self.map_fd(over) if over else 0)  # union bpf_iter_link_info
        options = _IterOptions(ctypes.sizeof(_IterOptions), ctypes.addressof(which), ctypes.sizeof(which), 0)
        pointer = library().bpf_program__attach_iter(self._program(program), byref(options) if over else None)
        return Link(_check(pointer, f"attach {program}"))

    def iterate(self, program: str) -> None:
        """Run an iterator program over all there is; it must print nothing."""
        link = self.attach_iter(program)
        try:
            with open(_check(library().bpf_iter_create(link.fd), f"run {program}"), "rb", buffering=0) as run:
                while run.read(4096):
                    pass
        finally:
            link.close()

    def _program(self, name: str) -> int:
        found = library().bpf_object__find_program_by_name(self._pointer, name.encode())
        return _check(found, f"program {name} in {self.path}")

    def close(self) -> None:
        library().bpf_object__close(self._pointer)

    def __enter__(self) -> "Object":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create(kind: int, name: str, key: int, value: int, entries: int) -> int:
    """Return a file descriptor, close-on-exec, of a new map that is in no object: sizes in bytes."""
    result = library().bpf_map_create(kind, name.encode(), key, value, entries, None)
    return _check(result, f"make the map {name}")


def pin(fd: int, path: Path) -> None:
    """Pin a map or program at `path` on a bpf file system."""
    _check(library().bpf_obj_pin(fd, os.fsencode(path)), f"pin {path}")


def opened(path: Path, flags: int = 0) -> int:
    """Return a file descriptor, close-on-exec, of what is pinned at `path`."""
    options = _GetOptions(ctypes.sizeof(_GetOptions), flags, 0)
    return _check(library().bpf_obj_get_opts(os.fsencode(path), byref(options)), f"open {path}")


def link_cgroup(program: int, cgroup: int, attach_type: int) -> int:
    """Attach a program to the cgroup open as `cgroup`; return the link's file descriptor, close-on-exec."""
    return _check(library().bpf_link_create(program, cgroup, attach_type, None), "attach a program to the cgroup")


def update_link(link: int, program: int) -> None:
    """Put another program in the place of the one that a link of a cgroup attaches: there is no moment without."""
    _check(library().bpf_link_update(link, program, None), "put another program in a link")


def program_by_id(identifier: int) -> int:
    """Return a file descriptor of a program that is loaded."""
    return _check(library().bpf_prog_get_fd_by_id(identifier), f"open program {identifier}")


def link_program(link: int) -> int:
    """Return the id of the program that a link attaches."""
    info, size = _Info(), c_uint32(ctypes.sizeof(_Info))
    _check(library().bpf_obj_get_info_by_fd(link, byref(info), byref(size)), "read a link")
    return int(info.program)


def effective(cgroup: int, attach_type: int) -> tuple[int, ...]:
    """Return the ids of the programs of one type that run for sockets of the cgroup, inherited ones too."""
    ids, number = (c_uint32 * MAX_PROGRAMS)(), c_uint32(MAX_PROGRAMS)
    result = library().bpf_prog_query(cgroup, attach_type, QUERY_EFFECTIVE, None, ids, byref(number))
    _check(result, "read the programs of the cgroup")
    return tuple(ids[: number.value])
