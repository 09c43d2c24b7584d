"""What a trainer says of itself while it lives: `progress.json`, for who waits, for the watchdog and the deadline.

`{done, total, eta_seconds, message, phase, clock, step_seconds, save_seconds}`: `phase` is load, train, evaluate, save,
between (what comes after a save and is no step) or finish; `clock` is `records.clock()` when it was written;
`step_seconds` the median of the last steps, `save_seconds` the longest save so far. Written twice a second at most, and
at once when the phase changes. Standard library only.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from statistics import median

from . import records

#: Seconds between two writes within a phase.
EVERY_SECONDS = 0.5

#: Steps over which the usual one is taken.
_STEPS = 64


class Heartbeat:
    """One trainer's progress.json, and the times that it tells."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._phase = "load"
        self._since = records.clock()
        self._written = float("-inf")
        self._done = 0
        self._total: int | None = None
        self._message = ""
        self._steps: deque[float] = deque(maxlen=_STEPS)
        self._longest_save: float | None = None
        self._began: tuple[float, int] | None = None

    @property
    def done(self) -> int:
        """Steps that are done."""
        return self._done

    def say(self, message: str, phase: str | None = None) -> None:
        """Tell at once what is being done."""
        self._message = message
        self.enter(phase or self._phase)
        self.write()

    def enter(self, phase: str) -> None:
        """Begin a phase; nothing happens in the same one."""
        now = records.clock()
        if phase == self._phase:
            return
        if self._phase == "save":
            self._longest_save = max(now - self._since, self._longest_save or 0.0)
        self._phase, self._since = phase, now
        self.write()

    def goes_on(self, done: int) -> None:
        """`done` steps are done already: a failure before the next one is a failure there, not at step 0."""
        self._done = done

    def step_ended(self, done: int, total: int, message: str) -> None:
        """A step is done: `done` of `total`."""
        now = records.clock()
        # From the end of the step before, or of what came between: fetching the batch is part of a step.
        self._steps.append(now - self._since)
        self._since = now
        self._done, self._total, self._message = done, total, message
        # The pace counts from the end of the first step: compilation and warm-up are in that one.
        self._began = self._began or (now, done)
        if now - self._written >= EVERY_SECONDS or done >= total:
            self.write()

    def write(self) -> None:
        """Tell what is known now."""
        now = records.clock()
        self._written = now
        pace = None
        if self._began is not None and self._done > self._began[1]:
            pace = (self._since - self._began[0]) / (self._done - self._began[1])
        left = None if pace is None or self._total is None else round(pace * (self._total - self._done), 1)
        record: records.Record = {
            "done": self._done,
            "total": self._total,
            "eta_seconds": left,
            "message": self._message,
            "phase": self._phase,
            "clock": now,
            # The first step compiles and warms up: it says nothing of the others.
            "step_seconds": median(list(self._steps)[1:]) if len(self._steps) > 1 else None,
            "save_seconds": self._longest_save,
        }
        records.write_json(self._path, record)
