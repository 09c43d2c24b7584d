"""A run from config to a loaded output: real supervisor, real trainer."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from model_trainer.executors import states
from model_trainer.executors.paths import RunPaths
from model_trainer.services import launching, metrics, run_view, runs
from model_trainer.services.app import App

pytestmark = pytest.mark.anyio


def config_text(model: Path, data: Path, *, training: str = "", extra: str = "") -> str:
    return f"""version: 1
method: sft
model: {{name: {model}, dtype: float32}}
datasets: [{{path: {data}}}]
eval_dataset: {{fraction: 0.1}}
peft: {{type: lora, r: 4, lora_alpha: 8, target_modules: all-linear}}
training:
  learning_rate: 1e-2
  max_steps: 12
  per_device_train_batch_size: 4
  max_length: 128
  logging_steps: 1
  gradient_checkpointing: false
{training}
{extra}
"""


@pytest.fixture
def train(app: App, workspace: Path, tiny_model: Path, pairs: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(fork_python))

    async def run(*, training: str = "", extra: str = "", again: bool = False) -> RunPaths:
        path = workspace / "config.yaml"
        path.write_text(config_text(tiny_model, pairs, training=training, extra=extra), encoding="utf-8")
        launched = await launching.launch(app, "config.yaml", again=again, key=None)
        return app.home.run(launched.run_id)

    return run


async def test_a_lora_run_ends_succeeded_with_a_better_model(app: App, train):
    run = await train()
    state = await runs.wait(app, run, seconds=90)
    assert isinstance(state, states.Succeeded), (run.latest_attempt().log).read_text(encoding="utf-8")[-3000:]
    result = runs.read_result(run)
    assert result is not None
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
    assert result["steps"] == 12
    assert result["data"][0]["rows"] == 600
    view = await run_view.get(app, run.id)
    assert view.output == str(run.output)
    assert any("AutoPeftModelForCausalLM" in line for line in view.load)
    tail = await metrics.tail(app, run.id, cursor=None)
    assert tail.verdict == "falling"
    assert tail.last_step == 12
    assert (await metrics.tail(app, run.id, cursor=tail.cursor)).rows == 0
    assert json.loads((run.output / "adapter_config.json").read_text(encoding="utf-8"))["r"] == 4
    assert not (run.output / "training_args.bin").exists()
    await anyio.lowlevel.checkpoint()
