"""Why a training failed, in the words that every back end uses; `unknown` where the evidence doesn't decide."""

from __future__ import annotations

import errno
from dataclasses import dataclass


@dataclass
class Failure(Exception):
    """A failure whose reason is known where it is raised."""

    reason: str
    detail: str

    def __str__(self) -> str:
        return self.detail


def explain(error: BaseException) -> Failure:
    """The reason of an error, from its type and, where libraries give no type, from their fixed wording.

    Out of memory: torch's CUDA errors say " out of memory", its CPU allocator "DefaultCPUAllocator: can't allocate
    memory"; a full disk comes as ENOSPC, or from torch's own writer as an enforce failure in inline_container.cc.
    PEFT: "Target modules … not found in the base model".
    """
    text = f"{type(error).__name__}: {error}"[:2000]
    if isinstance(error, Failure):
        return error
    if " out of memory" in text and "CUDA" in text:
        return Failure("oom_gpu", text)
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return Failure("oom_host", text)
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    if full or "No space left on device" in text or "[enforce fail at inline_container.cc" in text:
        return Failure("disk_full", text)
    if isinstance(error, ImportError):
        return Failure("bad_environment", text)
    if isinstance(error, ValueError) and text.startswith("ValueError: Target modules"):
        return Failure("bad_config", text)
    return Failure("unknown", text)
