"""Config files on disk: whole or not at all, and never over somebody's work by accident.

A new file appears by a hard link, which fails where one is already: of two servers that write at once, one wins and the
other is told. A replaced file is kept as `PATH.bak` first. A crash leaves at most a hidden temporary file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from ...executors.errors import ArgumentError, ConfigError
from ...executors.paths import Home


def check_target(path: Path, home: Home) -> None:
    """Refuse a path at which no config belongs.

    Raises:
        ArgumentError: another suffix than .yaml or .yml, a folder, a place below a file or in the state folder.
    """
    if path.is_dir():
        raise _refusal(path, "that is a folder", path / "config.yaml")
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise _refusal(path, "a config's name ends in .yaml", path.with_name(f"{path.name}.yaml"))
    above = next(folder for folder in path.parents if os.path.lexists(folder))
    if not above.is_dir():
        raise _refusal(path, f"{above} is no folder", above.parent / path.name)
    real = path.parent.resolve() / path.name
    if any(real.is_relative_to(folder.resolve()) for folder in (home.root, home.runs)):
        raise _refusal(path, "the state folder is written by runs alone", Path("config.yaml"))


def write(path: Path, text: str, *, overwrite: bool) -> tuple[bool, Path | None]:
    """Write the file; whether it changed, and where the replaced one lies.

    Raises:
        ConfigError: another file is there and `overwrite` is off (`config_exists`).
        ArgumentError: the folder can't be written to.
    """
    data = text.encode()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(temporary, data)
        try:
            return _place(temporary, path, data, overwrite=overwrite)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise _refusal(path, f"it can't be written: {error.strerror}", Path("config.yaml")) from error


def _place(temporary: Path, path: Path, data: bytes, *, overwrite: bool) -> tuple[bool, Path | None]:
    try:
        _link(temporary, path)
    except FileExistsError:
        former = path.read_bytes()
        if former == data:
            return False, None
        if not overwrite:
            raise ConfigError(
                "config_exists",
                f"{path} exists and holds something else.",
                next_step="Call write_config with another path, or with overwrite=true, which keeps the former file as "
                f"{path.name}.bak.",
            ) from None
        backup = path.with_name(f"{path.name}.bak")
        spare = path.with_name(f".{path.name}.{secrets.token_hex(6)}.bak")
        _write_new(spare, former)
        os.replace(spare, backup)
        os.replace(temporary, path)
        return True, backup
    return True, None


def _link(temporary: Path, path: Path) -> None:
    """Give the file its name, only if nothing has that name."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # A file system without hard links: the name is taken by an empty file first.
        with open(path, "xb"):
            os.replace(temporary, path)


def _write_new(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _refusal(path: Path, why: str, better: Path) -> ArgumentError:
    return ArgumentError(
        "invalid_arguments",
        f"path {path}: {why}.",
        next_step=f"Call write_config again with path={str(better)!r}, for one.",
    )
