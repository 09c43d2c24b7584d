"""How fast a run can be watched: listing 1,000 runs, and the tail and curve of a million rows of metrics.

All through the services, as a tool calls them; medians of several calls in one process, files in the page cache.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from model_trainer.executors.paths import Home, RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import listing as run_list
from model_trainer.services.runs import metrics
from model_trainer.services.settings import Settings
from model_trainer.trainer import pyramid, records

ROWS = 1_000_000
RUNS = 1_000
CALLS = 15
START = datetime(2026, 1, 1, tzinfo=UTC)

#: Milliseconds.
LISTING_GOAL = 150
TAIL_GOAL = 30


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        home = Home(root=root, runs=root / "runs")
        for path in (home.runs, home.locks):
            path.mkdir()
        app = App(home=home, settings=Settings(), workspace=None)
        measured = anyio.run(_long_run, app) | anyio.run(_listing, app)
    met = measured["tail_of_1e6_rows_ms"] <= TAIL_GOAL and measured["list_page_of_10_ms"] <= LISTING_GOAL
    return {**measured, "goal_tail_ms": TAIL_GOAL, "goal_listing_ms": LISTING_GOAL, "goal_met": met}


async def _long_run(app: App) -> dict[str, Any]:
    run = make_run(app, 0, checkpoints=0)
    path = run.attempt(1).metrics
    write_rows(path, ROWS)
    began = time.perf_counter()
    pyramid.rebuild(path)
    rebuilt = time.perf_counter() - began
    size = path.stat().st_size
    above = sum(file.stat().st_size for file in pyramid.level_file(path, 0).parent.iterdir())
    first = await metrics.tail(app, run.id, cursor=None)
    assert first.rows == ROWS
    assert first.nonfinite_rows == 1
    halfway = records.Cursor(path.stat().st_ino, _line_end(path, size // 2)).encode()
    with_pyramid = await _median(lambda: metrics.tail(app, run.id, cursor=None))
    since = await _median(lambda: metrics.tail(app, run.id, cursor=halfway))
    began = time.perf_counter()
    rows, _ = records.read_lines(path)
    plain = time.perf_counter() - began
    assert len(rows) == ROWS
    return {
        "tail_of_1e6_rows_ms": with_pyramid,
        "tail_of_1e6_rows_since_a_cursor_halfway_ms": since,
        "reading_1e6_rows_without_pyramid_ms": round(plain * 1000, 1),
        "rebuilding_the_pyramid_ms": round(rebuilt * 1000, 1),
        "pyramid_bytes_per_metrics_byte": round(above / size, 3),
        "tail_text_characters": len(first.text()),
        "writing_a_row_with_pyramid_us": _writing(run, with_pyramid=True),
        "writing_a_row_without_us": _writing(run, with_pyramid=False),
    }


async def _listing(app: App) -> dict[str, Any]:
    for number in range(1, RUNS):
        make_run(app, number, checkpoints=3)

    async def page(**wanted: Any) -> float:
        given: dict[str, Any] = {"status": None, "kind": "train", "limit": 10, "cursor": None, **wanted}
        return await _median(lambda: run_list.list_runs(app, **given))

    return {
        "list_page_of_10_ms": await page(),
        "list_page_of_50_ms": await page(limit=50),
        "list_failed_of_1000_ms": await page(status="failed"),
    }


def make_run(app: App, number: int, *, checkpoints: int) -> RunPaths:
    """A run folder as an ended run leaves it."""
    at = START + timedelta(minutes=number)
    run = app.home.new_run(f"{at:%Y%m%d-%H%M%S}-sft-{number:05d}")
    run.attempt(1).root.mkdir(parents=True)
    asked = {
        "schema": 1,
        "id": run.id,
        "kind": "train",
        "where": "local",
        "argv": ["/opt/python", "-m", "x", "train"],
        "created": at.isoformat().replace("+00:00", "Z"),
        "config_digest": f"{number:016x}",
        "key": None,
        "request": {"model": "org/model-0.6B", "method": "sft", "config": "/data/config.yaml"},
        "parent": None,
        "versions": dict.fromkeys(("torch", "transformers", "trl", "peft", "datasets", "accelerate"), "1.2.3"),
    }
    records.write_json(run.run_json, asked)
    outcome: dict[str, Any] = {"failed": "oom_gpu"} if number % 10 == 3 else {"succeeded": "planned_end"}
    records.write_json(run.exit_json, {"outcome": outcome, "exit_code": 0, "attempt": 1, "seconds": 12.3})
    run.lock.touch()
    for step in range(checkpoints):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in (
            "adapter_model.safetensors",
            "optimizer.pt",
            "scheduler.pt",
            "manifest.json",
            "trainer_state.json",
        ):
            (folder / name).write_bytes(b"x" * 100)
    return run


def write_rows(path: Path, count: int) -> None:
    """A million log steps of a loss that falls, with one NaN."""
    with open(path, "w", encoding="utf-8") as file:
        for step in range(1, count + 1):
            loss = None if step == 654_321 else round(1.5 + 2 * math.exp(-step / 2e5) + 0.1 * math.sin(step), 4)
            row: dict[str, Any] = {
                "step": step,
                "epoch": round(step / count, 4),
                "at": "2026-01-01T00:00:00.000Z",
                "loss": loss,
                "grad_norm": 1.25,
                "learning_rate": 2e-4,
                "num_tokens": step * 512.0,
                "mean_token_accuracy": 0.71,
            }
            if loss is None:
                row["nonfinite"] = ["loss"]
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def _line_end(path: Path, offset: int) -> int:
    with open(path, "rb") as file:
        file.seek(offset)
        file.readline()
        return file.tell()


def _writing(run: RunPaths, *, with_pyramid: bool) -> float:
    """Microseconds for a row, over 5,000 of them."""
    folder = run.root / "writing"
    folder.mkdir()
    path = folder / "metrics.jsonl"
    writer = pyramid.MetricsWriter(path)
    began = time.perf_counter()
    for step in range(5000):
        row = {
            "step": step,
            "epoch": 0.1,
            "at": "2026-01-01T00:00:00.000Z",
            "loss": 1.5,
            "grad_norm": 2.0,
            "entropy": 1.1,
        }
        if with_pyramid:
            writer.append(row)
        else:
            records.append_line(path, row)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return round(seconds / 5000 * 1e6, 1)


async def _median(call: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    taken: list[float] = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken) * 1000, 1)
