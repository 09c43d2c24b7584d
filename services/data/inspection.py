"""Inspect a dataset: the scan as a run of its own, then, with a model, how its rows are rendered and masked."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from ...executors import host, states
from ...executors.errors import (
    ArgumentError,
    ConfigError,
    DataError,
    EnvironmentFault,
    LimitError,
    ModelTrainerError,
)
from ...executors.paths import RunPaths
from ...trainer import contract
from ...trainer.scan_files import DataFileError, format_of, list_files
from ..app import App, Progress, no_progress
from ..configs.schema import Turns
from ..environment.children import call_trainer
from ..environment.environments import TrainingEnvironment, look_for_environment
from ..runs import life as runs
from ..untrusted import clean
from .report import report
from .results import Example, InspectResult, Problem, TokenLengths

#: How long a call lasts in all, and how long of that it waits for the scan.
ANSWER_SECONDS = 44.0
SCAN_SECONDS = 40.0
#: Rendering is not begun with less left: it would hardly end in time.
PREVIEW_LEAST_SECONDS = 10.0

#: Characters of a mapping that an answer repeats.
_MAPPING = 600

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
#: One more whenever the scan finds other things in the same data, so that old answers aren't given again.
_SCAN_VERSION = 1


@dataclass(frozen=True)
class InspectRequest:
    """What to look at, and as what."""

    path: str
    """File, folder, glob or Hub id."""
    split: str | None = None
    revision: str | None = None
    model: str | None = None
    """Hub id or folder, for token lengths and examples."""
    method: str | None = None
    columns: dict[str, str | list[str]] | None = None
    turns: Turns | None = None


async def inspect(app: App, request: InspectRequest, *, progress: Progress = no_progress) -> InspectResult:
    """What the data are and what is wrong with them.

    The scan is a run of kind `inspect`: asked again for unchanged data it answers from that run, and what isn't done
    in time goes on under its id.

    Raises:
        ArgumentError: a relative path without a workspace.
        ConfigError: no such method.
        DataError: there is nothing to read, or nobody could.
        EnvironmentFault: reading it takes what isn't installed or can't be reached.
    """
    if request.method is not None and request.method not in contract.METHODS:
        raise ConfigError(
            "unknown_method",
            f"There is no method {request.method!r}; methods are {', '.join(contract.METHODS)}.",
            next_step=f"inspect_dataset(path={request.path!r}) shows which of them the rows fit.",
        )
    until = host.monotonic() + ANSWER_SECONDS
    environment, problem = await anyio.to_thread.run_sync(_environment, app)
    asked, size = await anyio.to_thread.run_sync(partial(_asked, app, request))
    python = environment.python if environment is not None else Path(sys.executable)
    run = await _scan(app, asked, python)
    state = await runs.wait(app, run, seconds=SCAN_SECONDS, progress=progress)
    if not states.is_over(state):
        return _unfinished(request, run, size)
    found = runs.read_result(run)
    if found is None or found.get("outcome") != "succeeded":
        raise _failure(request, run, found)
    result = report(request.path, request.split, request.method, found, _applied(request))
    return await _with_preview(app, request, result, found, environment, problem, until - host.monotonic())


def _applied(request: InspectRequest) -> str:
    """The mapping that was tried, as the arguments of a call."""
    turns = request.turns.model_dump(exclude_defaults=True) if request.turns is not None else None
    given = {"split": request.split, "columns": request.columns, "turns": turns}
    told = {name: repr(value) for name, value in given.items() if value is not None}
    return ", ".join(f"{name}={value if len(value) <= _MAPPING else '…'}" for name, value in told.items())


def _environment(app: App) -> tuple[TrainingEnvironment | None, str]:
    """The training environment if it is complete, and else why there is none."""
    try:
        environment = look_for_environment(app)
    except EnvironmentFault as error:
        return None, error.message
    if environment is None:
        return None, "no training environment is installed (`model-trainer setup` makes one)"
    if environment.missing:
        return None, f"the training environment lacks {', '.join(environment.missing)}"
    return environment, ""


def _asked(app: App, request: InspectRequest) -> tuple[dict[str, Any], int]:
    """The scan's request, with what tells the data from other data; and their size.

    Raises:
        ArgumentError, DataError: as `inspect`.
    """
    asked: dict[str, Any] = {
        "split": request.split,
        "revision": request.revision,
        "method": request.method,
        "columns": request.columns,
        "turns": request.turns.model_dump() if request.turns is not None else None,
        "scan": _SCAN_VERSION,
    }
    if _is_on_hub(app, request.path):
        return {**asked, "path": request.path, "hub": True}, 0
    path = app.resolve(request.path)
    try:
        files = list_files(path, request.split)
    except DataFileError as error:
        raise _typed(error.code, error.message, error.next_step) from error
    stamps = [(str(file.path), file.size, file.path.stat().st_mtime_ns) for file in files]
    return {**asked, "path": str(path), "stamps": stamps[:1000], "files": len(files)}, sum(file.size for file in files)


def _is_on_hub(app: App, path: str) -> bool:
    """Whether a path means a data set on the Hub: `owner/name`, with no such file or folder, nor a folder `owner`."""
    if not _HUB_ID.fullmatch(path) or format_of(path) is not None:
        return False
    return app.workspace is None or not (app.workspace / path.split("/", maxsplit=1)[0]).exists()


async def _scan(app: App, asked: dict[str, Any], python: Path) -> RunPaths:
    """The run that scans, or has scanned, exactly this."""
    key = runs.request_key({**asked, "python": str(python)})
    if not asked.get("hub"):
        former = await anyio.to_thread.run_sync(runs.find_by_key, app, key, "inspect")
        if former is not None:
            state = states.read_state(former)
            found = runs.read_result(former) if states.is_over(state) else None
            if not states.is_over(state) or (found is not None and found.get("outcome") == "succeeded"):
                return former
    return await runs.start(app, runs.Launch(kind="inspect", python=python, label="inspect", request=asked, key=key))


def _unfinished(request: InspectRequest, run: RunPaths, size: int) -> InspectResult:
    return InspectResult(
        path=request.path,
        run_id=run.id,
        size_bytes=size,
        format=None,
        next_step=f"get_run(run_id={run.id!r}, wait_seconds=45) waits; then inspect_dataset with the same arguments "
        "answers from it.",
    )


def _failure(request: InspectRequest, run: RunPaths, found: dict[str, Any] | None) -> ModelTrainerError:
    error = found.get("error") if found is not None else None
    if error is not None:
        return _typed(error["code"], error["message"], error["next_step"])
    if found is None:
        return EnvironmentFault(
            "environment_incomplete",
            f"The inspection of {request.path} ended without a result.",
            next_step=f"get_run(run_id={run.id!r}) shows how it ended.",
        )
    detail = clean(str(found.get("detail")), 300)
    return DataError(
        "bad_format",
        f"{request.path} could not be inspected: {detail}",
        next_step=f"get_run(run_id={run.id!r}) shows how the inspection ended.",
    )


def _typed(code: str, message: str, next_step: str) -> ModelTrainerError:
    """The error of the tree that has this code."""
    family = next(one for one in (EnvironmentFault, LimitError, DataError) if code in one.CODES)
    return family(code, clean(message, 800), next_step=clean(next_step, 800))


async def _with_preview(
    app: App,
    request: InspectRequest,
    result: InspectResult,
    found: dict[str, Any],
    environment: TrainingEnvironment | None,
    problem: str,
    seconds: float,
) -> InspectResult:
    """The result with lengths and examples where they can be had, and else with a note why not."""
    if request.model is None:
        return result
    if environment is None:
        return _noted(result, f"no token lengths and examples: {problem}")
    if result.format not in contract.METHODS["sft"].formats:
        shown = "rows without a trainable format" if result.format is None else f"rows of format {result.format}"
        return _noted(result, f"no token lengths and examples: {shown} are not rendered in this version")
    if seconds < PREVIEW_LEAST_SECONDS:
        again = "ask again with the same arguments: the scan is done and answers at once"
        return _noted(result, f"no token lengths and examples: the scan took the whole answer time; {again}")
    try:
        folder = app.resolve(request.model)
    except ArgumentError:
        folder = None
    name = str(folder) if folder is not None and folder.is_dir() else request.model
    asked = {"model": {"name": name, "revision": None, "chat_template": None}, "sample": found["sample"]}
    try:
        seen = await call_trainer(app, environment.python, ["preview"], asked, seconds=seconds)
    except (LimitError, EnvironmentFault) as error:
        return _noted(result, f"no token lengths and examples: {clean(error.message, 500)}")
    return _rendered(result, seen, request.model)


def _noted(result: InspectResult, note: str) -> InspectResult:
    return result.model_copy(update={"notes": [*result.notes, note]})


def _rendered(result: InspectResult, seen: dict[str, Any], model: str) -> InspectResult:
    problems = _preview_problems(seen, model)
    update: dict[str, Any] = {"problems": [*problems, *result.problems]}
    worst = next((problem for problem in problems if problem.severity == "error"), None)
    if worst is not None:
        update["next_step"] = worst.advice
    if "tokens" in seen:
        update["tokens"] = TokenLengths(**seen["tokens"])
        update["examples"] = [
            Example(text=clean(one["text"], 600), tokens=one["tokens"], trained=one["trained"])
            for one in seen["examples"]
        ]
    return result.model_copy(update=update)


def _preview_problems(seen: dict[str, Any], model: str) -> list[Problem]:
    def problem(code: str, message: str, advice: str, *, count: int = 1, severity: str = "error") -> Problem:
        return Problem(code=code, severity=severity, count=count, message=message, detail="", places=[], advice=advice)

    match seen.get("problem"):
        case "no_chat_template":
            advice = (
                "Use the instruct variant of the model, or give a template file as model.chat_template in the config."
            )
            return [problem("no_chat_template", f"the rows are chats, and {model} has no chat template", advice)]
        case "no_eos_token":
            advice = "Set eos_token in the model's tokenizer_config.json: training needs an end."
            return [problem("no_eos_token", f"the tokenizer of {model} has no end-of-sequence token", advice)]
        case _:
            pass
    found: list[Problem] = []
    sample, masked = int(seen["tokens"]["sample"]), int(seen["masked_by_cut"])
    limit = f"training.max_length {seen['max_length']:,}, its default" if seen["max_length"] else "any length"
    if masked:
        what = "every row" if masked == sample else f"{masked:,} of {sample:,} rows"
        code, severity = ("all_masked", "error") if masked == sample else ("masked_rows", "warning")
        message = f"in {what} of the sample no token is trained within {limit}"
        advice = "Give each row an answer to learn, not only a prompt."
        if seen["masked_rows"] < masked:
            advice = "Raise training.max_length, or shorten the prompts: they fill the whole length."
        found.append(problem(code, message, advice, count=masked, severity=severity))
    if cut := int(seen["cut_rows"]):
        message = f"of {sample:,} sampled rows these are cut off at {limit}"
        advice = f"Set training.max_length (the longest has {seen['tokens']['max']:,} tokens), or shorten these rows."
        found.append(problem("cut_rows", message, advice, count=cut, severity="warning"))
    rows = seen["embedding_rows"]
    if rows is not None and seen["max_token_id"] >= rows:
        message = f"token id {seen['max_token_id']:,} is beyond the model's {rows:,} embedding rows"
        found.append(problem("token_beyond_embedding", message, "Use the tokenizer that came with the model."))
    return found
