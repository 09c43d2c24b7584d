"""The rows a run trains on: read, mapped, mixed, split, and hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets, load_dataset

from . import contract
from .contract import MappingError, Turns
from .failures import Failure
from .scan_files import DataFileError, list_files, load_arguments


def load(config: Mapping[str, Any], *, seed: int) -> tuple[Dataset, Dataset | None, list[dict[str, Any]]]:
    """Training rows, held-out rows (None without evaluation), and what was read.

    A record per dataset: path, rows, format, sha256 over all its files, and `files` with path, size, sha256 of each.

    Raises:
        Failure: `bad_data`, saying what and where.
    """
    formats = contract.METHODS[config["method"]].formats
    parts: list[Dataset] = []
    read: list[dict[str, Any]] = []
    for entry in config["datasets"]:
        rows, record = _load_one(entry, formats)
        parts.append(_weigh(rows, entry.get("weight", 1.0), seed))
        read.append(record)
    train = concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    held_out = config.get("eval_dataset")
    if held_out is None:
        return train, None, read
    if held_out.get("fraction") is not None:
        if len(train) < 2:
            raise Failure("bad_data", f"{len(train)} row can't be split into training and held-out rows")
        size = min(max(round(len(train) * held_out["fraction"]), 1), len(train) - 1)
        halves = train.train_test_split(test_size=size, seed=seed, shuffle=True)
        return halves["train"], halves["test"], read
    first = config["datasets"][0]
    entry = {key: held_out.get(key) if held_out.get(key) is not None else first.get(key) for key in _ENTRY_KEYS}
    if held_out.get("path") is not None:
        # A revision belongs to its repository: the first dataset's is none of another's.
        entry["revision"] = held_out.get("revision")
    rows, record = _load_one(entry, formats)
    return train, rows, [*read, {**record, "eval": True}]


_ENTRY_KEYS = ("path", "split", "revision", "columns", "turns")


def _load_one(entry: Mapping[str, Any], formats: tuple[str, ...]) -> tuple[Dataset, dict[str, Any]]:
    path = str(entry["path"])
    if Path(path).is_absolute():
        rows, files = _load_files(path, entry.get("split"))
    else:
        rows = load_dataset(path, revision=entry.get("revision"), split=entry.get("split") or "train")
        files = _as_read(rows, path)
    rows = _map(rows, entry, path)
    found = contract.find_format(rows.column_names)
    if found not in formats:
        wanted = " or ".join("+".join(contract.FORMATS[name].required) for name in formats)
        raise Failure("bad_data", f"{path} has the columns {', '.join(rows.column_names)}; wanted: {wanted}")
    kept = {*contract.FORMATS[found].required, *contract.FORMATS[found].optional}
    rows = rows.remove_columns([name for name in rows.column_names if name not in kept])
    if not len(rows):
        raise Failure("bad_data", f"{path} has no rows")
    total = hashlib.sha256()
    for file in files:
        total.update(bytes.fromhex(file["sha256"]))
    return rows, {"path": path, "rows": len(rows), "sha256": total.hexdigest(), "format": found, "files": files}


def _load_files(path: str, split: str | None) -> tuple[Dataset, list[dict[str, Any]]]:
    """Rows of local files, and their sizes and hashes in order."""
    try:
        files = list_files(path, split)
        builder, options = load_arguments(files)
    except DataFileError as error:
        raise Failure("bad_data", str(error)) from error
    known = [_hash(file.path, str(file.path)) for file in files]
    return load_dataset(builder, split="train", **options), known


def _as_read(rows: Dataset, name: str) -> list[dict[str, Any]]:
    """A Hub dataset's rows as the library stored them here: its repository may move on without a new revision."""
    stored = [Path(file["filename"]) for file in rows.cache_files]
    return [_hash(path, f"{name}#{number}") for number, path in enumerate(stored)]


def _hash(path: Path, name: str) -> dict[str, Any]:
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"path": name, "size": path.stat().st_size, "sha256": digest}


def _map(rows: Dataset, entry: Mapping[str, Any], path: str) -> Dataset:
    columns = entry.get("columns")
    turns = Turns(**entry["turns"]) if entry.get("turns") is not None else None
    if columns is None and turns is None:
        return rows

    def mapped(row: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            return contract.map_row(row, columns, turns)
        except MappingError as error:
            raise Failure("bad_data", f"{path}, row {index + 1}: {error}") from error

    return rows.map(mapped, with_indices=True, remove_columns=rows.column_names, desc=None)


def _weigh(rows: Dataset, weight: float, seed: int) -> Dataset:
    """The rows `weight` times: whole copies, and a seeded part for the rest."""
    whole, rest = divmod(weight, 1)
    copies = [rows] * int(whole)
    if count := round(rest * len(rows)):
        copies.append(rows.shuffle(seed=seed).select(range(count)))
    if not copies:
        raise Failure("bad_data", f"a weight of {weight} leaves none of {len(rows)} rows")
    return concatenate_datasets(copies) if len(copies) > 1 else copies[0]
