"""Whether this host can give packets to the packet engine: tried in a network namespace that is gone afterwards."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor

from appliance.kernel import networks, nft, table
from appliance.kernel.layout import STEER_MARK
from appliance.kernel.queues import QUEUE, Queues

PROMISE = "nothing but direct datagrams leaves, and `mode: packet` cannot be: DNS, UDP and ping are refused"
REMEDY = "CONFIG_NETFILTER_NETLINK_QUEUE, and CONFIG_NFT_QUEUE or CONFIG_NFT_COMPAT"


def look(port: int) -> str:
    """Bind the queues, and put our table with the way to them.

    Raises:
        HostError: one of them cannot be.
        OSError: no namespace can be made.
    """

    def inside() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(networks.CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, f"unshare: {os.strerror(number)}")
        with Queues.open():
            table.apply(nft.ruleset, port, STEER_MARK, QUEUE)

    with ThreadPoolExecutor(1) as pool:  # a thread of its own: a namespace is a thread's
        pool.submit(inside).result()
    return f"nft, by itself or by the target of xtables, leads to queues from {QUEUE} on"
