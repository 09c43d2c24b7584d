"""What watches a training from inside: metric rows, progress, the stop request, the non-finite guard."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import outputs, pyramid
from .heartbeat import Heartbeat


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
        self,
        attempt: Path,
        beat: Heartbeat,
        stopping: Flag,
        *,
        nonfinite_steps: int,
        first_eval_loss: float | None = None,
        told_until: int = 0,
    ) -> None:
        """`told_until` is the last step that a metric row of a former run or attempt was about."""
        self._rows = pyramid.MetricsWriter(attempt / "metrics.jsonl")
        self._beat = beat
        self._stopping = stopping
        self._limit = nonfinite_steps
        self._nonfinite = 0
        self._first_bad: int | None = None
        self._logged = told_until
        self._loss: float | None = None
        self._stopped = False
        self.diverged: str | None = None
        self.diverged_at: dict[str, int] | None = None
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
        if "loss" in row:
            self._guard(row, bad, control)
            self._logged = row["step"]

    def _guard(self, row: dict[str, Any], bad: list[str], control: TrainerControl) -> None:
        self._loss = row["loss"]
        if not {"loss", "grad_norm"} & set(bad):
            self._nonfinite, self._first_bad = 0, None
            return
        self._nonfinite += 1
        if self._first_bad is None:
            # A row is about the steps since the one before it.
            self._first_bad = self._logged + 1
        if self._nonfinite >= self._limit:
            rows = f"{self._nonfinite} metric row{'s' if self._nonfinite != 1 else ''}"
            self.diverged = f"{', '.join(bad)} not finite from step {self._first_bad} to {row['step']} ({rows})"
            self.diverged_at = {"from": self._first_bad, "to": row["step"]}
            control.should_training_stop = True

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if args.eval_on_start:
            self._beat.enter("evaluate")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._beat.enter("train")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        loss = "" if self._loss is None else f", loss {self._loss:.3f}"
        message = f"step {state.global_step} of {state.max_steps}{loss}"
        self._beat.step_ended(state.global_step, state.max_steps, message)
        if self._stopping and state.global_step < state.max_steps:
            self._stopped = True
            control.should_training_stop = True
            # What belongs to an epoch's end (a measurement may) comes before that save, as in a run that goes on.
            control.should_save = not _ends_epoch(state)
        self._leave_step(control)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if control.should_save:
            self._beat.enter("save")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # Whatever comes now is no step either, and no part of the save.
        self._beat.enter("between")

    def _leave_step(self, control: TrainerControl) -> None:
        """What comes before the next step, as transformers does it: a measurement, then a save."""
        if control.should_evaluate:
            self._beat.enter("evaluate")
        elif control.should_save:
            self._beat.enter("save")

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # transformers ends an epoch also where a stop cuts it short: it would log, measure and save once more.
        if self._stopped:
            ended = _ends_epoch(state)
            control.should_save = ended
            control.should_evaluate = control.should_evaluate and ended
            control.should_log = control.should_log and ended
        self._leave_step(control)


def _ends_epoch(state: TrainerState) -> bool:
    """Whether the step just done was its epoch's last: transformers counts (step + 1) / steps, so it is exact."""
    return float(state.epoch or 0.5).is_integer()
