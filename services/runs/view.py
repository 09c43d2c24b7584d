"""How one run stands, for people and agents: status, progress, outcome, and how to use what it made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ...executors import states
from ...executors.paths import RunPaths
from ...executors.states import RunState
from ..app import App, Progress, no_progress
from ..calls import as_call
from ..result import Frozen, Result
from ..untrusted import clean, quote
from . import life as runs
from . import logs

#: What a failed run's log tail may take of an answer.
_LOG_TAIL = 600

#: Characters of a failure's detail.
_DETAIL = 400


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
    progress: RunProgress | None = None
    metrics: Annotated[dict[str, float], Field(description="Measured by the trainer at the end")] = {}
    output: Annotated[str | None, Field(description="Absolute path of the model or adapter")] = None
    load: Annotated[list[str], Field(description="Python lines that load the output")] = []
    published: Annotated[str | None, Field(description="Where a push put its bundle, verified there")] = None
    log_tail: Annotated[str | None, Field(description="Last lines of a failed run's log: untrusted text")] = None
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
    await anyio.to_thread.run_sync(runs.settled_state, app, run)
    return await anyio.to_thread.run_sync(_view, run)


def _view(run: RunPaths) -> RunView:
    asked = runs.asked(run)
    state = harmless_state(states.read_state(run))
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
        progress=_progress(run),
        metrics={name: value for name, value in measured.items() if value is not None},
        output=output["path"] if shows_output else None,
        load=_load_lines(output, str(request.get("model"))) if shows_output else [],
        published=_published(result.get("published")) if succeeded else None,
        log_tail=_log_tail(run) if state.status in ("failed", "lost") else None,
        folder=str(run.root),
        next_step=_next(run, asked, state),
    )


def _after_push(call: dict[str, Any], state: RunState) -> str:
    """What comes after a push; `call` are the arguments of push_adapter that it was made by."""
    if state.status == "succeeded":
        return f"get_run(run_id={call['run_id']!r}) shows the run that trained it."

    def push_adapter(**more: object) -> str:
        visibility = None if call["visibility"] == "private" else call["visibility"]
        return as_call("push_adapter", **{**call, "visibility": visibility, **more})

    look = push_adapter(confirm=None, dry_run=True)
    match state:
        case states.Failed(reason="auth"):
            return f"The human runs `hf auth login` with write access; then {push_adapter()} goes on."
        case states.Failed(reason="budget"):
            return f"The human settles it with the Hub (billing, storage); then {push_adapter()} goes on."
        case states.Failed(reason="guard" | "bad_data" | "incomplete"):
            return f"{look} shows what would go out now, and needs a new yes."
        case states.Cancelled():
            return f"{look} says whether it got there all the same, and needs a new yes."
        case _:
            return f"{push_adapter()} goes on: what is there already is not sent again; {look} says what is there."


def harmless_state(state: RunState) -> RunState:
    """The state with what an exception said made fit to quote: it may hold a token or a terminal code."""
    return state.model_copy(update={"detail": quote(state.detail, _DETAIL)}) if state.status == "failed" else state


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
    """Seconds from launch to the end by the supervisor's clock; while it lives, by the wall clock."""
    if states.is_over(state):
        record = runs.read_record(run.exit_json)
        seconds = (record or {}).get("seconds")
        return seconds if isinstance(seconds, int | float) else None
    created = runs.began(asked)
    return None if created is None else max(0.0, round((datetime.now(UTC) - created).total_seconds(), 1))


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


def _next(run: RunPaths, asked: dict[str, Any], state: RunState) -> str:
    run_id, config = run.id, run.config
    if not states.is_over(state):
        return f"get_run(run_id={run_id!r}, wait_seconds=45) waits for its end."
    if asked["kind"] == "push":
        return _after_push(asked["request"]["call"], state)
    if asked["kind"] == "inspect":
        return (
            "inspect_dataset with the same arguments answers from this run."
            if state.status == "succeeded"
            else ("Correct the data and call inspect_dataset again.")
        )
    match state:
        case states.Succeeded():
            return (
                f"sample_model(run_id={run_id!r}, prompts=[…]) compares it with the base; "
                f"tail_metrics(run_id={run_id!r}) shows how it learned."
            )
        case states.Failed(reason="bad_config" | "bad_data"):
            return f"write_config(run={run_id!r}, path=…, overrides={{…}}) corrects the config, then launch_run."
        case states.Failed(reason="auth"):
            return (
                "The Hub didn't let the run see its model or data: check their names; the human requests access or "
                "runs `hf auth login` (runs find the token's file). Then "
                f"launch_run(config={str(config)!r}, again=True)."
            )
        case states.Failed(reason="communication"):
            return f"When the Hub can be reached again: launch_run(config={str(config)!r}, again=True)."
        case states.Failed(reason="diverged"):
            return (
                f"Lower training.learning_rate: write_config(run={run_id!r}, path=…, overrides={{…}}), then launch_run."
            )
        case states.Failed(reason="oom_gpu" | "oom_host"):
            return (
                f"Halve training.per_device_train_batch_size and double gradient_accumulation_steps: "
                f"write_config(run={run_id!r}, path=…, overrides={{…}}), then launch_run."
            )
        case states.Failed():
            return f"tail_logs(run_id={run_id!r}) shows more; then write_config(run={run_id!r}, …) and launch_run."
        case _:
            return (
                f"resume_run(run_id={run_id!r}) goes on from its last checkpoint, if it has one; "
                f"write_config(run={run_id!r}, path=…) takes its config for a new run."
            )
