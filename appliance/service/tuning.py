"""What we ask of Python and of the C library before we begin.

What takes long is done in threads: compiling rules, reading the record. The interpreter has one lock, and whoever
waits for it is given it after a time that is 5 ms as Python comes. The loop gives it up at each call of the kernel, so
beside a busy thread a turn of it took 14 to 25 ms, and a query takes several; with the time below a turn takes 0.7 ms,
and the thread no more processor time than before.

The C library has a heap for each thread, and keeps what is freed in it. One for all has 17 MB less in the hub after a
minute of sessions that come and go.
"""

import ctypes
import sys

SWITCH_S = 0.0005  # ten times less than Python's own; a switch costs some microseconds
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # mallopt(3); the last is in glibc's malloc.h alone
HEAPS = 1  # of the C library: threads of one interpreter take turns, and each heap of their own kept 3 to 6 MB
GIVEN_BACK = 256 * 1024  # bytes of a buffer that is the kernel's again when it is freed; the record is read in more
TRIMMED = 1024 * 1024  # bytes free at the heap's end that are given back; naming one threshold ends glibc's own guess


def give_way() -> None:
    """Have threads take turns so often from now on."""
    sys.setswitchinterval(SWITCH_S)


def one_heap() -> None:
    """Have one heap for all threads, and large buffers given back."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and one heap
    if mallopt is not None:
        for parameter, value in ((M_ARENA_MAX, HEAPS), (M_MMAP_THRESHOLD, GIVEN_BACK), (M_TRIM_THRESHOLD, TRIMMED)):
            mallopt(parameter, value)
