"""What tests of real training runs share: launching one with a small config, and waiting for what it comes to."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest
from programs import program

from model_trainer.executors import local, states
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import launching
from model_trainer.services.runs import life as runs
from model_trainer.trainer import records

LORA = {"type": "lora", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
TRAINING = {
    "learning_rate": 1e-2,
    "max_steps": 6,
    "per_device_train_batch_size": 4,
    "max_length": 128,
    "logging_steps": 1,
    "gradient_checkpointing": False,
}


class Train(Protocol):
    """Launches the tiny model's training with these changes to its config."""

    def __call__(self, *, training: dict[str, Any] | None = None, **sections: Any) -> Awaitable[RunPaths]: ...


@pytest.fixture
def train(
    app: App, workspace: Path, tiny_model: Path, pairs: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
) -> Train:
    """Launches real training runs of the tiny model."""
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))

    async def run(*, training: dict[str, Any] | None = None, **sections: Any) -> RunPaths:
        config = {
            "version": 1,
            "method": "sft",
            "model": {"name": str(tiny_model), "dtype": "float32"},
            "datasets": [{"path": str(pairs)}],
            "eval_dataset": {"fraction": 0.1},
            "peft": LORA,
            "training": {**TRAINING, **(training or {})},
            **sections,
        }
        # JSON is YAML.
        (workspace / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
        launched = await launching.launch(app, "config.yaml", again=True, key=None)
        return app.home.run(launched.run_id)

    return run


def injected(workspace: Path, fork_python: Path, code: str) -> Path:
    """A training environment's Python whose trainers run `code` before they begin."""
    inject = workspace / "inject.py"
    inject.write_text(code, encoding="utf-8")
    return program(workspace, f'FORK_INJECT="{inject}" exec "{fork_python}" "$@"', "injected")


async def result_of(app: App, run: RunPaths) -> dict[str, Any]:
    """The result of a run that must succeed."""
    state = await runs.wait(app, run, seconds=90)
    log = run.latest_attempt().log.read_text(encoding="utf-8")
    assert state == states.Succeeded(ended_by="planned_end"), log[-3000:]
    result = runs.read_result(run)
    assert result is not None
    return result


async def failure_of(app: App, run: RunPaths) -> states.Failed:
    """How a run failed that must fail."""
    state = await runs.wait(app, run, seconds=90)
    assert isinstance(state, states.Failed)
    return state


def rows_of(run: RunPaths) -> list[dict[str, Any]]:
    """The metric rows that a run has written so far."""
    return records.read_lines(run.latest_attempt().metrics)[0]


def losses(run: RunPaths) -> dict[int, float]:
    """Training loss by step, as logged."""
    return {row["step"]: row["loss"] for row in rows_of(run) if "loss" in row}


async def stop_after(app: App, run: RunPaths, step: int) -> int:
    """Stop a run some time after it logged `step`, by the signal that a stop is made of; the step it stopped at."""
    with anyio.fail_after(60):
        while max(losses(run), default=0) < step:
            assert not states.is_over(states.read_state(run)), "it ended before it could be stopped"
            await anyio.sleep(0.005)
    assert local.request_stop(run)
    assert await runs.wait(app, run, seconds=60) == states.Cancelled()
    result = runs.read_result(run)
    assert result is not None
    assert result["outcome"] == "stopped"
    return result["steps"]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)
