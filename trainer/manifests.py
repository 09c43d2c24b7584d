"""Which checkpoints can be trusted: a manifest of sizes and hashes beside each, and the name of the last good one.

transformers writes straight into `checkpoint-<step>`, without staging or check; a kill in a save leaves a folder that
looks newest and is broken, and a missing optimizer file resumes silently from a fresh optimizer. So a checkpoint counts
only with a manifest that matches, and the manifest is written last. Standard library only: the server verifies too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import records

MANIFEST = "manifest.json"
LAST_GOOD = "last-good"

#: Where checkpoints are moved that an attempt of the run didn't trust.
QUARANTINE = "quarantine"

#: Written by `continuing`: the data's hash, and the part of the curve that no row has told yet.
CONTINUATION = "continuation.json"

#: Without these a resume would silently restart the optimizer or the schedule, or train on other data unnoticed.
NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt", CONTINUATION)


@dataclass(frozen=True)
class Verdict:
    """What looking at a checkpoint found."""

    folder: Path
    step: int
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        return not self.problems


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name; -1 if it is none."""
    name, _, step = folder.name.partition("-")
    return int(step) if name == "checkpoint" and step.isdigit() else -1


def folders(checkpoints: Path) -> list[Path]:
    """The checkpoint folders of a run, the newest first."""
    try:
        found = [entry for entry in checkpoints.iterdir() if step_of(entry) >= 0 and entry.is_dir()]
    except FileNotFoundError:
        return []
    return sorted(found, key=step_of, reverse=True)


def write(folder: Path, *, finite: bool) -> None:
    """Describe a complete checkpoint: every file made durable, sized and hashed; the manifest last."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(_files(folder)):
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": digest}
    records.sync_folder(folder)
    records.write_json(folder / MANIFEST, {"step": step_of(folder), "finite": finite, "files": files})


def mark_good(folder: Path) -> None:
    """Name `folder` as the last good checkpoint of its run."""
    records.write_json(folder.parent / LAST_GOOD, {"checkpoint": folder.name, "step": step_of(folder)})


def verify(folder: Path, *, hash_limit: float = float("inf")) -> Verdict:
    """Compare a checkpoint with its manifest, byte for byte.

    Of a checkpoint above `hash_limit` bytes only names and sizes are compared, for those who can't wait (hashing
    takes about a second per GB); the trainer reads every byte before it goes on from one.
    """
    return Verdict(folder, step_of(folder), tuple(_problems(folder, hash_limit)))


def last_good(checkpoints: Path, *, hash_limit: float = float("inf")) -> tuple[Verdict | None, list[Verdict]]:
    """The newest checkpoint that verifies, and the newer ones that don't, each with why."""
    bad: list[Verdict] = []
    for folder in folders(checkpoints):
        verdict = verify(folder, hash_limit=hash_limit)
        if verdict.is_good:
            return verdict, bad
        bad.append(verdict)
    return None, bad


def quarantine(folder: Path) -> Path:
    """Move a checkpoint that can't be trusted out of the way of those that will have its name; where it lies now."""
    aside = folder.parent / QUARANTINE
    aside.mkdir(mode=0o700, exist_ok=True)
    number = 1
    while (target := aside / f"{folder.name}.{number}").exists():
        number += 1
    folder.rename(target)
    records.sync_folder(folder.parent)
    return target


def _problems(folder: Path, hash_limit: float) -> Iterator[str]:
    try:
        manifest = records.read_json(folder / MANIFEST)
    except (OSError, ValueError):
        manifest = None
    if manifest is None:
        yield "it has no manifest: the save was interrupted"
        return
    if manifest.get("step") != step_of(folder):
        yield f"the manifest is of step {manifest.get('step')}"
    if not manifest.get("finite"):
        yield "the weights hold NaN or infinity"
    files: dict[str, Any] = _dict(manifest.get("files"))
    sizes: list[Any] = [_dict(entry).get("size") for entry in files.values()]
    if not files or not all(isinstance(size, int) for size in sizes):
        yield "its manifest isn't one of ours"
        return
    yield from _missing(files)
    hashed = sum(sizes) <= hash_limit
    for name, expected in files.items():
        path = folder / name
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size != expected["size"]:
                    yield f"{name} has another size"
                elif hashed and hashlib.file_digest(file, "sha256").hexdigest() != expected.get("sha256"):
                    yield f"{name} has other bytes"
        except FileNotFoundError:
            yield f"{name} is gone"
        except OSError as error:
            # A disk that fails says so when it is read.
            yield f"{name} can't be read: {error.strerror}"
    state = _state(folder)
    if state is None:
        yield "its state can't be read"
    elif state.get("global_step") != step_of(folder):
        yield f"its state is of step {state.get('global_step')}"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _missing(files: Mapping[str, Any]) -> Iterator[str]:
    for name in NEEDED:
        if name not in files:
            yield f"{name} is missing"
    if not any(name.endswith(".safetensors") for name in files):
        yield "it has no weights"
    if not any(name.startswith("rng_state") for name in files):
        yield "the random number generators' state is missing"


def _state(folder: Path) -> records.Record | None:
    try:
        return records.read_json(folder / "trainer_state.json")
    except (OSError, ValueError):
        return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
