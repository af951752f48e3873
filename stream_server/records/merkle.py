"""The Merkle tree hash of RFC 6962 section 2.1, grown one leaf at a time.

A root over the lines says more than the last line's hash does: later, a single entry can be proven to
be in the log without showing the others.
"""

import hashlib


class MerkleTree:
    """The roots of the complete subtrees under what has been added; O(log n) memory."""

    def __init__(self) -> None:
        self.size = 0
        """Leaves added."""
        self._subtrees: list[bytes] = []
        """Roots, the largest subtree first; one for each bit set in ``size``."""

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        node = hashlib.sha256(b"\x00" + leaf).digest()
        ones = self.size
        while ones & 1:
            node = _parent(self._subtrees.pop(), node)
            ones >>= 1
        self._subtrees.append(node)
        self.size += 1

    def root(self) -> bytes:
        """SHA-256, 32 bytes, of everything added so far."""
        if not self._subtrees:
            return hashlib.sha256().digest()
        node = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            node = _parent(left, node)
        return node


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
