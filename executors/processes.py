"""What the supervisor does to processes: detach, tie a child to its life, and end every descendant.

Linux; where a call is missing (macOS) nothing happens and the guarantees are weaker. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from . import host

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def detach() -> None:
    """Leave the launcher: a second fork, so that nobody waits for us, and adopt whatever our descendants orphan."""
    if os.fork():
        os._exit(0)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tied_to_us() -> Callable[[], None]:
    """What a child calls between fork and exec so that it is killed when this process dies."""
    parent = os.getpid()
    # Looked up here: between fork and exec only what is already loaded is safe.
    libc = ctypes.CDLL(None, use_errno=True)

    def tie() -> None:
        with contextlib.suppress(AttributeError):
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def send(pid: int, number: int) -> None:
    """Signal a child of ours that hasn't been reaped (its pid can't have been reused)."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def catches(pid: int, number: int) -> bool:
    """Whether a process handles this signal itself, so that it isn't ended by it."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    caught = next((line.split()[1] for line in text.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def end_descendants(seconds: float) -> list[int]:
    """Kill and reap all descendants, orphans that we adopted included; those that are left after `seconds`.

    One in the kernel's hands (a hanging disk) may take for ever.
    """
    give_up = host.monotonic() + seconds
    while orphans := _children_of(os.getpid()):
        for pid in orphans:
            send(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if host.monotonic() > give_up:
            return orphans
        time.sleep(0.01)
    return []


def _children_of(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text(encoding="ascii").split()]
    except OSError:
        return []
