"""Short jobs in a training environment's Python: argument names, rendered examples. Bounded, and killed on cancel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import anyio

from ...executors.errors import EnvironmentFault, LimitError
from ...executors.snapshot import snapshot
from ...trainer.contract import SNAPSHOT_PACKAGE
from ..app import App
from ..settings import inherited_environment

#: What a child may print as its answer, and how much of its stderr an error quotes.
_ANSWER_LIMIT = 8_000_000


def child_environment(app: App) -> dict[str, str]:
    """The explicit environment of every child: what the human allows, our code, no telemetry, two threads at most."""
    environment = inherited_environment(app.settings)
    environment |= {
        "PYTHONPATH": str(snapshot(app.home)),
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DISABLE_TELEMETRY": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # Else a model without safetensors is sent to a conversion service; such models are refused here.
        "DISABLE_SAFETENSORS_CONVERSION": "1",
    }
    return environment


async def call_trainer(
    app: App, python: Path, command: Sequence[str], request: dict[str, Any], *, seconds: float
) -> dict[str, Any]:
    """The JSON object that `python -m trainer_snapshot.trainer COMMAND` answers to `request` on stdin.

    The child reads one JSON object on stdin and writes one to descriptor 1 as its last line; what libraries print goes
    to stderr. It gets an empty working folder, so that `org/model` never means a local folder.

    Raises:
        LimitError: no answer within `seconds`; the child and its group are killed.
        EnvironmentFault: the child died without an answer; its last lines are quoted.
    """
    empty = app.home.cache / "empty"
    empty.mkdir(mode=0o700, exist_ok=True)
    arguments = [str(python), "-m", f"{SNAPSHOT_PACKAGE}.trainer", *command]
    try:
        with anyio.fail_after(seconds):
            process = await anyio.open_process(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=empty,
                env=child_environment(app),
                start_new_session=True,
            )
            try:
                output, errors = await _converse(process, json.dumps(request).encode())
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with anyio.CancelScope(shield=True):
                    await process.aclose()
                raise
            code = await process.wait()
    except TimeoutError:
        raise LimitError(
            "timed_out",
            f"{' '.join(command)} gave no answer within {seconds:.0f} s.",
            next_step="Try again; if it stays so, `model-trainer doctor` checks the training environment.",
        ) from None
    except OSError as error:
        raise EnvironmentFault(
            "environment_incomplete",
            f"{python} can't be started: {error.strerror}.",
            next_step="Run `model-trainer setup`, or correct `python` in settings.toml.",
        ) from error
    answer = _last_object(output)
    if answer is None:
        said = " | ".join(errors.decode(errors="replace").strip().splitlines()[-3:])[-600:]
        raise EnvironmentFault(
            "environment_incomplete",
            f"{python} could not run {' '.join(command)} (exit {code}): {said or 'it printed nothing'}",
            next_step="check_environment() shows what is missing; `model-trainer setup` installs a complete one.",
        )
    return answer


async def _converse(process: anyio.abc.Process, request: bytes) -> tuple[bytes, bytes]:
    output, errors = bytearray(), bytearray()

    async def collect(stream: anyio.abc.ByteReceiveStream, into: bytearray) -> None:
        async for chunk in stream:
            into += chunk
            if len(into) > _ANSWER_LIMIT:
                del into[: len(into) - _ANSWER_LIMIT]

    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise ValueError("the process was started without pipes")
    async with anyio.create_task_group() as group:
        group.start_soon(collect, stdout, output)
        group.start_soon(collect, stderr, errors)
        with suppress(anyio.BrokenResourceError, OSError):
            await stdin.send(request)
        await stdin.aclose()
    return bytes(output), bytes(errors)


def _last_object(output: bytes) -> dict[str, Any] | None:
    for line in reversed(output.splitlines()):
        if line.strip():
            try:
                answer = json.loads(line)
            except ValueError:
                return None
            return cast("dict[str, Any]", answer) if isinstance(answer, dict) else None
    return None
