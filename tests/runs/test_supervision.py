"""What a run's supervisor does, with small real programs as the trainer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from programs import program, start, supervisor_of, until

from model_trainer.executors import host, local, states
from model_trainer.executors.errors import RunError
from model_trainer.services.app import App
from model_trainer.services.runs import life as runs
from model_trainer.services.runs import listing as run_list
from model_trainer.services.runs import view as run_view
from model_trainer.trainer import records

pytestmark = pytest.mark.anyio


async def test_success_needs_the_trainers_own_word(app: App, workspace: Path):
    run = await start(app, program(workspace, "exit 0"))
    state = await runs.wait(app, run, seconds=20)
    assert isinstance(state, states.Failed)
    assert state.reason == "incomplete"


async def test_a_result_and_exit_0_succeed(app: App, workspace: Path):
    body = """printf '{"outcome": "succeeded", "ended_by": "planned_end"}' > "$4/result.json" """
    run = await start(app, program(workspace, body))
    assert await runs.wait(app, run, seconds=20) == states.Succeeded(ended_by="planned_end")
    assert [row["event"] for row in records.read_lines(run.events)[0]] == ["starting", "running", "ended"]


async def test_a_result_but_a_failing_exit_does_not_succeed(app: App, workspace: Path):
    body = """printf '{"outcome": "succeeded", "ended_by": "planned_end"}' > "$4/result.json"; exit 3"""
    run = await start(app, program(workspace, body))
    state = await runs.wait(app, run, seconds=20)
    assert isinstance(state, states.Failed)
    assert state.reason == "unknown"
    assert "exit status 3" in state.detail


async def test_a_missing_program_fails_the_launch_and_says_which(app: App, workspace: Path):
    run = await start(app, workspace / "nothing-here")
    state = await runs.wait(app, run, seconds=20)
    assert isinstance(state, states.Failed)
    assert state.reason == "launch_failed"
    assert "nothing-here" in state.detail


async def test_a_killed_trainer_is_told_with_its_signal(app: App, workspace: Path):
    run = await start(app, program(workspace, "kill -9 $$"))
    state = await runs.wait(app, run, seconds=20)
    assert isinstance(state, states.Failed)
    assert "SIGKILL" in state.detail


async def test_a_killed_supervisor_means_lost_and_takes_its_trainer_along(app: App, workspace: Path):
    run = await start(app, program(workspace, 'echo $$ > "$4/pid"; exec sleep 600'))
    await until(run, "running")
    child = next(row["pid"] for row in records.read_lines(run.events)[0] if row["event"] == "running")
    trainer = host.identify(child)
    assert trainer is not None
    assert states.read_state(run) == states.Running()
    os.kill(supervisor_of(run), signal.SIGKILL)
    with anyio.fail_after(10):
        while host.is_alive(trainer) or not states.is_over(states.read_state(run)):
            await anyio.sleep(0.02)
    assert states.read_state(run) == states.Lost(reason="supervisor_killed")
    view = await run_view.get(app, run.id)
    assert "lost" in view.text()


async def test_what_a_trainer_leaves_behind_is_killed_before_the_run_ends(app: App, workspace: Path):
    body = 'setsid sleep 600 & echo $! > "$4/orphan"; exit 0'
    run = await start(app, program(workspace, body))
    state = await runs.wait(app, run, seconds=20)
    assert states.is_over(state)
    orphan = int((run.attempt(1).root / "orphan").read_text(encoding="ascii"))
    assert host.identify(orphan) is None


async def test_a_request_to_stop_ends_the_trainer_and_cancels_the_run(app: App, workspace: Path):
    run = await start(app, program(workspace, "exec sleep 600"))
    await until(run, "running")
    assert local.request_stop(run)
    assert await runs.wait(app, run, seconds=20) == states.Cancelled()


async def test_the_deadline_ends_a_run_as_timeout(app: App, workspace: Path):
    run = await start(app, program(workspace, "exec sleep 600"), max_hours=0.0001)
    state = await runs.wait(app, run, seconds=20)
    assert isinstance(state, states.Failed)
    assert state.reason == "timeout"


async def test_the_trainer_starts_in_an_empty_folder_with_an_explicit_environment(
    app: App, workspace: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    run = await start(app, program(workspace, 'ls -A > "$4/listing"; env > "$4/env"'))
    await runs.wait(app, run, seconds=20)
    attempt = run.attempt(1).root
    assert (attempt / "listing").read_text(encoding="utf-8") == ""
    environment = (attempt / "env").read_text(encoding="utf-8")
    assert "hf_canary" not in environment
    assert "HF_HUB_DISABLE_TELEMETRY=1" in environment


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "", ".hidden", "x" * 65, "a\nb"])
async def test_an_id_that_is_none_of_ours_is_never_joined_to_a_path(app: App, run_id: str):
    with pytest.raises(RunError) as caught:
        await run_view.get(app, run_id)
    assert caught.value.code == "run_not_found"
    assert "list_runs" in caught.value.next_step


async def test_runs_are_listed_in_pages_the_newest_first(app: App, workspace: Path):
    python = program(workspace, "exit 0")
    for _ in range(3):
        run = await start(app, python)
        await runs.wait(app, run, seconds=20)
    everything = await run_list.list_runs(app, status=None, kind="train", limit=10, cursor=None)
    assert everything.total == 3
    first = await run_list.list_runs(app, status=None, kind="train", limit=2, cursor=None)
    second = await run_list.list_runs(app, status=None, kind="train", limit=2, cursor=first.next_cursor)
    assert [r.run_id for r in (*first.runs, *second.runs)] == [r.run_id for r in everything.runs]
    assert second.next_cursor is None
    failed = await run_list.list_runs(app, status="failed", kind="train", limit=10, cursor=None)
    assert failed.total == 3
    live = await run_list.list_runs(app, status="live", kind="train", limit=10, cursor=None)
    assert live.total == 0
