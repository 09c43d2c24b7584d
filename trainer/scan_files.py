"""Which data files a path means, and how each is written: the one answer for the scan, the services and the trainer.

Standard library only, like the contract: the server resolves paths with it before it starts anything.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import glob
import gzip
import io
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

#: File endings to formats; `.gz` may follow all but Parquet.
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SUPPORTED = "JSONL (.jsonl, .ndjson), JSON (.json), CSV (.csv), TSV (.tsv) and Parquet (.parquet), also with .gz"

#: Files that lie beside data and are none.
_NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"}
_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_HEAD = 65_536
#: Names that a search through a folder looks at: no data set has as many, but somebody's home has.
_MOST_NAMES = 100_000
_DELIMITERS = ",;\t|"


class DataFileError(Exception):
    """Data that can't be used; code, message and next step as in the server's error tree."""

    def __init__(self, code: str, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next_step = next_step


@dataclass(frozen=True)
class DataFile:
    """One file of rows."""

    path: Path
    kind: str
    """jsonl, json, csv, tsv or parquet, by the file's name."""
    size: int
    """Bytes, as stored."""
    split: str | None = None
    """train, validation or test, where the name says so."""


@dataclass(frozen=True)
class Layout:
    """How one file is written, by its first 64 KiB."""

    shape: str
    """jsonl, array (one JSON list), objects (JSON objects over several lines), csv or parquet."""
    encoding: str = "UTF-8"
    """UTF-8, UTF-8 with BOM, UTF-16, UTF-16LE (without its mark) or UTF-32."""
    line_ends: str = "LF"
    """LF, CRLF or CR."""
    delimiter: str | None = None

    @property
    def codec(self) -> str:
        """Python's name of the encoding, which takes a byte order mark off."""
        return "utf-8-sig" if self.encoding == "UTF-8 with BOM" else self.encoding.lower()


def format_of(name: str) -> str | None:
    """The format that a file's name promises; None for one that isn't supported."""
    *_, before, ending = ("", "", *Path(name.lower()).suffixes)
    if ending == ".gz":
        found = FORMATS.get(before)
        return None if found == "parquet" else found
    return FORMATS.get(ending)


def split_of(path: str) -> str | None:
    """The split that a file's name, or else its folder's, says: train-00000.parquet, data/validation/a.jsonl."""
    for part in reversed(path.split("/")[-2:]):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLITS:
                return _SPLITS[word]
    return None


def list_files(path: str | Path, split: str | None = None) -> list[DataFile]:
    """The data files that a file, folder or glob means, sorted by path; all of one format.

    A folder or glob whose files carry split names gives those of `split` (train where not given), so that held-out
    rows never train by accident. A single file is taken as it is.

    Raises:
        DataFileError: file_not_found, bad_format or empty_dataset, each naming what is there instead; bad_encoding
            for a name that is not UTF-8, too_large for a folder that can't be a data set's.
    """
    path = Path(path)
    try:
        return _list_files(path, split)
    except OSError as error:
        # Never taken as absent: that would be less data than was meant, silently.
        raise DataFileError(
            "file_not_found",
            f"{error.filename or path} can't be looked at: {error.strerror or type(error).__name__}.",
            next_step=f"Mend that, then inspect_dataset(path={str(path)!r}) again; or give a glob that leaves it out.",
        ) from error


def _list_files(path: Path, split: str | None) -> list[DataFile]:
    if path.is_file():
        file = _data_file(path)
        if not file.size:
            raise _empty(path)
        return [file]
    if path.is_dir():
        found = _in_folder(path)
    elif glob.has_magic(str(path)):
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
        found = [file for file in found if not file.is_dir() and file.name not in _NOT_DATA]
    else:
        raise _not_found(path)
    if not found:
        raise DataFileError(
            "file_not_found",
            f"{path} holds no data files.",
            next_step=f"In place of {str(path)!r} inspect_dataset(path=…) takes a file, folder or glob of {SUPPORTED}.",
        )
    files = choose_split([_data_file(name) for name in found], split, str(path))
    formats = Counter("csv" if file.kind == "tsv" else file.kind for file in files)
    if len(formats) > 1:
        listed = ", ".join(f"{count} {name}" for name, count in formats.most_common())
        raise DataFileError(
            "bad_format",
            f"{path} holds files of several formats ({listed}); one dataset has one format.",
            next_step=f"inspect_dataset(path='{files[0].path.parent}/*{files[0].path.suffix}') takes one kind.",
        )
    if not any(file.size for file in files):
        raise _empty(path)
    return files


def choose_split(files: list[DataFile], split: str | None, where: str) -> list[DataFile]:
    """The files of a split; all of them where no name says one and none is asked for.

    Raises:
        DataFileError: the split is none of theirs.
    """
    names = sorted({file.split for file in files if file.split is not None})
    if split is None:
        wanted = [file for file in files if file.split == "train"]
        return wanted or files
    wanted = [file for file in files if file.split == _SPLITS.get(split, split)]
    if not wanted:
        there = f"its files say {', '.join(names)}" if names else "no file name in it says a split"
        raise DataFileError(
            "file_not_found",
            f"{where} has no split {split!r}: {there}.",
            next_step=f"inspect_dataset(path={where!r}, split={names[0]!r}) reads that one."
            if names
            else f"inspect_dataset(path={where!r}) without split reads all; or give the split's file itself.",
        )
    return wanted


def load_arguments(files: Sequence[DataFile]) -> tuple[str, dict[str, Any]]:
    """Name and arguments for `datasets.load_dataset` that read these files as the scan does.

    CSV: the delimiter that was found, and only an empty cell is null (the library's default turns the words NA, None
    and null, which are answers too, into nulls).
    """
    names = [str(file.path) for file in files]
    kind = files[0].kind
    if kind == "parquet":
        return "parquet", {"data_files": names}
    if kind in ("csv", "tsv"):
        layout = look(files[0])
        return "csv", {
            "data_files": names,
            "sep": layout.delimiter or ",",
            "encoding": layout.codec,
            "keep_default_na": False,
            "na_values": [""],
        }
    return "json", {"data_files": names}


def decompressed(path: Path, stored: BinaryIO) -> BinaryIO:
    """The bytes that an open file stands for: those of a gzip file decompressed."""
    return cast("BinaryIO", gzip.GzipFile(fileobj=stored)) if path.suffix.lower() == ".gz" else stored


def look(file: DataFile) -> Layout:
    """How a file is written.

    Raises:
        DataFileError: bad_format, for a file that isn't what its name says.
    """
    try:
        with open(file.path, "rb") as stored, decompressed(file.path, stored) as stream:
            head = stream.read(_HEAD)
    except (OSError, EOFError) as error:
        raise DataFileError(
            "bad_format",
            f"{file.path} can't be read: {getattr(error, 'strerror', None) or error}.",
            next_step=f"Check the file and its permissions, then inspect_dataset(path={str(file.path)!r}) again.",
        ) from error
    if file.kind == "parquet":
        if head[:4] != b"PAR1":
            raise _not_what_it_says(file, "no Parquet file")
        return Layout("parquet", encoding="binary", line_ends="none")
    encoding = _encoding(head)
    if encoding is None:
        kind = {b"PAR1": "a Parquet file", b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b\x08\x00": "a gzip file"}
        raise _not_what_it_says(file, kind.get(head[:4], "binary, not text"))
    text = head.decode(Layout("", encoding).codec, errors="replace")
    crlf, bare = text.count("\r\n"), text.count("\n")
    line_ends = "CRLF" if crlf and crlf * 2 > bare else "CR" if not bare and "\r" in text[:-1] else "LF"
    if file.kind == "tsv":
        return Layout("csv", encoding, line_ends, "\t")
    if file.kind == "csv":
        return Layout("csv", encoding, line_ends, _delimiter(text))
    start = text.lstrip("\ufeff \t\r\n")
    shape = "array" if start.startswith("[") else "objects" if re.match(r"\{\s*?[\r\n]", start) else "jsonl"
    return Layout(shape, encoding, line_ends)


def _encoding(head: bytes) -> str | None:
    """The encoding that the first bytes show; None for bytes that are no text."""
    if head.startswith(codecs.BOM_UTF8):
        return "UTF-8 with BOM"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if b"\0" in head:
        # UTF-16 without a mark: nearly every second byte of Latin text is zero.
        odd = head[1::2].count(0) / max(1, len(head) // 2)
        return "UTF-16LE" if odd > 0.4 and not head[::2].count(0) else None
    controls = sum(head.count(bytes([code])) for code in (*range(1, 9), *range(14, 27)))
    return None if controls * 20 > len(head) else "UTF-8"


def _delimiter(text: str) -> str:
    """The separator that cuts the first records most evenly into more than one field; a comma where none does."""
    lines = text.splitlines()
    if len(text) >= _HEAD - 1:
        lines = lines[:-1]
    best, score = ",", 1.0
    for candidate in _DELIMITERS:
        try:
            widths = [len(row) for row in _take(csv.reader(io.StringIO("\n".join(lines[:400])), delimiter=candidate))]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        even = sum(width == widths[0] for width in widths) / len(widths)
        if even * min(widths[0], 20) > score:
            best, score = candidate, even * min(widths[0], 20)
    return best


def _take(rows: Iterable[list[str]], limit: int = 50) -> list[list[str]]:
    found: list[list[str]] = []
    for row in rows:
        if row:
            found.append(row)
        if len(found) == limit:
            break
    return found


def _data_file(path: Path) -> DataFile:
    if not _is_utf8(path):
        raise DataFileError(
            "bad_encoding",
            f"The name of a file or folder is not UTF-8: {os.fsencode(path)!r}.",
            next_step="Rename it and call inspect_dataset again, or with a glob that leaves it out.",
        )
    found = format_of(path.name)
    if found is None:
        raise DataFileError(
            "bad_format",
            f"{path} is no data file by its name; supported are {SUPPORTED}.",
            next_step="Convert it, or rename it to what it is; then, for one, "
            f"inspect_dataset(path='{path.with_suffix('.jsonl')}').",
        )
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        # A named pipe would wait for its writer.
        raise DataFileError(
            "bad_format",
            f"{path} is no regular file.",
            next_step=f"Write its rows into a file, for one {path}.jsonl, and call inspect_dataset with that.",
        )
    return DataFile(path, found, status.st_size, split_of(str(path)))


def _is_utf8(path: Path) -> bool:
    """Whether the path's name can be written down: in records, configs and answers."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _empty(path: Path) -> DataFileError:
    step = f"Write at least one row into it, then inspect_dataset(path={str(path)!r}) again."
    return DataFileError("empty_dataset", f"{path} is empty.", next_step=step)


def _in_folder(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    looked_at = 0
    for parent, folders, names in os.walk(folder, onerror=fail):
        looked_at += len(folders) + len(names)
        if looked_at > _MOST_NAMES:
            raise DataFileError(
                "too_large",
                f"{folder} holds more than {_MOST_NAMES:,} files and folders: that is no data set.",
                next_step=f"Give the data's own folder, or a glob: inspect_dataset(path='{folder}/data/*.jsonl').",
            )
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in names:
            if not name.startswith(".") and name not in _NOT_DATA and format_of(name):
                found.append(Path(parent, name))
    return sorted(found)


def _not_found(path: Path) -> DataFileError:
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    entries = (entry for entry in parent.iterdir() if _is_utf8(entry))
    names = sorted(entry.name for entry in entries if entry.is_dir() or format_of(entry.name))[:2000]
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5) if parent == path.parent else []
    if near:
        others = f" (or {', '.join(near[1:])})" if near[1:] else ""
        step = f"Did you mean inspect_dataset(path={str(parent / near[0])!r})?{others}"
    elif names:
        told = f"In {parent} are: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        step = f"{told}; inspect_dataset(path={str(parent / names[0])!r}) looks at the first."
    else:
        step = f"{parent} holds no data files; call inspect_dataset with the path of one."
    return DataFileError("file_not_found", f"There is no file {path}.", next_step=step)


def _not_what_it_says(file: DataFile, what: str) -> DataFileError:
    return DataFileError(
        "bad_format",
        f"{file.path} is {what}, though its name says {file.kind}. Supported are {SUPPORTED}.",
        next_step="Rename the file to what it is, or write it again in a supported format; then "
        f"inspect_dataset(path={str(file.path)!r}) again.",
    )
