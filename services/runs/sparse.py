"""Holes in a file: what `executors/logcap.py` dropped from a log. Each answer takes a bounded number of calls.

A file system that can't tell says that there are none; a hole reads as zeros then.
"""

from __future__ import annotations

import errno
import os

#: Holes that are counted; the cap makes one.
_MOST = 64


def next_hole(file: int, at: int, size: int) -> int:
    """Where the first hole at or behind `at` begins; `size` if there is none."""
    return _seek(file, at, size, os.SEEK_HOLE, size)


def next_data(file: int, at: int, size: int) -> int:
    """The first byte at or behind `at` that isn't in a hole; `size` if there is none."""
    return _seek(file, at, size, os.SEEK_DATA, at)


def last_hole(file: int, at: int, size: int) -> tuple[int, int] | None:
    """Begin and end of the last hole at or behind `at`; None if there is none.

    Among many small holes a later one may be missed.
    """
    found = None
    for _ in range(_MOST * 16):
        hole = next_hole(file, at, size)
        if hole >= size:
            break
        at = next_data(file, hole, size)
        found = hole, at
    return found


def dropped(file: int, size: int) -> int:
    """Bytes of the file that are in holes."""
    at = total = 0
    for _ in range(_MOST):
        hole = next_hole(file, at, size)
        if hole >= size:
            break
        at = next_data(file, hole, size)
        total += at - hole
    return total


def _seek(file: int, at: int, size: int, what: int, otherwise: int) -> int:
    """The place that the kernel names, within the file; `otherwise` where it can't tell."""
    if at >= size:
        return size
    try:
        return min(size, os.lseek(file, at, what))
    except OSError as error:
        # Behind `at` there is only a hole, or the file ended earlier meanwhile.
        return size if error.errno == errno.ENXIO else otherwise
