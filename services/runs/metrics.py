"""A run's metrics in a fixed budget: what is new, the curve thinned out, and what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from pydantic import Field

from ...executors import host, states
from ...executors.errors import ArgumentError
from ...executors.paths import RunPaths
from ...trainer import records
from ...trainer.pyramid import Bucket, Stat
from ..app import App
from ..result import Frozen, Result
from . import life as runs
from . import lineage, metric_rows, verdicts
from .verdicts import Verdict

#: Points of a curve, whatever the length of the run.
_POINTS = 16

#: Metrics worth showing, in this order; the others are named only.
_SHOWN = (
    "loss",
    "eval_loss",
    "grad_norm",
    "learning_rate",
    "mean_token_accuracy",
    "eval_mean_token_accuracy",
    "entropy",
    "num_tokens",
)


class CurvePoint(Frozen):
    """Mean of the metric over a stretch of steps that ends at `step`."""

    step: int
    value: float | None


class MetricSummary(Frozen):
    """One metric over the rows of this answer."""

    name: str
    last: Annotated[float | None, Field(description="null: not finite")]
    minimum: float | None
    maximum: float | None


class MetricsTail(Result):
    run_id: str
    status: str
    rows: Annotated[int, Field(description="Rows in this answer (since the cursor)")]
    last_step: int | None
    metrics: list[MetricSummary]
    other_metrics: Annotated[list[str], Field(description="Logged too, not shown")]
    loss_curve: list[CurvePoint]
    eval_curve: Annotated[list[CurvePoint], Field(description="Held-out loss")]
    verdict: Annotated[Verdict | None, Field(description="Of the loss over all rows here; null without rows")]
    why: Annotated[str, Field(description="What the verdict rests on")]
    nonfinite_rows: int
    first_nonfinite_step: int | None
    from_parent: Annotated[int, Field(description="Rows of the runs that this one resumed, up to where it went on")] = 0
    cursor: Annotated[str, Field(description="Pass it next time for what is new")]

    def body(self) -> str:
        lines = [f"Run {self.run_id} ({self.status}): {self.rows} rows, step {self.last_step}"]
        if self.from_parent:
            lines[0] += f" ({self.from_parent} rows are of the run it resumed)"
        if self.verdict == "stalled":
            lines.append(f"Stalled: {self.why}")
        elif self.verdict:
            lines.append(f"Loss is {self.verdict.replace('_', '-')}: {self.why}")
        for name, curve in (("loss", self.loss_curve), ("eval_loss", self.eval_curve)):
            if curve:
                lines.append(f"{name} by step: " + " ".join(f"{p.step}:{_short(p.value)}" for p in curve))
        if self.metrics:
            lines.append("last: " + ", ".join(f"{m.name} {_short(m.last)}" for m in self.metrics))
        if self.nonfinite_rows:
            lines.append(
                f"{self.nonfinite_rows} rows with NaN or infinity, the first at step {self.first_nonfinite_step}"
            )
        return "\n".join(lines)


async def tail(app: App, run_id: str, *, cursor: str | None) -> MetricsTail:
    """Metrics since `cursor` (all of them without one), thinned to a fixed size.

    Raises:
        RunError: there is no such run.
        ArgumentError: the cursor isn't one that we gave.
    """
    run = app.home.run(run_id)
    after = None
    if cursor is not None:
        after = records.Cursor.decode(cursor)
        if after is None:
            raise ArgumentError(
                "invalid_arguments",
                f"{cursor[:40]!r} is no cursor.",
                next_step=f"tail_metrics(run_id={run_id!r}) without a cursor answers from the start and gives one.",
            )
    return await anyio.to_thread.run_sync(_tail, app, run, after)


def _tail(app: App, run: RunPaths, after: records.Cursor | None) -> MetricsTail:
    state = runs.settled_state(app, run)
    live = not states.is_over(state)
    latest = run.latest_attempt().metrics
    if after is not None and after.inode == _inode(latest):
        read = lineage.Curve(metric_rows.read(latest, live=live, after=after))
    else:
        read = lineage.read(app, run, live=live)
    pieces, reading = read.pieces, read.own
    series = {name: [piece.stats[name] for piece in pieces if name in piece.stats] for name in _names(pieces)}
    shown = [name for name in _SHOWN if name in series]
    loss = series.get("loss", [])
    verdict, why = verdicts.judge(loss)
    first_bad, bad_names = _first_bad(series)
    if first_bad is not None:
        verdict, why = "non_finite", f"{', '.join(bad_names)} not finite from step {first_bad}"
    elif state.status == "running" and (quiet := _stalled(run, pieces)):
        verdict, why = "stalled", quiet
    rows = sum(piece.rows for piece in pieces)
    return MetricsTail(
        run_id=run.id,
        status=state.status,
        rows=rows,
        last_step=pieces[-1].steps[1] if pieces else None,
        metrics=[_summary(name, series[name]) for name in shown],
        other_metrics=[name for name in series if name not in shown][:20],
        loss_curve=thin(loss),
        eval_curve=thin(series.get("eval_loss", [])),
        verdict=verdict if rows else None,
        why=why,
        nonfinite_rows=sum(piece.bad_rows for piece in pieces),
        first_nonfinite_step=first_bad,
        from_parent=read.from_parents,
        cursor=reading.cursor.encode(),
        next_step=_next(run.id, reading.cursor.encode(), over=not live),
    )


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _stalled(run: RunPaths, pieces: list[Bucket]) -> str | None:
    """Why a running run seems to stand still, or None."""
    told = (runs.read_progress(run) or {}).get("clock")
    now = host.monotonic()
    # What runs here was started in this boot, so its clock is ours; one that is ahead of ours is none.
    silent = now - told if isinstance(told, int | float) and told <= now else None
    return verdicts.stalled(pieces, _moved(run), datetime.fromisoformat(host.now()), silent=silent)


def _moved(run: RunPaths) -> datetime | None:
    """When the trainer last told a step."""
    try:
        return datetime.fromtimestamp(run.latest_attempt().progress.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _next(run_id: str, cursor: str, *, over: bool) -> str:
    if over:
        return f"get_run(run_id={run_id!r}) says how it ended; plot_metrics(run_ids=[{run_id!r}]) draws the curves."
    new = f"tail_metrics(run_id={run_id!r}, cursor={cursor!r}) shows what is new"
    return f"get_run(run_id={run_id!r}, wait_seconds=45) waits; {new}."


def _names(pieces: Sequence[Bucket]) -> list[str]:
    return sorted({name for piece in pieces for name in piece.stats})


def _first_bad(series: dict[str, list[Stat]]) -> tuple[int | None, list[str]]:
    """The first step with a value that isn't finite, and the metrics that had it there."""
    firsts = {
        name: next((stat.first_bad for stat in stats if stat.first_bad is not None), None)
        for name, stats in series.items()
    }
    step = min((first for first in firsts.values() if first is not None), default=None)
    return step, [name for name, first in firsts.items() if first is not None and first == step]


def _summary(name: str, stats: Sequence[Stat]) -> MetricSummary:
    # Without the means and deviations of `verdicts.merged`, which nobody asks for here.
    least = min((stat.least for stat in stats if stat.least is not None), default=None)
    greatest = max((stat.greatest for stat in stats if stat.greatest is not None), default=None)
    return MetricSummary(name=name, last=_finite(stats[-1].last), minimum=_finite(least), maximum=_finite(greatest))


def thin(series: Sequence[Stat], points: int = _POINTS) -> list[CurvePoint]:
    """At most `points` points: means over about equal stretches, each at its last step.

    A stretch with a non-finite value is null, never a mean.
    """
    curve: list[CurvePoint] = []
    for stretch in verdicts.stretches(series, points) if len(series) > points else [[one] for one in series]:
        whole = verdicts.merged(stretch)
        curve.append(CurvePoint(step=whole.last_step, value=None if whole.bad else _round(whole.mean)))
    return curve


def _round(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _short(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4g}"
