"""What runs take on the disk, counted cheaply enough for a list."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..app import App
from .kept import Kept

#: Files of one run that are counted; a run has a few dozen.
FILES = 10_000

#: Folders in which something may come or go after a run's end: by prune, pictures, publishing.
_WRITTEN_LATER = ("checkpoints", "code", "output", "plots", "publish", "work")


@dataclass(frozen=True)
class DiskTotals:
    """What all runs take, and what is left where they lie, in bytes."""

    used: int
    free: int


def disk_totals(app: App) -> DiskTotals:
    """Of everything in the runs folder, also what is just being made or removed; reads every folder of every run."""
    used = disk_use(app.home.runs, at_most=None)
    return DiskTotals(used=used or 0, free=shutil.disk_usage(app.home.runs).free)


def disk_use(folder: Path, *, at_most: int | None = FILES) -> int | None:
    """Bytes of the files in a folder and below; None where there are more than `at_most`: too many to wait for."""
    return count(str(folder), at_most).size


@dataclass(frozen=True)
class Counted:
    """What was counted; size None where it was too much."""

    size: int | None
    files: int
    """How many were looked at, also where they were too many."""


def count(folder: str, at_most: int | None) -> Counted:
    """What is in a folder and below."""
    total = files = 0
    folders = [folder]
    while folders:
        part = _look_into(folders.pop())
        total, files = total + part.size, files + part.files
        if at_most is not None and files > at_most:
            return Counted(None, files)
        folders += part.folders
    return Counted(total, files)


def count_ended(folder: str, at_most: int) -> Counted:
    """As `count`, of a run that is over: counted again only where something came, went or was replaced in it.

    Seen by the times of the run's folder and of those directly in it. What readers add further down (summaries of a few
    kB) isn't seen, and nobody else writes there any more.
    """
    counted = _ENDED.get(folder, lambda: count(folder, FILES))
    return counted if counted.files <= at_most else Counted(None, counted.files)


def _changes(run: str) -> tuple[int, ...]:
    return tuple(_changed(path) for path in (run, *(f"{run}/{name}" for name in _WRITTEN_LATER)))


#: Of runs that are over, by when something last came or went in them.
_ENDED: Kept[Counted] = Kept(identity=_changes)


def _changed(path: str) -> int:
    """When something last came or went in a folder; 0 where there is none."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116  a Path takes longer to make than the folder to look at
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class _Folder:
    """What lies directly in a folder: the bytes and number of its files, and its folders."""

    size: int
    files: int
    folders: tuple[str, ...]


def _look_into(path: str) -> _Folder:
    size = files = 0
    folders: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    size += entry.stat(follow_symlinks=False).st_size
                    files += 1
    except FileNotFoundError:
        # A checkpoint may be rotated away meanwhile.
        pass
    return _Folder(size, files, tuple(folders))
