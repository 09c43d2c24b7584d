"""Runs: start, look at, wait for, list."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any, Literal

import anyio
import anyio.to_thread

from ...executors import host, local, states, sweeping
from ...executors.errors import ModelTrainerError, RunError
from ...executors.host import monotonic
from ...executors.locking import waiting_for
from ...executors.paths import RUN_ID, RunPaths, refuse_newer
from ...executors.queueing import Pool
from ...executors.states import RunState
from ...trainer import records
from ...trainer.contract import SCHEMA_VERSION, SNAPSHOT_PACKAGE
from ..app import App, Progress, no_progress
from ..environment.children import child_environment
from .kept import Kept

Kind = Literal["train", "inspect", "rehearse", "evaluate", "export", "push"]

#: Seconds between two looks at a run that somebody waits for.
_LOOK_SECONDS = 0.2

#: How long a launch waits for others' launches.
_LOCK_SECONDS = 30.0

#: How long the same job again counts as an accident.
SAME_CONFIG_SECONDS = 600.0


@dataclass(frozen=True)
class Launch:
    """What a run is started from."""

    kind: Kind
    python: Path
    label: str
    """Goes into the run id: the method, or the kind."""
    request: dict[str, Any]
    config_text: str | None = None
    config_digest: str | None = None
    key: str | None = None
    """Idempotency key: the same key again is the same run."""
    parent: str | None = None
    """The run that this one resumes."""
    max_hours: float | None = None
    versions: dict[str, str] | None = None
    pool: Pool | None = None
    """The GPUs or CPU slots it waits for; None starts at once."""
    after: str | None = None
    """The run whose success it waits for."""
    recovery: dict[str, Any] | None = None
    """The policy by which the supervisor recovers (`executors/recovering.py`); None recovers nothing."""
    stall_minutes: float | None = None
    """Minutes without a step that count as hung; None: by the usual step."""
    grace_seconds: float | None = None
    """How long a stopped trainer may save before it is killed; None: the supervisor's default."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables beside those that every run inherits, such as a token: never written down."""


@dataclass(frozen=True)
class Started:
    """A run, and whether it had been started before."""

    run: RunPaths
    already: bool


async def start(app: App, launch: Launch) -> RunPaths:
    """Start a run; it lives on when this process dies.

    Raises:
        RunError: the supervisor didn't come up.
    """
    return (await start_once(app, launch, lambda: None)).run


async def start_once(app: App, launch: Launch, former: Callable[[], RunPaths | None]) -> Started:
    """Start a run, unless `former` finds one to answer with (or raises): nobody else starts one in between.

    `former` is called in a worker thread, under the lock that all launches of this state folder take.

    Raises:
        RunError: the supervisor didn't come up, or another launch hangs (`launch_failed`); what `former` raises.
    """
    run_id = mint_id(launch.label)
    asked = {
        "schema": SCHEMA_VERSION,
        "id": run_id,
        "kind": launch.kind,
        "created": host.now(),
        "clock": {"boot": host.boot_id(), "at": host.monotonic()},
        "where": "local",
        "argv": [str(launch.python), "-m", f"{SNAPSHOT_PACKAGE}.trainer", launch.kind],
        "request": launch.request,
        "config_digest": launch.config_digest,
        "key": launch.key,
        "max_hours": launch.max_hours,
        "parent": launch.parent,
        "after": launch.after,
        "pool": None if launch.pool is None else launch.pool.record(),
        "recovery": launch.recovery,
        "stall_minutes": launch.stall_minutes,
        "grace_seconds": launch.grace_seconds,
        "versions": launch.versions or {},
    }
    environment = child_environment(app) | dict(launch.environment)

    def work() -> Started:
        with launch_lock(app, _hindered):
            sweeping.tidy(app.home.runs, app.home.locks)
            if (found := former()) is not None:
                return Started(found, already=True)
            created = local.create(app.home, run_id, asked=asked, config=launch.config_text)
        return Started(local.start_supervisor(created, environment), already=False)

    return await anyio.to_thread.run_sync(work)


def launch_lock(app: App, hindered: Callable[[float], ModelTrainerError]) -> AbstractContextManager[int]:
    """Held from the look at what runs to the new run's folder: some milliseconds. Nobody launches meanwhile.

    Raises:
        ModelTrainerError: what `hindered` makes of the seconds for which it wasn't free; the holder was halted, because
            one that dies lets go.
    """
    give_up = monotonic() + _LOCK_SECONDS

    def pause(seconds: float) -> None:
        if monotonic() > give_up:
            raise hindered(_LOCK_SECONDS)
        sleep(seconds)

    return waiting_for(app.home.locks / "launch.lock", pause)


def _hindered(seconds: float) -> RunError:
    return RunError(
        "launch_failed",
        f"Another server has been launching a run for {seconds:.0f} s and does not go on.",
        next_step="End a halted model-trainer process, then launch again.",
    )


def mint_id(label: str) -> str:
    """A new run id that sorts by time: `20261123-041502-sft-k3f9x`."""
    alphabet = string.ascii_lowercase + string.digits
    tail = "".join(secrets.choice(alphabet) for _ in range(5))
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{label}-{tail}"


def request_key(request: dict[str, Any]) -> str:
    """A key for a request: the same request has the same."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]


def asked(run: RunPaths) -> dict[str, Any]:
    """What was asked of a run.

    Raises:
        RunError: its record is unreadable.
        StateError: a newer version made the run (`newer_schema`).
    """
    record = read_record(run.run_json)
    refuse_newer(run.id, record or {})
    if record is None or not isinstance(record.get("kind"), str) or not isinstance(record.get("request", {}), dict):
        raise RunError(
            "run_not_found",
            f"Run {run.id} has no readable record: {run.run_json} is damaged.",
            next_step="list_runs() shows the runs that can be read.",
        )
    return record


def began(record: dict[str, Any]) -> float | None:
    """How many seconds ago the run of this record was made; None where it doesn't say.

    By the clock that never jumps. What was made before the machine restarted, on another one, or by a version that
    didn't note that clock has only the wall clock: negative, then, if that was put back meanwhile.
    """
    match record.get("clock"):
        case {"boot": str(boot), "at": int() | float() as at} if boot == host.boot_id() and at <= host.monotonic():
            return host.monotonic() - at
        case _:
            pass
    try:
        return (datetime.fromisoformat(host.now()) - datetime.fromisoformat(record["created"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def settled_state(app: App, run: RunPaths) -> RunState:
    """How the run stands, as it is told; of a lost one, what is left is ended first and the loss recorded.

    Told without a record it could be told otherwise later: after a restart of the machine it would be lost by that.

    Blocking, for a moment: the search for processes reads /proc once.
    """
    state = states.read_state(run)
    if state.status == "lost" and not run.exit_json.exists():
        sweeping.sweep(run.root, app.home.locks)
        state = states.read_state(run)
    return state


async def wait(app: App, run: RunPaths, *, seconds: float, progress: Progress = no_progress) -> RunState:
    """The run's state once it is over, or after `seconds`; tells `progress` what the run says meanwhile."""
    state = settled_state(app, run)
    told = ""
    with anyio.move_on_after(seconds):
        while not states.is_over(state):
            now = read_progress(run)
            if now is not None and now["message"] != told:
                told = now["message"]
                await progress(float(now["done"]), None if now["total"] is None else float(now["total"]), told)
            elif isinstance(state, states.Queued) and state.why != told:
                told = state.why
                await progress(0.0, None, f"queued, position {state.position}: {told}")
            await anyio.sleep(_LOOK_SECONDS)
            state = settled_state(app, run)
    return state


def read_progress(run: RunPaths) -> dict[str, Any] | None:
    """What the run last said of its progress: done, total (may be None), message."""
    return read_record(run.latest_attempt().progress)


def read_result(run: RunPaths) -> dict[str, Any] | None:
    """What the run's body left as its result; None before its end."""
    return read_record(run.latest_attempt().result)


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON record of a run; None where there is none, or none that reads."""
    try:
        return records.read_json(path)
    except ValueError:
        return None


def all_runs(app: App) -> Iterator[RunPaths]:
    """Every run here, the newest first."""
    for run_id in run_ids(app):
        run = app.home.new_run(run_id)
        if run.run_json.is_file():
            yield run


def run_ids(app: App) -> list[str]:
    """Names of what may be runs, the newest first: for who looks at thousands, without a look at each."""
    try:
        with os.scandir(app.home.runs) as entries:
            return sorted((entry.name for entry in entries if RUN_ID.fullmatch(entry.name)), reverse=True)
    except FileNotFoundError:
        return []


def find_by_key(app: App, key: str, kind: Kind) -> RunPaths | None:
    """The newest run of `kind` with this idempotency key."""
    folder = str(app.home.runs)
    for run_id in run_ids(app):
        path = f"{folder}/{run_id}/run.json"
        if _KEYS.get(path, lambda path=path: _read_key(Path(path))) == (key, kind):
            return app.home.new_run(run_id)
    return None


#: Key and kind by run.json.
_KEYS: Kept[tuple[Any, Any]] = Kept()


def _read_key(path: Path) -> tuple[Any, Any]:
    record = read_record(path) or {} if path.is_file() else {}
    return record.get("key"), record.get("kind")


def find_same_config(app: App, digest: str) -> RunPaths | None:
    """A training run of this config that is alive, or began less than ten minutes ago.

    One that began in the future by more than that, by a wall clock that was put back, didn't just begin.
    """
    for run in all_runs(app):
        record = read_record(run.run_json)
        if record is None or record.get("config_digest") != digest:
            continue
        ago = began(record)
        if ago is not None and abs(ago) < SAME_CONFIG_SECONDS:
            return run
        if not states.is_over(states.read_state(run)):
            return run
    return None
