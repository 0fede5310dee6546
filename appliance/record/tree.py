"""A Merkle tree over the items of a segment. Source: RFC 9162, 2.1.1 "Definition of the Merkle Tree"."""

from hashlib import sha256

_node = sha256(b"\1")


class Tree:
    """Grows by one leaf at a time; keeps one hash for each level."""

    def __init__(self) -> None:
        self.size = 0  # leaves
        self._peaks: list[bytes] = []  # roots of full trees, the largest first: one for each bit of `size`

    def add(self, leaf: bytes) -> None:
        """Take in the hash of one more leaf."""
        self.size += 1
        full = self.size
        while not full & 1:
            leaf = _join(self._peaks.pop(), leaf)
            full >>= 1
        self._peaks.append(leaf)

    def root(self) -> bytes:
        """Return the hash over all leaves so far."""
        if not self._peaks:
            return sha256().digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = _join(peak, root)
        return root


def _join(left: bytes, right: bytes) -> bytes:
    taken = _node.copy()
    taken.update(left)
    taken.update(right)
    return taken.digest()
