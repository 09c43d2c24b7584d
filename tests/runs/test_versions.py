"""Runs of other versions: former ones read whatever their outcome, newer ones are named and left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made_runs import SUCCEEDED, made_run
from programs import start, until_status, waiting

from model_trainer.executors import states
from model_trainer.executors.errors import RunError, StateError
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing, logs, metrics, resuming, view
from model_trainer.services.runs.pruning import PruneRequest, plan
from model_trainer.trainer.contract import SCHEMA_VERSION

pytestmark = pytest.mark.anyio

OLD = Path(__file__).parent / "old_endings"
FAILED, LOST, CANCELLED = "20261125-084338-sft-gzu38", "20261125-084338-sft-99qpl", "20261125-084339-sft-oi4sc"
GOOD, NEWER = "20260101-000001-sft-aaaaa", "20260101-000002-sft-bbbbb"


@pytest.fixture(params=sorted(folder.name for folder in OLD.iterdir()))
def old(app: App, request: pytest.FixtureRequest) -> App:
    """A state folder as that version left it."""
    shutil.copytree(OLD / request.param, app.home.runs, dirs_exist_ok=True)
    for run in (FAILED, LOST, CANCELLED):
        app.home.new_run(run).lock.touch()
    return app


async def test_former_versions_runs_read_whatever_their_outcome(old: App) -> None:
    failed = await view.get(old, FAILED)
    assert isinstance(failed.state, states.Failed)
    assert (failed.state.reason, failed.log_tail) == ("oom_gpu", "torch.OutOfMemoryError: CUDA out of memory.")
    assert failed.elapsed_seconds is not None
    assert (await metrics.tail(old, FAILED, cursor=None)).verdict == "falling"
    lost = old.home.new_run(LOST)
    assert not lost.exit_json.exists()
    assert (await view.get(old, LOST)).state == states.Lost(reason="reboot")
    assert lost.exit_json.exists(), "recorded by the first reader"
    told = await metrics.tail(old, LOST, cursor=None)
    assert (told.rows, told.last_step) == (12, 12)
    cancelled = await view.get(old, CANCELLED)
    assert (cancelled.state, cancelled.attempt, cancelled.progress) == (states.Cancelled(), 1, None)
    assert (await logs.tail(old, CANCELLED, cursor=None, lines=5, grep=None, attempt=None)).lines == []
    assert (await metrics.tail(old, CANCELLED, cursor=None)).rows == 0


async def test_former_versions_runs_are_listed_and_can_be_pruned(old: App) -> None:
    wanted: list[tuple[listing.Status, str]] = [("failed", FAILED), ("lost", LOST), ("cancelled", CANCELLED)]
    for status, run_id in wanted:
        page = await listing.list_runs(old, status=status, kind="train", limit=5, cursor=None)
        assert [line.run_id for line in page.runs] == [run_id]
    whole = plan(old, PruneRequest(run_ids=(FAILED, LOST, CANCELLED), what="run"))
    assert {one.run.id for one in whole.doomed} == {FAILED, LOST, CANCELLED}


@pytest.mark.parametrize("run_id", [FAILED, LOST, CANCELLED])
async def test_former_versions_runs_without_a_checkpoint_are_not_resumed(old: App, run_id: str) -> None:
    with pytest.raises(RunError) as caught:
        await resuming.resume(old, resuming.ResumeRequest(run_id))
    assert caught.value.code == "no_checkpoint"
    assert run_id in caught.value.message


def make_newer(run: RunPaths) -> bytes:
    record = json.loads(run.run_json.read_text(encoding="utf-8"))
    run.run_json.write_text(json.dumps({**record, "schema": SCHEMA_VERSION + 1}), encoding="utf-8")
    return run.run_json.read_bytes()


async def test_a_newer_versions_run_is_named_refused_and_left_alone(app: App) -> None:
    made_run(app, GOOD, SUCCEEDED)
    newer = made_run(app, NEWER, None, rows=3, key="a key", config_digest="a digest")
    before = make_newer(newer)
    listed = await listing.list_runs(app, status=None, kind="all", limit=10, cursor=None)
    assert ([line.run_id for line in listed.runs], listed.damaged) == ([GOOD], [NEWER])
    assert f"of a newer version (get_run says which): {NEWER}" in listed.text()
    assert (await listing.list_runs(app, status="lost", kind="all", limit=10, cursor=None)).runs == []
    with pytest.raises(StateError) as caught:
        app.home.run(NEWER)
    assert caught.value.code == "newer_schema"
    assert NEWER in caught.value.message
    assert "Update Model Trainer" in caught.value.next_step
    with pytest.raises(StateError):
        runs.asked(newer)
    shown = plan(app, PruneRequest(older_than_days=0, what="run"))
    assert [one.run.id for one in shown.doomed] == [GOOD]
    assert shown.kept == {"a newer version made it": [NEWER]}
    with pytest.raises(StateError):
        plan(app, PruneRequest(run_ids=(NEWER,)))
    assert newer.run_json.read_bytes() == before
    assert not newer.exit_json.exists(), "it was not called lost, and its processes were let live"


async def test_a_newer_versions_run_that_lives_goes_on(app: App, workspace: Path) -> None:
    run = await start(app, waiting(workspace))
    make_newer(run)
    with pytest.raises(StateError):
        await view.get(app, run.id)
    assert (await listing.list_runs(app, status=None, kind="all", limit=10, cursor=None)).damaged == [run.id]
    (workspace / "go").touch()
    await until_status(run, "succeeded")
