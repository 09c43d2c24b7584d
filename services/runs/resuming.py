"""Go on with a training run that has ended: a new run, from the last checkpoint of the old one that verifies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ...executors import states
from ...executors.errors import ArgumentError, RunError
from ...executors.paths import RunPaths
from ...executors.states import RunState
from ...trainer import manifests
from ...trainer.manifests import Verdict
from ..app import App, is_folder
from ..calls import as_call
from ..configs import loading as configs
from ..configs.schema import Config
from ..result import Result
from ..untrusted import clean
from . import launching, pruning
from . import life as runs

#: Bytes of a checkpoint that are hashed while a caller waits, at about a second per GB. The trainer hashes all.
_HASH_LIMIT = 20e9

#: Checkpoints whose faults an error or an answer names.
_NAMED = 5

#: Schedules whose rate doesn't depend on how many steps are planned.
_LEVEL_SCHEDULES = ("constant", "constant_with_warmup")


@dataclass(frozen=True)
class ResumeRequest:
    """What the caller wants gone on with."""

    run_id: str
    checkpoint: int | None = None
    """Step of the checkpoint; None: the newest that verifies."""
    num_train_epochs: float | None = None
    max_steps: int | None = None
    allow_changed_data: bool = False
    again: bool = False

    @property
    def extends(self) -> bool:
        return self.num_train_epochs is not None or self.max_steps is not None

    def call(self, **more: object) -> str:
        """The call that this was, with some arguments changed (None: left out)."""
        given: dict[str, object] = {
            "run_id": self.run_id,
            "checkpoint": self.checkpoint,
            "num_train_epochs": self.num_train_epochs,
            "max_steps": self.max_steps,
            "allow_changed_data": self.allow_changed_data or None,
            **more,
        }
        return as_call("resume_run", **given)


class ResumeResult(Result):
    run_id: Annotated[str, Field(description="The new run")]
    parent: Annotated[str, Field(description="The run it goes on with; its folder stays as it is")]
    from_step: int
    checkpoint: Annotated[str, Field(description="Folder of the checkpoint it goes on from")]
    skipped: Annotated[list[str], Field(description="Newer checkpoints that can't be trusted, and why")]
    folder: Annotated[str, Field(description="The new run's folder")]
    warnings: list[str]

    def body(self) -> str:
        lines = [f"Run {self.run_id} goes on with {self.parent} from step {self.from_step} ({self.checkpoint})."]
        lines += [f"Passed over: {one}" for one in self.skipped]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings), f"Folder {self.folder}"])


@dataclass(frozen=True)
class _Start:
    """The checkpoint to go on from, and what its state tells."""

    folder: Path
    step: int
    epoch: float
    planned_steps: int
    skipped: list[str]


async def resume(app: App, request: ResumeRequest) -> ResumeResult:
    """Start a new run that goes on with an ended one; the trainer verifies checkpoint and data once more.

    Raises:
        ArgumentError: the new end isn't beyond what is reached, or is given twice.
        RunError: the run lives (`run_live`), is no training or has nothing left to do (`nothing_left`), has no
            checkpoint to trust (`no_checkpoint`), is gone on with already (`duplicate_run`), or the new one didn't
            start (`launch_failed`, `not_enough`).
        ConfigError, DataError, ModelError: its config can't be trained any more, or points at nothing.
        EnvironmentFault: there is no complete training environment.
    """
    if request.num_train_epochs is not None and request.max_steps is not None:
        raise ArgumentError(
            "invalid_arguments",
            "num_train_epochs and max_steps both say where to end; give one.",
            next_step=request.call(num_train_epochs=None) + ", or with num_train_epochs alone.",
        )
    run = app.home.run(request.run_id)
    asked = runs.asked(run)
    # Of a lost run, a trainer may still be writing: it is ended first.
    state = await anyio.to_thread.run_sync(runs.settled_state, app, run)
    _refuse_unless_ended(request, asked, state)
    start = await anyio.to_thread.run_sync(_choose, run, asked, request)
    _refuse_reached(request, start)
    loaded = await anyio.to_thread.run_sync(partial(configs.load_config, run.config, run=run.id))
    extended = _extended(loaded.config, request)
    config = await anyio.to_thread.run_sync(configs.resolve_config, extended, run.root)
    digest = configs.digest(config)
    warnings = await configs.check_keys(app, config, loaded.document)
    told = {
        "config": str(run.config),
        "resume_from": str(start.folder),
        "extends": request.extends,
        "allow_changed_data": request.allow_changed_data,
    }
    launch = await launching.training_launch(app, config, digest=digest, request=told, parent=run.id)
    child = (await runs.start_once(app, launch, partial(_refuse_twin, app, request, digest, start))).run
    return ResumeResult(
        run_id=child.id,
        parent=run.id,
        from_step=start.step,
        checkpoint=str(start.folder),
        skipped=start.skipped,
        folder=str(child.root),
        warnings=[*warnings, *_warnings(request, config, state, start)],
        next_step=f"get_run(run_id={child.id!r}, wait_seconds=45) waits; tail_metrics(run_id={child.id!r}) has the "
        f"curve from step {start.step} on.",
    )


def _refuse_unless_ended(request: ResumeRequest, asked: dict[str, Any], state: RunState) -> None:
    if asked["kind"] != "train":
        raise RunError(
            "nothing_left",
            f"Run {request.run_id} is of kind {asked['kind']}; only training runs can be gone on with.",
            next_step=f"get_run(run_id={request.run_id!r}) says how a push goes on."
            if asked["kind"] == "push"
            else "list_runs(kind='train') shows the training runs.",
        )
    if state.status == "unreachable":
        raise RunError(
            "run_live",
            f"Run {request.run_id} can't be seen from here: it may live on another machine.",
            next_step=f"get_run(run_id={request.run_id!r}) says since when; resume it where it was started.",
        )
    if not states.is_over(state):
        raise RunError(
            "run_live",
            f"Run {request.run_id} is {state.status}: it goes on by itself.",
            next_step=f"stop_run(run_id={request.run_id!r}) ends it with a checkpoint; then {request.call()}.",
        )
    if state.status == "succeeded" and not request.extends:
        raise RunError(
            "nothing_left",
            f"Run {request.run_id} reached its planned end.",
            next_step=f"Say how far to go on: {request.call(max_steps='…')} or {request.call(num_train_epochs='…')}, "
            "counted from the very start.".replace("'…'", "…"),
        )


def _choose(run: RunPaths, asked: dict[str, Any], request: ResumeRequest) -> _Start:
    """The checkpoint that was asked for, or the newest good one: the run's own, else the one it began from."""
    bad: list[Verdict] = []
    chosen: Verdict | None
    if request.checkpoint is not None:
        folder = run.checkpoints / f"checkpoint-{request.checkpoint}"
        if not is_folder(folder):
            raise _not_there(run, request)
        chosen = manifests.verify(folder, hash_limit=_HASH_LIMIT)
        if not chosen.is_good:
            message = f"Checkpoint {request.checkpoint} of run {run.id} can't be trusted: {_tell([chosen])[0]}."
            raise _no_checkpoint(request, message)
    else:
        chosen, bad = manifests.last_good(run.checkpoints, hash_limit=_HASH_LIMIT)
        former = asked["request"].get("resume_from")
        if chosen is None and former is not None:
            inherited = manifests.verify(Path(former), hash_limit=_HASH_LIMIT)
            chosen = inherited if inherited.is_good else None
            bad += [] if inherited.is_good else [inherited]
    if chosen is None:
        found = f" Found: {'; '.join(_tell(bad))}." if bad else f" {_none_saved(run)}."
        raise RunError(
            "no_checkpoint",
            f"Run {run.id} has no checkpoint to go on from.{found}",
            next_step=f"launch_run(config={str(run.config)!r}, again=true) trains from the start.",
        )
    told = json.loads((chosen.folder / "trainer_state.json").read_text(encoding="utf-8"))
    return _Start(chosen.folder, chosen.step, told["epoch"], told["max_steps"], _tell(bad))


def _not_there(run: RunPaths, request: ResumeRequest) -> RunError:
    steps = [manifests.step_of(folder) for folder in manifests.folders(run.checkpoints)]
    if not steps:
        return _no_checkpoint(
            request, f"Run {run.id} has no checkpoint of step {request.checkpoint}. {_none_saved(run)}."
        )
    there = f"there are {', '.join(map(str, steps[:20]))}"
    return _no_checkpoint(request, f"Run {run.id} has no checkpoint of step {request.checkpoint}; {there}.")


def _none_saved(run: RunPaths) -> str:
    """Why there is no checkpoint at all."""
    pruned = pruning.pruned_at(run)
    return "It saved none" if pruned is None else f"`model-trainer runs prune` removed them on {pruned[:10]}"


def _no_checkpoint(request: ResumeRequest, message: str) -> RunError:
    return RunError("no_checkpoint", message, next_step=f"{request.call(checkpoint=None)} takes the newest good one.")


def _tell(verdicts: list[Verdict]) -> list[str]:
    told = [clean(f"{v.folder.name}: {', '.join(v.problems[:3])}", 300) for v in verdicts[:_NAMED]]
    return told + ([f"{len(verdicts) - _NAMED} more"] if len(verdicts) > _NAMED else [])


def _refuse_reached(request: ResumeRequest, start: _Start) -> None:
    """An end that is reached already would train one step too many, or nothing."""
    if request.max_steps is not None and request.max_steps <= start.step:
        reached, beyond = f"max_steps {request.max_steps}", request.call(max_steps=start.step + 1)
    elif request.num_train_epochs is not None and request.num_train_epochs <= start.epoch:
        reached = f"num_train_epochs {request.num_train_epochs:g}"
        beyond = request.call(num_train_epochs=int(start.epoch) + 1)
    else:
        return
    raise ArgumentError(
        "invalid_arguments",
        f"{reached} is not beyond {start.folder.name}, which is at step {start.step}, epoch {start.epoch:.4g}; both "
        "count from the very start.",
        next_step=f"{beyond} is the least.",
    )


def _extended(config: Config, request: ResumeRequest) -> Config:
    training = dict(config.training)
    if request.max_steps is not None:
        training["max_steps"] = request.max_steps
    if request.num_train_epochs is not None:
        training["num_train_epochs"] = request.num_train_epochs
        # transformers lets max_steps win where both stand.
        training.pop("max_steps", None)
    return config.model_copy(update={"training": training})


def _refuse_twin(app: App, request: ResumeRequest, digest: str, start: _Start) -> None:
    """Refuse what another run does already: same parent, same config, and it lives or has succeeded.

    And a checkpoint that was pruned meanwhile: from here on the new run protects it.
    """
    if not start.folder.is_dir():
        raise _no_checkpoint(request, f"Checkpoint {start.step} of run {request.run_id} was removed just now.")
    if request.again:
        return
    for run in runs.all_runs(app):
        record = runs.read_record(run.run_json)
        if record is None or record.get("parent") != request.run_id or record.get("config_digest") != digest:
            continue
        state = states.read_state(run)
        if not states.is_over(state) or state.status == "succeeded":
            raise RunError(
                "duplicate_run",
                f"Run {run.id} goes on with {request.run_id} already, with the same config.",
                next_step=f"get_run(run_id={run.id!r}) shows it; {request.call(again=True)} starts another.",
            )


def _warnings(request: ResumeRequest, config: Config, state: RunState, start: _Start) -> list[str]:
    found: list[str] = []
    schedule = config.training.get("lr_scheduler_type", "linear")
    if request.extends and schedule not in _LEVEL_SCHEDULES:
        found.append(
            f"the {schedule} learning rate schedule was planned for {start.planned_steps} steps; from step "
            f"{start.step} on it follows the new length, so the rate jumps there"
        )
    if isinstance(state, states.Failed) and state.reason == "diverged":
        found.append("the run diverged: with the same learning rate it will probably diverge again")
    if request.allow_changed_data:
        found.append("changed data are allowed; get_run says whether they changed. Batches are skipped by number")
    return found
