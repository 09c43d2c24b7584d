"""A wall clock that jumps by an hour, both ways: no duration that is shown, or that decides, comes from it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_runs import CANCELLED, SUCCEEDED, made_run
from programs import start, until, until_status, waiting

from model_trainer.executors import host
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import metrics, view
from model_trainer.services.runs.pruning import PruneRequest, plan
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

HOUR = 3600.0
JUMPS = pytest.mark.parametrize("jump", [-HOUR, HOUR])
RUN = "20260101-000001-sft-aaaaa"
Jump = Callable[[float], None]


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Jump:
    """Puts the wall clock forward by so many seconds."""

    def put(seconds: float) -> None:
        def now() -> str:
            at = datetime.now(UTC) + timedelta(seconds=seconds)
            return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

        monkeypatch.setattr(host, "now", now)

    return put


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Jump:
    """Lets so many seconds pass on the clock that never jumps; the wall clock stays."""

    def put(seconds: float) -> None:
        began = host.monotonic()
        monkeypatch.setattr(host, "monotonic", lambda: began + seconds)

    return put


@pytest.fixture
def hold() -> Iterator[Callable[[RunPaths], None]]:
    """Lets a made run live, by all that a reader can see."""
    held: list[int] = []

    def take(run: RunPaths) -> None:
        records.append_line(run.events, {"event": "running", "attempt": 1, "at": host.now()})
        held.append(os.open(run.lock, os.O_RDWR | os.O_CREAT))
        assert records.try_lock(held[-1])

    yield take
    for descriptor in held:
        os.close(descriptor)


def clock(at: float, boot: str | None = None) -> dict[str, Any]:
    return {"boot": boot or host.boot_id(), "at": at}


@JUMPS
async def test_a_jump_of_the_wall_clock_changes_no_elapsed_time(
    app: App, workspace: Path, wall: Jump, jump: float
) -> None:
    run = await start(app, waiting(workspace))
    await until(run, "running")
    asked = json.loads(run.run_json.read_text(encoding="utf-8"))
    assert asked["clock"]["boot"] == host.boot_id()
    assert asked["clock"]["at"] <= host.monotonic()
    wall(jump)
    seen = (await view.get(app, run.id)).elapsed_seconds
    assert seen is not None
    assert 0 <= seen < HOUR / 2
    (workspace / "go").touch()
    await until_status(run, "succeeded")
    whole = (await view.get(app, run.id)).elapsed_seconds
    assert whole is not None
    assert 0 < whole < HOUR / 2


async def test_elapsed_time_is_counted_by_the_clock_that_never_jumps(app: App, later: Jump, hold: Any) -> None:
    run = made_run(app, RUN, None, clock=clock(host.monotonic()), created=host.now())
    hold(run)
    later(90.0)
    seen = (await view.get(app, run.id)).elapsed_seconds
    assert seen is not None
    assert 90 <= seen < HOUR / 2


@pytest.mark.parametrize(
    ("created", "told", "least", "most"),
    [
        (-HOUR, None, HOUR, HOUR + 600),
        (HOUR, None, 0, 0),
        (-HOUR, clock(0.0, "another boot"), HOUR, HOUR + 600),
        (-HOUR, clock(1e12), HOUR, HOUR + 600),
        (-HOUR, {"boot": 5}, HOUR, HOUR + 600),
    ],
)
async def test_a_run_without_a_clock_of_this_boot_has_the_wall_clock(
    app: App, hold: Any, created: float, told: dict[str, Any] | None, least: float, most: float
) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=created)).isoformat()
    run = made_run(app, RUN, None, created=at, clock=told)
    hold(run)
    seen = (await view.get(app, run.id)).elapsed_seconds
    assert seen is not None
    assert least <= seen <= most


@JUMPS
async def test_the_same_config_again_within_ten_minutes_is_an_accident_whatever_the_wall_clock_says(
    app: App, wall: Jump, later: Jump, jump: float
) -> None:
    made_run(app, RUN, CANCELLED, config_digest="d", created=host.now(), clock=clock(host.monotonic()))
    wall(jump)
    found = runs.find_same_config(app, "d")
    assert found is not None
    assert found.id == RUN
    later(runs.SAME_CONFIG_SECONDS + 1)
    assert runs.find_same_config(app, "d") is None


@pytest.mark.parametrize(
    ("created", "counts"),
    [(-HOUR, False), (-60.0, True), (60.0, True), (HOUR, False)],
)
async def test_a_former_versions_run_of_an_hour_ahead_did_not_just_begin(
    app: App, created: float, counts: bool
) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=created)).isoformat()
    made_run(app, RUN, CANCELLED, config_digest="d", created=at)
    assert (runs.find_same_config(app, "d") is not None) is counts


@JUMPS
async def test_a_jump_of_the_wall_clock_makes_no_run_seem_stalled(
    app: App, wall: Jump, later: Jump, hold: Any, jump: float
) -> None:
    run = made_run(app, RUN, None)
    hold(run)
    start = datetime.now(UTC)
    for step in range(1, 31):
        # Rows before and after the jump.
        at = start + timedelta(seconds=10 * step - 300 + (jump if step > 20 else 0))
        records.append_line(run.attempt(1).metrics, {"step": step, "at": at.isoformat(), "loss": 4.0 / step})
    said = {"done": 30, "total": 100, "message": "step 30", "clock": host.monotonic()}
    records.write_json(run.attempt(1).progress, said)
    wall(jump)
    assert (await metrics.tail(app, run.id, cursor=None)).verdict == "falling"
    wall(0.0)
    assert (await metrics.tail(app, run.id, cursor=None)).verdict == "falling"
    later(700.0)
    told = await metrics.tail(app, run.id, cursor=None)
    assert told.verdict == "stalled"
    assert "no row and no step for 12 min, rows came every 10.0 s" in told.why


async def test_progress_without_a_clock_is_judged_by_its_rows(app: App, wall: Jump, hold: Any) -> None:
    run = made_run(app, RUN, None, rows=30)  # rows of a long time ago
    hold(run)
    assert (await metrics.tail(app, run.id, cursor=None)).verdict == "stalled"
    records.write_json(run.attempt(1).progress, {"done": 30, "total": 100, "message": "step 30"})
    assert (await metrics.tail(app, run.id, cursor=None)).verdict == "falling", "it told a step just now"


async def test_a_run_that_ended_in_the_future_is_not_old(app: App, wall: Jump) -> None:
    made_run(app, RUN, SUCCEEDED, checkpoint=3)
    record = {"outcome": SUCCEEDED, "exit_code": 0, "at": host.now(), "seconds": 60.0}
    records.write_json(app.home.new_run(RUN).exit_json, record)
    wall(-HOUR)
    assert plan(app, PruneRequest(older_than_days=0.01)).doomed == []
    assert [one.run.id for one in plan(app, PruneRequest(run_ids=(RUN,))).doomed] == [RUN]
