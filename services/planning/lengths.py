"""Row lengths in tokens as a distribution: what a padded batch costs, what packing saves, where to cut."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

#: Bytes of a JSON row per token of its text: about 4 characters per token, less for quotes, keys and foreign scripts.
_BYTES_PER_TOKEN = 4.0
_POINTS = 64


@dataclass(frozen=True)
class Lengths:
    """Percentiles of row lengths."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    sample: int
    """Rows measured; 0: estimated from the file's size."""

    @property
    def measured(self) -> bool:
        return self.sample > 0

    def quantile(self, share: float) -> float:
        """The length that this share of rows doesn't exceed, linear between the known percentiles."""
        low = min(self.p50, max(1.0, self.p50 / 3))
        known = ((0.0, low), (0.5, self.p50), (0.95, self.p95), (0.99, self.p99), (1.0, self.max))
        for (left, short), (right, long) in pairwise(known):
            if share <= right:
                return short + (max(long, short) - short) * (share - left) / (right - left)
        return self.max

    def mean_cut(self, limit: int) -> float:
        """Mean length after rows are cut at `limit`."""
        return min(self.mean, self.mean * self._share_kept(limit))

    def longest_of(self, batch: int, limit: int) -> float:
        """Expected length of the longest of `batch` random rows, cut at `limit`: what a padded batch is padded to."""
        if batch == 1:
            return self.mean_cut(limit)
        # E[max] is the integral of the quantile function of u^(1/batch), by the midpoint rule.
        shares = (((k + 0.5) / _POINTS) ** (1 / batch) for k in range(_POINTS))
        return sum(min(float(limit), self.quantile(share)) for share in shares) / _POINTS

    def padding(self, batch: int, limit: int) -> float:
        """Share of a padded batch that is padding, from 0 to 1."""
        longest = self.longest_of(batch, limit)
        return max(0.0, 1 - self.mean_cut(limit) / longest) if longest else 0.0

    def _share_kept(self, limit: int) -> float:
        points = [self.quantile((k + 0.5) / _POINTS) for k in range(_POINTS)]
        return sum(min(float(limit), point) for point in points) / sum(points)


def guess_lengths(size_bytes: int, rows: int) -> Lengths:
    """Lengths from nothing but a file's size: the mean may be wrong by a factor of two, the tail by more."""
    mean = max(8.0, size_bytes / max(1, rows) / _BYTES_PER_TOKEN)
    return Lengths(mean=mean, p50=0.8 * mean, p95=2.2 * mean, p99=3.5 * mean, max=6 * mean, sample=0)


def choose_max_length(lengths: Lengths, positions: int | None) -> int:
    """Where to cut rows: the 99th percentile (the longest row, if little longer), up to the next 64."""
    wanted = lengths.max if lengths.max <= 1.25 * lengths.p99 else lengths.p99
    rounded = max(64, -(-int(wanted + 0.999) // 64) * 64)
    return min(rounded, positions) if positions else rounded
