"""How a run stands: a tagged union, each variant with only its valid fields, derived from the run's records.

Nothing is guessed. `exit.json` is the terminal record and counts first; without it a held lock means alive, and a free
lock means that the supervisor died without a word: `lost`, or, where the machine restarted and the run's policy is to
go on, `queued` until it has its next supervisor. No lock file at all means that the run belongs to another state folder
or machine, which can't be seen from here: `unreachable`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..trainer import records
from . import history
from .paths import RunPaths

EndedBy = Literal["planned_end", "early_stopping", "request", "guard", "deadline"]
Reason = Literal[
    "oom_gpu",
    "oom_host",
    "diverged",
    "hung",
    "preempted",
    "timeout",
    "disk_full",
    "bad_config",
    "bad_data",
    "bad_environment",
    "user_code",
    "reward_failed",
    "guard",
    "dependency",
    "launch_failed",
    "communication",
    "auth",
    "scheduling",
    "budget",
    "incomplete",
    "host_lost",
    "reboot",
    "supervisor_killed",
    "unknown",
]


class _State(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class Queued(_State):
    status: Literal["queued"] = "queued"
    position: Annotated[int, Field(description="1 is the next of its queue; 0 waits for another run first")]
    why: str


class Starting(_State):
    status: Literal["starting"] = "starting"


class Running(_State):
    status: Literal["running"] = "running"


class Stopping(_State):
    status: Literal["stopping"] = "stopping"
    why: str


class Unreachable(_State):
    status: Literal["unreachable"] = "unreachable"
    since: str


class Succeeded(_State):
    status: Literal["succeeded"] = "succeeded"
    ended_by: EndedBy


class Failed(_State):
    status: Literal["failed"] = "failed"
    reason: Reason
    detail: str = ""


class Cancelled(_State):
    status: Literal["cancelled"] = "cancelled"


class Lost(_State):
    status: Literal["lost"] = "lost"
    reason: Reason


RunState = Annotated[
    Queued | Starting | Running | Stopping | Unreachable | Succeeded | Failed | Cancelled | Lost,
    Field(discriminator="status"),
]

#: Events that say how a run stands.
_TELLING = frozenset(
    {"starting", "queued", "leased", "running", "stopping", "killing", "hung", "recovering", "interrupted", "ended"}
)

_RESTARTS = "it goes on when a Model Trainer server starts, or by `model-trainer runs restart`"

#: Outcomes; each is sticky.
TERMINAL = ("succeeded", "failed", "cancelled", "lost")


def is_over(state: RunState) -> bool:
    """Whether the run has ended, for ever."""
    return state.status in TERMINAL


def read_state(run: RunPaths) -> RunState:
    """How the run stands now; cheap, and the same from every process."""
    # The lock is probed before exit.json is read: the other way round a run that ends in between would seem lost.
    alive = records.is_locked(run.lock)
    if (ended := _terminal(run)) is not None:
        return ended
    events, _ = records.read_lines(run.events)
    if not alive:
        if not run.lock.exists():
            return Unreachable(since=str(events[-1]["at"]) if events else "unknown")
        if (why := history.waits_for_restart(run.root, events)) is not None:
            return Queued(position=0, why=f"{why}; {_RESTARTS}")
        return Lost(reason=cast("Reason", history.lost_reason(events)))
    # Notices among the events (a hole in the log, a process that won't die) say nothing of the state.
    nothing: dict[str, Any] = {}
    latest = next((row for row in reversed(events) if row.get("event") in _TELLING), nothing)
    match latest:
        case {"event": "queued", "position": int() as position, "why": why}:
            return Queued(position=position, why=str(why))
        case {"event": "stopping" | "killing" | "hung"}:
            return Stopping(why=str(latest.get("why", "grace is over")))
        case {"event": "running" | "ended"}:
            return Running()
        case _:
            return Starting()


def _terminal(run: RunPaths) -> RunState | None:
    """What the terminal record says; of a damaged one only that the run is over, and how is lost."""
    try:
        record = records.read_json(run.exit_json)
        return None if record is None else _outcome(record["outcome"])
    except (ValueError, KeyError, TypeError, ValidationError):
        return Lost(reason="unknown")


def _outcome(outcome: dict[str, Any]) -> RunState:
    if "succeeded" in outcome:
        return Succeeded(ended_by=outcome["succeeded"])
    if "cancelled" in outcome:
        return Cancelled()
    if "lost" in outcome:
        return Lost(reason=outcome["lost"])
    return Failed(reason=outcome["failed"], detail=outcome.get("detail", ""))
