"""A process gives up every privilege, for good.

A worker does this itself, after its imports and before its first byte from outside: started bare it could not read a
program that only root may (a checkout below /root, mode 0700).

Source: capabilities(7), "Effect of user ID changes on capabilities"; prctl(2); capset(2).
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from appliance.model import HostError

PR_SET_KEEPCAPS = 8
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, CLEAR_ALL = 47, 4
VERSION_3 = 0x20080522  # of the capability structs: 64 bits in two halves
MAX_CAPABILITY = 63  # capabilities are bits of 64; the kernel says which it has
LOST = ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")  # the last only root can empty; it bounds nothing then

_libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int, gid: int, groups: Sequence[int] = (), keep: int = 0) -> None:
    """Drop to a user without capabilities, or the right to gain any; `groups` are those besides its own.

    `keep` is the number of one capability that stays, if we have it; 0 (CAP_CHOWN) never does.

    Raises:
        HostError: something is left. The caller must end.
    """
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    root = os.geteuid() == 0
    if root:
        for number in range(MAX_CAPABILITY + 1):
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL beyond the last: nothing to drop
        os.setgroups(groups)
        _libc.prctl(PR_SET_KEEPCAPS, 1 if keep else 0, 0, 0, 0)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(PR_CAP_AMBIENT, CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    if keep:
        sets[0] = sets[1] = 1 << keep  # effective and permitted, of the lower half
    _libc.capset(header, sets)
    _libc.prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0)
    _verify(uid, LOST if root else LOST[:-1], 1 << keep if keep else 0)


def _verify(uid: int, lost: tuple[str, ...], kept: int) -> None:
    """Believe the kernel, not the calls. What is kept is all that is permitted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    may = {"CapPrm": kept, "CapEff": kept}
    left = [f"{name} {status[name][0]}" for name in lost if int(status[name][0], 16) & ~may.get(name, 0)]
    if kept and int(status["CapEff"][0], 16) != kept:
        left.append(f"and what was to be kept is not: CapEff {status['CapEff'][0]}")
    if set(status["Uid"]) != {str(uid)}:
        left.append(f"Uid {' '.join(status['Uid'])}")
    if status["NoNewPrivs"] != ["1"]:
        left.append("NoNewPrivs 0")
    if left:
        raise HostError(f"a worker could not give up its privileges: {', '.join(left)}", "start the hub as root")
