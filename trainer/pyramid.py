"""A metrics file that answers fast whatever its length: summaries of its rows in buckets of 32, 256, 2048, … rows.

`metrics.jsonl` stays the truth. Beside it lies `metrics.pyramid/<rows>.jsonl`, one line per complete bucket, each with
its place in the level below, so that a reader goes down only where it looks. A bucket keeps, per metric, count, mean,
squared deviation, least, greatest, last, and how many values were not finite and where first: one NaN in a million rows
is never averaged away. Standard library only: the trainer writes, the server reads.

Crash contract: a bucket is written after its rows, so the pyramid may lag and never runs ahead; rows that no bucket
holds yet are read from the metrics file. A pyramid of another file (another inode) counts as missing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import records

#: Rows of the smallest bucket, buckets of one level in a bucket of the next, and how many levels there are.
BASE = 32
FAN = 8
LEVELS = 5

#: Names in a row that are no metrics.
_NOT_METRICS = frozenset({"step", "epoch", "at", "nonfinite"})


@dataclass(slots=True)
class Stat:
    """One metric over some rows; mean and squared deviation by Welford's and Chan's updates."""

    count: int = 0
    """Finite values; the mean and what follows are of these."""
    mean: float = 0.0
    deviation: float = 0.0
    """Sum of squared differences from the mean."""
    least: float | None = None
    greatest: float | None = None
    last: float | None = None
    last_step: int = 0
    bad: int = 0
    """Values that were not finite."""
    first_bad: int | None = None
    """Step of the first of them."""

    @classmethod
    def first(cls, value: float | None, step: int) -> Stat:
        """Of one value; readers make thousands of these."""
        if value is None:
            return cls(last_step=step, bad=1, first_bad=step)
        return cls(1, float(value), 0.0, value, value, value, step)

    def add(self, value: float | None, step: int) -> None:
        """Take one more value; None is one that was not finite."""
        self.last, self.last_step = value, step
        if value is None:
            self.bad += 1
            self.first_bad = step if self.first_bad is None else self.first_bad
            return
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.deviation += delta * (value - self.mean)
        self.least = value if self.least is None else min(self.least, value)
        self.greatest = value if self.greatest is None else max(self.greatest, value)

    def merge(self, later: Stat) -> None:
        """Take the values of later rows."""
        if later.count:
            total = self.count + later.count
            delta = later.mean - self.mean
            self.deviation += later.deviation + delta * delta * self.count * later.count / total
            self.mean += delta * later.count / total
            self.count = total
            self.least = _either(min, self.least, later.least)
            self.greatest = _either(max, self.greatest, later.greatest)
        self.last, self.last_step = later.last, later.last_step
        self.bad += later.bad
        self.first_bad = later.first_bad if self.first_bad is None else self.first_bad

    def dump(self) -> list[Any]:
        fields = [self.count, self.mean, self.deviation, self.least, self.greatest, self.last, self.last_step]
        return [*fields, self.bad, self.first_bad] if self.bad else fields


@dataclass(slots=True)
class Bucket:
    """Some consecutive rows, or one."""

    start: int = 0
    """Bytes of the metrics file: from here …"""
    end: int = 0
    """… up to here."""
    rows: int = 0
    below: tuple[int, int] = (0, 0)
    """The bucket's parts: bytes of the file of the level below."""
    steps: tuple[int, int] = (0, 0)
    times: tuple[str, str] = ("", "")
    bad_rows: int = 0
    stats: dict[str, Stat] = field(default_factory=dict[str, Stat])

    def add(self, row: records.Record) -> None:
        """Take one row."""
        told = row.get("step")
        step = told if isinstance(told, int) else 0
        at = str(row.get("at", ""))
        self.steps = (self.steps[0] if self.rows else step, step)
        self.times = (self.times[0] if self.rows else at, at)
        self.rows += 1
        self.bad_rows += bool(row.get("nonfinite"))
        for name, value in row.items():
            if (
                name in _NOT_METRICS
                or isinstance(value, bool)
                or not (value is None or isinstance(value, (int, float)))
            ):
                continue
            stat = self.stats.get(name)
            if stat is None:
                self.stats[name] = Stat.first(_finite(value), step)
            else:
                stat.add(_finite(value), step)

    def merge(self, later: Bucket) -> None:
        """Take the rows of the bucket that follows; places in files are the caller's."""
        self.steps = (self.steps[0] if self.rows else later.steps[0], later.steps[1])
        self.times = (self.times[0] if self.rows else later.times[0], later.times[1])
        self.rows += later.rows
        self.bad_rows += later.bad_rows
        self.end = later.end
        for name, stat in later.stats.items():
            self.stats.setdefault(name, Stat()).merge(stat)

    def dump(self) -> bytes:
        record = {
            "rows": self.rows,
            "bytes": [self.start, self.end],
            "below": self.below,
            "steps": self.steps,
            "at": self.times,
            "bad": self.bad_rows,
            "metrics": {name: stat.dump() for name, stat in self.stats.items()},
        }
        return json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def load(cls, record: records.Record) -> Bucket:
        return cls(
            start=record["bytes"][0],
            end=record["bytes"][1],
            rows=record["rows"],
            below=(record["below"][0], record["below"][1]),
            steps=(record["steps"][0], record["steps"][1]),
            times=(record["at"][0], record["at"][1]),
            bad_rows=record["bad"],
            stats={name: Stat(*values) for name, values in record["metrics"].items()},
        )


def level_file(metrics: Path, level: int) -> Path:
    """Where the buckets of a level lie, level 0 being the smallest."""
    return metrics.with_name("metrics.pyramid") / f"{BASE * FAN**level}.jsonl"


def header(inode: int) -> bytes:
    """First line of each level: whose pyramid it is."""
    return b'{"of":%d}\n' % inode


class Tower:
    """Turns rows into the lines of all levels; `emit(level, line)` takes each as it is complete."""

    def __init__(self, inode: int, emit: Callable[[int, bytes], None]) -> None:
        self._emit = emit
        self._sizes = [len(header(inode))] * LEVELS
        self._open: list[Bucket | None] = [None] * LEVELS

    def add(self, row: records.Record, start: int, end: int) -> None:
        """Take the row that lies in these bytes of the metrics file."""
        bucket = self._open[0] = self._open[0] or Bucket(start=start)
        bucket.add(row)
        bucket.end = end
        bucket.below = (bucket.start, end)
        if bucket.rows == BASE:
            self._close(0, bucket)

    def _close(self, level: int, bucket: Bucket) -> None:
        line = bucket.dump()
        self._emit(level, line)
        self._open[level] = None
        start = self._sizes[level]
        self._sizes[level] = start + len(line)
        if level + 1 < LEVELS:
            above = self._open[level + 1] = self._open[level + 1] or Bucket(start=bucket.start, below=(start, start))
            above.merge(bucket)
            above.below = (above.below[0], self._sizes[level])
            if above.rows == BASE * FAN ** (level + 1):
                self._close(level + 1, above)


class MetricsWriter:
    """Appends rows to a metrics file and keeps its pyramid; only the rows themselves can fail."""

    def __init__(self, metrics: Path) -> None:
        self._metrics = metrics
        self._tower: Tower | None = None
        self._end = 0
        self._broken = False

    def append(self, row: records.Record) -> None:
        """Append one row.

        Raises:
            OSError: the disk is full or the folder is gone.
            ValueError: the row holds NaN or infinity, which JSON can't say.
        """
        records.append_line(self._metrics, row)
        if self._broken:
            return
        try:
            stat = self._metrics.stat()
            if self._tower is None:
                self._begin(stat.st_ino, stat.st_size)
            else:
                self._tower.add(row, self._end, stat.st_size)
            self._end = stat.st_size
        except (OSError, ValueError, ArithmeticError):
            # A reader does without, or rebuilds it; a training never ends for want of it.
            self._broken = True

    def _begin(self, inode: int, size: int) -> None:
        """Start from the rows that are there: usually the one just written."""
        level_file(self._metrics, 0).parent.mkdir(mode=0o700, exist_ok=True)
        for level in range(LEVELS):
            level_file(self._metrics, level).write_bytes(header(inode))
        self._tower = Tower(inode, self._emit)
        with open(self._metrics, "rb") as file:
            for row, start, end in parse_rows(file.read(size), 0):
                self._tower.add(row, start, end)

    def _emit(self, level: int, line: bytes) -> None:
        descriptor = os.open(level_file(self._metrics, level), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def rebuild(metrics: Path) -> None:
    """Write the pyramid of a file that nobody appends to any more; nothing happens where it can't be written.

    The same file gives the same bytes, so it doesn't matter how many readers do it at once; the lowest level is put in
    place first, so that a bucket's parts are there when it is.
    """
    with suppress(OSError, ValueError, ArithmeticError):
        with open(metrics, "rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            lines: list[list[bytes]] = [[header(inode)] for _ in range(LEVELS)]
            tower = Tower(inode, lambda level, line: lines[level].append(line))
            at, rest = 0, b""
            while chunk := file.read(1 << 22):
                data = rest + chunk
                complete = data[: data.rfind(b"\n") + 1]
                for row, start, end in parse_rows(complete, at):
                    tower.add(row, start, end)
                at, rest = at + len(complete), data[len(complete) :]
        level_file(metrics, 0).parent.mkdir(mode=0o700, exist_ok=True)
        for level in range(LEVELS):
            path = level_file(metrics, level)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(b"".join(lines[level]))
            temporary.replace(path)


def parse_rows(data: bytes, at: int) -> Iterator[tuple[records.Record, int, int]]:
    """Rows of complete lines, each with its place in the file; torn and foreign lines belong to the row behind them."""
    start = at
    for line in data.split(b"\n")[:-1]:
        at += len(line) + 1
        for row in records.parse_lines(line):
            yield row, start, at
            start = at


def _finite(value: float | None) -> float | None:
    """The value as a number that JSON can say; our writer puts None in the place of others, a foreign hand may not."""
    try:
        return value if value is not None and math.isfinite(value) else None
    except OverflowError:
        return None


def _either(pick: Callable[[float, float], float], one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return pick(one, other)
