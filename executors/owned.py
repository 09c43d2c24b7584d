"""Folders that must be ours: made on demand, refused if somebody else has a hand in them, closed to others."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from .errors import StateError

#: What moves the state folder elsewhere.
_VARIABLE = "MODEL_TRAINER_STATE"


def own(folder: Path, *, alone: bool = False, named: str = _VARIABLE) -> None:
    """Make `folder`, or refuse one that isn't ours; with `alone` nobody else may enter it: its mode becomes 0700.

    `named` is the setting that says where it lies. A link counts as its maker's: whoever made it can let it lead
    elsewhere tomorrow.

    Raises:
        StateError: it, or the link to it, belongs to somebody else (`foreign_state`), or can't be used
            (`state_unwritable`).
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            link, entry = folder.lstat(), os.fstat(descriptor)
            owners = {entry.st_uid, *({link.st_uid} - {0} if stat.S_ISLNK(link.st_mode) else ())}
            if alone and owners == {os.getuid()} and is_open(entry):
                # Some file systems have no modes; `model-trainer doctor` says so then.
                with contextlib.suppress(OSError):
                    os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
    except PermissionError as error:
        raise _refuse_foreign(folder, named) or _unusable(folder, error, named) from error
    except OSError as error:
        raise _unusable(folder, error, named) from error
    if foreign := sorted(owners - {os.getuid()}):
        raise _foreign(folder, foreign[0], named)


def own_here(folder: Path) -> None:
    """As `own` with `alone`, for a folder in a place where everybody may write: no link is followed there.

    Raises:
        StateError: somebody else was there first (`foreign_state`), or it can't be used (`state_unwritable`).
    """
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
    try:
        entry = folder.lstat()
    except OSError as error:
        raise _unusable(folder, error, _VARIABLE) from error
    if entry.st_uid != os.getuid() or not stat.S_ISDIR(entry.st_mode):
        what = "is a link or a file" if not stat.S_ISDIR(entry.st_mode) else f"belongs to user {entry.st_uid}"
        raise StateError(
            "foreign_state",
            f"Locks must lie in {folder}, because the state folder is on a network file system; but that {what}.",
            next_step=f"Look at it with `ls -ld {folder}` and have it removed, or set MODEL_TRAINER_STATE to a folder "
            "on a local disk.",
        )
    own(folder, alone=True)


def is_open(entry: os.stat_result) -> bool:
    """Whether group or others may do anything with a folder."""
    return bool(stat.S_IMODE(entry.st_mode) & 0o077)


def _refuse_foreign(folder: Path, named: str) -> StateError | None:
    """What to say of a folder that we may not even open, because it is somebody else's."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return None
    return _foreign(folder, owner, named) if owner != os.getuid() else None


def _foreign(folder: Path, owner: int, named: str) -> StateError:
    return StateError(
        "foreign_state",
        f"The {_kind(named)} folder {folder} belongs to user {owner}, not to you ({os.getuid()}).",
        next_step=f"Set {named} to a folder of your own; `model-trainer doctor` checks it.",
    )


def _unusable(folder: Path, error: OSError, named: str) -> StateError:
    return StateError(
        "state_unwritable",
        f"The {_kind(named)} folder {folder} can't be used: {error.strerror}.",
        next_step=f"Free disk space, or set {named} to a writable folder; see `model-trainer doctor`.",
    )


def _kind(named: str) -> str:
    return "state" if named == _VARIABLE else "runs"
