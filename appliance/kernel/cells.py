"""Memory that all workers and the packet engine have in common: numbers by which each tells the others of changes.

They have it by a descriptor, so it takes no right. Nobody can make it smaller below another. What a process writes
there that was taken over makes others look in vain, or once too late: as late as without it.
"""

import fcntl
import mmap
import os
from functools import cache
from typing import Final

CELL: Final = 8  # bytes of one
CELLS: Final = 8192  # ours: three for a database of a server, so hundreds of them seldom share one; 64 KiB
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@cache
def memory() -> int:
    """Return the descriptor of the one memory of this process and those it starts."""
    fd = os.memfd_create("vg_cells", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, CELL * CELLS)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


def opened(fd: int) -> memoryview:
    """Return the cells of such a memory, perhaps inherited, as unsigned numbers. The descriptor is not needed then."""
    return memoryview(mmap.mmap(fd, CELL * CELLS)).cast("Q")
