"""A run from config to a loaded output: real supervisor, real trainer."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import Table, parquet
from training_runs import Train, failure_of, result_of, rows_of, stop_after, write_rows

from model_trainer.services.app import App
from model_trainer.services.runs import metrics
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import manifests, records

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
    assert all(0.1 < row["rss_gib"] < 8 for row in rows_of(run))
    assert json.loads((run.output / "adapter_config.json").read_text(encoding="utf-8"))["r"] == 4
    assert not (run.output / "training_args.bin").exists()


async def test_learning_rate_zero_does_not_make_the_model_better(app: App, train: Train):
    result = await result_of(app, await train(training={"learning_rate": 1e-30}))
    assert result["metrics"]["eval_loss"] == pytest.approx(result["metrics"]["eval_loss_before"], abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_full_fine_tuning_trains_and_saves_a_whole_model_in_the_configs_dtype(
    app: App, tiny_model: Path, train: Train, dtype: str
):
    run = await train(peft=None, model={"name": str(tiny_model), "dtype": dtype}, training={"max_steps": 12})
    result = await result_of(app, run)
    assert result["output"]["kind"] == "model"
    assert list(result["parameters"]["trained"]) == [dtype]
    assert result["parameters"]["frozen"] == {}
    assert stored_dtypes(run.output / "model.safetensors") == {{"float32": "F32", "bfloat16": "BF16"}[dtype]}
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
    view = await run_view.get(app, run.id)
    assert any("AutoModelForCausalLM" in line for line in view.load)


async def test_a_lora_base_loads_in_the_configs_dtype_and_its_adapter_in_float32(
    app: App, tiny_model: Path, train: Train
):
    run = await train(model={"name": str(tiny_model), "dtype": "bfloat16"}, training={"max_steps": 2})
    result = await result_of(app, run)
    assert list(result["parameters"]["frozen"]) == ["bfloat16"]
    assert list(result["parameters"]["trained"]) == ["float32"]
    assert stored_dtypes(run.output / "adapter_model.safetensors") == {"F32"}


def stored_dtypes(path: Path) -> set[str]:
    """Types in a safetensors file's header: 8 bytes of length, then JSON."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}


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


def chat(number: int, *, answers: bool = True) -> list[dict[str, str]]:
    asked = [{"role": "user", "content": f"What is {number}?"}]
    return [*asked, {"role": "assistant", "content": f"It is {number}."}] if answers else asked


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "double",
            "description": "Twice a number",
            "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
        },
    }
]
CALL = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "double", "arguments": {"number": 4}}}],
}
FORMS: dict[str, list[dict[str, Any]]] = {
    "text": [{"text": f"The number {i} comes after {i - 1}."} for i in range(20)],
    "messages": [{"messages": chat(i)} for i in range(20)],
    "conversational prompt and completion": [
        {"prompt": chat(i, answers=False), "completion": chat(i)[1:]} for i in range(20)
    ],
    "tools": [
        {
            "messages": [*chat(i, answers=False), CALL, {"role": "tool", "content": "8"}, *chat(i)[1:]],
            "tools": TOOLS,
        }
        for i in range(20)
    ],
}


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_rows_trains(app: App, workspace: Path, train: Train, form: str):
    entry = {"path": write_rows(workspace / "rows.jsonl", FORMS[form])}
    result = await result_of(app, await train(datasets=[entry], eval_dataset=None, training={"max_steps": 2}))
    assert result["data"][0]["rows"] == 20


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl.gz", "folder"])
async def test_every_kind_of_file_trains_and_so_does_a_held_out_file(
    app: App, workspace: Path, train: Train, kind: str
):
    rows = [{"prompt": f"What is {i}, please?", "completion": f"It is {i}."} for i in range(20)]
    path = write_files(workspace / "rows", kind, rows)
    held_out = write_rows(workspace / "held.jsonl", rows[:6])
    run = await train(datasets=[{"path": str(path)}], eval_dataset={"path": held_out}, training={"max_steps": 2})
    result = await result_of(app, run)
    assert [(one["rows"], one.get("eval", False)) for one in result["data"]] == [(20, False), (6, True)]
    assert result["metrics"]["eval_loss"] > 0


def write_files(stem: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    """The rows in one file, or, in two files of a folder."""
    path = stem.with_suffix(f".{kind}")
    match kind:
        case "csv":
            with open(path, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case "parquet":
            parquet.write_table(Table.from_pylist(rows), path)
        case "jsonl.gz":
            path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        case _:
            stem.mkdir()
            write_rows(stem / "a.jsonl", rows[:10])
            write_rows(stem / "b.jsonl", rows[10:])
            return stem
    return path


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


async def test_clipped_gradients_hold_the_weights_where_unclipped_ones_ruin_them(app: App, train: Train):
    # The same learning rate without clipping diverges (the next test); with it no step is longer than the norm.
    held = {"learning_rate": 1.0, "max_grad_norm": 1e-6, "max_steps": 6, "optim": "sgd"}
    result = await result_of(app, await train(peft=None, training=held))
    assert result["metrics"]["eval_loss"] == pytest.approx(result["metrics"]["eval_loss_before"], abs=1e-3)


async def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(app: App, train: Train):
    wild = {"learning_rate": 1.0, "max_grad_norm": 0, "max_steps": 60, "optim": "sgd", "save_steps": 1}
    run = await train(peft=None, training=wild)
    failed = await failure_of(app, run)
    assert failed.reason == "diverged"
    # A checkpoint of ruined weights is kept to look at, and never taken for a good one.
    good, bad = manifests.last_good(run.checkpoints)
    assert bad[0].problems == ("the weights hold NaN or infinity",)
    named = records.read_json(run.checkpoints / manifests.LAST_GOOD) or {}
    assert named.get("step") == (good.step if good is not None else None)
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


async def test_rows_of_which_nothing_is_left_to_learn_are_counted_and_told(app: App, workspace: Path, train: Train):
    short = [{"prompt": "a", "completion": f" b{number}"} for number in range(12)]
    long = [{"prompt": "def f(x): " * 20, "completion": f" c{number}"} for number in range(5)]
    data = write_rows(workspace / "mixed.jsonl", [*short, *long])
    run = await train(datasets=[{"path": data}], eval_dataset=None, training={"max_length": 16, "max_steps": 2})
    result = await result_of(app, run)
    assert result["rows"] == {"training": 17, "dropped": 5}
    seen = await run_view.get(app, run.id)
    assert seen.dropped_rows == 5
    assert "5 training rows were dropped" in seen.text()
    packed = await train(
        datasets=[{"path": data}], eval_dataset=None, training={"max_length": 16, "max_steps": 2, "packing": True}
    )
    assert (await result_of(app, packed))["rows"]["dropped"] == 0


async def test_a_broken_line_that_reaches_the_trainer_is_bad_data_and_says_where(
    app: App, workspace: Path, train: Train
):
    data = Path(write_rows(workspace / "broken.jsonl", [{"prompt": "a", "completion": "b"}] * 3))
    data.write_text(data.read_text(encoding="utf-8") + '{"prompt": "a", "compl\n', encoding="utf-8")
    failed = await failure_of(app, await train(datasets=[{"path": str(data)}], eval_dataset=None))
    assert failed.reason == "bad_data"
    assert "row 3" in failed.detail
