"""The body of an inspection run: look at the structure of every row, in the memory of one.

`python -m trainer_snapshot.trainer inspect ATTEMPT_FOLDER`; the request stands in the run's run.json. Standard library
only, but for Parquet (pyarrow) and data sets on the Hub (huggingface_hub). Crash contract: `result.json` is written
once, at the end, atomically.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import records
from .contract import FORMATS, MappingError, Turns, map_row
from .failures import explain
from .scan_checks import check_columns, check_row
from .scan_columns import PLACES, Table, Where
from .scan_files import DataFile, DataFileError, Layout, list_files, look
from .scan_problems import Problems
from .scan_rows import Item, Position, read_rows
from .scan_sample import Sample, plain
from .scan_seen import Seen

#: Seconds between two words about progress.
_SAY_SECONDS = 0.5
_COLUMNS_SHOWN = 60

#: Beside result.json: rows spread evenly over the data, mapped, for token lengths and examples.
SAMPLE = "sample.json"

Say = Callable[[int, int, str], None]


def main(arguments: list[str]) -> int:
    """Inspect; 0 if the data could be read, whatever is wrong with them."""
    attempt = Path(arguments[0])
    started = time.monotonic()
    asked: dict[str, Any] = (records.read_json(attempt.parent.parent / "run.json") or {})["request"]
    result: dict[str, Any]
    try:
        found, sample = inspect(asked, _sayer(attempt))
        records.write_json(attempt / SAMPLE, {"rows": sample})
        result = {"outcome": "succeeded", "ended_by": "planned_end", **found, "sample": str(attempt / SAMPLE)}
    except DataFileError as error:
        result = {"outcome": "failed", "reason": "bad_data", "detail": error.message}
        result["error"] = {"code": error.code, "message": error.message, "next_step": error.next_step}
    except Exception as error:
        failure = explain(error)
        sys.excepthook(type(error), error, error.__traceback__)
        result = {"outcome": "failed", "reason": failure.reason, "detail": failure.detail}
    result["seconds"] = round(time.monotonic() - started, 2)
    records.write_json(attempt / "result.json", plain(result))
    return 0 if result["outcome"] == "succeeded" else 1


def _sayer(attempt: Path) -> Say:
    last = 0.0

    def say(done: int, total: int, message: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= _SAY_SECONDS:
            last = now
            records.write_json(attempt / "progress.json", {"done": done, "total": total, "message": message})

    return say


def inspect(asked: Mapping[str, Any], say: Say) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the data are: files, rows, columns, format and problems; and a sample of their rows.

    `asked`: path (absolute, or a data set's id with `hub`), split, revision, columns, turns, method.

    Raises:
        DataFileError: there is nothing to look at, or it can't be read.
    """
    if asked.get("hub"):
        from .scan_hub import fetch

        files, commit = fetch(asked["path"], asked.get("revision"), asked.get("split"), say)
    else:
        files, commit = list_files(asked["path"], asked.get("split")), None
    layouts = [look(file) if file.size else Layout("jsonl") for file in files]
    scan = _Scan(files, layouts, asked)
    scan.run(say)
    result = {**scan.result(), "commit": commit}
    wanted = _columns_of(result["format"]) if result["format"] is not None else ()
    return result, scan.sample.rows(wanted)


def _columns_of(name: str) -> tuple[str, ...]:
    return (*FORMATS[name].required, *FORMATS[name].optional)


class _Scan:
    """One pass over all files."""

    def __init__(self, files: list[DataFile], layouts: list[Layout], asked: Mapping[str, Any]) -> None:
        self.files, self.layouts, self.asked = files, layouts, asked
        turns = asked.get("turns")
        self.columns: Mapping[str, str | Sequence[str]] | None = asked.get("columns")
        self.turns = Turns(**turns) if turns is not None else None
        loose = layouts[0].shape == "csv"
        self.table = Table(loose=loose)
        self.mapped = Table(loose=loose) if self.columns is not None or self.turns is not None else self.table
        self.problems = Problems()
        self.seen = Seen()
        self.sample = Sample()

    def run(self, say: Say) -> None:
        """Look at every row."""
        total, before = sum(file.size for file in self.files), 0
        for index, (file, layout) in enumerate(zip(self.files, self.layouts, strict=True)):
            position = Position()
            if layout.encoding.startswith(("UTF-16", "UTF-32")):
                self.problems.add("bad_encoding", (index, 0), layout.encoding, f"the file is {layout.encoding}")
            for count, item in enumerate(read_rows(file, layout, position)):
                self._take(item, (index, item.line))
                if not count % 512:
                    say(before + position.tell(), total, f"{self.table.rows:,} rows of {file.path.name} read")
            before += file.size

    def _take(self, item: Item, where: Where) -> None:
        if item.fault is not None:
            subject = "LATIN1" if item.fault == "bad_encoding" else ""
            self.problems.add(item.fault, where, subject, item.detail)
        row = item.row
        if row is None:
            return
        if self.seen.repeats(item.raw):
            self.problems.add("duplicates", where)
        chats = self.table.add(row, where)
        if self.mapped is not self.table:
            try:
                row = map_row(row, self.columns, self.turns)
            except MappingError as error:
                self.problems.add("mapping_failed", where, str(error))
                return
            chats = self.mapped.add(row, where)
        check_row(row, chats, self.mapped, self.problems, where)
        self.sample.offer(row, len(item.raw))

    def result(self) -> dict[str, Any]:
        """What was found.

        Raises:
            DataFileError: empty_dataset (no row, no fault), or wrong_columns (the mapping fits no row).
        """
        table, mapped, where = self.table, self.mapped, self.asked["path"]
        if not table.rows and not self.problems.found:
            step = f"Write at least one row into it, then inspect_dataset(path={where!r}) again."
            raise DataFileError("empty_dataset", f"{where} has no rows.", next_step=step)
        if table.rows and not mapped.rows:
            raise self._nothing_mapped()
        self._one_object()
        found = check_columns(mapped, self.problems, self.asked.get("method"))
        required = FORMATS[found].required if found is not None else ()
        layout = self.layouts[0]
        return {
            "files": len(self.files),
            "names": [str(file.path) for file in self.files[:PLACES]],
            "size_bytes": sum(file.size for file in self.files),
            "kind": self.files[0].kind,
            "shape": layout.shape,
            "encodings": sorted({one.encoding for one in self.layouts}),
            "line_ends": sorted({one.line_ends for one in self.layouts}),
            "delimiter": layout.delimiter,
            "rows": table.rows,
            "columns": self._columns(table),
            "column_count": len(table.columns),
            "mapped_columns": self._columns(mapped) if mapped is not table else None,
            "usable": mapped.usable(),
            "format": found,
            "conversational": any(mapped.columns[name].kind(loose=mapped.loose) == "turns" for name in required),
            "problems": self.problems.records(_names([file.path for file in self.files])),
            "duplicates_checked": None if not self.seen.full else self.seen.limit,
        }

    def _columns(self, table: Table) -> list[dict[str, Any]]:
        columns = list(table.columns.values())[:_COLUMNS_SHOWN]
        return [column.record(table.rows, loose=table.loose) for column in columns]

    def _one_object(self) -> None:
        """Call out a file that is one object around its rows, as SQuAD is written."""
        if self.table.rows == 1 and self.layouts[0].shape in ("jsonl", "objects"):
            for column in self.table.columns.values():
                if column.name in ("data", "rows", "examples", "train", "items", "dataset") and (
                    column.kinds["objects"] or column.kinds["turns"]
                ):
                    self.problems.add("one_object", (0, 1), column.name)

    def _nothing_mapped(self) -> DataFileError:
        there = ", ".join(list(self.table.columns)[:20])
        failed = [problem.subject for (code, _), problem in self.problems.found.items() if code == "mapping_failed"]
        return DataFileError(
            "wrong_columns",
            f"The mapping fits no row: {'; '.join(failed[:3])}. The columns are: {there}.",
            next_step="Name columns that are there; without columns and turns "
            f"inspect_dataset(path={self.asked['path']!r}) proposes mappings.",
        )


def _names(paths: list[Path]) -> list[str]:
    """Short names that tell the files apart: the part below their common folder."""
    if len(paths) == 1:
        return [paths[0].name]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]
