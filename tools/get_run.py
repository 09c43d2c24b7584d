"""get_run: how one run stands."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs.schema import Number
from ..services.runs import view as run_view
from ..services.runs.view import RunView
from .spec import app_for, progress_of


async def get_run(
    ctx: Context[Any, Any],
    run_id: Annotated[str, Field(description="Id from launch_run or list_runs")],
    wait_seconds: Annotated[
        Number, Field(ge=0, le=45, description="Wait up to this long for the run's end; 0 answers at once")
    ] = 0,
) -> RunView:
    """How a run stands: status, step, ETA, reason if it failed, output path and how to load it.

    With wait_seconds it returns early when the run ends; call again to keep waiting. Metrics over time: tail_metrics.
    """
    return await run_view.get(await app_for(ctx), run_id, wait_seconds=wait_seconds, progress=progress_of(ctx))
