"""What a training run needs at the very least, refused where this machine clearly can't give it.

Only lower bounds count here: weights, gradients and the optimizer's states, without a single activation. A run that
passes may still not fit (plan_training estimates that); one that is refused can't.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ...executors.errors import ModelError, RunError
from ...executors.paths import Home
from ...executors.queueing import Pool
from ...trainer import records
from ..app import App
from ..configs.schema import Config
from ..environment.hardware import Gpu, Hardware, look_at_hardware
from ..planning.model_cache import find_snapshot
from ..planning.weights import read_weights

_GIB = 2**30

#: Bytes per parameter as the base weights are loaded; nf4 with its scales.
_BYTES = {"bfloat16": 2.0, "float16": 2.0, "float32": 4.0, "int8": 1.0, "nf4": 0.5}

#: Optimizers with two states of the parameters' own size; others are counted as having none.
_TWO_STATES = ("adamw_torch", "adamw_torch_fused")

#: While a checkpoint is written the one before still stands, and a part of a third may.
_CHECKPOINT_COPIES = 2.2

#: Log, metrics, tokenizer and our own code, whatever is trained.
_DISK_FLOOR = 50 * 2**20


@dataclass(frozen=True)
class Need:
    """Lower bounds in bytes."""

    memory: float
    """On the device: weights, and in full training gradients and optimizer states."""
    disk: float


def find_room(app: App, config: Config) -> Pool:
    """The GPUs or CPU slots that a resolved config may train on, those with most free memory first.

    Blocking: reads the weights' headers and asks the driver.

    Raises:
        RunError: `not_enough` disk, memory, GPUs or GPU memory, with the numbers.
        ModelError: the model's folder has no whole safetensors.
    """
    settings, hardware = app.settings, look_at_hardware(app.home)
    pool = room_for(config, need_of(config), hardware, settings.cpu_slots, leased(app.home))
    return replace(pool, shared=settings.share_gpus)


def need_of(config: Config) -> Need:
    """What the config needs at least; of a model that isn't on this disk yet only the floor is known.

    Raises:
        ModelError: the model's folder has no whole safetensors.
    """
    parameters = _parameters(config)
    weights = parameters * _BYTES[config.quantization or config.model.dtype]
    if config.peft is not None:
        return Need(memory=weights, disk=_DISK_FLOOR)
    states = 2 * weights if config.training.get("optim", _TWO_STATES[0]) in _TWO_STATES else 0.0
    saved = weights + (0.0 if config.training.get("save_only_model") else states)
    checkpoints = 0.0 if config.training.get("save_strategy") == "no" else _CHECKPOINT_COPIES * saved
    return Need(memory=2 * weights + states, disk=_DISK_FLOOR + weights + checkpoints)


def room_for(config: Config, need: Need, hardware: Hardware, cpu_slots: int, busy: frozenset[str]) -> Pool:
    """As `find_room`, on this hardware; `busy` are the slots that runs of ours use now, and will give back.

    Raises:
        RunError: `not_enough`.
    """
    if need.disk > hardware.disk_free_gib * _GIB:
        raise _not_enough(
            f"The run's checkpoints and output need about {need.disk / _GIB:.2f} GiB of disk; "
            f"{hardware.disk_free_gib:.2f} GiB are free.",
            "Free disk space, or train an adapter: write_config with overrides={'peft': {'type': 'lora'}}.",
        )
    if config.resources.gpus == 0:
        slots = tuple(f"cpu-{number}" for number in range(cpu_slots))
        there = hardware.memory_total_gib if busy & set(slots) else hardware.memory_available_gib
        if need.memory > there * _GIB:
            raise _not_enough(
                f"Weights, gradients and optimizer alone need {need.memory / _GIB:.2f} GiB of memory; "
                f"{there:.2f} GiB {'are there' if busy & set(slots) else 'are available'}.",
                "plan_training(dataset=…) without model proposes models that fit.",
            )
        return Pool("cpu", slots, 1)
    return _gpu_pool(config.resources.gpus, need, hardware, busy)


def leased(home: Home) -> frozenset[str]:
    """The slots that runs of ours use now."""
    try:
        return frozenset(lease.name for lease in (home.locks / "leases").iterdir() if records.is_locked(lease))
    except FileNotFoundError:
        return frozenset()


def _gpu_pool(wanted: int, need: Need, hardware: Hardware, busy: frozenset[str]) -> Pool:
    def room(gpu: Gpu) -> float:
        # What a run of ours uses comes free when it is this run's turn; what others use may not.
        return gpu.memory_total_gib if gpu.uuid in busy else gpu.memory_free_gib

    if len(hardware.gpus) < wanted:
        raise _not_enough(
            f"resources.gpus is {wanted}; this machine shows {len(hardware.gpus)}."
            + (f" {hardware.note}" if hardware.note else ""),
            "write_config with overrides={'resources.gpus': 0} trains on the CPU; check_environment() shows the GPUs.",
        )
    fitting = [gpu for gpu in hardware.gpus if need.memory <= room(gpu) * _GIB]
    if len(fitting) < wanted:
        best = max(hardware.gpus, key=room)
        raise _not_enough(
            f"Weights, gradients and optimizer alone need {need.memory / _GIB:.2f} GiB of GPU memory; "
            f"GPU {best.index} has {room(best):.2f} of {best.memory_total_gib:.2f} GiB free"
            + (f" beside {best.other_processes} other processes." if best.other_processes else "."),
            "End what uses the GPU, or plan_training(dataset=…) proposes what fits.",
        )
    fitting.sort(key=room, reverse=True)
    return Pool("gpu", tuple(gpu.uuid for gpu in fitting), wanted)


def _parameters(config: Config) -> int:
    name = config.model.name
    if Path(name).is_absolute():
        return read_weights(Path(name), name).parameters
    snapshot = find_snapshot(name, config.model.revision)
    if snapshot is not None:
        # What the cache lacks is downloaded by the run.
        with suppress(ModelError):
            return read_weights(snapshot.folder, name).parameters
    return 0


def _not_enough(message: str, next_step: str) -> RunError:
    return RunError("not_enough", message, next_step=next_step)
