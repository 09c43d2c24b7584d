"""The one seam to the machine's clocks and processes: tests replace what stands here, nothing else.

Standard library only: the supervisor runs from a snapshot of this module.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from ..trainer import records


def monotonic() -> float:
    """Seconds on a clock that never jumps, also across suspends where the kernel offers it; for durations."""
    return records.clock()


def now() -> str:
    """The wall clock as ISO 8601 UTC with milliseconds; for people, never for durations."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def boot_id() -> str:
    """An id that changes at each boot, or `unknown` where the kernel has none (macOS)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def in_container() -> bool:
    """Whether this process lives in a pid namespace of its own, as in a container: all in it end with its first one."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) != _FIRST_NAMESPACE
    except OSError:
        return False


#: Linux numbers the namespace of the machine itself so (PROC_PID_INIT_INO in include/linux/proc_ns.h).
_FIRST_NAMESPACE = "pid:[4026531836]"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that can't be confused with another: a pid alone is reused."""

    pid: int
    start_ticks: int
    boot: str


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process; None for one that is gone or a zombie (a zombie is dead)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses itself, so count from the last one.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return ProcessIdentity(pid=pid, start_ticks=int(fields[19]), boot=boot_id())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs."""
    return identify(identity.pid) == identity


def current() -> ProcessIdentity:
    """This process's identity."""
    found = identify(os.getpid())
    return found or ProcessIdentity(pid=os.getpid(), start_ticks=0, boot=boot_id())


def gpu_processes(uuid: str) -> list[int]:
    """Pids of the compute processes on an NVIDIA GPU; empty where there is no driver, or it can't tell."""
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        return [int(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


@dataclass(frozen=True)
class MemoryKills:
    """How many processes the kernel has killed for memory: in our memory cgroup, and on the whole machine."""

    cgroup: int | None
    machine: int | None


def memory_kills() -> MemoryKills:
    """The kernel's counters now; None for what it doesn't tell."""
    return MemoryKills(_cgroup_kills(), _count(Path("/proc/vmstat"), "oom_kill"))


def say_memory_kills(before: MemoryKills, after: MemoryKills) -> str | None:
    """What the counters say of the time in between; None where they tell of no kill."""
    for where, old, new in (
        ("memory cgroup", before.cgroup, after.cgroup),
        ("machine", before.machine, after.machine),
    ):
        if old is not None and new is not None and new > old:
            return f"the kernel's counter of processes killed for memory rose from {old} to {new} ({where}) just then"
    return None


def _cgroup_kills() -> int | None:
    """Of the cgroup that this process is in: version 2 (memory.events), else version 1 (memory.oom_control)."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, folder = line.split(":", 2)
        if controllers == "" and (count := _count(_CGROUPS / folder[1:] / "memory.events", "oom_kill")) is not None:
            return count
        if "memory" in controllers.split(","):
            return _count(_CGROUPS / "memory" / folder[1:] / "memory.oom_control", "oom_kill")
    return None


_CGROUPS = Path("/sys/fs/cgroup")


def _count(path: Path, name: str) -> int | None:
    """The number behind `name` in a file of `name number` lines."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return next((int(words[1]) for line in text.splitlines() if (words := line.split())[:1] == [name]), None)
