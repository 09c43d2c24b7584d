"""Whether the data can be planned with: a typed error with the call that would be right, or their numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ...executors.errors import ConfigError, DataError, LimitError
from ...trainer.contract import METHODS, available_methods
from ..data.results import InspectResult, Mapping, Problem
from .lengths import Lengths, guess_lengths

#: Problems at which reading the data stops.
_UNREADABLE = frozenset(
    {"broken_json", "broken_csv", "row_not_object", "row_too_long", "ragged_rows", "lone_surrogate", "one_object"}
)


@dataclass(frozen=True)
class Data:
    """What planning needs of the data."""

    rows: int
    lengths: Lengths
    line: str
    """For people."""
    conversational: bool = False
    eval_rows: int | None = None
    warnings: tuple[str, ...] = ()


def method_for(asked: str, found: InspectResult, dataset: str) -> str:
    """The method: as asked, or what the data's format is for.

    Raises:
        ConfigError: `method_unavailable`: the data are for methods that this version doesn't train.
        DataError, LimitError: as `check_data`, where no method can be told.
    """
    if asked != "auto":
        return asked
    if found.format is None or found.run_id is not None:
        return available_methods()[0]
    fitting = [method for method in METHODS.values() if found.format in method.formats]
    trained = [method.name for method in fitting if method.module is not None]
    if trained:
        return trained[0]
    instead = {"preference": {"prompt": "prompt", "completion": "chosen"}}
    instead["unpaired_preference"] = {"prompt": "prompt", "completion": "completion"}
    columns = instead.get(found.format)
    step = (
        f"plan_training(dataset={dataset!r}, method='sft', columns={json.dumps(columns)}) trains on the good answers."
    )
    raise ConfigError(
        "method_unavailable",
        f"{dataset} holds {found.format} rows, which are for {', '.join(method.name for method in fitting)}; none of "
        f"these is in this version yet. It trains {', '.join(available_methods())}.",
        next_step=step if columns else f"inspect_dataset(path={dataset!r}) shows what each method needs.",
    )


def check_data(found: InspectResult, method: str, dataset: str) -> Data:
    """The data's numbers.

    Raises:
        LimitError: `timed_out`: they are still being read, as a run.
        DataError: `empty_dataset`, `bad_format`, `wrong_columns`, `all_masked`.
    """
    if found.run_id is not None:
        raise LimitError(
            "timed_out",
            f"{dataset} is large and still being read, as run {found.run_id}.",
            next_step=f"get_run(run_id={found.run_id!r}, wait_seconds=45) waits; then the same plan_training again.",
        )
    if not found.rows:
        raise DataError(
            "empty_dataset", f"{dataset} holds no rows.", next_step=f"inspect_dataset(path={dataset!r}) shows why."
        )
    for problem in found.problems:
        _refuse(problem, dataset)
    if found.format not in METHODS[method].formats:
        raise _wrong_columns(found, method, dataset)
    lengths = _lengths(found)
    errors = [problem for problem in found.problems if problem.severity == "error"]
    warnings = [
        f"data: {problem.message} ({problem.count:,} times{_first(problem)}). {problem.advice}"
        for problem in errors[:4]
    ]
    if not lengths.measured:
        warnings.append("token lengths are guessed from the file's size: memory and time may be off by a factor of two")
    return Data(
        rows=found.rows,
        lengths=lengths,
        line=_line(found, lengths, dataset),
        conversational=found.conversational,
        warnings=tuple(warnings),
    )


def _refuse(problem: Problem, dataset: str) -> None:
    if problem.severity != "error":
        return
    if problem.code == "all_masked":
        step = f"{problem.advice} Then plan_training(dataset={dataset!r}) again."
        raise DataError("all_masked", f"{dataset}: {problem.message}.", next_step=step)
    if problem.code in _UNREADABLE:
        raise DataError(
            "bad_format",
            f"{dataset}: {problem.message}, {problem.count:,} times{_first(problem)}.",
            next_step=f"{problem.advice} inspect_dataset(path={dataset!r}) lists the places; then plan_training again.",
        )


def _first(problem: Problem) -> str:
    return f", first at {problem.places[0]}" if problem.places else ""


def _wrong_columns(found: InspectResult, method: str, dataset: str) -> DataError:
    needs = " or ".join(f"{name}" for name in METHODS[method].formats)
    names = ", ".join(column.name for column in found.columns[:12])
    said = f"{dataset} has the columns {names}" + (f" (format {found.format})" if found.format else "")
    mapping = next((one for one in found.mappings if method in one.methods), None)
    if mapping is None:
        step = f"inspect_dataset(path={dataset!r}, method={method!r}) shows what is missing; columns= maps names."
    else:
        said += f"; a mapping is proposed ({mapping.reason})"
        step = f"If that is what they mean: plan_training(dataset={dataset!r}, {_arguments(mapping)})"
    return DataError("wrong_columns", f"{said}. {method} needs rows of {needs}.", next_step=step)


def _arguments(mapping: Mapping) -> str:
    """The mapping as arguments of plan_training."""
    parts: list[str] = []
    if mapping.entry.columns is not None:
        parts.append(f"columns={json.dumps(mapping.entry.columns, ensure_ascii=False)}")
    if mapping.entry.turns is not None:
        parts.append(f"turns={mapping.entry.turns.model_dump_json(exclude_defaults=True)}")
    return ", ".join(parts)


def _lengths(found: InspectResult) -> Lengths:
    tokens = found.tokens
    if tokens is None:
        return guess_lengths(found.size_bytes, found.rows or 1)
    return Lengths(
        mean=max(1.0, tokens.mean),
        p50=max(1, tokens.p50),
        p95=max(1, tokens.p95),
        p99=max(1, tokens.p99),
        max=max(1, tokens.max),
        sample=tokens.sample,
    )


def _line(found: InspectResult, lengths: Lengths, dataset: str) -> str:
    told = f"{dataset}, {found.rows:,} rows of {found.format}"
    spread = f"mean {lengths.mean:.0f}, p99 {lengths.p99:.0f}, max {lengths.max:.0f} tokens"
    if lengths.measured:
        return f"{told}; {spread} ({lengths.sample:,} rows measured)"
    return f"{told}; about {lengths.mean:.0f} tokens per row (guessed from {found.size_bytes:,} bytes)"
