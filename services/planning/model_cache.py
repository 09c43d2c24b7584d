"""Models in the local Hugging Face cache: `models--org--name/refs/<ref>` names a folder of `snapshots/`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_COMMIT = re.compile(r"^[0-9a-f]{40}$")

#: A Hub id: owner and name, of letters, digits, `.`, `_` and `-`.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}\Z", re.ASCII)


@dataclass(frozen=True)
class Snapshot:
    """One commit of a Hub model on this disk; it may lack files."""

    folder: Path

    @property
    def commit(self) -> str:
        return self.folder.name


def cache_folder() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    if given := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "hub"


def find_snapshot(name: str, revision: str | None) -> Snapshot | None:
    """The snapshot of `name` at `revision` (commit, branch or tag; main where None), if its config.json is here."""
    if not HUB_ID.match(name):
        return None
    root = cache_folder() / f"models--{name.replace('/', '--')}"
    commit = revision or "main"
    if not _COMMIT.match(commit):
        # A ref may hold slashes (refs/pr/1); one that climbs out of the folder is none.
        if ".." in Path(commit).parts or Path(commit).is_absolute():
            return None
        try:
            commit = (root / "refs" / commit).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
    folder = root / "snapshots" / commit
    return Snapshot(folder) if _COMMIT.match(commit) and (folder / "config.json").is_file() else None
