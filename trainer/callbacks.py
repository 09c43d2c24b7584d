"""What watches a training from inside: metric rows, progress, the stop request, the non-finite guard."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import outputs, pyramid, records

#: Seconds between two writes of progress.json; metric rows are written at every log step.
PROGRESS_SECONDS = 0.5


class Flag(Protocol):
    def __bool__(self) -> bool: ...


def finite(value: Any) -> float | int | None:
    """A number that JSON can say, else None."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


class Watcher(TrainerCallback):
    """Writes metrics.jsonl and progress.json; ends the training on request or when the loss stays non-finite.

    A row is `{step, epoch, at, <metric>: number…}`; a metric that is NaN or infinite is null there and named in
    `nonfinite`, so that it is never mistaken for a good one.
    """

    def __init__(
        self, attempt: Path, stopping: Flag, *, nonfinite_steps: int, first_eval_loss: float | None = None
    ) -> None:
        self._rows = pyramid.MetricsWriter(attempt / "metrics.jsonl")
        self._progress = attempt / "progress.json"
        self._stopping = stopping
        self._limit = nonfinite_steps
        self._nonfinite = 0
        self._last_progress = 0.0
        self._began: tuple[float, int] | None = None
        self._loss: float | None = None
        self._stopped = False
        self.diverged: str | None = None
        self.first_eval_loss = first_eval_loss

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = dict(logs or {})
        epoch = logs.pop("epoch", state.epoch)
        row: dict[str, Any] = {
            "step": state.global_step,
            "epoch": round(epoch or 0.0, 4),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        bad: list[str] = []
        for name, value in logs.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                row[name] = finite(value)
                if row[name] is None:
                    bad.append(name)
        row |= outputs.memory_now()
        if bad:
            row["nonfinite"] = bad
        self._rows.append(row)
        if self.first_eval_loss is None and state.global_step == 0:
            self.first_eval_loss = row.get("eval_loss")
        self._guard(row, bad, control)

    def _guard(self, row: dict[str, Any], bad: list[str], control: TrainerControl) -> None:
        if "loss" not in row:
            return
        self._loss = row["loss"]
        self._nonfinite = self._nonfinite + 1 if {"loss", "grad_norm"} & set(bad) else 0
        if self._nonfinite >= self._limit:
            self.diverged = f"{', '.join(bad)} not finite at {self._nonfinite} log steps, up to step {row['step']}"
            control.should_training_stop = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = time.monotonic()
        # The pace counts from the end of the first step: compilation and warm-up are in that one.
        began, first = self._began = self._began or (now, state.global_step)
        if now - self._last_progress >= PROGRESS_SECONDS or state.global_step >= state.max_steps:
            self._last_progress = now
            pace = (now - began) / (state.global_step - first) if state.global_step > first else None
            loss = "" if self._loss is None else f", loss {self._loss:.3f}"
            records.write_json(
                self._progress,
                {
                    "done": state.global_step,
                    "total": state.max_steps,
                    "eta_seconds": None if pace is None else round(pace * (state.max_steps - state.global_step), 1),
                    "message": f"step {state.global_step} of {state.max_steps}{loss}",
                },
            )
        if self._stopping and state.global_step < state.max_steps:
            self._stopped = True
            control.should_training_stop = True
            # What belongs to an epoch's end (a measurement may) comes before that save, as in a run that goes on.
            control.should_save = not _ends_epoch(state)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # transformers ends an epoch also where a stop cuts it short: it would log, measure and save once more.
        if self._stopped:
            ended = _ends_epoch(state)
            control.should_save = ended
            control.should_evaluate = control.should_evaluate and ended
            control.should_log = control.should_log and ended


def _ends_epoch(state: TrainerState) -> bool:
    """Whether the step just done was its epoch's last: transformers counts (step + 1) / steps, so it is exact."""
    return float(state.epoch or 0.5).is_integer()
