"""write_config: a plan, a former config or a former run becomes a checked config file."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs import writing as config_writing
from ..services.configs.results import WriteConfigResult
from ..services.configs.writing import WriteRequest
from .spec import app_for


async def write_config(
    ctx: Context[Any, Any],
    path: Annotated[str, Field(description="File to write, ending in .yaml", max_length=4096)],
    plan: Annotated[str | None, Field(description="Plan id from plan_training")] = None,
    alternative: Annotated[str | None, Field(description="Label of one of the plan's alternatives")] = None,
    base: Annotated[str | None, Field(description="Config file to start from; its comments are kept")] = None,
    run: Annotated[str | None, Field(description="Run id whose config to start from")] = None,
    overrides: Annotated[
        dict[str, Any] | None,
        Field(description='Changes: {"training.learning_rate": 1e-4, "peft": null}, dotted or nested'),
    ] = None,
    overwrite: Annotated[bool, Field(description="Replace another file at path; it is kept as PATH.bak")] = False,
) -> WriteConfigResult:
    """Write a checked YAML config from exactly one of plan, base or run, with overrides.

    Every key is checked against the installed TRL and PEFT; unknown and renamed ones are refused, naming the right one.
    Returns path, digest, diff to the source and warnings. Starts nothing (launch_run does) and invents no values
    (plan_training does).
    """
    request = WriteRequest(path, plan, alternative, base, run, overrides, overwrite)
    return await config_writing.write_config(await app_for(ctx), request)
