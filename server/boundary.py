"""The one place that decides what a caller sees of an exception, in tools, resources, prompts and the protocol.

Typed errors pass with code, message and next step, in text and in structure. Anything else is our defect: the caller
gets `internal` and a reference, the traceback goes to `<home>/server.log` (0600, two files of at most 1 MB).
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import MCPServerError
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent
from pydantic import ValidationError

from ..executors import host
from ..executors.errors import ArgumentError, InternalError, ModelTrainerError
from ..services.untrusted import clean

T = TypeVar("T")

logger = logging.getLogger(__name__)

_LOG_LIMIT = 1_000_000
#: Characters; both together stay below `services.result.TEXT_LIMIT`.
_MESSAGE_LIMIT, _STEP_LIMIT = 3500, 2300
#: Tokens of the services we talk to; they may stand in a library's exception text.
_SECRET = re.compile(r"\b(hf_|sk-|wandb_v1_)[A-Za-z0-9_-]{8,}|(?<=[Bb]earer )\S+")


class Boundary:
    """Turns exceptions into answers; `log` is where the hidden ones go, None for stderr."""

    def __init__(self, log: Path | None) -> None:
        self._log = log

    async def tool(self, name: str, work: Awaitable[T]) -> T | CallToolResult:
        """What the tool answers, or an error result."""
        try:
            return await work
        except MCPError:
            raise
        except Exception as error:  # noqa: BLE001
            return error_result(self.classify(error, f"tool {name}"))

    async def other(self, doing: str, work: Awaitable[T]) -> T:
        """What a resource or prompt answers.

        Raises:
            MCPError: it failed; text and data carry code, message and next step.
        """
        try:
            return await work
        except MCPError:
            raise
        except Exception as error:  # noqa: BLE001
            raise protocol_error(self.classify(error, doing)) from None

    async def middleware(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Around every message, in both protocol eras: nothing untyped leaves, no text leaks."""
        try:
            return await call_next(ctx)
        except ValidationError as error:
            refusal = _malformed(ctx.method, error)
            if ctx.method == "tools/call":
                return error_result(refusal)
            raise protocol_error(refusal) from None
        except MCPError:
            raise
        except Exception as error:  # noqa: BLE001
            raise protocol_error(self.classify(error, ctx.method)) from None

    def classify(self, error: BaseException, doing: str) -> ModelTrainerError:
        """The typed error that the caller sees."""
        known = _typed(error)
        if known is not None:
            return known
        reference = secrets.token_hex(4)
        where = self._write(reference, doing, error)
        return InternalError(
            "internal",
            f"Something went wrong inside Model Trainer (reference {reference}). That is a defect of ours.",
            next_step=f"Try again once; if it stays so, the human finds the details under {reference} in {where}.",
        )

    def _write(self, reference: str, doing: str, error: BaseException) -> str:
        """Log the exception; says where."""
        text = "".join(traceback.format_exception(error, limit=40, chain=True))[-20_000:]
        entry = _SECRET.sub("[secret]", f"{host.now()} {reference} {doing}\n{text}\n")
        if self._log is not None:
            try:
                _append(self._log, entry)
            except OSError as failed:
                logger.warning("%s can't be written: %s", self._log, failed.strerror)
            else:
                return str(self._log)
        logger.error("%s", entry)
        return "the server's stderr"


def error_result(error: ModelTrainerError) -> CallToolResult:
    """A tool's error answer: clients show the model the text, or the structure; each says all."""
    return CallToolResult(
        content=[TextContent(type="text", text=_text(error))], structured_content=_structure(error), is_error=True
    )


def protocol_error(error: ModelTrainerError) -> MCPError:
    """The same for what has no error results of its own: resources, prompts, malformed requests."""
    code = INTERNAL_ERROR if isinstance(error, InternalError) else INVALID_PARAMS
    return MCPError(code=code, message=_text(error), data=_structure(error))


def _text(error: ModelTrainerError) -> str:
    told = _structure(error)
    return f"{told['code']}: {told['message']}\nNext: {told['next_step']}"


def _structure(error: ModelTrainerError) -> dict[str, str]:
    """What is told of it: errors quote names and values of callers, files and libraries, of any length and kind."""
    message, next_step = clean(error.message, _MESSAGE_LIMIT), clean(error.next_step, _STEP_LIMIT)
    return {"code": error.code, "message": message, "next_step": next_step}


def _typed(error: BaseException | None) -> ModelTrainerError | None:
    """The typed error inside the SDK's wrappers and task groups' exception groups."""
    while error is not None:
        if isinstance(error, ModelTrainerError):
            return error
        if isinstance(error, BaseExceptionGroup):
            inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
            found = [_typed(one) for one in inner]
            # A group with a defect among its errors is a defect: it must reach the log.
            return found[0] if all(found) else None
        error = error.__cause__ if isinstance(error, MCPServerError) else None
    return None


def _malformed(method: str, error: ValidationError) -> ArgumentError:
    """A request whose own shape is wrong (`arguments` that are no object, a missing name)."""
    places = sorted({".".join(str(part) for part in detail["loc"]) for detail in error.errors(include_input=False)})
    return ArgumentError(
        "invalid_arguments",
        f"The {method} request is malformed: check {', '.join(places[:8])[:400] or 'its parameters'}.",
        next_step=f"Send {method} as the protocol says; tool arguments are one JSON object.",
    )


def _append(path: Path, entry: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size > _LOG_LIMIT:
            os.replace(path, path.with_suffix(".log.1"))
        os.write(descriptor, entry.encode(errors="replace"))
    finally:
        os.close(descriptor)
