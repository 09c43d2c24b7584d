"""Which runs there are, the newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from ...executors.errors import ArgumentError, RunError, StateError
from ...executors.paths import RUN_ID
from ...executors.states import is_over
from ..app import App
from ..calls import as_call
from ..result import Frozen, Result
from . import disk
from . import life as runs
from .kept import Kept
from .restarting import restarted_since_boot

#: Files of all runs of a page that are counted.
_PAGE_FILES = 20_000

#: Damaged runs, and restarted ones, that an answer names.
_DAMAGED = 10
_RESTARTED = 10

Status = Literal["live", "queued", "succeeded", "failed", "cancelled", "lost"]


class RunLine(Frozen):
    """One run in a line."""

    run_id: str
    kind: str
    status: str
    created: str
    method: str | None = None
    model: str | None = None
    reason: Annotated[str | None, Field(description="Why it failed or was lost")] = None
    disk_bytes: Annotated[int | None, Field(description="Of its folder; null: too many files to count")] = None


class RunList(Result):
    runs: list[RunLine]
    total: Annotated[int, Field(description="Runs that match, on all pages")]
    next_cursor: Annotated[str | None, Field(description="Pass it as cursor for the next page")] = None
    restarted: Annotated[list[str], Field(description="What a restart of the machine interrupted, and its next")] = []
    damaged: Annotated[list[str], Field(description="Runs whose record can't be read: on no page, not counted")] = []

    def body(self) -> str:
        damaged = (
            [f"Can't be read, damaged or of a newer version (get_run says which): {', '.join(self.damaged)}"]
            if self.damaged
            else []
        )
        damaged = [*(f"After the machine's restart: {line}" for line in self.restarted), *damaged]
        if not self.runs:
            return "\n".join(["No runs match.", *damaged])
        lines = [f"Showing {len(self.runs)} of {self.total} runs, the newest first:"]
        for run in self.runs:
            reason = f" ({run.reason})" if run.reason else ""
            size = "" if run.disk_bytes is None else _size(run.disk_bytes)
            columns = (run.run_id, f"{run.status}{reason}", run.method or run.kind, size, run.model or "")
            lines.append("  ".join(column for column in columns if column))
        return "\n".join([*lines, *damaged])


async def list_runs(
    app: App,
    *,
    status: Status | None,
    kind: str,
    method: str | None = None,
    limit: int,
    cursor: str | None,
) -> RunList:
    """A page of runs; a cursor is the id of the last one shown.

    Raises:
        ArgumentError: the cursor isn't one that we gave.
    """
    if cursor is not None and not RUN_ID.fullmatch(cursor):
        raise ArgumentError(
            "invalid_arguments",
            f"{cursor[:40]!r} is no cursor.",
            next_step="list_runs() without a cursor shows the first page and gives one.",
        )
    return await anyio.to_thread.run_sync(_list, app, status, kind, method, limit, cursor)


def _list(app: App, status: str | None, kind: str, method: str | None, limit: int, cursor: str | None) -> RunList:
    shown: list[RunLine] = []
    total = 0
    more = False
    damaged: list[str] = []
    files_left = _PAGE_FILES
    # Of the runs that aren't shown no more is asked than whether their record is still the same file.
    folder = str(app.home.runs)
    for run_id in runs.run_ids(app):
        asked = _ASKED.get(f"{folder}/{run_id}/run.json", lambda run_id=run_id: _read_asked(app, run_id))
        if asked is None:
            if app.home.new_run(run_id).run_json.is_file():
                damaged.append(run_id)
            continue
        if kind not in ("all", asked.kind) or method not in (None, asked.method):
            continue
        if status is None and ((cursor is not None and run_id >= cursor) or len(shown) == limit):
            # No filter needs its state: don't read it for a page that doesn't show it.
            total += 1
            more = more or len(shown) == limit
            continue
        # What has ended stays so: its record is read once. What has none yet is looked at anew each time.
        standing = _STANDINGS.get(f"{folder}/{run_id}/exit.json", lambda run_id=run_id: _read_standing(app, run_id))
        if status is not None and not (status == standing.status or (status == "live" and not standing.over)):
            continue
        total += 1
        if cursor is not None and run_id >= cursor:
            continue
        if len(shown) == limit:
            more = True
            continue
        count = disk.count_ended if standing.over else disk.count
        used = count(f"{folder}/{run_id}", min(disk.FILES, files_left))
        files_left -= used.files
        shown.append(
            RunLine(
                run_id=run_id,
                kind=asked.kind,
                status=standing.status,
                created=asked.created,
                method=asked.method,
                model=asked.model,
                reason=standing.reason,
                disk_bytes=used.size,
            )
        )
    # Told on the first page only.
    restarted = restarted_since_boot(app)[-_RESTARTED:] if cursor is None else []
    last = shown[-1].run_id if shown and more else None
    if not shown:
        next_step = "plan_training(dataset=…) begins a new one." if total == 0 else "list_runs() shows the first page."
    elif last is not None:
        kind_given = None if kind == "train" else kind
        page = as_call("list_runs", status=status, kind=kind_given, method=method, cursor=last)
        next_step = f"{page} shows the next page; get_run(run_id=…) shows one."
    else:
        next_step = f"get_run(run_id={shown[0].run_id!r}) shows the newest."
    return RunList(
        runs=shown, total=total, next_cursor=last, damaged=damaged[:_DAMAGED], restarted=restarted, next_step=next_step
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a list says of a run's request."""

    kind: str
    created: str
    method: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a list says of a run's state."""

    status: str
    reason: str | None
    over: bool


_ASKED: Kept[_Asked | None] = Kept()
_STANDINGS: Kept[_Standing] = Kept()


def _read_asked(app: App, run_id: str) -> _Asked | None:
    """None: there is no record, it can't be read, or a newer version wrote it."""
    run = app.home.new_run(run_id)
    if not run.run_json.is_file():
        return None
    try:
        record = runs.asked(run)
    except (RunError, StateError):
        return None
    request = record.get("request", {})
    return _Asked(record["kind"], str(record.get("created", "")), request.get("method"), request.get("model"))


def _read_standing(app: App, run_id: str) -> _Standing:
    state = runs.settled_state(app, app.home.new_run(run_id))
    return _Standing(state.status, getattr(state, "reason", None), is_over(state))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
