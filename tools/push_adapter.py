"""push_adapter: publish what a run trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import Field

from ..services.publishing import pushing
from ..services.publishing.pushing import PushRequest
from ..services.publishing.results import PushResult
from .spec import app_for, asker_of, progress_of


async def push_adapter(
    ctx: Context[Any, Any],
    run_id: Annotated[str, Field(description="A training run that succeeded")],
    destination: Annotated[
        str, Field(min_length=1, max_length=500, description="owner/name on the Hub, or a folder: ./x or /x")
    ],
    visibility: Annotated[Literal["private", "public"], Field(description="Of a Hub repository")] = "private",
    overwrite: Annotated[
        str | None, Field(description="destination again, to write over what is there", max_length=500)
    ] = None,
    dry_run: Annotated[bool, Field(description="Only show what would go out, and its digest")] = False,
    confirm: Annotated[
        str | None, Field(description="Digest from dry_run, after the user's yes to it", max_length=64)
    ] = None,
) -> PushResult:
    """Publish a run's adapter or model to the Hugging Face Hub: private unless told otherwise, with a model card.

    Call with dry_run first (works without a token) and show it to the user: publishing needs their yes. Then it goes
    on as a run (get_run), verified file by file. A folder as destination gets the same bundle, unpublished.
    """
    request = PushRequest(run_id, destination, visibility, overwrite, dry_run, confirm)
    return await pushing.push(await app_for(ctx), request, ask=asker_of(ctx), progress=progress_of(ctx))
