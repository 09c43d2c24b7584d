"""Which runs there are, and how one stands, in few words."""

from __future__ import annotations

import os
from typing import Any

import pytest

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import listing as run_list
from model_trainer.services.runs import view as run_view
from model_trainer.services.runs.listing import RunList
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


def make_run(app: App, number: int, *, outcome: dict[str, Any], method: str = "sft", **asked: Any) -> RunPaths:
    run = app.home.new_run(f"20260101-{number:06d}-{method}-abcde")
    run.attempt(1).root.mkdir(parents=True)
    request = {"method": method, "model": "org/model"}
    record = {"schema": 1, "id": run.id, "kind": "train", "created": "2026-01-01T00:00:00Z", "request": request}
    records.write_json(run.run_json, record | asked)
    records.write_json(run.exit_json, {"outcome": outcome, "exit_code": 0, "seconds": 1.0})
    return run


async def listed(app: App, **wanted: Any) -> RunList:
    given: dict[str, Any] = {"status": None, "kind": "train", "limit": 10, "cursor": None, **wanted}
    return await run_list.list_runs(app, **given)


async def test_runs_are_listed_by_status_kind_and_method_a_page_at_a_time(app: App):
    for number in range(5):
        make_run(app, number, outcome={"succeeded": "planned_end"})
    failed = make_run(app, 5, outcome={"failed": "oom_gpu"})
    other = make_run(app, 6, outcome={"failed": "hung"}, method="dpo")
    inspect = make_run(app, 7, outcome={"cancelled": "request"}, kind="inspect")
    everything = await listed(app, kind="all")
    assert [everything.runs[0].run_id, everything.total] == [inspect.id, 8]
    assert [run.run_id for run in (await listed(app, status="failed")).runs] == [other.id, failed.id]
    assert [run.run_id for run in (await listed(app, status="failed", method="sft")).runs] == [failed.id]
    assert (await listed(app, method="kto")).total == 0
    assert (await listed(app, status="live")).total == 0
    page = await listed(app, limit=3)
    assert page.next_cursor is not None
    rest = await listed(app, cursor=page.next_cursor)
    assert [page.total, len(page.runs), len(rest.runs)] == [7, 3, 4]


async def test_a_runs_disk_use_counts_what_lies_below_and_no_links_target(app: App):
    run = make_run(app, 1, outcome={"succeeded": "planned_end"})
    before = (await listed(app)).runs[0].disk_bytes
    assert before is not None
    checkpoint = run.checkpoints / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").touch()
    os.truncate(checkpoint / "weights", 300_000_000)
    link = run.root / "link"
    link.symlink_to(checkpoint / "weights")
    page = await listed(app)
    assert page.runs[0].disk_bytes == before + 300_000_000 + link.lstat().st_size
    assert "0.3 GB" in page.text()


async def test_a_resumed_run_names_its_parent(app: App):
    parent = make_run(app, 1, outcome={"cancelled": "request"})
    child = make_run(app, 2, outcome={"succeeded": "planned_end"}, parent=parent.id)
    view = await run_view.get(app, child.id)
    assert view.parent == parent.id
    assert parent.id in view.text()
    assert len(view.text()) < 1200
