"""What this machine clearly can't hold is refused before anything starts, with the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_trainer.executors.errors import ModelError, RunError
from model_trainer.executors.queueing import Pool
from model_trainer.services.app import App
from model_trainer.services.configs.schema import Config
from model_trainer.services.environment.hardware import Gpu, Hardware
from model_trainer.services.planning.weights import read_weights
from model_trainer.services.runs import launching
from model_trainer.services.runs import life as runs
from model_trainer.services.runs.refusals import Need, leased, need_of, room_for

GIB = 2**30
FREE = frozenset[str]()


def config(model: Path | str = "org/model", **more: Any) -> Config:
    return Config.model_validate({"model": {"name": str(model)}, "datasets": [{"path": "/data.jsonl"}], **more})


def gpu(index: int, *, free: float, total: float = 24.0, others: int = 0) -> Gpu:
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="Invented",
        memory_total_gib=total,
        memory_free_gib=free,
        other_processes=others,
    )


def machine(*gpus: Gpu, available: float = 8.0, disk: float = 100.0) -> Hardware:
    return Hardware(
        gpus=list(gpus),
        cpu_cores=4,
        memory_total_gib=16.0,
        memory_available_gib=available,
        disk_free_gib=disk,
    )


def refused(config: Config, need: Need, hardware: Hardware, busy: frozenset[str] = FREE) -> str:
    with pytest.raises(RunError) as caught:
        room_for(config, need, hardware, 1, busy)
    assert caught.value.code == "not_enough"
    assert caught.value.next_step
    return caught.value.message


def test_a_disk_that_cannot_hold_the_checkpoints_is_refused():
    message = refused(config(), Need(memory=0, disk=40 * GIB), machine(disk=39.5))
    assert "40.00 GiB" in message
    assert "39.50 GiB" in message


def test_memory_that_is_taken_by_others_is_refused_but_what_our_own_runs_use_comes_free():
    need = Need(memory=12 * GIB, disk=0)
    assert "12.00 GiB" in refused(config(), need, machine(available=8.0))
    assert room_for(config(), need, machine(available=8.0), 2, frozenset({"cpu-0"})) == Pool(
        "cpu", ("cpu-0", "cpu-1"), 1
    )
    assert "16.00 GiB are there" in refused(config(), Need(17 * GIB, 0), machine(), frozenset({"cpu-0"}))


def test_the_gpus_that_can_hold_it_are_offered_the_freest_first():
    wanted = config(resources={"gpus": 1})
    need = Need(memory=10 * GIB, disk=0)
    there = machine(gpu(0, free=12.0), gpu(1, free=9.0), gpu(2, free=23.0), gpu(3, free=1.0))
    assert room_for(wanted, need, there, 1, FREE) == Pool("gpu", ("GPU-2", "GPU-0"), 1)
    # GPU 3 is full of a run of ours: it comes free.
    busy = frozenset({"GPU-3"})
    assert room_for(wanted, need, there, 1, busy) == Pool("gpu", ("GPU-3", "GPU-2", "GPU-0"), 1)


def test_gpus_that_are_full_or_not_there_are_refused_with_the_numbers():
    wanted = config(resources={"gpus": 1})
    message = refused(wanted, Need(memory=10 * GIB, disk=0), machine(gpu(0, free=3.0, others=2)))
    assert all(part in message for part in ("10.00 GiB", "3.00 of 24.00 GiB", "2 other processes"))
    assert "shows 0" in refused(wanted, Need(0, 0), machine())


def test_a_full_training_needs_weights_gradients_two_states_and_an_adapter_only_weights(tiny_model: Path):
    parameters = read_weights(tiny_model, "tiny").parameters
    full = need_of(config(tiny_model))
    assert full.memory == parameters * 2 * 4
    assert full.disk == pytest.approx(50 * 2**20 + parameters * 2 * (1 + 2.2 * 3))
    assert need_of(config(tiny_model, training={"save_strategy": "no", "optim": "sgd"})).memory == parameters * 2 * 2
    lora = need_of(config(tiny_model, peft={"type": "lora"}, quantization="nf4"))
    assert lora.memory == parameters * 0.5


def test_a_model_that_is_not_here_yet_is_not_guessed_at():
    assert need_of(config("org/unknown")).memory == 0


def test_a_folder_without_weights_is_refused(tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        need_of(config(tmp_path))
    assert caught.value.code == "model_incomplete"


def test_nobody_has_a_lease_in_an_empty_home(app: App):
    assert leased(app.home) == frozenset()


@pytest.mark.anyio
async def test_a_launch_for_a_gpu_that_is_not_there_starts_nothing(app: App, shell_config: Path):
    shell_config.write_text(shell_config.read_text(encoding="utf-8") + "resources: {gpus: 1}\n", encoding="utf-8")
    with pytest.raises(RunError) as caught:
        await launching.launch(app, str(shell_config), again=False, key=None)
    assert caught.value.code == "not_enough"
    assert "shows 0" in caught.value.message
    assert list(runs.all_runs(app)) == []
