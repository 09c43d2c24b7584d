"""plot_metrics: curves as a picture."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs.schema import Number
from ..services.runs import plotting
from ..services.runs.plotting import Plot
from .spec import app_for


async def plot_metrics(
    ctx: Context[Any, Any],
    run_ids: Annotated[list[str], Field(description="One run, or several to compare", min_length=1, max_length=6)],
    metrics: Annotated[
        list[str] | None, Field(description="Default: loss and eval_loss", min_length=1, max_length=4)
    ] = None,
    smooth: Annotated[
        Number, Field(ge=0, le=0.99, description="Weight of the moving average; the raw curve stays, faint")
    ] = 0,
) -> Plot:
    """A PNG of metrics by step, for a person to look at: one panel per metric, one colour per run.

    Values that are not finite are gaps with a cross. For numbers and a verdict: tail_metrics.
    """
    return await plotting.plot(await app_for(ctx), run_ids, metrics, smooth=smooth)
