"""Plans on disk: `plans/<id>.json`, written once, read by write_config.

Crash contract: a plan is there whole or not at all (temporary name, then rename).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from ...executors.errors import PlanError, StateError
from ...executors.paths import Home
from ...trainer import records
from .results import TrainingPlan

_ID = re.compile(r"plan-[0-9]{8}-[a-z0-9]{4,16}\Z")
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def mint_plan_id(now: datetime | None = None, letters: Callable[[str], str] = secrets.choice) -> str:
    """A new id: the day, and six letters against collisions."""
    day = (now or datetime.now(UTC)).strftime("%Y%m%d")
    return f"plan-{day}-{''.join(letters(_LETTERS) for _ in range(6))}"


def save_plan(home: Home, plan: TrainingPlan) -> Path:
    """Keep the plan; where it lies.

    Raises:
        StateError: `state_unwritable`.
    """
    path = home.plans / f"{plan.id}.json"
    try:
        records.write_json(path, plan.model_dump(mode="json"))
    except OSError as error:
        raise StateError(
            "state_unwritable",
            f"The plan can't be kept in {home.plans}: {error.strerror}.",
            next_step="Free disk space, or set MODEL_TRAINER_STATE to a folder you can write (`model-trainer doctor` "
            "checks it); then plan_training again.",
        ) from error
    return path


def load_plan(home: Home, plan_id: str) -> TrainingPlan:
    """The plan that plan_training answered under this id.

    Raises:
        PlanError: `plan_not_found`: no such plan, or the id is none.
        StateError: `newer_schema`: a newer version of Model Trainer wrote it.
    """
    if not _ID.match(plan_id):
        raise _missing(plan_id, "is no plan id (they look like plan-20261123-k3x9qa)")
    try:
        record = records.read_json(home.plans / f"{plan_id}.json")
    except (ValueError, OSError):
        raise _missing(plan_id, "is there, but its file can't be read") from None
    if record is None:
        raise _missing(plan_id, "is not here")
    if record.get("version") != 1:
        raise StateError(
            "newer_schema",
            f"Plan {plan_id} was written by a newer version of Model Trainer.",
            next_step="Call plan_training again, or update Model Trainer.",
        )
    try:
        return TrainingPlan.model_validate(record)
    except ValidationError:
        raise _missing(plan_id, "is there, but is no plan of this version") from None


def _missing(plan_id: str, what: str) -> PlanError:
    return PlanError(
        "plan_not_found", f"Plan {plan_id[:80]!r} {what}.", next_step="plan_training(dataset=…) makes a new plan."
    )
