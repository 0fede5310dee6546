"""Network namespaces of governed processes: what is asked of the kernel's sockets is asked in each.

Source: setns(2): a thread may enter a namespace alone. It is not left again; the thread ends.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from appliance.kernel import cgroups

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
MOST = 1024  # namespaces looked into; a host runs some hundred containers


def in_each(top: Path, do: Callable[[], T]) -> list[T]:
    """Call `do` once in our own namespace and once in each of the processes in `top` and below; return the answers.

    What cannot be entered is left out: its processes are gone, or the fence alone must do.
    """
    done = [do()]
    with suppress(OSError):
        seen = {os.stat("/proc/thread-self/ns/net").st_ino}
        for pid in cgroups.processes(top):
            with suppress(OSError):
                fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    inode = os.fstat(fd).st_ino
                    if inode not in seen and len(seen) < MOST:
                        seen.add(inode)
                        done.append(inside(fd, do))
                finally:
                    os.close(fd)
    return done


def inside(namespace: int, do: Callable[[], T]) -> T:
    """Call `do` in the network namespace open as `namespace`.

    Raises:
        OSError: it cannot be entered.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_enter_and, namespace, do).result()


def _enter_and(namespace: int, do: Callable[[], T]) -> T:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return do()
