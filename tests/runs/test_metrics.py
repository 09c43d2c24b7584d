"""Metrics in a fixed budget."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from counts import times
from doomed_writer import writers

from model_trainer.executors.errors import ArgumentError, RunError
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.result import TEXT_LIMIT
from model_trainer.services.runs import metric_rows, metrics, verdicts
from model_trainer.trainer import pyramid, records
from model_trainer.trainer.pyramid import Bucket, MetricsWriter, Stat

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, tzinfo=UTC)


def make_run(app: App, name: str = "20260101-000000-sft-abcde", **asked: Any) -> RunPaths:
    """A run folder as a launch leaves it, without a process: readers see `lost`."""
    paths = app.home.new_run(name)
    paths.attempt(1).root.mkdir(parents=True)
    records.write_json(paths.run_json, {"schema": 1, "id": paths.id, "kind": "train", "request": {}, **asked})
    return paths


@pytest.fixture
def run(app: App) -> RunPaths:
    return make_run(app)


def make_rows(losses: Sequence[float | None], first: int = 1) -> list[dict[str, Any]]:
    """A row per loss, ten seconds apart, as the trainer writes them."""
    rows: list[dict[str, Any]] = []
    for step, loss in enumerate(losses, start=first):
        at = (START + timedelta(seconds=10 * step)).isoformat().replace("+00:00", "Z")
        row: dict[str, Any] = {"step": step, "epoch": 0.0, "at": at, "loss": loss, "num_tokens": step * 10}
        rows.append(row if loss is not None else {**row, "nonfinite": ["loss"]})
    return rows


def write(path: Path, losses: Sequence[float | None], first: int = 1) -> None:
    """Rows without a pyramid, as a trainer leaves them that could not write one."""
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in make_rows(losses, first))


def stats(losses: Sequence[float | None]) -> list[Stat]:
    """Each loss as a piece of its own."""
    found: list[Stat] = []
    for step, loss in enumerate(losses, start=1):
        stat = Stat()
        stat.add(loss, step)
        found.append(stat)
    return found


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([4.0 - 0.1 * i for i in range(20)], "falling"),
        ([2.0 + 0.1 * i for i in range(20)], "rising"),
        ([4.0 - 0.2 * i for i in range(16)] + [1.0 + 0.2 * i for i in range(8)], "rising"),
        ([2.0 + 0.05 * (-1) ** i for i in range(20)], "flat"),
        ([3.0, 2.0], "too_early"),
        ([3.0, None, 2.0], "non_finite"),
        ([2.0] * 40, "flat"),
        ([2.0 + 1e-5 * i for i in range(400)], "flat"),
    ],
)
def test_the_verdict_follows_the_loss(losses: list[float | None], verdict: str):
    assert verdicts.judge(stats(losses))[0] == verdict


async def test_a_long_run_answers_within_the_ceiling_and_one_nan_is_found(app: App, run: RunPaths):
    losses: list[float | None] = [3.0 + 1.0 / step for step in range(1, 50_001)]
    losses[31_415] = None
    write(run.attempt(1).metrics, losses)
    tail = await metrics.tail(app, run.id, cursor=None)
    assert tail.rows == 50_000
    assert tail.first_nonfinite_step == 31_416
    assert tail.nonfinite_rows == 1
    assert tail.verdict == "non_finite"
    assert len(tail.loss_curve) == 16
    assert [point.value for point in tail.loss_curve].count(None) == 1
    assert tail.metrics[0].maximum == 4.0
    assert tail.metrics[0].minimum == 3.0 + 1.0 / 50_000
    assert len(tail.text()) < 1600 < TEXT_LIMIT
    assert len(tail.model_dump_json()) < 4000


@pytest.mark.parametrize("count", [1, 31, 32, 33, 255, 256, 257, 511, 512, 3000, 17_000])
def test_the_pyramid_says_what_the_rows_say(run: RunPaths, count: int):
    path = run.attempt(1).metrics
    rows = make_rows([None if step % 997 == 7 else (step * 37 % 101) / 7 for step in range(count)])
    writer = MetricsWriter(path)
    for row in rows:
        writer.append(row)
    reading = metric_rows.read(path, live=True)
    whole = Bucket()
    for piece in reading.pieces:
        whole.merge(piece)
    finite = [row["loss"] for row in rows if row["loss"] is not None]
    loss = whole.stats["loss"]
    assert reading.rows == count
    assert whole.steps == (1, count)
    assert len(reading.pieces) < (count if count < 32 * metric_rows.PIECES else 8 * metric_rows.PIECES) + 100
    assert (loss.count, loss.bad, loss.least, loss.greatest) == (
        len(finite),
        count - len(finite),
        min(finite, default=None),
        max(finite, default=None),
    )
    assert loss.mean == pytest.approx(sum(finite) / max(1, len(finite)))
    assert loss.first_bad == next((row["step"] for row in rows if row["loss"] is None), None)
    assert reading.cursor.offset == path.stat().st_size
    assert [piece.start for piece in reading.pieces[1:]] == [piece.end for piece in reading.pieces[:-1]]


def test_a_reader_rebuilds_what_the_trainer_would_have_written(run: RunPaths):
    path = run.attempt(1).metrics
    writer = MetricsWriter(path)
    for row in make_rows([3.0 - step / 1000 for step in range(700)]):
        writer.append(row)
    folder = pyramid.level_file(path, 0).parent
    written = {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.rmtree(folder)
    assert metric_rows.read(path, live=True).rows == 700
    assert not folder.exists()  # somebody may still write: nobody else does
    assert metric_rows.read(path, live=False).rows == 700
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == written


def test_a_pyramid_that_lags_or_belongs_to_another_file_is_not_trusted(run: RunPaths, tmp_path: Path):
    path = run.attempt(1).metrics
    writer = MetricsWriter(path)
    for row in make_rows([3.0] * 100):
        writer.append(row)
    write(path, [2.0] * 200, first=101)
    assert metric_rows.read(path, live=True).pieces[-1].stats["loss"].last == 2.0
    assert metric_rows.read(path, live=False).rows == 300
    (tmp_path / "keep").hardlink_to(path)  # so that the inode isn't reused
    path.unlink()
    write(path, [1.0] * 90)
    reading = metric_rows.read(path, live=False)
    assert reading.rows == 90
    assert {piece.stats["loss"].greatest for piece in reading.pieces} == {1.0}
    path.write_bytes(path.read_bytes()[:2000])
    assert metric_rows.read(path, live=False).rows < 90


def test_a_reader_beside_a_writer_sees_every_row_once(run: RunPaths):
    path = run.attempt(1).metrics
    rows = make_rows([3.0] * 6000)

    def work() -> None:
        writer = MetricsWriter(path)
        for row in rows:
            writer.append(row)

    thread = threading.Thread(target=work)
    thread.start()
    seen: list[int] = []
    while thread.is_alive() or not seen or seen[-1] < len(rows):
        reading = metric_rows.read(path, live=True)
        seen.append(reading.rows)
        places = [0, *(piece.end for piece in reading.pieces)]
        assert [piece.start for piece in reading.pieces] == places[:-1]
        assert places[-1] == reading.cursor.offset
        assert reading.rows == (reading.pieces[-1].steps[1] if reading.pieces else 0)
    thread.join()
    assert seen == sorted(seen)


def test_a_full_disk_for_the_pyramid_does_not_lose_a_row(run: RunPaths):
    path = run.attempt(1).metrics
    pyramid.level_file(path, 0).parent.write_text("in the way", encoding="utf-8")
    writer = MetricsWriter(path)
    for row in make_rows([3.0] * 100):
        writer.append(row)
    assert metric_rows.read(path, live=False).rows == 100


@pytest.mark.soak
def test_a_writer_killed_at_random_moments_loses_no_row_that_it_had_written(run: RunPaths):
    path = run.attempt(1).metrics
    certain: list[int] = []
    begun: list[int] = []
    with writers(seed=20261125) as doomed:
        for kill in range(times(15, 150)):
            if kill % 15 == 0:
                path.unlink(missing_ok=True)
                certain.clear()
                begun.clear()
            first = kill * 1000 + 1
            last = doomed.kill_one("metrics", path, first, most=60)
            certain += range(first, last + 1)
            begun += range(first, last + 2)
            rows, _ = records.read_lines(path)
            steps = [row["step"] for row in rows]
            # Each once and in order; beside what was acknowledged at most the row that was just being written.
            assert steps == sorted(set(steps))
            assert set(certain) <= set(steps) <= set(begun)
            reading = metric_rows.read(path, live=True)
            assert (reading.rows, reading.pieces[-1].steps[1] if steps else None) == (
                len(steps),
                steps[-1] if steps else None,
            )
            check_pyramid(path)
            if kill % 15 == 14:
                assert metric_rows.read(path, live=False).rows == len(steps)
                records.append_line(path, {"step": 10**6, "loss": 1.0})
                assert records.read_lines(path)[0] == [*rows, {"step": 10**6, "loss": 1.0}]


def check_pyramid(path: Path) -> None:
    """The levels, up to a torn last line, are what a reader would make of the rows."""
    levels = [pyramid.level_file(path, level) for level in range(pyramid.LEVELS)]
    written = [file.read_bytes() if file.exists() else b"" for file in levels]
    twin = path.with_name("twin") / path.name
    twin.parent.mkdir(exist_ok=True)
    twin.unlink(missing_ok=True)
    twin.hardlink_to(path)
    pyramid.rebuild(twin)
    for level, data in enumerate(written):
        whole = data[: data.rfind(b"\n") + 1]
        assert pyramid.level_file(twin, level).read_bytes().startswith(whole)


async def test_a_cursor_gives_only_what_is_new_and_a_torn_line_waits(app: App, run: RunPaths):
    write(run.attempt(1).metrics, [3.0, 2.9])
    first = await metrics.tail(app, run.id, cursor=None)
    path = run.attempt(1).metrics
    path.write_bytes(path.read_bytes() + b'{"step": 3, "loss": 2')
    torn = await metrics.tail(app, run.id, cursor=first.cursor)
    assert torn.rows == 0
    records.append_line(run.attempt(1).metrics, {"step": 4, "loss": 2.7})
    healed = await metrics.tail(app, run.id, cursor=torn.cursor)
    assert [healed.rows, healed.last_step] == [1, 4]


async def test_a_cursor_in_the_middle_of_buckets_gives_exactly_the_rows_behind_it(app: App, run: RunPaths):
    write(run.attempt(1).metrics, [3.0] * 1000)
    cursor = (await metrics.tail(app, run.id, cursor=None)).cursor
    write(run.attempt(1).metrics, [2.0] * 3000, first=1001)
    tail = await metrics.tail(app, run.id, cursor=cursor)
    assert tail.rows == 3000
    assert tail.metrics[0].maximum == 2.0


async def test_a_cursor_of_a_replaced_file_starts_again(app: App, run: RunPaths, tmp_path: Path):
    write(run.attempt(1).metrics, [3.0] * 10)
    cursor = (await metrics.tail(app, run.id, cursor=None)).cursor
    (tmp_path / "keep").hardlink_to(run.attempt(1).metrics)  # so that the inode isn't reused
    run.attempt(1).metrics.unlink()
    write(run.attempt(1).metrics, [2.0] * 3)
    assert (await metrics.tail(app, run.id, cursor=cursor)).rows == 3


async def test_a_cursor_behind_the_end_of_a_shortened_file_starts_again(app: App, run: RunPaths):
    path = run.attempt(1).metrics
    write(path, [3.0] * 100)
    cursor = (await metrics.tail(app, run.id, cursor=None)).cursor
    os.truncate(path, len(path.read_bytes()[:3000].rpartition(b"\n")[0]) + 1)
    left = len(records.read_lines(path)[0])
    assert (await metrics.tail(app, run.id, cursor=cursor)).rows == left
    write(path, [2.0] * 2, first=200)
    tail = await metrics.tail(app, run.id, cursor=cursor)
    assert (tail.rows, tail.last_step) == (left + 2, 201)


async def test_of_each_step_the_newest_attempts_row_counts(app: App, run: RunPaths):
    write(run.attempt(1).metrics, [3.0] * 300)
    run.attempt(2).root.mkdir()
    write(run.attempt(2).metrics, [2.0] * 20, first=101)
    tail = await metrics.tail(app, run.id, cursor=None)
    assert (tail.rows, tail.last_step) == (120, 120)
    assert tail.verdict == "falling"
    assert (await metrics.tail(app, run.id, cursor=tail.cursor)).rows == 0


async def test_a_resumed_run_shows_its_parents_rows_up_to_where_it_went_on(app: App, run: RunPaths):
    write(run.attempt(1).metrics, [3.0] * 50)
    child = make_run(app, "20260102-000000-sft-child", parent=run.id)
    assert (await metrics.tail(app, child.id, cursor=None)).rows == 0
    write(child.attempt(1).metrics, [2.0] * 20, first=41)
    tail = await metrics.tail(app, child.id, cursor=None)
    assert (tail.rows, tail.from_parent, tail.last_step) == (60, 40, 60)
    assert "40 rows" in tail.text()


def test_a_live_run_without_rows_for_long_seems_stalled():
    pieces = []
    for row in make_rows([3.0] * 30):
        bucket = Bucket()
        bucket.add(row)
        pieces.append(bucket)
    last = START + timedelta(seconds=300)
    assert verdicts.stalled(pieces, None, last + timedelta(seconds=590)) is None
    why = verdicts.stalled(pieces, None, last + timedelta(seconds=610))
    assert why is not None
    assert "rows came every 10.0 s" in why
    assert verdicts.stalled(pieces, last + timedelta(seconds=500), last + timedelta(seconds=610)) is None
    slow = [piece for index, piece in enumerate(pieces) if index % 10 == 0]  # 100 s apart
    assert verdicts.stalled(slow, None, START + timedelta(seconds=290 + 1900)) is None
    assert verdicts.stalled(slow, None, START + timedelta(seconds=290 + 2100)) is not None


async def test_the_answer_about_a_running_run_says_that_it_seems_stalled(app: App, run: RunPaths):
    write(run.attempt(1).metrics, [3.0 - 0.01 * step for step in range(30)])
    records.append_line(run.events, {"event": "running", "at": "2026-01-01T00:00:00Z"})
    holder = os.open(run.lock, os.O_RDWR | os.O_CREAT)
    try:
        assert records.try_lock(holder)
        tail = await metrics.tail(app, run.id, cursor=None)
        assert tail.status == "running"
        assert tail.verdict == "stalled"
        assert "Stalled: no row" in tail.text()
        run.attempt(1).progress.touch()  # steps go on, they are only not logged
        assert (await metrics.tail(app, run.id, cursor=None)).verdict == "falling"
    finally:
        os.close(holder)


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
