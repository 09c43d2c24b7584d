"""Small tools for tests of the server's surface: each shows one thing, through the real boundary and the real wire."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.lowlevel
import anyio.to_thread
from mcp.server.mcpserver import Context
from pydantic import Field

from model_trainer.executors.errors import ModelTrainerError
from model_trainer.services.configs.schema import Integer, Number, Section
from model_trainer.services.result import Result
from model_trainer.tools.spec import ToolSpec, app_for, progress_of

SECRET = "hf_abcdefghijklmnop"


class Told(Result):
    """What a toy was given."""

    told: Annotated[str, Field(description="The arguments, as Python shows them")]

    def body(self) -> str:
        return self.told


class Part(Section):
    """A nested object."""

    size: Annotated[Number, Field(description="A number")] = 1.0
    title: Annotated[str, Field(description="A property that is named like a keyword")] = "none"


async def echo(
    ctx: Context[Any, Any],
    count: Annotated[int, Field(description="How many, plainly typed")] = 1,
    learning_rate: Annotated[Number | None, Field(description="A rate")] = None,
    steps: Annotated[Integer | Literal["auto"], Field(description="A number or a word")] = "auto",
    part: Annotated[Part | None, Field(description="An object")] = None,
    parts: Annotated[list[Part] | None, Field(description="Objects")] = None,
    training: Annotated[dict[str, Any] | None, Field(description="Free keys")] = None,
    text: Annotated[str | None, Field(description="Text")] = None,
    again: Annotated[bool, Field(description="A switch")] = False,
) -> Told:
    """Tell what arrived."""
    values = [count, learning_rate, steps, part, parts, training, text, again]
    return Told(told=repr(values), next_step="echo()")


async def fail(ctx: Context[Any, Any], code: Annotated[str, Field(description="A code, or a defect's name")]) -> Told:
    """Fail in the way asked for."""
    families = {one: family for family in ModelTrainerError.__subclasses__() for one in family.CODES}
    if code in families:
        raise families[code](code, f"It is about {code}.", next_step=f"fail(code={code!r})")
    if code == "defect":
        raise RuntimeError(f"private text {SECRET}")
    if code == "grouped":
        async with anyio.create_task_group() as group:
            group.start_soon(_raise_typed)
    raise ExceptionGroup("two", [families["timed_out"]("timed_out", "One.", next_step="x"), OSError("private text")])


async def _raise_typed() -> None:
    raise ModelTrainerError.__subclasses__()[0]("no_workspace", "From a task.", next_step="fail(code='grouped')")


async def hang(
    ctx: Context[Any, Any],
    how: Annotated[Literal["await", "thread", "loop"], Field(description="What is blocked")],
    mark: Annotated[str, Field(description="File that is made once it hangs")],
) -> Told:
    """Never answer."""
    Path(mark).touch()
    if how == "await":
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                Path(mark).with_suffix(".cleaned").touch()
    elif how == "thread":
        await anyio.to_thread.run_sync(threading.Event().wait)
    else:
        threading.Event().wait()
    raise AssertionError


async def noise(ctx: Context[Any, Any]) -> Told:
    """Print in every way there is."""
    print("printed to stdout", flush=True)
    os.write(1, b"written to descriptor 1\n")
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", "import sys; print('a child', flush=True); print(repr(sys.stdin.read()))"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return Told(told=str(done.returncode), next_step="noise()")


async def where(
    ctx: Context[Any, Any], path: Annotated[str | None, Field(description="A path to resolve")] = None
) -> Told:
    """The workspace, or an absolute path."""
    app = await app_for(ctx)
    return Told(told=str(app.workspace if path is None else app.resolve(path)), next_step="where()")


async def report(ctx: Context[Any, Any]) -> Told:
    """Tell progress twice."""
    progress = progress_of(ctx)
    await progress(1, 2, "half")
    await progress(2, 2, "done")
    return Told(told="reported", next_step="report()")


TOYS = (
    ToolSpec(echo, "Echo", read_only=True, idempotent=True),
    ToolSpec(fail, "Fail", read_only=True),
    ToolSpec(hang, "Hang", destructive=True, open_world=True),
    ToolSpec(noise, "Noise"),
    ToolSpec(where, "Where", read_only=True),
    ToolSpec(report, "Report", read_only=True),
)
