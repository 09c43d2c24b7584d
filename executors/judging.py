"""Why an attempt ended, by the evidence that there is: `unknown` where that doesn't decide.

In this order: success, by exit status and the trainer's own word; what the supervisor did to it; the trainer's word
about its failure; the exit status with the kernel's counters; the last lines of its log, and the disk's free bytes,
where it left no word. Standard library only (supervisor snapshot).
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

from ..trainer import records
from .watching import Watch

#: Bytes of the log's end in which a trainer that left no word may have said why it died.
_TAIL = 16_384

#: Free bytes below which a disk is called full.
_FULL = 65_536

#: Fixed wordings of torch (allocators, serialization), of the C++ runtime, the kernel, NCCL and torch.distributed.
_SAID: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "oom_gpu",
        re.compile(r"CUDA out of memory|OutOfMemoryError: CUDA|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"),
    ),
    ("oom_host", re.compile(r"DefaultCPUAllocator: can't allocate memory|^MemoryError|std::bad_alloc", re.MULTILINE)),
    ("disk_full", re.compile(r"No space left on device|\[enforce fail at inline_container\.cc")),
    ("communication", re.compile(r"\bDist(?:Backend|Network)Error\b|NCCL error|ncclSystemError|ncclRemoteError")),
)


def judge(folder: Path, code: int, watch: Watch, *, max_hours: float | None) -> dict[str, Any]:
    """The outcome of the attempt in `folder`, as the terminal record holds it.

    Success needs exit status 0 and the trainer's own word that it reached the planned end.
    """
    try:
        result = records.read_json(folder / "result.json") or {}
    except (ValueError, OSError):
        result = {}
    said = result.get("outcome")
    if code == 0 and said == "succeeded":
        return {"succeeded": result.get("ended_by", "planned_end")}
    saved = f", with a checkpoint at step {result.get('steps')}" if said == "stopped" else ""
    match watch.stopped_for:
        case "hung":
            return _failed("hung", f"{watch.hung}; stacks-*.txt in {folder} show where each process stood")
        case "deadline":
            return _failed("timeout", f"max_hours {max_hours} are over{saved}")
        case "request":
            return {"cancelled": "request"}
        case "preempted":
            return _failed("preempted", f"the supervisor was sent SIGTERM by somebody else than stop_run{saved}")
        case _:
            return _by_itself(folder, code, result, watch)


def _by_itself(folder: Path, code: int, result: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The outcome of a trainer that we did nothing to."""
    said = result.get("outcome")
    if said == "failed":
        # Its own word, also where that is that it does not know: its log may quote data, which say anything.
        return _failed(result.get("reason", "unknown"), result.get("detail", ""))
    if said == "stopped":
        # It stops only at SIGTERM, and that wasn't ours.
        step = result.get("steps")
        return _failed("preempted", f"the trainer was sent SIGTERM from outside and saved a checkpoint at step {step}")
    if code == 0:
        return _failed("incomplete", "the trainer exited 0 without saying that it reached the end")
    ended = _how(code)
    number = -code if code < 0 else code - 128
    if number == signal.SIGTERM:
        return _failed("preempted", f"{ended} before it could save; the signal came from outside")
    if number == signal.SIGKILL and watch.memory_kill is not None:
        return _failed("oom_host", f"{ended}; {watch.memory_kill}")
    if (found := _by_the_log(folder / "train.log")) is not None:
        reason, line = found
        return _failed(reason, f"{ended}; the end of its log says: {line}")
    if (free := _free(folder)) is not None and free < _FULL:
        return _failed("disk_full", f"{ended}; {free} bytes are free on the disk of {folder}")
    who = "; the kernel counts no kill for memory: somebody sent it" if number == signal.SIGKILL else ""
    return _failed("unknown", f"{ended} and left no result{who}")


def _how(code: int) -> str:
    """How a process ended, by its exit status; shells pass a signal on as 128 and its number."""
    number = -code if code < 0 else code - 128
    if code < 0 or code in (128 + signal.SIGKILL, 128 + signal.SIGTERM):
        return f"the trainer ended with signal {number} ({signal.Signals(number).name})"
    return f"the trainer ended with exit status {code}"


def _by_the_log(log: Path) -> tuple[str, str] | None:
    """Reason and line, where the log's end has one of the fixed wordings; the last one counts."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            text = file.read().replace(b"\0", b"").decode(errors="replace")
    except OSError:
        return None
    found = [(match.start(), reason) for reason, pattern in _SAID for match in pattern.finditer(text)]
    if not found:
        return None
    at, reason = max(found)
    line = text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0]
    return reason, line.strip()[:300]


def _free(folder: Path) -> int | None:
    try:
        told = os.statvfs(folder)
    except OSError:
        return None
    return told.f_bavail * told.f_frsize


def _failed(reason: str, detail: str) -> dict[str, Any]:
    return {"failed": reason, "detail": detail}
