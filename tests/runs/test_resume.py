"""Going on with a run that ended, as if it had never stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from counts import times
from training_runs import LORA, Train, failure_of, losses, result_of, rows_of, stop_after, write_rows

from model_trainer.executors import states
from model_trainer.executors.errors import ArgumentError, RunError
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import resuming
from model_trainer.services.runs.resuming import ResumeRequest, ResumeResult
from model_trainer.trainer import manifests, records

pytestmark = pytest.mark.anyio

DROPOUT = {**LORA, "lora_dropout": 0.3}
EPOCHS = {"max_steps": -1, "eval_strategy": "epoch"}


async def resume(app: App, run: RunPaths, **asked: Any) -> tuple[RunPaths, ResumeResult]:
    answer = await resuming.resume(app, ResumeRequest(run.id, **asked))
    return app.home.run(answer.run_id), answer


async def refused(app: App, run: RunPaths, **asked: Any) -> RunError:
    with pytest.raises(RunError) as caught:
        await resuming.resume(app, ResumeRequest(run.id, **asked))
    return caught.value


@dataclass(frozen=True)
class Case:
    """What is trained on the first `rows` rows."""

    training: dict[str, Any]
    rows: int = 100
    peft: dict[str, Any] | None = field(default_factory=lambda: DROPOUT)
    dtype: str = "float32"
    quantization: str | None = None
    eval_dataset: dict[str, Any] | None = field(default_factory=lambda: {"fraction": 0.1})


CASES = {
    "dropout": Case({}),
    "packing": Case({"packing": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}),
    "metric rows over several steps": Case({"logging_steps": 7}),
    "all weights, by epochs": Case({**EPOCHS, "num_train_epochs": 3, "save_strategy": "epoch"}, peft=None),
    "bfloat16": Case({}, dtype="bfloat16"),
    # Not exact with a measurement at the start: in eval mode on a CPU, bitsandbytes changes its weights' layout.
    "quantized": Case({}, dtype="bfloat16", quantization="nf4", eval_dataset=None),
    "a stop at an epoch's end": Case({**EPOCHS, "num_train_epochs": 45, "save_strategy": "no"}, rows=5),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_curve_after_stop_and_resume_is_the_uninterrupted_one(
    app: App, workspace: Path, pairs: Path, tiny_model: Path, train: Train, case: Case
):
    few = workspace / "few.jsonl"
    few.write_text("".join(pairs.read_text(encoding="utf-8").splitlines(keepends=True)[: case.rows]), encoding="utf-8")
    asked: dict[str, Any] = {
        "model": {"name": str(tiny_model), "dtype": case.dtype},
        "datasets": [{"path": str(few)}],
        "eval_dataset": case.eval_dataset,
        "peft": case.peft,
        "quantization": case.quantization,
        "training": {"max_steps": 60, **case.training},
    }
    whole = await train(**asked)
    wanted = await result_of(app, whole)
    stopped = await train(**asked)
    step = await stop_after(app, stopped, random.randint(1, 12))
    child, answer = await resume(app, stopped)
    result = await result_of(app, child)
    assert answer.from_step == step
    assert runs.asked(child)["parent"] == stopped.id
    # A bit for bit equal loss, at every step of the curve.
    assert {**losses(stopped), **losses(child)} == losses(whole)
    assert min(losses(child)) > step
    for name in ("eval_loss", "eval_loss_before"):
        assert result["metrics"].get(name) == wanted["metrics"].get(name)
    assert result["resumed"]["step"] == step
    tokens = [row["num_tokens"] for row in rows_of(child) if "loss" in row]
    assert tokens == [row["num_tokens"] for row in rows_of(whole) if "loss" in row][-len(tokens) :]


async def test_a_resume_measures_nothing_at_its_start_and_leaves_the_parents_checkpoints(app: App, train: Train):
    run = await train(training={"max_steps": 5000})
    step = await stop_after(app, run, 2)
    kept = sorted(path.name for path in run.checkpoints.iterdir())
    child, answer = await resume(app, run, max_steps=step + 2)
    await result_of(app, child)
    assert not any(row["step"] == step and "eval_loss" in row for row in rows_of(child))
    assert sorted(path.name for path in run.checkpoints.iterdir()) == kept
    assert [manifests.step_of(folder) for folder in manifests.folders(child.checkpoints)] == [step + 2]
    assert "the rate jumps there" in answer.text()


async def test_a_finished_run_extended_at_a_level_rate_is_the_longer_run(app: App, train: Train):
    level = {"lr_scheduler_type": "constant"}
    longer = await train(peft=DROPOUT, training={"max_steps": 8, **level}, eval_dataset=None)
    await result_of(app, longer)
    short = await train(peft=DROPOUT, training={"max_steps": 5, **level}, eval_dataset=None)
    await result_of(app, short)
    error = await refused(app, short)
    assert error.code == "nothing_left"
    assert "max_steps=…" in error.next_step
    child, answer = await resume(app, short, max_steps=8)
    await result_of(app, child)
    assert {**losses(short), **losses(child)} == losses(longer)
    assert answer.warnings == []
    assert (await refused(app, short, max_steps=8)).code == "duplicate_run"
    again, _ = await resume(app, short, max_steps=8, again=True)
    await result_of(app, again)


async def test_an_extended_linear_schedule_goes_on_at_the_longer_ones_rate(app: App, train: Train):
    longer = await train(training={"max_steps": 12}, eval_dataset=None)
    await result_of(app, longer)
    short = await train(training={"num_train_epochs": 0.05, "max_steps": -1, "save_steps": 9}, eval_dataset=None)
    steps = (await result_of(app, short))["steps"]
    assert steps == 8
    with pytest.raises(ArgumentError) as caught:
        await resuming.resume(app, ResumeRequest(short.id, num_train_epochs=0.01))
    assert f"step {steps}" in caught.value.message
    with pytest.raises(ArgumentError) as caught:
        await resuming.resume(app, ResumeRequest(short.id, max_steps=steps))
    assert f"max_steps={steps + 1}" in caught.value.next_step
    child, _ = await resume(app, short, max_steps=12)
    await result_of(app, child)
    # The finished schedule's rate was 0: were it kept, the first step would change nothing.
    ends, goes_on = run_weights(short, steps), run_weights(child, steps + 1)
    assert ends != goes_on
    rates = {row["step"]: row["learning_rate"] for row in rows_of(longer) if "loss" in row}
    assert {row["step"]: row["learning_rate"] for row in rows_of(child) if "loss" in row} == {
        step: rate for step, rate in rates.items() if step > steps
    }


def run_weights(run: RunPaths, step: int) -> bytes:
    return (run.checkpoints / f"checkpoint-{step}" / "adapter_model.safetensors").read_bytes()


async def test_a_run_that_lives_is_not_gone_on_with(app: App, train: Train):
    run = await train(training={"max_steps": 5000})
    error = await refused(app, run, max_steps=9000)
    assert error.code == "run_live"
    assert "stop_run" in error.next_step
    assert "max_steps=9000" in error.next_step
    await stop_after(app, run, 1)


@pytest.mark.soak
async def test_kills_in_the_middle_of_a_save_cost_no_more_than_that_checkpoint(app: App, train: Train):
    asked: dict[str, Any] = {
        "peft": DROPOUT,
        "training": {"max_steps": 5000, "save_steps": 1, "save_total_limit": None},
        "eval_dataset": None,
    }
    chance = random.Random(20261125)
    run = await train(**asked)
    chain, began = [run], 0
    for _ in range(times(3, 25)):
        cut = await kill_in_a_save(app, run, after=began + chance.randint(1, 3), chance=chance)
        good, bad = manifests.last_good(run.checkpoints)
        assert good is not None
        assert (good.step, [verdict.step for verdict in bad]) == (cut - 1, [cut])
        run, answer = await resume(app, run)
        assert answer.from_step == good.step
        (skipped,) = answer.skipped
        assert skipped.startswith(f"checkpoint-{cut}: ")
        chain, began = [*chain, run], good.step
    last = await stop_after(app, run, began + 2)
    assert manifests.verify(run.checkpoints / f"checkpoint-{last}").is_good
    whole = await train(**asked)
    assert await stop_after(app, whole, last) >= last
    wanted, seen = exact_rows(whole), set[int]()
    for part in chain:
        # Each row of each run, also those of the steps that were trained twice: no bit differs, nor does the rate.
        assert exact_rows(part).items() <= wanted.items()
        seen |= exact_rows(part).keys()
    assert seen == set(range(1, last + 1))


def exact_rows(run: RunPaths) -> dict[int, tuple[float, ...]]:
    """Loss, norm of the gradients, rate and tokens of each step."""
    told = ("loss", "grad_norm", "learning_rate", "num_tokens")
    return {row["step"]: tuple(row[name] for name in told) for row in rows_of(run) if "loss" in row}


#: What shows in a checkpoint's folder while it is saved, in this order; the manifest comes last.
SAVED = ("", "adapter_model.safetensors", *manifests.NEEDED[1:3], "rng_state.pth", *manifests.NEEDED[::3])


async def kill_in_a_save(app: App, run: RunPaths, *, after: int, chance: random.Random) -> int:
    """Kill a run's trainer at a random moment in one of its saves behind step `after`; the step of that save.

    It is stopped first, so that it is certain that the save wasn't over.
    """
    shows, looks = chance.choice(SAVED), chance.randint(0, 3)
    with anyio.fail_after(60):
        while not (told := list(run.attempt(1).root.glob("stacks-*.txt"))):
            await anyio.sleep(0.01)
        trainer = int(told[0].stem.partition("-")[2])
        while True:
            newest = next(iter(manifests.folders(run.checkpoints)), None)
            if newest is None or manifests.step_of(newest) <= after or not (newest / shows).exists():
                await anyio.sleep(0.0005)
                continue
            for _ in range(looks):
                await anyio.lowlevel.checkpoint()
            os.kill(trainer, signal.SIGSTOP)
            while state_of(trainer) != "T":
                await anyio.lowlevel.checkpoint()
            if not (newest / manifests.MANIFEST).exists():
                os.kill(trainer, signal.SIGKILL)
                break
            os.kill(trainer, signal.SIGCONT)
            after = manifests.step_of(newest)
    failed = await failure_of(app, run)
    assert "SIGKILL" in failed.detail
    return manifests.step_of(newest)


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0]


async def test_damaged_checkpoints_are_passed_over_and_named(app: App, train: Train):
    run = await train(training={"max_steps": 5, "save_steps": 1, "save_total_limit": 4}, eval_dataset=None)
    await result_of(app, run)
    five, four, three = (run.checkpoints / f"checkpoint-{step}" for step in (5, 4, 3))
    (five / "optimizer.pt").unlink()
    state = bytearray((four / "scheduler.pt").read_bytes())
    state[len(state) // 2] ^= 1
    (four / "scheduler.pt").write_bytes(state)
    error = await refused(app, run, checkpoint=5, max_steps=7)
    assert error.code == "no_checkpoint"
    assert "optimizer.pt is gone" in error.message
    missing = await refused(app, run, checkpoint=40, max_steps=70)
    assert "there are 5, 4, 3, 2" in missing.message
    child, answer = await resume(app, run, max_steps=7)
    assert answer.from_step == 3
    assert answer.skipped == ["checkpoint-5: optimizer.pt is gone", "checkpoint-4: scheduler.pt has other bytes"]
    await result_of(app, child)
    for folder in manifests.folders(run.checkpoints):
        (folder / manifests.MANIFEST).unlink()
    none = await refused(app, run, max_steps=7)
    assert none.code == "no_checkpoint"
    assert "checkpoint-3: it has no manifest" in none.message
    assert f"launch_run(config={str(run.config)!r}" in none.next_step
    assert three.is_dir()


async def test_the_trainer_itself_refuses_a_checkpoint_that_was_damaged_meanwhile(app: App, train: Train):
    run = await train(training={"max_steps": 2}, eval_dataset=None)
    await result_of(app, run)
    hidden = run.checkpoints.with_name("elsewhere")
    shutil.move(run.checkpoints, hidden)
    weights = hidden / "checkpoint-2" / "adapter_model.safetensors"
    request = {**runs.asked(run)["request"], "resume_from": str(weights.parent), "extends": True}
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    child = await runs.start(
        app,
        runs.Launch(
            kind="train",
            python=Path(runs.asked(run)["argv"][0]),
            label="sft",
            request=request,
            config_text=run.config.read_text(encoding="utf-8"),
        ),
    )
    failed = await failure_of(app, child)
    assert failed.reason == "incomplete"
    assert "adapter_model.safetensors has another size" in failed.detail


async def test_changed_data_are_refused_by_name_unless_allowed_and_then_told(app: App, workspace: Path, train: Train):
    folder = workspace / "rows"
    folder.mkdir()
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(40)]
    write_rows(folder / "a.jsonl", rows[:20])
    changed = Path(write_rows(folder / "b.jsonl", rows[20:]))
    run = await train(datasets=[{"path": str(folder)}], training={"max_steps": 3})
    result = await result_of(app, run)
    recorded = records.read_json(run.attempt(1).root / "data.json")
    assert recorded is not None
    assert [Path(file["path"]).name for file in recorded["datasets"][0]["files"]] == ["a.jsonl", "b.jsonl"]
    assert result["data"] == [{k: v for k, v in recorded["datasets"][0].items() if k != "files"}]
    write_rows(changed, rows[10:30])
    child, _ = await resume(app, run, max_steps=5)
    failed = await failure_of(app, child)
    assert failed.reason == "bad_data"
    assert f"{changed} has other bytes" in failed.detail
    allowed, _ = await resume(app, run, max_steps=5, allow_changed_data=True)
    assert (await result_of(app, allowed))["data_changed"] == [f"{changed} has other bytes"]


async def test_a_run_that_only_lacked_its_output_is_finished_without_another_step(app: App, train: Train):
    run = await train(training={"max_steps": 3})
    result = await result_of(app, run)
    # As if the trainer had been killed after the last save and before the output was there.
    run.exit_json.unlink()
    assert states.read_state(run).status == "lost"
    child, _ = await resume(app, run)
    finished = await result_of(app, child)
    assert finished["steps"] == 3
    assert finished["metrics"]["eval_loss"] == result["metrics"]["eval_loss"]
    one, other = (folder.output / "adapter_model.safetensors" for folder in (run, child))
    assert one.read_bytes() == other.read_bytes()


async def test_a_resumed_run_that_saved_nothing_is_gone_on_with_from_where_it_began(app: App, train: Train):
    run = await train(training={"max_steps": 3}, eval_dataset=None)
    await result_of(app, run)
    child, _ = await resume(app, run, max_steps=5)
    await result_of(app, child)
    shutil.rmtree(child.checkpoints)
    grandchild, answer = await resume(app, child, max_steps=6)
    assert answer.checkpoint == str(run.checkpoints / "checkpoint-3")
    await result_of(app, grandchild)


async def test_a_run_without_checkpoints_says_so(app: App, train: Train):
    run = await train(training={"max_steps": 1, "save_strategy": "no"}, eval_dataset=None)
    await result_of(app, run)
    error = await refused(app, run, max_steps=3)
    assert error.code == "no_checkpoint"
    assert "It saved none." in error.message


async def test_only_training_runs_are_gone_on_with(app: App, train: Train):
    run = await train(training={"max_steps": 1}, eval_dataset=None)
    await result_of(app, run)
    run.run_json.write_text(json.dumps({**runs.asked(run), "kind": "inspect"}), encoding="utf-8")
    assert "of kind inspect" in (await refused(app, run, max_steps=3)).message
