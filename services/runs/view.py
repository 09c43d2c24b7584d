"""How one run stands, for people and agents: status, progress, outcome, and how to use what it made."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ...executors import states
from ...executors.paths import RunPaths
from ...executors.states import RunState
from ...trainer import records
from ..app import App, Progress, no_progress
from ..result import Frozen, Result
from ..untrusted import clean, quote
from . import life as runs
from . import logs, pruning
from .next_steps import next_step

#: What a failed run's log tail may take of an answer.
_LOG_TAIL = 600

#: Characters of a failure's detail, and recoveries that an answer names.
_DETAIL = 400
_RECOVERIES = 5


class RunProgress(Frozen):
    """How far a run is."""

    step: int
    total_steps: int | None
    message: str
    eta_seconds: Annotated[float | None, Field(description="Seconds to the last step at the pace so far")] = None


class RunView(Result):
    run_id: str
    kind: str
    state: Annotated[RunState, Field(description="What is true now; only the fields of its status")]
    created: str
    elapsed_seconds: float | None = None
    attempt: int
    method: str | None = None
    model: str | None = None
    parent: Annotated[str | None, Field(description="The run that this one resumed")] = None
    resumed_from_step: Annotated[int | None, Field(description="Step at which it went on with its parent")] = None
    data_changed: Annotated[list[str], Field(description="Data files that changed since the parent trained")] = []
    dropped_rows: Annotated[int, Field(description="Training rows of which max_length left nothing to learn")] = 0
    recoveries: Annotated[list[str], Field(description="What was recovered by itself, each a new attempt")] = []
    progress: RunProgress | None = None
    metrics: Annotated[dict[str, float], Field(description="Measured by the trainer at the end")] = {}
    output: Annotated[str | None, Field(description="Absolute path of the model or adapter")] = None
    load: Annotated[list[str], Field(description="Python lines that load the output")] = []
    published: Annotated[str | None, Field(description="Where a push put its bundle, verified there")] = None
    log_tail: Annotated[str | None, Field(description="Last lines of a failed run's log: untrusted text")] = None
    pruned: Annotated[str | None, Field(description="When its checkpoints were removed to make room")] = None
    folder: str

    def body(self) -> str:
        lines = [f"Run {self.run_id} ({self.method or self.kind}, attempt {self.attempt}): {_say(self.state)}"]
        if self.parent:
            step = "" if self.resumed_from_step is None else f" from step {self.resumed_from_step}"
            lines.append(f"It goes on with {self.parent}{step}")
        if self.data_changed:
            lines.append(f"Its data changed since: {', '.join(self.data_changed)}")
        if self.dropped_rows:
            lines.append(
                f"Warning: {self.dropped_rows:,} training rows were dropped: cut to training.max_length, nothing of "
                "them is left to learn"
            )
        lines += [f"Recovered: {one}" for one in self.recoveries]
        if self.progress is not None and not states.is_over(self.state):
            eta = self.progress.eta_seconds
            lines.append(self.progress.message + (f", about {eta:.0f} s left" if eta is not None else ""))
        if self.elapsed_seconds is not None:
            lines.append(
                f"{self.elapsed_seconds:.0f} s so far"
                if not states.is_over(self.state)
                else f"took {self.elapsed_seconds:.0f} s"
            )
        if self.metrics:
            lines.append(", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items()))
        if self.output:
            lines += [f"Output: {self.output}", *self.load]
        if self.pruned:
            lines.append(f"Its checkpoints were removed on {self.pruned[:10]} (`model-trainer runs prune`)")
        if self.published:
            lines.append(f"Published: {self.published}")
        if self.log_tail:
            lines.append(f"Log, untrusted: {self.log_tail}")
        return "\n".join(lines)


async def get(app: App, run_id: str, *, wait_seconds: float = 0, progress: Progress = no_progress) -> RunView:
    """How the run stands, after waiting up to `wait_seconds` for its end.

    Raises:
        RunError: there is no such run.
    """
    run = app.home.run(run_id)
    if wait_seconds > 0:
        await runs.wait(app, run, seconds=wait_seconds, progress=progress)
    return await anyio.to_thread.run_sync(_view, app, run)


def _view(app: App, run: RunPaths) -> RunView:
    asked = runs.asked(run)
    state = harmless_state(runs.settled_state(app, run))
    result = runs.read_result(run) or {}
    request: dict[str, Any] = asked.get("request", {})
    succeeded = state.status == "succeeded"
    output: dict[str, Any] = result.get("output") or {}
    measured: dict[str, float | None] = result.get("metrics") or {}
    rows: dict[str, int] = result.get("rows") or {}
    shows_output = succeeded and "path" in output
    return RunView(
        run_id=run.id,
        kind=asked["kind"],
        state=state,
        created=str(asked.get("created", "")),
        elapsed_seconds=_elapsed(run, asked, state),
        attempt=run.latest_attempt().number,
        method=request.get("method"),
        model=request.get("model"),
        parent=asked.get("parent"),
        resumed_from_step=result.get("resumed", {}).get("step"),
        data_changed=result.get("data_changed", []),
        dropped_rows=rows.get("dropped", 0),
        recoveries=_recoveries(run),
        progress=_progress(run),
        metrics={name: value for name, value in measured.items() if value is not None},
        output=output["path"] if shows_output else None,
        load=_load_lines(output, str(request.get("model"))) if shows_output else [],
        published=_published(result.get("published")) if succeeded else None,
        log_tail=_log_tail(run) if state.status in ("failed", "lost") else None,
        pruned=pruning.pruned_at(run),
        folder=str(run.root),
        next_step=next_step(run, asked, state),
    )


def harmless_state(state: RunState) -> RunState:
    """The state with what others wrote made fit to quote: an exception may hold a token, a process any name."""
    if isinstance(state, states.Failed):
        return state.model_copy(update={"detail": quote(state.detail, _DETAIL)})
    if isinstance(state, states.Queued | states.Stopping):
        return state.model_copy(update={"why": clean(state.why, _DETAIL)})
    return state


def _say(state: RunState) -> str:
    match state:
        case states.Succeeded():
            return f"succeeded ({state.ended_by})"
        case states.Failed():
            return f"failed: {state.reason}" + (f" — {state.detail}" if state.detail else "")
        case states.Lost():
            return f"lost: {state.reason}"
        case states.Queued():
            return f"queued, position {state.position}: {state.why}"
        case states.Stopping():
            return f"stopping ({state.why})"
        case _:
            return state.status


def _recoveries(run: RunPaths) -> list[str]:
    """The newest recoveries, a line each: why, where, and what the new attempt does differently."""
    rows = [row for row in records.read_lines(run.events)[0] if row.get("event") == "recovering"]
    lines = [
        f"attempt {row.get('attempt')}, after {row.get('reason')}"
        + (f" at step {row['step']}" if row.get("step") is not None else "")
        + f": {clean(str(row.get('does')), 300)}"
        for row in rows[-_RECOVERIES:]
    ]
    more = len(rows) - len(lines)
    return [*([f"{more} earlier ones"] if more else []), *lines]


def _progress(run: RunPaths) -> RunProgress | None:
    said = runs.read_progress(run)
    if said is None:
        return None
    return RunProgress(
        step=said["done"],
        total_steps=said["total"],
        message=clean(str(said["message"]), 200),
        eta_seconds=said.get("eta_seconds"),
    )


def _elapsed(run: RunPaths, asked: dict[str, Any], state: RunState) -> float | None:
    """Seconds from launch to the end by the supervisor's clock; while it lives, to now."""
    if states.is_over(state):
        record = runs.read_record(run.exit_json)
        seconds = (record or {}).get("seconds")
        return seconds if isinstance(seconds, int | float) else None
    ago = runs.began(asked)
    return None if ago is None else max(0.0, round(ago, 1))


def _load_lines(output: dict[str, Any], model: str) -> list[str]:
    path = output["path"]
    if output.get("kind") == "adapter":
        cls = "AutoPeftModelForCausalLM"
        lines = [f"from peft import {cls}; from transformers import AutoTokenizer"]
    else:
        cls = "AutoModelForCausalLM"
        lines = [f"from transformers import {cls}, AutoTokenizer"]
    return [
        *lines,
        f"model = {cls}.from_pretrained({path!r})" + (f"  # base: {model}" if output.get("kind") == "adapter" else ""),
        f"tokenizer = AutoTokenizer.from_pretrained({path!r})",
    ]


def _published(record: dict[str, Any] | None) -> str | None:
    if record is None:
        return None
    at = f" at commit {record['commit']}, {'private' if record['private'] else 'public'}" if "commit" in record else ""
    kept = f"; what was there is kept as {record['kept']}" if record.get("kept") else ""
    return f"{record['where']}{at}; {record['files']} files{kept}"


def _log_tail(run: RunPaths) -> str | None:
    lines = logs.read(run.latest_attempt().log, None, 6, None).lines
    return "\n".join(lines)[-_LOG_TAIL:] or None
