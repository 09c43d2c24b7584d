"""Which runs there are, and how one stands, in few words."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from programs import program, start, supervisor_of, until_dead, until_status

from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import life
from model_trainer.services.runs import listing as run_list
from model_trainer.services.runs import view as run_view
from model_trainer.services.runs.kept import Kept
from model_trainer.services.runs.listing import RunList
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio

SERVE = "from model_trainer.server.cli import main; main(['serve'])"


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


async def test_what_changed_since_the_last_list_is_told_by_the_next(app: App):
    """Records are kept in the process: never beyond the file that they were read from."""
    good = make_run(app, 1, outcome={"succeeded": "planned_end"})
    damaged = make_run(app, 2, outcome={"succeeded": "planned_end"})
    pruned = make_run(app, 3, outcome={"failed": "oom_gpu"}, key="a key")
    before = await listed(app)
    assert [run.run_id for run in before.runs] == [pruned.id, damaged.id, good.id]
    assert life.find_by_key(app, "a key", "train") == pruned

    shutil.rmtree(pruned.root)
    text = damaged.run_json.read_text(encoding="utf-8")
    damaged.run_json.write_text("{", encoding="utf-8")
    records.write_json(good.exit_json, {"outcome": {"failed": "disk_full"}})
    after = await listed(app)
    assert [(run.run_id, run.reason) for run in after.runs] == [(good.id, "disk_full")]
    assert [after.damaged, after.total] == [[damaged.id], 1]
    assert [run.run_id for run in (await listed(app, status="failed")).runs] == [good.id]
    assert life.find_by_key(app, "a key", "train") is None

    damaged.run_json.write_text(text, encoding="utf-8")
    new = make_run(app, 4, outcome={"cancelled": "request"}, key="a key")
    mended = await listed(app)
    assert [run.run_id for run in mended.runs] == [new.id, damaged.id, good.id]
    assert mended.damaged == []
    assert life.find_by_key(app, "a key", "train") == new


async def test_a_run_that_goes_on_after_its_end_was_taken_away_is_looked_at_anew(app: App):
    """Nothing here takes a record away; but what a list says follows the files, not what it said before."""
    run = make_run(app, 1, outcome={"succeeded": "planned_end"})
    assert (await listed(app)).runs[0].status == "succeeded"
    run.exit_json.unlink()
    assert (await listed(app)).runs[0].status == "unreachable"


async def test_a_live_run_is_looked_at_each_time_and_swept_to_lost(app: App, workspace: Path):
    run = await start(app, program(workspace, "exec sleep 60"))
    await until_status(run, "running")
    for _ in range(2):
        assert [line.status for line in (await listed(app, status="live")).runs] == ["running"]
    supervisor = supervisor_of(run)
    os.kill(supervisor, signal.SIGKILL)
    await until_dead(supervisor)
    assert (await listed(app, status="live")).runs == []
    lost = (await listed(app)).runs[0]
    assert [lost.status, lost.reason] == ["lost", "supervisor_killed"]
    assert run.exit_json.exists()


async def test_a_new_run_and_its_end_are_in_the_next_list_of_every_server(app: App):
    environment = {**os.environ, "MODEL_TRAINER_STATE": str(app.home.root)}
    command = StdioServerParameters(command=sys.executable, args=["-c", SERVE], env=environment)
    async with Client(stdio_client(command)) as one, Client(stdio_client(command)) as other:

        async def seen() -> list[list[tuple[str, str]]]:
            answers = [(await client.call_tool("list_runs", {})).structured_content for client in (one, other)]
            return [[(line["run_id"], line["status"]) for line in (answer or {})["runs"]] for answer in answers]

        first = make_run(app, 1, outcome={"succeeded": "planned_end"})
        assert await seen() == [[(first.id, "succeeded")]] * 2
        second = make_run(app, 2, outcome={"succeeded": "planned_end"})
        assert await seen() == [[(second.id, "succeeded"), (first.id, "succeeded")]] * 2
        records.write_json(first.exit_json, {"outcome": {"cancelled": "request"}})
        shutil.rmtree(second.root)
        assert await seen() == [[(first.id, "cancelled")]] * 2


async def test_the_code_of_an_ended_run_is_counted_once_and_the_rest_each_time(app: App):
    run = make_run(app, 1, outcome={"succeeded": "planned_end"})
    run.code.mkdir()
    (run.code / "module.py").write_bytes(b"x" * 1000)
    before = (await listed(app)).runs[0].disk_bytes
    run.plots.mkdir()
    (run.plots / "loss.png").write_bytes(b"x" * 500)
    grown = (await listed(app)).runs[0].disk_bytes
    shutil.rmtree(run.code)
    pruned = (await listed(app)).runs[0].disk_bytes
    assert before is not None
    assert [grown, pruned] == [before + 500, before - 500]


async def test_a_page_of_runs_with_too_many_files_still_answers(app: App, monkeypatch: pytest.MonkeyPatch):
    for number in range(4):
        run = make_run(app, number, outcome={"succeeded": "planned_end"})
        for name in range(10):
            (run.root / f"file-{name}").touch()
    monkeypatch.setattr(run_list, "_PAGE_FILES", 30)
    assert [line.disk_bytes is None for line in (await listed(app)).runs] == [False, False, True, True]


def test_kept_values_are_bounded_and_read_again_only_for_another_file(tmp_path: Path):
    read: list[str] = []

    def value(path: Path) -> str:
        read.append(path.name)
        return path.read_text(encoding="utf-8")

    kept = Kept[str](most=2)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name, encoding="utf-8")
        for _ in range(2):
            assert kept.get(str(path), lambda path=path: value(path)) == path.name
    assert [len(kept), read] == [2, ["a", "b", "c"]]
    records.write_json(paths[2], {"c": 1})
    assert json.loads(kept.get(str(paths[2]), lambda: value(paths[2]))) == {"c": 1}
    assert kept.get(str(paths[1]), lambda: value(paths[1])) == "b"
    assert read == ["a", "b", "c", "c"]
    paths[2].unlink()
    assert kept.get(str(paths[2]), lambda: "none") == "none"
    assert len(kept) == 1


def test_of_a_file_that_is_not_there_nothing_is_kept(tmp_path: Path):
    kept = Kept[int]()
    missing = str(tmp_path / "missing")
    assert [kept.get(missing, lambda: 1), kept.get(missing, lambda: 2), len(kept)] == [1, 2, 0]
