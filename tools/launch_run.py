"""launch_run: start what a config describes."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.runs import launching
from ..services.runs.launching import LaunchResult
from .spec import app_for


async def launch_run(
    ctx: Context[Any, Any],
    config: Annotated[str, Field(description="Path of the config file that write_config wrote")],
    again: Annotated[bool, Field(description="Start although the same config runs or began < 10 min ago")] = False,
    key: Annotated[
        str | None, Field(description="Idempotency key: the same key again answers with the same run", max_length=128)
    ] = None,
    after: Annotated[
        str | None, Field(description="Run id: start when that run has succeeded, fail if it does not")
    ] = None,
) -> LaunchResult:
    """Start training from a config file and return a run id at once; the run is detached and outlives this server.

    Checks the config again first, and queues the run while GPUs or CPU slots are taken. Does not wait: get_run waits,
    tail_metrics shows the curve. The run's folder is kept until a person removes it.
    """
    return await launching.launch(await app_for(ctx), config, again=again, key=key, after=after)
