"""What a training run left: the one answer to whether there is a model, and of what kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...executors import states
from ...executors.errors import RunError
from ...executors.paths import RunPaths
from . import life as runs


@dataclass(frozen=True)
class Output:
    """A trained model that was validated."""

    kind: str
    """`adapter` or `model`."""
    result: dict[str, Any]
    """The trainer's own record."""

    @property
    def data(self) -> list[dict[str, Any]]:
        """What it was trained on: path, rows, format, sha256."""
        return self.result.get("data") or []


def find_output(run: RunPaths, purpose: str) -> Output:
    """What the run left; `purpose` says in the error what it was wanted for.

    Raises:
        RunError: it isn't a training run that succeeded, or its folder is gone (`no_output`).
    """
    state = states.read_state(run)
    result = runs.read_result(run) or {}
    output: dict[str, Any] | None = result.get("output")
    if state.status == "succeeded" and output and run.output.is_dir():
        return Output(str(output.get("kind")), result)
    if not states.is_over(state):
        next_step = f"get_run(run_id={run.id!r}, wait_seconds=45) waits for its end."
    elif state.status == "succeeded":
        next_step = "list_runs(status='succeeded') shows the training runs that left a model."
    else:
        next_step = (
            f"get_run(run_id={run.id!r}) says why it ended; resume_run(run_id={run.id!r}) goes on from its checkpoint."
        )
    raise RunError("no_output", f"Run {run.id} is {state.status} and has no model to {purpose}.", next_step=next_step)
