"""Which runs there are, the newest first, a page at a time."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from ...executors.errors import ArgumentError, RunError, StateError
from ...executors.paths import RUN_ID
from ...executors.states import is_over
from ..app import App
from ..calls import as_call
from ..result import Frozen, Result
from . import life as runs
from .restarting import restarted_since_boot

#: Files of one run that are counted; a run has a few dozen.
_FILES = 10_000

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
    for run in runs.all_runs(app):
        try:
            record = runs.asked(run)
        except (RunError, StateError):
            damaged.append(run.id)
            continue
        request = record.get("request", {})
        if kind not in ("all", record.get("kind")) or method not in (None, request.get("method")):
            continue
        if status is None and ((cursor is not None and run.id >= cursor) or len(shown) == limit):
            # No filter needs its state: don't read it for a page that doesn't show it.
            total += 1
            more = more or len(shown) == limit
            continue
        state = runs.settled_state(app, run)
        if status is not None and not (status == state.status or (status == "live" and not is_over(state))):
            continue
        total += 1
        if cursor is not None and run.id >= cursor:
            continue
        if len(shown) == limit:
            more = True
            continue
        shown.append(
            RunLine(
                run_id=run.id,
                kind=record["kind"],
                status=state.status,
                created=str(record.get("created", "")),
                method=request.get("method"),
                model=request.get("model"),
                reason=getattr(state, "reason", None),
                disk_bytes=disk_use(run.root),
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


@dataclass(frozen=True)
class DiskTotals:
    """What all runs take, and what is left where they lie, in bytes."""

    used: int
    free: int


def disk_totals(app: App) -> DiskTotals:
    """Of everything in the runs folder, also what is just being made or removed; reads every folder of every run."""
    used = disk_use(app.home.runs, at_most=None)
    return DiskTotals(used=used or 0, free=shutil.disk_usage(app.home.runs).free)


def disk_use(folder: Path, *, at_most: int | None = _FILES) -> int | None:
    """Bytes of the files in a folder and below; None where there are more than `at_most`: too many to wait for."""
    total = files = 0
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    total += entry.stat(follow_symlinks=False).st_size
                    files += 1
        except FileNotFoundError:
            # A checkpoint may be rotated away meanwhile.
            continue
        if at_most is not None and files > at_most:
            return None
    return total


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
