"""Curves as a picture."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest

from model_trainer.executors.errors import ArgumentError, RunError
from model_trainer.executors.paths import RunPaths
from model_trainer.server.strict import strict_tool
from model_trainer.services.app import App
from model_trainer.services.runs import plotting
from model_trainer.tools.plot_metrics import plot_metrics
from model_trainer.tools.spec import ToolSpec
from model_trainer.trainer import records
from model_trainer.trainer.pyramid import MetricsWriter

pytestmark = pytest.mark.anyio


def make_run(app: App, name: str, rows: list[dict[str, Any]]) -> RunPaths:
    paths = app.home.new_run(name)
    paths.attempt(1).root.mkdir(parents=True)
    records.write_json(paths.run_json, {"schema": 1, "id": paths.id, "kind": "train", "request": {}})
    writer = MetricsWriter(paths.attempt(1).metrics)
    for row in rows:
        writer.append({"epoch": 0.0, "at": "2026-01-01T00:00:00Z", **row})
    return paths


def make_rows(count: int, *, level: float, bad: int | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, count + 1):
        loss = level + 2 * math.exp(-step / (count / 4)) + 0.08 * math.sin(step * 1.7)
        rate = 2e-4 * math.cos(step / count * 1.55)
        row = {"step": step, "loss": loss, "grad_norm": 1000 * math.exp(-step / (count / 9)), "learning_rate": rate}
        rows.append({**row, "loss": None, "nonfinite": ["loss"]} if step == bad else row)
        if step % (count // 8) == 0:
            rows.append({"step": step, "eval_loss": level + 0.2 + 2 * math.exp(-step / (count / 4))})
    return rows


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height, from the header that a PNG begins with."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


async def test_a_run_is_drawn_small_enough_for_a_chat_and_told_in_numbers_too(app: App):
    run = make_run(app, "20260101-000000-sft-abcde", make_rows(400, level=1.0, bad=250))
    plot = await plotting.plot(app, [run.id], None, smooth=0)
    assert size_of(plot.png) == (900, 500)
    assert len(plot.png) < 150_000
    assert plot.path == str(run.root / "plots" / Path(plot.path).name)
    assert Path(plot.path).read_bytes() == plot.png
    assert [(curve.metric, curve.not_finite) for curve in plot.curves] == [("loss", 1), ("eval_loss", 0)]
    assert "1 not finite" in plot.text()
    assert "png" not in plot.model_dump()
    # The picture of the same call replaces the former one.
    again = await plotting.plot(app, [run.id], None, smooth=0)
    assert again.path == plot.path
    assert len(list(Path(plot.path).parent.iterdir())) == 1


async def test_several_runs_and_metrics_share_one_picture(app: App):
    runs = [
        make_run(
            app, f"2026010{i}-000000-sft-abcd{i}", make_rows(3000, level=1.0 + i / 5, bad=1700 if i == 1 else None)
        )
        for i in range(3)
    ]
    ids = [run.id for run in runs]
    plot = await plotting.plot(app, ids, ["loss", "eval_loss", "grad_norm", "learning_rate"], smooth=0.9)
    assert size_of(plot.png)[0] == 900
    assert len(plot.png) < 150_000
    assert len(plot.curves) == 12
    assert len(plot.text()) < 3000


async def test_a_resumed_run_beside_its_parent_is_drawn_from_where_it_went_on(app: App):
    rows = make_rows(80, level=1.0)
    parent = make_run(app, "20260101-000000-sft-paren", [row for row in rows if row["step"] <= 40])
    child = make_run(app, "20260102-000000-sft-child", [row for row in rows if row["step"] > 40])
    records.write_json(child.run_json, {**(records.read_json(child.run_json) or {}), "parent": parent.id})
    both = await plotting.plot(app, [parent.id, child.id], ["loss"], smooth=0)
    assert both.curves[1].first == rows[next(n for n, row in enumerate(rows) if row["step"] == 41)]["loss"]
    alone = await plotting.plot(app, [child.id], ["loss"], smooth=0)
    assert alone.curves[0].first == rows[0]["loss"]


async def test_a_run_that_lacks_a_metric_is_said_not_hidden(app: App):
    one = make_run(app, "20260101-000000-sft-aaaaa", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.9}])
    two = make_run(app, "20260102-000000-sft-bbbbb", [{"step": 1, "loss": 1.0, "reward": 0.5}])
    plot = await plotting.plot(app, [one.id, two.id], ["reward"], smooth=0)
    assert plot.notes == [f"{one.id} has no reward."]


async def test_an_unknown_metric_names_the_nearest_and_what_is_there(app: App):
    run = make_run(app, "20260101-000000-sft-abcde", make_rows(16, level=1.0))
    with pytest.raises(ArgumentError) as caught:
        await plotting.plot(app, [run.id], ["evalloss"], smooth=0)
    assert "'eval_loss'" in caught.value.message
    assert "grad_norm" in caught.value.message
    assert run.id in caught.value.next_step


async def test_a_run_without_metrics_is_told_to_wait(app: App):
    run = make_run(app, "20260101-000000-sft-abcde", [])
    with pytest.raises(RunError) as caught:
        await plotting.plot(app, [run.id], None, smooth=0)
    assert caught.value.code == "no_metrics"
    assert run.id in caught.value.next_step


async def test_clients_get_the_picture_beside_the_text(app: App):
    run = make_run(app, "20260101-000000-sft-abcde", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.9}])
    plot = await plotting.plot(app, [run.id], None, smooth=0)
    tool = strict_tool(ToolSpec(plot_metrics, "Plot metrics", read_only=True))
    answer = tool.fn_metadata.convert_result(plot).model_dump(mode="json", by_alias=True)
    assert [part["type"] for part in answer["content"]] == ["text", "image"]
    assert answer["content"][1]["mimeType"] == "image/png"
    assert plot.path in answer["content"][0]["text"]
    assert "png" not in answer["structuredContent"]
