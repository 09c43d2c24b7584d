"""The body of a training run: read the attempt's config, train, measure, save, and say how it ended.

`python -m trainer_snapshot.trainer train ATTEMPT_FOLDER`. Crash contract: `result.json` is written once, at the end,
atomically; a trainer that dies before has said nothing, and the supervisor judges by the operating system's word.
"""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import contract, records
from .data_record import DataRecord
from .failures import Failure, explain

if TYPE_CHECKING:
    from .continuing import Checkpoint


def main(arguments: list[str]) -> int:
    """Train; 0 if the outcome is written and it isn't a failure."""
    attempt = Path(arguments[0])
    started = time.monotonic()
    # From the first moment on: a stop while the libraries load is honoured before the first step.
    stopping = _StopFlag()
    signal.signal(signal.SIGTERM, stopping.set)
    result: dict[str, Any]
    try:
        result = _train(attempt, stopping)
    except Exception as error:
        failure = explain(error)
        sys.excepthook(type(error), error, error.__traceback__)
        result = {"outcome": "failed", "reason": failure.reason, "detail": failure.detail}
    result["seconds"] = round(time.monotonic() - started, 2)
    records.write_json(attempt / "result.json", result)
    return 1 if result["outcome"] == "failed" else 0


class _StopFlag:
    """Set by SIGTERM, looked at when a step ends."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, _number: int, _frame: object) -> None:
        self.is_set = True

    def __bool__(self) -> bool:
        return self.is_set


def _train(attempt: Path, stopping: _StopFlag) -> dict[str, Any]:
    _say(attempt, "reading the config and importing the training libraries")
    config = _read_config(attempt / "config.yaml")
    method = contract.METHODS[config["method"]]
    if method.module is None:
        raise Failure("bad_config", f"method {method.name} is not in this version")
    from . import callbacks, checkpoints, continuing, outputs

    run = attempt.parent.parent
    module = import_module(f".{method.module}", __package__)
    request = (records.read_json(run / "run.json") or {}).get("request", {})
    start = continuing.load(request)
    trained_on = start.continuation["data"] if start is not None else None
    data = DataRecord(attempt / "data.json", trained_on, allow_changes=bool(request.get("allow_changed_data")))
    _say(attempt, "loading model and data")
    job = module.build(config, checkpoints=run / "checkpoints", resumes=start is not None, on_data=data.note)
    # Now, not after hours of training: the cache's branches move on.
    base_commit = outputs.base_commit(config["model"])
    trainer = job.trainer
    watcher = callbacks.Watcher(
        attempt,
        stopping,
        nonfinite_steps=config["guards"]["nonfinite_steps"],
        first_eval_loss=start.first_eval_loss if start is not None else None,
    )
    trainer.add_callback(watcher)
    complete = partial(continuing.save, trainer=trainer, data=data.read)
    trainer.add_callback(
        checkpoints.CheckpointKeeper(run / "checkpoints", limit=job.checkpoint_limit, complete=complete)
    )
    if stopping:
        return {"outcome": "stopped", "steps": start.step if start is not None else 0, **data.summary()}
    _say(attempt, _what_comes(trainer, start))
    train_loss = _go(trainer, start, extends=bool(request.get("extends")))
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
    if start is not None:
        result["resumed"] = {"from": str(start.folder), "step": start.step}
    if watcher.diverged is not None:
        return {**result, "outcome": "failed", "reason": "diverged", "detail": watcher.diverged}
    if not reached:
        return {**result, "outcome": "stopped"}
    if trainer.state.global_step == 0:
        raise Failure("bad_data", "no step was trained: the data give no batch")
    if trainer.eval_dataset is not None:
        _say(attempt, "measuring the trained model")
        after = trainer.evaluate()
        result["metrics"] |= {name: callbacks.finite(value) for name, value in after.items() if _tells(name)}
        result["metrics"]["eval_loss_before"] = watcher.first_eval_loss
    _say(attempt, "saving and checking the output")
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


def _what_comes(trainer: Any, start: Checkpoint | None) -> str:
    if start is not None:
        return f"going on from step {start.step}"
    return "training" if trainer.eval_dataset is None else "measuring the untrained model, then training"


def _tells(name: str) -> bool:
    """Whether a measurement says something about the model, not about the machine."""
    return name.startswith("eval_") and not name.endswith(("runtime", "per_second", "num_tokens"))


def _read_config(path: Path) -> dict[str, Any]:
    from .yaml12 import load

    return load(path.read_text(encoding="utf-8"))


def _say(attempt: Path, message: str) -> None:
    """Tell who waits what is being done before the first step."""
    records.write_json(attempt / "progress.json", {"done": 0, "total": None, "message": message})
