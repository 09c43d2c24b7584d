# ruff: noqa: SLF001  what is restored has no public door; each line is covered by the tests of exactness
"""Going on from a checkpoint so that the curve is the one of a run that was never interrupted.

transformers restores weights, optimizer, schedule, position in the data and random numbers. Not the losses since the
last metric row (its first row after a resume would be a mean over fewer steps), nor TRL's running means and token
count, nor the rate of a schedule that was lengthened. Those, and the hashes of the data, stand in `continuation.json`
of each checkpoint, under its manifest.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from . import manifests, records
from .failures import Failure


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint to go on from."""

    folder: Path
    state: TrainerState
    continuation: dict[str, Any]

    @property
    def step(self) -> int:
        return self.state.global_step

    @property
    def planned_steps(self) -> int:
        return self.continuation["planned_steps"]

    @property
    def told_until(self) -> int:
        """The last step that a metric row was about."""
        return self.continuation["window"]["since_step"]

    @property
    def first_eval_loss(self) -> float | None:
        """Held-out loss before the very first step, by the history that each checkpoint carries on."""
        return next(
            (row["eval_loss"] for row in self.state.log_history if row["step"] == 0 and "eval_loss" in row), None
        )


@dataclass(frozen=True)
class Beginning:
    """Where an attempt begins."""

    start: Checkpoint | None
    """None: from the very start."""
    extends: bool = False
    """Whether the run was asked to go further than the run that the checkpoint is of."""
    quarantined: tuple[str, ...] = ()
    """Checkpoints of this run that can't be trusted, and why; they were moved aside."""
    anew: bool = False
    """Whether it was to go on, and there is nothing to go on from."""


def begin(checkpoints: Path, request: Mapping[str, Any], *, goes_on: bool) -> Beginning:
    """Where to begin: `goes_on` is a later attempt of the same run, which takes its newest checkpoint that verifies.

    Without one, and in a first attempt, it is the checkpoint that the run was asked to go on from, else the start.
    Bad checkpoints of former attempts are moved aside: this one will save under the same names.

    Raises:
        Failure: the checkpoint that was asked for isn't what was saved (`incomplete`), saying what differs.
    """
    moved: list[str] = []
    if goes_on:
        _forget_halves(checkpoints)
        good, bad = manifests.last_good(checkpoints)
        for verdict in bad:
            aside = manifests.quarantine(verdict.folder)
            moved.append(f"{verdict.folder.name}: {', '.join(verdict.problems[:3])}")
            sys.stderr.write(f"{moved[-1]}; moved to {aside}\n")
        if moved and good is not None:
            manifests.mark_good(good.folder)
        if good is not None:
            return Beginning(_read(good.folder), quarantined=tuple(moved))
    if request.get("resume_from") is None:
        return Beginning(None, quarantined=tuple(moved), anew=goes_on)
    start = _load(Path(request["resume_from"]))
    return Beginning(start, extends=bool(request.get("extends")), quarantined=tuple(moved))


def _forget_halves(checkpoints: Path) -> None:
    """Delete the interrupted saves that former attempts moved aside, so that a run cut again and again fills no disk.

    Without a manifest nothing says what they should have been; those that differ from theirs stay to be looked at.
    """
    for folder in (checkpoints / manifests.QUARANTINE).glob("checkpoint-*"):
        if not (folder / manifests.MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _load(folder: Path) -> Checkpoint:
    verdict = manifests.verify(folder)
    if not verdict.is_good:
        raise Failure("incomplete", f"{folder} can't be gone on from: {'; '.join(verdict.problems[:5])}")
    return _read(folder)


def _read(folder: Path) -> Checkpoint:
    state = TrainerState.load_from_json(str(folder / "trainer_state.json"))
    return Checkpoint(folder, state, records.read_json(folder / manifests.CONTINUATION) or {})


def save(folder: Path, trainer: Any, data: Sequence[Mapping[str, Any]]) -> None:
    """Write into a checkpoint what transformers leaves out."""
    window = {
        "since_step": trainer._globalstep_last_logged,
        "loss": _exact(trainer._tr_loss.item()),
        "means": {name: [_exact(value) for value in values] for name, values in _means(trainer).items()},
        "tokens": getattr(trainer, "_total_train_tokens", None),
    }
    record = {"planned_steps": trainer.state.max_steps, "data": list(data), "window": window}
    records.write_json(folder / manifests.CONTINUATION, record)


class LoadsExactly:
    """Mixed into a trainer: loading a checkpoint leaves every parameter in the precision it had, and trusts none.

    TRL trains a quantized model's adapter in bfloat16; PEFT casts what it loads to float32, and the run would go on
    with other roundings (and other memory) than it was stopped with. transformers loads the best checkpoint as it
    finds it, and where it finds none it goes on with the last weights.
    """

    model: Any
    state: TrainerState

    def _load_from_checkpoint(self, *arguments: Any, **options: Any) -> None:
        with _same_precision(self.model):
            super()._load_from_checkpoint(*arguments, **options)  # pyright: ignore[reportAttributeAccessIssue]

    def _load_best_model(self) -> None:
        best = manifests.verify(Path(str(self.state.best_model_checkpoint)))
        if not best.is_good:
            problems = "; ".join(best.problems[:5])
            raise Failure("incomplete", f"{best.folder}, the best checkpoint, can't be loaded: {problems}")
        with _same_precision(self.model):
            super()._load_best_model()  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _same_precision(model: Any) -> Generator[None]:
    before = {name: parameter.dtype for name, parameter in model.named_parameters()}
    yield
    for name, parameter in model.named_parameters():
        if parameter.dtype != before.get(name, parameter.dtype):
            parameter.data = parameter.data.to(before[name])


class Continuer(TrainerCallback):
    """Puts the open window of the curve back when the training begins, and the rate of a lengthened schedule."""

    def __init__(self, trainer: Any, checkpoint: Checkpoint) -> None:
        self._trainer = trainer
        self._checkpoint = checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trainer, window = self._trainer, self._checkpoint.continuation["window"]
        trainer._globalstep_last_logged = window["since_step"]
        trainer._tr_loss.fill_(float.fromhex(window["loss"]))
        # train_loss is the mean over this run's own steps: what the window brings along is taken off again.
        trainer._total_loss_scalar = -float.fromhex(window["loss"])
        for name, values in window["means"].items():
            _means(trainer)[name] = [float.fromhex(value) for value in values]
        if window["tokens"] is not None:
            trainer._total_train_tokens = window["tokens"]
        scheduler = kwargs["lr_scheduler"]
        if state.max_steps != self._checkpoint.planned_steps and isinstance(
            scheduler, torch.optim.lr_scheduler.LambdaLR
        ):
            # The restored optimizer has the old schedule's rate, 0 at its end, and the first step would use it.
            parts = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            rates = [base * factor(scheduler.last_epoch) for base, factor in parts]
            for group, rate in zip(kwargs["optimizer"].param_groups, rates, strict=True):
                group["lr"] = rate
            scheduler._last_lr = rates  # pyright: ignore[reportPrivateUsage]


def adopt(trainer: Any, checkpoint: Checkpoint) -> None:
    """Make the trainer what it was at a checkpoint of the last step, of which only evaluation and saving are left."""
    trainer._load_from_checkpoint(str(checkpoint.folder))
    trainer.state = checkpoint.state
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
        trainer._load_best_model()


def _means(trainer: Any) -> dict[str, list[float]]:
    """What TRL's trainers average until the next metric row; transformers' own have none."""
    return trainer._metrics["train"] if hasattr(trainer, "_metrics") else {}


def _exact(value: float) -> str:
    """A float that loses no bit, also one that JSON can't say."""
    return float(value).hex()
