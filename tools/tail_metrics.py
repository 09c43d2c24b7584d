"""tail_metrics: what is new in a run's metrics, and how the loss goes."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.runs import metrics
from ..services.runs.metrics import MetricsTail
from .spec import app_for


async def tail_metrics(
    ctx: Context[Any, Any],
    run_id: Annotated[str, Field(description="Id from launch_run or list_runs")],
    cursor: Annotated[
        str | None, Field(description="cursor of the former answer: only what is new since", max_length=64)
    ] = None,
) -> MetricsTail:
    """A run's metrics within a fixed size: newest values, the loss curve thinned out, and a verdict on its health.

    With a cursor, only rows since then. Whether the run has ended: get_run.
    """
    return await metrics.tail(await app_for(ctx), run_id, cursor=cursor)
