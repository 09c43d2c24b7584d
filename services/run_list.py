"""Which runs there are, the newest first, a page at a time."""

from __future__ import annotations

from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from ..executors.states import is_over, read_state
from . import runs
from .app import App
from .result import Frozen, Result


class RunLine(Frozen):
    """One run in a line."""

    run_id: str
    kind: str
    status: str
    created: str
    method: str | None = None
    model: str | None = None
    reason: Annotated[str | None, Field(description="Why it failed or was lost")] = None


class RunList(Result):
    runs: list[RunLine]
    total: Annotated[int, Field(description="Runs that match, on all pages")]
    next_cursor: Annotated[str | None, Field(description="Pass it as cursor for the next page")] = None

    def body(self) -> str:
        if not self.runs:
            return "No runs match."
        lines = [f"Showing {len(self.runs)} of {self.total} runs, the newest first:"]
        for run in self.runs:
            reason = f" ({run.reason})" if run.reason else ""
            lines.append(f"{run.run_id}  {run.status}{reason}  {run.method or run.kind}  {run.model or ''}".rstrip())
        return "\n".join(lines)


async def list_runs(
    app: App,
    *,
    status: Literal["live", "succeeded", "failed", "cancelled", "lost"] | None,
    kind: str,
    limit: int,
    cursor: str | None,
) -> RunList:
    """A page of runs; a cursor is the id of the last one shown."""
    return await anyio.to_thread.run_sync(_list, app, status, kind, limit, cursor)


def _list(app: App, status: str | None, kind: str, limit: int, cursor: str | None) -> RunList:
    shown: list[RunLine] = []
    total = 0
    more = False
    for run in runs.all_runs(app):
        record = runs.asked(run)
        if kind not in ("all", record.get("kind")):
            continue
        if status is None and ((cursor is not None and run.id >= cursor) or len(shown) == limit):
            # No filter needs its state: don't read it for a page that doesn't show it.
            total += 1
            more = more or len(shown) == limit
            continue
        state = read_state(run)
        if status is not None and status != ("live" if not is_over(state) else state.status):
            continue
        total += 1
        if cursor is not None and run.id >= cursor:
            continue
        if len(shown) == limit:
            more = True
            continue
        request = record.get("request", {})
        shown.append(
            RunLine(
                run_id=run.id,
                kind=record["kind"],
                status=state.status,
                created=record["created"],
                method=request.get("method"),
                model=request.get("model"),
                reason=getattr(state, "reason", None),
            )
        )
    last = shown[-1].run_id if shown and more else None
    if not shown:
        next_step = "plan_training(dataset=…) begins a new one." if total == 0 else "list_runs() shows the first page."
    elif last is not None:
        next_step = f"list_runs(cursor={last!r}) shows the next page; get_run(run_id=…) shows one."
    else:
        next_step = f"get_run(run_id={shown[0].run_id!r}) shows the newest."
    return RunList(runs=shown, total=total, next_cursor=last, next_step=next_step)
