"""The one seam to the machine's clocks and processes: tests replace what stands here, nothing else.

Standard library only: the supervisor runs from a snapshot of this module.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


def monotonic() -> float:
    """Seconds on a clock that never jumps, also across suspends where the kernel offers it; for durations."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def now() -> str:
    """The wall clock as ISO 8601 UTC with milliseconds; for people, never for durations."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def boot_id() -> str:
    """An id that changes at each boot, or `unknown` where the kernel has none (macOS)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


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
