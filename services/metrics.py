"""A run's metrics in a fixed budget: what is new, the curve thinned out, and what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Annotated, Any, Literal

import anyio.to_thread
from pydantic import Field

from ..executors import states
from ..executors.errors import ArgumentError
from ..executors.paths import RunPaths
from ..trainer import records
from .app import App
from .result import Frozen, Result

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

Verdict = Literal["falling", "flat", "rising", "non_finite", "too_early"]


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
    cursor: Annotated[str, Field(description="Pass it next time for what is new")]

    def body(self) -> str:
        lines = [f"Run {self.run_id} ({self.status}): {self.rows} rows, step {self.last_step}"]
        if self.verdict:
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
    return await anyio.to_thread.run_sync(_tail, run, after)


def _tail(run: RunPaths, after: records.Cursor | None) -> MetricsTail:
    state = states.read_state(run)
    rows, cursor = records.read_lines(run.latest_attempt().metrics, after)
    names = sorted({name for row in rows for name, value in row.items() if _is_metric(name, value)})
    shown = [name for name in _SHOWN if name in names]
    bad = [row for row in rows if row.get("nonfinite")]
    loss = _series(rows, "loss")
    verdict, why = judge([value for _, value in loss])
    if bad:
        verdict, why = "non_finite", f"{', '.join(bad[0]['nonfinite'])} not finite from step {bad[0]['step']}"
    return MetricsTail(
        run_id=run.id,
        status=state.status,
        rows=len(rows),
        last_step=rows[-1]["step"] if rows else None,
        metrics=[_summary(rows, name) for name in shown],
        other_metrics=[name for name in names if name not in shown][:20],
        loss_curve=thin(loss),
        eval_curve=thin(_series(rows, "eval_loss")),
        verdict=verdict if rows else None,
        why=why,
        nonfinite_rows=len(bad),
        first_nonfinite_step=bad[0]["step"] if bad else None,
        cursor=cursor.encode(),
        next_step=_next(run.id, cursor.encode(), over=states.is_over(state)),
    )


def _next(run_id: str, cursor: str, *, over: bool) -> str:
    if over:
        return f"get_run(run_id={run_id!r}) says how it ended."
    new = f"tail_metrics(run_id={run_id!r}, cursor={cursor!r}) shows what is new"
    return f"get_run(run_id={run_id!r}, wait_seconds=45) waits; {new}."


def _is_metric(name: str, value: object) -> bool:
    return name not in ("step", "epoch", "at", "nonfinite") and (value is None or isinstance(value, (int, float)))


def _series(rows: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float | None]]:
    return [(row["step"], row[name]) for row in rows if name in row]


def _summary(rows: Sequence[dict[str, Any]], name: str) -> MetricSummary:
    values = [row[name] for row in rows if name in row]
    finite = [value for value in values if value is not None]
    return MetricSummary(
        name=name,
        last=values[-1] if values else None,
        minimum=min(finite, default=None),
        maximum=max(finite, default=None),
    )


def thin(series: Sequence[tuple[int, float | None]], points: int = _POINTS) -> list[CurvePoint]:
    """At most `points` points: means over equal stretches; a stretch with a non-finite value is null, never a mean."""
    if len(series) <= points:
        return [CurvePoint(step=step, value=_round(value)) for step, value in series]
    curve: list[CurvePoint] = []
    for index in range(points):
        stretch = series[index * len(series) // points : (index + 1) * len(series) // points]
        values = [value for _, value in stretch if value is not None]
        whole = len(values) == len(stretch)
        curve.append(CurvePoint(step=stretch[-1][0], value=_round(fmean(values)) if whole else None))
    return curve


def judge(losses: Sequence[float | None]) -> tuple[Verdict, str]:
    """Where the loss goes, by the means of its first and last quarter.

    A difference below twice its standard error (of independent rows) is flat; fewer than eight rows say nothing.
    """
    values = [value for value in losses if value is not None]
    if len(values) < len(losses):
        return "non_finite", "the loss has NaN or infinity"
    if len(values) < 8:
        return "too_early", f"{len(values)} loss rows; 8 are needed to say"
    quarter = len(values) // 4
    first, last = values[:quarter], values[-quarter:]
    difference = fmean(last) - fmean(first)
    spread = pstdev(values[quarter:]) if quarter < 2 else math.hypot(pstdev(first), pstdev(last))
    noise = 2 * spread / math.sqrt(quarter)
    words = f"mean of the first quarter {fmean(first):.4g}, of the last {fmean(last):.4g}"
    if abs(difference) <= max(noise, 1e-4 * abs(fmean(first))):
        return "flat", words
    return ("falling" if difference < 0 else "rising"), words


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _short(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4g}"
