"""Rows of a metrics file in a bounded number of pieces, read through its pyramid (trainer/pyramid.py).

A piece is a bucket of rows or one row. Reading a million rows touches a few hundred small lines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ...trainer import pyramid, records
from ...trainer.pyramid import LEVELS, Bucket
from ...trainer.records import Cursor

#: A file is told in at least this many pieces, unless it has fewer rows. Answers show as many points; each
#: row that is read by itself costs 20 µs.
PIECES = 16

#: Level of a piece that is one row.
_ROW = -1


@dataclass(frozen=True)
class Reading:
    """Pieces in the order of their rows, and the place behind the last complete line."""

    pieces: list[Bucket]
    cursor: Cursor

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


def read(
    metrics: Path, *, live: bool, after: Cursor | None = None, before: int | None = None, pieces: int = PIECES
) -> Reading:
    """Rows behind `after` with steps below `before`, in `pieces` to 8 x `pieces` pieces (and some at the ends).

    Below 32 x `pieces` rows each row is a piece: the smallest buckets hold 32.

    A cursor of a replaced or truncated file starts again from the beginning; a missing file reads as empty. `live`
    says that somebody may still append: then a missing pyramid is made up in memory, else it is written.
    """
    try:
        with ExitStack() as stack:
            view = _view(metrics, live=live, stack=stack)
            start = 0
            if after is not None and after.inode == view.inode and after.offset <= view.size:
                start = after.offset
            tops = view.tops
            total = sum(piece.rows for piece in _refine(view, tops, start, before, None))
            fine = max(1, total // pieces)
            return Reading(list(_refine(view, tops, start, before, fine)), Cursor(view.inode, view.size))
    except FileNotFoundError:
        return Reading([], Cursor(0, 0))


class _View:
    """One state of a metrics file with the levels above it; levels are open files, or bytes made up in memory."""

    def __init__(self, file: int, levels: list[int | bytes]) -> None:
        self._file = file
        self._levels = levels
        self.inode = os.fstat(file).st_ino
        self.tops: list[tuple[int, Bucket]] = []
        """The largest pieces that together are the whole file, each with its level."""
        last: Bucket | None = None
        for level in reversed(range(LEVELS)):
            start = len(pyramid.header(self.inode)) if last is None else last.below[1]
            found = self._lines(level, start, None)
            self.tops += [(level, bucket) for bucket in found]
            last = found[-1] if found else self.parts(level + 1, last)[-1] if last is not None else None
        # After the levels, from the top down: what a writer adds meanwhile is then seen at most below.
        self.size = _complete(file, os.fstat(file).st_size)
        self.ahead = last is not None and last.end > self.size
        rows = self._rows(0 if last is None else last.end, self.size)
        self.tops += [(_ROW, row) for row in rows]
        self.behind = len(rows) >= 2 * pyramid.BASE

    def parts(self, level: int, bucket: Bucket) -> list[Bucket]:
        """What a bucket of `level` is made of."""
        return self._rows(*bucket.below) if level == 0 else self._lines(level - 1, *bucket.below)

    def _lines(self, level: int, start: int, end: int | None) -> list[Bucket]:
        source = self._levels[level]
        if isinstance(source, bytes):
            data = source[start:end]
        else:
            size = os.fstat(source).st_size if end is None else end
            data = os.pread(source, max(0, size - start), start)
        return [Bucket.load(record) for record in records.parse_lines(data[: data.rfind(b"\n") + 1])]

    def _rows(self, start: int, end: int) -> list[Bucket]:
        return [
            _one(row, *place)
            for row, *place in pyramid.parse_rows(os.pread(self._file, max(0, end - start), start), start)
        ]


def _one(row: records.Record, start: int, end: int) -> Bucket:
    bucket = Bucket(start=start, end=end, below=(start, end))
    bucket.add(row)
    return bucket


def _view(metrics: Path, *, live: bool, stack: ExitStack) -> _View:
    """The file as it is now, with a pyramid that is not behind."""
    file = os.open(metrics, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, file)
    if (view := _with_files(metrics, file, stack)) is not None:
        return view
    if not live:
        pyramid.rebuild(metrics)
        if (view := _with_files(metrics, file, stack)) is not None:
            return view
    stat = os.fstat(file)
    lines: list[list[bytes]] = [[pyramid.header(stat.st_ino)] for _ in range(LEVELS)]
    tower = pyramid.Tower(stat.st_ino, lambda level, line: lines[level].append(line))
    for row, start, end in pyramid.parse_rows(os.pread(file, stat.st_size, 0), 0):
        tower.add(row, start, end)
    return _View(file, [b"".join(level) for level in lines])


def _with_files(metrics: Path, file: int, stack: ExitStack) -> _View | None:
    """The view through the pyramid's files; None where they are missing, behind, or of another file."""
    levels = _open_levels(metrics, os.fstat(file).st_ino, stack)
    if levels is None and not _is_short(file):
        return None
    try:
        view = _View(file, levels or [b""] * LEVELS)
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return None if view.ahead or view.behind else view


def _complete(file: int, size: int) -> int:
    """Bytes up to the end of the last complete line."""
    at = size
    while at > 0:
        start = max(0, at - 4096)
        found = os.pread(file, at - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _open_levels(metrics: Path, inode: int, stack: ExitStack) -> list[int | bytes] | None:
    """The pyramid's files; None where one is missing or belongs to another file."""
    levels: list[int | bytes] = []
    for level in range(LEVELS):
        try:
            file = os.open(pyramid.level_file(metrics, level), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        stack.callback(os.close, file)
        header = pyramid.header(inode)
        if os.pread(file, len(header), 0) != header:
            return None
        levels.append(file)
    return levels


def _is_short(file: int) -> bool:
    """Whether the file may have too few rows to need a pyramid."""
    return os.fstat(file).st_size < 1 << 16


def _refine(
    view: _View, pieces: list[tuple[int, Bucket]], start: int, before: int | None, fine: int | None
) -> Iterator[Bucket]:
    """Those pieces, or their parts where only some of one is wanted or it has more than `fine` rows."""
    for level, piece in pieces:
        if piece.end <= start or (before is not None and piece.steps[0] >= before):
            continue
        part = piece.start < start or (before is not None and piece.steps[1] >= before)
        if level > _ROW and (part or (fine is not None and piece.rows > fine)):
            yield from _refine(view, [(level - 1, one) for one in view.parts(level, piece)], start, before, fine)
        else:
            yield piece
