"""The uv that makes training environments: the user's own, else one of our own under the state folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ..executors.errors import EnvironmentFault
from ..executors.paths import Home

#: Relocatable environments and hash checking are stable in these.
UV = "uv>=0.9,<1"

Tell = Callable[[str], None]


def find_uv(home: Home) -> Path | None:
    """`$UV` (set by uv itself for what it runs), uv on PATH, or the one that `get_uv` made."""
    candidates = (os.environ.get("UV"), shutil.which("uv"), str(home.root / "tools" / "uv" / "bin" / "uv"))
    return next((Path(found) for found in candidates if found and os.access(found, os.X_OK)), None)


def get_uv(home: Home, tell: Tell) -> Path:
    """As `find_uv`; where there is none, it is installed into `<state>/tools/uv` with venv and pip.

    Raises:
        EnvironmentFault: Python can't make virtual environments here, or the package index is out of reach.
    """
    found = find_uv(home)
    if found is not None:
        return found
    tell("getting uv (about 60 MB) …")
    folder = home.root / "tools" / "uv"
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    building = folder.with_name(f".uv.{os.getpid()}")
    try:
        _run([sys.executable, "-m", "venv", str(building)])
        _run([str(building / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder / "bin" / "uv"


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or "").strip().splitlines()
        raise EnvironmentFault(
            "package_missing",
            f"uv is not installed, and could not be: {said[-1][:300] if said else error}",
            next_step="Install uv (for one with `pipx install uv`), then run `model-trainer setup` again.",
        ) from error
