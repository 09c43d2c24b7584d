"""A run from config to a loaded output: real supervisor, real trainer."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from training_runs import Train, failure_of, result_of, rows_of, stop_after, write_rows

from model_trainer.services import metrics, run_view
from model_trainer.services.app import App
from model_trainer.trainer import manifests

pytestmark = pytest.mark.anyio


async def test_a_lora_run_ends_succeeded_with_a_better_model(app: App, train: Train):
    run = await train(training={"max_steps": 12})
    result = await result_of(app, run)
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


async def test_learning_rate_zero_does_not_make_the_model_better(app: App, train: Train):
    result = await result_of(app, await train(training={"learning_rate": 1e-30}))
    assert result["metrics"]["eval_loss"] == pytest.approx(result["metrics"]["eval_loss_before"], abs=1e-6)


async def test_full_fine_tuning_saves_a_whole_model(app: App, train: Train):
    run = await train(peft=None)
    result = await result_of(app, run)
    assert result["output"]["kind"] == "model"
    view = await run_view.get(app, run.id)
    assert any("AutoModelForCausalLM" in line for line in view.load)


async def test_a_quantized_base_trains_an_adapter(app: App, train: Train):
    result = await result_of(app, await train(quantization="nf4", training={"max_steps": 2}))
    assert result["output"]["kind"] == "adapter"


async def test_packed_rows_train(app: App, train: Train):
    result = await result_of(app, await train(training={"packing": True, "max_steps": 2, "max_length": 256}))
    assert result["steps"] == 2


async def test_alpaca_columns_are_mapped_and_chats_rendered(app: App, workspace: Path, train: Train):
    alpaca = [{"instruction": f"Say {i}", "input": "" if i % 2 else "now", "output": f"{i}!"} for i in range(40)]
    entry = {
        "path": write_rows(workspace / "alpaca.jsonl", alpaca),
        "columns": {"prompt": ["instruction", "input"], "completion": "output"},
    }
    result = await result_of(app, await train(datasets=[entry], training={"max_steps": 2}))
    assert result["data"][0]["format"] == "prompt_completion"
    chats = [
        {"conversations": [{"from": "human", "value": f"Say {i}"}, {"from": "gpt", "value": f"{i}!"}]}
        for i in range(40)
    ]
    entry = {
        "path": write_rows(workspace / "sharegpt.jsonl", chats),
        "columns": {"messages": "conversations"},
        "turns": {"role": "from", "content": "value", "roles": {"human": "user", "gpt": "assistant"}},
    }
    training = {"max_steps": 2, "assistant_only_loss": True}
    result = await result_of(app, await train(datasets=[entry], training=training))
    assert result["data"][0]["format"] == "messages"


async def test_a_mixture_takes_each_dataset_by_its_weight(app: App, workspace: Path, train: Train):
    one = write_rows(workspace / "one.jsonl", [{"text": f"one {i}"} for i in range(10)])
    two = write_rows(workspace / "two.jsonl", [{"text": f"two {i}"} for i in range(10)])
    result = await result_of(
        app,
        await train(
            datasets=[{"path": one, "weight": 2.0}, {"path": two, "weight": 0.5}],
            eval_dataset={"path": two},
            training={"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 5},
        ),
    )
    assert result["steps"] == 5  # 2 x 10 + 0.5 x 10 rows in batches of five


async def test_data_whose_labels_are_all_masked_are_refused(app: App, workspace: Path, train: Train):
    rows = [{"prompt": "a long prompt " * 40, "completion": "short"} for _ in range(20)]
    entry = {"path": write_rows(workspace / "masked.jsonl", rows)}
    failed = await failure_of(app, await train(datasets=[entry], eval_dataset=None, training={"max_length": 16}))
    assert failed.reason == "bad_data"
    assert "masked" in failed.detail


async def test_columns_that_the_method_cannot_use_are_refused(app: App, workspace: Path, train: Train):
    entry = {"path": write_rows(workspace / "odd.jsonl", [{"question": "a", "answer": "b"}] * 4)}
    failed = await failure_of(app, await train(datasets=[entry]))
    assert failed.reason == "bad_data"
    assert "question, answer" in failed.detail


async def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(app: App, train: Train):
    run = await train(peft=None, training={"learning_rate": 1.0, "max_grad_norm": 0, "max_steps": 60, "optim": "sgd"})
    failed = await failure_of(app, run)
    assert failed.reason == "diverged"
    tail = await metrics.tail(app, run.id, cursor=None)
    assert tail.verdict == "non_finite"
    assert tail.first_nonfinite_step is not None


async def test_a_stop_saves_a_checkpoint_at_the_steps_end(app: App, train: Train):
    run = await train(training={"max_steps": 5000, "save_strategy": "no"})
    step = await stop_after(app, run, 1)
    good, bad = manifests.last_good(run.checkpoints)
    assert good is not None
    assert good.step == step
    assert bad == []


async def test_rotation_keeps_the_newest_verified_checkpoints(app: App, train: Train):
    run = await train(training={"save_steps": 1, "save_total_limit": 2, "max_steps": 5})
    await result_of(app, run)
    assert [manifests.step_of(folder) for folder in manifests.folders(run.checkpoints)] == [5, 4]
    good, _ = manifests.last_good(run.checkpoints)
    assert good is not None
    assert good.step == 5
    # A checkpoint with a flipped bit is not trusted; the one before it is.
    weights = good.folder / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    older, bad = manifests.last_good(run.checkpoints)
    assert older is not None
    assert older.step == 4
    assert bad[0].problems == ("adapter_model.safetensors has other bytes",)
