"""What a tool is besides its function, and what every tool function starts with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError
from mcp.types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
)
from pydantic import ValidationError

from ..executors.errors import ArgumentError, ModelTrainerError
from ..services.app import App, Asker, Progress
from ..services.result import Result

#: What a server serves: the app, or the error that opening the state folder ended with.
Opened = App | ModelTrainerError

#: Seconds that a client may take to name its roots; a workspace is a convenience, no call waits for it.
_ROOTS_SECONDS = 1.0
_ROOTS_KEY = "workspace"

#: Seconds that a person may take to answer.
_ANSWER_SECONDS = 600.0
_YES_OR_NO: dict[str, Any] = {
    "type": "object",
    "properties": {"yes": {"type": "boolean", "title": "Yes, go ahead"}},
    "required": ["yes"],
}


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
    """The server's `App`, with the client's first root as workspace where the server was given none.

    Raises:
        ModelTrainerError: the state folder or the settings can't be used.
    """
    opened: Opened = ctx.request_context.lifespan_context
    if isinstance(opened, ModelTrainerError):
        # A new one each time: a shared exception would collect the tracebacks of all calls.
        raise type(opened)(opened.code, opened.message, next_step=opened.next_step)
    return opened if opened.workspace is not None else replace(opened, workspace=await _client_root(ctx))


def progress_of(ctx: Context[Any, Any]) -> Progress:
    """Progress to the client of this call; nothing when it didn't ask."""

    async def report(done: float, total: float | None, message: str) -> None:
        await ctx.report_progress(done, total, message)

    return report


def roots_request(error: BaseException | None, ctx: Context[Any, Any] | None) -> InputRequiredResult | None:
    """The question for the client's roots, where a call failed for want of a workspace and asking may help.

    The stateless protocol has no requests from server to client; a call is answered with what it needs and sent
    again with the answer. So it is asked only when a relative path was really given, and only once.
    """
    if ctx is None or not (isinstance(error, ArgumentError) and error.code == "no_workspace"):
        return None
    if ctx.session.can_send_request or ctx.input_responses is not None or not _has_roots(ctx):
        return None
    return InputRequiredResult(input_requests={_ROOTS_KEY: ListRootsRequest()})


class NeedsAnswerError(Exception):
    """The call goes on once the client sends it again with its user's answer (stateless protocol)."""

    def __init__(self, question: InputRequiredResult) -> None:
        super().__init__("the client's user is asked")
        self.question = question


def asker_of(ctx: Context[Any, Any]) -> Asker:
    """Asks the client's user; answers None where the client has no dialogue."""

    async def ask(key: str, question: str) -> bool | None:
        capabilities = ctx.client_capabilities
        elicitation = None if capabilities is None else capabilities.elicitation
        # Without a word on modes, forms are meant.
        if elicitation is None or (elicitation.form is None and elicitation.url is not None):
            return None
        request = ElicitRequest(params=ElicitRequestFormParams(message=question, requested_schema=_YES_OR_NO))
        if ctx.session.can_send_request:
            try:
                answer = await ctx.session.send_request(
                    request, ElicitResult, request_read_timeout_seconds=_ANSWER_SECONDS
                )
            except (MCPError, ValidationError):
                return False
        else:
            # The key holds what the question is about: an answer to another question is none to this one.
            answer = (ctx.input_responses or {}).get(key)
            if answer is None:
                raise NeedsAnswerError(InputRequiredResult(input_requests={key: request}))
        return (
            isinstance(answer, ElicitResult) and answer.action == "accept" and (answer.content or {}).get("yes") is True
        )

    return ask


async def _client_root(ctx: Context[Any, Any]) -> Path | None:
    """The first of the client's roots that is a folder here; None where it has none, or doesn't say in time."""
    answer = (ctx.input_responses or {}).get(_ROOTS_KEY)
    if answer is None and _has_roots(ctx) and ctx.session.can_send_request:
        try:
            answer = await ctx.session.send_request(
                ListRootsRequest(), ListRootsResult, request_read_timeout_seconds=_ROOTS_SECONDS
            )
        except (MCPError, ValidationError):
            return None
    if not isinstance(answer, ListRootsResult):
        return None
    return next((path for root in answer.roots if (path := _local_folder(str(root.uri))) is not None), None)


def _has_roots(ctx: Context[Any, Any]) -> bool:
    capabilities = ctx.client_capabilities
    return capabilities is not None and capabilities.roots is not None


def _local_folder(uri: str) -> Path | None:
    parts = urlsplit(uri)
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not path.is_absolute() or "\0" in parts.path:
        return None
    return path
