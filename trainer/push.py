"""The body of a push run: put a bundle, as it was agreed on, where it was agreed to go, and look at it there.

`python -m trainer_snapshot.trainer push ATTEMPT_FOLDER`; the request stands in the run's run.json: `target` (a Hub
repository or a folder), `files` (name, source, size, sha256), `removes`, `base_commit`, `replaces`. A file whose bytes
are no longer those that were agreed on stops everything before a byte has left. Standard library only, but for
huggingface_hub where the target is on the Hub.

Crash contract: a folder appears whole or not at all; on the Hub everything becomes visible in one commit. Started again
with the same request, a push goes on: what is there already is not sent again. `result.json` is written once, at the
end, atomically.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import records
from .bundles import SMALL, Item
from .failures import Failure, explain

Say = Callable[[int, int, str], None]

_CHUNK = 4 * 2**20


def main(arguments: list[str]) -> int:
    """Push; 0 if all is there and was verified."""
    attempt = Path(arguments[0])
    started = time.monotonic()
    stopping = Stopping()
    signal.signal(signal.SIGTERM, stopping.on_signal)
    # The client tells each retry with its whole address, which may be a signed one.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    result: dict[str, Any]
    try:
        asked: dict[str, Any] = (records.read_json(attempt.parent.parent / "run.json") or {})["request"]
        published = push(asked, attempt, _sayer(attempt), stopping)
        result = {"outcome": "succeeded", "ended_by": "planned_end", "published": published}
    except KeyboardInterrupt:
        result = {"outcome": "stopped"}
    except Exception as error:
        failure = explain(error)
        if failure is not error:
            # Where, but not what: a library's words may hold a signed address.
            sys.stderr.write(f"{''.join(traceback.format_tb(error.__traceback__))}{type(error).__name__}\n")
        result = {"outcome": "failed", "reason": failure.reason, "detail": failure.detail}
    result["seconds"] = round(time.monotonic() - started, 2)
    records.write_json(attempt / "result.json", result)
    return 1 if result["outcome"] == "failed" else 0


class Stopping:
    """A stop ends the push at once, except while what was pushed may be becoming visible (`held`): then it is `asked`
    for, and whoever holds it off looks whether it did, and ends.
    """

    def __init__(self) -> None:
        self.held = False
        self.asked = False

    def on_signal(self, _number: int, _frame: object) -> None:
        self.asked = True
        if not self.held:
            raise KeyboardInterrupt


def push(asked: dict[str, Any], attempt: Path, say: Say, stopping: Stopping) -> dict[str, Any]:
    """Put the bundle where it goes; where it is now.

    Raises:
        Failure: `bad_data` (a file changed), `guard` (the target isn't what was agreed on), `auth`, `communication`,
            `incomplete` (what is there isn't what was sent), `disk_full`.
    """
    items = [Item(**one) for one in asked["files"]]
    target: dict[str, Any] = asked["target"]
    if target["kind"] == "folder":
        folder = Path(target["path"])
        if attempt.is_relative_to(folder):
            raise Failure("guard", f"{folder} holds this run itself; nothing was written")
        return to_folder(
            items,
            folder,
            replaces=bool(asked.get("replaces")),
            name=asked["call"]["confirm"],
            say=say,
            stopping=stopping,
        )
    small = check_sources(items, say)
    from .push_hub import Publication

    return Publication(items, small, asked, say, stopping).publish()


def check_sources(items: Sequence[Item], say: Say) -> dict[str, bytes]:
    """Read every file and compare it with what was agreed on; the contents of the small ones, by name.

    Raises:
        Failure: `bad_data`, naming the file.
    """
    small: dict[str, bytes] = {}
    for number, item in enumerate(items):
        say(number, len(items), f"checking {item.path}")
        try:
            with open(item.source, "rb") as file:
                if item.size <= SMALL:
                    # A byte more tells that it grew, however much.
                    small[item.path] = file.read(item.size + 1)
                    digest = hashlib.sha256(small[item.path])
                else:
                    digest = hashlib.file_digest(file, "sha256")
        except FileNotFoundError:
            raise Failure("bad_data", f"{item.path} is gone from {item.source}; nothing was published") from None
        if digest.hexdigest() != item.sha256:
            raise _changed(item)
    return small


def to_folder(
    items: Sequence[Item], target: Path, *, replaces: bool, name: str, say: Say, stopping: Stopping
) -> dict[str, Any]:
    """Copy the bundle to a new folder; a former one that may be replaced is kept beside it.

    `name` names the half-made copy: the same push, begun again, finds and removes what a killed one left.

    Raises:
        Failure: as `push`.
    """
    building = target.with_name(f".{target.name}.{name}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        for number, item in enumerate(items):
            say(number, len(items), f"copying {item.path}")
            _copy(item, building / item.path)
        records.sync_folder(building)
        # Between the two renames there is no folder at the target: no stop may come there.
        stopping.held = True
        kept = _move_away(target, replaces=replaces)
        try:
            building.rename(target)
        except OSError:
            if kept is not None:
                kept.rename(target)
            raise
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    records.sync_folder(target.parent)
    return {
        "where": str(target),
        "files": len(items),
        "bytes": sum(item.size for item in items),
        "kept": None if kept is None else str(kept),
    }


def _copy(item: Item, to: Path) -> None:
    digest = hashlib.sha256()
    with open(item.source, "rb") as source, open(to, "xb") as copy:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hexdigest() != item.sha256:
        raise _changed(item)


def _move_away(target: Path, *, replaces: bool) -> Path | None:
    """Make room for the bundle; where a former folder lies now."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    if not replaces:
        raise Failure("guard", f"{target} is there now and was not when this was agreed on; it was left as it is")
    names = (target.with_name(f"{target.name}.bak{number or ''}") for number in range(1000))
    kept = next(name for name in names if not name.exists())
    target.rename(kept)
    return kept


def _changed(item: Item) -> Failure:
    return Failure("bad_data", f"{item.path} is not what was agreed on: {item.source} changed; nothing was published")


def _sayer(attempt: Path) -> Say:
    def say(done: int, total: int, message: str) -> None:
        records.write_json(attempt / "progress.json", {"done": done, "total": total, "message": message})

    return say
