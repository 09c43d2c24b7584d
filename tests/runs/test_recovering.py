"""What is tried after a failure, and what never is: the policy alone, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_trainer.executors import history
from model_trainer.executors.recovering import MOST, RUNGS, Failure, GiveUp, Recovery, decide, with_training
from model_trainer.services.configs import emit, loading
from model_trainer.services.configs.schema import Config
from model_trainer.services.configs.text import parse
from model_trainer.trainer import records

POLICY: dict[str, Any] = {"interrupted": "resume", "oom_gpu": "shrink_batch", "communication_retries": 2}
OOM = Failure("oom_gpu", 3, "train")


def ladder(policy: dict[str, Any], failure: Failure = OOM) -> tuple[list[dict[str, tuple[Any, Any]]], GiveUp]:
    """The changes of each attempt while every attempt fails the same way, and why it was given up."""
    history: list[dict[str, Any]] = []
    while isinstance(step := decide(policy, failure, history), Recovery):
        history.append({"reason": failure.reason, "step": failure.step, "changes": step.changes})
    return [row["changes"] for row in history], step


def test_out_of_gpu_memory_halves_the_batch_three_times_and_then_checkpoints_activations():
    training = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2, "gradient_checkpointing": False}
    changes, end = ladder({**POLICY, "training": training})
    batches = [change["per_device_train_batch_size"][1] for change in changes[:RUNGS]]
    accumulations = [change["gradient_accumulation_steps"][1] for change in changes[:RUNGS]]
    assert batches == [8, 4, 2]
    assert [b * a for b, a in zip(batches, accumulations, strict=True)] == [32, 32, 32]
    assert changes[RUNGS:] == [{"gradient_checkpointing": (False, True)}]
    assert "max_length" in end.why


@given(batch=st.integers(1, 96), accumulation=st.integers(1, 16))
@settings(deadline=None)
def test_the_effective_batch_stays_whatever_the_batch_was(batch: int, accumulation: int):
    training = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    changes, _ = ladder({**POLICY, "training": training})
    for change in changes:
        (old, new), (was, becomes) = change["per_device_train_batch_size"], change["gradient_accumulation_steps"]
        assert new * becomes == old * was == batch * accumulation
        assert 1 <= new <= old / 2


def test_a_config_that_is_silent_has_the_libraries_defaults_and_they_are_true():
    changes, _ = ladder({**POLICY, "training": {}})
    assert changes[0] == {"per_device_train_batch_size": (8, 4), "gradient_accumulation_steps": (1, 2)}
    # TRL checkpoints activations already: nothing is left after the batch.
    assert len(changes) == RUNGS


def test_out_of_memory_in_an_evaluation_changes_only_the_evaluations_batch():
    changes, _ = ladder({**POLICY, "training": {}}, Failure("oom_gpu", 3, "evaluate"))
    assert changes == [{"per_device_eval_batch_size": (8 // 2**n, 4 // 2**n)} for n in range(3)]


def test_a_failed_connection_is_tried_again_as_often_as_the_config_says_and_not_twice_at_one_step():
    loading_it = Failure("communication", 0, "load")
    changes, end = ladder(POLICY, loading_it)
    assert len(changes) == 2
    assert "2 retries are over" in end.why
    changes, end = ladder(POLICY, Failure("communication", 7, "train"))
    assert len(changes) == 1
    assert "twice at step 7" in end.why
    _, never = ladder({**POLICY, "communication_retries": 0}, loading_it)
    assert "is 0" in never.why


def test_an_interruption_is_gone_on_from_unless_it_comes_again_and_again_at_the_same_step():
    preempted = Failure("preempted", 5, "train")
    changes, end = ladder(POLICY, preempted)
    assert changes == [{}, {}, {}]
    assert "4 times at step 5" in end.why
    moving = [{"reason": "preempted", "step": step} for step in range(10)]
    assert isinstance(decide(POLICY, preempted, moving), Recovery)
    assert isinstance(decide({**POLICY, "interrupted": "stop"}, preempted, []), GiveUp)


def test_no_run_is_recovered_for_ever():
    moving = [{"reason": "preempted", "step": step} for step in range(MOST)]
    assert isinstance(decide(POLICY, Failure("preempted", MOST, "train"), moving), GiveUp)


@pytest.mark.parametrize(
    "reason",
    ["diverged", "hung", "timeout", "disk_full", "bad_config", "bad_data", "user_code", "oom_host", "unknown"],
)
def test_what_the_same_config_would_do_again_is_left_to_the_user(reason: str):
    assert decide(POLICY, Failure(reason, 5, "train"), []) == GiveUp()


def test_without_a_policy_nothing_is_recovered():
    assert decide(None, OOM, []) == GiveUp()
    assert isinstance(decide({**POLICY, "oom_gpu": "stop"}, OOM, []), GiveUp)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=20)
TRAINING = st.fixed_dictionaries(
    {},
    optional={
        "per_device_train_batch_size": st.integers(1, 64),
        "gradient_accumulation_steps": st.integers(1, 64),
        "gradient_checkpointing": st.booleans(),
        "learning_rate": st.floats(1e-6, 1e-2),
        "lr_scheduler_type": TEXT,
        "lr_scheduler_kwargs": st.dictionaries(
            st.sampled_from(("per_device_train_batch_size", "x")), st.integers(0, 99)
        ),
        "gradient_checkpointing_kwargs": st.just({"use_reentrant": False}),
    },
)


@given(training=TRAINING, batch=st.integers(1, 32), path=TEXT)
@settings(max_examples=60, deadline=None)
def test_only_the_changed_numbers_of_a_config_change(training: dict[str, Any], batch: int, path: str):
    config = Config.model_validate({"model": {"name": path}, "datasets": [{"path": path}], "training": training})
    text = emit.dump(loading.plain(config))
    wanted = parse(text, "config").data
    changes = {"per_device_train_batch_size": batch, "gradient_checkpointing": True}
    assert parse(with_training(text, changes), "config").data == {
        **wanted,
        "training": {**wanted["training"], **changes},
    }


def test_a_config_without_a_training_section_is_refused():
    with pytest.raises(ValueError, match="no plain training section"):
        with_training("version: 1\n", {"gradient_checkpointing": True})


def test_the_time_of_each_former_trainer_counts(tmp_path: Path):
    attempt = tmp_path / "attempts" / "2"
    attempt.mkdir(parents=True)
    records.write_json(attempt / "progress.json", {"done": 9, "clock": 1000.0})
    past = [
        {"event": "starting", "attempt": 1, "t": 0.0},
        {"event": "running", "attempt": 1, "t": 5.0, "clock": 50.0},
        {"event": "recovering", "attempt": 2, "t": 25.0},
        {"event": "running", "attempt": 2, "t": 30.0, "clock": 900.0},
    ]
    # Of the first its events tell nothing but its start, of the last its own word.
    assert history.read(tmp_path, past) == history.Former(attempt=2, began=True, step=9, seconds=100.0)
    stopped = {"event": "stopping", "t": 24.0}
    assert history.read(tmp_path, [*past[:2], stopped, *past[2:]]).seconds == 119.0
