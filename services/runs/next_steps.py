"""What comes after a run, by how it stands: the tool to call next, with its arguments."""

from __future__ import annotations

from typing import Any

from ...executors import states
from ...executors.paths import RunPaths
from ...executors.states import RunState
from ..calls import as_call

#: Reason of a failed training to what comes next; `{call}`: a call of write_config, `{resume}`: of resume_run,
#: `{again}`: of launch_run with the run's own config, `{folder}`: the newest attempt's.
_AFTER_FAILURE = {
    "auth": "The Hub didn't let the run see its model or data: check their names; the human requests access or runs "
    "`hf auth login` (runs find the token's file). Then {again}.",
    "bad_config": "{call} corrects the config, then launch_run.",
    "bad_data": "{call} corrects the config, then launch_run.",
    "communication": "When the other side (Hub or ranks) can be reached again: {resume}, or {again} if it saved none.",
    "disk_full": "Free disk space (`model-trainer runs prune` shows what old runs hold); then {resume}.",
    "diverged": "Lower training.learning_rate: {call}, then launch_run.",
    "hung": "{folder}/stacks-*.txt show where it stood; {resume}.",
    "oom_gpu": "What is left changes the training, so ask: a shorter training.max_length, quantization nf4 with peft, "
    "or a smaller model, by {call}, then launch_run.",
    "oom_host": "Halve training.per_device_train_batch_size and double gradient_accumulation_steps, or take a smaller "
    "model: {call}, then launch_run.",
    "preempted": "{resume}.",
    "timeout": "{resume}, for another max_hours.",
}


def next_step(run: RunPaths, asked: dict[str, Any], state: RunState) -> str:
    """The sentence that an answer about this run ends with; `asked` is its run.json."""
    if not states.is_over(state):
        return f"get_run(run_id={run.id!r}, wait_seconds=45) waits for its end."
    if asked["kind"] == "push":
        return _after_push(asked["request"]["call"], state)
    if asked["kind"] == "inspect":
        if state.status == "succeeded":
            return "inspect_dataset with the same arguments answers from this run."
        return "Correct the data and call inspect_dataset again."
    match state:
        case states.Succeeded():
            return (
                f"sample_model(run_id={run.id!r}, prompts=[…]) compares it with the base; "
                f"tail_metrics(run_id={run.id!r}) shows how it learned."
            )
        case states.Failed():
            return _after_failure(run, state)
        case _:
            return (
                f"resume_run(run_id={run.id!r}) goes on from its last checkpoint, if it has one; "
                f"write_config(run={run.id!r}, path=…) takes its config for a new run."
            )


def _after_failure(run: RunPaths, state: states.Failed) -> str:
    step = _AFTER_FAILURE.get(state.reason)
    if step is None:
        return f"tail_logs(run_id={run.id!r}) shows more; then write_config(run={run.id!r}, …) and launch_run."
    return step.format(
        again=f"launch_run(config={str(run.config)!r}, again=True)",
        call=f"write_config(run={run.id!r}, path=…, overrides={{…}})",
        folder=run.latest_attempt().root,
        resume=f"resume_run(run_id={run.id!r}) goes on from its last checkpoint",
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
