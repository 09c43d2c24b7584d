"""What a run was trained on, by hash: kept from the start, compared when it is gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import records
from .failures import Failure

Entry = Mapping[str, Any]

#: Changed files that are named one by one.
_NAMED = 5


class DataRecord:
    """What was read, written down as soon as it is known and compared with what a checkpoint was trained on."""

    def __init__(self, path: Path, before: Sequence[Entry] | None, *, allow_changes: bool) -> None:
        self.read: list[Entry] = []
        self._path = path
        self._before = before
        self._allow_changes = allow_changes
        self._changes: list[str] = []

    def note(self, read: Sequence[Entry]) -> None:
        """Keep and compare.

        Raises:
            Failure: `bad_data`: it isn't what the checkpoint was trained on, and that wasn't allowed.
        """
        self.read.extend(read)
        records.write_json(self._path, {"datasets": list(read)})
        if self._before is None:
            return
        self._changes = changes(self._before, read)
        if self._changes and not self._allow_changes:
            what = "; ".join(self._changes)
            raise Failure("bad_data", f"the data are not those that the checkpoint was trained on: {what}")

    def summary(self) -> dict[str, Any]:
        """For the result: each dataset without its list of files, and what changed where that was allowed."""
        brief = [{name: value for name, value in entry.items() if name != "files"} for entry in self.read]
        return {"data": brief, **({"data_changed": self._changes} if self._changes else {})}


def changes(before: Sequence[Entry], now: Sequence[Entry]) -> list[str]:
    """What differs between two records of the data, named by file; empty if nothing does."""
    found: list[str] = []
    for old, new in zip(before, now, strict=False):
        if old["sha256"] == new["sha256"]:
            continue
        then, today = _by_path(old), _by_path(new)
        named = [f"{path} is new" for path in today if path not in then]
        named += [f"{path} is gone" for path in then if path not in today]
        named += [f"{path} has other bytes" for path in today if path in then and today[path] != then[path]]
        found += named or [f"the files of {new['path']} come in another order"]
    if len(before) != len(now):
        found.append(f"{len(now)} datasets instead of {len(before)}")
    # A file that stands in two datasets is named once.
    found = list(dict.fromkeys(found))
    return found[:_NAMED] + ([f"and {len(found) - _NAMED} more"] if len(found) > _NAMED else [])


def _by_path(record: Entry) -> dict[str, str]:
    return {file["path"]: file["sha256"] for file in record["files"]}
