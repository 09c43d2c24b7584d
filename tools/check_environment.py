"""check_environment: what this machine has for training."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context

from ..services.environment import checking
from ..services.environment.checking import EnvironmentReport
from .spec import app_for


async def check_environment(ctx: Context[Any, Any]) -> EnvironmentReport:
    """What is here for training: GPUs with free memory, CPU, memory, disk, training environments and versions,
    accounts (a token is there or not, never shown), back ends, the human's settings; and what is missing, with the
    command that gets it.

    Call it first. Installs and changes nothing. Whether a model fits: plan_training.
    """
    return await checking.check(await app_for(ctx))
