"""The scan's record as an answer: what each method would need, which mappings fit, what comes next."""

from __future__ import annotations

from typing import Any

from ...trainer.contract import FORMATS, METHODS, DataFormat, available_methods
from ..untrusted import clean
from .mappings import Source, propose
from .results import ColumnInfo, InspectResult, Mapping, MethodFit, Problem

_COLUMNS, _PROBLEMS = 40, 20


def report(path: str, split: str | None, method: str | None, found: dict[str, Any], applied: str = "") -> InspectResult:
    """The answer to a finished scan of `path`; `applied` are the mapping's arguments, as a call takes them."""
    mapped = found["mapped_columns"] is not None
    sources = [_source(column) for column in found["columns"]]
    usable: list[str] = found["usable"]
    mappings = [] if mapped else propose(path, split, sources, usable)
    problems = [_problem(record) for record in found["problems"][:_PROBLEMS]]
    fits = [_fit(name, usable) for name in METHODS]
    notes: list[str] = []
    if mapped:
        notes.append("columns and turns were applied: format, methods and problems are those of the mapped rows")
    if found["column_count"] > _COLUMNS:
        notes.append(f"showing {_COLUMNS} of {found['column_count']:,} columns")
    if found["duplicates_checked"] is not None:
        notes.append(f"repeats were looked for among the first {found['duplicates_checked']:,} different rows")
    return InspectResult(
        path=path,
        run_id=None,
        rows=found["rows"],
        size_bytes=found["size_bytes"],
        files=found["files"],
        written=_written(found),
        format=found["format"],
        conversational=found["conversational"],
        revision=found.get("commit"),
        columns=[_column(record) for record in (found["mapped_columns"] or found["columns"])[:_COLUMNS]],
        methods=fits,
        mappings=mappings,
        problems=problems,
        notes=notes,
        next_step=_next_step(path, method, fits, mappings, problems, applied=applied if mapped else ""),
    )


def _source(record: dict[str, Any]) -> Source:
    keys = record["turn_keys"]
    return Source(record["name"], record["kind"], (keys[0], keys[1]) if keys else None, record["roles"])


def _column(record: dict[str, Any]) -> ColumnInfo:
    return ColumnInfo(
        name=clean(record["name"], 80),
        kind=record["kind"],
        nulls=record["nulls"],
        missing=record["missing"],
        empties=record["empties"],
        longest=record["longest"],
        roles={clean(role, 40): count for role, count in record["roles"].items()},
    )


def _problem(record: dict[str, Any]) -> Problem:
    texts = {name: clean(record[name], 300) for name in ("message", "detail", "advice")}
    places = [clean(place, 120) for place in record["places"]]
    return Problem(code=record["code"], severity=record["severity"], count=record["count"], places=places, **texts)


def _fit(name: str, usable: list[str]) -> MethodFit:
    """Whether a method can train on rows with these columns, and else what is missing to its nearest format."""
    method = METHODS[name]
    formats = [FORMATS[each] for each in method.formats]
    fitting = next((each for each in formats if each.fits(usable)), None)

    def lacking(each: DataFormat) -> list[str]:
        return [column for column in each.required if column not in usable]

    nearest = min(formats, key=lambda each: len(lacking(each)))
    return MethodFit(
        method=name,
        ok=fitting is not None,
        format=fitting.name if fitting is not None else None,
        missing=[] if fitting is not None else lacking(nearest),
        available=method.module is not None,
    )


def _written(found: dict[str, Any]) -> str:
    kinds = {"jsonl": "JSONL", "json": "JSON", "csv": "CSV", "tsv": "TSV", "parquet": "Parquet"}
    parts = [kinds[found["kind"]]]
    if found["delimiter"] not in (None, ",", "\t"):
        parts[0] += f" with {found['delimiter']!r}"
    if found["kind"] != "parquet":
        parts.append(" and ".join(found["encodings"]))
        if found["line_ends"] != ["LF"]:
            parts.append("line ends " + " and ".join(found["line_ends"]))
    return ", ".join(parts)


def _next_step(
    path: str,
    method: str | None,
    fits: list[MethodFit],
    mappings: list[Mapping],
    problems: list[Problem],
    *,
    applied: str,
) -> str:
    worst = next((problem for problem in problems if problem.severity == "error"), None)
    fitting = [
        fit.method for fit in fits if fit.ok and fit.method in (available_methods() if method is None else [method])
    ]
    if worst is not None and worst.code != "wrong_columns" and (fitting or not mappings):
        at = f" (first at {worst.places[0]})" if worst.places else ""
        return f"{worst.advice}{at} Then inspect_dataset(path={path!r}) again."
    suited = [mapping for mapping in mappings if method is None or method in mapping.methods]
    if not fitting and suited:
        entry = suited[0].entry.model_dump(exclude_defaults=True, exclude={"path", "split"})
        given = ", ".join(f"{name}={value!r}" for name, value in entry.items())
        return f"inspect_dataset(path={path!r}, {given}) looks at the rows mapped as {suited[0].name}."
    if not fitting:
        return "Rename the columns to what the method needs, or name them with columns={ours: theirs}."
    more = f", {applied}" if applied else ""
    return f"plan_training(dataset={path!r}, method={(method or fitting[0])!r}{more}) plans a training on it."
