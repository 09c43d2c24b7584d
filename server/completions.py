"""Completion of arguments: run ids for resources and prompts, methods for prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio.to_thread
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from ..services.app import App
from ..tools.spec import Opened
from . import prompts, resources

#: The protocol's own ceiling.
_SHOWN = 100

Reference = PromptReference | ResourceTemplateReference
Handler = Callable[[Reference, CompletionArgument, CompletionContext | None], Awaitable[Completion | None]]


def complete(opened: Opened) -> Handler:
    """The completion handler of one server."""

    async def handler(
        reference: Reference, argument: CompletionArgument, _: CompletionContext | None
    ) -> Completion | None:
        if isinstance(reference, PromptReference):
            values = prompts.choices(reference.name, argument.name)
        else:
            values = "run_ids" if argument.name == "run_id" else ()
        if values == "run_ids":
            # No state folder, no runs: completion is help while typing, never an error.
            values = await anyio.to_thread.run_sync(resources.run_ids, opened) if isinstance(opened, App) else ()
        fitting = [value for value in values if value.startswith(argument.value)]
        return Completion(values=fitting[:_SHOWN], total=len(fitting), has_more=len(fitting) > _SHOWN)

    return handler
