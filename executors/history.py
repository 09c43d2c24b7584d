"""What a run's records say of its past: its former supervisors, and whether it waits for another one.

Standard library only (supervisor snapshot).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..trainer import records
from ..trainer.contract import SCHEMA_VERSION
from . import host

#: The reason of a run that a restart of the machine ended.
REBOOT = "reboot"


@dataclass(frozen=True)
class Former:
    """A run's past under supervisors that are gone."""

    attempt: int
    """The newest attempt, 0 where there was no supervisor."""
    began: bool
    """Whether that attempt's trainer was started, and its end was not seen."""
    step: int | None
    """The last step that it told."""
    seconds: float
    """How long its trainers certainly ran."""


def read(run: Path, events: Sequence[dict[str, Any]]) -> Former:
    """The past that `events` tell, the oldest first."""
    attempt, began = 0, False
    # Each trainer from its start to the last event before the next one's, and the clock that the last of them began at.
    seconds: list[float] = []
    at_start: tuple[float, float] | None = None
    for row in events:
        kind, at = row.get("event"), float(row.get("t", 0.0))
        if kind in ("starting", "recovering"):
            attempt = max(attempt, int(row.get("attempt", 0)))
            at_start = None
        if kind == "recovering":
            began = False
        if kind == "running":
            at_start, began = (at, float(row.get("clock", 0.0))), True
            seconds.append(0.0)
        if at_start is not None:
            seconds[-1] = at - at_start[0]
    said = _progress(run, attempt) if began else {}
    if at_start is not None and isinstance(clock := said.get("clock"), int | float):
        # Between two events a trainer may run for hours: its own last word is nearer to its end.
        seconds[-1] = max(seconds[-1], clock - at_start[1])
    step = said.get("done")
    return Former(attempt, began, step if isinstance(step, int) else None, sum(seconds))


def lost_reason(events: Sequence[dict[str, Any]]) -> str:
    """Why a run without a terminal record and without a supervisor ended: the machine restarted, or only that died."""
    boots = [row["supervisor"]["boot"] for row in events if "supervisor" in row]
    return REBOOT if boots and boots[-1] != host.boot_id() else "supervisor_killed"


def waits_for_restart(run: Path, events: Sequence[dict[str, Any]]) -> str | None:
    """Why a run without a supervisor is not lost but waits for its next one; None for one that is lost.

    By the policy in run.json, and never against a stop that was asked for, nor for a run of a newer version.
    """
    since = max((at for at, row in enumerate(events) if row.get("event") == "starting"), default=0)
    if any(row.get("event") == "stopping" and row.get("why") == "request" for row in events[since:]):
        return None
    if events and events[-1].get("event") == "interrupted":
        why = str(events[-1].get("why"))
    elif lost_reason(events) == REBOOT:
        why = "the machine restarted"
    else:
        return None
    try:
        asked = records.read_json(run / "run.json") or {}
    except ValueError:
        return None
    policy: object = None if is_newer(asked) else asked.get("recovery")
    return why if isinstance(policy, dict) and policy.get("interrupted") == "resume" else None  # pyright: ignore[reportUnknownMemberType]


def is_newer(asked: records.Record) -> bool:
    """Whether a newer version wrote this run.json: what its folder means is not known here."""
    schema = asked.get("schema")
    return isinstance(schema, int) and schema > SCHEMA_VERSION


def _progress(run: Path, attempt: int) -> dict[str, Any]:
    try:
        return records.read_json(run / "attempts" / str(attempt) / "progress.json") or {}
    except (ValueError, OSError):
        return {}
