"""Metrics in a fixed budget."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_trainer.executors.errors import ArgumentError, RunError
from model_trainer.executors.paths import RunPaths
from model_trainer.services import metrics
from model_trainer.services.app import App
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


@pytest.fixture
def run(app: App) -> RunPaths:
    """A run folder as a launch leaves it, without a process: readers see `lost`."""
    paths = app.home.new_run("20260101-000000-sft-abcde")
    paths.attempt(1).root.mkdir(parents=True)
    records.write_json(paths.run_json, {"schema": 1, "id": paths.id, "kind": "train", "request": {}})
    return paths


def write(run: RunPaths, losses: list[float | None]) -> None:
    with open(run.attempt(1).metrics, "a", encoding="utf-8") as file:
        for step, loss in enumerate(losses, start=1):
            row = {"step": step, "epoch": 0.0, "at": "2026-01-01T00:00:00Z", "loss": loss}
            file.write(json.dumps(row if loss is not None else {**row, "nonfinite": ["loss"]}) + "\n")


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([4.0 - 0.1 * i for i in range(20)], "falling"),
        ([2.0 + 0.1 * i for i in range(20)], "rising"),
        ([2.0 + 0.05 * (-1) ** i for i in range(20)], "flat"),
        ([3.0, 2.0], "too_early"),
        ([3.0, None, 2.0], "non_finite"),
        ([2.0] * 40, "flat"),
    ],
)
def test_the_verdict_follows_the_loss(losses: list[float | None], verdict: str):
    assert metrics.judge(losses)[0] == verdict


async def test_a_long_run_answers_within_the_ceiling_and_one_nan_is_found(app: App, run: RunPaths):
    losses: list[float | None] = [3.0 + 1.0 / step for step in range(1, 50_001)]
    losses[31_415] = None
    write(run, losses)
    tail = await metrics.tail(app, run.id, cursor=None)
    assert tail.rows == 50_000
    assert tail.first_nonfinite_step == 31_416
    assert tail.verdict == "non_finite"
    assert len(tail.loss_curve) == 16
    assert [point.value for point in tail.loss_curve].count(None) == 1
    assert len(tail.text()) < 1600 < TEXT_LIMIT
    assert len(tail.model_dump_json()) < 4000


async def test_a_cursor_gives_only_what_is_new_and_a_torn_line_waits(app: App, run: RunPaths):
    write(run, [3.0, 2.9])
    first = await metrics.tail(app, run.id, cursor=None)
    path = run.attempt(1).metrics
    path.write_bytes(path.read_bytes() + b'{"step": 3, "loss": 2')
    torn = await metrics.tail(app, run.id, cursor=first.cursor)
    assert torn.rows == 0
    records.append_line(run.attempt(1).metrics, {"step": 4, "loss": 2.7})
    healed = await metrics.tail(app, run.id, cursor=torn.cursor)
    assert [healed.rows, healed.last_step] == [1, 4]


async def test_a_cursor_of_a_replaced_file_starts_again(app: App, run: RunPaths, tmp_path: Path):
    write(run, [3.0] * 10)
    cursor = (await metrics.tail(app, run.id, cursor=None)).cursor
    (tmp_path / "keep").hardlink_to(run.attempt(1).metrics)  # so that the inode isn't reused
    run.attempt(1).metrics.unlink()
    write(run, [2.0] * 3)
    assert (await metrics.tail(app, run.id, cursor=cursor)).rows == 3


@pytest.mark.parametrize("cursor", ["", "x", "12", "zz-1", "1-", "-1--1"])
async def test_a_cursor_that_is_none_is_refused_with_the_next_step(app: App, run: RunPaths, cursor: str):
    with pytest.raises(ArgumentError) as caught:
        await metrics.tail(app, run.id, cursor=cursor)
    assert caught.value.code == "invalid_arguments"
    assert run.id in caught.value.next_step


async def test_metrics_of_an_unknown_run_are_refused(app: App):
    with pytest.raises(RunError) as caught:
        await metrics.tail(app, "20260101-000000-sft-zzzzz", cursor=None)
    assert caught.value.code == "run_not_found"
