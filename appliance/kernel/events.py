"""What the kernel tells of images: the ring that bpf/lineage.h fills.

Source: libbpf 1.x, ring_buffer__new, ring_buffer__consume, ring_buffer__epoll_fd.
"""

import ctypes
import os
from collections.abc import Callable
from ctypes import c_int, c_size_t, c_void_p

import msgspec

from appliance.kernel import libbpf
from appliance.kernel.layout import EVENT, Event, Executed
from appliance.model import HostError

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


class Ring:
    """The ring, read when its descriptor `fd` is readable. One reader a fence."""

    def __init__(self, map_fd: int, take: Callable[[Told], None]) -> None:
        """`take` gets each event; it must not raise.

        Raises:
            HostError: libbpf cannot map it.
        """
        self._lib, self._take = libbpf.library(), take
        self._called = _TAKE(self._event)  # kept, or it would be freed under libbpf
        self._pointer: int | None = self._lib.ring_buffer__new(map_fd, self._called, None, None)
        if self._pointer is None:
            raise HostError(f"map the ring of events: {os.strerror(ctypes.get_errno())}")
        self.fd = int(self._lib.ring_buffer__epoll_fd(self._pointer))

    def consume(self) -> int:
        """Take all there is; return how many."""
        number = int(self._lib.ring_buffer__consume(self._pointer))
        if number < 0:
            raise HostError(f"read the ring of events: {os.strerror(-number)}")
        return number

    def close(self) -> None:
        if self._pointer is not None:
            self._lib.ring_buffer__free(self._pointer)
            self._pointer = None

    def _event(self, _context: int | None, data: int, size: int) -> int:
        if size >= EVENT.size:
            self._take(Told.unpack(ctypes.string_at(data, EVENT.size)))
        return 0
