"""Resources: a run's state, config and metrics, and the guide to the methods.

`{run_id}` arrives decoded (`%2F` too), so every id passes `Home.run`, which joins none to a path that isn't ours.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from ..executors.errors import ArgumentError, ModelTrainerError, RunError
from ..executors.paths import RUN_ID, RunPaths
from ..executors.states import RunState
from ..services.app import App
from ..services.result import Frozen
from ..services.runs import life as runs
from ..services.runs.view import harmless_state
from ..tools.spec import Opened
from ..trainer import records
from ..trainer.contract import FORMATS, METHODS

if TYPE_CHECKING:
    from .app import ModelTrainerServer

T = TypeVar("T")

RUN = "model-trainer://runs/{run_id}"
CONFIG = f"{RUN}/config"
METRICS = f"{RUN}/metrics"
METHODS_URI = "model-trainer://methods"

#: Metric rows that one reading shows, and the bytes of the file's end that they are taken from.
_ROWS = 100
_TAIL_BYTES = 256_000
_CONFIG_BYTES = 64_000


class RunDocument(Frozen):
    """How a run stands, and where its files lie."""

    run_id: str
    kind: str
    state: RunState
    attempt: int
    folder: str
    config: str
    metrics: str
    log: str
    checkpoints: str
    output: str


class MetricsDocument(Frozen):
    """The newest rows of the newest attempt."""

    run_id: str
    attempt: int
    rows: list[dict[str, Any]]
    note: str


def register(server: ModelTrainerServer, opened: Opened) -> None:
    """Add the resources to the server."""

    # Plain functions: the SDK runs them in a worker thread, where reading files holds nobody up.
    def run(run_id: str) -> str:
        app = _app(opened)
        found = app.home.run(run_id)
        attempt = found.latest_attempt()
        asked = runs.read_record(found.run_json) or {}
        return RunDocument(
            run_id=found.id,
            kind=str(asked.get("kind", "unknown")),
            state=harmless_state(runs.settled_state(app, found)),
            attempt=attempt.number,
            folder=str(found.root),
            config=str(_config_file(found)),
            metrics=str(attempt.metrics),
            log=str(attempt.log),
            checkpoints=str(found.checkpoints),
            output=str(found.output),
        ).model_dump_json(indent=1)

    def config(run_id: str) -> str:
        found = _app(opened).home.run(run_id)
        try:
            with _config_file(found).open("rb") as file:
                return file.read(_CONFIG_BYTES).decode(errors="replace")
        except FileNotFoundError:
            raise RunError(
                "run_not_found",
                f"The run {run_id!r} has no config: it trains nothing.",
                next_step=f"get_run(run_id={run_id!r}) shows what it is.",
            ) from None

    def metrics(run_id: str) -> str:
        found = _app(opened).home.run(run_id)
        attempt = found.latest_attempt()
        rows, whole = _last_rows(attempt.metrics)
        shown = rows[-_ROWS:]
        what = f"all {len(shown)} rows" if whole and len(rows) <= _ROWS else f"the last {len(shown)} rows"
        return MetricsDocument(
            run_id=found.id,
            attempt=attempt.number,
            rows=shown,
            note=f"Showing {what}; tail_metrics(run_id={run_id!r}) tells what is new and how healthy the curve is.",
        ).model_dump_json()

    yaml = "application/yaml"
    server.resource(RUN, name="run", title="A run", mime_type="application/json", description=RunDocument.__doc__)(run)
    server.resource(CONFIG, name="run_config", title="A run's config", mime_type=yaml, description="As it trains.")(
        config
    )
    server.resource(
        METRICS,
        name="run_metrics",
        title="A run's metrics",
        mime_type="application/json",
        description=MetricsDocument.__doc__,
    )(metrics)
    server.resource(
        METHODS_URI,
        name="methods",
        title="Training methods",
        mime_type="text/markdown",
        description="Each method: what it trains on, whose arguments it takes, whether this version trains it.",
    )(method_guide)


async def read(work: Awaitable[T], uri: object) -> T:
    """What the SDK reads; an address that is none of ours becomes a typed error."""
    try:
        return await work
    except ResourceNotFoundError:
        raise ArgumentError(
            "invalid_arguments",
            f"There is no resource {str(uri)[:120]!r}.",
            next_step=f"Resources are {METHODS_URI}, {RUN}, {CONFIG} and {METRICS}; list_runs() shows the run ids.",
        ) from None


def run_ids(app: App) -> list[str]:
    """Ids of all runs, the newest first."""
    with os.scandir(app.home.runs) as entries:
        found = [(e.stat().st_mtime, e.name) for e in entries if RUN_ID.fullmatch(e.name) and e.is_dir()]
    return [name for _, name in sorted(found, reverse=True)]


def method_guide() -> str:
    """The guide to the methods, as Markdown, from the table that the trainer itself uses."""
    lines = ["# Training methods", ""]
    for method in METHODS.values():
        state = "trains in this version" if method.module is not None else "not in this version yet"
        lines.append(f"## {method.name}: {method.title} ({state})")
        for name in method.formats:
            form = FORMATS[name]
            optional = f" (optional: {', '.join(form.optional)})" if form.optional else ""
            lines.append(f"- rows of format {name}: columns {', '.join(form.required)}{optional}")
        full, lora = method.learning_rates
        lines.append(f"- `training` takes the fields of {method.config_class}")
        lines.append(f"- learning rates to start from: {full:g} for all weights, {lora:g} for LoRA")
        lines.append("")
    return "\n".join(lines)


def _app(opened: Opened) -> App:
    if isinstance(opened, ModelTrainerError):
        raise type(opened)(opened.code, opened.message, next_step=opened.next_step)
    return opened


def _config_file(run: RunPaths) -> Path:
    latest = run.latest_attempt().config
    return latest if latest.is_file() else run.config


def _last_rows(path: Path) -> tuple[list[records.Record], bool]:
    """Rows from the end of the file, and whether that is all of it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return [], True
    whole = size <= _TAIL_BYTES
    if not whole:
        data = data.partition(b"\n")[2]
    return list(records.parse_lines(data[: data.rfind(b"\n") + 1])), whole
