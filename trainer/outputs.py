"""What a finished training leaves: model or adapter and tokenizer, saved and looked at before anyone calls it done."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open

from .checkpoints import bad_tensors
from .failures import Failure

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")


def save(trainer: Any, folder: Path) -> dict[str, Any]:
    """Save the trained weights and the tokenizer to `folder` and check them; kind, files, bytes.

    Raises:
        Failure: the folder holds no weights, or weights that aren't finite (`diverged`).
    """
    trainer.save_model(str(folder))
    # Our own record says more, and this one is a pickle.
    (folder / "training_args.bin").unlink(missing_ok=True)
    tensors = sum(_check(path) for path in sorted(folder.glob("*.safetensors")))
    if not tensors:
        raise Failure("incomplete", f"{folder} holds no weights after saving")
    return {
        "path": str(folder),
        "kind": "adapter" if (folder / "adapter_config.json").exists() else "model",
        "tensors": tensors,
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
    }


def _check(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
    if bad := bad_tensors(path):
        raise Failure("diverged", f"{path.name}: {bad[0]} holds NaN or infinity ({len(bad)} of {len(names)} tensors)")
    return len(names)


def memory_now() -> dict[str, float]:
    """GiB for a metric row: torch's peak so far on the fullest GPU; without one, what the process has resident."""
    if torch.cuda.is_initialized():
        peaks = [torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())]
        return {"gpu_peak_gib": round(max(peaks) / 2**30, 3)}
    return {"rss_gib": round(_resident() / 2**30, 3)}


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        # Elsewhere only the peak is known, in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


def peak_memory() -> dict[str, float]:
    """GiB at the peak: the process's resident memory, and what torch allocated and reserved on each GPU."""
    memory = {"host_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory[f"gpu{index}_allocated_gib"] = round(torch.cuda.max_memory_allocated(index) / 2**30, 3)
            memory[f"gpu{index}_reserved_gib"] = round(torch.cuda.max_memory_reserved(index) / 2**30, 3)
    return memory


def parameters(model: Any) -> dict[str, dict[str, int]]:
    """Numbers of trained and of frozen parameters by their precision; quantized ones count as they are stored."""
    counts: dict[str, Counter[str]] = {"trained": Counter(), "frozen": Counter()}
    for parameter in model.parameters():
        kind = "trained" if parameter.requires_grad else "frozen"
        counts[kind][str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
    return {kind: dict(found) for kind, found in counts.items()}


def base_commit(model: Mapping[str, Any]) -> str | None:
    """The commit of the config's base model in the Hub's cache, from which it was loaded; None for a local folder."""
    name = str(model["name"])
    if Path(name).is_absolute():
        return None
    # transformers doesn't keep it; the cache's folders are named by it.
    path = try_to_load_from_cache(name, "config.json", revision=model.get("revision"))
    return Path(path).parent.name if isinstance(path, str) else None


def hardware() -> dict[str, Any]:
    """What trained: `device` (cuda or cpu), its `name`, and `count` of GPUs or of cores that this process may use."""
    if torch.cuda.is_initialized():
        return {"device": "cuda", "name": torch.cuda.get_device_name(0), "count": torch.cuda.device_count()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"device": "cpu", "name": _cpu_name(), "count": cores}


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def versions() -> dict[str, str]:
    """Versions of what trained."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
