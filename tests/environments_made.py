"""Small real environments: a virtual environment in which package metadata stands, without the packages."""

from __future__ import annotations

import venv
from collections.abc import Mapping
from pathlib import Path


def make_environment(folder: Path, packages: Mapping[str, str]) -> Path:
    """An interpreter that works and says that it has `packages`; returns its path."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    for name, version in packages.items():
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return folder / "bin" / "python"
