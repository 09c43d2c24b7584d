"""Which runs there are, the newest first, a page at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from ...executors.errors import ArgumentError, RunError
from ...executors.paths import RUN_ID
from ...executors.states import is_over
from ..app import App
from ..calls import as_call
from ..result import Frozen, Result
from . import life as runs

#: Files of one run that are counted; a run has a few dozen.
_FILES = 10_000

#: Damaged runs that an answer names.
_DAMAGED = 10

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
    damaged: Annotated[list[str], Field(description="Runs whose record can't be read: on no page, not counted")] = []

    def body(self) -> str:
        damaged = [f"Damaged, their run.json can't be read: {', '.join(self.damaged)}"] if self.damaged else []
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
        except RunError:
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
    last = shown[-1].run_id if shown and more else None
    if not shown:
        next_step = "plan_training(dataset=…) begins a new one." if total == 0 else "list_runs() shows the first page."
    elif last is not None:
        kind_given = None if kind == "train" else kind
        page = as_call("list_runs", status=status, kind=kind_given, method=method, cursor=last)
        next_step = f"{page} shows the next page; get_run(run_id=…) shows one."
    else:
        next_step = f"get_run(run_id={shown[0].run_id!r}) shows the newest."
    return RunList(runs=shown, total=total, next_cursor=last, damaged=damaged[:_DAMAGED], next_step=next_step)


def disk_use(folder: Path) -> int | None:
    """Bytes of the files in a folder and below; None where there are too many to count while somebody waits."""
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
        if files > _FILES:
            return None
    return total


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
