"""Room is made only from runs that are over, only as it was shown, and a killed pruning is finished."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from counts import times
from made_runs import CANCELLED, SUCCEEDED, failed, made_run, make_checkpoint
from programs import start, until, until_status, waiting

from model_trainer.executors import states, sweeping
from model_trainer.executors.errors import ArgumentError, LimitError, RunError
from model_trainer.executors.locking import holding
from model_trainer.executors.paths import RunPaths
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import logs, metrics, pruning, resuming, view
from model_trainer.services.runs.pruning import PruneRequest, plan, prune
from model_trainer.trainer import records

ALL = PruneRequest(older_than_days=0)
WHOLE = PruneRequest(older_than_days=0, what="run")
#: What a run that is over keeps.
KEPT = {"attempts", "events.jsonl", "exit.json", "output", "run.json"}


def run_id(number: int) -> str:
    return f"20260101-{number:06d}-sft-aaaaa"


def big_run(app: App, number: int, outcome: dict[str, Any] | None = SUCCEEDED, **more: Any) -> RunPaths:
    """A run with all that a real one leaves."""
    run = made_run(app, run_id(number), outcome, rows=12, log="a line\n", output=outcome == SUCCEEDED, **more)
    make_checkpoint(run, 3)
    (run.code / "trainer_snapshot").mkdir(parents=True)
    (run.code / "trainer_snapshot" / "__init__.py").write_text("'''Code.'''\n", encoding="utf-8")
    (run.root / "work").mkdir()
    if run.output.is_dir():
        (run.output / "adapter_model.safetensors").write_bytes(b"weights")
    return run


def ended(run: RunPaths, days: float) -> RunPaths:
    """Let the run have ended so long ago."""
    at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    record = json.loads(run.exit_json.read_text(encoding="utf-8"))
    records.write_json(run.exit_json, {**record, "at": at})
    return run


def doomed(app: App, request: PruneRequest) -> list[str]:
    return [one.run.id for one in plan(app, request).doomed]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_would_go_is_shown_and_nothing_is_touched(app: App) -> None:
    big_run(app, 1)
    before = everything(app.home.root)
    shown = plan(app, ALL)
    [one] = shown.doomed
    assert [name for name, _ in one.parts] == ["checkpoints", "code", "work"]
    assert shown.size == one.size == sum(path.stat().st_size for path in _big(one.run) if path.is_file())
    assert everything(app.home.root) == before


def _big(run: RunPaths) -> list[Path]:
    return [path for folder in (run.checkpoints, run.code) for path in folder.rglob("*")]


@pytest.mark.anyio
async def test_a_pruned_run_keeps_its_output_and_reads_as_before(app: App) -> None:
    run = big_run(app, 1)
    reserved = run.root / ".exit.json.reserved"
    reserved.write_bytes(b" " * 4096)
    seen = await view.get(app, run.id)
    done = prune(app, ALL, plan(app, ALL).digest)
    assert list(done.gone) == [run.id]
    assert done.problems == []
    assert {path.name for path in run.root.iterdir()} == KEPT
    assert (run.output / "adapter_model.safetensors").read_bytes() == b"weights"
    told = await view.get(app, run.id)
    assert told.pruned is not None
    assert told.model_copy(update={"pruned": None}) == seen
    assert f"Its checkpoints were removed on {told.pruned[:10]}" in told.text()
    assert (await metrics.tail(app, run.id, cursor=None)).rows == 12
    assert (await logs.tail(app, run.id, cursor=None, lines=5, grep=None, attempt=None)).lines == ["a line"]
    events, _ = records.read_lines(run.events)
    assert [row["event"] for row in events] == ["starting", "pruned"]
    assert pruning.pruned_at(run) == events[-1]["at"]
    again = plan(app, ALL)
    assert (again.doomed, again.kept) == ([], {"nothing of it is left to remove": [run.id]})


@pytest.mark.anyio
async def test_a_pruned_run_is_not_resumed_and_says_why(app: App) -> None:
    run = big_run(app, 1, CANCELLED, config="method: sft\n")
    prune(app, ALL, plan(app, ALL).digest)
    for checkpoint in (None, 3):
        with pytest.raises(RunError) as caught:
            await resuming.resume(app, resuming.ResumeRequest(run.id, checkpoint=checkpoint))
        assert caught.value.code == "no_checkpoint"
        assert "`model-trainer runs prune` removed them on " in caught.value.message


def test_a_whole_run_goes_with_its_lock(app: App) -> None:
    run, other = big_run(app, 1, failed()), big_run(app, 2)
    request = PruneRequest(run_ids=(run.id,), what="run")
    prune(app, request, plan(app, request).digest)
    assert [path.name for path in app.home.runs.iterdir()] == [other.id]
    assert not run.lock.exists()
    assert other.lock.exists()
    with pytest.raises(RunError):
        app.home.run(run.id)


def test_only_old_runs_of_the_status_go_and_the_newest_stay(app: App) -> None:
    for number, (outcome, days) in enumerate([(SUCCEEDED, 40), (failed(), 40), (CANCELLED, 29), (SUCCEEDED, 1)]):
        ended(big_run(app, number, outcome), days)
    assert doomed(app, PruneRequest()) == [run_id(1), run_id(0)], "30 days, where nothing is said"
    assert doomed(app, PruneRequest(older_than_days=28.5)) == [run_id(2), run_id(1), run_id(0)]
    assert doomed(app, PruneRequest(statuses=("failed", "cancelled"))) == [run_id(1)]
    assert doomed(app, PruneRequest(older_than_days=0, keep=3)) == [run_id(0)]
    assert doomed(app, PruneRequest(run_ids=(run_id(3),))) == [run_id(3)], "a run that is named may be young"
    assert doomed(app, PruneRequest(run_ids=(run_id(3),), older_than_days=7)) == []
    kept = plan(app, PruneRequest(keep=1, statuses=("succeeded",))).kept
    assert kept == {
        "one of the newest 1": [run_id(3)],
        "another status": [run_id(2), run_id(1)],
    }


def test_a_digest_counts_only_for_what_it_was_given_for(app: App) -> None:
    run = big_run(app, 1)
    digest = plan(app, ALL).digest
    for change in (
        lambda: (run.checkpoints / "checkpoint-3" / "more").write_bytes(b"!"),
        lambda: big_run(app, 2),
        lambda: shutil.rmtree(run.code),
    ):
        change()
        before = everything(app.home.runs)
        with pytest.raises(ArgumentError) as caught:
            prune(app, ALL, digest)
        assert "Nothing was removed" in caught.value.message
        assert "without --confirm" in caught.value.next_step
        assert everything(app.home.runs) == before
        digest = plan(app, ALL).digest
    with pytest.raises(ArgumentError):
        prune(app, WHOLE, digest)
    assert len(prune(app, ALL, digest).gone) == 2


@pytest.mark.anyio
async def test_what_lives_or_is_needed_by_what_lives_stays(app: App, workspace: Path) -> None:
    former, base, pushed, before, free = (big_run(app, number, CANCELLED) for number in range(5))
    resumed = {"resume_from": str(former.checkpoints / "checkpoint-3")}
    config = f"model: {{name: {base.output}}}\n"
    living = [
        await start(app, waiting(workspace), parent=former.id, config_text=config),
        await runs.start(app, _launch(workspace, {**resumed, "call": {"run_id": pushed.id}})),
        await start(app, waiting(workspace), after=run_id(9)),
    ]
    waits = await start(app, waiting(workspace), after=living[0].id)
    await until(waits, "queued")
    needs = made_run(app, run_id(8), None, here=False, parent=before.id)
    shown = plan(app, WHOLE)
    # The third one waits for a run that was never there, and is over.
    await until_status(living[2], "failed")
    shown = plan(app, WHOLE)
    assert {one.run.id for one in shown.doomed} == {free.id, living[2].id}
    assert set(shown.kept["not over"]) == {living[0].id, living[1].id, waits.id}
    assert shown.kept["can't be seen from here"] == [needs.id]
    reasons = {one: reason for reason, ids in shown.kept.items() for one in ids}
    assert reasons[former.id] in {f"{living[0].id} needs it", f"{living[1].id} needs it"}
    assert reasons[base.id] == f"{living[0].id} needs it"
    assert reasons[pushed.id] == f"{living[1].id} needs it"
    assert reasons[before.id] == f"{needs.id} needs it"
    prune(app, WHOLE, shown.digest)
    (workspace / "go").touch()
    for run in (living[0], living[1], waits):
        await until_status(run, "succeeded")


def _launch(workspace: Path, request: dict[str, Any]) -> runs.Launch:
    return runs.Launch(kind="train", python=waiting(workspace), label="test", request={"method": "sft", **request})


def test_a_run_that_can_not_be_read_is_named_and_stays(app: App) -> None:
    run = big_run(app, 1)
    run.run_json.write_text("{", encoding="utf-8")
    assert plan(app, WHOLE).kept == {"its record can't be read": [run.id]}
    with pytest.raises(RunError):
        plan(app, PruneRequest(run_ids=(run.id,)))
    with pytest.raises(RunError):
        plan(app, PruneRequest(run_ids=("20260101-000009-sft-zzzzz",)))


def test_links_are_not_followed(app: App, tmp_path: Path) -> None:
    moved, linked = big_run(app, 1), big_run(app, 2)
    moved.root.rename(tmp_path / "moved")
    moved.root.symlink_to(tmp_path / "moved")
    linked.checkpoints.rename(tmp_path / "checkpoints")
    linked.checkpoints.symlink_to(tmp_path / "checkpoints")
    outside = everything(tmp_path / "checkpoints")
    shown = plan(app, ALL)
    assert [(one.run.id, [name for name, _ in one.parts]) for one in shown.doomed] == [(linked.id, ["code", "work"])]
    assert shown.kept == {"its folder is a link": [moved.id]}
    prune(app, ALL, shown.digest)
    request = PruneRequest(run_ids=(linked.id,), what="run")
    prune(app, request, plan(app, request).digest)
    assert not linked.root.exists()
    assert everything(tmp_path / "checkpoints") == outside
    assert (tmp_path / "moved" / "checkpoints").is_dir()


def test_a_run_that_ended_on_another_machine_goes_whole(app: App) -> None:
    run = big_run(app, 1, here=False)
    assert not run.lock.exists()
    prune(app, WHOLE, plan(app, WHOLE).digest)
    assert list(app.home.runs.iterdir()) == []
    assert not run.lock.exists()


def test_a_lost_run_is_recorded_before_it_goes(app: App) -> None:
    run = big_run(app, 1, None)
    prune(app, ALL, plan(app, ALL).digest)
    assert states.read_state(run) == states.Lost(reason="supervisor_killed")
    assert run.exit_json.exists()
    assert not run.checkpoints.exists()


def test_nothing_is_removed_while_somebody_launches(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    run = big_run(app, 1)
    monkeypatch.setattr(runs, "_LOCK_SECONDS", 0.1)
    with holding(app.home.locks / "launch.lock"), pytest.raises(LimitError) as caught:
        prune(app, WHOLE, plan(app, WHOLE).digest)
    assert caught.value.code == "timed_out"
    assert run.checkpoints.is_dir()


def test_what_cannot_be_removed_is_told_and_the_others_go(app: App) -> None:
    stuck, other = big_run(app, 1), big_run(app, 2)
    # Something in the way of the hidden name.
    (app.home.runs / f".{stuck.id}" / "x").mkdir(parents=True)
    with holding(stuck.lock):
        done = prune(app, WHOLE, plan(app, WHOLE).digest)
    assert list(done.gone) == [other.id]
    assert len(done.problems) == 1
    assert done.problems[0].startswith(f"{stuck.id}: ")
    assert stuck.checkpoints.is_dir()


def test_the_janitor_leaves_a_run_that_is_being_launched_and_finishes_what_was_being_removed(app: App) -> None:
    launched, removed, foreign = (app.home.new_run(run_id(number)) for number in range(3))
    for run in (launched, removed, foreign):
        (app.home.runs / f".{run.id}" / "code").mkdir(parents=True)
    removed.lock.touch()
    with holding(launched.lock):
        sweeping.tidy(app.home.runs, app.home.locks)
        left = {path.name for path in app.home.runs.iterdir()}
    assert left == {f".{launched.id}", f".{foreign.id}"}


PRUNES = """
import sys
from model_trainer.executors.paths import Home
from model_trainer.services.app import App
from model_trainer.services.runs.pruning import PruneRequest, plan, prune
from model_trainer.services.settings import Settings
app = App(home=Home.open(), settings=Settings(), workspace=None)
request = PruneRequest(older_than_days=0, what=sys.argv[1])
digest = plan(app, request).digest
print("ready", flush=True)
prune(app, request, digest)
"""


def killed_pruning(what: str, seconds: float) -> None:
    """A process that prunes everything and is killed `seconds` after it began to remove, or has ended by then."""
    with subprocess.Popen([sys.executable, "-c", PRUNES, what], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        over = os.pidfd_open(process.pid)
        select.select([over], [], [], seconds)
        os.close(over)
        process.send_signal(signal.SIGKILL)


@pytest.mark.soak
@pytest.mark.parametrize("what", ["checkpoints", "run"])
def test_a_killed_pruning_leaves_each_run_whole_or_gone_and_is_finished(app: App, what: pruning.What) -> None:
    chance = random.Random(7)
    request = PruneRequest(older_than_days=0, what=what)
    for _ in range(times(6, 100)):
        made = [big_run(app, number) for number in range(6)]
        weights = {str(path.relative_to(run.root)) for run in made for path in run.checkpoints.rglob("*")}
        killed_pruning(what, chance.uniform(0.0, 0.03))
        for run in made:
            if not run.root.exists() or not run.checkpoints.exists():
                assert not run.root.exists() or states.read_state(run).status == "succeeded"
                continue
            there = {str(path.relative_to(run.root)) for path in run.checkpoints.rglob("*")}
            assert there == weights, "what is seen is whole"
        prune(app, request, plan(app, request).digest)
        if what == "run":
            assert list(app.home.runs.iterdir()) == []
        else:
            assert {name.name for run in made for name in run.root.iterdir()} == KEPT
            shutil.rmtree(app.home.runs)
            app.home.runs.mkdir()
