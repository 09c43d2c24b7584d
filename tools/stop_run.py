"""stop_run: end a run with a usable checkpoint."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs.schema import Number
from ..services.runs import stopping
from ..services.runs.stopping import StopResult
from .spec import app_for, progress_of


async def stop_run(
    ctx: Context[Any, Any],
    run_id: Annotated[str, Field(description="Id from launch_run or list_runs")],
    wait_seconds: Annotated[
        Number, Field(ge=0, le=45, description="Wait up to this long for the run's end; 0 answers at once")
    ] = 20,
) -> StopResult:
    """Stop a run: it saves a checkpoint at the end of its step and ends as cancelled; after two minutes it is killed.

    A queued run is cancelled at once; a run that is over stays as it is. resume_run goes on from the checkpoint.
    """
    return await stopping.stop(await app_for(ctx), run_id, wait_seconds=wait_seconds, progress=progress_of(ctx))
