"""What of this machine's memory and processors is really ours: containers and schedulers give less than there is."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: cgroup v1 says "no limit" by the largest page-aligned number; anything near it is none.
_UNLIMITED = 2**62


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    total: int
    available: int


@dataclass(frozen=True)
class ControlGroups:
    """The control groups of this process: `membership` is /proc/self/cgroup, `mount` where they are mounted."""

    membership: Path = Path("/proc/self/cgroup")
    mount: Path = Path("/sys/fs/cgroup")

    def memory(self) -> Iterator[Memory]:
        """Limit and what is left of it, for each group above us that has one."""
        for folder in self._folders(""):
            yield from _memory(folder, "memory.max", "memory.current", "inactive_file")
        for folder in self._folders("memory"):
            yield from _memory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")

    def processors(self) -> Iterator[float]:
        """Processors' worth of time, for each group above us that has a quota."""
        for folder in self._folders(""):
            quota, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
            if quota.isdigit() and period.isdigit():
                yield int(quota) / int(period)
        for folder in self._folders("cpu"):
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            if quota is not None and period and quota > 0:
                yield quota / period

    def _folders(self, controller: str) -> Iterator[Path]:
        """Our group's folder and those above it; controller "" is the unified hierarchy (cgroup v2)."""
        group = self._group(controller)
        if group is None:
            return
        root = self.mount / controller if controller else self.mount
        relative = Path(group.lstrip("/"))
        # In a container the path may be the host's, while the mount already shows our own group at its root.
        for folder in (relative, *relative.parents):
            if ".." not in folder.parts and (root / folder).is_dir():
                yield root / folder

    def _group(self, controller: str) -> str | None:
        for line in (_text(self.membership) or "").splitlines():
            _, _, rest = line.partition(":")
            controllers, _, group = rest.partition(":")
            if controller in controllers.split(","):
                return group
        return None


def look_at_memory(groups: ControlGroups | None = None) -> Memory:
    """The machine's memory, or the tightest control group's where that is less."""
    import psutil  # here: it costs 10 ms of every start of the server, and few calls need it

    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    for limit in (groups or ControlGroups()).memory():
        total, available = min(total, limit.total), min(available, limit.available)
    return Memory(total=total, available=available)


def count_processors(groups: ControlGroups | None = None) -> int:
    """Processors that this process may use: affinity, and the control groups' quota rounded up; at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
    quota = min((groups or ControlGroups()).processors(), default=math.inf)
    return max(1, min(count, math.ceil(quota)) if quota < math.inf else count)


def _memory(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> Iterator[Memory]:
    limit, usage = _number(folder / limit_name), _number(folder / usage_name)
    if limit is None or usage is None or limit >= _UNLIMITED:
        return
    reclaimable = 0
    for line in (_text(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == reclaimable_name and value.isdigit():
            # Page cache that the kernel gives back before it lets anything die.
            reclaimable = int(value)
    yield Memory(total=limit, available=max(0, limit - usage + min(reclaimable, usage)))


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.lstrip("-").isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
