"""After a restart of the machine: what was running or queued gets its next supervisor, or is said to be lost.

Every server does this when it starts, in the background; so does `model-trainer runs restart`. Of several that do it at
once each run is started by one. By the run's own policy (`recovery.interrupted` of its config).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

from ...executors import history, host, local, states
from ...executors.errors import ModelTrainerError
from ...executors.paths import RunPaths
from ...trainer import records
from ..app import App
from ..environment.children import child_environment
from . import life as runs

#: Seconds until a restarted run has taken its place in the queue: the next one must come after it.
_PLACE_SECONDS = 5.0

#: Runs that a record of restarts names.
_NAMED = 100


def restart_interrupted(app: App) -> list[str]:
    """Start the next supervisor of each run that waits for one; what was done, a line a run. Blocking.

    The oldest first, those that were running before those that were queued, so that the queue keeps its order.
    """
    done: list[str] = []
    for found in sorted(_waiting(app), key=lambda found: (found.was != "running", found.began, found.run.id)):
        run, was, why = found.run, found.was, found.why
        try:
            if not local.restart(app.home, run, child_environment(app)):
                continue
        except BlockingIOError:
            # Another server is at it, or sweeps: whoever starts next looks again.
            continue
        except ModelTrainerError as error:
            done.append(f"{run.id} was {was} ({why}) and could not be started again: {error.message}")
            continue
        _until_placed(run)
        does = "goes on from its newest checkpoint" if was == "running" else "is back in the queue"
        done.append(f"{run.id} was {was} ({why}); it {does}")
    if done:
        _record(app, done)
    return done


def restarted_since_boot(app: App) -> list[str]:
    """What servers did since the machine started, a line a run; empty where nothing was to be done."""
    record = runs.read_record(_path(app)) or {}
    said: list[object] = record.get("runs", [])
    return [str(line) for line in said] if record.get("boot") == host.boot_id() else []


@dataclass(frozen=True)
class _Waiting:
    """A run that waits for its next supervisor."""

    run: RunPaths
    was: str
    """What it was: `running` or `queued`."""
    why: str
    began: float
    """When its last supervisor began, on the clock of that boot."""


def _waiting(app: App) -> list[_Waiting]:
    found: list[_Waiting] = []
    for run in runs.all_runs(app):
        if run.exit_json.exists() or not run.lock.exists() or records.is_locked(run.lock):
            continue
        events, _ = records.read_lines(run.events)
        why = history.waits_for_restart(run.root, events)
        if why is not None:
            was = "running" if history.read(run.root, events).began else "queued"
            began = next((row.get("clock", 0.0) for row in reversed(events) if row.get("event") == "starting"), 0.0)
            found.append(_Waiting(run, was, why, float(began)))
    return found


def _until_placed(run: RunPaths) -> None:
    give_up = host.monotonic() + _PLACE_SECONDS
    while host.monotonic() < give_up:
        state = states.read_state(run)
        if state.status != "starting" and not (state.status == "queued" and not records.is_locked(run.lock)):
            return
        sleep(0.02)


def _record(app: App, done: list[str]) -> None:
    lines = [*restarted_since_boot(app), *done][-_NAMED:]
    record: dict[str, Any] = {"boot": host.boot_id(), "at": host.now(), "runs": lines}
    records.write_json(_path(app), record)


def _path(app: App) -> Path:
    return app.home.root / "restarts.json"
