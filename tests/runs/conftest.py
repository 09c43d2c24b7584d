"""Runs that tests launch: real training of the tiny model, and a shell command in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from programs import program
from training_runs import LORA, TRAINING, Train

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import launching

CONFIG = """method: sft
model: {name: %s, dtype: float32}
datasets: [{path: %s}]
training: {max_steps: 1}
"""


@pytest.fixture
def shell_config(
    workspace: Path, tiny_model: Path, pairs: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Its training environment runs `workspace/train.sh` where it should train; all else is the real one's."""
    body = f'case "$3" in train) exec /bin/sh "{workspace}/train.sh" "$@";; *) exec "{fork_python}" "$@";; esac'
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(program(workspace, body, "shell")))
    path = workspace / "config.yaml"
    path.write_text(CONFIG % (tiny_model, pairs), encoding="utf-8")
    return path


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
