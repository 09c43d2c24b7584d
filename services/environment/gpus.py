"""NVIDIA GPUs as the driver sees them: free memory counts everybody's processes, not only ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from ...trainer.contract import SNAPSHOT_PACKAGE
from ..result import Frozen

_GIB = 2**30


class Gpu(Frozen):
    index: Annotated[int, Field(description="In PCI order, as nvidia-smi counts")]
    uuid: str
    name: str
    memory_total_gib: float
    memory_free_gib: Annotated[float, Field(description="Free now, whoever uses the rest")]
    other_processes: Annotated[int, Field(description="Compute processes on it that are no runs of ours")]
    compute_capability: str | None = None


def look_at_gpus() -> tuple[list[Gpu], str | None]:
    """The GPUs that a run would see, and a note on what hinders or hides some; no driver is no error."""
    # Its import takes 30 ms, which a machine without GPUs need not pay at the server's start.
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if getattr(error, "value", None) == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return [], "No NVIDIA driver is installed."
        return [], f"The NVIDIA driver doesn't answer: {error}."
    try:
        found, notes = _all(pynvml)
    except pynvml.NVMLError as error:
        return [], f"The NVIDIA driver fails: {error}."
    finally:
        pynvml.nvmlShutdown()
    shown = visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if len(shown) < len(found):
        notes.append(f"CUDA_VISIBLE_DEVICES hides {len(found) - len(shown)} of {len(found)} GPUs.")
    if not found:
        notes.append("The NVIDIA driver is there, but no GPU.")
    return shown, " ".join(notes) or None


def visible(gpus: Sequence[Gpu], setting: str | None) -> list[Gpu]:
    """Those that CUDA shows under this CUDA_VISIBLE_DEVICES (None: not set), in its order; it stops at a wrong one."""
    if setting is None:
        return list(gpus)
    shown: list[Gpu] = []
    for name in (part.strip() for part in setting.split(",")):
        match = next((gpu for gpu in gpus if name == str(gpu.index) or (name and gpu.uuid.startswith(name))), None)
        if match is None:
            break
        shown.append(match)
    return shown


def _all(nvml: ModuleType) -> tuple[list[Gpu], list[str]]:
    gpus: list[Gpu] = []
    notes: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            gpu = Gpu(
                index=index,
                uuid=nvml.nvmlDeviceGetUUID(handle),
                name=nvml.nvmlDeviceGetName(handle),
                memory_total_gib=round(memory.total / _GIB, 2),
                memory_free_gib=round(memory.free / _GIB, 2),
                other_processes=sum(not _is_ours(pid) for pid in _compute_processes(nvml, handle)),
                compute_capability=_optional(nvml, lambda h=handle: _capability(nvml, h)),
            )
        except nvml.NVMLError as error:
            # One broken card must not hide the others.
            notes.append(f"GPU {index} doesn't answer: {error}.")
            continue
        gpus.append(gpu)
        if _optional(nvml, lambda h=handle: nvml.nvmlDeviceGetMigMode(h)[0]):
            notes.append(f"GPU {index} is split by MIG: a run gets one slice, less than the memory shown.")
    return gpus, notes


def _compute_processes(nvml: ModuleType, handle: Any) -> list[int]:
    processes: list[Any] | None = _optional(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return [int(process.pid) for process in processes or []]


def _capability(nvml: ModuleType, handle: Any) -> str:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return f"{major}.{minor}"


def _optional(nvml: ModuleType, ask: Callable[[], Any]) -> Any:
    """The driver's answer, or None where this GPU or driver has none."""
    try:
        return ask()
    except nvml.NVMLError:
        return None


def _is_ours(pid: int) -> bool:
    """Whether the process is a run's trainer. In a container the driver may name pids of the host: not ours then."""
    try:
        return SNAPSHOT_PACKAGE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
