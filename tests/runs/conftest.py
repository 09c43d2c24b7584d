"""Runs that tests launch: real training of the tiny model, and a shell command in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import program
from training_runs import train

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


__all__ = ["shell_config", "train"]
