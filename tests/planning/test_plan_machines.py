"""Which device is planned for, and how long things take on it."""

from __future__ import annotations

import pytest
from planning_toys import hardware, known, machine

from model_trainer.executors.errors import PlanError
from model_trainer.services.environment.hardware import Hardware
from model_trainer.services.planning.machine import Machine, choose_machine, gpus_with
from model_trainer.services.planning.memory import Step
from model_trainer.services.planning.timing import Hours, estimate_hours


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("Tesla T4", 65),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A10G", 70),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA RTX A6000", 155),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 500),
    ],
)
def test_gpus_are_known_by_the_names_that_drivers_give(name: str, tflops: float) -> None:
    found = machine(name, 24.0)
    assert found.known
    assert found.flops == (tflops * 1e12, tflops * 1e12)


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA RTX 6000 Ada Generation", "NVIDIA X1"])
def test_a_gpu_that_is_not_in_the_table_gets_a_wide_range(name: str) -> None:
    found = machine(name, 24.0)
    assert not found.known
    assert found.flops[1] > 10 * found.flops[0]
    assert found.bfloat16


def test_a_t4_has_no_bfloat16() -> None:
    assert not machine("Tesla T4").bfloat16


def test_the_gpu_with_most_free_memory_is_taken() -> None:
    one, two = hardware("NVIDIA L4", 22.0, free=3.0).gpus[0], hardware("NVIDIA L4", 22.0, free=20.0).gpus[0]
    both = hardware("NVIDIA L4").model_copy(update={"gpus": [one, two]})
    assert choose_machine(both, None).free_gib == 20.0


def test_no_gpu_means_the_cpu_and_a_wanted_gpu_an_error() -> None:
    bare: Hardware = hardware(gib=8.0, cores=4)
    assert choose_machine(bare, None).kind == "cpu"
    assert choose_machine(hardware("NVIDIA L4"), 0).kind == "cpu"
    with pytest.raises(PlanError) as caught:
        choose_machine(bare, 1)
    assert caught.value.code == "nothing_fits"
    assert "gpus=0" in caught.value.next_step


def test_gpus_that_hold_something_come_smallest_first() -> None:
    names = [name for name, _ in gpus_with(30)]
    assert names[0] == "RTX 5090"
    assert "T4" not in names
    assert gpus_with(10_000) == []


STEP = Step(shape=known("Qwen3-4B").shape, technique="lora", batch=4, length=1024)


def hours(on: Machine, tokens: float = 1e7, step: Step = STEP) -> Hours:
    return estimate_hours(step, on, tokens=tokens, updates=100, evaluated=0, spread=(1.0, 1.0))


def test_time_is_an_interval_that_grows_with_tokens() -> None:
    short, long = hours(machine("NVIDIA L4", 22.0)), hours(machine("NVIDIA L4", 22.0), tokens=1e8)
    assert 0 < short.low < short.high
    assert long.low > 5 * short.low
    assert long.high > 5 * short.high


def test_a_published_run_lies_in_the_interval() -> None:
    # Llama-3.2-3B, LoRA on all layers, on an L40S: the roofline was -10.6 to +8.7 % off, here as tokens per second.
    step = Step(shape=known("Llama-3.2-3B-Instruct").shape, technique="lora", batch=8, length=1024, checkpointing=False)
    interval = hours(machine("NVIDIA L40S", 44.0), tokens=3.6e7, step=step)
    assert interval.high < 3
    assert interval.high / interval.low < 3


def test_faster_machines_are_faster_and_a_cpu_is_a_wide_guess() -> None:
    cpu, t4, h100 = (hours(on) for on in (machine(gib=64.0), machine("Tesla T4"), machine("NVIDIA H100 80GB HBM3")))
    assert h100.high < t4.high < cpu.high
    assert cpu.high > 5 * cpu.low
    assert hours(machine(gib=64.0, cores=16)).high < cpu.high
