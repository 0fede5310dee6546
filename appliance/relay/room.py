"""How much of one thing each vendor may take, so that none can starve the others.

Dynamic thresholds (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
1998): a vendor may take more while what it has is less than its share of what is left. One that is greedy alone gets
`share` of all, two such get less each, and whoever comes last still finds something left. Nothing is set aside for
vendors that ask for nothing.

What comes unasked, such as one read of each of thousands of connections, brings a vendor over that. At twice of it
something has to be given up (`bursts`): however many such vendors there are, that is less than all.

A vendor is the first part of a cgroup's path below the slice: what is below that may be of its own making.
"""

from collections import Counter

from appliance.model import Process

LEAST = 1 / 16  # of all: a vendor that has less gives up nothing, it is not the one that takes too much


class Room:
    """`most` of something, taken and given back by vendors."""

    def __init__(self, most: int, share: float) -> None:
        self._most, self._ratio = most, share / (1 - share) if share < 1 else float("inf")
        self._taken: Counter[str] = Counter()
        self.total = 0

    def taken(self, vendor: str) -> int:
        """Return what a vendor has."""
        return self._taken[vendor]

    def allows(self, vendor: str) -> bool:
        """True while the vendor may take more."""
        left = self._most - self.total
        return left > 0 and self._taken[vendor] < max(1, self._ratio * left)

    def bursts(self, vendor: str, less: int = 0) -> bool:
        """True while the vendor has twice what it may, when it has given up `less` of it."""
        left = self._most - self.total + less
        return self._taken[vendor] - less > max(2 * self._ratio * left, LEAST * self._most)

    def take(self, vendor: str, amount: int) -> None:
        """Take so much, or give it back when it is negative. What is taken is not asked about: see `allows`."""
        self.total += amount
        self._taken[vendor] += amount
        if not self._taken[vendor]:
            del self._taken[vendor]


def vendor_of(process: Process | None) -> str:
    """Return whose process it is; "" if that is not known."""
    return process.vendor if process else ""
