"""Make room, for people: the big parts of runs that are over are shown, and removed by the digest of what was shown.

Never touched: what lives or can't be seen from here, what a run that isn't over refers to (it resumes from it, comes
after it, pushes it, trains on its output), and what a newer version made or can't be read.

Crash contract. What goes is renamed to a hidden name first, under the lock that all launches take, so that it is there
whole or not at all for every reader. Killed then, a whole run (`.<run id>`) is finished by the janitor of the next
launch (`sweeping.tidy`: whoever removes the folder holds the run's lock, and the lock file goes last), parts of a run
by the next pruning.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from ...executors import host, leftovers, states, sweeping
from ...executors.errors import ArgumentError, LimitError, RunError, StateError
from ...executors.paths import RunPaths
from ...trainer import records
from ..app import App
from . import life as runs
from .disk import disk_use

What = Literal["checkpoints", "run"]

#: Days after its end from which a run is old, where nothing else is asked for.
OLD_DAYS = 30.0

#: What a run that is over can do without: its checkpoints, its copy of our code, its empty working folder.
_PARTS = ("checkpoints", "code", "work")

#: Begins the name of a part that is on its way out.
_GOING = ".pruned."

#: Runs whose locks are held together; a process may have some thousand files open.
_AT_ONCE = 500


@dataclass(frozen=True)
class PruneRequest:
    """Which runs, and what of them."""

    run_ids: tuple[str, ...] = ()
    older_than_days: float | None = None
    """Since their end; None: 30 days, and any age for runs that are named."""
    statuses: tuple[str, ...] = ()
    """None given: all that are over."""
    keep: int = 0
    """The newest runs that stay, whatever they are."""
    what: What = "checkpoints"


@dataclass(frozen=True)
class Doomed:
    """A run and what of it would go."""

    run: RunPaths
    status: str
    ended: datetime
    parts: tuple[tuple[str, int], ...]
    """Names and bytes."""

    @property
    def size(self) -> int:
        return sum(size for _, size in self.parts)


@dataclass(frozen=True)
class PrunePlan:
    """What would go, the newest first, and why the others stay."""

    doomed: list[Doomed]
    kept: dict[str, list[str]]
    """By the reason: run ids."""
    digest: str

    @property
    def size(self) -> int:
        return sum(one.size for one in self.doomed)


@dataclass
class Pruned:
    """What is gone, in bytes by run, and what couldn't be removed and why."""

    gone: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[str] = field(default_factory=list[str])


def plan(app: App, request: PruneRequest) -> PrunePlan:
    """What would go now. Blocking; looks at every file of the chosen runs.

    Raises:
        RunError: a run that is named is not here, or can't be read.
        StateError: a newer version made it (`newer_schema`).
    """
    chosen, kept = _choose(app, request)
    doomed: list[Doomed] = []
    for run, status, ended in chosen:
        parts = _parts(run, request.what)
        if parts is None:
            kept["its folder is a link"].append(run.id)
        elif not parts:
            kept["nothing of it is left to remove"].append(run.id)
        else:
            doomed.append(Doomed(run, status, ended, parts))
    told = [request.what, [[one.run.id, one.parts] for one in doomed]]
    return PrunePlan(doomed, dict(kept), hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12])


def prune(app: App, request: PruneRequest, confirm: str) -> Pruned:
    """Remove what a plan with this digest showed. Blocking.

    Raises:
        ArgumentError: it is another digest's, or has changed since.
        LimitError: another launch doesn't end (`timed_out`).
        RunError, StateError: as for `plan`.
    """
    agreed = plan(app, request)
    if agreed.digest != confirm:
        raise _changed(confirm)
    done = Pruned()
    # Once at least: what a killed pruning left is finished then.
    for start in range(0, max(1, len(agreed.doomed)), _AT_ONCE):
        _prune_some(app, request, agreed.doomed[start : start + _AT_ONCE], done)
    return done


def _prune_some(app: App, request: PruneRequest, doomed: list[Doomed], done: Pruned) -> None:
    with contextlib.ExitStack() as held:
        going: list[tuple[Doomed, list[Path]]] = []
        with _no_launches(app):
            still = {run.id for run, _, _ in _choose(app, request)[0]}
            for one in doomed:
                if one.run.id not in still:
                    done.problems.append(f"{one.run.id}: it is needed meanwhile, or gone")
                    continue
                try:
                    hidden = [_hide_run(app, one, held)] if request.what == "run" else _hide_parts(one)
                except OSError as error:
                    done.problems.append(f"{one.run.id}: {error}")
                else:
                    going.append((one, hidden))
        for one, hidden in going:
            try:
                _remove(hidden)
                if request.what == "checkpoints":
                    _note(one)
            except OSError as error:
                done.problems.append(f"{one.run.id}: {error}")
                continue
            if request.what == "run":
                one.run.lock.unlink(missing_ok=True)
            done.gone[one.run.id] = one.size


def pruned_at(run: RunPaths) -> str | None:
    """When a run's checkpoints were removed, by the wall clock; None where they never were."""
    events, _ = records.read_lines(run.events)
    told = [row for row in events if row.get("event") == "pruned" and "checkpoints" in row.get("parts", ())]
    return str(told[-1].get("at")) if told else None


def _choose(app: App, request: PruneRequest) -> tuple[list[tuple[RunPaths, str, datetime]], dict[str, list[str]]]:
    """The runs of which something may go, with status and end, the newest first; and why the others stay."""
    for run_id in request.run_ids:
        runs.asked(app.home.run(run_id))
    days = request.older_than_days
    if days is None:
        days = 0.0 if request.run_ids else OLD_DAYS
    now = datetime.fromisoformat(host.now())
    kept: dict[str, list[str]] = defaultdict(list)
    over: list[tuple[int, RunPaths, str]] = []
    alive: list[RunPaths] = []
    for number, run in enumerate(runs.all_runs(app)):
        try:
            runs.asked(run)
            state = runs.settled_state(app, run)
        except (RunError, StateError) as error:
            alive.append(run)
            reason = "a newer version made it" if error.code == "newer_schema" else "its record can't be read"
            _keep(kept, request, run, reason)
            continue
        if states.is_over(state) and not (state.status == "lost" and records.is_locked(run.lock)):
            over.append((number, run, state.status))
            continue
        alive.append(run)
        _keep(kept, request, run, "can't be seen from here" if state.status == "unreachable" else "not over")
    needed = _needed([run.id for _, run, _ in over], alive)
    chosen: list[tuple[RunPaths, str, datetime]] = []
    for number, run, status in over:
        ended = _ended(run)
        if run.id in needed:
            reason = f"{needed[run.id]} needs it"
        elif number < request.keep:
            reason = f"one of the newest {request.keep}"
        elif request.statuses and status not in request.statuses:
            reason = "another status"
        elif days and now - ended < timedelta(days=days):
            # Without a limit the clocks are not asked: they may have been put back since.
            reason = f"younger than {days:g} days"
        else:
            if not request.run_ids or run.id in request.run_ids:
                chosen.append((run, status, ended))
            continue
        _keep(kept, request, run, reason)
    return chosen, kept


def _keep(kept: dict[str, list[str]], request: PruneRequest, run: RunPaths, reason: str) -> None:
    if not request.run_ids or run.id in request.run_ids:
        kept[reason].append(run.id)


def _needed(candidates: list[str], alive: list[RunPaths]) -> dict[str, str]:
    """Which of these runs a run that isn't over refers to in what was asked of it, and which one that is.

    By the id, wherever it stands in record or config: a checkpoint's path, a parent, a model that a run made.
    """
    needed: dict[str, str] = {}
    for run in alive:
        text = ""
        for path in (run.run_json, run.config):
            with contextlib.suppress(OSError):
                text += path.read_text(encoding="utf-8", errors="replace")
        needed |= {one: run.id for one in candidates if one in text}
    return needed


def _ended(run: RunPaths) -> datetime:
    """When the run ended; where its record doesn't say, when its folder was last heard of."""
    events, _ = records.read_lines(run.events)
    for said in ((runs.read_record(run.exit_json) or {}).get("at"), *(row.get("at") for row in reversed(events))):
        with contextlib.suppress(ValueError):
            if isinstance(said, str) and (at := datetime.fromisoformat(said)).tzinfo is not None:
                return at
    return datetime.fromtimestamp(run.run_json.stat().st_mtime, datetime.fromisoformat(host.now()).tzinfo)


def _parts(run: RunPaths, what: What) -> tuple[tuple[str, int], ...] | None:
    """What of the run would go, with its bytes; None for a folder that lies elsewhere: that is the human's doing."""
    if run.root.is_symlink():
        return None
    if what == "run":
        return (("run", _bytes(run.root)),)
    parts = [
        (name, _bytes(run.root / name))
        for name in _PARTS
        if (run.root / name).is_dir() and not (run.root / name).is_symlink()
    ]
    if left := _left(run):
        # Empty folders count too: they are on their way out.
        parts.append(("leftovers", sum(_bytes(path) for path in left)))
    return tuple(parts)


def _bytes(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return disk_use(path, at_most=None) or 0
    return path.lstat().st_size


def _left(run: RunPaths) -> list[Path]:
    """What killed writers left in it, and a killed pruning."""
    within = [path for path in leftovers.of_a_run(run.root) if path.relative_to(run.root).parts[0] not in _PARTS]
    going = sorted(run.root.glob(f"{_GOING}*"))
    return [*going, *(path for path in within if not any(path.is_relative_to(one) for one in going))]


def _hide_run(app: App, one: Doomed, held: contextlib.ExitStack) -> Path:
    """Take the whole run out of sight, and hold its lock until we are done: the janitor removes what nobody holds.

    A run that ended on another machine gets a lock file here for that.
    """
    descriptor = os.open(one.run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held.callback(os.close, descriptor)
    if not records.try_lock(descriptor):
        raise BlockingIOError(errno.EAGAIN, "another process holds it")
    hidden = app.home.runs / f".{one.run.id}"
    one.run.root.rename(hidden)
    records.sync_folder(app.home.runs)
    return hidden


def _hide_parts(one: Doomed) -> list[Path]:
    """Take the parts out of sight, and say so in the run's history."""
    root = one.run.root
    # On a full disk it may have to wait until there is room.
    with contextlib.suppress(OSError):
        _note(one)
    left = _left(one.run)
    for name, _ in one.parts:
        if name in _PARTS:
            hidden = root / f"{_GOING}{name}.{secrets.token_hex(3)}"
            (root / name).rename(hidden)
            left.append(hidden)
    records.sync_folder(root)
    return left


def _note(one: Doomed) -> None:
    """One line in the run's history for what went, once."""
    events, _ = records.read_lines(one.run.events)
    parts = [name for name, _ in one.parts]
    last: dict[str, Any] = events[-1] if events else {}
    if (last.get("event"), last.get("parts"), last.get("bytes")) == ("pruned", parts, one.size):
        return
    row = {"at": host.now(), "t": last.get("t", 0.0), "event": "pruned", "parts": parts, "bytes": one.size}
    records.append_line(one.run.events, row)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _no_launches(app: App) -> Generator[None]:
    """No run is launched or resumed inside the block."""
    with runs.launch_lock(app, _hindered):
        sweeping.tidy(app.home.runs, app.home.locks)
        yield


def _hindered(seconds: float) -> LimitError:
    return LimitError(
        "timed_out",
        f"A server has been launching a run for {seconds:.0f} s and does not go on; nothing was removed.",
        next_step="End a halted model-trainer process, then run the command again.",
    )


def _changed(confirm: str) -> ArgumentError:
    return ArgumentError(
        "invalid_arguments",
        f"What would be removed is not what {confirm!r} stands for: runs or sizes have changed, or other options were "
        "given. Nothing was removed.",
        next_step="`model-trainer runs prune` with the same options and without --confirm shows it anew.",
    )
