"""resume_run: go on with a run that was stopped, failed, or should train longer."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs.schema import Integer, Number
from ..services.runs import resuming
from ..services.runs.resuming import ResumeRequest, ResumeResult
from .spec import app_for


async def resume_run(
    ctx: Context[Any, Any],
    run_id: Annotated[str, Field(description="The run to go on with; it must have ended")],
    checkpoint: Annotated[
        Integer | None, Field(ge=1, description="Step of the checkpoint; the newest good one if left out")
    ] = None,
    num_train_epochs: Annotated[Number | None, Field(gt=0, description="New end, counted from the very start")] = None,
    max_steps: Annotated[Integer | None, Field(gt=0, description="New end instead of num_train_epochs")] = None,
    allow_changed_data: Annotated[bool, Field(description="Go on although the data files changed")] = False,
    again: Annotated[bool, Field(description="Start although the same resume runs or has succeeded")] = False,
) -> ResumeResult:
    """Go on with an ended training run in a new run, from its last verified checkpoint; the old run stays as it is.

    Loss and data order continue as if it had never stopped. A run that succeeded needs a new end. For other changes to
    the config use write_config and launch_run, which train from the start. Does not wait: get_run does.
    """
    request = ResumeRequest(run_id, checkpoint, num_train_epochs, max_steps, allow_changed_data, again)
    return await resuming.resume(await app_for(ctx), request)
