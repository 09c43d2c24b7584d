"""What is recommended to whom: pure decisions."""

from __future__ import annotations

from typing import Any

import pytest
from planning_toys import EVEN, SHORT, ask, known, machine

from model_trainer.executors.errors import PlanError
from model_trainer.services.configs.schema import EvalDataset
from model_trainer.services.planning.explain import warn
from model_trainer.services.planning.lengths import Lengths, guess_lengths
from model_trainer.services.planning.machine import Machine
from model_trainer.services.planning.model_info import ModelInfo
from model_trainer.services.planning.propose import propose_models
from model_trainer.services.planning.recommend import eval_fraction, job_of, recommend, work_out_all
from model_trainer.services.planning.results import Interval, PlanOption, hours_text
from model_trainer.services.result import TEXT_LIMIT

L4 = machine("NVIDIA L4", 22.0)
SMALL_CPU = machine(gib=16.0)


def options(model: str, on: Machine = L4, **more: Any) -> dict[str, PlanOption]:
    return {option.label: option for option in recommend(ask(known(model), on, **more))}


def first(model: str, on: Machine = L4, **more: Any) -> PlanOption:
    return recommend(ask(known(model), on, **more))[0]


def test_a_small_model_is_trained_whole_and_a_larger_one_by_adapters() -> None:
    assert first("SmolLM2-135M-Instruct").label == "full"
    assert first("Qwen3-8B").label == "lora"


def test_quantization_comes_where_plain_weights_do_not_fit() -> None:
    assert first("Qwen3-8B", machine("Tesla T4", 14.7)).label == "qlora"
    assert list(options("Qwen3-14B")) == ["qlora"]


def test_without_bitsandbytes_there_is_no_qlora() -> None:
    assert "qlora" not in options("Qwen3-0.6B", quantization=False)


@pytest.mark.parametrize("goal", ["balanced", "quality", "speed", "memory"])
def test_goals_decide_what_comes_first(goal: Any) -> None:
    found = recommend(ask(known("Qwen3-0.6B"), L4, goal=goal))
    least = min(found, key=lambda option: option.memory.needed)
    fastest = min(found, key=lambda option: option.hours.high)
    wanted = {"balanced": "lora", "quality": "full", "speed": fastest.label, "memory": least.label}
    assert found[0].label == wanted[goal]
    assert len(found) <= 4


@pytest.mark.parametrize("model", ["SmolLM2-135M-Instruct", "Qwen3-0.6B", "Qwen3-4B", "Qwen3-8B"])
@pytest.mark.parametrize("on", [L4, SMALL_CPU, machine("Tesla T4", 14.7), machine("NVIDIA H100 80GB HBM3", 79.0)])
def test_every_option_fits_in_free_memory_and_is_a_valid_config(model: str, on: Machine) -> None:
    for option in recommend(ask(known(model), on)):
        memory = option.memory
        assert memory.needed <= on.free_gib
        parts = memory.weights + memory.gradients + memory.optimizer + memory.activations + memory.head
        assert parts + memory.overhead == pytest.approx(memory.needed, abs=0.01)
        assert 0 < option.hours.low < option.hours.high
        config = option.config
        assert config.resources.gpus == (1 if on.kind == "gpu" else 0)
        assert (config.peft is None) == option.label.startswith("full")
        assert (config.quantization == "nf4") == (option.label == "qlora")
        assert config.model.revision == known(model).revision


def test_free_memory_counts_and_not_the_card_size() -> None:
    busy = machine("NVIDIA L4", 22.0, free=6.0)
    assert all(option.memory.needed <= 6.0 for option in recommend(ask(known("Qwen3-0.6B"), busy)))
    assert "lora" not in options("Qwen3-4B", busy)


def test_uneven_rows_are_packed_and_even_ones_are_not() -> None:
    assert first("Qwen3-0.6B", lengths=SHORT).config.training["packing"] is True
    assert first("Qwen3-0.6B", lengths=EVEN).config.training["packing"] is False
    assert first("Qwen3-0.6B", lengths=SHORT, rows=60).config.training["packing"] is False


def test_packing_keeps_the_rows_per_step() -> None:
    packed, plain = first("Qwen3-0.6B", lengths=SHORT), first("Qwen3-0.6B", lengths=EVEN)
    assert plain.effective_batch == 16
    assert packed.effective_batch == pytest.approx(16, abs=4)


def test_checkpointing_is_used_only_where_memory_asks_for_it() -> None:
    long = Lengths(mean=3000, p50=3000, p95=3900, p99=4000, max=4096, sample=100)
    assert first("Qwen3-0.6B").config.training["gradient_checkpointing"] is False
    assert first("Qwen3-4B", lengths=long).config.training["gradient_checkpointing"] is True


def test_precision_follows_the_hardware() -> None:
    assert first("SmolLM2-135M-Instruct").config.training["bf16"] is True
    assert first("Qwen3-0.6B").config.model.dtype == "bfloat16"
    t4 = options("Qwen3-0.6B", machine("Tesla T4", 14.7))
    assert t4["lora"].config.model.dtype == "float16"
    assert t4["full"].config.training["fp16"] is True
    cpu = first("SmolLM2-135M-Instruct", SMALL_CPU).config
    assert cpu.model.dtype == "float32"
    assert not {"bf16", "fp16"} & set(cpu.training)


def test_a_cpu_resorts_to_sixteen_bits_only_when_memory_asks_for_it() -> None:
    assert set(options("Qwen3-0.6B", SMALL_CPU)) <= {"lora", "full"}
    assert first("Qwen3-1.7B", machine(gib=11.0)).label in ("lora-bf16", "qlora")


def test_long_runs_on_a_cpu_are_warned_of() -> None:
    assert any("hours on a CPU" in warning for warning in first("Qwen3-0.6B", SMALL_CPU).warnings)
    assert not any("CPU" in warning for warning in first("Qwen3-0.6B").warnings)


def test_adapters_learn_ten_times_faster_and_small_models_faster_too() -> None:
    found = options("Qwen3-4B", machine("NVIDIA H100 80GB HBM3", 79.0))
    assert found["lora"].config.training["learning_rate"] == 2e-4
    assert found["full"].config.training["learning_rate"] == 2e-5
    assert 2e-5 < first("SmolLM2-135M-Instruct").config.training["learning_rate"] <= 2e-4


def test_small_data_are_repeated_and_a_part_is_held_out() -> None:
    few, many = first("Qwen3-0.6B", rows=800), first("Qwen3-0.6B", rows=60_000)
    assert few.config.training["num_train_epochs"] == 3
    assert many.config.training["num_train_epochs"] == 1
    assert few.config.eval_dataset == EvalDataset(fraction=0.1)
    assert many.config.eval_dataset == EvalDataset(fraction=0.0333)
    assert eval_fraction(49) is None
    assert all(0 < (eval_fraction(rows) or 0) < 1 for rows in (50, 10**4, 10**6, 10**9))


def test_too_few_rows_are_not_split_and_not_evaluated() -> None:
    option = first("Qwen3-0.6B", rows=40)
    assert option.config.eval_dataset is None
    assert "eval_strategy" not in option.config.training
    assert any("learns little" in warning for warning in option.warnings)


def test_a_given_evaluation_set_is_taken_as_it_is() -> None:
    given = EvalDataset(path="/data/eval.jsonl")
    option = first("Qwen3-0.6B", eval_dataset=given, eval_rows=100)
    assert option.config.eval_dataset == given
    assert option.config.training["eval_strategy"] == "steps"


def test_a_limit_of_hours_shortens_the_run_and_says_so() -> None:
    free = first("Qwen3-0.6B", SMALL_CPU)
    limited = first("Qwen3-0.6B", SMALL_CPU, max_hours=free.hours.high / 2)
    assert limited.hours.high <= free.hours.high / 2
    assert limited.config.training["num_train_epochs"] < free.config.training["num_train_epochs"]
    assert limited.config.resources.max_hours == free.hours.high / 2
    assert any("max_hours" in warning for warning in limited.warnings)


def test_guessed_lengths_widen_the_interval() -> None:
    guessed = guess_lengths(2000 * 456, 2000)
    sure = Lengths(mean=guessed.mean, p50=guessed.p50, p95=guessed.p95, p99=guessed.p99, max=guessed.max, sample=9)
    wide, narrow = first("Qwen3-4B", lengths=guessed).hours, first("Qwen3-4B", lengths=sure).hours
    assert wide.high / wide.low > 1.5 * narrow.high / narrow.low


def test_rows_that_are_cut_are_warned_of() -> None:
    tail = Lengths(mean=900, p50=100, p95=3000, p99=4000, max=50_000, sample=100)
    limited = known("Qwen3-0.6B")
    question = ask(limited, L4, lengths=tail)
    assert any("are cut at" in warning for one in recommend(question) for warning in one.warnings)


def test_a_full_disk_is_warned_of() -> None:
    question = ask(known("Qwen3-0.6B"), L4, disk_free_gib=1.0)
    full = next(one for one in work_out_all(question) if one.variant.label == "full")
    assert any("of disk are free" in warning for warning in warn(question, full, wanted=1))


def test_nothing_fits_says_what_is_missing_and_what_would_do() -> None:
    with pytest.raises(PlanError) as caught:
        recommend(ask(known("Qwen3-14B"), machine("Tesla T4", 14.7, free=8.0)))
    error = caught.value
    assert error.code == "nothing_fits"
    assert "8.0 of 14.7 GiB are free on Tesla T4" in error.message
    assert "would fit if nothing else used that memory; a GPU would do: T4 (15 GiB), L4 (22 GiB)" in error.message
    assert "plan_training(dataset='/data/train.jsonl')" in error.next_step


def test_the_same_question_has_the_same_answer() -> None:
    assert recommend(ask(known("Qwen3-4B"), L4)) == recommend(ask(known("Qwen3-4B"), L4))


def test_training_keys_never_name_what_is_ours_to_set() -> None:
    training = first("Qwen3-0.6B", SMALL_CPU).config.training
    assert not {"output_dir", "use_cpu", "report_to", "run_name"} & set(training)


def test_rows_held_out_are_not_trained_on() -> None:
    job = job_of(ask(known("Qwen3-0.6B"), L4, rows=2000))
    assert (job.rows, job.eval_rows) == (1900, 100)


@pytest.mark.parametrize("on", [L4, SMALL_CPU, machine("NVIDIA H100 80GB HBM3", 79.0)])
def test_without_a_model_three_that_fit_are_proposed(on: Machine) -> None:
    def question(info: ModelInfo) -> Any:
        return ask(info, on)

    answer = propose_models(question, "train.jsonl", "data", "hardware", [])
    assert answer.plan_id is None
    assert len({choice.name for choice in answer.models}) == 3
    for choice in answer.models:
        assert len(choice.revision) == 40
        assert choice.license
        assert choice.reason
        assert choice.needed_gib <= on.free_gib
        assert not choice.gated
    best = answer.models[0]
    assert answer.next_step == (
        f"plan_training(dataset='train.jsonl', model={best.name!r}, revision={best.revision!r})"
    )
    assert len(answer.text()) < TEXT_LIMIT


def test_the_largest_model_that_trains_in_time_is_proposed_first() -> None:
    def names(on: Machine) -> list[str]:
        return [choice.name for choice in propose_models(lambda info: ask(info, on), "d", "d", "h", []).models]

    assert names(machine("NVIDIA H100 80GB HBM3", 79.0)) == ["Qwen/Qwen3-14B", "Qwen/Qwen3-8B", "Qwen/Qwen3-4B"]
    assert names(SMALL_CPU)[0] == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_a_machine_with_next_to_no_memory_gets_no_proposal() -> None:
    with pytest.raises(PlanError) as caught:
        propose_models(lambda info: ask(info, machine(gib=0.5)), "d", "data", "hardware", [])
    assert caught.value.code == "nothing_fits"


def test_intervals_read_well() -> None:
    assert hours_text(Interval(low=0.1, high=0.5)) == "6.0 to 30 min"
    assert hours_text(Interval(low=1.2, high=30)) == "1.2 to 30 h"
    assert hours_text(Interval(low=24, high=96)) == "1.0 to 4.0 days"
