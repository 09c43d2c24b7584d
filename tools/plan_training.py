"""plan_training: what to train, how, on what, and what it takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs.schema import Integer, Number, Turns
from ..services.planning.planning import PlanRequest, plan
from ..services.planning.results import PlanResult
from .spec import app_for, progress_of


async def plan_training(
    ctx: Context[Any, Any],
    dataset: Annotated[str, Field(min_length=1, description="File, folder, glob or Hub id")],
    model: Annotated[str | None, Field(description="Folder or Hub id; without it three that fit are proposed")] = None,
    revision: Annotated[str | None, Field(description="Commit, tag or branch of a Hub model")] = None,
    method: Annotated[str, Field(description="auto: from the data's format")] = "auto",
    goal: Annotated[
        Literal["balanced", "quality", "speed", "memory"], Field(description="What the recommended option favours")
    ] = "balanced",
    gpus: Annotated[
        Annotated[Integer, Field(ge=0, le=1)] | None, Field(description="0: the CPU; null: a GPU if there is one")
    ] = None,
    max_hours: Annotated[
        Annotated[Number, Field(gt=0, le=720)] | None, Field(description="The run must end by then")
    ] = None,
    split: Annotated[str | None, Field(description="Of dataset; train where not given")] = None,
    columns: Annotated[dict[str, str | list[str]] | None, Field(description="Our column to theirs")] = None,
    turns: Annotated[Turns | None, Field(description="How a foreign chat is written")] = None,
    eval_dataset: Annotated[str | None, Field(description="Else a part of dataset is held out")] = None,
) -> PlanResult:
    """Plan a fine-tuning for this machine: a recommended option and up to three others (full, LoRA, QLoRA), each with
    config, peak memory by part, a time interval, reasons and warnings. Returns a plan id for write_config. Downloads
    no weights, writes no config, starts nothing. inspect_dataset looks closer at the data.
    """
    request = PlanRequest(
        dataset=dataset,
        model=model,
        revision=revision,
        method=method,
        goal=goal,
        gpus=gpus,
        max_hours=max_hours,
        split=split,
        columns=columns,
        turns=turns,
        eval_dataset=eval_dataset,
    )
    return await plan(await app_for(ctx), request, progress=progress_of(ctx))
