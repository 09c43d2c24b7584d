"""What this machine has for training: GPUs, processors, memory, disk."""

from __future__ import annotations

import shutil
from typing import Annotated

from pydantic import Field

from ...executors.paths import Home
from ..result import Frozen
from .gpus import Gpu, look_at_gpus
from .limits import count_processors, look_at_memory

__all__ = ["Gpu", "Hardware", "look_at_hardware"]

_GIB = 2**30


class Hardware(Frozen):
    gpus: Annotated[list[Gpu], Field(description="NVIDIA GPUs that a run would see")]
    cpu_cores: Annotated[int, Field(description="Processors we may use (affinity and container quota)")]
    memory_total_gib: Annotated[float, Field(description="RAM, or the container's limit")]
    memory_available_gib: float
    disk_free_gib: Annotated[float, Field(description="Where run folders lie")]
    note: Annotated[str | None, Field(description="What hinders or hides hardware")] = None


def look_at_hardware(home: Home) -> Hardware:
    """The hardware as it is now; blocking for some milliseconds, some 100 with GPUs."""
    gpus, note = look_at_gpus()
    memory = look_at_memory()
    return Hardware(
        gpus=gpus,
        cpu_cores=count_processors(),
        memory_total_gib=round(memory.total / _GIB, 2),
        memory_available_gib=round(memory.available / _GIB, 2),
        disk_free_gib=round(shutil.disk_usage(home.runs).free / _GIB, 2),
        note=note,
    )
