"""What a loss curve says, from its pieces, and whether a live run still moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Literal

from ...trainer.pyramid import Bucket, Stat

Verdict = Literal["falling", "flat", "rising", "non_finite", "too_early", "stalled"]

#: Loss rows below which nothing is said.
_ENOUGH = 8

#: Seconds without a row below which no run is called stalled, and how many of its usual intervals must have passed.
STALL_SECONDS = 600.0
_STALL_INTERVALS = 20


def judge(pieces: Sequence[Stat]) -> tuple[Verdict, str]:
    """Where the loss goes, by the means of its quarters.

    Rising: the last quarter lies above the best one before it, by 1 % and three standard errors; falling: below the
    first by two. Standard errors are those of independent rows.
    """
    rows = sum(piece.count for piece in pieces)
    if any(piece.bad for piece in pieces):
        return "non_finite", "the loss has NaN or infinity"
    if rows < _ENOUGH:
        return "too_early", f"{rows} loss rows; {_ENOUGH} are needed to say"
    quarters = [merged(part) for part in stretches(pieces, 4)]
    if len(quarters) < 4:
        return "too_early", "the rows can't be told apart into quarters"
    first, third, last = quarters[0], quarters[2], quarters[3]
    best = min(quarters[:3], key=lambda quarter: quarter.mean)
    words = f"mean of the first quarter {first.mean:.4g}, of the last {last.mean:.4g}"
    if last.mean - best.mean > max(3 * _error(best, last), 0.01 * abs(best.mean)):
        return "rising", words if best is first else f"{words}, after {best.mean:.4g} up to step {best.last_step}"
    if first.mean - last.mean > max(2 * _error(first, last), 1e-4 * abs(first.mean)):
        still = third.mean - last.mean > max(2 * _error(third, last), 1e-4 * abs(third.mean))
        return "falling", words if still else f"{words}; the last two quarters hardly differ"
    return "flat", words


def stretches(pieces: Sequence[Stat], count: int) -> list[list[Stat]]:
    """The pieces in at most `count` stretches of about as many values each; a piece is never split."""
    values = sum(piece.count + piece.bad for piece in pieces)
    parts: list[list[Stat]] = [[] for _ in range(count)]
    done = 0
    for piece in pieces:
        # By the middle of the piece, so that both its neighbours bear the error.
        middle = done + (piece.count + piece.bad) / 2
        parts[min(count - 1, int(middle * count / values))].append(piece)
        done += piece.count + piece.bad
    return [part for part in parts if part]


def merged(pieces: Sequence[Stat]) -> Stat:
    """All pieces as one."""
    whole = Stat()
    for piece in pieces:
        whole.merge(piece)
    return whole


def stalled(
    pieces: Sequence[Bucket], moved: datetime | None, now: datetime, *, silent: float | None = None
) -> str | None:
    """Why a live run seems to stand still, or None.

    No row and no step for ten minutes and 20 times the usual interval between rows. `silent` is how many seconds ago
    the trainer last told a step, by the clock that never jumps; without it the wall clock decides, by the last row and
    by when a step was told (`moved`). The usual interval is a median, which a single jump of the wall clock leaves.
    """
    times = [parsed for piece in pieces[-64:] if (parsed := _time(piece.times[1])) is not None]
    if len(times) < 2:
        return None
    gaps = [
        (later - earlier).total_seconds() / piece.rows
        for (earlier, later), piece in zip(pairwise(times), pieces[-len(times) + 1 :], strict=True)
    ]
    usual = median(gaps)
    quiet = silent if silent is not None else (now - max(times[-1], moved or times[-1])).total_seconds()
    if quiet <= max(STALL_SECONDS, _STALL_INTERVALS * usual):
        return None
    return (
        f"no row and no step for {quiet / 60:.0f} min, rows came every {usual:.1f} s; a long evaluation looks the same"
    )


def _time(text: str) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else None


def _error(one: Stat, other: Stat) -> float:
    """Standard error of the difference of two means."""
    return math.sqrt(sum(part.deviation / max(1, part.count - 1) / part.count for part in (one, other)))
