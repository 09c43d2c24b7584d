"""Wait for one attempt's trainer: stop it on request, before the deadline or when it hangs, and keep what was seen.

Looks about once a second: at the trainer's heartbeat (`progress.json`), at its log's size, at the kernel's counter of
processes killed for memory. Standard library only (supervisor snapshot).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..trainer import records
from . import host, processes, sweeping
from .logcap import LogCap

#: Seconds between two looks.
LOOK_SECONDS = 1.0

#: Between two looks so far apart the supervisor itself stood still (a suspend, SIGSTOP): nothing hung meanwhile.
_STOOD_STILL_SECONDS = 60.0

#: Seconds without a step that count as hung, where the config says auto: this or 20 usual steps, the longer; a first
#: step, which compiles and connects the ranks, has longer.
HANG_SECONDS = 600.0
HANG_STEPS = 20
FIRST_STEP_SECONDS = 1800.0

#: Seconds that the ranks of a hung trainer have to write their stacks, and to end by themselves.
_STACK_SECONDS = 5.0
_HUNG_GRACE = 30.0

#: Seconds before the deadline at which a checkpoint is asked for while nothing is known of steps and saves.
_UNKNOWN_LEAD = 60.0


@dataclass(frozen=True)
class Limits:
    """What one attempt must keep to; seconds, on `host.monotonic`'s clock."""

    deadline: float | None
    total: float
    """Seconds that the whole run may take; the lead before the deadline is at most a quarter of it."""
    grace: float
    stall: float | None
    """Seconds without a step that count as hung; None: by the usual step."""


@dataclass
class Heartbeat:
    """What the trainer last said of itself; phase None from one that says none (it is never called hung)."""

    step: int | None = None
    phase: str | None = None
    step_seconds: float | None = None
    save_seconds: float | None = None

    @classmethod
    def read(cls, path: Path) -> Heartbeat:
        """The heartbeat in a progress.json; empty where there is none, or none that reads."""
        try:
            said = records.read_json(path) or {}
        except (ValueError, OSError):
            said = {}
        step, phase = said.get("done"), said.get("phase")
        return cls(
            step=step if isinstance(step, int) else None,
            phase=phase if isinstance(phase, str) else None,
            step_seconds=_seconds(said.get("step_seconds")),
            save_seconds=_seconds(said.get("save_seconds")),
        )


class Watch:
    """One attempt's trainer, from its start to its end."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        folder: Path,
        limits: Limits,
        *,
        asked_to_stop: Callable[[], str | None],
        event: Callable[..., None],
        rest: Callable[..., None],
    ) -> None:
        """`asked_to_stop` gives `request`, `preempted` or None; `rest(seconds, *descriptors)` waits for either."""
        self._child = child
        self._folder = folder
        self._limits = limits
        self._asked_to_stop = asked_to_stop
        self._event = event
        self._rest = rest
        self._cap = LogCap(folder / "train.log")
        self._moved = self._looked = host.monotonic()
        self._kills = [host.memory_kills()]
        self.heartbeat = Heartbeat()
        self.stopped_for: str | None = None
        """`request`, `preempted`, `deadline` or `hung`, where we ended it."""
        self.hung: str | None = None
        self.killed = False
        self.memory_kill: str | None = None
        """What the kernel's counters say of a kill for memory just before the end; None where they didn't move."""

    def wait(self) -> int:
        """The child's exit status, negative for a signal."""
        kill_at: float | None = None
        exits = [os.pidfd_open(self._child.pid)] if hasattr(os, "pidfd_open") else []
        try:
            while (code := self._child.poll()) is None:
                now = host.monotonic()
                self._look(now)
                if kill_at is None and (why := self._reason_to_stop(now)) is not None:
                    kill_at = now + self._stop(why)
                elif kill_at is not None and now >= kill_at:
                    self._event("killing")
                    self.killed = True
                    processes.send(self._child.pid, signal.SIGKILL)
                    kill_at = now + self._limits.grace
                self._rest(max(0.0, min(LOOK_SECONDS, self._next(kill_at) - now)), *exits)
        finally:
            for descriptor in exits:
                os.close(descriptor)
        self.heartbeat = Heartbeat.read(self._folder / "progress.json")
        self.memory_kill = host.say_memory_kills(self._kills[0], host.memory_kills())
        self._cap.look()
        return code

    def _look(self, now: float) -> None:
        seen = Heartbeat.read(self._folder / "progress.json")
        if seen != self.heartbeat or now - self._looked > _STOOD_STILL_SECONDS:
            self._moved = now
        self.heartbeat, self._looked = seen, now
        self._kills = [*self._kills, host.memory_kills()][-2:]
        if (said := self._cap.look()) is not None:
            self._event("log_cap", why=said)

    def _reason_to_stop(self, now: float) -> str | None:
        if (asked := self._asked_to_stop()) is not None:
            return asked
        if self._limits.deadline is not None and now >= self._limits.deadline - lead(
            self.heartbeat, total=self._limits.total
        ):
            return "deadline"
        quiet, limit = now - self._moved, hang_limit(self.heartbeat, self._limits)
        if limit is not None and quiet > limit:
            self.hung = f"no step for {quiet:.0f} s after step {self.heartbeat.step} (limit {limit:.0f} s)"
            return "hung"
        return None

    def _stop(self, why: str) -> float:
        """Ask the trainer to end; the seconds that it has for it."""
        self.stopped_for = why
        grace = self._limits.grace
        if why == "hung":
            self._event("hung", why=self.hung, stacks=self._dump_stacks())
            grace = min(grace, _HUNG_GRACE)
        self._event("stopping", why=why, grace_seconds=grace)
        processes.send(self._child.pid, signal.SIGTERM)
        return grace

    def _dump_stacks(self) -> list[str]:
        """Have every process of the run that can write its stacks do so; the files' names."""
        asked = 0
        for pid, process in sweeping.marked(self._folder.parent.parent.name):
            # A process that doesn't handle the signal would be ended by it.
            if processes.catches(pid, signal.SIGUSR1):
                signal.pidfd_send_signal(process, signal.SIGUSR1)
                asked += 1
        give_up = host.monotonic() + _STACK_SECONDS
        while len(written := self._stacks()) < asked and host.monotonic() < give_up:
            self._rest(0.1)
        # The last of them may still be at it.
        self._rest(0.2)
        return written

    def _stacks(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("stacks-*.txt") if path.stat().st_size)

    def _next(self, kill_at: float | None) -> float:
        if kill_at is not None:
            return kill_at
        return (
            float("inf")
            if self._limits.deadline is None
            else self._limits.deadline - lead(self.heartbeat, total=self._limits.total)
        )


def lead(beat: Heartbeat, *, total: float) -> float:
    """Seconds before the deadline at which to stop: two steps and two saves, at most a quarter of the run's time."""
    save = _UNKNOWN_LEAD if beat.save_seconds is None else 2 * beat.save_seconds + 5.0
    return min(2 * (beat.step_seconds or 0.0) + save, total / 4)


def hang_limit(beat: Heartbeat, limits: Limits) -> float | None:
    """Seconds without a step; None outside of training steps, where nobody can say how long is too long."""
    if beat.phase != "train":
        return None
    if limits.stall is not None:
        return limits.stall
    if beat.step_seconds is None:
        return FIRST_STEP_SECONDS
    return max(HANG_SECONDS, HANG_STEPS * beat.step_seconds)


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
