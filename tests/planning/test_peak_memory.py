"""The closed form against traces of the real step, and the ways in which memory must behave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planning_toys import known

from model_trainer.services.planning.memory import GIB, Step, estimate_peak, trainable_parameters
from model_trainer.services.planning.shapes import Shape, shape_of

ROWS: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("traced_peaks.jsonl").read_text(encoding="utf-8").splitlines()
]
SFT = [row for row in ROWS if row["trainer"] == "sft"]
CONFIGS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("traced_models.json").read_text(encoding="utf-8")
)


def step_of(row: dict[str, Any]) -> Step:
    return Step(
        shape=shape_of(CONFIGS[row["model"]]),
        technique=row["method"],
        batch=row["batch"],
        length=row["seq"],
        weight_bytes=2 if row["dtype"] == "bfloat16" else 4,
        checkpointing=bool(row["gc"]),
        accumulation=row["ga"],
        optimizer=row["optim"],
        rank=row["r"],
        targets=None if row["targets"] == "all-linear" else tuple(row["targets"].split(",")),
        padded=bool(row["padded"]),
        dropout=row["lora_dropout"] > 0,
        fused_head=row["loss"] == "fused",
        preference=row["trainer"] == "dpo",
    )


def error(row: dict[str, Any]) -> float:
    return estimate_peak(step_of(row)).total / GIB / row["peak_gib"] - 1


def test_peaks_of_sft_are_within_two_percent_of_the_traces_and_never_six_off() -> None:
    errors = [abs(error(row)) for row in SFT]
    assert len(errors) >= 30
    # Promised are 2 %; what was reached is kept.
    assert sum(errors) / len(errors) <= 0.004
    assert max(errors) <= 0.06


def test_preference_training_with_a_reference_model_is_within_six_percent() -> None:
    errors = [abs(error(row)) for row in ROWS if row["trainer"] != "sft"]
    assert errors
    assert max(errors) <= 0.06


@pytest.mark.parametrize("row", SFT, ids=lambda row: f"{row['model']}-{row['method']}-{row['batch']}x{row['seq']}")
def test_trained_parameters_are_exactly_those_of_the_trace(row: dict[str, Any]) -> None:
    assert trainable_parameters(step_of(row)) == row["n_train"]


@pytest.mark.parametrize("row", SFT, ids=lambda row: f"{row['model']}-{row['method']}-{row['batch']}x{row['seq']}")
def test_weights_and_optimizer_are_those_of_the_trace(row: dict[str, Any]) -> None:
    peak, traced = estimate_peak(step_of(row)), row["peak_by_part_gib"]
    weights = traced["weights"] + traced.get("lora", 0) + traced.get("ref", 0)
    assert peak.parts.weights / GIB == pytest.approx(weights, rel=0.003)
    state = traced.get("optstate", 0) + traced.get("optim", 0)
    assert peak.parts.optimizer / GIB == pytest.approx(state, rel=0.02)


def shape() -> Shape:
    return known("Qwen3-0.6B").shape


BASE = Step(shape=shape(), technique="full", batch=4, length=1024)


@pytest.mark.parametrize("technique", ["full", "lora", "qlora"])
@pytest.mark.parametrize("weight_bytes", [2, 4])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_parts_sum_to_the_largest_phase(technique: Any, weight_bytes: int, checkpointing: bool) -> None:
    step = replace(BASE, technique=technique, weight_bytes=weight_bytes, checkpointing=checkpointing)
    peak = estimate_peak(step)
    assert peak.parts.total == pytest.approx(max(peak.phases.values()))
    assert peak.phases[peak.phase] == peak.total
    assert min(vars(peak.parts).values()) >= 0


def total(**changes: Any) -> float:
    return estimate_peak(replace(BASE, **changes)).total


def test_more_tokens_never_take_less_memory() -> None:
    for technique in ("full", "lora", "qlora"):
        for checkpointing in (False, True):
            sizes = [
                total(technique=technique, checkpointing=checkpointing, batch=batch, length=length)
                for batch, length in ((1, 256), (1, 1024), (2, 1024), (8, 1024), (8, 4096))
            ]
            assert sizes == sorted(sizes)


def test_adapters_take_less_than_all_weights_and_quantized_ones_least() -> None:
    assert total(technique="qlora") < total(technique="lora") < total(technique="full")


def test_checkpointing_saves_and_float32_costs() -> None:
    assert total(checkpointing=True) < total(checkpointing=False)
    assert total(weight_bytes=4) > total(weight_bytes=2)
    assert total(weight_bytes=4, autocast=False, checkpointing=False) > total(weight_bytes=4, checkpointing=False)


def test_logits_that_are_built_in_full_cost_several_times_the_fused_head() -> None:
    assert total(batch=8, fused_head=False) > 3 * total(batch=8)


def test_parameters_beyond_the_closed_form_are_held() -> None:
    assert total(extra_parameters=10**9) - total() == pytest.approx(2 * 10**9, rel=0.01)
