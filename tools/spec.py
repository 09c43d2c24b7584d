"""What a tool is besides its function, and what every tool function starts with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from mcp.server.mcpserver import Context

from ..services.app import App, Progress
from ..services.result import Result


@dataclass(frozen=True)
class ToolSpec:
    """One row of the table of tools: the function (its name, parameters and docstring are the tool's), title, hints."""

    function: Callable[..., Awaitable[Result]]
    title: str
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False

    @property
    def name(self) -> str:
        return self.function.__name__


async def app_for(ctx: Context[Any, Any]) -> App:
    """The server's `App`, with the client's first root as workspace where the server was given none."""
    app: App = ctx.request_context.lifespan_context
    return app if app.workspace is not None else replace(app, workspace=None)


def progress_of(ctx: Context[Any, Any]) -> Progress:
    """Progress to the client of this call; nothing when it didn't ask."""

    async def report(done: float, total: float | None, message: str) -> None:
        await ctx.report_progress(done, total, message)

    return report
