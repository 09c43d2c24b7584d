"""End a run with a usable checkpoint."""

from __future__ import annotations

from typing import Annotated

import anyio
import anyio.to_thread
from pydantic import Field

from ...executors import local, states
from ...executors.errors import RunError
from ...executors.paths import RunPaths
from ...executors.states import RunState
from ...trainer import manifests
from ..app import App, Progress, no_progress
from ..result import Result
from . import life as runs
from .view import harmless_state


class StopResult(Result):
    run_id: str
    state: Annotated[RunState, Field(description="What is true now; stopping goes on after this answer")]
    was_over: Annotated[bool, Field(description="The run had ended before; nothing was done")]
    checkpoint: Annotated[str | None, Field(description="The newest checkpoint that verifies")] = None

    def body(self) -> str:
        if self.was_over:
            return f"Run {self.run_id} had already ended: {self.state.status}."
        kept = f"; checkpoint {self.checkpoint}" if self.checkpoint else ""
        return f"Run {self.run_id}: {self.state.status}{kept}"


#: How long a run that is just being born, or just ending, may take to be either.
_ASK_SECONDS = 5.0


async def stop(app: App, run_id: str, *, wait_seconds: float, progress: Progress = no_progress) -> StopResult:
    """Stop a run at its step's end, with a checkpoint; forced after the grace. Stopping twice is fine.

    Raises:
        RunError: there is no such run, it can't be seen from here (`run_live`), or its supervisor doesn't answer.
    """
    run = app.home.run(run_id)
    before = await anyio.to_thread.run_sync(runs.settled_state, app, run)
    if before.status == "unreachable":
        raise RunError(
            "run_live",
            f"Run {run_id} can't be seen from here: it may live on another machine, or under another state folder.",
            next_step=f"Stop it where it was started; get_run(run_id={run_id!r}) says since when it is not heard of.",
        )
    over = states.is_over(before)
    if not over and not await _ask(run):
        raise RunError(
            "launch_failed",
            f"Run {run_id} is {before.status} and its supervisor can't be reached.",
            next_step=f"Call stop_run(run_id={run_id!r}) again in a second.",
        )
    state = await runs.wait(app, run, seconds=wait_seconds, progress=progress)
    good, _ = await anyio.to_thread.run_sync(manifests.last_good, run.checkpoints)
    ended = states.is_over(state)
    return StopResult(
        run_id=run_id,
        state=harmless_state(state),
        was_over=over,
        checkpoint=str(good.folder) if good is not None else None,
        next_step=_next(run_id, ended=ended, resumable=good is not None and state.status != "succeeded"),
    )


def _next(run_id: str, *, ended: bool, resumable: bool) -> str:
    if not ended:
        return f"get_run(run_id={run_id!r}, wait_seconds=45) waits for the checkpoint and the end."
    shows = f"get_run(run_id={run_id!r}) shows how it ended"
    return f"resume_run(run_id={run_id!r}) goes on from the checkpoint; {shows}." if resumable else f"{shows}."


async def _ask(run: RunPaths) -> bool:
    """Whether the run's supervisor was asked to stop, or the run ended by itself meanwhile."""
    with anyio.move_on_after(_ASK_SECONDS):
        while not local.request_stop(run) and not states.is_over(states.read_state(run)):
            await anyio.sleep(0.05)
        return True
    return False
