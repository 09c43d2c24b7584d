"""Real training, interrupted and recovered by itself: the curve is the one of a run that nothing happened to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from programs import supervisor_of, until_dead
from training_runs import LORA, Train, injected, losses, result_of, rows_of

from model_trainer.executors import host, states
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.configs import loading as configs
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import restarting
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import manifests, records

pytestmark = pytest.mark.anyio

DROPOUT = {**LORA, "lora_dropout": 0.3}
OTHER_BOOT = "00000000-0000-0000-0000-000000000000"

#: Put before what is done in one attempt only; the attempt's folder is the trainer's last argument.
IN_FIRST_ATTEMPT = """
import sys
from pathlib import Path
if Path(sys.argv[-1]).name == "1":
    from transformers import Trainer
    step = Trainer.training_step
    def training_step(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 5:
            %s
        return step(self, model, inputs, *args, **kwargs)
    Trainer.training_step = training_step
"""


def curve(run: RunPaths) -> dict[int, float]:
    """Loss by step over all attempts: of each step the newest attempt's."""
    found: dict[int, float] = {}
    for number in range(1, run.latest_attempt().number + 1):
        rows = records.read_lines(run.attempt(number).metrics)[0]
        found |= {row["step"]: row["loss"] for row in rows if "loss" in row}
    return found


def recoveries(run: RunPaths) -> list[dict[str, Any]]:
    return [row for row in records.read_lines(run.events)[0] if row["event"] == "recovering"]


async def until_step(run: RunPaths, step: int) -> None:
    with anyio.fail_after(60):
        while max(losses(run), default=0) < step:
            assert not states.is_over(states.read_state(run)), "it ended before"
            await anyio.sleep(0.005)


@pytest.fixture
def asked() -> dict[str, Any]:
    return {"peft": DROPOUT, "training": {"max_steps": 60, "save_steps": 4, "save_total_limit": 3}}


async def test_a_preempted_training_goes_on_to_the_same_curve(app: App, train: Train, asked: dict[str, Any]):
    whole = await train(**asked)
    wanted = await result_of(app, whole)
    run = await train(**asked)
    await until_step(run, 3)
    os.kill(next(row["pid"] for row in records.read_lines(run.events)[0] if row["event"] == "running"), signal.SIGTERM)
    result = await result_of(app, run)
    (recovery,) = recoveries(run)
    assert recovery["reason"] == "preempted"
    assert curve(run) == losses(whole)
    assert result["resumed"]["step"] == records.read_json(run.attempt(1).result)["steps"]  # pyright: ignore[reportOptionalSubscript]
    assert result["metrics"]["eval_loss"] == wanted["metrics"]["eval_loss"]
    assert result["metrics"]["eval_loss_before"] == wanted["metrics"]["eval_loss_before"]


async def test_a_training_that_a_restart_of_the_machine_cut_goes_on_from_its_last_checkpoint(
    app: App, train: Train, asked: dict[str, Any]
):
    whole = await train(**asked)
    await result_of(app, whole)
    run = await train(**asked)
    await until_step(run, 6)
    supervisor = supervisor_of(run)
    os.kill(supervisor, signal.SIGKILL)
    await until_dead(supervisor)
    text = run.events.read_text(encoding="utf-8")
    run.events.write_text(text.replace(host.boot_id(), OTHER_BOOT), encoding="utf-8")
    (said,) = restarting.restart_interrupted(app)
    assert "was running" in said
    result = await result_of(app, run)
    assert result["resumed"]["step"] >= 4
    assert result["resumed"]["step"] % 4 == 0
    assert curve(run) == losses(whole)
    first = await run_view.get(app, run.id)
    assert first.attempt == 2
    assert first.resumed_from_step == result["resumed"]["step"]


async def test_a_training_whose_ranks_lost_their_connection_is_tried_again_to_the_same_curve(
    app: App,
    train: Train,
    asked: dict[str, Any],
    workspace: Path,
    fork_python: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    whole = await train(**asked)
    await result_of(app, whole)
    fails = (
        'from torch.distributed import DistBackendError; raise DistBackendError("NCCL error: remote process exited")'
    )
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, IN_FIRST_ATTEMPT % fails)))
    run = await train(**asked)
    result = await result_of(app, run)
    (recovery,) = recoveries(run)
    assert (recovery["reason"], recovery["step"]) == ("communication", 5)
    assert result["resumed"]["step"] == 4
    assert curve(run) == losses(whole)


#: The GPU's memory as a stand-in: more than two rows at a time don't fit, from the sixth step on.
SMALL_MEMORY = """
import torch
from transformers import Trainer
step = Trainer.training_step
def training_step(self, model, inputs, *args, **kwargs):
    if self.state.global_step >= 5 and len(inputs["input_ids"]) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of …")
    return step(self, model, inputs, *args, **kwargs)
Trainer.training_step = training_step
"""


async def test_too_little_gpu_memory_is_answered_by_smaller_batches_that_train_the_same(
    app: App, train: Train, workspace: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
):
    def training(batch: int, accumulation: int) -> dict[str, Any]:
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        return {"max_steps": 12, "save_steps": 2, **sizes}

    small = await train(training=training(2, 4))
    await result_of(app, small)
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, SMALL_MEMORY)))
    run = await train(training=training(8, 1))
    result = await result_of(app, run)
    assert [row["reason"] for row in recoveries(run)] == ["oom_gpu", "oom_gpu"]
    assert result["resumed"]["step"] == 4
    config = configs.load_config(run.attempt(3).config).config
    assert config.training == {**configs.load_config(run.config).config.training, **training(2, 4)}
    # The same rows in the same order, summed in other groups.
    assert curve(run) == pytest.approx(losses(small), rel=1e-4)
    assert max(curve(run)) == 12
    ended = await run_view.get(app, run.id)
    assert ended.attempt == 3
    assert len(ended.recoveries) == 2


async def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_tried_again(
    app: App, train: Train, workspace: Path, fork_python: Path, monkeypatch: pytest.MonkeyPatch
):
    bad = 'return step(self, model, inputs, *args, **kwargs) * float("nan")'
    code = IN_FIRST_ATTEMPT.replace("global_step == 5", "global_step >= 5") % bad
    monkeypatch.setenv("MODEL_TRAINER_PYTHON", str(injected(workspace, fork_python, code)))
    run = await train(training={"max_steps": 20, "save_steps": 2}, eval_dataset=None)
    state = await runs.wait(app, run, seconds=60)
    assert isinstance(state, states.Failed)
    assert state.reason == "diverged"
    assert "from step 6" in state.detail
    assert recoveries(run) == []
    good, _ = manifests.last_good(run.checkpoints)
    assert good is not None
    assert "learning_rate" in (await run_view.get(app, run.id)).next_step
    assert rows_of(run)
