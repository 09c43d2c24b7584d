"""inspect_dataset: what data are, and what is wrong with them."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.configs.schema import MethodName, Turns
from ..services.data import inspection
from ..services.data.inspection import InspectRequest
from ..services.data.results import InspectResult
from .spec import app_for, progress_of


async def inspect_dataset(
    ctx: Context[Any, Any],
    path: Annotated[str, Field(min_length=1, description="File, folder, glob or Hub id")],
    model: Annotated[str | None, Field(description="Hub id or folder: adds token lengths and two examples")] = None,
    method: Annotated[MethodName | None, Field(description="Check the rows for this method")] = None,
    split: Annotated[str | None, Field(description="train where not given")] = None,
    columns: Annotated[
        dict[str, str | list[str]] | None, Field(description="Try a mapping: our column to theirs, or to several")
    ] = None,
    turns: Annotated[Turns | None, Field(description="Try how a foreign chat is written")] = None,
) -> InspectResult:
    """Look at every row of a dataset: format, columns, what each training method needs, problems with file and line.

    Proposes mappings (ShareGPT, Alpaca, usual CSVs) and applies none unless given. With model: token lengths and
    examples with their loss mask. Changes nothing; long scans go on as a run (get_run).
    """
    request = InspectRequest(path=path, split=split, model=model, method=method, columns=columns, turns=turns)
    return await inspection.inspect(await app_for(ctx), request, progress=progress_of(ctx))
