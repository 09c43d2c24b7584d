"""What is done by itself after an attempt failed, and what is left to the user.

Nothing here changes the method, the data, the length or the effective batch. Interrupted (preempted, machine
restarted): go on. Out of GPU memory: a smaller batch with more accumulation, at most three times, then gradient
checkpointing. Communication: again, a few times. Two failures at one step, and everything else: stop and say so.
Standard library only (supervisor snapshot); the policy stands in run.json, the history in events.jsonl.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Times that the batch is made smaller.
RUNGS = 3

#: Recoveries of one run, whatever they are for; more means that something else is wrong.
MOST = 20

#: Interruptions in a row without a step in between after which nobody goes on by itself.
_NO_PROGRESS = 3

#: Seconds before the first and the second try after a failed communication.
_PAUSES = (5.0, 30.0)

#: Seconds after a SIGTERM to the supervisor: a machine that shuts down is gone by then.
_SHUTDOWN_SECONDS = 15.0

BATCH, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
EVAL_BATCH, CHECKPOINTING = "per_device_eval_batch_size", "gradient_checkpointing"

#: What transformers and TRL take where the config is silent.
DEFAULTS: dict[str, int | bool] = {BATCH: 8, ACCUMULATION: 1, EVAL_BATCH: 8, CHECKPOINTING: True}


@dataclass(frozen=True)
class Recovery:
    """A new attempt, and how it differs."""

    does: str
    pause: float = 0.0
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict[str, tuple[Any, Any]])
    """Keys of `training`: what they were and what they become."""


@dataclass(frozen=True)
class GiveUp:
    """No new attempt; `why` is empty where nothing was to be tried."""

    why: str = ""


@dataclass(frozen=True)
class Failure:
    """How an attempt ended, and where it was."""

    reason: str
    step: int | None
    phase: str | None = None
    """What it was doing, by its heartbeat: load, train, evaluate, save, finish."""
    machine_ends: bool = False
    """The supervisor itself was sent SIGTERM, as all processes are when a machine shuts down."""


def decide(
    policy: Mapping[str, Any] | None, failure: Failure, history: Sequence[Mapping[str, Any]]
) -> Recovery | GiveUp:
    """What comes after a failed attempt; `history` are the run's `recovering` events, the oldest first.

    `policy` is run.json's `recovery`; None (not a training, or an older version's run) recovers nothing.
    """
    if policy is None:
        return GiveUp()
    if len(history) >= MOST:
        return GiveUp(f"it was recovered {MOST} times already")
    match failure.reason:
        case "preempted" | "reboot" | "host_lost":
            return _interrupted(policy, failure, history)
        case "oom_gpu":
            return _smaller(policy, failure, history)
        case "communication":
            return _again(policy, failure, history)
        case _:
            return GiveUp()


def _interrupted(
    policy: Mapping[str, Any], failure: Failure, history: Sequence[Mapping[str, Any]]
) -> Recovery | GiveUp:
    if policy.get("interrupted") != "resume":
        return GiveUp("recovery.interrupted is stop")
    latest = history[-_NO_PROGRESS:]
    stuck = all(row.get("reason") == failure.reason and row.get("step") == failure.step for row in latest)
    if len(latest) == _NO_PROGRESS and stuck:
        return GiveUp(f"it was interrupted {_NO_PROGRESS + 1} times at step {failure.step}")
    return Recovery(_GOES_ON, pause=_SHUTDOWN_SECONDS if failure.machine_ends else 0.0)


def _again(policy: Mapping[str, Any], failure: Failure, history: Sequence[Mapping[str, Any]]) -> Recovery | GiveUp:
    before = [row for row in history if row.get("reason") == "communication"]
    tries = int(policy.get("communication_retries", 0))
    if len(before) >= tries:
        return GiveUp(f"{tries} retries are over" if tries else "recovery.communication_retries is 0")
    if failure.step and any(row.get("step") == failure.step for row in before):
        return GiveUp(f"it failed twice at step {failure.step}")
    pause = _PAUSES[min(len(before), len(_PAUSES) - 1)]
    return Recovery(f"tries again after {pause:.0f} s ({len(before) + 1} of {tries}); {_GOES_ON}", pause=pause)


def _smaller(policy: Mapping[str, Any], failure: Failure, history: Sequence[Mapping[str, Any]]) -> Recovery | GiveUp:
    if policy.get("oom_gpu") != "shrink_batch":
        return GiveUp("recovery.oom_gpu is stop")
    numbers = {**DEFAULTS, **policy.get("training", {})}
    rungs = 0
    for row in history:
        changes: Mapping[str, Sequence[Any]] = row.get("changes") or {}
        numbers |= {name: change[1] for name, change in changes.items()}
        rungs += row.get("reason") == "oom_gpu" and CHECKPOINTING not in changes
    in_evaluation = failure.phase == "evaluate"
    name = EVAL_BATCH if in_evaluation else BATCH
    batch = int(numbers[name])
    if rungs < RUNGS and batch > 1:
        smaller = _half(batch)
        changes = {name: (batch, smaller)}
        same = ""
        if not in_evaluation:
            accumulation = int(numbers[ACCUMULATION])
            changes[ACCUMULATION] = (accumulation, accumulation * batch // smaller)
            same = f" (the effective batch stays {batch * accumulation} per device)"
        return Recovery(f"{_tell(changes)}{same}; {_GOES_ON}", changes=dict(changes))
    if not in_evaluation and not numbers[CHECKPOINTING]:
        changes = {CHECKPOINTING: (False, True)}
        return Recovery(f"{_tell(changes)}; {_GOES_ON}", changes=dict(changes))
    tried = f"after {rungs} smaller batches" if rungs else f"{name} is {batch} already"
    return GiveUp(f"{tried}; what is left changes the training: a shorter max_length, quantization or a smaller model")


def _half(batch: int) -> int:
    """The greatest divisor of `batch` up to its half: the effective batch must come out whole."""
    return next(size for size in range(batch // 2, 0, -1) if batch % size == 0)


def _tell(changes: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name} {json.dumps(old)} → {json.dumps(new)}" for name, (old, new) in changes.items())


_GOES_ON = "goes on from the newest checkpoint that verifies"

_TRAINING = re.compile(r"^training:(.*)$", re.MULTILINE)


def with_training(text: str, values: Mapping[str, int | bool]) -> str:
    """A config's text, as run folders hold it, with other values in its `training` section.

    Run folders' configs are written by `services/configs/emit.py`: block style, two spaces, one key a line.

    Raises:
        ValueError: the text has no `training` section of that form.
    """
    found = _TRAINING.search(text)
    if found is None or found[1].strip() not in ("", "{}"):
        raise ValueError("the config has no plain training section")
    head, rest = text[: found.start()] + "training:\n", text[found.end() + 1 :]
    lines = rest.split("\n")
    end = next((number for number, line in enumerate(lines) if line[:1] not in (" ", "-", "#")), len(lines))
    body = [line for line in lines[:end] if not any(line.startswith(f"  {name}:") for name in values)]
    written = [f"  {name}: {json.dumps(value)}" for name, value in values.items()]
    return head + "\n".join([*written, *body, *lines[end:]])
