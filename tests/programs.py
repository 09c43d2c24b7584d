"""Small real programs as trainers, and what tests of runs share: start one, wait for what it tells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio

from model_trainer.executors import host, states
from model_trainer.executors.paths import RunPaths
from model_trainer.executors.snapshot import snapshot
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.trainer import records
from model_trainer.trainer.contract import SNAPSHOT_PACKAGE

#: What a trainer says that reached its end; $4 is the attempt's folder.
SUCCEEDS = """printf '{"outcome": "succeeded", "ended_by": "planned_end"}' > "$4/result.json" """

#: Waits for the file GO in the workspace, then succeeds.
WAITS = 'while [ ! -e "%s/go" ]; do sleep 0.03; done; ' + SUCCEEDS

#: Generous: a loaded machine must not fail a test that isn't about speed.
SECONDS = 60


def program(folder: Path, body: str, name: str = "program") -> Path:
    """A stand-in for the training environment's Python."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def waiting(folder: Path, name: str = "waiting") -> Path:
    """A trainer that ends well once `folder/go` exists."""
    return program(folder, WAITS % folder, name)


async def start(app: App, python: Path, **more: Any) -> RunPaths:
    """Start a run of that program."""
    return await runs.start(
        app, runs.Launch(kind="train", python=python, label="test", request={"method": "sft"}, **more)
    )


def events(run: RunPaths) -> list[dict[str, Any]]:
    return records.read_lines(run.events)[0]


async def until(run: RunPaths, event: str) -> dict[str, Any]:
    """The event of the run's history, once it is there."""
    with anyio.fail_after(SECONDS):
        while True:
            for row in events(run):
                if row["event"] == event:
                    return row
            await anyio.sleep(0.02)


async def until_status(run: RunPaths, status: str) -> states.RunState:
    """The run's state, once it has that status."""
    with anyio.fail_after(SECONDS):
        while (state := states.read_state(run)).status != status:
            await anyio.sleep(0.02)
    return state


async def until_file(path: Path) -> str:
    """The file's text, once it is complete (its last character is a line end)."""
    with anyio.fail_after(SECONDS):
        while True:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            if text.endswith("\n"):
                return text.strip()
            await anyio.sleep(0.02)


async def until_dead(pid: int) -> None:
    with anyio.fail_after(SECONDS):
        while host.identify(pid) is not None:
            await anyio.sleep(0.02)


def supervisor_of(run: RunPaths) -> int:
    return next(row["supervisor"]["pid"] for row in events(run) if row["event"] == "starting")


def worker(*arguments: str) -> list[str]:
    """The command of tests/launch_worker.py."""
    return [sys.executable, str(Path(__file__).with_name("launch_worker.py")), *arguments]


def server_process(*arguments: str) -> subprocess.Popen[bytes]:
    """A launch_worker of this test's state folder, with pipes."""
    return subprocess.Popen(worker(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def edit_snapshot(app: App, module: str, old: str, new: str) -> None:
    """Change the code that this state folder's next runs are given; `old` must be there, once."""
    package = snapshot(app.home) / SNAPSHOT_PACKAGE
    path = package / module
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()
