"""The device that a plan is made for, and what it can do: GPUs by a table, processors by a stated guess."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ...executors.errors import PlanError
from ..environment.hardware import Gpu, Hardware

#: What a GPU needs beyond the tensors: the CUDA context and libraries, and 11 % for variable lengths and the
#: allocator's gaps (5 to 11 % in a simulation of the allocator on real length distributions).
GPU_CONTEXT_GIB, GPU_MARGIN = 0.5, 1.11

#: What a process on a CPU needs: Python with torch and TRL (0.85 GiB measured, and 0.3 once it trains), and 2.2 times
#: the tensors. Resident memory of real steps in float32 was 1.3 to 2.2 times the closed form: attention on a CPU keeps
#: its scores, and the C allocator keeps gaps.
CPU_PROCESS_GIB, CPU_MARGIN = 1.2, 2.2

#: Arithmetic per core in training steps of small models in float32: 19 to 62 GFLOP/s were measured on one and two
#: busy cores (AMD EPYC); slower ones exist.
CPU_FLOPS_PER_CORE = (8e9, 60e9)


@dataclass(frozen=True)
class Machine:
    """One GPU, or the processors."""

    kind: Literal["gpu", "cpu"]
    name: str
    free_gib: float
    total_gib: float
    flops: tuple[float, float]
    """Peak arithmetic per second in the training precision, lowest and highest that it may be."""
    bandwidth: tuple[float, float]
    """Bytes per second, lowest and highest."""
    bfloat16: bool
    cores: int
    known: bool = True
    """Its speed stands in the table."""

    def needed_gib(self, peak_gib: float) -> float:
        """Free memory that a step with this peak of tensors asks for."""
        if self.kind == "gpu":
            return peak_gib * GPU_MARGIN + GPU_CONTEXT_GIB
        return peak_gib * CPU_MARGIN + CPU_PROCESS_GIB

    @property
    def memory(self) -> str:
        return "GPU memory" if self.kind == "gpu" else "RAM"


def choose_machine(hardware: Hardware, gpus: int | None) -> Machine:
    """The GPU with most free memory, or the processors where there is none or none is wanted (`gpus` = 0).

    Raises:
        PlanError: `nothing_fits`: a GPU is asked for and none is here.
    """
    if gpus and not hardware.gpus:
        note = f" {hardware.note}" if hardware.note else ""
        raise PlanError(
            "nothing_fits",
            f"A GPU is asked for, and this machine has none.{note}",
            next_step="plan_training(…, gpus=0) plans for its CPU; check_environment() shows the hardware.",
        )
    if gpus == 0 or not hardware.gpus:
        cores = hardware.cpu_cores
        low, high = CPU_FLOPS_PER_CORE
        return Machine(
            kind="cpu",
            name=f"CPU ({cores} core{'s' if cores != 1 else ''})",
            free_gib=hardware.memory_available_gib,
            total_gib=hardware.memory_total_gib,
            flops=(low * cores, high * cores),
            bandwidth=(5e9, 50e9),
            bfloat16=False,
            cores=cores,
        )
    gpu = max(hardware.gpus, key=lambda one: (one.memory_free_gib, -one.index))
    return _machine_of(gpu, hardware.cpu_cores)


def gpus_with(gib: float) -> list[tuple[str, float]]:
    """GPUs of the table whose memory holds `gib`, smallest first, with that memory."""
    fitting = [(name, float(row["usable_gib"])) for name, row in _table().items() if row["usable_gib"] >= gib]
    return sorted(fitting, key=lambda entry: entry[1])


def _machine_of(gpu: Gpu, cores: int) -> Machine:
    row = _row_of(gpu.name)
    if row is None:
        # Between the slowest and the fastest that people train on; the plan says so.
        flops, bandwidth = (65e12, 989e12), (320e9, 3350e9)
        bfloat16 = _capability(gpu) >= 8.0
    else:
        peak = float(row.get("bf16_tflops") or row["fp16_tflops"]) * 1e12
        speed = float(row["bw"]) * 1e9
        flops, bandwidth = (peak, peak), (speed, speed)
        bfloat16 = bool(row.get("bf16", True))
    return Machine(
        kind="gpu",
        name=gpu.name,
        free_gib=gpu.memory_free_gib,
        total_gib=gpu.memory_total_gib,
        flops=flops,
        bandwidth=bandwidth,
        bfloat16=bfloat16,
        cores=cores,
        known=row is not None,
    )


def _row_of(name: str) -> dict[str, Any] | None:
    """The table's row for a name as the driver writes it: `NVIDIA A100-SXM4-80GB` is A100-80."""
    if "laptop" in name.lower():
        return None
    words = {word.lower().removesuffix("gb") for word in re.split(r"[^A-Za-z0-9]+", name)}
    for key, row in _table().items():
        if all(word.lower() in words for word in re.split(r"[ -]", key)):
            return row
    return None


def _capability(gpu: Gpu) -> float:
    try:
        return float(gpu.compute_capability or 0)
    except ValueError:
        return 0.0


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = Path(__file__).with_name("gpus.json").read_text(encoding="utf-8")
    return {name: row for name, row in json.loads(text).items() if not name.startswith("_")}
