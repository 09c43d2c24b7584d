"""Checkpoints that kills, disks and people damaged: none is gone on from, and what follows is exact."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attempts import Attempts, kill_in_a_save
from counts import times
from training_runs import LORA, TRAINING

from model_trainer.trainer import manifests, records

STEPS = 8


def config(tiny_model: Path, pairs: Path, **training: Any) -> dict[str, Any]:
    """Dropout, metric rows that span a checkpoint, and a rate that a restarted schedule would show."""
    return {
        "model": {"name": str(tiny_model), "dtype": "float32"},
        "datasets": [{"path": str(pairs)}],
        "eval_dataset": {"fraction": 0.1},
        "peft": {**LORA, "lora_dropout": 0.3},
        "training": {**TRAINING, "max_steps": STEPS, "save_steps": 2, "save_total_limit": 10, **training},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, pairs: Path, fork_python: Path) -> Attempts:
    """A run of eight steps with checkpoints at 2, 4, 6 and 8, which nothing happened to. To be copied, not changed."""
    folder = tmp_path_factory.mktemp("trained")
    attempts = Attempts.of(folder, fork_python, **config(tiny_model, pairs))
    assert attempts.train(1)["outcome"] == "succeeded", attempts.log(1)[-3000:]
    return attempts


@pytest.fixture
def cut(trained: Attempts, tmp_path: Path) -> Attempts:
    """The same run, ended behind its checkpoint of step 6."""
    attempts = trained.copy(tmp_path)
    shutil.rmtree(attempts.checkpoint(8))
    shutil.rmtree(attempts.run.output)
    return attempts


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def with_nan(folder: Path) -> None:
    """As a training whose weights are ruined saves it: complete, and said to be."""
    edit(folder / WEIGHTS, lambda data: data[:-4] + struct.pack("<f", float("nan")))
    manifests.write(folder, finite=False)


def described_anew(folder: Path, gone: str) -> None:
    """A manifest that matches what is there, of which something is gone: what an older or foreign writer would do."""
    (folder / gone).unlink()
    manifests.write(folder, finite=True)


WEIGHTS = "adapter_model.safetensors"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "the weights are gone": (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is gone"),
    "the weights are cut": (lambda f: edit(f / WEIGHTS, half), f"{WEIGHTS} has another size"),
    "a bit of the weights flipped": (lambda f: edit(f / WEIGHTS, flipped), f"{WEIGHTS} has other bytes"),
    "the weights are not numbers": (with_nan, "the weights hold NaN or infinity"),
    "the folder is empty": (emptied, "no manifest"),
    "the optimizer is gone": (lambda f: (f / "optimizer.pt").unlink(), "optimizer.pt is gone"),
    "the optimizer is cut": (lambda f: edit(f / "optimizer.pt", half), "optimizer.pt has another size"),
    "a bit of the optimizer flipped": (lambda f: edit(f / "optimizer.pt", flipped), "optimizer.pt has other bytes"),
    "the schedule is gone": (lambda f: (f / "scheduler.pt").unlink(), "scheduler.pt is gone"),
    "the random numbers are gone": (lambda f: (f / "rng_state.pth").unlink(), "rng_state.pth is gone"),
    "the state is cut": (lambda f: edit(f / "trainer_state.json", half), "trainer_state.json has another size"),
    "the manifest is gone": (lambda f: (f / manifests.MANIFEST).unlink(), "no manifest"),
    "the manifest is cut": (lambda f: edit(f / manifests.MANIFEST, half), "no manifest"),
    "no optimizer was saved": (lambda f: described_anew(f, "optimizer.pt"), "optimizer.pt is missing"),
    "no schedule was saved": (lambda f: described_anew(f, "scheduler.pt"), "scheduler.pt is missing"),
    "no random numbers were saved": (lambda f: described_anew(f, "rng_state.pth"), "generators' state is missing"),
}

#: Those that transformers itself goes on from without a word, and the empty folder, at which it stops.
SILENT = (
    *("a bit of the weights flipped", "the weights are not numbers", "the folder is empty"),
    *("the optimizer is gone", "no schedule was saved", "no random numbers were saved"),
)


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_judged_bad_and_says_why(cut: Attempts, name: str):
    damage, said = DAMAGES[name]
    damage(cut.checkpoint(6))
    good, bad = manifests.last_good(cut.run.checkpoints)
    assert good is not None
    assert good.step == 4
    assert any(said in problem for problem in bad[0].problems)


@pytest.mark.parametrize("name", SILENT)
def test_an_attempt_moves_a_damaged_checkpoint_aside_and_its_curve_is_the_undisturbed_one(
    trained: Attempts, cut: Attempts, name: str
):
    damage, said = DAMAGES[name]
    damage(cut.checkpoint(6))
    left = sorted(path.name for path in cut.checkpoint(6).iterdir())
    result = cut.train(2)
    assert result["outcome"] == "succeeded", cut.log(2)[-3000:]
    assert result["resumed"] == {"from": str(cut.checkpoint(4)), "step": 4}
    (moved,) = result["quarantined"]
    assert moved.startswith("checkpoint-6: ")
    assert said in moved
    aside = cut.run.checkpoints / manifests.QUARANTINE / "checkpoint-6.1"
    assert sorted(path.name for path in aside.iterdir()) == left
    assert f"moved to {aside}" in cut.log(2)
    assert_undisturbed(cut, trained, 2)
    assert [row["step"] for row in cut.rows(2)] == [5, 6, 7, 8]


def assert_undisturbed(attempts: Attempts, whole: Attempts, last: int) -> None:
    """Optimizer, schedule, random numbers and data went on: every number is the uninterrupted run's, bit for bit."""
    for name in ("loss", "grad_norm", "learning_rate", "num_tokens"):
        assert attempts.curve(name) == whole.curve(name)
    assert attempts.weights() == whole.weights()
    wanted = whole.result(1)["metrics"]
    told = attempts.result(last)["metrics"]
    assert {name: told[name] for name in ("eval_loss", "eval_loss_before")} == {
        name: wanted[name] for name in ("eval_loss", "eval_loss_before")
    }


def test_a_checkpoint_that_was_asked_for_by_name_is_refused_if_damaged_and_not_replaced(
    trained: Attempts, tmp_path: Path, fork_python: Path
):
    parent = trained.copy(tmp_path / "parent")
    named = parent.checkpoint(6)
    (named / "optimizer.pt").unlink()
    text = json.loads(json.dumps(records.read_json(parent.run.run_json)))
    child = parent.copy(tmp_path / "child")
    shutil.rmtree(child.run.checkpoints)
    shutil.rmtree(child.run.root / "attempts")
    records.write_json(child.run.run_json, {**text, "request": {"resume_from": str(named)}})
    result = child.train(1, resume=False)
    assert (result["outcome"], result["reason"]) == ("failed", "incomplete")
    assert "optimizer.pt is gone" in result["detail"]
    assert named.is_dir()
    # A later attempt has none of its own, and takes no other one either.
    assert child.train(2)["reason"] == "incomplete"


def test_without_any_good_checkpoint_an_attempt_begins_anew_and_says_so(trained: Attempts, cut: Attempts):
    for step in (2, 4, 6):
        (cut.checkpoint(step) / "scheduler.pt").unlink()
    said = cut.run.root / "said"
    result = cut.train(2, inject=KEEPS_MESSAGES.format(said=str(said)))
    assert result["outcome"] == "succeeded", cut.log(2)[-3000:]
    assert "resumed" not in result
    assert [one.partition(":")[0] for one in result["quarantined"]] == ["checkpoint-6", "checkpoint-4", "checkpoint-2"]
    assert "from the start" in said.read_text(encoding="utf-8")
    assert_undisturbed(cut, trained, 2)
    assert [row["step"] for row in cut.rows(2)] == [1, 2, 3, 4, 5, 6, 7, 8]


#: What a trainer says it does, each message as often as it is written.
KEEPS_MESSAGES = """
import sys
def kept(event, told):
    if event == "os.rename" and str(told[1]).endswith("progress.json"):
        with open(told[0], encoding="utf-8") as said, open({said!r}, "a", encoding="utf-8") as file:
            file.write(said.read())
sys.addaudithook(kept)
"""


def test_an_attempt_that_the_supervisor_told_to_begin_anew_trusts_nothing_that_lies_in_its_way(
    trained: Attempts, cut: Attempts
):
    result = cut.train(2, resume=False)
    assert result["outcome"] == "succeeded", cut.log(2)[-3000:]
    assert "resumed" not in result
    assert [row["step"] for row in cut.rows(2)] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert_undisturbed(cut, trained, 2)
    good, bad = manifests.last_good(cut.run.checkpoints)
    assert good is not None
    assert (good.step, bad) == (8, [])


@pytest.mark.soak
def test_kills_at_any_moment_of_a_save_cost_no_more_than_that_save_and_change_no_number(
    tmp_path: Path, tiny_model: Path, pairs: Path, fork_python: Path
):
    kills = times(4, 25)
    asked = config(tiny_model, pairs, max_steps=2 * kills + 6, save_steps=1, save_total_limit=2)
    whole = Attempts.of(tmp_path / "whole", fork_python, **asked)
    assert whole.train(1)["outcome"] == "succeeded", whole.log(1)[-3000:]
    attempts = Attempts.of(tmp_path / "killed", fork_python, **asked)
    number, saved, interrupted = 1, 0, 0
    while number <= kills:
        process = attempts.begin(number)
        # The first at the save's begin, so that at least one save is cut; then anywhere in it, and just behind it.
        share = 0.0 if number == 1 else random.uniform(0.0, 1.2)
        assert kill_in_a_save(attempts, process, after=saved, share=share), attempts.log(number)[-3000:]
        good, bad = manifests.last_good(attempts.run.checkpoints)
        now = good.step if good is not None else 0
        # The save that was cut may cost its step, never one before it.
        assert now >= saved
        interrupted += len(bad)
        saved = now
        number += 1
    result = attempts.train(number)
    assert result["outcome"] == "succeeded", attempts.log(number)[-3000:]
    assert result["resumed"]["step"] == saved
    assert interrupted > 0
    assert_undisturbed(attempts, whole, number)
