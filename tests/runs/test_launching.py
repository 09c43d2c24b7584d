"""The same thing is not started twice by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_trainer.executors.errors import ConfigError, EnvironmentFault, ModelTrainerError, RunError
from model_trainer.services.app import App
from model_trainer.services.runs import launching
from model_trainer.services.runs import life as runs

pytestmark = pytest.mark.anyio

CONFIG = """method: sft
model: {name: %s, dtype: float32}
datasets: [{path: %s}]
training: {max_steps: 1, learning_rate: 1e-3}
"""


@pytest.fixture
def config(workspace: Path, tiny_model: Path, pairs: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))
    path = workspace / "config.yaml"
    path.write_text(CONFIG % (tiny_model, pairs), encoding="utf-8")
    return path


async def end(app: App, run_id: str) -> None:
    await runs.wait(app, app.home.run(run_id), seconds=60)


async def test_the_same_config_again_is_refused_naming_the_run_unless_asked(app: App, config: Path):
    first = await launching.launch(app, str(config), again=False, key=None)
    config.write_text("# a comment changes nothing\n" + config.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(RunError) as caught:
        await launching.launch(app, str(config), again=False, key=None)
    assert caught.value.code == "duplicate_run"
    assert first.run_id in caught.value.next_step
    second = await launching.launch(app, str(config), again=True, key=None)
    assert second.run_id != first.run_id
    await end(app, first.run_id)
    await end(app, second.run_id)


async def test_a_key_starts_one_run_and_another_config_under_it_conflicts(app: App, config: Path):
    first = await launching.launch(app, str(config), again=False, key="mine")
    again = await launching.launch(app, str(config), again=False, key="mine")
    assert again.already_running
    assert again.run_id == first.run_id
    config.write_text(config.read_text(encoding="utf-8").replace("1e-3", "2e-3"), encoding="utf-8")
    with pytest.raises(RunError) as caught:
        await launching.launch(app, str(config), again=False, key="mine")
    assert caught.value.code == "key_conflict"
    await end(app, first.run_id)


async def test_a_method_of_a_later_version_is_refused_with_those_there_are(app: App, config: Path):
    config.write_text(config.read_text(encoding="utf-8").replace("sft", "dpo"), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        await launching.launch(app, str(config), again=False, key=None)
    assert caught.value.code == "method_unavailable"
    assert "sft" in caught.value.message


@pytest.mark.parametrize(
    ("missing", "code"), [("model", "model_not_found"), ("data", "file_not_found"), ("config", "config_not_found")]
)
async def test_what_is_not_there_is_said_before_anything_starts(app: App, config: Path, missing: str, code: str):
    text = config.read_text(encoding="utf-8")
    if missing == "config":
        config.unlink()
    else:
        line = {"model": "name: /", "data": "path: /"}[missing]
        config.write_text(text.replace(line, line + "nowhere/"), encoding="utf-8")
    with pytest.raises(ModelTrainerError) as caught:
        await launching.launch(app, str(config), again=False, key=None)
    assert caught.value.code == code
    assert list(runs.all_runs(app)) == []


async def test_a_training_environment_without_trl_is_named_with_what_it_lacks(
    app: App, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\nexec /usr/bin/env python3 -S -I "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(bare))
    with pytest.raises(EnvironmentFault) as caught:
        await launching.launch(app, str(config), again=False, key=None)
    assert caught.value.code == "environment_incomplete"
    assert "trl" in caught.value.message
    assert "model-trainer setup" in caught.value.next_step
