"""`model-trainer call`: one tool call from a script, through the same server object and client as an agent's."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, TextContent

from ..executors.errors import ArgumentError
from .app import build_server, try_open_app
from .boundary import error_result


def call(tool: str, arguments: str, *, workspace: Path, as_text: bool) -> int:
    """Print the tool's result on stdout, an error too; 0 if there was none."""
    # As in `serve`: the SDK's own logging takes seconds to format a traceback.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        given = _read_arguments(tool, sys.stdin.read() if arguments == "-" else arguments)
    except ArgumentError as error:
        result = error_result(error)
    else:
        result = anyio.run(_call, tool, given, workspace)
    text = _text(result) if as_text or result.structured_content is None else _json(result.structured_content)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 1 if result.is_error else 0


async def _call(tool: str, arguments: dict[str, Any], workspace: Path) -> CallToolResult:
    # A person at the terminal is asked there; a script has no dialogue.
    dialogue = _ask if sys.stdin.isatty() and sys.stderr.isatty() else None
    async with Client(build_server(try_open_app(workspace)), elicitation_callback=dialogue) as client:
        try:
            return await client.call_tool(tool, arguments, progress_callback=_show if sys.stderr.isatty() else None)
        except MCPError as error:
            # What the protocol itself refuses carries the same three parts.
            data: Any = error.error.data
            fallback = {"code": "internal", "message": error.error.message}
            structure = cast("dict[str, Any]", data) if isinstance(data, dict) else fallback
            text = TextContent(type="text", text=error.error.message)
            return CallToolResult(content=[text], structured_content=structure, is_error=True)
        finally:
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")


async def _ask(context: object, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG001  the SDK passes both by name
    """The answer of the person at the terminal."""
    sys.stderr.write(f"\r\x1b[K{params.message}\nyes? [y/N] ")
    sys.stderr.flush()
    said = await anyio.to_thread.run_sync(sys.stdin.readline)
    yes = said.strip().lower() in ("y", "yes")
    return ElicitResult(action="accept", content={"yes": True}) if yes else ElicitResult(action="decline")


async def _show(progress: float, total: float | None, message: str | None) -> None:
    share = f"{progress / total:4.0%} " if total else ""
    sys.stderr.write(f"\r\x1b[K{share}{message or ''}"[:200])
    sys.stderr.flush()


def _read_arguments(tool: str, text: str) -> dict[str, Any]:
    try:
        arguments: object = json.loads(text)
    except ValueError as error:
        problem = str(error)
    else:
        if isinstance(arguments, dict):
            return cast("dict[str, Any]", arguments)
        problem = f"it is a {type(arguments).__name__}"
    raise ArgumentError(
        "invalid_arguments",
        f"The arguments must be one JSON object: {problem}.",
        next_step=f"""For example: model-trainer call {tool} --json '{{"name": "value"}}'; --json - reads stdin.""",
    )


def _text(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def _json(structure: Any) -> str:
    return json.dumps(structure, indent=2, ensure_ascii=False)
