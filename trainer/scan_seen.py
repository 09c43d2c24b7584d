"""Whether a row was seen before, in bounded memory."""

from __future__ import annotations

from array import array
from hashlib import blake2b

#: Rows whose hashes are kept; the table has twice as many slots of eight bytes (32 MB).
SEEN_LIMIT = 2_000_000


class Seen:
    """A set of 8-byte hashes in an open-addressing table that grows to a limit.

    Two different rows among n share a hash with a probability below n²/2⁶⁵: 1e-7 for two million.
    """

    def __init__(self, limit: int = SEEN_LIMIT) -> None:
        self.limit = limit
        self.count = 0
        self._slots = array("Q", bytes(8 << 12))

    @property
    def full(self) -> bool:
        """Whether later rows are no longer looked at."""
        return self.count >= self.limit

    def repeats(self, raw: bytes) -> bool:
        """Whether the same bytes were given before; False once the table is full."""
        if self.full:
            return False
        key = int.from_bytes(blake2b(raw, digest_size=8).digest(), "little") or 1
        if not self._put(key):
            return True
        self.count += 1
        if self.count * 2 > len(self._slots):
            old, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
            for other in old:
                if other:
                    self._put(other)
        return False

    def _put(self, key: int) -> bool:
        slots = self._slots
        mask = len(slots) - 1
        at = key & mask
        while found := slots[at]:
            if found == key:
                return False
            at = (at + 1) & mask
        slots[at] = key
        return True
