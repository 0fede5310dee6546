"""What the kernel tells of images, by the ring that bpf/lineage.h fills; and how any such ring is read.

Source: libbpf 1.x, ring_buffer__new, ring_buffer__consume, ring_buffer__epoll_fd.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from ctypes import c_int, c_size_t, c_void_p

import msgspec

from appliance.kernel import libbpf
from appliance.kernel.layout import EVENT, Event, Executed
from appliance.model import HostError

ENOUGH = errno.ECANCELED  # an error that libbpf itself has no use for; what was taken stays taken
_TAKE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


class Told(msgspec.Struct, frozen=True, gc=False):
    """struct vg_event: what happened to an image. `who` is without its parents."""

    kind: Event
    cookie: int  # of the socket that was carried over an exec
    who: Executed

    @classmethod
    def unpack(cls, data: bytes) -> "Told":
        kind, _zero, cookie, front = EVENT.unpack(data)
        return cls(Event(kind), cookie, Executed.unpack(front))


class Buffer:
    """A ring of the kernel's, read when its descriptor `fd` is readable. One reader a ring."""

    def __init__(self, map_fd: int, take: Callable[[bytes], None], most: int = sys.maxsize) -> None:
        """`take` gets each event, and must not raise; `consume` ends after `most` of them.

        Raises:
            HostError: libbpf cannot map it.
        """
        self._lib, self._take, self._most, self._taken = libbpf.library(), take, most, 0
        self._called = _TAKE(self._event)  # kept, or it would be freed under libbpf
        self._pointer: int | None = self._lib.ring_buffer__new(map_fd, self._called, None, None)
        if self._pointer is None:
            raise HostError(f"map the ring of events: {os.strerror(ctypes.get_errno())}")
        self.fd = int(self._lib.ring_buffer__epoll_fd(self._pointer))

    def consume(self) -> int:
        """Take all there is, or `most`; return how many."""
        self._taken = 0
        number = int(self._lib.ring_buffer__consume(self._pointer))
        if number < 0 and number != -ENOUGH:
            raise HostError(f"read the ring of events: {os.strerror(-number)}")
        return self._taken

    def close(self) -> None:
        if self._pointer is not None:
            self._lib.ring_buffer__free(self._pointer)
            self._pointer = None

    def _event(self, _context: int | None, data: int, size: int) -> int:
        self._take(ctypes.string_at(data, size))
        self._taken += 1
        return -ENOUGH if self._taken >= self._most else 0


class Ring(Buffer):
    """What is told of images, by bpf/lineage.h."""

    def __init__(self, map_fd: int, take: Callable[[Told], None]) -> None:
        """`take` gets each event; it must not raise."""
        super().__init__(map_fd, self._unpacked)
        self._told = take

    def _unpacked(self, data: bytes) -> None:
        if len(data) >= EVENT.size:
            self._told(Told.unpack(data[: EVENT.size]))
