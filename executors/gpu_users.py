"""Who else computes on a GPU, by the driver (NVML): other people's processes hold no lease of ours.

Part of the supervisor's snapshot; pynvml, one file of pure Python, is copied beside it for runs that want GPUs.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from . import host

#: Seconds for which an answer of the driver counts; asking takes some milliseconds, and some drivers much longer.
_FRESH_SECONDS = 2.0

_asked: dict[str, tuple[float, list[str]]] = {}


def users_of(uuid: str) -> list[str]:
    """The compute processes on this GPU, as `process 4711 (python, of alice)`; empty where the driver can't tell.

    To be asked for a GPU whose lease is free: whoever is there is no run of this state folder.
    """
    now = host.monotonic()
    at, users = _asked.get(uuid, (float("-inf"), []))
    if now - at > _FRESH_SECONDS:
        users = [_describe(pid) for pid in host.gpu_processes(uuid)]
        _asked[uuid] = (now, users)
    return users


def _describe(pid: int) -> str:
    """A process in words; in a container the driver may name pids that are not to be seen from here."""
    folder = Path(f"/proc/{pid}")
    try:
        name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
        owner = folder.stat().st_uid
    except OSError:
        return f"process {pid}"
    return f"process {pid} ({name}{'' if owner == os.getuid() else f', of {_name(owner)}'})"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
