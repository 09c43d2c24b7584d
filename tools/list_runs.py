"""list_runs: which runs there are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs.schema import Integer
from ..services.runs import listing as run_list
from ..services.runs.listing import RunList
from .spec import app_for


async def list_runs(
    ctx: Context[Any, Any],
    status: Annotated[
        Literal["live", "queued", "succeeded", "failed", "cancelled", "lost"] | None,
        Field(description="Only these; live is everything that hasn't ended"),
    ] = None,
    kind: Annotated[Literal["train", "inspect", "push", "all"], Field(description="What the runs do")] = "train",
    method: Annotated[str | None, Field(description="Only runs of this method, such as sft", max_length=32)] = None,
    limit: Annotated[Integer, Field(ge=1, le=50, description="How many at most")] = 10,
    cursor: Annotated[str | None, Field(description="next_cursor of the former answer", max_length=64)] = None,
) -> RunList:
    """List runs, the newest first: id, status, method, model, age, disk use. Details of one: get_run."""
    app = await app_for(ctx)
    return await run_list.list_runs(app, status=status, kind=kind, method=method, limit=limit, cursor=cursor)
