"""A sample of rows, spread evenly over data whose length isn't known beforehand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

SAMPLE_ROWS = 500
_SAMPLE_BYTES = 8 << 20


class Sample:
    """Every n-th row; n doubles, and every second row is dropped, whenever there are too many."""

    def __init__(self, rows: int = SAMPLE_ROWS, limit: int = _SAMPLE_BYTES) -> None:
        self.wanted, self.limit = rows, limit
        self._kept: list[tuple[dict[str, Any], int]] = []
        self._every = 1
        self._offered = 0
        self._bytes = 0

    def offer(self, row: dict[str, Any], size: int) -> None:
        """Look at the next row, of `size` bytes."""
        if self._offered % self._every == 0:
            self._kept.append((row, size))
            self._bytes += size
            while len(self._kept) > 1 and (len(self._kept) >= 2 * self.wanted or self._bytes > self.limit):
                self._kept = self._kept[::2]
                self._every *= 2
                self._bytes = sum(size for _, size in self._kept)
        self._offered += 1

    def rows(self, columns: Sequence[str]) -> list[dict[str, Any]]:
        """At most `rows` of them, with these columns only, as JSON can hold them."""
        kept = self._kept
        if len(kept) > self.wanted:
            kept = [kept[index * len(kept) // self.wanted] for index in range(self.wanted)]
        return plain([{name: row[name] for name in columns if name in row} for row, _ in kept])


def plain(value: Any) -> Any:
    """The value as a JSON file can hold it: text without halves of surrogate pairs, no NaN, dates as text."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace")
    return json.loads(text, parse_constant=lambda _: None)
