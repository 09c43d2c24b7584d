"""Curves of one run or several as a PNG that reads well in a chat."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.to_thread
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from ...executors import states
from ...executors.errors import ArgumentError, EnvironmentFault, LimitError, RunError
from ...executors.paths import RunPaths
from ...trainer.pyramid import Bucket, Stat
from ..app import App
from ..result import Frozen, Result
from ..untrusted import quote
from . import life as runs
from . import lineage, verdicts

#: A curve is drawn from at least this many pieces.
_PIECES = 150

#: Without a word from the caller: whichever of these are there.
_DEFAULT = ("loss", "eval_loss")

#: Seconds for the child that draws; the first one builds matplotlib's list of fonts.
_SECONDS = 40.0


class Drawn(Frozen):
    """One line of the picture, in numbers."""

    run_id: str
    metric: str
    first: float | None
    last: float | None
    lowest: float | None
    not_finite: Annotated[int, Field(description="Values that were NaN or infinite: gaps, marked by crosses")]


class Plot(Result):
    path: Annotated[str, Field(description="The PNG; drawn anew by the same call")]
    curves: list[Drawn]
    notes: list[str]
    png: Annotated[SkipJsonSchema[bytes], Field(exclude=True, repr=False)]

    def body(self) -> str:
        lines = [f"Drawn: {self.path}"]
        for curve in self.curves:
            bad = f", {curve.not_finite} not finite" if curve.not_finite else ""
            lines.append(
                f"{curve.run_id} {curve.metric}: {_short(curve.first)} to {_short(curve.last)}, "
                f"lowest {_short(curve.lowest)}{bad}"
            )
        return "\n".join([*lines, *self.notes])

    def image(self) -> bytes | None:
        return self.png


@dataclass(frozen=True)
class _Curve:
    run: RunPaths
    colour: int
    live: bool
    series: dict[str, list[Stat]]


async def plot(app: App, run_ids: list[str], metrics: list[str] | None, *, smooth: float) -> Plot:
    """The curves of up to six runs, one panel per metric (`eval_x` shares that of `x`).

    Raises:
        RunError: there is no such run, or none of them has a row yet (`no_metrics`).
        ArgumentError: no run has such a metric; names the nearest and those there are.
        LimitError, EnvironmentFault: the drawing took too long, or failed.
    """
    found = [app.home.run(run_id) for run_id in dict.fromkeys(run_ids)]
    curves = await anyio.to_thread.run_sync(_read, app, found)
    wanted = _choose(curves, metrics)
    path = await anyio.to_thread.run_sync(_place, app, found, wanted, smooth)
    await _draw(app, {"path": str(path), "panels": _panels(curves, wanted, smooth)}, found[0].id)
    png = await anyio.to_thread.run_sync(path.read_bytes)
    drawn = [
        _summary(curve.run.id, name, curve.series[name]) for curve in curves for name in wanted if name in curve.series
    ]
    notes = [
        f"{curve.run.id} has no {name}." for curve in curves for name in wanted if metrics and name not in curve.series
    ]
    first = found[0].id
    next_step = (
        f"tail_metrics(run_id={first!r}) says what the curve means; get_run(run_id={first!r}) how the run stands."
    )
    return Plot(path=str(path), curves=drawn, notes=notes, png=png, next_step=next_step)


def _read(app: App, found: list[RunPaths]) -> list[_Curve]:
    curves: list[_Curve] = []
    shown = {run.id for run in found}
    for colour, run in enumerate(found):
        live = not states.is_over(states.read_state(run))
        # A parent in the same picture has a line of its own, which this one must not cover.
        apart = (runs.read_record(run.run_json) or {}).get("parent") in shown
        pieces = lineage.read(app, run, live=live, pieces=_PIECES, with_parents=not apart).pieces
        curves.append(_Curve(run, colour, live, _by_metric(pieces)))
    return curves


def _by_metric(pieces: list[Bucket]) -> dict[str, list[Stat]]:
    series: dict[str, list[Stat]] = {}
    for piece in pieces:
        for name, stat in piece.stats.items():
            series.setdefault(name, []).append(stat)
    return series


def _choose(curves: list[_Curve], metrics: list[str] | None) -> list[str]:
    there = sorted({name for curve in curves for name in curve.series})
    if not there:
        raise _no_metrics(curves)
    if metrics is None:
        return [name for name in _DEFAULT if name in there] or there[:1]
    ids = [curve.run.id for curve in curves]
    for name in metrics:
        if name not in there:
            near = get_close_matches(name, there, n=1, cutoff=0.4)
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise ArgumentError(
                "invalid_arguments",
                f"There is no metric {name[:80]!r}: {guess}There are {', '.join(there[:30])}.",
                next_step=f"plot_metrics(run_ids={ids!r}, metrics={near or there[:2]!r}) draws.",
            )
    return list(dict.fromkeys(metrics))


def _no_metrics(curves: list[_Curve]) -> RunError:
    waited_for = next((curve.run.id for curve in curves if curve.live), None)
    if waited_for is not None:
        step = f"get_run(run_id={waited_for!r}, wait_seconds=45) waits; then call plot_metrics again."
        return RunError("no_metrics", "No metrics were written yet.", next_step=step)
    ended = curves[0].run.id
    message = f"Run {ended} ended without writing a metric."
    return RunError("no_metrics", message, next_step=f"get_run(run_id={ended!r}) says how it ended.")


def _panels(curves: list[_Curve], wanted: list[str], smooth: float) -> list[dict[str, Any]]:
    """One panel per metric; a held-out metric is dashed in the panel of its own kind, where that is drawn too."""
    owners = {name: base if (base := name.removeprefix("eval_")) in wanted else name for name in wanted}
    tags = _tags([curve.run.id for curve in curves])
    panels: list[dict[str, Any]] = []
    for owner in dict.fromkeys(owners.values()):
        names = sorted((name for name in wanted if owners[name] == owner), key=lambda name: name != owner)
        lines = [
            _line(curve, name, smooth, dashed=name != owner, label=tags[curve.run.id])
            for curve in curves
            for name in names
            if name in curve.series
        ]
        panels.append({"title": owner + (f" (dashed: {names[1]})" if names[1:] else ""), "unit": owner, "lines": lines})
    return panels


def _tags(ids: list[str]) -> dict[str, str]:
    """Short names of runs: the method and the random end of the id, or the whole id where that isn't enough."""
    short = {run_id: "-".join(run_id.split("-")[2:]) or run_id for run_id in ids}
    return short if len(set(short.values())) == len(ids) else {run_id: run_id for run_id in ids}


def _line(curve: _Curve, name: str, smooth: float, *, dashed: bool, label: str) -> dict[str, Any]:
    stats = curve.series[name]
    values = [stat.mean if stat.count and not stat.bad else None for stat in stats]
    spread = any(stat.count > 1 for stat in stats)
    return {
        "label": label,
        "colour": curve.colour,
        "dashed": dashed,
        "steps": [stat.last_step for stat in stats],
        "values": values,
        "low": [None if value is None else stat.least for value, stat in zip(values, stats, strict=True)]
        if spread
        else None,
        "high": [None if value is None else stat.greatest for value, stat in zip(values, stats, strict=True)],
        # Few points say all there is to say: nothing to smooth.
        "smooth": _smoothed(values, smooth) if smooth and len(values) > 10 else None,
        "bad": [stat.first_bad for stat in stats if stat.first_bad is not None],
    }


def _smoothed(values: list[float | None], weight: float) -> list[float | None]:
    """Exponential moving average, corrected for its start (as Adam's moments are); a gap stays a gap."""
    total = norm = 0.0
    smoothed: list[float | None] = []
    for value in values:
        if value is None:
            smoothed.append(None)
            continue
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append(total / norm)
    return smoothed


def _summary(run_id: str, name: str, stats: list[Stat]) -> Drawn:
    whole = verdicts.merged(stats)
    first = next((stat.mean for stat in stats if stat.count), None)
    return Drawn(run_id=run_id, metric=name, first=first, last=whole.last, lowest=whole.least, not_finite=whole.bad)


def _place(app: App, found: list[RunPaths], wanted: list[str], smooth: float) -> Path:
    """Where the picture goes: into the run's own folder, or the cache for a picture of several runs."""
    one = len(found) == 1
    folder = found[0].plots if one else app.home.cache / "plots"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    what = json.dumps([[run.id for run in found], wanted, smooth])
    return folder / f"{hashlib.sha256(what.encode()).hexdigest()[:12]}.png"


async def _draw(app: App, asked: dict[str, Any], run_id: str) -> None:
    """Have `drawing.py` draw, in a child of our own Python; errors tell of run `run_id`."""
    numbers = f"tail_metrics(run_id={run_id!r}) has the curve as numbers"
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
    environment = {**kept, "MPLCONFIGDIR": str(app.home.cache / "matplotlib"), "OMP_NUM_THREADS": "1"}
    work = partial(
        anyio.run_process,
        [sys.executable, "-P", "-m", f"{__package__}.drawing"],
        input=json.dumps(asked).encode(),
        stdout=subprocess.DEVNULL,
        check=False,
        env=environment,
        cwd=str(app.home.cache),
    )
    try:
        with anyio.fail_after(_SECONDS):
            done = await work()
    except TimeoutError:
        raise LimitError(
            "timed_out",
            f"The picture was not drawn within {_SECONDS:.0f} s.",
            next_step=f"Call plot_metrics again with fewer runs or metrics; {numbers}.",
        ) from None
    if done.returncode != 0:
        said = quote(done.stderr.decode(errors="replace").strip().rpartition("\n")[2], 300)
        raise EnvironmentFault(
            "package_missing",
            f"The picture could not be drawn: {said or 'matplotlib gave no reason'}",
            next_step=f"{numbers}; install model-trainer again if matplotlib is missing.",
        )


def _short(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.4g}"
