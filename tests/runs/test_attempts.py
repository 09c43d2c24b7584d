"""A later attempt of the same run: what it goes on from, and that its numbers are those of a run left alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attempts import Attempts
from numpy.linalg import norm
from safetensors.numpy import load_file
from training_runs import LORA, TRAINING

from model_trainer.trainer import manifests, records

STEPS = 8


def config(tiny_model: Path, pairs: Path, *, dropout: float = 0.3, **training: Any) -> dict[str, Any]:
    """A training in which nothing that a resume might forget stays without effect: dropout, a falling rate, AdamW."""
    return {
        "model": {"name": str(tiny_model), "dtype": "float32"},
        "datasets": [{"path": str(pairs)}],
        "eval_dataset": {"fraction": 0.05},
        "peft": {**LORA, "lora_dropout": dropout},
        "guards": {"nonfinite_steps": 2},
        "training": {**TRAINING, "max_steps": STEPS, "save_steps": 2, "save_total_limit": 10, **training},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, pairs: Path, fork_python: Path) -> Attempts:
    """A run of eight steps, saved at every second, which nothing happened to. To be copied, not changed."""
    attempts = Attempts.of(tmp_path_factory.mktemp("trained"), fork_python, **config(tiny_model, pairs))
    succeeded(attempts, 1)
    return attempts


@pytest.fixture
def cut(trained: Attempts, tmp_path: Path) -> Attempts:
    """The same run, ended behind its checkpoint of step 6."""
    return cut_behind(trained, 6, tmp_path)


def cut_behind(attempts: Attempts, step: int, folder: Path) -> Attempts:
    copied = attempts.copy(folder)
    for later in manifests.folders(copied.run.checkpoints):
        if manifests.step_of(later) > step:
            shutil.rmtree(later)
    shutil.rmtree(copied.run.output)
    return copied


def succeeded(attempts: Attempts, number: int, **how: Any) -> dict[str, Any]:
    result = attempts.train(number, **how)
    assert result["outcome"] == "succeeded", attempts.log(number)[-3000:]
    return result


def assert_undisturbed(attempts: Attempts, whole: Attempts, last: int) -> None:
    """Optimizer, schedule, random numbers and data went on: every number is the uninterrupted run's, bit for bit."""
    for name in ("loss", "grad_norm", "learning_rate", "num_tokens"):
        assert attempts.curve(name) == whole.curve(name)
    assert attempts.weights() == whole.weights()
    told, wanted = attempts.result(last)["metrics"], whole.result(1)["metrics"]
    for name in ("eval_loss", "eval_loss_before"):
        assert told[name] == wanted[name]


#: Notes everything that a trainer says it does.
KEEPS_MESSAGES = """
import sys
def kept(event, told):
    if event == "os.rename" and str(told[1]).endswith("progress.json"):
        with open(told[0], encoding="utf-8") as said, open({said!r}, "a", encoding="utf-8") as file:
            file.write(said.read())
sys.addaudithook(kept)
"""


def test_an_attempt_without_any_good_checkpoint_begins_anew_and_says_so(trained: Attempts, cut: Attempts):
    for folder in manifests.folders(cut.run.checkpoints):
        (folder / "scheduler.pt").unlink()
    said = cut.run.root / "said"
    result = succeeded(cut, 2, inject=KEEPS_MESSAGES.format(said=str(said)))
    assert "resumed" not in result
    assert [one.partition(":")[0] for one in result["quarantined"]] == ["checkpoint-6", "checkpoint-4", "checkpoint-2"]
    assert "from the start: the attempts before left no checkpoint that verifies" in said.read_text(encoding="utf-8")
    assert_undisturbed(cut, trained, 2)


def test_an_attempt_of_a_resumed_run_falls_back_to_what_that_was_asked_to_go_on_from(
    trained: Attempts, cut: Attempts, tmp_path: Path
):
    child = cut.copy(tmp_path / "child")
    named = cut.checkpoint(6)
    records.write_json(child.run.run_json, {"kind": "train", "request": {"resume_from": str(named)}})
    for folder in manifests.folders(child.run.checkpoints):
        shutil.rmtree(folder)
    shutil.rmtree(child.run.root / "attempts" / "1")
    # The first attempt saved step 8, and a disk spoiled it.
    succeeded(child, 1)
    (child.checkpoint(8) / "optimizer.pt").write_bytes(b"")
    result = succeeded(child, 2)
    assert result["resumed"] == {"from": str(named), "step": 6}
    assert [one.partition(":")[0] for one in result["quarantined"]] == ["checkpoint-8"]
    assert child.weights() == trained.weights()
    # What the user named is refused where it is damaged: nothing else takes its place.
    (child.checkpoint(8) / "optimizer.pt").write_bytes(b"")
    (named / "rng_state.pth").unlink()
    refused = child.train(3)
    assert (refused["outcome"], refused["reason"]) == ("failed", "incomplete")
    assert "rng_state.pth is gone" in refused["detail"]
    assert named.is_dir()


#: In every training step of an attempt.
EACH_STEP = """
import torch
from transformers import Trainer
step = Trainer.training_step
def training_step(self, *args, **kwargs):
    loss = step(self, *args, **kwargs)
    {does}
Trainer.training_step = training_step
"""


def test_a_training_that_fails_after_a_resume_says_at_which_step(cut: Attempts):
    result = cut.train(2, inject=EACH_STEP.format(does='raise torch.OutOfMemoryError("CUDA out of memory.")'))
    assert (result["outcome"], result["reason"], result["steps"]) == ("failed", "oom_gpu", 6)


def test_a_loss_that_is_not_finite_after_a_resume_is_told_with_the_steps_that_it_is_about(cut: Attempts):
    result = cut.train(2, inject=EACH_STEP.format(does='return loss * float("nan")'))
    assert (result["outcome"], result["reason"]) == ("failed", "diverged")
    assert result["diverged_at"] == {"from": 7, "to": 8}
    assert "loss not finite from step 7 to 8 (2 metric rows)" in result["detail"]


@pytest.fixture(scope="module")
def best_is_two(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, pairs: Path, fork_python: Path) -> Attempts:
    """A run that ends with its best weights, which by a wrong measure are those of step 2."""
    best: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "greater_is_better": True,
    }
    asked = config(tiny_model, pairs, metric_for_best_model="eval_loss", max_steps=6, **best)
    attempts = Attempts.of(tmp_path_factory.mktemp("best"), fork_python, **asked)
    succeeded(attempts, 1)
    state = records.read_json(attempts.checkpoint(6) / "trainer_state.json")
    assert state is not None
    assert state["best_global_step"] == 2
    assert attempts.weights() == (attempts.checkpoint(2) / "adapter_model.safetensors").read_bytes()
    return attempts


def test_a_run_that_only_lacked_its_output_ends_with_its_best_weights_too(best_is_two: Attempts, tmp_path: Path):
    cut = cut_behind(best_is_two, 6, tmp_path)
    result = succeeded(cut, 2)
    assert result["resumed"]["step"] == 6
    assert cut.weights() == best_is_two.weights()
    assert result["metrics"]["eval_loss"] == best_is_two.result(1)["metrics"]["eval_loss"]


@pytest.mark.parametrize("last", [4, 6])
def test_best_weights_that_were_damaged_meanwhile_are_not_the_output(best_is_two: Attempts, tmp_path: Path, last: int):
    cut = cut_behind(best_is_two, last, tmp_path)
    # The state names the best one by its path.
    for folder in manifests.folders(cut.run.checkpoints):
        state = folder / "trainer_state.json"
        text = state.read_text(encoding="utf-8").replace(str(best_is_two.run.root), str(cut.run.root))
        state.write_text(text, encoding="utf-8")
        manifests.write(folder, finite=True)
    weights = bytearray((cut.checkpoint(2) / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (cut.checkpoint(2) / "adapter_model.safetensors").write_bytes(weights)
    result = cut.train(2)
    assert (result["outcome"], result["reason"]) == ("failed", "incomplete")
    assert f"{cut.checkpoint(2)}, the best checkpoint, can't be loaded" in result["detail"]
    assert "adapter_model.safetensors has other bytes" in result["detail"]
    assert result["steps"] == 6
    assert not cut.run.output.exists()


def test_an_attempt_with_smaller_batches_trains_what_a_run_with_those_from_the_start_does(
    tmp_path: Path, tiny_model: Path, pairs: Path, fork_python: Path
):
    # The rows are of unequal length: each small batch's loss must count by its tokens.
    small = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    wanted = Attempts.of(tmp_path / "small", fork_python, **config(tiny_model, pairs, dropout=0.0, **small))
    succeeded(wanted, 1)
    big = Attempts.of(tmp_path / "big", fork_python, **config(tiny_model, pairs, dropout=0.0))
    succeeded(big, 1)
    attempts = cut_behind(big, 4, tmp_path / "cut")
    result = succeeded(attempts, 2, training=small)
    assert result["resumed"]["step"] == 4
    assert attempts.curve("num_tokens") == wanted.curve("num_tokens")
    assert attempts.curve("learning_rate") == wanted.curve("learning_rate")
    # Measured 1e-7, 5e-7 and 1e-5; with each small batch's mean averaged instead, 1e-3, 5e-2 and 2e-2.
    assert attempts.curve() == pytest.approx(wanted.curve(), rel=1e-5)
    assert attempts.curve("grad_norm") == pytest.approx(wanted.curve("grad_norm"), rel=1e-4)
    ours, theirs = (adapter(run) for run in (attempts, wanted))
    assert norm(ours - theirs) < 1e-3 * norm(theirs)
    told, other = (run["metrics"]["eval_loss"] for run in (result, wanted.result(1)))
    assert told == pytest.approx(other, rel=1e-5)


def adapter(attempts: Attempts) -> np.ndarray:
    """All numbers of the adapter that came out, in one row."""
    tensors = load_file(attempts.run.output / "adapter_model.safetensors")
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])
