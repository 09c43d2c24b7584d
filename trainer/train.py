"""The body of a training run: read the attempt's config, train, measure, save, and say how it ended.

`python -m trainer_snapshot.trainer train ATTEMPT_FOLDER`. Crash contract: `result.json` is written once, at the end,
atomically; a trainer that dies before has said nothing, and the supervisor judges by the operating system's word.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import contract, records
from .data_record import DataRecord
from .failures import Failure, explain
from .heartbeat import Heartbeat

if TYPE_CHECKING:
    from .continuing import Beginning, Checkpoint


def main(arguments: list[str]) -> int:
    """Train; 0 if the outcome is written and it isn't a failure."""
    attempt = Path(arguments[0])
    started = time.monotonic()
    stacks = _open_stacks(attempt)
    beat = Heartbeat(attempt / "progress.json")
    # From the first moment on: a stop while the libraries load is honoured before the first step.
    stopping = _StopFlag()
    signal.signal(signal.SIGTERM, stopping.set)
    result: dict[str, Any]
    try:
        result = _train(attempt, beat, stopping)
    except Exception as error:
        # Where it was counts: two failures at one step are not tried a third time.
        with suppress(OSError):
            beat.write()
        failure = explain(error)
        sys.excepthook(type(error), error, error.__traceback__)
        result = {"outcome": "failed", "reason": failure.reason, "detail": failure.detail, "steps": beat.done}
    result["seconds"] = round(time.monotonic() - started, 2)
    records.write_json(attempt / "result.json", result)
    if not stacks.stat().st_size:
        stacks.unlink()
    return 1 if result["outcome"] == "failed" else 0


def _open_stacks(attempt: Path) -> Path:
    """Have SIGUSR1 write where every thread stands into a file, whatever it hangs in; the file's path."""
    path = attempt / f"stacks-{os.getpid()}.txt"
    # It stays open: the handler writes to the descriptor.
    faulthandler.register(signal.SIGUSR1, file=open(path, "w", encoding="utf-8"), all_threads=True)  # noqa: SIM115
    return path


class _StopFlag:
    """Set by SIGTERM, looked at when a step ends."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, _number: int, _frame: object) -> None:
        self.is_set = True

    def __bool__(self) -> bool:
        return self.is_set


def _train(attempt: Path, beat: Heartbeat, stopping: _StopFlag) -> dict[str, Any]:
    beat.say("reading the config and importing the training libraries")
    config = _read_config(attempt / "config.yaml")
    method = contract.METHODS[config["method"]]
    if method.module is None:
        raise Failure("bad_config", f"method {method.name} is not in this version")
    from . import callbacks, checkpoints, continuing, outputs

    run = attempt.parent.parent
    module = import_module(f".{method.module}", __package__)
    request = (records.read_json(run / "run.json") or {}).get("request", {})
    attempted = records.read_json(attempt / "attempt.json") or {}
    beginning = continuing.begin(run / "checkpoints", request, goes_on=bool(attempted.get("resume")))
    start = beginning.start
    if start is not None:
        beat.goes_on(start.step)
    trained_on = start.continuation["data"] if start is not None else None
    data = DataRecord(attempt / "data.json", trained_on, allow_changes=bool(request.get("allow_changed_data")))
    beat.say("loading model and data")
    job = module.build(config, checkpoints=run / "checkpoints", resumes=start is not None, on_data=data.note)
    # Now, not after hours of training: the cache's branches move on.
    base_commit = outputs.base_commit(config["model"])
    trainer = job.trainer
    watcher = callbacks.Watcher(
        attempt,
        beat,
        stopping,
        nonfinite_steps=config["guards"]["nonfinite_steps"],
        first_eval_loss=start.first_eval_loss if start is not None else None,
        told_until=start.told_until if start is not None else 0,
    )
    complete = partial(continuing.save, trainer=trainer, data=data.read)
    keeper = checkpoints.CheckpointKeeper(run / "checkpoints", limit=job.checkpoint_limit, complete=complete)
    # In this order: the watcher measures how long a save takes, the keeper's part included.
    trainer.add_callback(keeper)
    trainer.add_callback(watcher)
    if stopping:
        return {"outcome": "stopped", "steps": start.step if start is not None else 0, **data.summary()}
    beat.say(_what_comes(trainer, beginning))
    train_loss = _go(trainer, start, extends=beginning.extends)
    reached = trainer.state.global_step >= trainer.state.max_steps
    result: dict[str, Any] = {
        "steps": trainer.state.global_step,
        "planned_steps": trainer.state.max_steps,
        "epochs": round(trainer.state.epoch or 0.0, 4),
        **data.summary(),
        "rows": job.rows,
        "metrics": {} if train_loss is None else {"train_loss": callbacks.finite(train_loss)},
        "parameters": outputs.parameters(trainer.model),
        "base_commit": base_commit,
        "hardware": outputs.hardware(),
        "memory": outputs.peak_memory(),
        "versions": outputs.versions(),
    }
    if beginning.quarantined:
        result["quarantined"] = beginning.quarantined
    if start is not None:
        result["resumed"] = {"from": str(start.folder), "step": start.step}
    if watcher.diverged is not None:
        told = {"detail": watcher.diverged, "diverged_at": watcher.diverged_at}
        return {**result, "outcome": "failed", "reason": "diverged", **told}
    if not reached:
        return {**result, "outcome": "stopped"}
    if trainer.state.global_step == 0:
        raise Failure("bad_data", "no step was trained: the data give no batch")
    if trainer.eval_dataset is not None:
        beat.say("measuring the trained model", "evaluate")
        after = trainer.evaluate()
        result["metrics"] |= {name: callbacks.finite(value) for name, value in after.items() if _tells(name)}
        result["metrics"]["eval_loss_before"] = watcher.first_eval_loss
    beat.say("saving and checking the output", "finish")
    result["output"] = outputs.save(trainer, run / "output")
    return {**result, "outcome": "succeeded", "ended_by": "planned_end"}


def _go(trainer: Any, start: Checkpoint | None, *, extends: bool) -> float | None:
    """Train to the end, from a checkpoint where one is given; the mean loss of the steps done, None without any."""
    if start is None:
        return trainer.train().training_loss
    from . import continuing

    if start.step >= start.planned_steps and not extends:
        # transformers would train one step too many.
        continuing.adopt(trainer, start)
        return None
    trainer.add_callback(continuing.Continuer(trainer, start))
    return trainer.train(resume_from_checkpoint=str(start.folder)).training_loss


def _what_comes(trainer: Any, beginning: Beginning) -> str:
    if beginning.start is not None:
        return f"going on from step {beginning.start.step}"
    if beginning.anew:
        return "training from the start: the attempts before left no checkpoint that verifies"
    return "training" if trainer.eval_dataset is None else "measuring the untrained model, then training"


def _tells(name: str) -> bool:
    """Whether a measurement says something about the model, not about the machine."""
    return name.startswith("eval_") and not name.endswith(("runtime", "per_second", "num_tokens"))


def _read_config(path: Path) -> dict[str, Any]:
    from .yaml12 import load

    return load(path.read_text(encoding="utf-8"))
