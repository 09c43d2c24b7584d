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
    """As `count`, of a run that is over: of a folder that is as it was, its files aren't looked at again."""
    total = files = 0
    folders = [folder]
    while folders:
        path = folders.pop()
        if path == f"{folder}/code":
            code = _CODES.get(path, lambda path=path: count(path, FILES))
            if code.size is None:
                return Counted(None, files + code.files)
            part = _Folder(code.size, code.files, ())
        else:
            part = _FOLDERS.get(path, lambda path=path: _look_into(path))
        total, files = total + part.size, files + part.files
        if files > at_most:
            return Counted(None, files)
        folders += part.folders
    return Counted(total, files)


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


#: Of runs that are over, whose files nobody lengthens any more: what lies in each folder, and in all of their copy of
#: our code. Files that come, go or are replaced change their folder.
_FOLDERS: Kept[_Folder] = Kept()
_CODES: Kept[Counted] = Kept()
