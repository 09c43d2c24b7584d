"""The curve of a run over its attempts and the runs that it resumed: of each step the newest row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...executors.errors import RunError, StateError
from ...executors.paths import RunPaths
from ...trainer.pyramid import Bucket
from ..app import App
from . import life as runs
from . import metric_rows
from .metric_rows import Reading

#: How many resumed runs are followed back.
_GENERATIONS = 20


@dataclass(frozen=True)
class Curve:
    """What the newest attempt wrote, and what stood before it."""

    own: Reading
    """The newest attempt's rows: cursors are of its file."""
    former: tuple[Bucket, ...] = ()
    """Rows of former attempts and resumed runs, of steps before the own ones."""
    from_parents: int = 0

    @property
    def pieces(self) -> list[Bucket]:
        return [*self.former, *self.own.pieces]


def read(app: App, run: RunPaths, *, live: bool, pieces: int = metric_rows.PIECES, with_parents: bool = True) -> Curve:
    """The run's rows in a bounded number of pieces; those of the runs that it resumed only `with_parents`.

    A former attempt, or the run that was resumed, counts up to the first step of what went on from it: what it did
    beyond its checkpoint was thrown away. A resumed run without a row of its own has no curve yet.
    """
    own = metric_rows.read(run.latest_attempt().metrics, live=live, pieces=pieces)
    before = own.pieces[0].steps[0] if own.pieces else None
    former: list[list[Bucket]] = []
    from_parents = 0
    for of_parent, path in _older(app, run):
        if of_parent and (before is None or not with_parents):
            break
        found = metric_rows.read(path, live=False, before=before, pieces=pieces)
        if found.pieces:
            before = found.pieces[0].steps[0]
            former.append(found.pieces)
            from_parents += found.rows if of_parent else 0
    return Curve(own, tuple(piece for part in reversed(former) for piece in part), from_parents)


def _older(app: App, run: RunPaths) -> Iterator[tuple[bool, Path]]:
    """Metrics files of former attempts, then of the runs that it resumed, the newest first; whether of a parent."""
    for number in range(run.latest_attempt().number - 1, 0, -1):
        yield False, run.attempt(number).metrics
    for parent in parents(app, run):
        for number in range(parent.latest_attempt().number, 0, -1):
            yield True, parent.attempt(number).metrics


def parents(app: App, run: RunPaths) -> Iterator[RunPaths]:
    """The runs that it resumed, the newest first, as far as they are still here."""
    current = run
    for _ in range(_GENERATIONS):
        parent = (runs.read_record(current.run_json) or {}).get("parent")
        if not isinstance(parent, str):
            return
        try:
            current = app.home.run(parent)
        except (RunError, StateError):
            return
        yield current
